"""Calls through the local server: recorded, replayed, refused, and the same as those of this process."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

import nbreplay as nr
from nbreplay.core import replay as replay_module
from nbreplay.core.config import Options
from nbreplay.core.recorder import Keeper
from nbreplay.core.recording.recording import Recording
from nbreplay.core.session import Session
from nbreplay.core.store.store import Store
from nbreplay.errors import OptionError
from nbreplay.serve import local
from tests.clients import KEY, http
from tests.provider import Provider

Start = Callable[..., local.Server]
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture
def start(store: Path) -> Iterator[Start]:
    """Start servers over a store; all are stopped at the end."""
    servers: list[local.Server] = []

    def start(mode: str, provider: Provider | None = None, *, where: Path = store, **options: Any) -> local.Server:
        to = {"api.openai.com": f"http://127.0.0.1:{provider.port}"} if provider else {}
        servers.append(local.start(Session(Store(where), Options.of(mode=mode, **options)), to=to))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def outcomes(server: local.Server) -> list[str]:
    return [call.outcome for call in server.session.interactions]


def takes(store: Path) -> list[Any]:
    found = [Store(store).read(path.name, Recording.verify) for path in sorted(store.glob("*.json"))]
    return [take for recording in found if recording for take in recording.takes]


def plain(**options: Any) -> Any:
    return http.Client(verify=False, trust_env=False, **options)


def openai_client(url: str, **options: Any) -> Any:
    inner = openai.DefaultHttpxClient(verify=False)
    return openai.OpenAI(base_url=url, api_key=KEY, http_client=inner, **options)


def client(server: local.Server, **options: Any) -> Any:
    return openai_client(f"{server.address}/openai/v1", **options)


def ask(client: Any, model: str = "test/a", **options: Any) -> Any:
    with client:
        answer = client.chat.completions.create(model=model, messages=HELLO, **options)
        return [chunk.to_dict() for chunk in answer] if options.get("stream") else answer.to_dict()


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_is_recorded_and_replayed_with_the_provider_gone(start: Start, provider: Provider, stream: bool) -> None:
    recording = start("record", provider)
    live = ask(client(recording), stream=stream)
    hits = provider.hits
    provider.close()
    replaying = start("replay")
    assert ask(client(replaying), stream=stream) == live
    assert (hits, outcomes(recording), outcomes(replaying)) == (1, ["recorded"], ["replayed"])
    with nr.session(recording.session.store.path, mode="replay"):
        assert ask(openai_client("https://api.openai.com/v1"), stream=stream) == live


def chat(model: str, **more: Any) -> dict[str, Any]:
    return {"method": "POST", "url": "/v1/chat/completions", "json": {"model": model, "messages": HELLO, **more}}


CALLS: dict[str, dict[str, Any]] = {
    "chat": chat("test/a"),
    "stream": chat("test/a", stream=True),
    "error": chat("test/status=400"),
    "again": chat("test/status=429"),
    "strange": chat("test/status=999"),
    "redirect": chat("test/status=302"),
    "float": {"method": "POST", "url": "/v1/embeddings", "json": {"model": "test/a", "input": "x"}},
    "ndjson": {"method": "POST", "url": "/api/chat", "json": {"model": "test/a", "messages": HELLO}},
    "upload": {"method": "POST", "url": "/v1/files", "data": {"purpose": "a"}, "files": {"file": ("f", b"\0\xff" * 9)}},
    "chunked": {"method": "POST", "url": "/v1/echo", "content": [b"one ", b"two"]},
    "sound": {"method": "POST", "url": "/v1/audio/speech", "json": {"model": "test/size=20000", "input": "x"}},
    "binary": {"method": "GET", "url": "/v1/binary"},
    "gzip": {"method": "GET", "url": "/v1/gzip"},
    "gzip-sse": {"method": "GET", "url": "/v1/gzip-sse"},
    "text": {"method": "GET", "url": "/v1/text"},
    "path": {"method": "GET", "url": "/v1/echo/a%2Fb%20c/%E6%BC%A2?q=a%20b&q=%2F&r"},
    "head": {"method": "HEAD", "url": "/v1/text"},
    "delete": {"method": "DELETE", "url": "/v1/echo/1"},
}
TIMES = r'"recorded_at": "[^"]*"|"elapsed_ms": \d+|(?m:^ +\[\d+,)|"turns": [^\n]*'


def send(client: Any, base: str, call: dict[str, Any]) -> tuple[Any, ...]:
    call = {**call, "content": iter(call["content"])} if isinstance(call.get("content"), list) else call
    answer = client.request(**{**call, "url": base + call["url"]}, headers={"authorization": f"Bearer {KEY}"})
    drop = ("date", "server", "connection", "content-encoding", "content-length", "transfer-encoding", "set-cookie")
    headers = [pair for pair in answer.headers.multi_items() if pair[0] not in (*drop, "retry-after-ms")]
    return answer.status_code, headers, answer.content


def test_recordings_through_the_server_and_of_this_process_are_the_same_bytes_and_replay_for_each_other(
    start: Start, tmp_path: Path
) -> None:
    with Provider() as provider:
        port, base = provider.port, f"http://127.0.0.1:{provider.port}"
        with plain(transport=nr.transport(tmp_path / "own", "record")) as own:
            live = {name: send(own, base, call) for name, call in CALLS.items()}
    server = start("record", where=tmp_path / "served")
    with Provider(port), plain() as other:
        served = {name: send(other, f"{server.address}/127.0.0.1:{port}", call) for name, call in CALLS.items()}
    assert served == live
    assert set(outcomes(server)) == {"recorded"}
    texts = [
        {path.name: re.sub(TIMES, "", path.read_text("utf-8")) for path in (tmp_path / name).glob("*.json")}
        for name in ("own", "served")
    ]
    assert texts[0] == texts[1]
    assert len(texts[0]) == len(CALLS)
    replaying = start("replay", where=tmp_path / "own")
    with plain() as other, plain(transport=nr.transport(tmp_path / "served", "replay")) as own:
        for name, call in CALLS.items():
            assert send(other, f"{replaying.address}/127.0.0.1:{port}", call) == live[name], name
            assert send(own, base, call) == live[name], name


def test_a_miss_is_an_error_that_is_read_and_not_tried_again(start: Start, provider: Provider) -> None:
    ask(client(start("record", provider)))
    server = start("replay")
    with pytest.raises(openai.NotFoundError, match="test/b") as caught:
        ask(client(server), "test/b")
    assert outcomes(server) == ["missing"]
    miss = server.session.last_miss
    assert miss is not None
    assert caught.value.body["message"] == miss.text
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert caught.value.type == "RecordingMissing"


def test_a_stream_passes_while_it_is_recorded(start: Start, provider: Provider) -> None:
    with client(start("record", provider)) as sdk:
        stream = sdk.chat.completions.create(model="test/hold", messages=HELLO, stream=True)
        parts = []
        for chunk in stream:
            parts.append(chunk.choices[0].delta.content or "")
            if "answer" in parts[-1]:
                provider.ack()  # what comes next waits for it
    assert "".join(parts) == "answer 1 to: hello"


def test_a_replay_keeps_the_recorded_pace(start: Start, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(client(start("record", provider)), "test/gap=20", stream=True)
    pauses: list[Any] = []

    async def wait(pause: Any) -> None:
        pauses.append(pause)

    monkeypatch.setattr(replay_module, "wait_async", wait)
    server = start("replay", speed=0.5)
    live = ask(client(server), "test/gap=20", stream=True)
    gaps = [chunk.gap_ms for take in takes(Path(server.session.store.path)) for chunk in take.body.chunks]
    assert pauses == [gap / 1000 / 0.5 for gap in gaps]
    assert len(pauses) > len(live)


def test_who_has_the_last_byte_finds_the_recording(
    start: Start, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Keeper.keep

    def keep_slowly(*args: Any, **options: Any) -> None:
        threading.Event().wait(0.1)
        before(*args, **options)

    monkeypatch.setattr(Keeper, "keep", keep_slowly)
    server = start("record", provider)
    with plain() as caller:
        for _ in range(2):
            caller.get(f"{server.address}/openai/v1/text")
            assert set(outcomes(server)) == {"recorded"}
    assert len(outcomes(server)) == 2


def test_a_caller_that_leaves_has_closed_the_stream(start: Start, provider: Provider, store: Path) -> None:
    server = start("record", provider)
    with client(server) as sdk:
        stream = sdk.chat.completions.create(model="test/words=500+gap=20", messages=HELLO, stream=True)
        next(iter(stream))
        stream.close()
    wait_for(lambda: outcomes(server) == ["recorded"])
    [take] = takes(store)
    assert (take.reason, take.complete) == ("closed", False)
    replaying = start("replay")
    with pytest.raises((openai.APIError, http.HTTPError)):
        ask(client(replaying, max_retries=0), "test/words=500+gap=20", stream=True)
    assert outcomes(replaying) == ["missing"]
    assert "the recorded stream ends here" in replaying.session.interactions[0].note


def test_a_connection_that_broke_breaks_again(start: Start, provider: Provider, store: Path) -> None:
    def fail(server: local.Server) -> list[str]:
        parts = []
        with client(server, max_retries=0) as sdk, pytest.raises((openai.APIError, http.HTTPError)):
            for chunk in sdk.chat.completions.create(model="test/drop=2", messages=HELLO, stream=True):
                parts.append(chunk.to_json())
        return parts

    live = fail(start("record", provider))
    assert live
    assert [take.reason for take in takes(store)] == ["dropped"]
    assert fail(start("replay")) == live


def test_a_host_that_cannot_be_reached_is_a_broken_connection_also_in_a_replay(
    start: Start, provider: Provider, store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    provider.close()
    for mode in ("record", "replay"):
        server = start(mode, provider)
        with pytest.raises(openai.APIConnectionError):
            ask(client(server, max_retries=0))
        wait_for(lambda server=server, mode=mode: outcomes(server) == [f"{mode}ed"])
    assert [take.status for take in takes(store)] == [None]
    assert not caplog.records


def test_an_address_that_leads_nowhere_is_a_broken_connection(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    with plain() as caller, pytest.raises(http.RemoteProtocolError):
        caller.get(f"{start('record').address}/a.example:x/")
    assert not caplog.records


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until the server has seen what its caller did."""
    for _ in range(20_000):  # ten times as long as it takes on a busy machine
        if condition():
            return
        threading.Event().wait(0.005)
    pytest.fail("it did not happen")


def test_who_may_not_call(start: Start, provider: Provider) -> None:
    server = start("auto", provider)
    own = f"127.0.0.1:{server.port}"
    models = f"/{server.token}/openai/v1/models"
    table: list[tuple[str, dict[str, str], int]] = [
        (models, {}, 200),
        (models, {"host": f"LocalHost:{server.port}"}, 200),
        (models, {"origin": f"http://{own}", "sec-fetch-site": "same-origin"}, 200),
        ("/openai/v1/models", {}, 403),
        ("/", {}, 403),
        (f"/{server.token[:-1]}/openai/v1/models", {}, 403),
        (f"/{server.token}x/openai/v1/models", {}, 403),
        (f"/{'0' * len(server.token)}/-/status", {}, 403),
        (models, {"host": f"rebound.example:{server.port}"}, 403),
        (models, {"host": "127.0.0.1:1"}, 403),
        (models, {"origin": "https://evil.example"}, 403),
        (models, {"origin": "null"}, 403),
        (models, {"sec-fetch-site": "cross-site"}, 403),
        (f"/{server.token}/opnai/v1/models", {}, 404),
        (f"/{server.token}/-/nothing", {}, 404),
    ]
    with plain(base_url=f"http://{own}") as caller:
        for path, headers, status in table:
            assert caller.get(path, headers=headers).status_code == status, (path, headers)
        preflight = caller.request("OPTIONS", models, headers={"origin": "https://evil.example"})
        assert (preflight.status_code, preflight.headers.get("access-control-allow-origin")) == (403, None)
        assert "Did you mean openai?" in caller.get(f"/{server.token}/opnai/v1").json()["error"]["message"]
    assert provider.hits == 3  # the others are refused
    assert len(server.session.interactions) == 3


def test_only_this_machine_can_connect(start: Start) -> None:
    server = start("auto")
    assert server._listener.getsockname()[0] == "127.0.0.1"
    assert start("auto").token != server.token


def test_the_takes_of_each_run_start_anew(start: Start, provider: Provider) -> None:
    ask(client(start("record", provider)))
    server = start("replay")

    def status_in(run: str) -> int:
        with plain() as caller:
            url = f"{server.address}{run}/openai/v1/chat/completions"
            return int(caller.post(url, json={"model": "test/a", "messages": HELLO}).status_code)

    assert [status_in(run) for run in ("", "", "/-/run/a", "/-/run/a", "/-/run/b")] == [200, 404, 200, 404, 200]
    with plain() as caller:
        assert caller.post(f"{server.address}/-/run/a").json()["counts"] == {"replayed": 3, "missing": 2}
    assert status_in("/-/run/a") == 200
    assert "recorded once, asked a 2nd time" in server.session.interactions[1].note


def test_the_status_is_json_and_a_page_that_shows_what_came_as_it_is(start: Start, provider: Provider) -> None:
    model = "test/<script>alert(1)</script>\u202e"
    server = start("auto", provider)
    ask(client(server), model)
    with plain() as caller:
        status = caller.get(f"{server.address}/-/status").json()
        page = caller.get(f"{server.address}/-/status", headers={"accept": "text/html,*/*;q=0.1"})
    assert (status["mode"], status["counts"]) == ("auto", {"recorded": 1})
    assert [(call["outcome"], call["model"]) for call in status["calls"]] == [("recorded", model)]
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["referrer-policy"] == "no-referrer"
    assert "&lt;script&gt;alert(1)" in page.text
    assert "<script" not in page.text
    assert "\u202e" not in page.text
    assert "1 recorded" in page.text


def proxied(server: local.Server) -> Any:
    return plain(proxy=f"http://{server.token}@127.0.0.1:{server.port}")


def test_a_proxys_client_is_recorded_and_replayed(start: Start, provider: Provider) -> None:
    url = f"http://127.0.0.1:{provider.port}/v1/text"
    with proxied(start("record")) as caller:
        live = caller.get(url).content
    provider.close()
    server = start("replay")
    with proxied(server) as caller:
        assert caller.get(url).content == live
        assert caller.get(f"{server.address}/-/status").json()["counts"] == {"replayed": 1}
        assert caller.get(url).status_code == 404
    with plain(proxy=f"http://127.0.0.1:{server.port}") as caller:
        assert caller.get(url).status_code == 407
    assert outcomes(server) == ["replayed", "missing"]


def tunnel(server: local.Server, host: str, user: str | None = None, early: bytes = b"") -> tuple[str, socket.socket]:
    """Open a tunnel as a client does; return the head of the answer, and the connection."""
    import base64

    connection = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    credentials = base64.b64encode(f"{server.token if user is None else user}:".encode()).decode()
    head = f"CONNECT {host} HTTP/1.1\r\nhost: {host}\r\nproxy-authorization: Basic {credentials}\r\n\r\n"
    connection.sendall(head.encode() + early)
    return connection.recv(4096).decode(), connection


def test_a_tunnel_is_refused_under_replay_by_the_names_of_host_and_program(start: Start) -> None:
    server = start("replay")
    answer, connection = tunnel(server, "example.com:443")
    connection.close()
    assert answer.startswith("HTTP/1.1 403")
    [call] = server.session.interactions
    assert (call.outcome, call.host) == ("blocked", "example.com")
    assert "opens a tunnel to example.com during replay; nothing was sent" in call.note
    assert "pytest" in call.note or "python" in call.note
    answer, connection = tunnel(server, "example.com:443", "somebody")
    connection.close()
    assert answer.startswith("HTTP/1.1 407")


@pytest.mark.parametrize(("mode", "options"), [("auto", {}), ("replay", {"allow": ["127.0.0.1"]})])
def test_a_tunnel_that_passes_is_named(start: Start, provider: Provider, mode: str, options: dict[str, Any]) -> None:
    server = start(mode, **options)
    answer, connection = tunnel(server, f"127.0.0.1:{provider.port}")
    assert answer.startswith("HTTP/1.1 200")
    with connection, connection.makefile("rb") as file:
        connection.sendall(b"GET /v1/text HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert file.readline().startswith(b"HTTP/1.1 200")
        assert file.read().endswith("\U0001f642\n".encode())
    [call] = server.session.interactions
    assert (call.outcome, "cannot record" in call.note) == ("live", mode == "auto")
    answer, connection = tunnel(server, f"127.0.0.1:{server.port}")  # to itself, as some clients do
    with connection:
        connection.sendall(f"GET /{server.token}/-/status HTTP/1.1\r\nhost: 127.0.0.1:{server.port}\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
    assert len(server.session.interactions) == 1


def test_a_tunnel_passes_on_what_was_sent_early_and_leaves_no_connection(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, forgotten = start("auto"), list[Any]()
    monkeypatch.setattr(local._Protocol, "forget", lambda self: forgotten.append(self), raising=False)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answer, connection = tunnel(server, f"127.0.0.1:{listener.getsockname()[1]}", early=b"hello")
        far, _ = listener.accept()
        with connection, far:
            assert answer.startswith("HTTP/1.1 200")
            far.settimeout(10)
            assert far.recv(100) == b"hello"
    wait_for(lambda: bool(forgotten))


def test_an_address_that_cannot_be_read_is_refused(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    server = start("auto")
    answer, connection = tunnel(server, "127.0.0.1:99999999999999999999")
    connection.close()
    assert answer.startswith("HTTP/1.1 502")
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"GET http://[example HTTP/1.1\r\nhost: example\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 400")
    assert not caplog.records


def test_a_path_is_sent_as_it_came(start: Start, provider: Provider) -> None:
    server = start("record")
    path = '/v1/text/../{a}//"b"|%2F?q={c}'
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        target = f"/{server.token}/127.0.0.1:{provider.port}{path}"
        connection.sendall(f"GET {target} HTTP/1.1\r\nhost: 127.0.0.1:{server.port}\r\n\r\n".encode())
        assert connection.recv(100)
    assert [target for _, target, _ in provider.requests] == [path]


def test_a_query_without_a_path_is_not_part_of_the_host(start: Start, provider: Provider, store: Path) -> None:
    server = start("record")
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        target = f"/{server.token}/127.0.0.1:{provider.port}?key=hidden-12345"
        connection.sendall(f"GET {target} HTTP/1.1\r\nhost: 127.0.0.1:{server.port}\r\n\r\n".encode())
        assert connection.recv(100)
        wait_for(lambda: bool(server.session.interactions))
    [call] = server.session.interactions
    assert call.host == f"127.0.0.1:{provider.port}"
    server.stop()
    assert all("hidden" not in path.read_text() for path in store.glob("*.json"))


@pytest.mark.parametrize("status", [200, 407])
def test_a_tunnel_goes_through_the_proxy_of_the_environment(
    start: Start, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    server = start("auto")
    for name in ("NO_PROXY", "no_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:word@127.0.0.1:{proxy.getsockname()[1]}")
        with ThreadPoolExecutor(1) as pool:
            tunnelled = pool.submit(tunnel, server, "only.test:443")
            proxy.settimeout(20)
            near, _ = proxy.accept()
            with near:
                head = near.recv(4096)
                near.sendall(b"HTTP/1.1 %d Text\r\n\r\nearly" % status)
                answer, connection = tunnelled.result(20)
                connection.close()
    assert head.startswith(b"CONNECT only.test:443 HTTP/1.1\r\n")
    assert b"\r\nProxy-Authorization: Basic dXNlcjp3b3Jk\r\n" in head
    assert answer.startswith("HTTP/1.1 200" if status == 200 else "HTTP/1.1 502")
    assert answer.endswith("\r\n\r\nearly") == (status == 200)


def test_a_server_stops_at_once_and_writes_what_has_come(start: Start, provider: Provider, store: Path) -> None:
    server = start("record", provider)
    with client(server, max_retries=0) as sdk:
        stream = sdk.chat.completions.create(model="test/words=500+gap=20", messages=HELLO, stream=True)
        next(iter(stream))
        server.stop()
        server.stop()
        with contextlib.suppress(openai.APIError, http.HTTPError):
            list(stream)
    assert [take.complete for take in takes(store)] == [False]


def test_a_port_that_is_taken_is_an_error_that_says_so(start: Start, store: Path) -> None:
    server = start("auto")
    with pytest.raises(OptionError, match=rf"port {server.port} cannot be used: .*Pass another --port"):
        local.start(Session(Store(store)), port=server.port)


def test_what_is_exported_leads_to_the_server(start: Start) -> None:
    server = start("auto")
    given = {"OPENAI_BASE_URL": "https://gateway.example/llm/v1/", "OLLAMA_HOST": "gpu:11434"}
    variables = server.environment(given)
    assert variables["ANTHROPIC_BASE_URL"] == f"{server.address}/anthropic"
    assert variables["OPENAI_BASE_URL"] == f"{server.address}/gateway.example/llm/v1"
    assert variables["OLLAMA_HOST"] == f"{server.address}/gpu:11434"
    assert server.upstreams.url_of("gateway.example") == "https://gateway.example"
    assert server.upstreams.url_of("gpu:11434") == "http://gpu:11434"
    assert server.upstreams.url_of("localhost:11434") == "http://localhost:11434"
    assert (
        variables["HTTPS_PROXY"] == variables["http_proxy"] == f"http://{server.token}:nbreplay@127.0.0.1:{server.port}"
    )
    assert server.environment(variables)["ANTHROPIC_BASE_URL"] == variables["ANTHROPIC_BASE_URL"]


def test_concurrent_calls_have_no_rank_of_a_task(start: Start, provider: Provider, store: Path) -> None:
    server = start("record", provider)
    body = json.dumps({"model": "test/a", "messages": HELLO}).encode()
    head = f"POST /{server.token}/openai/v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{server.port}\r\n"
    connections = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(3)]
    for connection in connections:
        connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode())
    threading.Event().wait(0.1)  # until each has its task
    for connection in connections:
        connection.sendall(body)
    for connection in connections:
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
        connection.close()
    wait_for(lambda: outcomes(server) == ["recorded"] * 3)
    assert [(take.task, take.thread) for take in takes(store)] == [(None, "")] * 3


def test_headers_of_one_connection_are_not_passed_on(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as upstream, plain() as caller:
        requests: list[str] = []

        def answer() -> None:
            connection, _ = upstream.accept()
            with connection:
                requests.append(connection.recv(10_000).decode())
                connection.sendall(b"HTTP/1.1 200 OK\r\nconnection: close, x-hop\r\nx-hop: 1\r\nx-end: 1\r\n\r\nend")

        thread = threading.Thread(target=answer)
        thread.start()
        names = {"accept-encoding": "zz, gzip;q=0.5", "connection": "x-own", "x-own": "1", "x-kept": "1"}
        host = f"127.0.0.1:{upstream.getsockname()[1]}"
        response = caller.get(f"{start('auto').address}/{host}/a", headers=names)
        thread.join()
    assert response.text == "end"
    assert {"x-hop", "x-end"} & set(response.headers) == {"x-end"}
    first, *rest = requests[0].rstrip().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in rest)
    assert (first, headers.pop("host")) == ("GET /a HTTP/1.1", host)
    assert headers.pop("user-agent").startswith("python-httpx")
    assert headers == {"accept": "*/*", "accept-encoding": "gzip", "x-kept": "1"}
