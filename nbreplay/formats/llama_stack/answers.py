"""Answers in llama-stack's recordings: as what a server sent, and back.

A class that a file names is a word to be kept. None is ever looked up, let alone imported: the table here says how
those that are known went over the wire, and any other is data.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from typing import Any

from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.take import Take
from nbreplay.errors import RecordingFormatError, UnsafeRecordingError
from nbreplay.formats.llama_stack import google_genai
from nbreplay.formats.synthetic_take import Answer

__all__ = ["answer_of", "response_of"]

Origin = dict[str, Any]

_JSON, _SSE, _NDJSON = "application/json", "text/event-stream", "application/x-ndjson"
# How the streams of known classes are framed; those of any other come as events.
_FRAMINGS: Mapping[str, str] = {
    "ollama._types.ChatResponse": _NDJSON,
    "ollama._types.GenerateResponse": _NDJSON,
    "ollama._types.ProgressResponse": _NDJSON,
}
_MODEL = "openai.types.model.Model"
_NAME = re.compile(r"(?:(?:[A-Za-z_]\w*|<locals>)\.)*_*[A-Z]\w*(?:\[[\w., \[\]]*\])?")
_FAILED_BEFORE = "ConnectError"
_SDK_FIELDS = ("sdk_http_response", "automatic_function_calling_history", "parsed")  # google-genai's own, never sent


def answer_of(response: Mapping[str, Any], shape: str) -> tuple[Answer, Origin]:
    """Return what a server sent for a response of llama-stack's, and what it tells beside.

    Raises
    ------
    RecordingFormatError, UnsafeRecordingError
    """
    if response.get("is_exception"):
        return _failure(response)
    if "body" not in response:
        raise RecordingFormatError("its response has no body")
    return _success(response, shape)


def _success(response: Mapping[str, Any], shape: str) -> tuple[Answer, Origin]:
    body, streaming = response["body"], bool(response.get("is_streaming"))
    items = body if isinstance(body, list) else [body]
    opened = [_opened(item) for item in items]
    names, values = [name for name, _ in opened], [value for _, value in opened]
    origin: Origin = {}
    if any(names):
        uniform = len(set(names)) == 1
        origin["type"] = names[0] if uniform else names
    status = response.get("status", 200)
    if type(status) is not int or not 100 <= status <= 999:
        raise RecordingFormatError(f"its response has the status {status!r}")
    if shape in ("tool", "file"):
        return Answer(200, _typed(_JSON), _encoded({"value": values if isinstance(body, list) else values[0]})), origin
    if isinstance(body, list) and streaming and body and all(isinstance(item, str) for item in body):
        origin["form"] = "lines"
        return Answer(status, _typed(_SSE), "".join(line + "\n" for line in body).encode("utf-8", "replace")), origin
    headers = _typed(_JSON)
    if shape == "google":
        values, headers = _google(values, origin)
    if isinstance(body, list) and streaming:
        kind = _FRAMINGS.get(names[0] or "", _SSE) if names else _SSE
        return Answer(status, _typed(kind), _stream(values, kind, done=shape != "google")), origin
    if not isinstance(body, list):
        return Answer(status, headers, _encoded(values[0])), origin
    if all(name == _MODEL for name in names):
        origin["form"] = "models"
        return Answer(status, headers, _encoded({"object": "list", "data": values})), origin
    return Answer(status, headers, _encoded(values)), origin


def _failure(response: Mapping[str, Any]) -> tuple[Answer, Origin]:
    data = response.get("exception_data")
    told = dict(data) if isinstance(data, dict) else {}
    message = str(told.get("message", response.get("exception_message", "")))
    name = str(told.get("type", "Exception"))
    status, body = told.pop("status_code", None), told.pop("body", None)
    # Only the fields that come back from the take itself are taken out.
    exception: Origin = {field: told[field] for field in told if field != "message"}
    origin: Origin = {"exception": exception}
    if not isinstance(data, dict):
        origin["exception"] = {}
    if type(status) is int and 400 <= status <= 599 and not response.get("body"):
        if isinstance(body, str):
            exception["wrapped"], sent, kind = "text", body.encode("utf-8", "replace"), "text/plain"
        elif body is None:
            exception["wrapped"], sent, kind = "message", _encoded({"error": {"message": message}}), _JSON
        else:
            bare = message == f"Error code: {status} - {body!r}"
            exception["wrapped"] = "bare" if bare else "error"
            sent, kind = _encoded(body if bare else {"error": body}), _JSON
        return Answer(status, _typed(kind), sent), origin
    error = {"type": "ReadTimeout" if "Timeout" in name else _FAILED_BEFORE, "message": message}
    if type(status) is int:
        exception["status_code"] = status
    if body is not None:
        exception["body"] = body
    if not response.get("body"):
        return Answer(None, error=error), origin
    # It failed in the middle of a stream: what had come is there.
    error["type"] = "ReadError" if error["type"] == _FAILED_BEFORE else error["type"]
    begun, more = _success({**response, "is_streaming": True}, "method")
    data_so_far = begun.data.removesuffix(b"data: [DONE]\n\n")
    return Answer(200, begun.headers, data_so_far, error), {**more, **origin}


def _opened(item: Any) -> tuple[str | None, Any]:
    """Return the name of an item's class, where it has one, and its data."""
    if not isinstance(item, dict) or "__type__" not in item:
        return None, item
    name = item["__type__"]
    if not isinstance(name, str) or len(name) > 300 or not _NAME.fullmatch(name) or _is_pythons_own(name):
        raise UnsafeRecordingError(f"it says that an answer is a {str(name)[:80]!r}, which no answer is")
    if item.keys() != {"__type__", "__data__"}:
        return None, item
    return name, item["__data__"]


def _is_pythons_own(name: str) -> bool:
    return name.partition(".")[0] in (*sys.stdlib_module_names, "builtins", "__main__")


def _google(values: list[Any], origin: Origin) -> tuple[list[Any], tuple[tuple[str, str], ...]]:
    """Return answers of google-genai as they were sent, and their headers; what only the SDK knows is noted."""
    own = [{name: value[name] for name in _SDK_FIELDS if name in value} for value in values if isinstance(value, dict)]
    if not values or len(own) != len(values):
        return values, _typed(_JSON)
    sent = [{name: item for name, item in value.items() if name not in _SDK_FIELDS} for value in values]
    wire = google_genai.to_wire(sent)
    if google_genai.from_wire(wire) != sent:
        origin["answer_as_it_was"], wire = True, sent
    if any(own):
        origin["sdk"] = own[0] if all(item == own[0] for item in own) else own
    headers = own[0].get("sdk_http_response")
    told = headers.get("headers") if isinstance(headers, dict) else None
    pairs = tuple((str(name), str(item)) for name, item in told.items()) if isinstance(told, dict) else ()
    return wire, pairs or _typed(_JSON)


def _typed(kind: str) -> tuple[tuple[str, str], ...]:
    return (("content-type", kind),)


def _encoded(value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    except UnicodeEncodeError:  # half of a surrogate pair
        return json.dumps(value, separators=(",", ":")).encode("ascii")


def _stream(values: list[Any], kind: str, *, done: bool) -> bytes:
    texts = [_encoded(value) for value in values]
    if kind == _NDJSON:
        return b"".join(text + b"\n" for text in texts)
    return b"".join(b"data: " + text + b"\n\n" for text in (*texts, *([b"[DONE]"] if done else ())))


def response_of(shape: str, take: Take, origin: Mapping[str, Any]) -> dict[str, Any]:
    """Return the response as llama-stack writes it.

    Raises
    ------
    RecordingFormatError
        Where it cannot be told any more.
    """
    if "exception" in origin:
        return _exception(shape, take, origin)
    streaming = isinstance(take.body, Events)
    made: dict[str, Any] = {"body": _body(shape, take, origin), "is_streaming": streaming}
    return {"status": take.status, **made} if shape == "http" and not streaming else made


def _body(shape: str, take: Take, origin: Mapping[str, Any]) -> Any:
    data = take.body.data()
    if origin.get("form") == "lines":
        return data.decode("utf-8").split("\n")[:-1]
    if isinstance(take.body, Events):
        return _closed(_google_back(_streamed(data, take.body.framing), origin, shape), origin)
    value = json.loads(data)
    if shape in ("tool", "file"):
        value = value["value"]
    if origin.get("form") == "models":
        value = value["data"]
    if isinstance(value, list):
        return _closed(value, origin)
    return _closed(_google_back([value], origin, shape), origin)[0]


def _streamed(data: bytes, framing: str) -> list[Any]:
    text = data.decode("utf-8")
    if framing == "ndjson":
        return [json.loads(line) for line in text.split("\n") if line]
    parts = [part.removeprefix("data: ") for part in text.split("\n\n") if part]
    return [json.loads(part) for part in parts if part != "[DONE]"]


def _google_back(values: list[Any], origin: Mapping[str, Any], shape: str) -> list[Any]:
    if shape != "google":
        return values
    own = origin.get("sdk", {})
    each = own if isinstance(own, list) else [own] * len(values)
    if len(each) != len(values):
        raise RecordingFormatError("what it keeps of its answer is of another number of chunks")
    plain = values if origin.get("answer_as_it_was") else google_genai.from_wire(values)
    return [{**more, **value} for more, value in zip(each, plain, strict=True)]


def _closed(values: list[Any], origin: Mapping[str, Any]) -> list[Any]:
    names = origin.get("type")
    each = names if isinstance(names, list) else [names] * len(values)
    if len(each) != len(values):
        raise RecordingFormatError("it names classes of another number of chunks than there are")
    return [
        value if name is None else {"__type__": name, "__data__": value}
        for name, value in zip(each, values, strict=True)
    ]


def _exception(shape: str, take: Take, origin: Mapping[str, Any]) -> dict[str, Any]:
    exception = dict(origin["exception"])
    wrapped = exception.pop("wrapped", None)
    begun = take.status is not None and take.error is not None
    made: dict[str, Any] = {"body": _body(shape, take, origin) if begun else None, "is_streaming": begun}
    data = {name: exception[name] for name in exception if name not in ("status_code", "body")}
    if wrapped is None:
        message = (take.error or {}).get("message", "")
        data["message"] = message
        data |= {name: exception[name] for name in ("status_code", "body") if name in exception}
    else:
        text = take.body.data().decode("utf-8")
        body: Any = text if wrapped == "text" else json.loads(text)
        if wrapped == "message":
            message = str(body["error"]["message"])
        elif wrapped == "text":
            message = text or f"Error code: {take.status}"
        else:
            message = f"Error code: {take.status} - {body!r}"
        data |= {"message": message, "status_code": take.status}
        if wrapped != "message":
            data["body"] = body["error"] if wrapped == "error" else body
    return {**made, "is_exception": True, "exception_data": data, "exception_message": message}
