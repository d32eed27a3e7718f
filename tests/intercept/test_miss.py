"""What has no answer stops at once, says why, and is logged, whoever swallows the exception. Nothing is sent."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from pathlib import Path
from typing import Any

import openai
import pytest

import nbreplay as nr
from nbreplay.core.secrets.credentials import PLACEHOLDER
from tests.clients import call, chat, entered, gathered_chats, items, outcomes, plain, said, sdk, takes, wait
from tests.provider import Provider


async def stream(client: Any) -> list[Any]:
    return [item async for item in items(await wait(chat_stream(client)))]


def chat_stream(client: Any) -> Any:
    return client.chat.completions.create(model="test", messages=said("hello"), stream=True)


async def stream_helper(client: Any) -> list[Any]:
    async with entered(client.chat.completions.stream(model="test", messages=said("hello"))) as made:
        return [item async for item in items(made)]


async def response(client: Any) -> Any:
    return await wait(client.responses.create(model="test", input="hello"))


async def raw(client: Any) -> Any:
    return await wait(client.chat.completions.with_raw_response.create(model="test", messages=said("hello")))


async def listed(client: Any) -> Any:
    return await wait(client.models.list())


@pytest.mark.parametrize("operation", [chat(), stream, stream_helper, response, raw, listed])
def test_a_miss_is_not_retried(operation: Any, flavour: str, provider: Provider, store: Path) -> None:
    with nr.session(store, mode="replay") as session, pytest.raises(nr.RecordingMissing) as caught:
        call(flavour, provider.url, operation, max_retries=3)
    assert outcomes(session) == ["missing"], "one attempt"
    assert not isinstance(caught.value, Exception)
    assert session.interactions[0].note == str(caught.value)
    assert provider.hits == 0
    assert not store.exists(), "looking makes no folder"


def test_except_exception_does_not_eat_it(flavour: str, provider: Provider, store: Path) -> None:
    async def agent(client: Any) -> Any:
        for _ in range(5):
            try:
                return await chat()(client)
            except Exception:
                continue
        return "gave up"

    with nr.session(store, mode="replay") as session, pytest.raises(nr.RecordingMissing):
        call(flavour, provider.url, agent)
    assert outcomes(session) == ["missing"]


def test_gather_that_returns_exceptions(provider: Provider, store: Path) -> None:
    with nr.session(store, mode="replay") as session:
        found = asyncio.run(gathered_chats(provider.url, 3))
    assert [type(item) for item in found] == [nr.RecordingMissing] * 3
    assert outcomes(session) == ["missing"] * 3
    assert provider.hits == 0


def test_a_thread_that_nobody_joins(provider: Provider, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    over, died = threading.Event(), []

    def hook(arguments: Any) -> None:
        died.append(arguments.exc_type)
        over.set()

    monkeypatch.setattr(threading, "excepthook", hook)
    with nr.session(store, mode="replay") as session:
        threading.Thread(target=lambda: call("sync", provider.url, chat())).start()
        assert over.wait(20)
    assert died == [nr.RecordingMissing]
    assert outcomes(session) == ["missing"]
    assert provider.hits == 0


async def test_a_task_that_nobody_awaits(provider: Provider, store: Path) -> None:
    async def whole() -> None:
        async with sdk("async", provider.url) as client:
            await chat()(client)

    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    with nr.session(store, mode="replay") as session:
        task = asyncio.ensure_future(whole())
        while not task.done():
            await asyncio.sleep(0)
        del task
    assert outcomes(session) == ["missing"]
    assert provider.hits == 0


def missed(flavour: str, url: str, store: Path, operation: Any, **options: Any) -> str:
    with nr.session(store, mode="replay", **options) as session, pytest.raises(nr.RecordingMissing) as caught:
        call(flavour, url, operation)
    assert session.last_miss is not None
    assert session.last_miss.text == str(caught.value)
    return str(caught.value)


def test_the_text_tells_what_differs(flavour: str, provider: Provider, store: Path) -> None:
    with nr.session(store, mode="record"):
        call(flavour, provider.url, chat("What is the capital of France?", temperature=0.25))
        call(flavour, provider.url, chat("Something else entirely", temperature=0.75))
    (nearest,) = (path.name for path in store.glob("chat-*.json") if "France" in path.read_text())
    text = missed(flavour, provider.url, store, chat("What is the capital of France?", temperature=0.5))
    first = text.partition("\n")[0]
    assert "chat" in first
    assert "test" in first
    assert "What is the capital of France?" in text
    assert nearest in text
    assert "temperature" in text
    assert re.search(r"recorded\s+0\.25\b", text)
    assert re.search(r"asked\s+0\.5\b", text)
    assert "0.75" not in text
    assert len(re.findall(r"^ *to fix ", text, re.M)) == 1
    assert "auto" in text


def test_the_command_in_the_text_fixes_it(provider: Provider, store: Path) -> None:
    with nr.session(store, mode="record"):
        call("sync", provider.url, chat(temperature=0.25))
    text = missed("sync", provider.url, store, chat(temperature=0.5))
    (mode,) = re.findall(r'to fix .*mode="(\w+)"', text)
    with nr.session(store, mode=mode):
        live = call("sync", provider.url, chat(temperature=0.5))
    with nr.session(store, mode="replay"):
        assert call("sync", provider.url, chat(temperature=0.5)) == live


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Today is 2026-11-22. Hello", "Today is 2026-11-23. Hello"),
        ("run 3f2a9c81-d04b-4e77-8a11-0123456789ab", "run 00000000-d04b-4e77-8a11-0123456789ff"),
    ],
)
def test_what_changes_by_itself_is_healed_by_the_option_in_the_text(
    one: str, other: str, provider: Provider, store: Path
) -> None:
    with nr.session(store, mode="record"):
        live = call("sync", provider.url, chat(one))
    text = missed("sync", provider.url, store, chat(other))
    (pattern,) = re.findall(r"mask=\[r'(.*)'\]\) makes", text)
    with nr.session(store, mode="replay", mask=[pattern]):
        assert call("sync", provider.url, chat(other)) == live


def test_one_field_is_healed_by_the_option_in_the_text(provider: Provider, store: Path) -> None:
    with nr.session(store, mode="record"):
        live = call("sync", provider.url, chat(metadata={"run_id": "one"}))
    text = missed("sync", provider.url, store, chat(metadata={"run_id": "another"}))
    (path,) = re.findall(r"ignore=\['(.*)'\]\) makes", text)
    with nr.session(store, mode="replay", ignore=[path]):
        assert call("sync", provider.url, chat(metadata={"run_id": "another"})) == live


def test_no_option_is_suggested_that_would_not_heal(provider: Provider, store: Path) -> None:
    """Where two requests carry the ids of different answers, no pattern over the ids makes them one."""

    def conversation(first: str) -> None:
        with sdk("sync", provider.url) as client:
            one = client.responses.create(model="test", input=first)
            client.responses.create(model="test", input="and then?", previous_response_id=one.id)

    with nr.session(store, mode="record"):
        conversation("one way to start")
        with sdk("sync", provider.url) as client:
            client.responses.create(model="test", input="another way to start")
    with nr.session(store, mode="replay") as session, pytest.raises(nr.RecordingMissing) as caught:
        conversation("another way to start")
    assert outcomes(session) == ["replayed", "missing"]
    options = {name: re.findall(f"--{name} '?(.*?)'? makes", str(caught.value)) for name in ("mask", "ignore")}
    if any(options.values()):
        with nr.session(store, mode="replay", **options):
            conversation("another way to start")


def test_a_store_that_is_empty_or_absent_is_named(flavour: str, provider: Provider, store: Path) -> None:
    assert str(store) in missed(flavour, provider.url, store, chat())
    store.mkdir()
    assert str(store) in missed(flavour, provider.url, store, chat())


# Keys


def unkeyed(flavour: str, url: str) -> Any:
    """Return a client that was built where no key is set; openai gives the placeholder then."""
    return (openai.OpenAI if flavour == "sync" else openai.AsyncOpenAI)(base_url=url, max_retries=0)


def tried(flavour: str, client: Any) -> BaseException | None:
    """Make a call with `client`; return what it raises."""

    async def whole() -> Any:
        async with entered(client):
            return await chat("something new")(client)

    try:
        if flavour == "sync":
            chat_sync = client.chat.completions.create
            try:
                chat_sync(model="test", messages=said("something new"))
            finally:
                client.close()
        else:
            asyncio.run(whole())
    except BaseException as error:
        return error
    return None


def test_no_client_without_a_key_but_under_replay(flavour: str, provider: Provider, store: Path) -> None:
    with pytest.raises(openai.OpenAIError):
        unkeyed(flavour, provider.url)
    for mode in ("record", "off"):
        with nr.session(store, mode=mode), pytest.raises(openai.OpenAIError):
            unkeyed(flavour, provider.url)
    with nr.session(store, mode="record"):
        live = call(flavour, provider.url, chat())
    for mode in ("replay", "auto"):
        with nr.session(store, mode=mode):
            assert call(flavour, provider.url, chat(), lambda *given: unkeyed(*given)) == live
    with pytest.raises(openai.OpenAIError):
        unkeyed(flavour, provider.url)


@pytest.mark.parametrize("mode", ["auto", "record", "off", "replay"])
@pytest.mark.parametrize("place", ["environment", "dotenv"])
def test_a_placeholder_gives_way_to_a_key_that_is_set(
    mode: str, place: str, monkeypatch: pytest.MonkeyPatch, store: Path
) -> None:
    if place == "environment":
        monkeypatch.setenv("OPENAI_API_KEY", "a-real-one-of-mine")
        with nr.session(store, mode=mode):
            assert openai.OpenAI().api_key == "a-real-one-of-mine"
    else:
        Path(".env").write_text("export OPENAI_API_KEY=a-real-one-of-mine\n")
        with nr.session(store, mode=mode), pytest.raises(openai.OpenAIError):
            openai.OpenAI()


@pytest.mark.parametrize("mode", ["auto", "record", "off", "replay"])
def test_a_placeholder_is_not_sent(mode: str, flavour: str, provider: Provider, store: Path) -> None:
    with nr.session(store, mode="auto"):
        client = unkeyed(flavour, provider.url)
        assert client.api_key == f"{PLACEHOLDER}-OPENAI_API_KEY"
    with nr.session(store, mode=mode) as session:
        error = tried(flavour, client)
    assert isinstance(error, nr.RecordingMissing)
    assert outcomes(session) == ["missing"]
    assert provider.hits == 0
    if mode != "replay":
        assert "no API key is set (OPENAI_API_KEY)" in str(error)
    assert PLACEHOLDER not in str(error)


def test_a_placeholder_is_not_sent_after_the_session(flavour: str, provider: Provider, store: Path) -> None:
    with nr.session(store, mode="replay"):
        client = unkeyed(flavour, provider.url)
    error = tried(flavour, client)
    assert provider.hits == 0
    assert error is not None
    assert "key" in str(error)


def test_a_placeholder_is_not_sent_in_a_query_or_another_header(flavour: str, provider: Provider, store: Path) -> None:
    async def by_query(client: Any) -> Any:
        return await wait(client.get("/echo", params={"key": PLACEHOLDER}))

    async def by_header(client: Any) -> Any:
        return await wait(client.get("/echo", headers={"x-api-key": PLACEHOLDER}))

    for operation in (by_query, by_header):
        with nr.session(store, mode="auto") as session, pytest.raises(nr.RecordingMissing):
            call(flavour, provider.url, operation, plain)
        assert outcomes(session) == ["missing"]
    assert provider.hits == 0


# Stores that cannot be used


def damaged(store: Path, how: str) -> bytes:
    """Damage the only recording of a store; return what the file holds now."""
    (path,) = store.glob("*.json")
    text = path.read_text(encoding="utf-8")
    data = {
        "cut": text[: len(text) // 2].encode(),
        "empty": b"",
        "newer": text.replace('"nbreplay": 1', '"nbreplay": 99').encode(),
        "conflict": text.replace('  "takes"', '<<<<<<< HEAD\n  "takes"').encode(),
        "list": b"[]",
        "binary": b"\xff\xfe\x00" + text.encode(),
        "takes": json.dumps(json.loads(text) | {"takes": 5}).encode(),
        "take": json.dumps(json.loads(text) | {"takes": [5]}).encode(),
        "body": text.replace('"json"', '"text"').encode(),
    }[how]
    assert data != text.encode()
    path.write_bytes(data)
    return data


@pytest.mark.parametrize("mode", ["replay", "auto", "record"])
@pytest.mark.parametrize("how", ["cut", "empty", "newer", "conflict", "list", "binary", "takes", "take", "body"])
def test_a_file_that_cannot_be_read_is_named_and_left(how: str, mode: str, provider: Provider, store: Path) -> None:
    with nr.session(store, mode="record"):
        call("sync", provider.url, chat())
    data = damaged(store, how)
    (path,) = store.glob("*.json")
    hits = provider.hits
    with nr.session(store, mode=mode) as session, pytest.raises(nr.RecordingMissing) as caught:
        call("sync", provider.url, chat(), max_retries=2)
    assert isinstance(caught.value.__cause__, nr.RecordingFormatError)
    assert path.name in str(caught.value)
    assert "record" in str(caught.value)
    assert re.search(r"[Rr]estore|remove|upgrade|newer nbreplay", str(caught.value)), "a remedy"
    assert outcomes(session) == ["missing"]
    assert path.read_bytes() == data
    assert provider.hits == hits


def test_a_newer_format_says_that_nbreplay_is_older(provider: Provider, store: Path) -> None:
    with nr.session(store, mode="record"):
        call("sync", provider.url, chat())
    damaged(store, "newer")
    text = missed("sync", provider.url, store, chat())
    assert "99" in text
    assert re.search(r"newer|upgrade|update", text)


@pytest.mark.parametrize("mode", ["replay", "auto", "record", "off"])
def test_a_store_that_is_a_file(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "not-a-folder"
    path.write_bytes(b"mine")
    with pytest.raises(nr.StoreError, match=r"not-a-folder.*Name another store"):
        nr.session(path, mode=mode)
    assert path.read_bytes() == b"mine"


@pytest.mark.parametrize("mode", ["replay", "auto", "record"])
def test_a_folder_that_cannot_be_made(mode: str, provider: Provider, tmp_path: Path) -> None:
    file = tmp_path / "a-file"
    file.write_bytes(b"mine")
    store = file / "recordings"

    def run() -> None:
        with nr.session(store, mode=mode):
            call("sync", provider.url, chat(), max_retries=2)

    with pytest.raises((nr.StoreError, nr.RecordingMissing)) as caught:
        run()
    error: BaseException = caught.value
    if mode != "replay":
        assert isinstance(error, nr.StoreError) or isinstance(error.__cause__, nr.StoreError)
        assert "another store" in str(error)
    assert str(store) in str(error)
    assert file.read_bytes() == b"mine"
    assert provider.hits == 0


def test_a_folder_where_the_file_should_be(provider: Provider, store: Path) -> None:
    with nr.session(store, mode="record"):
        call("sync", provider.url, chat())
    (path,) = store.glob("*.json")
    path.unlink()
    path.mkdir()
    for mode in ("replay", "auto", "record"):
        with nr.session(store, mode=mode), pytest.raises(nr.RecordingMissing, match=path.name):
            call("sync", provider.url, chat())
    assert provider.hits == 1


# Modes and options


def test_an_unknown_mode_names_those_there_are(store: Path) -> None:
    with pytest.raises(nr.OptionError, match=r"'rekord'.*auto") as caught:
        nr.session(store, mode="rekord")
    for name in ("off", "record", "replay", "auto", "live", "record-if-missing"):
        assert name in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_an_unknown_mode_in_the_environment(store: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBREPLAY_MODE", "rekord")

    def run() -> None:
        with nr.session(store, mode="auto"):
            call("sync", provider.url, chat())

    with pytest.raises(nr.OptionError, match=r"NBREPLAY_MODE.*'rekord'"):
        run()
    assert provider.hits == 0


@pytest.mark.parametrize(
    "options",
    [
        {"speed": "fast"},
        {"speed": -1},
        {"ignore": [5]},
        {"mask": ["("]},
        {"only": [None]},
        {"allow": 7},
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], store: Path) -> None:
    with pytest.raises(nr.OptionError, match=next(iter(options))):
        nr.session(store, **options)


@pytest.mark.parametrize("line", ['mode = "rekord"', 'colour = "red"', "store = 5", "mode ="])
def test_options_of_the_project_that_make_no_sense(line: str) -> None:
    Path("pyproject.toml").write_text(f"[tool.nbreplay]\n{line}\n")
    with pytest.raises(nr.OptionError, match=r"pyproject\.toml"):
        nr.session()


def test_the_environment_goes_before_the_session(
    provider: Provider, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBREPLAY_MODE", "replay")
    with nr.session(store, mode="record") as session, pytest.raises(nr.RecordingMissing):
        call("sync", provider.url, chat())
    assert session.mode.value == "replay"
    assert provider.hits == 0


def test_other_names_of_modes(provider: Provider, store: Path) -> None:
    with nr.session(store, mode="record-if-missing"):
        live = call("sync", provider.url, chat())
    with nr.session(store, mode="live"):
        assert call("sync", provider.url, chat()) != live
    assert len(takes(store)) == 1


def test_a_disk_that_is_full_does_not_cost_the_answer(
    flavour: str, provider: Provider, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    with nr.session(store, mode="record") as session, monkeypatch.context() as patched:
        patched.setattr("nbreplay.core.store.store.os.replace", full)
        with pytest.warns(UserWarning, match="No space left"):
            assert call(flavour, provider.url, chat()) == "answer 1 to: hello"
    assert outcomes(session) == ["unsaved"]
