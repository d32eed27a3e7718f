"""VCR cassettes (of vcrpy, cassetter and pydantic-ai's serializer; YAML, JSON, TOML): imported into a store.

An interaction is stored as if it came over the wire now: without its secrets, its bodies decoded. A body has one of
these forms, and any other is an error that names the interaction and the field:

- ``body``: text, bytes, null, or pieces of those in a list;
- ``body: {string: …}`` or ``{base64_string: …}``, either with an ``encoding``;
- ``body: {type: json|text|binary|none, content: …}``, or ``body_type`` and ``body_content``: cassetter's;
- ``content``: text or bytes, as vcrpy 4 wrote an answer of httpx;
- ``parsed_body``: JSON data, as pydantic-ai's serializer and cassetter read it. Its original bytes are not in the
  file: it is stored as JSON written compactly;
- a mapping or a list as a request's ``body``: JSON, as vcrpy writes what aiohttp was given.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections import Counter
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nbreplay.core.cell import utc
from nbreplay.core.log import Log
from nbreplay.core.recording.take import Take
from nbreplay.core.request.request import Call, Request
from nbreplay.errors import NbreplayError, RecordingFormatError
from nbreplay.formats.cassettes import cassette_of
from nbreplay.formats.content_encoding import decoded
from nbreplay.formats.foreign_files import refused
from nbreplay.formats.importer import Contents
from nbreplay.formats.synthetic_take import Answer, header_pairs, taken

__all__ = ["parsed"]

_PORTS = {"http": ":80", "https": ":443"}
# Lists of cassetter's that stand beside the one of HTTP interactions.
_OTHER_LISTS = {"ws_interactions": "websocket session", "grpc_interactions": "gRPC call"}
# Fields of interactions of pydantic-ai's that are calls of xAI's SDK.
_GRPC = ("request_sample", "request_stream", "collections_method")
# Fields of a request or an answer; any other may be a body of an unknown form.
_KNOWN = {"adapter_metadata", "body", "body_type", "content", "cookies", "headers", "http_version", "method"}
_KNOWN |= {"parsed_body", "protocol", "reason", "reason_phrase", "recorded_at", "status", "status_code"}
_KNOWN |= {"uri", "url", "version"}
_TEXT_ENCODINGS = {"": "utf-8", "utf-8": "utf-8", "us-ascii": "ascii", "ascii": "ascii", "iso-8859-1": "latin-1"}
_TEXT_ENCODINGS |= {"utf8": "utf-8", "latin-1": "latin-1", "ascii-8bit": "utf-8"}  # the last is Ruby's


def parsed(path: Path, root: Path) -> Contents:
    """Return the interactions of a file below `root`, or of `root` itself.

    A file with a faulty interaction is not imported at all: ids of its answers are part of later requests' keys.

    Raises
    ------
    RecordingFormatError, UnsafeRecordingError
        Where it cannot be read; the message names it.
    """
    data = cassette_of(path)
    scope = path.stem if path == root else path.relative_to(root).with_suffix("").as_posix()
    unsupported: Counter[str] = Counter()
    for name, value in data.items():
        if value and name != "interactions" and str(name).endswith("interactions"):
            if name not in _OTHER_LISTS or not isinstance(value, list):
                raise refused(path, f"the field {name!r} is unknown, or not a list")
            unsupported[_OTHER_LISTS[name]] += len(value)
    interactions = len(data["interactions"]) + unsupported.total()
    log = Log()
    takes: list[tuple[Request, Take]] = []
    for number, item in enumerate(data["interactions"], 1):
        other = _unsupported(item)
        if other:
            unsupported[other] += 1
            continue
        try:
            request, take = _interaction(item, scope, log.issued)
        except RecursionError:
            return Contents(interactions, error=refused(path, f"interaction {number} is nested too deeply"))
        except (NbreplayError, ValueError, TypeError) as error:
            kind = type(error) if isinstance(error, RecordingFormatError) else RecordingFormatError
            return Contents(interactions, error=refused(path, f"interaction {number}: {error}", kind))
        # In a later request of the cassette, such as one with previous_response_id, an id stands for its issuer.
        log.note(request, take)
        takes.append((request, take))
    return Contents(interactions, takes, unsupported)


def _unsupported(item: Mapping[str, Any]) -> str:
    """Return the kind of an interaction that is known not to be HTTP; ``""`` for any other."""
    if "request" in item or "response" in item:
        return ""
    if item.get("direction") in ("sent", "received") or item.get("kind") == "close":
        return "websocket message"
    return "gRPC call" if any(name in item for name in _GRPC) else ""


def _interaction(item: Mapping[str, Any], scope: str, issued: Mapping[str, str]) -> tuple[Request, Take]:
    asked, answered = item.get("request"), item.get("response")
    if not isinstance(asked, dict) or not isinstance(answered, dict):
        raise RecordingFormatError("it has no 'request' and 'response'")
    uri = asked.get("uri")
    if not isinstance(uri, str):
        raise RecordingFormatError("its request has no 'uri'")
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2].removesuffix(_PORTS.get(parts.scheme, "\0"))
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    method = asked.get("method", "GET")
    if not isinstance(method, str):
        raise RecordingFormatError("its request has a 'method' that is not text")
    method = method.upper()
    sent = _headers(asked.get("headers"))
    call = Call(method, host, target, "", _body(asked, "request", ()), header_pairs(sent))
    received = _headers(answered.get("headers"))
    code = answered.get("status_code", answered.get("status"))
    if isinstance(code, dict):
        code = code.get("code")
    if type(code) is not int or not 100 <= code <= 999:
        raise RecordingFormatError(f"its response has the status {code!r}")
    data = _body(answered, "response", received)
    # They are about the bytes that went over the wire. Only the length of what HEAD leaves out says more.
    untrue = {"content-encoding", "transfer-encoding"} | (set() if method == "HEAD" else {"content-length"})
    headers = tuple((name, value) for name, value in received if name.lower() not in untrue)
    answer = Answer(code, headers, data)
    return taken(call, answer, recorded_at=_when(item, received), extra={"scope": scope}, issued=issued)


def _headers(given: Any) -> list[tuple[str, str]]:
    """Return headers as pairs, from any of the ways in which cassettes write them."""
    if given is None:
        return []
    if not isinstance(given, dict | list | tuple):
        raise RecordingFormatError(f"its headers are of an unknown form ({_shape(given)})")
    pairs = given.items() if isinstance(given, dict) else given
    made = []
    for name, value in pairs:
        values = value if isinstance(value, list | tuple) else [value]
        made += [(_text(name), _text(one)) for one in values]
    return made


def _text(value: Any) -> str:
    if not isinstance(value, str | bytes | int | float):
        raise RecordingFormatError(f"it has a header of an unknown form ({_shape(value)})")
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _body(side: Mapping[str, Any], name: str, headers: list[tuple[str, str]] | tuple[()]) -> bytes:
    """Return the body of a request or an answer, without the encodings that `headers` name."""
    try:
        bodies = [decoded(_data(side.get(field), name), headers) for field in ("body", "content")]
        if "body_type" in side:  # cassetter's TOML
            kind, content = side["body_type"], side.get("body_content")
            bodies.append(_typed(kind, json.loads(content) if kind == "json" and isinstance(content, str) else content))
        bodies = [body for body in bodies if body]
        if len(bodies) > 1:
            raise RecordingFormatError("more than one body")
        data = bodies[0] if bodies else b""
        if side.get("parsed_body") is not None:
            return _parsed(side["parsed_body"], data)
    except RecordingFormatError as error:
        raise type(error)(f"its {name} has {error}") from None
    if not data:
        for field, value in side.items():
            if field not in _KNOWN and isinstance(value, str | bytes | dict | list) and value:
                raise RecordingFormatError(f"its {name} has no known body, but a field {field!r} that may be one")
    return data


def _data(body: Any, name: str) -> bytes:
    """Return the bytes of a body, from any of the ways in which cassettes write one."""
    if isinstance(body, dict):
        fields = body.keys() - {"encoding"}
        if not fields:
            return b""
        if fields <= {"type", "content"} and "type" in fields:  # cassetter's
            return _typed(body["type"], body.get("content"))
        if fields == {"base64_string"}:
            return _unpacked(partial(base64.b64decode, validate=True), body["base64_string"])
        if fields == {"string"}:
            encoding = str(body.get("encoding") or "").lower()
            if encoding not in _TEXT_ENCODINGS:
                raise RecordingFormatError(f"a body in an unknown encoding {encoding!r}")
            return _piece(body["string"], _TEXT_ENCODINGS[encoding])
    elif isinstance(body, list | tuple):
        if all(isinstance(piece, str | bytes) for piece in body):  # sent piece by piece
            return b"".join(map(_piece, body))
    else:
        return _piece(body)
    if name == "request":
        return _json(body, "body")
    raise RecordingFormatError(f"a body of an unknown form ({_shape(body)})")


def _piece(value: Any, encoding: str = "utf-8") -> bytes:
    if value is None:
        return b""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        try:
            return value.encode(encoding, "surrogatepass" if encoding == "utf-8" else "strict")
        except UnicodeEncodeError as error:
            raise RecordingFormatError(f"a body that its encoding cannot write ({error})") from None
    raise RecordingFormatError(f"a body of an unknown form ({_shape(value)})")


def _shape(value: Any) -> str:
    if isinstance(value, dict):
        return f"a mapping with {', '.join(repr(key)[:40] for key in list(value)[:5])}"
    return "a list" if isinstance(value, list | tuple) else f"{type(value).__name__} {str(value)[:40]!r}"


def _parsed(given: Any, data: bytes) -> bytes:
    """Return the bytes of a ``parsed_body``: those of the body beside it, where there is one of the same content."""
    made = _json(given, "parsed_body")
    if not data:
        return made
    try:
        if json.dumps(json.loads(data), sort_keys=True) == json.dumps(given, sort_keys=True):
            return data
    except ValueError:
        pass
    raise RecordingFormatError("both a body and a parsed_body, and they differ")


def _json(value: Any, field: str) -> bytes:
    """Return data as JSON written compactly.

    Raises
    ------
    RecordingFormatError
        Where it holds what JSON cannot: YAML's dates, bytes and sets, names that are not text.
    """
    _check_json(value, field)
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        try:
            return text.encode()
        except UnicodeEncodeError:  # half of a surrogate pair
            return json.dumps(value, separators=(",", ":")).encode("ascii")
    except ValueError as error:
        raise RecordingFormatError(f"a {field} that cannot be written as JSON ({error})") from None


def _check_json(value: Any, field: str) -> None:
    if isinstance(value, dict):
        for name, item in value.items():
            if not isinstance(name, str):
                raise RecordingFormatError(f"a {field} that is not JSON: it has the name {name!r}, which is not text")
            _check_json(item, field)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_json(item, field)
    elif value is not None and not isinstance(value, str | int | float):
        raise RecordingFormatError(f"a {field} that is not JSON: it has a value of type {type(value).__name__}")


def _typed(kind: Any, content: Any) -> bytes:
    if kind == "json":
        return _json(content, "body")
    if kind == "none" and content is None:
        return b""
    if kind == "text" and isinstance(content, str):
        return _piece(content)
    if kind == "binary":
        return content if isinstance(content, bytes) else _unpacked(bytes.fromhex, content)
    raise RecordingFormatError(f"a body of an unknown type {str(kind)[:40]!r}, or of another type than its content")


def _unpacked(decode: Callable[[Any], bytes], content: Any) -> bytes:
    try:
        return decode(content)
    except (TypeError, ValueError, binascii.Error) as error:
        raise RecordingFormatError(f"a binary body that cannot be decoded ({error})") from None


def _when(item: Mapping[str, Any], headers: list[tuple[str, str]]) -> str:
    """Return when an interaction was recorded, where the cassette or the server says so; else ``""``."""
    told = item.get("recorded_at")
    if isinstance(told, str):
        return told
    if told is not None and hasattr(told, "isoformat"):  # YAML has times of its own
        return str(told.isoformat()).replace("+00:00", "Z")
    date = next((value for name, value in headers if name.lower() == "date"), "")
    try:
        return utc(parsedate_to_datetime(date).timestamp())
    except (ValueError, TypeError, OverflowError):
        return ""
