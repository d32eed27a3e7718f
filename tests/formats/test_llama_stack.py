"""llama-stack's recordings: every kind comes in, in order and once, and goes out as it was."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from nbreplay.core.recording.body import Json
from nbreplay.core.recording.recording import parse
from nbreplay.core.recording.stream import Events
from nbreplay.core.request.request import Call, request_of
from nbreplay.core.request.rules import Normaliser
from nbreplay.core.secrets.redact import UNREDACTED
from nbreplay.core.store.store import Store
from nbreplay.errors import StoreError
from nbreplay.formats import registry
from nbreplay.formats.llama_stack import recordings
from tests.formats.making import CHUNK, REAL, TEST, chat, load, loaded, method, real, real_files, takes, written


def same(one: Any, other: Any) -> bool:
    """Whether two are the same JSON, but for the order of names; 1, 1.0 and true are not the same."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def there_and_back(source: Path, tmp_path: Path) -> dict[str, Any]:
    """What an export gives for a file or folder that was imported, by the place of each file."""
    store = Store(tmp_path / "store")
    counts = registry.import_files(source, store)
    assert not counts.left_out
    made = recordings.export(Store(tmp_path / "store"), tmp_path / "out")
    assert (made.written, made.known, made.left_out) == (counts.written, 0, ())
    out = tmp_path / "out"
    return {path.relative_to(out).as_posix(): json.loads(path.read_text()) for path in sorted(out.rglob("*.json"))}


@pytest.mark.full
def test_every_real_recording_is_read() -> None:
    files = real_files()
    found = Counter(recording.kind for recording in real() for _ in recording.takes)
    assert found.total() == len(list(REAL.rglob("*.json"))) == len(files) - 1
    assert found.keys() == {"chat", "completion", "embedding", "generate", "http", "message", "model", "tool"}
    assert len(takes(files[-1])) == 1


def test_every_real_recording_comes_back_as_it_was(tmp_path: Path) -> None:
    real_files()
    made = there_and_back(REAL, tmp_path)
    source = {path.relative_to(REAL).as_posix(): json.loads(path.read_text()) for path in REAL.rglob("*.json")}
    assert made.keys() == source.keys()
    assert [name for name in source if not same(made[name], source[name])] == []


def test_no_copy_of_a_real_source_is_kept() -> None:
    real_files()
    kept = Counter[str]()
    for take in (take for recording in real() for take in recording.takes):
        own = take.extra["llama_stack"]
        assert not own.keys() & {"as_it_was", "answer_as_it_was"}
        kept.update(f"{part}.{name}" for part, fields in own.get("set", {}).items() for name in fields)
    assert not kept, "nothing of 306 files has to be kept for itself"


@pytest.mark.full
def test_importing_twice_adds_nothing_and_what_is_stored_is_exact(tmp_path: Path) -> None:
    real_files()
    first = registry.import_files(REAL, Store(tmp_path))
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.json")}
    again = registry.import_files(REAL, Store(tmp_path))
    assert (again.written, again.known, again.recordings) == (0, first.written, first.recordings)
    for path in tmp_path.glob("*.json"):
        assert path.read_bytes() == before[path.name]
        text = path.read_text(encoding="utf-8")
        recording = parse(text)
        assert recording.text() == text
        assert path.name.startswith(f"{recording.kind}-")


def test_no_times_are_made_up(tmp_path: Path) -> None:
    data = method({"model": "m", "messages": [], "stream": True}, {"body": [chunk("a")], "is_streaming": True})
    (take,) = takes(written(tmp_path, data))
    assert (take.recorded_at, take.elapsed_ms, take.extra["timed"]) == ("", None, False)
    assert isinstance(take.body, Events)
    assert {piece.gap_ms for piece in take.body.chunks} == {0}


def chunk(text: str) -> dict[str, Any]:
    return {"__type__": CHUNK, "__data__": {"id": "rec-1", "choices": [{"index": 0, "delta": {"content": text}}]}}


def test_a_stream_is_what_a_server_sends(tmp_path: Path) -> None:
    data = method(
        {"model": "m", "messages": [], "stream": True}, {"body": [chunk("é"), chunk("")], "is_streaming": True}
    )
    (take,) = takes(written(tmp_path, data))
    lines = take.body.data().decode().split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    assert json.loads(lines[0][6:]) == chunk("é")["__data__"]
    assert take.headers == {"content-type": "text/event-stream"}


def test_an_answer_a_test_are_takes_of_one_request(tmp_path: Path) -> None:
    folder = written(tmp_path / "in", chat(test=TEST, answer="one"), chat(test=TEST + "2", answer="two"))
    (recording,) = loaded(folder)
    assert [take.extra["scope"] for take in recording.takes] == [TEST, TEST + "2"]
    store = Store(tmp_path / "store")
    assert registry.import_files(folder, store).written == 2
    assert registry.import_files(folder / "000000000001.json", store).written == 0


@pytest.mark.parametrize(
    "other", ["https://other.example/v1", "http://localhost:8080", "https://x.openai.azure.com/openai/v1"]
)
def test_a_request_has_the_key_that_a_session_gives_it(tmp_path: Path, other: str) -> None:
    data = chat(url=other)
    (recording,) = loaded(written(tmp_path, data))
    body = json.dumps(data["request"]["body"], separators=(",", ":")).encode()
    call = Call("POST", "api.openai.com", "/v1/chat/completions", "application/json", body)
    assert recording.key == request_of(call, Normaliser(), {}, UNREDACTED).key


def test_the_url_is_the_one_that_was_asked(tmp_path: Path) -> None:
    data = chat(url="https://x.openai.azure.com/openai/v1")
    assert data["request"]["url"] == "https://x.openai.azure.com/openai/v1/v1/chat/completions"
    (take,) = takes(written(tmp_path, data))
    assert (take.host, take.url) == ("x.openai.azure.com", "/openai/v1/chat/completions")


def test_a_stream_of_ollama_is_one_of_lines(tmp_path: Path) -> None:
    (take,) = takes(written(tmp_path, ODD["a stream of Ollama's"]))
    assert take.headers == {"content-type": "application/x-ndjson"}
    assert [json.loads(line) for line in take.body.data().splitlines()] == [{"message": {"content": "é"}, "done": True}]


def test_names_in_what_is_the_users_own_stay_as_they_are(tmp_path: Path) -> None:
    (recording,) = loaded(written(tmp_path, ODD["google-genai, with what is the user's own"]))
    body = recording.request["body"]
    assert body["contents"][0]["parts"] == [{"functionCall": {"args": {"snake_case": {"camelCase": 1}}}}]
    assert body["generationConfig"] == {"topP": 0.5, "responseSchema": {"a_b": 1}}
    assert recording.request["endpoint"] == "models/gemini-2.0-flash:generateContent"


def test_ids_of_tool_calls_do_not_count_and_come_back(tmp_path: Path) -> None:
    first, second = chat(test="one"), chat(test="two")
    for data, own in ((first, "call_abc123"), (second, "call_def456")):
        data["request"]["body"]["messages"] += [
            {"role": "assistant", "tool_calls": [{"id": own, "type": "function", "function": {"name": "f"}}]},
            {"role": "tool", "tool_call_id": own, "content": "1"},
        ]
    (recording,) = loaded(written(tmp_path / "in", first, second))
    assert [take.ids for take in recording.takes] == [("call_abc123",), ("call_def456",)]
    made = there_and_back(tmp_path / "in", tmp_path)
    assert all(any(same(item, data) for item in made.values()) for data in (first, second))


ODD: dict[str, dict[str, Any]] = {
    "a field of a later version": {**chat(), "later": {"a": [1]}},
    "a field of a later request": chat(later=1.0),
    "headers": chat(headers={"x-one": "1"}),
    "an id mapping": {**chat(), "id_normalization_mapping": {"a": "b"}},
    "no test, no mapping": {name: value for name, value in chat().items() if name in ("request", "response")},
    "another method": chat(method="PUT"),
    "a class that nobody knows": method(
        {"model": "m"}, {"body": {"__type__": "a.b.C", "__data__": {}}, "is_streaming": False}
    ),
    "no class": method({"model": "m"}, {"body": {"a": None}, "is_streaming": False}),
    "mixed classes": method({"model": "m"}, {"body": [chunk("a"), {"b": 1}], "is_streaming": True}),
    "a text": method({"model": "m"}, {"body": "text", "is_streaming": False}),
    "nothing": method({"model": "m"}, {"body": None, "is_streaming": False}),
    "an empty stream": method({"model": "m", "stream": True}, {"body": [], "is_streaming": True}),
    "a list": method({"model": "m"}, {"body": [1, 2.0, True, 1e300], "is_streaming": False}),
    "half of a pair": method({"model": "m"}, {"body": {"a": "\ud800"}, "is_streaming": False}),
    "not a number": method({"model": "m"}, {"body": {"a": float("nan")}, "is_streaming": False}),
    "what only the SDK knows": method(
        {"model": "m", "contents": [], "config": {}},
        {"body": [{"sdk_http_response": {"headers": {"a": n}}, "response_id": n} for n in "ab"], "is_streaming": True},
        endpoint="/generate_content_stream",
        url="vertexai://",
    ),
    "an exception without a status": method(
        {"model": "m"},
        {
            "body": None,
            "is_streaming": False,
            "is_exception": True,
            "exception_data": {"category": "builtin", "type": "ValueError", "message": "no"},
            "exception_message": "no",
        },
    ),
    "an exception that has only a message": method(
        {"model": "m"}, {"body": None, "is_streaming": False, "is_exception": True, "exception_message": "no"}
    ),
    "an exception of llama-stack's": method(
        {"model": "m"},
        {
            "body": None,
            "is_streaming": False,
            "is_exception": True,
            "exception_data": {"category": "llama_stack", "type": "NotFound", "message": "no", "status_code": 404},
            "exception_message": "no",
        },
    ),
    "an exception in the middle of a stream": method(
        {"model": "m", "stream": True},
        {
            "body": [chunk("a")],
            "is_streaming": True,
            "is_exception": True,
            "exception_data": {"category": "unknown", "type": "ReadError", "message": "cut"},
            "exception_message": "cut",
        },
    ),
    "an embedding in which the SDK asks for base64": method(
        {"model": "m", "input": "a"}, {"body": {}, "is_streaming": False}, endpoint="/v1/embeddings"
    ),
    "more in the body": method(
        {"model": "m", "extra_body": {"a": 1}, "timeout": 3}, {"body": {}, "is_streaming": False}
    ),
    "more in the body than there was": method(
        {"model": "m", "extra_body": {"model": "n"}}, {"body": {}, "is_streaming": False}
    ),
    "a list of Ollama's": method(
        {},
        {"body": {"__type__": "ollama._types.ListResponse", "__data__": {"models": []}}, "is_streaming": False},
        endpoint="/api/tags",
        url="http://localhost:11434",
    ),
    "a stream of Ollama's": method(
        {"model": "m", "messages": [], "stream": True, "format": None},
        {
            "body": [
                {"__type__": "ollama._types.ChatResponse", "__data__": {"message": {"content": "é"}, "done": True}}
            ],
            "is_streaming": True,
        },
        endpoint="/api/chat",
        url="http://localhost:11434",
    ),
    "reranking": {
        "test_id": TEST,
        "request": {
            "test_id": TEST,
            "url": "https://ai.api.nvidia.com/v1/x/rerank",
            "method": "POST",
            "payload": {"model": "m"},
        },
        "response": {"status": 200, "body": {"rankings": [{"index": 0}]}, "is_streaming": False},
        "id_normalization_mapping": {},
    },
    "google-genai, with what is the user's own": method(
        {
            "model": "gemini-2.0-flash",
            "contents": [{"parts": [{"function_call": {"args": {"snake_case": {"camelCase": 1}}}}], "role": "user"}],
            "config": {"top_p": 0.5, "system_instruction": {"parts": [{"text": "a"}]}, "response_schema": {"a_b": 1}},
        },
        {"body": {"candidates": [], "usage_metadata": {"total_token_count": 1}}, "is_streaming": False},
        endpoint="/generate_content",
        url="vertexai://",
        provider_metadata={"provider": "vertexai"},
    ),
    "google-genai, in another spelling": method(
        {"model": "m", "contents": [{"fooBar": 1}], "config": {"response_schema": {"a_b": 1}}},
        {"body": [{"fooBar": 1}], "is_streaming": True},
        endpoint="/generate_content_stream",
        url="vertexai://",
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_not_among_the_real_ones_comes_back_too(tmp_path: Path, name: str) -> None:
    (made,) = there_and_back(written(tmp_path / "in" / "agents" / "recordings", ODD[name]), tmp_path).values()
    assert same(made, ODD[name])


def test_a_tool_is_keyed_and_answered_as_one_of_nbreplays_own(tmp_path: Path) -> None:
    data = {
        "test_id": TEST,
        "request": {"test_id": TEST, "provider": "tavily", "tool_name": "search", "kwargs": {"query": "a"}},
        "response": {"body": {"__type__": "a.B", "__data__": {"content": "b"}}, "is_streaming": False},
    }
    (recording,) = loaded(written(tmp_path, data))
    assert (recording.kind, recording.request) == ("tool", {"tool": "search", "arguments": {"query": "a"}})
    assert recording.takes[0].body == Json({"value": {"content": "b"}})


def test_what_nbreplay_has_recorded_goes_out_as_llama_stack_would_have_recorded_it(tmp_path: Path) -> None:
    (recording,) = loaded(written(tmp_path / "in", chat()))
    (take,) = recording.takes
    store = Store(tmp_path / "store")
    own = type(take)("2026-01-01T00:00:00.000Z", take.host, "/v1/chat/completions", "openai 3.54.0", body=take.body)
    store.write(recording.kind, recording.key, recording.request, lambda _: [own])
    assert recordings.export(store, tmp_path / "out").written == 1
    (path,) = (tmp_path / "out").rglob("*.json")
    made = json.loads(path.read_text())
    assert path.parent == tmp_path / "out" / "common" / "recordings"
    assert made["request"]["url"] == "https://api.openai.com/v1/v1/chat/completions"
    assert same(made["response"], chat()["response"])


def test_nothing_is_written_over_in_an_export(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    registry.import_files(written(tmp_path / "in", chat()), store)
    recordings.export(store, tmp_path / "out")
    (path,) = (tmp_path / "out").rglob("*.json")
    path.write_text("{}")
    made = recordings.export(store, tmp_path / "out")
    assert (made.written, path.read_text()) == (0, "{}")
    assert str(path) in made.left_out[0]
    assert "Move it away" in made.left_out[0]


def test_secrets_do_not_come_in(tmp_path: Path) -> None:
    secret = "sk-proj-" + "a1b2c3d4" * 4
    data = chat(f"my key is {secret}", answer=secret, headers={"Authorization": f"Bearer {secret}"}, later=secret)
    data["request"]["url"] += f"?api_key={secret}"
    store = Store(tmp_path / "store")
    assert registry.import_files(written(tmp_path / "in", data), store).written == 1
    for path in (tmp_path / "store").rglob("*"):
        assert not path.is_file() or secret not in path.read_text()
    assert recordings.export(store, tmp_path / "out").written == 1


def test_a_source_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="neither a file nor a folder"):
        load(tmp_path / "nowhere")
