"""`nbreplay.transport`, which patches nothing, and the hooks of sessions: where they go in and that they go out."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import nbreplay as nr
from nbreplay.intercept import patching, placeholder_keys
from tests.clients import call, chat, entered, http, items, outcomes, plain, recordings, said, sdk, takes, wait
from tests.provider import Provider, Spawned

ROOT = Path(__file__).resolve().parents[2]
OTHER = "httpx" if http.__name__ == "httpx2" else "httpx2"
KINDS = {"sync": http.Client, "async": http.AsyncClient}


def hook_of(flavour: str) -> Any:
    return KINDS[flavour].__dict__["_transport_for_url"]


UNTOUCHED = {flavour: hook_of(flavour) for flavour in KINDS}


@contextmanager
def untouched() -> Iterator[None]:
    """See that nothing is patched, before and after."""
    assert {flavour: hook_of(flavour) for flavour in KINDS} == UNTOUCHED
    yield
    assert {flavour: hook_of(flavour) for flavour in KINDS} == UNTOUCHED


def over(transport: Any) -> Any:
    """Return what makes an SDK client over a transport."""

    def made(flavour: str, url: str, **options: Any) -> Any:
        return sdk(flavour, url, http_client=KINDS[flavour](transport=transport), **options)

    return made


async def stream(client: Any) -> str:
    made = await wait(client.chat.completions.create(model="test", messages=said("hello"), stream=True))
    return "".join([chunk.choices[0].delta.content or "" async for chunk in items(made)])


@pytest.mark.parametrize("operation", [chat(), stream])
def test_a_transport_records_and_replays_without_patching(
    operation: Any, flavour: str, provider: Provider, store: Path
) -> None:
    async def unpatched(client: Any) -> Any:
        assert hook_of(flavour) is UNTOUCHED[flavour]
        answer = await operation(client)
        assert hook_of(flavour) is UNTOUCHED[flavour]
        return answer

    with untouched():
        recording = nr.transport(store, mode="record")
        live = call(flavour, provider.url, unpatched, over(recording))
        assert outcomes(recording.session) == ["recorded"]
    with untouched():
        replaying = nr.transport(store, mode="replay")
        assert call(flavour, provider.url, unpatched, over(replaying)) == live
        assert outcomes(replaying.session) == ["replayed"]
    assert provider.hits == 1
    assert takes(store)[0].complete


def test_a_transport_misses_as_a_session_does(flavour: str, provider: Provider, store: Path) -> None:
    transport = nr.transport(store, mode="replay")
    with pytest.raises(nr.RecordingMissing, match="hello"):
        call(flavour, provider.url, chat(), over(transport), max_retries=2)
    assert outcomes(transport.session) == ["missing"]
    assert provider.hits == 0


def test_auto_is_what_a_transport_does_by_itself(flavour: str, provider: Provider, store: Path) -> None:
    transport = nr.transport(store)

    async def twice(client: Any) -> list[str]:
        return [await chat("one")(client), await chat("two")(client)]

    live = call(flavour, provider.url, twice, over(transport))
    again = nr.transport(store)
    assert call(flavour, provider.url, twice, over(again)) == live
    assert outcomes(again.session) == ["replayed"] * 2


def test_clients_of_other_transports_are_left_alone(flavour: str, provider: Provider, store: Path) -> None:
    transport = nr.transport(store, mode="replay")
    with pytest.raises(nr.RecordingMissing):
        call(flavour, provider.url, chat(), over(transport))
    assert call(flavour, provider.url, chat()) == "answer 1 to: hello"


def test_the_environment_goes_before_a_transport(
    flavour: str, provider: Provider, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBREPLAY_MODE", "replay")
    with pytest.raises(nr.RecordingMissing):
        call(flavour, provider.url, chat(), over(nr.transport(store, mode="record")))
    assert provider.hits == 0


def test_what_sends_may_be_given(flavour: str, provider: Provider, store: Path) -> None:
    sent = []

    class Sync(http.HTTPTransport):  # type: ignore[misc]
        def handle_request(self, request: Any) -> Any:
            sent.append(request.url.path)
            return super().handle_request(request)

    class Async(http.AsyncHTTPTransport):  # type: ignore[misc]
        async def handle_async_request(self, request: Any) -> Any:
            sent.append(request.url.path)
            return await super().handle_async_request(request)

    inner = Sync() if flavour == "sync" else Async()
    live = call(flavour, provider.url, chat(), over(nr.transport(store, mode="record", inner=inner)))
    assert sent == ["/v1/chat/completions"]
    assert call(flavour, provider.url, chat(), over(nr.transport(store, mode="replay"))) == live
    assert sent == ["/v1/chat/completions"]


def test_closing_the_client_writes_what_is_open(flavour: str, provider: Provider, store: Path) -> None:
    left = []

    async def operation(client: Any) -> None:
        model = "test/hold"
        made = await wait(client.chat.completions.create(model=model, messages=said("hello"), stream=True))
        left.append(made)
        await made.__anext__() if flavour == "async" else next(made)

    call(flavour, provider.url, operation, over(nr.transport(store, mode="record")))
    (take,) = takes(store)
    assert not take.complete
    assert take.reason in ("open", "closed", "dropped")


@pytest.mark.parametrize("outer", ["record", "replay", "auto", "off"])
def test_the_transport_goes_before_the_session(
    outer: str, flavour: str, spawned: Spawned, store: Path, tmp_path: Path
) -> None:
    """Even where the session replays: the call goes out, though the guard refuses everybody else."""
    inner = nr.transport(tmp_path / "inner", mode="record")
    with nr.session(store, mode=outer) as session:
        assert call(flavour, spawned.url, chat(), over(inner)) == "answer 1 to: hello"
    assert outcomes(inner.session) == ["recorded"]
    assert outcomes(session) == [], "a call is handled once"
    assert len(recordings(tmp_path / "inner")) == 1
    assert not recordings(store)


def test_a_transport_that_replays_within_a_session_that_records(
    flavour: str, provider: Provider, store: Path, tmp_path: Path
) -> None:
    with nr.session(tmp_path / "inner", mode="record"):
        live = call(flavour, provider.url, chat())
    transport = nr.transport(tmp_path / "inner", mode="replay")
    with nr.session(store, mode="record") as session:
        assert call(flavour, provider.url, chat(), over(transport)) == live
        with pytest.raises(nr.RecordingMissing):
            call(flavour, provider.url, chat("more"), over(transport))
    assert outcomes(transport.session) == ["replayed", "missing"]
    assert outcomes(session) == []
    assert provider.hits == 1


def test_the_innermost_session_goes_first(flavour: str, provider: Provider, store: Path, tmp_path: Path) -> None:
    with nr.session(store, mode="record") as outer:
        with nr.session(tmp_path / "inner", mode="record") as inner:
            call(flavour, provider.url, chat("within"))
        call(flavour, provider.url, chat("after"))
    assert outcomes(inner) == outcomes(outer) == ["recorded"]
    (one,), (other,) = recordings(tmp_path / "inner"), recordings(store)
    assert one.request["body"]["messages"][0]["content"] == "within"
    assert other.request["body"]["messages"][0]["content"] == "after"


async def test_async_with(provider: Provider, store: Path) -> None:
    async with nr.session(store, mode="record") as session, sdk("async", provider.url) as client:
        await chat()(client)
    assert outcomes(session) == ["recorded"]


# Hooks


@pytest.mark.parametrize("mode", ["record", "off"])
def test_hooks_are_there_while_the_session_is(mode: str, store: Path) -> None:
    with untouched(), nr.session(store, mode=mode):
        assert all(hook_of(flavour) is not UNTOUCHED[flavour] for flavour in KINDS)


@pytest.mark.parametrize("mode", ["replay", "auto"])
def test_hooks_go_where_every_key_was_set(mode: str, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {row.names[0] for row in placeholder_keys.PROVIDERS}.union(*placeholder_keys.FRAMEWORKS.values())
    for name in (*names, "AWS_REGION"):
        monkeypatch.setenv(name, "a-key-of-the-tests")
    with untouched(), nr.session(store, mode=mode):
        assert placeholder_keys.placed_names() == []


def test_hooks_stay_while_a_placeholder_may_be_around(store: Path) -> None:
    with nr.session(store, mode="auto"):
        assert "OPENAI_API_KEY" in placeholder_keys.placed_names()
    assert placeholder_keys.placed_names() == []
    assert all(hook_of(flavour) is not UNTOUCHED[flavour] for flavour in KINDS)


def test_hooks_go_with_the_last_session(store: Path, tmp_path: Path) -> None:
    """Sessions may end in any order."""
    with untouched():
        one, other = nr.session(store, mode="record"), nr.session(tmp_path / "other", mode="record")
        one.start()
        other.start()
        one.stop()
        assert all(hook_of(flavour) is not UNTOUCHED[flavour] for flavour in KINDS)
        other.stop()


def test_hooks_go_when_the_session_fails(provider: Provider, store: Path) -> None:
    with untouched(), pytest.raises(ZeroDivisionError), nr.session(store, mode="record"):
        raise ZeroDivisionError


def test_a_hook_of_somebody_else_over_ours_stays(
    provider: Provider, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(http.Client, "_transport_for_url", UNTOUCHED["sync"])  # which is so again after the test
    with nr.session(store, mode="record") as session:
        ours = hook_of("sync")

        def theirs(self: Any, url: Any) -> Any:
            seen.append(str(url))
            return ours(self, url)

        http.Client._transport_for_url = theirs
        call("sync", provider.url, chat("within"))
    assert hook_of("sync") is theirs
    assert call("sync", provider.url, chat("after")) == "answer 2 to: after"
    assert len(seen) == 2
    assert outcomes(session) == ["recorded"]
    assert len(recordings(store)) == 1


def test_transports_of_tests_are_left_alone(flavour: str, store: Path) -> None:
    """An answer that the program makes up itself is no call."""
    answer = http.MockTransport(lambda _: http.Response(200, json={"made": "up"}))

    async def operation(client: Any) -> Any:
        return (await wait(client.get("/anything"))).json()

    for mode in ("record", "replay"):
        with nr.session(store, mode=mode) as session:
            found = call(flavour, "http://model.example", operation, lambda *given: plain(*given, transport=answer))
        assert found == {"made": "up"}
        assert outcomes(session) == []
    assert not recordings(store)


def test_custom_transports_and_mounts_are_seen(flavour: str, provider: Provider, store: Path) -> None:
    kind = http.HTTPTransport if flavour == "sync" else http.AsyncHTTPTransport

    async def operation(client: Any) -> Any:
        return (await wait(client.get("/echo"))).content

    def mounted(flavour: str, url: str) -> Any:
        return plain(flavour, url, mounts={"http://": kind()})

    def custom(flavour: str, url: str) -> Any:
        return plain(flavour, url, transport=kind(retries=1))

    for made in (mounted, custom):
        with nr.session(store, mode="record") as session:
            live = call(flavour, provider.url, operation, made)
        with nr.session(store, mode="replay") as again:
            assert call(flavour, provider.url, operation, made) == live
        assert (outcomes(session), outcomes(again)) == (["recorded"], ["replayed"])


def test_where_an_answer_points_to_is_kept(flavour: str, provider: Provider, store: Path) -> None:
    provider.kept["/moved"] = (b"", "text/plain", {"location": f"{provider.url}/text"})

    async def operation(client: Any) -> Any:
        async with entered(client.stream("GET", "/moved")) as answer:
            return answer.status_code, answer.headers.get("location")

    with nr.session(store, mode="record"):
        live = call(flavour, provider.url, operation, plain)
    with nr.session(store, mode="replay"):
        assert call(flavour, provider.url, operation, plain) == live
    assert live[1]


def in_a_process(code: str, *arguments: str, cwd: Path) -> str:
    """Run code in a fresh interpreter; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        cwd=cwd,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_library_that_is_imported_after_the_session_began(provider: Provider, store: Path, tmp_path: Path) -> None:
    code = """
        import sys
        import nbreplay as nr
        url, store, library = sys.argv[1:]
        with nr.session(store, mode="record") as session:
            assert library not in sys.modules
            import openai
            module = sys.modules[library]
            with openai.OpenAI(base_url=url, api_key="a-key-of-the-tests") as client:
                client.chat.completions.create(model="test", messages=[{"role": "user", "content": "hello"}])
            assert type(module.__loader__).__module__.startswith(("importlib", "_frozen")), module.__loader__
            assert module.__spec__.loader is module.__loader__
        assert module.Client._transport_for_url.__module__.startswith(library)
        assert not [finder for finder in sys.meta_path if "nbreplay" in type(finder).__module__]
        print([item.outcome for item in session.interactions])
    """
    assert in_a_process(code, provider.url, str(store), http.__name__, cwd=tmp_path) == "['recorded']"


def test_http_client_that_is_imported_after_the_session_began(tmp_path: Path, store: Path) -> None:
    code = """
        import sys
        import nbreplay as nr
        from nbreplay.intercept import patching
        with nr.session(sys.argv[1], mode="record"):
            assert "http.client" not in sys.modules
            import http.client
            print(patching.problems())
    """
    assert in_a_process(code, str(store), cwd=tmp_path) == "[]"


def test_a_library_whose_loader_another_tool_wraps(tmp_path: Path, store: Path) -> None:
    """As tracers do, which have their own hooks run after an import."""
    code = """
        import importlib.util, sys
        import nbreplay as nr
        from nbreplay.intercept import patching
        store, library = sys.argv[1:]
        with nr.session(store, mode="record"):
            spec = importlib.util.find_spec(library)
            run = spec.loader.exec_module
            spec.loader.exec_module = lambda module: (print("traced"), run(module))
            sys.modules[library] = module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            assert module.Client._transport_for_url.__module__.startswith("nbreplay"), patching.problems()
    """
    assert in_a_process(code, str(store), http.__name__, cwd=tmp_path) == "traced"


def test_a_library_that_is_imported_after_the_session_ended(tmp_path: Path, store: Path) -> None:
    code = """
        import sys
        import nbreplay as nr
        store, library = sys.argv[1:]
        with nr.session(store, mode="record"):
            pass
        module = __import__(library)
        assert module.Client._transport_for_url.__module__.startswith(library)
        print("fine")
    """
    assert in_a_process(code, str(store), http.__name__, cwd=tmp_path) == "fine"


def test_nothing_heavy_is_imported(tmp_path: Path, store: Path) -> None:
    """Neither at import nor by a session; nor is an HTTP library that the program does not use."""
    code = """
        import sys
        import nbreplay as nr
        with nr.session(sys.argv[1], mode="record"):
            pass
        heavy = {"pandas", "ipywidgets", "anywidget", "IPython", "openai", "httpx", "httpx2"}
        print(sorted(heavy & set(sys.modules)))
    """
    assert in_a_process(code, str(store), cwd=tmp_path) == "[]"


# A library that is not what we know


def test_a_library_without_its_hook_is_reported(
    provider: Provider, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(http.AsyncClient, "_transport_for_url")
    with nr.session(store, mode="record"):
        (problem,) = patching.problems()
        assert hook_of("sync") is UNTOUCHED["sync"], "and nothing of it is half hooked"
    assert problem.startswith(f"{http.__name__} {http.__version__}")
    assert "neither recorded nor replayed" in problem
    assert patching.problems() == []


def test_a_stub_of_a_library_is_reported(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub = ModuleType(OTHER)
    stub.__spec__ = http.__spec__
    stub.__version__ = "99.0"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, OTHER, stub)
    with nr.session(store, mode="record"):
        (problem,) = patching.problems()
        assert f"{OTHER} 99.0" in problem
        assert hook_of("sync") is not UNTOUCHED["sync"], "the others are hooked all the same"
    assert not hasattr(stub, "Client")


def test_a_library_without_its_hook_does_not_go_live_under_replay(
    spawned: Spawned, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard refuses what no hook sees."""
    with nr.session(store, mode="record"):
        call("sync", spawned.url, chat())
    with nr.session(store, mode="replay") as session, monkeypatch.context() as patched:
        patched.setattr(http.Client, "_transport_for_url", UNTOUCHED["sync"])
        with pytest.raises(Exception, match="Connection error"):
            call("sync", spawned.url, chat())
    assert outcomes(session) == ["blocked"]
    assert spawned.hits == 1
