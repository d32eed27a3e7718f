"""Under replay nothing goes out, whatever tries; what stays in this machine's process goes on.

The server that is tried runs in another process, so that nothing of it is ours: what it counts has left.
"""

from __future__ import annotations

import asyncio
import contextlib
import smtplib
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import nbreplay as nr
from nbreplay.intercept.network import guard
from tests.clients import call, chat, finish, outcomes, plain, recordings, sdk, wait
from tests.clients import http as library
from tests.provider import Provider, Spawned

HOST = "127.0.0.1"


def by_socket(port: int) -> bytes:
    with socket.create_connection((HOST, port), timeout=10) as made:
        made.sendall(b"GET /v1/echo HTTP/1.0\r\n\r\n")
        return made.makefile("rb").read()


def by_create_connection(port: int) -> Any:
    with socket.create_connection((HOST, port), timeout=10) as made:
        return made.sendall(b"GET /v1/echo HTTP/1.0\r\n\r\n")


def by_connect(port: int) -> Any:
    with socket.socket() as made:
        made.connect((HOST, port))
        return made.sendall(b"GET /v1/echo HTTP/1.0\r\n\r\n")


def by_connect_ex(port: int) -> Any:
    with socket.socket() as made:
        return made.connect_ex((HOST, port))


def by_sendto(port: int) -> Any:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        return made.sendto(b"hello", (HOST, port))


def by_asyncio(port: int) -> Any:
    async def whole() -> bytes:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(b"GET /v1/echo HTTP/1.0\r\n\r\n")
        data = await reader.read()
        writer.close()
        return data

    return asyncio.run(whole())


def by_a_task(port: int) -> Any:
    async def whole() -> Any:
        return await asyncio.create_task(asyncio.to_thread(by_socket, port))

    return asyncio.run(whole())


def by_a_thread(port: int) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(by_socket, port).result(20)


RAW: list[Callable[[int], Any]] = [
    *(by_socket, by_create_connection, by_connect, by_connect_ex, by_sendto, by_asyncio, by_a_task),
    by_a_thread,
]


def blocked_of(error: BaseException | None) -> nr.NetworkBlocked:
    """Return the guard's error among those that a library has wrapped around it."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        if isinstance(error, nr.NetworkBlocked):
            return error
        seen.append(error)
        reason = getattr(error, "reason", None)
        error = reason if isinstance(reason, BaseException) else error.__cause__ or error.__context__
    raise AssertionError(f"not the guard's: {seen}")


@pytest.mark.parametrize("attempt", RAW)
def test_nothing_goes_out(attempt: Callable[[int], Any], spawned: Spawned, store: Path) -> None:
    with nr.session(store, mode="replay") as session, pytest.raises(OSError) as caught:
        attempt(spawned.port)
    error = blocked_of(caught.value)
    assert f"{HOST}:{spawned.port}" in str(error)
    assert f"--allow {HOST}:{spawned.port}" in str(error)
    assert set(outcomes(session)) == {"blocked"}
    assert session.interactions[0].host == f"{HOST}:{spawned.port}"
    assert session.interactions[0].note == str(error)
    assert spawned.hits == 0


@pytest.mark.parametrize("attempt", RAW)
def test_the_same_attempts_go_out_afterwards(attempt: Callable[[int], Any], spawned: Spawned, store: Path) -> None:
    """So that what the other test refuses would have worked."""
    with nr.session(store, mode="replay"):
        pass
    attempt(spawned.port)


@pytest.mark.parametrize("mode", ["off", "auto", "record"])
def test_other_modes_refuse_nothing(mode: str, spawned: Spawned, store: Path) -> None:
    with nr.session(store, mode="replay"):
        pass
    with nr.session(store, mode=mode) as session:
        assert by_create_connection(spawned.port) is None
        assert b"echo" in by_asyncio(spawned.port)
    assert "blocked" not in outcomes(session)


@pytest.mark.parametrize(
    "look_up",
    [
        lambda name: socket.getaddrinfo(name, 443),
        lambda name: socket.gethostbyname(name),
        lambda name: socket.gethostbyname_ex(name),
        lambda name: socket.create_connection((name, 443), timeout=5),
        lambda name: smtplib.SMTP(name, 25, timeout=5),
    ],
)
def test_names_are_not_looked_up(look_up: Callable[[str], Any], store: Path) -> None:
    with nr.session(store, mode="replay") as session, pytest.raises(OSError) as caught:
        look_up("api.model.example")
    assert "api.model.example" in str(blocked_of(caught.value))
    assert set(outcomes(session)) == {"blocked"}


async def test_names_are_not_looked_up_by_an_event_loop(store: Path) -> None:
    with nr.session(store, mode="replay") as session, pytest.raises(OSError) as caught:
        await asyncio.open_connection("api.model.example", 443)
    assert "api.model.example" in str(blocked_of(caught.value))
    assert set(outcomes(session)) == {"blocked"}


def test_a_raw_socket_by_ipv6(store: Path) -> None:
    with nr.session(store, mode="replay") as session, socket.socket(socket.AF_INET6) as made:
        made.settimeout(5)
        with pytest.raises(nr.NetworkBlocked, match="2001:db8::1"):
            made.connect(("2001:db8::1", 443))
    assert outcomes(session) == ["blocked"]


def test_clients_that_were_built_and_connected_before(flavour: str, spawned: Spawned, store: Path) -> None:
    async def whole() -> None:
        client, bare = sdk(flavour, spawned.url), plain(flavour, spawned.url)
        await chat("before")(client)
        await wait(bare.get("/echo"))
        with nr.session(store, mode="replay") as session:
            with pytest.raises(nr.RecordingMissing):
                await chat("within")(client)
            with pytest.raises(nr.RecordingMissing):
                await wait(bare.get("/echo"))
        assert outcomes(session) == ["missing"] * 2
        await wait(client.close())
        await wait(bare.close() if flavour == "sync" else bare.aclose())

    finish(flavour, whole())
    assert spawned.hits == 2


def test_clients_in_worker_threads(spawned: Spawned, store: Path) -> None:
    with nr.session(store, mode="replay") as session, ThreadPoolExecutor(4) as pool:
        found = [pool.submit(call, "sync", spawned.url, chat(str(n))).exception(20) for n in range(4)]
    assert [type(error) for error in found] == [nr.RecordingMissing] * 4
    assert outcomes(session) == ["missing"] * 4
    assert spawned.hits == 0


def test_a_thread_that_was_started_before(spawned: Spawned, store: Path) -> None:
    go, found = threading.Event(), []

    def work() -> None:
        go.wait(20)
        for attempt in (lambda: by_socket(spawned.port), lambda: call("sync", spawned.url, chat())):
            try:
                attempt()
            except BaseException as error:
                found.append(type(error))

    thread = threading.Thread(target=work)
    thread.start()
    with nr.session(store, mode="replay") as session:
        go.set()
        thread.join(20)
    assert found == [nr.NetworkBlocked, nr.RecordingMissing]
    assert outcomes(session) == ["blocked", "missing"]
    assert spawned.hits == 0


# What goes on


def test_a_server_of_this_process(provider: Provider, store: Path) -> None:
    with nr.session(store, mode="replay") as session:
        for attempt in (by_socket, by_create_connection, by_connect, by_asyncio, by_a_thread):
            attempt(provider.port)
    assert "blocked" not in outcomes(session)
    assert provider.hits > 3


async def test_an_asyncio_server_of_this_process(store: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    server = await asyncio.start_server(serve, HOST, 0)
    port = server.sockets[0].getsockname()[1]
    with nr.session(store, mode="replay") as session:
        reader, writer = await asyncio.open_connection("localhost", port)
        writer.write(b"hello\n")
        assert await reader.read() == b"hello\n"
        writer.close()
    server.close()
    assert outcomes(session) == []


def test_unix_sockets_and_pairs(tmp_path: Path, store: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server, nr.session(store, mode="replay") as session:
        server.bind(path)
        server.listen()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            with server.accept()[0] as accepted:
                client.sendall(b"hello")
                assert accepted.recv(9) == b"hello"
        one, other = socket.socketpair()
        with one, other:
            one.sendall(b"hello")
            assert other.recv(9) == b"hello"
    assert outcomes(session) == []


def test_literal_addresses_and_this_machine_are_looked_up(store: Path) -> None:
    with nr.session(store, mode="replay") as session:
        assert socket.getaddrinfo(HOST, 80)
        assert socket.getaddrinfo("localhost", 80)
        assert socket.getaddrinfo(None, 0, flags=socket.AI_PASSIVE)
    assert outcomes(session) == []


@pytest.mark.parametrize("allowed", ["{host}:{port}", "{host}"])
def test_what_is_allowed(allowed: str, flavour: str, spawned: Spawned, store: Path) -> None:
    name = allowed.format(host=HOST, port=spawned.port)
    with nr.session(store, mode="replay", allow=[name]) as session:
        assert b"/echo" in by_socket(spawned.port)
        assert b"/echo" in by_asyncio(spawned.port)
        assert call(flavour, spawned.url, chat()) == "answer 1 to: hello"
        assert call(flavour, spawned.url, lambda client: wait(client.get("/echo")), plain).status_code == 200
    assert outcomes(session).count("live") >= 2, "what our hooks see of it is logged"
    assert set(outcomes(session)) == {"live"}
    assert spawned.hits == 4
    assert not recordings(store), "nothing is recorded under replay"


def test_another_port_is_not_allowed(spawned: Spawned, store: Path) -> None:
    with nr.session(store, mode="replay", allow=[f"{HOST}:{spawned.port + 1}", "model.example"]) as session:
        with pytest.raises(OSError):
            by_socket(spawned.port)
        with pytest.raises(nr.RecordingMissing):
            call("sync", spawned.url, chat())
    assert outcomes(session) == ["blocked", "missing"]
    assert spawned.hits == 0


def test_localhost_is_allowed_by_its_name(spawned: Spawned, store: Path) -> None:
    url = f"http://localhost:{spawned.port}/v1/echo"
    with (
        nr.session(store, mode="replay", allow=[f"localhost:{spawned.port}"]) as session,
        urllib.request.urlopen(url, timeout=10) as answer,
    ):
        assert answer.status == 200
    assert "blocked" not in outcomes(session)
    assert spawned.hits == 1


@pytest.mark.parametrize("mode", ["record", "auto"])
def test_only_passes_other_hosts_through_unrecorded(
    mode: str, flavour: str, provider: Provider, spawned: Spawned, store: Path
) -> None:
    with nr.session(store, mode=mode, only=[f"{HOST}:{provider.port}"]) as session:
        ours = call(flavour, provider.url, chat("ours"))
        call(flavour, spawned.url, chat("theirs"))
    assert outcomes(session) == ["recorded", "live"]
    assert len(recordings(store)) == 1
    with nr.session(store, mode="replay", only=[f"{HOST}:{provider.port}"]) as again:
        assert call(flavour, provider.url, chat("ours")) == ours
    assert outcomes(again) == ["replayed"]


@pytest.mark.parametrize("recorded", [True, False])
def test_only_refuses_other_hosts_under_replay(recorded: bool, flavour: str, spawned: Spawned, store: Path) -> None:
    if recorded:
        with nr.session(store, mode="record"):
            call(flavour, spawned.url, chat())
    with (
        nr.session(store, mode="replay", only=["model.example"]) as session,
        pytest.raises(nr.RecordingMissing, match=f"{HOST}:{spawned.port}") as caught,
    ):
        call(flavour, spawned.url, chat(), max_retries=2)
    assert isinstance(blocked_of(caught.value), OSError)
    assert outcomes(session) == ["blocked"]
    assert spawned.hits == int(recorded)


def test_only_and_allow(flavour: str, spawned: Spawned, store: Path) -> None:
    options: dict[str, Any] = {"only": ["model.example"], "allow": [f"{HOST}:{spawned.port}"]}
    with nr.session(store, mode="replay", **options) as session:
        assert call(flavour, spawned.url, chat()) == "answer 1 to: hello"
    assert outcomes(session) == ["live"]
    assert spawned.hits == 1


def test_the_innermost_session_decides(spawned: Spawned, store: Path) -> None:
    with nr.session(store, mode="replay") as outer:
        with nr.session(store, mode="off"):
            by_create_connection(spawned.port)
            assert call("sync", spawned.url, chat()) == "answer 1 to: hello"
        with pytest.raises(nr.NetworkBlocked):
            by_create_connection(spawned.port)
    assert outcomes(outer) == ["blocked"]


def test_a_call_that_goes_out_opens_no_door_for_others(spawned: Spawned, store: Path) -> None:
    """While an inner transport records, other threads are refused all the same, another host above all."""
    inside, found = threading.Event(), []

    def other() -> None:
        inside.wait(20)
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(socket.create_connection(("192.0.2.1", 9), timeout=5))
            except OSError as error:
                found.append(type(error))

    class Inner:
        """Sends nothing itself; has the other thread try while the call is under way."""

        def handle_request(self, request: Any) -> Any:
            inside.set()
            thread.join(20)
            return made.handle_request(request)

        def close(self) -> None:
            made.close()

    made = library.HTTPTransport()
    thread = threading.Thread(target=other)
    thread.start()
    with (
        nr.session(store, mode="replay") as session,
        library.Client(transport=nr.transport(store, mode="record", inner=Inner())) as client,
    ):
        assert client.get(f"{spawned.url}/echo").status_code == 200
    assert found == [nr.NetworkBlocked]
    assert outcomes(session) == ["blocked"]


@contextlib.contextmanager
def telemetry(port: int) -> Iterator[list[str]]:
    """Have a thread that sends something now and then, and takes any failure for being offline."""
    over, log = threading.Event(), []

    def work() -> None:
        while not over.wait(0.01):
            try:
                by_socket(port)
                log.append("sent")
            except OSError:
                log.append("offline")

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield log
    finally:
        over.set()
        thread.join(20)


def test_telemetry_in_the_background_fails_as_it_would_offline(spawned: Spawned, store: Path) -> None:
    with nr.session(store, mode="replay") as session, telemetry(spawned.port) as log:
        while len(log) < 3:
            time.sleep(0.01)
    assert set(log) == {"offline"}
    assert outcomes(session) == ["blocked"] * len(log)
    assert spawned.hits == 0


def test_what_threads_let_through_is_not_let_through_for_ever(spawned: Spawned, store: Path) -> None:
    """A thread that is switched away in between must not leave a host open."""

    def let_through() -> None:
        for _ in range(5000):
            with guard.permit("127.0.0.2"):
                pass

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            for done in [pool.submit(let_through) for _ in range(8)]:
                done.result()
    finally:
        sys.setswitchinterval(before)
    with nr.session(store, mode="replay"), pytest.raises(nr.NetworkBlocked):
        socket.create_connection(("127.0.0.2", spawned.port), timeout=5).close()


def test_the_last_events_of_a_process_are_heard_without_harm() -> None:
    """A finaliser may run when the guard's module has lost its names already."""
    code = """
from nbreplay.intercept.network import guard
guard.install()
class Late:
    def __del__(self, id=id, print=print, names=guard.__dict__):
        try:
            print("module gone:", names["handlers"] is None, "object:", id(self) > 0)
        except BaseException as error:
            print("raised", error)
guard.__dict__["last"] = Late()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "module gone: True object: True\n", done.stdout + done.stderr


@pytest.mark.parametrize("allow", ["unix:/tmp/a-server.sock", "allowed.invalid:80"])
def test_looking_for_the_address_of_an_allowed_name_is_not_refused(allow: str, store: Path) -> None:
    with nr.session(store, mode="replay", allow=[allow]) as session, pytest.raises(nr.NetworkBlocked):
        socket.create_connection(("192.0.2.1", 80), timeout=5).close()
    assert [item.host for item in session.interactions] == ["192.0.2.1:80"]
