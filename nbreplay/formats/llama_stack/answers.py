"""Answers in llama-stack's recordings: to what a server sent, and back.

The name of a class is kept as a word. No class is ever looked up, let alone imported: the table here says how the
known ones went over the wire, and any other is data.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.take import Take
from nbreplay.errors import RecordingFormatError, UnsafeRecordingError
from nbreplay.formats.importer import Answer, compact_json
from nbreplay.formats.llama_stack import google_genai

_JSON, _SSE, _NDJSON = "application/json", "text/event-stream", "application/x-ndjson"
_OLLAMA = tuple(f"ollama._types.{name}Response" for name in ("Chat", "Generate", "Progress"))
"""Classes whose streams are lines of JSON; those of any other come as events."""

_MODEL = "openai.types.model.Model"
_NAME = re.compile(r"(?:(?:[A-Za-z_]\w*|<locals>)\.)*_*[A-Z]\w*(?:\[[\w., \[\]]*\])?")
_SDK_FIELDS = ("sdk_http_response", "automatic_function_calling_history", "parsed")  # google-genai's own, never sent


def answer_of(response: Mapping[str, Any], shape: str) -> tuple[Answer, dict[str, Any]]:
    """Return the answer that a server sent, and the fields of llama-stack's that an answer does not have."""
    if response.get("is_exception"):
        return _failure(response)
    if "body" not in response:
        raise RecordingFormatError("response: no body")
    return _success(response, shape)


def _success(response: Mapping[str, Any], shape: str) -> tuple[Answer, dict[str, Any]]:
    body = response["body"]
    listed = isinstance(body, list)
    streaming = listed and bool(response.get("is_streaming"))
    unwrapped = [_unwrap(item) for item in (body if listed else [body])]
    names, values = [name for name, _ in unwrapped], [value for _, value in unwrapped]
    origin: dict[str, Any] = {}
    if any(names):
        origin["type"] = names[0] if len(set(names)) == 1 else names
    status = response.get("status", 200)
    if type(status) is not int or not 100 <= status <= 999:
        raise RecordingFormatError(f"response: {status!r} is not a status")
    if shape in ("tool", "file"):
        return _answer(200, compact_json({"value": values if listed else values[0]})), origin
    if streaming and body and all(isinstance(item, str) for item in body):
        origin["form"] = "lines"
        return _answer(status, "".join(line + "\n" for line in body).encode("utf-8", "replace"), _SSE), origin
    headers: tuple[tuple[str, str], ...] = ()
    if shape == "google":
        values, headers = _to_google(values, origin)
    if streaming:
        kind = _NDJSON if names and names[0] in _OLLAMA else _SSE
        return _answer(status, _stream(values, kind, done=shape != "google"), kind), origin
    if listed and all(name == _MODEL for name in names):
        origin["form"] = "models"
        data = compact_json({"object": "list", "data": values})
    else:
        data = compact_json(values if listed else values[0])
    return Answer(status, headers or (("content-type", _JSON),), data), origin


def _answer(status: int, data: bytes, kind: str = _JSON) -> Answer:
    return Answer(status, (("content-type", kind),), data)


def _failure(response: Mapping[str, Any]) -> tuple[Answer, dict[str, Any]]:
    data = response.get("exception_data")
    fields = dict(data) if isinstance(data, dict) else {}
    message = str(fields.pop("message", response.get("exception_message", "")))
    timeout = "Timeout" in str(fields.get("type", ""))
    status, body = fields.pop("status_code", None), fields.pop("body", None)
    # Without the fields that come back from the take itself.
    origin: dict[str, Any] = {"exception": fields}
    if type(status) is int and 400 <= status <= 599 and not response.get("body"):
        if isinstance(body, str):
            fields["wrapped"] = "text"
            return _answer(status, body.encode("utf-8", "replace"), "text/plain"), origin
        if body is None:
            fields["wrapped"], body = "message", {"error": {"message": message}}
        elif message == f"Error code: {status} - {body!r}":
            fields["wrapped"] = "bare"
        else:
            fields["wrapped"], body = "error", {"error": body}
        return _answer(status, compact_json(body)), origin
    if type(status) is int:
        fields["status_code"] = status
    if body is not None:
        fields["body"] = body
    if not response.get("body"):
        return Answer(None, error={"type": "ReadTimeout" if timeout else "ConnectError", "message": message}), origin
    # It failed in the middle of a stream, of which the first part is there.
    error = {"type": "ReadTimeout" if timeout else "ReadError", "message": message}
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
    return (name, item["__data__"]) if item.keys() == {"__type__", "__data__"} else (None, item)


def _to_google(values: list[Any], origin: dict[str, Any]) -> tuple[list[Any], tuple[tuple[str, str], ...]]:
    """Return answers of google-genai as they were sent, and their headers; the SDK's own fields go to `origin`."""
    own = [{name: value[name] for name in _SDK_FIELDS if name in value} for value in values if isinstance(value, dict)]
    if not values or len(own) != len(values):
        return values, ()
    sent = [{name: item for name, item in value.items() if name not in _SDK_FIELDS} for value in values]
    wire = google_genai.to_wire(sent)
    if google_genai.from_wire(wire) != sent:
        origin["answer_as_it_was"], wire = True, sent
    if any(own):
        origin["sdk"] = own[0] if all(item == own[0] for item in own) else own
    match own[0].get("sdk_http_response"):
        case {"headers": dict(headers)}:
            return wire, tuple((str(name), str(item)) for name, item in headers.items())
    return wire, ()


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
    plain = values if origin.get("answer_as_it_was") else google_genai.from_wire(values)
    return [{**own, **value} for own, value in _pairs(origin.get("sdk", {}), plain, "SDK fields")]


def _wrap(values: list[Any], origin: Mapping[str, Any]) -> list[Any]:
    pairs = _pairs(origin.get("type"), values, "classes")
    return [value if name is None else {"__type__": name, "__data__": value} for name, value in pairs]


def _pairs(own: Any, values: list[Any], what: str) -> Iterator[tuple[Any, Any]]:
    """Return each value with the field of llama-stack's that is its own; one that is not a list is every value's."""
    each = own if isinstance(own, list) else [own] * len(values)
    if len(each) != len(values):
        raise RecordingFormatError(f"the {what} that it keeps are not one per chunk")
    return zip(each, values, strict=True)


def _exception(shape: str, take: Take, origin: Mapping[str, Any]) -> dict[str, Any]:
    exception = dict(origin["exception"])
    wrapped = exception.pop("wrapped", None)
    fields = {name: exception.pop(name) for name in ("status_code", "body") if name in exception}
    has_start = take.status is not None and take.error is not None
    if wrapped is None:
        message = (take.error or {}).get("message", "")
    else:
        fields, text = {"status_code": take.status}, take.body.data().decode("utf-8")
        body: Any = text if wrapped == "text" else json.loads(text)
        message = f"Error code: {take.status} - {body!r}"
        if wrapped == "message":
            message = str(body["error"]["message"])
        elif wrapped == "text":
            message, fields["body"] = text or f"Error code: {take.status}", text
        else:
            fields["body"] = body["error"] if wrapped == "error" else body
    return {
        "body": _body(shape, take, origin) if has_start else None,
        "is_streaming": has_start,
        "is_exception": True,
        "exception_data": {**exception, "message": message, **fields},
        "exception_message": message,
    }
