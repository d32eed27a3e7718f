"""Answers in llama-stack's recordings: to what a server sent, and back.

The name of a class is kept as a word. No class is ever looked up, let alone imported: the table here says how the
known ones went over the wire, and any other is data.
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
from nbreplay.formats.importer import Answer, compact_json
from nbreplay.formats.llama_stack import google_genai

Origin = dict[str, Any]

_JSON, _SSE, _NDJSON = "application/json", "text/event-stream", "application/x-ndjson"
_FRAMINGS: Mapping[str, str] = {
    "ollama._types.ChatResponse": _NDJSON,
    "ollama._types.GenerateResponse": _NDJSON,
    "ollama._types.ProgressResponse": _NDJSON,
}
"""The framing of the streams of known classes; those of any other come as events."""

_MODEL = "openai.types.model.Model"
_NAME = re.compile(r"(?:(?:[A-Za-z_]\w*|<locals>)\.)*_*[A-Z]\w*(?:\[[\w., \[\]]*\])?")
_FAILED_BEFORE = "ConnectError"
_SDK_FIELDS = ("sdk_http_response", "automatic_function_calling_history", "parsed")  # google-genai's own, never sent


def answer_of(response: Mapping[str, Any], shape: str) -> tuple[Answer, Origin]:
    """Return the answer that a server sent, and the fields of llama-stack's that an answer does not have."""
    if response.get("is_exception"):
        return _failure(response)
    if "body" not in response:
        raise RecordingFormatError("response: no body")
    return _success(response, shape)


def _success(response: Mapping[str, Any], shape: str) -> tuple[Answer, Origin]:
    body, streaming = response["body"], bool(response.get("is_streaming"))
    items = body if isinstance(body, list) else [body]
    unwrapped = [_unwrap(item) for item in items]
    names, values = [name for name, _ in unwrapped], [value for _, value in unwrapped]
    origin: Origin = {}
    if any(names):
        uniform = len(set(names)) == 1
        origin["type"] = names[0] if uniform else names
    status = response.get("status", 200)
    if type(status) is not int or not 100 <= status <= 999:
        raise RecordingFormatError(f"response: {status!r} is not a status")
    if shape in ("tool", "file"):
        value = values if isinstance(body, list) else values[0]
        return Answer(200, _content_type(_JSON), compact_json({"value": value})), origin
    if isinstance(body, list) and streaming and body and all(isinstance(item, str) for item in body):
        origin["form"] = "lines"
        text = "".join(line + "\n" for line in body)
        return Answer(status, _content_type(_SSE), text.encode("utf-8", "replace")), origin
    headers = _content_type(_JSON)
    if shape == "google":
        values, headers = _to_google(values, origin)
    if isinstance(body, list) and streaming:
        kind = _FRAMINGS.get(names[0] or "", _SSE) if names else _SSE
        return Answer(status, _content_type(kind), _stream(values, kind, done=shape != "google")), origin
    if not isinstance(body, list):
        return Answer(status, headers, compact_json(values[0])), origin
    if all(name == _MODEL for name in names):
        origin["form"] = "models"
        return Answer(status, headers, compact_json({"object": "list", "data": values})), origin
    return Answer(status, headers, compact_json(values)), origin


def _failure(response: Mapping[str, Any]) -> tuple[Answer, Origin]:
    data = response.get("exception_data")
    fields = dict(data) if isinstance(data, dict) else {}
    message = str(fields.get("message", response.get("exception_message", "")))
    name = str(fields.get("type", "Exception"))
    status, body = fields.pop("status_code", None), fields.pop("body", None)
    # Without the fields that come back from the take itself.
    exception: Origin = {field: value for field, value in fields.items() if field != "message"}
    origin: Origin = {"exception": exception}
    if type(status) is int and 400 <= status <= 599 and not response.get("body"):
        if isinstance(body, str):
            exception["wrapped"], sent, kind = "text", body.encode("utf-8", "replace"), "text/plain"
        elif body is None:
            exception["wrapped"], sent, kind = "message", compact_json({"error": {"message": message}}), _JSON
        else:
            bare = message == f"Error code: {status} - {body!r}"
            exception["wrapped"] = "bare" if bare else "error"
            sent, kind = compact_json(body if bare else {"error": body}), _JSON
        return Answer(status, _content_type(kind), sent), origin
    error = {"type": "ReadTimeout" if "Timeout" in name else _FAILED_BEFORE, "message": message}
    if type(status) is int:
        exception["status_code"] = status
    if body is not None:
        exception["body"] = body
    if not response.get("body"):
        return Answer(None, error=error), origin
    # It failed in the middle of a stream, of which the first part is there.
    error["type"] = "ReadError" if error["type"] == _FAILED_BEFORE else error["type"]
    start, more = _success({**response, "is_streaming": True}, "method")
    return Answer(200, start.headers, start.data.removesuffix(b"data: [DONE]\n\n"), error), {**more, **origin}


def _unwrap(item: Any) -> tuple[str | None, Any]:
    """Return the name of an item's class, where it has one, and its data."""
    if not isinstance(item, dict) or "__type__" not in item:
        return None, item
    name = item["__type__"]
    own = isinstance(name, str) and name.partition(".")[0] in (*sys.stdlib_module_names, "builtins", "__main__")
    if not isinstance(name, str) or len(name) > 300 or not _NAME.fullmatch(name) or own:
        raise UnsafeRecordingError(f"response: the class {str(name)[:80]!r} is not that of an answer")
    if item.keys() != {"__type__", "__data__"}:
        return None, item
    return name, item["__data__"]


def _to_google(values: list[Any], origin: Origin) -> tuple[list[Any], tuple[tuple[str, str], ...]]:
    """Return answers of google-genai as they were sent, and their headers; the SDK's own fields go to `origin`."""
    own = [{name: value[name] for name in _SDK_FIELDS if name in value} for value in values if isinstance(value, dict)]
    if not values or len(own) != len(values):
        return values, _content_type(_JSON)
    sent = [{name: item for name, item in value.items() if name not in _SDK_FIELDS} for value in values]
    wire = google_genai.to_wire(sent)
    if google_genai.from_wire(wire) != sent:
        origin["answer_as_it_was"], wire = True, sent
    if any(own):
        origin["sdk"] = own[0] if all(item == own[0] for item in own) else own
    headers = own[0].get("sdk_http_response")
    headers = headers.get("headers") if isinstance(headers, dict) else None
    pairs = tuple((str(name), str(item)) for name, item in headers.items()) if isinstance(headers, dict) else ()
    return wire, pairs or _content_type(_JSON)


def _content_type(kind: str) -> tuple[tuple[str, str], ...]:
    return (("content-type", kind),)


def _stream(values: list[Any], kind: str, *, done: bool) -> bytes:
    texts = [compact_json(value) for value in values]
    if kind == _NDJSON:
        return b"".join(text + b"\n" for text in texts)
    return b"".join(b"data: " + text + b"\n\n" for text in (*texts, *([b"[DONE]"] if done else ())))


def response_of(shape: str, take: Take, origin: Mapping[str, Any]) -> dict[str, Any]:
    """Return the response as llama-stack writes it."""
    if "exception" in origin:
        return _exception(shape, take, origin)
    streaming = isinstance(take.body, Events)
    response: dict[str, Any] = {"body": _body(shape, take, origin), "is_streaming": streaming}
    return {"status": take.status, **response} if shape == "http" and not streaming else response


def _body(shape: str, take: Take, origin: Mapping[str, Any]) -> Any:
    data = take.body.data()
    if origin.get("form") == "lines":
        return data.decode("utf-8").split("\n")[:-1]
    if isinstance(take.body, Events):
        return _wrap(_from_google(_parse_stream(data, take.body.framing), origin, shape), origin)
    value = json.loads(data)
    if shape in ("tool", "file"):
        value = value["value"]
    if origin.get("form") == "models":
        value = value["data"]
    if isinstance(value, list):
        return _wrap(value, origin)
    return _wrap(_from_google([value], origin, shape), origin)[0]


def _parse_stream(data: bytes, framing: str) -> list[Any]:
    text = data.decode("utf-8")
    if framing == "ndjson":
        return [json.loads(line) for line in text.split("\n") if line]
    parts = [part.removeprefix("data: ") for part in text.split("\n\n") if part]
    return [json.loads(part) for part in parts if part != "[DONE]"]


def _from_google(values: list[Any], origin: Mapping[str, Any], shape: str) -> list[Any]:
    if shape != "google":
        return values
    own = origin.get("sdk", {})
    each = own if isinstance(own, list) else [own] * len(values)
    if len(each) != len(values):
        raise RecordingFormatError("the SDK fields that it keeps are not one per chunk")
    plain = values if origin.get("answer_as_it_was") else google_genai.from_wire(values)
    return [{**more, **value} for more, value in zip(each, plain, strict=True)]


def _wrap(values: list[Any], origin: Mapping[str, Any]) -> list[Any]:
    names = origin.get("type")
    each = names if isinstance(names, list) else [names] * len(values)
    if len(each) != len(values):
        raise RecordingFormatError("the classes that it keeps are not one per chunk")
    return [
        value if name is None else {"__type__": name, "__data__": value}
        for name, value in zip(each, values, strict=True)
    ]


def _exception(shape: str, take: Take, origin: Mapping[str, Any]) -> dict[str, Any]:
    exception = dict(origin["exception"])
    wrapped = exception.pop("wrapped", None)
    has_start = take.status is not None and take.error is not None
    response: dict[str, Any] = {"body": _body(shape, take, origin) if has_start else None, "is_streaming": has_start}
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
    return {**response, "is_exception": True, "exception_data": data, "exception_message": message}
