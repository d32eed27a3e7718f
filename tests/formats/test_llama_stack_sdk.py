"""llama-stack's recordings, replayed through the SDKs themselves: their objects are those that were recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import pytest

import nbreplay as nr
from nbreplay.core.store.store import Store
from nbreplay.formats import registry
from tests.clients import http, sdk
from tests.formats.making import CHUNK, chat, method, real_files, written

MAJOR = int(openai.__version__.partition(".")[0])


def classes(data: dict[str, Any]) -> set[str]:
    body = data["response"]["body"]
    return {item.get("__type__", "") for item in (body if isinstance(body, list) else [body]) if isinstance(item, dict)}


def asked(data: dict[str, Any]) -> list[Any]:
    """What the SDK gives for the call of a recording, as data."""
    request = data["request"]
    with sdk("sync", request["url"].partition("/v1/")[0] + "/v1") as client:
        kinds = " ".join(classes(data))
        if "types.model.Model" in kinds:
            return dumped(client.models.list(**request["body"]))
        api = client.chat.completions
        if "Embedding" in kinds:
            api = client.embeddings
        elif "types.completion.Completion" in kinds:
            api = client.completions
        made = api.create(**request["body"])
        return dumped(made if request["body"].get("stream") else [made])


def dumped(items: Any) -> list[Any]:
    return [item.model_dump(mode="json", exclude_unset=True) for item in items]


def recorded(data: dict[str, Any]) -> list[Any]:
    body = data["response"]["body"]
    return [item["__data__"] for item in (body if isinstance(body, list) else [body])]


@pytest.mark.full
def test_every_real_answer_to_openai_is_given_again(tmp_path: Path) -> None:
    number, wrong = 0, []
    for path in real_files():
        data = json.loads(path.read_text(encoding="utf-8"))
        if not any(name.startswith("openai.") for name in classes(data)):
            continue
        number += 1
        registry.import_files(path, Store(tmp_path / str(number)))
        with nr.session(tmp_path / str(number), mode="replay"):
            if asked(data) != recorded(data):
                wrong.append(path.name)
    assert number > 200
    assert not wrong


def test_answers_of_many_tests_to_one_request_are_given_in_turn(tmp_path: Path) -> None:
    data = [chat(test=name, answer=name) for name in ("one", "two", "three")]
    registry.import_files(written(tmp_path / "in", *data), Store(tmp_path / "store"))
    with nr.session(tmp_path / "store", mode="replay"):
        assert [asked(item) for item in data] == [recorded(item) for item in data]


def test_every_real_exception_is_raised_again(tmp_path: Path) -> None:
    number = 0
    for path in real_files():
        data = json.loads(path.read_text(encoding="utf-8"))
        if not data["response"].get("is_exception"):
            continue
        number += 1
        told = data["response"]["exception_data"]
        registry.import_files(path, Store(tmp_path / str(number)))
        with nr.session(tmp_path / str(number), mode="replay"), pytest.raises(openai.APIStatusError) as caught:
            asked(data)
        error = caught.value
        assert (type(error).__name__, error.status_code, error.body) == (
            told["type"],
            told["status_code"],
            told["body"],
        )
        if MAJOR < 3:  # openai 3 words it in another way
            assert str(error) == told["message"]
    assert number


def test_an_exception_without_a_status_is_a_failed_connection(tmp_path: Path) -> None:
    response = {"body": None, "is_streaming": False, "is_exception": True, "exception_message": "no"}
    data = method({"model": "m", "messages": []}, response)
    registry.import_files(written(tmp_path / "in", data), Store(tmp_path / "store"))
    with nr.session(tmp_path / "store", mode="replay"), pytest.raises(openai.APIConnectionError):
        asked(data)


def test_an_exception_in_the_middle_of_a_stream_is_raised_there(tmp_path: Path) -> None:
    chunk = {"__type__": CHUNK, "__data__": {"id": "1", "choices": []}}
    response = {"body": [chunk], "is_streaming": True, "is_exception": True, "exception_message": "no"}
    data = method({"model": "m", "messages": [], "stream": True}, response)
    registry.import_files(written(tmp_path / "in", data), Store(tmp_path / "store"))
    with nr.session(tmp_path / "store", mode="replay"), sdk("sync", "https://api.openai.com/v1") as client:
        stream = client.chat.completions.create(**data["request"]["body"])
        assert dumped([next(stream)]) == recorded(data)
        with pytest.raises((openai.APIError, http.HTTPError)):
            next(stream)


def test_an_embedding_is_found_where_the_sdk_asks_for_base64_itself(tmp_path: Path) -> None:
    body = {"model": "m", "input": ["a"]}
    answer = {
        "object": "list",
        "model": "m",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.1, -2.5e-08]}],
    }
    kind = "openai.types.create_embedding_response.CreateEmbeddingResponse"
    data = method(
        body, {"body": {"__type__": kind, "__data__": answer}, "is_streaming": False}, endpoint="/v1/embeddings"
    )
    registry.import_files(written(tmp_path / "in", data), Store(tmp_path / "store"))
    with nr.session(tmp_path / "store", mode="replay"):
        assert asked(data) == [answer]


def test_anthropic_and_plain_lines_come_back_as_they_were(tmp_path: Path) -> None:
    number = 0
    for path in real_files():
        data = json.loads(path.read_text(encoding="utf-8"))
        request, response = data["request"], data["response"]
        if "payload" not in request:
            continue
        number += 1
        registry.import_files(path, Store(tmp_path / str(number)))
        with nr.session(tmp_path / str(number), mode="replay"), sdk("sync", "http://unused") as client:
            made = client._client.post(request["url"], json=request["payload"])
            assert made.status_code == response.get("status", 200)
            if response["is_streaming"]:
                assert list(made.iter_lines()) == response["body"]
            else:
                assert made.json() == response["body"]
    assert number
