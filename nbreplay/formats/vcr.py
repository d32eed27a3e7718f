"""VCR cassettes (of vcrpy, cassetter and pydantic-ai; YAML, JSON, TOML): imported into a store.

An interaction is stored as if it came over the wire now: without its secrets, its bodies decoded. A body has one of
these forms, and any other is an error that names the interaction and the field:

- ``body``: text, bytes, null, or pieces of those in a list;
- ``body: {string: …}`` or ``{base64_string: …}``, either with an ``encoding``;
- ``body: {type: json|text|binary|none, content: …}``, or ``body_type`` and ``body_content``: cassetter's;
- ``content``: text or bytes, as vcrpy 4 wrote an answer of httpx;
- ``parsed_body``: JSON data, as pydantic-ai's serializer and cassetter read it. Its original bytes are not in the
  file: it is stored as JSON written compactly;
- a mapping or a list as a request's ``body``: JSON, as vcrpy writes the body of an aiohttp call.

Messages of websockets are read by `nbreplay.formats.cassette_websockets`.
"""

from __future__ import annotations

import base64
import contextlib
import importlib
import json
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nbreplay.core.cell import utc
from nbreplay.core.log import Log
from nbreplay.core.recording.body import decode_content
from nbreplay.core.recording.take import Take
from nbreplay.core.request.request import Call, Request
from nbreplay.errors import NbreplayError, RecordingFormatError, UnsafeRecordingError
from nbreplay.formats import cassette_websockets
from nbreplay.formats.cassette_websockets import WebSocketSession
from nbreplay.formats.importer import (
    Answer,
    Contents,
    header_pairs,
    import_error,
    json_data,
    load_json,
    read_text,
    record_answer,
)

_PORTS = {"http": ":80", "https": ":443"}
# Lists of cassetter's beside the one of HTTP interactions.
_OTHER_LISTS = {"ws_interactions": "websocket session of cassetter", "grpc_interactions": "gRPC call"}
# Fields of pydantic-ai's interactions that are calls of xAI's SDK.
_GRPC = ("request_sample", "request_stream", "collections_method")
# Known fields of a request or a response; any other may be a body that has an unknown form.
_NOT_BODIES = (
    *("adapter_metadata", "body", "body_type", "content", "cookies", "headers", "http_version", "method"),
    *("parsed_body", "protocol", "reason", "reason_phrase", "recorded_at", "status", "status_code"),
    *("uri", "url", "version"),
)
_CHARSETS = {"": "utf-8", "utf-8": "utf-8", "utf8": "utf-8", "us-ascii": "ascii", "ascii": "ascii"}
_CHARSETS |= {"iso-8859-1": "latin-1", "latin-1": "latin-1", "ascii-8bit": "utf-8"}  # the last is Ruby's
_MOST = 5_000_000  # values; YAML lets a short file stand for any number of them
_CHARACTERS = 64  # as many in a text count as one value more
_DEEPEST = 200


def read_cassette(path: Path, root: Path, url: str = "") -> Contents:
    """Return the interactions of a file below `root`, or of `root` itself; `url` is the address of its websockets.

    A file with a faulty interaction is not imported at all: ids of its answers are part of later requests' keys.
    """
    data = _load(path)
    scope = path.stem if path == root else path.relative_to(root).with_suffix("").as_posix()
    unsupported: Counter[str] = Counter()
    for name, value in data.items():
        if value and name != "interactions" and str(name).endswith("interactions"):
            if name not in _OTHER_LISTS or not isinstance(value, list):
                raise import_error(path, f"the field {name!r} is unknown, or not a list")
            unsupported[_OTHER_LISTS[name]] += len(value)
    items = list(enumerate(data["interactions"], 1))
    messages = [(number, item) for number, item in items if cassette_websockets.is_part(item)]
    sessions = {session.number: session for session in _read_sessions(path, messages)}
    count = len(items) - len(messages) + len(sessions) + unsupported.total()
    log = Log()
    takes: list[tuple[Request, Take]] = []
    for number, item in items:
        if cassette_websockets.is_part(item) and number not in sessions:
            continue
        if any(name in item for name in _GRPC) and not item.keys() & {"request", "response"}:
            unsupported["gRPC call"] += 1
            continue
        try:
            if session := sessions.get(number):
                takes.append(cassette_websockets.record_session(session, url, {"scope": scope}))
                continue
            request, take = _read_interaction(item, scope, log.issued)
        except (NbreplayError, ValueError, TypeError, RecursionError) as error:
            why = "nested too deeply" if isinstance(error, RecursionError) else error
            error_type = type(error) if isinstance(error, RecordingFormatError) else RecordingFormatError
            return Contents(count, error=import_error(path, f"interaction {number}: {why}", error_type))
        # In a later request of the cassette, such as one with previous_response_id, an id stands for its issuer.
        log.note(request, take)
        takes.append((request, take))
    assumed = Counter(request.fields["host"] for request, _ in takes if request.kind == "websocket" and not url)
    return Contents(count, takes, unsupported, assumed=assumed)


def _read_sessions(path: Path, messages: list[tuple[int, dict[str, Any]]]) -> list[WebSocketSession]:
    try:
        return list(cassette_websockets.read_sessions(messages))
    except RecordingFormatError as error:
        raise import_error(path, str(error)) from None


# Files


def _load(path: Path) -> dict[str, Any]:
    text = read_text(path)
    # cassetter writes YAML into any file that is not TOML; JSON is nearly always YAML, too, and read faster as JSON.
    if path.suffix != ".toml" and text.lstrip()[:1] in ("{", "["):
        data = load_json(path, text)
    else:
        try:
            data = tomllib.loads(text) if path.suffix == ".toml" else _load_yaml(path, text)
        except RecursionError:
            raise import_error(path, "nested too deeply") from None
        except ValueError as error:
            raise import_error(path, f"not TOML ({error})") from None
        _check_size(path, data, {})
    if isinstance(data, list) and data and isinstance(data[0], dict) and "request" in data[0]:
        raise import_error(path, "vcrpy before 1.0 wrote it. Run vcrpy's own migration first (python -m vcr.migration)")
    if not isinstance(data, dict) or not isinstance(data.get("interactions"), list):
        raise import_error(path, "not a VCR cassette, since it has no list of 'interactions'")
    version = data.get("version", 1)
    if version != 1 or isinstance(version, bool):
        raise import_error(path, f"unknown cassette version {version!r}; only version 1 can be read")
    if not all(isinstance(item, dict) for item in data["interactions"]):
        raise import_error(path, "an interaction is not a mapping")
    return data


def _load_yaml(path: Path, text: str) -> Any:
    try:
        yaml: Any = importlib.import_module("yaml")
    except ImportError:
        why = "reading YAML requires PyYAML. Run: pip install 'nbreplay[vcr]'"
        raise RecordingFormatError(f"{path} cannot be imported: {why}") from None

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """Refuses a mapping that has a key twice: the first value would be lost.

        It is PyYAML's loader in Python: the faster one in C dies of deep nesting.
        """

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            mapping = super().construct_mapping(node, deep)
            if len(mapping) < len(node.value):
                raise yaml.YAMLError(f"the mapping in line {node.start_mark.line + 1} has a key twice")
            return mapping

    try:
        if "<<" in text and any(getattr(event, "value", "") == "<<" and not event.style for event in yaml.parse(text)):
            raise import_error(path, "merged mappings ('<<') are not supported", UnsafeRecordingError)
        return yaml.load(text, Loader)
    except yaml.constructor.ConstructorError as error:
        raise import_error(path, f"not plain data ({error.problem or error})", UnsafeRecordingError) from None
    except (yaml.YAMLError, ValueError) as error:
        raise import_error(path, f"not YAML ({' '.join(str(error).split())[:200]})") from None


def _check_size(path: Path, node: Any, sizes: dict[int, int], depth: int = 0) -> int:
    """Return the number of values, those that an alias repeats counted each time."""
    if isinstance(node, str | bytes):
        return 1 + len(node) // _CHARACTERS
    if not isinstance(node, dict | list | tuple | set):
        return 1
    size = sizes.get(id(node), 0)
    if not size:
        if depth > _DEEPEST:
            # A mapping that contains itself by an alias is deep without end.
            raise import_error(path, "nested too deeply", UnsafeRecordingError)
        inner = (*node, *node.values()) if isinstance(node, dict) else node
        size = sizes[id(node)] = 1 + sum(_check_size(path, item, sizes, depth + 1) for item in inner)
    if size > _MOST:
        raise import_error(path, f"aliases expand to more than {_MOST} values", UnsafeRecordingError)
    return size


# Interactions


def _read_interaction(item: Mapping[str, Any], scope: str, issued: Mapping[str, str]) -> tuple[Request, Take]:
    request, response = item.get("request"), item.get("response")
    if not isinstance(request, dict) or not isinstance(response, dict):
        raise RecordingFormatError("'request' or 'response' is missing")
    uri, method = request.get("uri"), request.get("method", "GET")
    if not isinstance(uri, str) or not isinstance(method, str):
        raise RecordingFormatError("request: 'uri' or 'method' is not text")
    parts, method = urlsplit(uri), method.upper()
    host = parts.netloc.rpartition("@")[2].removesuffix(_PORTS.get(parts.scheme, "\0"))
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = header_pairs(_headers(request.get("headers")))
    call = Call(method, host, target, "", _body(request, "request", ()), headers)
    received = _headers(response.get("headers"))
    status = response.get("status_code", response.get("status"))
    if isinstance(status, dict):
        status = status.get("code")
    if type(status) is not int or not 100 <= status <= 999:
        raise RecordingFormatError(f"response: {status!r} is not a status")
    data = _body(response, "response", received)
    # They are about the bytes that went over the wire. Only the length that HEAD reports says more.
    untrue = {"content-encoding", "transfer-encoding"} | (set() if method == "HEAD" else {"content-length"})
    kept_headers = tuple((name, value) for name, value in received if name.lower() not in untrue)
    answer = Answer(status, kept_headers, data)
    return record_answer(call, answer, recorded_at=_time(item, received), extra={"scope": scope}, issued=issued)


def _headers(value: Any) -> list[tuple[str, str]]:
    """Return headers as pairs, from any of the ways in which cassettes write them."""
    if value is None:
        return []
    if not isinstance(value, dict | list | tuple):
        raise RecordingFormatError(f"headers have an unknown form ({_describe(value)})")
    pairs = []
    for name, values in value.items() if isinstance(value, dict) else value:
        pairs += [(_text(name), _text(one)) for one in (values if isinstance(values, list | tuple) else [values])]
    return pairs


def _text(value: Any) -> str:
    if not isinstance(value, str | bytes | int | float):
        raise RecordingFormatError(f"a header has an unknown form ({_describe(value)})")
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _time(item: Mapping[str, Any], headers: list[tuple[str, str]]) -> str:
    """Return when an interaction was recorded, as the cassette or the server says; ``""`` where neither does."""
    recorded_at = item.get("recorded_at")
    if isinstance(recorded_at, str):
        return recorded_at
    if recorded_at is not None and hasattr(recorded_at, "isoformat"):  # YAML has times of its own
        return str(recorded_at.isoformat()).replace("+00:00", "Z")
    date = next((value for name, value in headers if name.lower() == "date"), "")
    try:
        return utc(parsedate_to_datetime(date).timestamp())
    except (ValueError, TypeError, OverflowError):
        return ""


# Bodies


def _body(message: Mapping[str, Any], side: str, headers: list[tuple[str, str]] | tuple[()]) -> bytes:
    """Return the body of a request or a response, without the encodings that `headers` name."""
    try:
        encoding = ",".join(value for name, value in headers if name.lower() == "content-encoding")
        bodies = [decode_content(_data(message.get(field), side), encoding) for field in ("body", "content")]
        if "body_type" in message:  # cassetter's TOML
            kind, content = message["body_type"], message.get("body_content")
            content = json.loads(content) if kind == "json" and isinstance(content, str) else content
            bodies.append(_typed_data(kind, content))
        data, *others = [body for body in bodies if body] or [b""]
        if others:
            raise RecordingFormatError("more than one body")
        if message.get("parsed_body") is not None:
            return _parsed_data(message["parsed_body"], data)
    except RecordingFormatError as error:
        raise type(error)(f"{side}: {error}") from None
    if not data:
        for field, value in message.items():
            if field not in _NOT_BODIES and isinstance(value, str | bytes | dict | list) and value:
                raise RecordingFormatError(f"{side}: unknown field {field!r}, which may be its body")
    return data


def _data(body: Any, side: str) -> bytes:
    """Return the bytes of a body, from any of the ways in which cassettes write one."""
    if isinstance(body, dict):
        fields = body.keys() - {"encoding"}
        if not fields:
            return b""
        if fields <= {"type", "content"} and "type" in fields:  # cassetter's
            return _typed_data(body["type"], body.get("content"))
        if fields == {"base64_string"}:
            return _decode(partial(base64.b64decode, validate=True), body["base64_string"])
        if fields == {"string"}:
            encoding = str(body.get("encoding") or "").lower()
            if encoding not in _CHARSETS:
                raise RecordingFormatError(f"body has an unknown encoding {encoding!r}")
            return _encode(body["string"], _CHARSETS[encoding])
    elif isinstance(body, list | tuple):
        if all(isinstance(piece, str | bytes) for piece in body):  # sent piece by piece
            return b"".join(map(_encode, body))
    else:
        return _encode(body)
    if side == "request":
        return json_data(body, "body")
    raise RecordingFormatError(f"body has an unknown form ({_describe(body)})")


def _encode(value: Any, charset: str = "utf-8") -> bytes:
    if value is None:
        return b""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        try:
            return value.encode(charset, "surrogatepass" if charset == "utf-8" else "strict")
        except UnicodeEncodeError as error:
            raise RecordingFormatError(f"body does not fit its encoding ({error})") from None
    raise RecordingFormatError(f"body has an unknown form ({_describe(value)})")


def _decode(decode: Callable[[Any], bytes], content: Any) -> bytes:
    try:
        return decode(content)
    except (TypeError, ValueError) as error:
        raise RecordingFormatError(f"binary body cannot be decoded ({error})") from None


def _typed_data(kind: Any, content: Any) -> bytes:
    match kind, content:
        case "json", _:
            return json_data(content, "body")
        case "none", None:
            return b""
        case ("text", str()) | ("binary", bytes()):
            return _encode(content)
        case "binary", _:
            return _decode(bytes.fromhex, content)
    raise RecordingFormatError(f"unknown body type {str(kind)[:40]!r}, or content of another type")


def _parsed_data(value: Any, data: bytes) -> bytes:
    """Return the bytes of a ``parsed_body``: those of the body beside it, where there is one of the same content."""
    parsed = json_data(value, "parsed_body")
    if not data:
        return parsed
    with contextlib.suppress(ValueError):
        if json.dumps(json.loads(data), sort_keys=True) == json.dumps(value, sort_keys=True):
            return data
    raise RecordingFormatError("body and parsed_body differ")


def _describe(value: Any) -> str:
    if isinstance(value, dict):
        return f"a mapping with {', '.join(repr(key)[:40] for key in list(value)[:5])}"
    return "a list" if isinstance(value, list | tuple) else f"{type(value).__name__} {str(value)[:40]!r}"
