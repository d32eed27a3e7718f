"""The full dump of what an SDK returned: every field of every object, as plain data that can be compared.

What it does not know it refuses, so that nothing is left out unseen.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import uuid
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

__all__ = ["HEADERS", "dump", "headers_of"]

HEADERS = (
    *("content-type", "content-disposition", "location", "x-request-id", "request-id", "retry-after"),
    *("openai-processing-ms", "mcp-session-id", "x-ratelimit-remaining-requests"),
)
"""The response headers that are compared: those that SDKs read and that say nothing of the framing of the body."""

# What is the machinery of an SDK and not what it says: clients, casts, requests to go on with.
_MACHINERY = frozenset(
    {"_client", "_options", "_model", "_cast_to", "_stream", "_stream_cls", "_parsed_by_type", "_retries_taken_cls"}
)
_PLAIN = (str, bytes, int, float, bool, type(None), decimal.Decimal, uuid.UUID, datetime.date, datetime.timedelta)


def headers_of(headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return those headers of an answer that must be there again in a replay."""
    pairs = headers.items() if hasattr(headers, "items") else headers
    named = {str(name).lower(): str(value) for name, value in pairs}
    return {name: named[name] for name in HEADERS if name in named}


def dump(value: Any) -> Any:
    """Return all that `value` holds.

    Raises
    ------
    TypeError
        For an object that nobody has said how to look into.
    """
    name = _name(type(value))
    if isinstance(value, enum.Enum):
        return {"enum": name, "value": value.value}
    if isinstance(value, _PLAIN):
        return value if type(value) in _PLAIN else {"class": name, "value": repr(value)}
    if isinstance(value, BaseModel):
        return {"class": name, "set": sorted(value.model_fields_set), **_model(value)}
    if isinstance(value, BaseException):
        return {"class": name, **_error(value)}
    if name.endswith(".Headers") or name == "multidict.CIMultiDictProxy":
        return headers_of(value)
    if isinstance(value, Mapping | MappingProxyType):
        return {str(key): dump(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return {"set": sorted(map(repr, value))}
    if isinstance(value, list | tuple):
        return [dump(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {"class": name, **_members(fields)}
    if isinstance(value, type):
        return {"type": _name(value)}
    if hasattr(value, "status_code") and hasattr(value, "headers"):
        return {"class": name, **_response(value)}
    if hasattr(value, "method") and hasattr(value, "url"):
        return {"class": name, "method": value.method}
    raise TypeError(f"say in tests/sdks/dump.py how to look into a {name}: {value!r}")


def _name(kind: type) -> str:
    return f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}"


def _model(value: BaseModel) -> dict[str, Any]:
    private = value.__pydantic_private__ or {}
    extra = value.__pydantic_extra__ or {}
    return {"fields": _members(value.__dict__), "extra": _members(extra), "private": _members(private)}


def _error(value: BaseException) -> dict[str, Any]:
    members, text = dict(vars(value)), str(value)
    headers = members.get("headers")
    if isinstance(headers, Mapping):  # some errors show them all
        text = text.replace(str(headers), str(headers_of(headers)))
    return {"text": text, **_members(members)}


def _members(fields: Mapping[str, Any]) -> dict[str, Any]:
    made = {name: dump(value) for name, value in fields.items() if name not in _MACHINERY}
    if isinstance(fields.get("headers"), Mapping):
        made["headers"] = headers_of(fields["headers"])
    return made


def _response(value: Any) -> dict[str, Any]:
    """A response of httpx, httpx2 or requests, or of an SDK around one."""
    made = {"status": value.status_code, "headers": headers_of(value.headers)}
    for name in ("reason_phrase", "reason", "http_version", "encoding"):
        if isinstance(getattr(value, name, None), str):
            made[name] = getattr(value, name)
    try:
        content = value.content
    except Exception as error:  # a stream that was not read has no content, and each library says so its own way
        return {**made, "unread": type(error).__name__}
    return {**made, "content": content} if isinstance(content, bytes) else made
