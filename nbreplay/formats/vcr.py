"""VCR cassettes (vcrpy's and cassetter's; YAML, JSON, TOML): reading them, and importing them into a store.

What a cassette holds is taken down as if it came over the wire now: without its secrets, its bodies decoded.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nbreplay.core.cell import utc
from nbreplay.core.log import Log
from nbreplay.core.request import Call, Request
from nbreplay.core.take import Take
from nbreplay.errors import RecordingFormatError
from nbreplay.formats.cassettes import cassette_of
from nbreplay.formats.encodings import decoded
from nbreplay.formats.gathering import refused
from nbreplay.formats.taking import Answer, header_pairs, taken

__all__ = ["parsed"]

_PORTS = {"http": ":80", "https": ":443"}
_ELSEWHERE = ("grpc_interactions", "ws_interactions")


def parsed(path: Path, root: Path) -> list[tuple[Request, Take]]:
    """Return what a file below `root` holds, or `root` itself.

    Raises
    ------
    RecordingFormatError, UnsafeRecordingError
        Where it cannot be read; the message names it.
    """
    data = cassette_of(path)
    scope = (path if path == root else path.relative_to(root)).with_suffix("").as_posix()
    scope = scope if path != root else path.stem
    for name in _ELSEWHERE:
        if data.get(name):
            raise refused(path, f"it has {name}, and nbreplay records HTTP only: remove them from it")
    log = Log()
    found: list[tuple[Request, Take]] = []
    for item in data["interactions"]:
        try:
            request, take = _interaction(item, scope, log.issued)
        except RecordingFormatError as error:
            raise refused(path, f"interaction {len(found) + 1}: {error}", type(error)) from None
        # In a later request of the cassette, such as one with previous_response_id, an id stands for its issuer.
        log.note(request, take)
        found.append((request, take))
    return found


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
    method = str(asked.get("method", "GET")).upper()
    sent = _headers(asked.get("headers"))
    call = Call(method, host, target, "", _data(asked.get("body"), asked), header_pairs(sent))
    received = _headers(answered.get("headers"))
    code = answered.get("status_code", answered.get("status"))
    if isinstance(code, dict):
        code = code.get("code")
    if type(code) is not int or not 100 <= code <= 999:
        raise RecordingFormatError(f"its response has the status {code!r}")
    data = decoded(_data(answered.get("body", answered.get("content")), answered), received)
    extra = {"scope": scope}
    answer = Answer(code, tuple(received), data)
    return taken(call, answer, recorded_at=_when(item, received), extra=extra, issued=issued)


def _headers(given: Any) -> list[tuple[str, str]]:
    """Return headers as pairs, from any of the ways in which cassettes write them."""
    if given is None:
        return []
    pairs = given.items() if isinstance(given, dict) else given
    made = []
    for name, value in pairs:
        values = value if isinstance(value, list | tuple) else [value]
        made += [(_text(name), _text(one)) for one in values]
    return made


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _data(body: Any, holder: Mapping[str, Any]) -> bytes:
    """Return the bytes of a body, from any of the ways in which cassettes write one."""
    if "body_type" in holder:  # cassetter's TOML
        kind, content = holder["body_type"], holder.get("body_content")
        return _typed(kind, json.loads(content) if kind == "json" and isinstance(content, str) else content)
    if isinstance(body, dict):
        if "type" in body and body.keys() <= {"type", "content"}:  # cassetter's
            return _typed(body["type"], body.get("content"))
        if "base64_string" in body:
            return _unpacked(partial(base64.b64decode, validate=True), body["base64_string"])
        if "string" in body:
            body = body["string"]
        elif not body:
            return b""
        else:  # a request's form or JSON, as filters of vcrpy's leave it
            return json.dumps(body).encode("ascii")
    if isinstance(body, list | tuple):  # what was sent piece by piece
        return b"".join(_data(piece, {}) for piece in body)
    if body is None:
        return b""
    if isinstance(body, bytes):
        return body
    if isinstance(body, str):
        return body.encode("utf-8", "surrogatepass")
    raise RecordingFormatError(f"it has a body that is neither text nor bytes, but {type(body).__name__}")


def _typed(kind: Any, content: Any) -> bytes:
    if kind == "none" or content is None:
        return b"null" if kind == "json" else b""
    if kind == "json":
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    if kind == "text" and isinstance(content, str):
        return content.encode("utf-8", "surrogatepass")
    if kind == "binary":
        return content if isinstance(content, bytes) else _unpacked(bytes.fromhex, content)
    raise RecordingFormatError(f"it has a body of a type {kind!r} that is not known")


def _unpacked(decode: Any, content: Any) -> bytes:
    try:
        made: bytes = decode(content)
    except (TypeError, ValueError, binascii.Error) as error:
        raise RecordingFormatError(f"it has a binary body that cannot be decoded ({error})") from None
    return made


def _when(item: Mapping[str, Any], headers: list[tuple[str, str]]) -> str:
    """Return when an interaction was recorded, where the cassette or the server says; ``""`` where neither does."""
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
