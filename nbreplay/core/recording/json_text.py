"""JSON text: read, and written in the styles that servers use, such that the same bytes come back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from pydantic_core import to_json

from nbreplay.errors import RecordingFormatError

Encode = Callable[[Any], str]
JsonValue = dict[str, "JsonValue"] | list["JsonValue"] | str | int | float | bool | None
"""Data of JSON."""

TOO_DEEP = "the JSON is nested too deeply"
_DEEPEST = 200  # levels; what is nested deeper could not be read back from deep in a program
_LONG_NUMBER = re.compile(rb"[0-9]{4301}")
_ODD_NUMBER = re.compile(rb"\de[-\d]|0\.0000|Infinity|NaN")
_ODD_POWERS = to_json(1e16) != b"1e+16"  # before pydantic 2.13


def _encoder(item: str = ", ", key: str = ": ", *, ascii_only: bool = False, indent: int | None = None) -> Encode:
    return json.JSONEncoder(
        ensure_ascii=ascii_only, check_circular=False, allow_nan=False, indent=indent, separators=(item, key)
    ).encode


_encode_compact = _encoder(",", ":")


def _compact(value: Any) -> str:
    """Write JSON as `_encode_compact` does, at a third of the cost."""
    try:
        data = to_json(value)
    except ValueError:  # half of a surrogate pair, or nested deeply
        return _encode_compact(value)
    # pydantic writes tiny and infinite numbers in another way, and old versions huge ones. `in` is much faster than a
    # search.
    is_odd = _ODD_POWERS or b"e-" in data or b"0.0000" in data or b"Infinity" in data or b"NaN" in data
    if is_odd and _ODD_NUMBER.search(data):
        return _encode_compact(value)
    return data.decode("utf-8")


STYLES: Mapping[str, Encode] = {
    "compact": _compact,
    "spaced": _encoder(),
    "compact-ascii": _encoder(",", ":", ascii_only=True),
    "spaced-ascii": _encoder(ascii_only=True),
    "indent": _encoder(",", indent=2),
    "indent-ascii": _encoder(",", ascii_only=True, indent=2),
}
"""The ways in which servers write JSON; most write the first. A body in none of them is kept as text."""


def encode_json(value: Any, style: str = "compact") -> str:
    """Return JSON text in one of the `STYLES`. Raise ValueError if it holds an infinite number or NaN."""
    return STYLES[style](value)


def is_written_as(value: Any, text: str, style: str) -> bool:
    """Tell whether encoding `value`, which was read from `text`, gives this very text."""
    try:
        return encode_json(value, style) == text
    except (ValueError, RecursionError):
        return False


def are_written_as(values: Sequence[Any], texts: Sequence[str], style: str) -> bool:
    """As `is_written_as` for several texts at once, each of which was read by itself; takes half the time."""
    comma = ", " if style.startswith("spaced") else ","
    return is_written_as(values, f"[{comma.join(texts)}]", style)


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


_decode = json.JSONDecoder(parse_constant=_refuse).decode


def parse_json(data: bytes | str) -> JsonValue:
    """Return the data of JSON in UTF-8. Raise ValueError or RecursionError if it is not, as with NaN and Infinity."""
    try:
        value: JsonValue = msgspec.json.decode(data)
    except msgspec.MsgspecError:  # it may hold what msgspec refuses, such as half of a surrogate pair
        value = _decode(data if isinstance(data, str) else data.decode("utf-8"))
    return value


def parse_object(text: str | None) -> dict[str, Any] | None:
    """Return the JSON object that a text holds, or None. Surrogate escapes may be in it."""
    if not text or text.lstrip(" ")[:1] != "{":
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def parse_stored(text: msgspec.Raw) -> JsonValue:
    """Return the data of JSON in a recording. Raise RecordingFormatError if it is too deep, or a number is too long."""
    data = bytes(text)
    try:
        value = parse_json(data)
    except RecursionError:
        raise RecordingFormatError(TOO_DEEP) from None
    except ValueError as error:  # its syntax has been checked already
        raise RecordingFormatError(f"the JSON cannot be read ({error})") from None
    if is_too_deep(value, data):
        raise RecordingFormatError(TOO_DEEP)
    return value


def dicts(value: Any) -> list[dict[str, Any]]:
    """Return the objects in a list; of anything else, none."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def has_long_number(text: msgspec.Raw) -> bool:
    """Tell whether JSON text holds a number of more digits than Python reads."""
    if len(data := bytes(text)) <= 4300:
        return False
    # A number of 4,301 digits fills one of these windows. Looking at them is much faster than searching.
    return any(data[at : at + 64].isdigit() for at in range(0, len(data), 2048)) and bool(_LONG_NUMBER.search(data))


def may_be_unreadable(text: msgspec.Raw) -> bool:
    """Tell whether `parse_stored` may refuse JSON text whose syntax is right."""
    data = bytes(text)
    if len(data) <= _DEEPEST:
        return False
    return _has_many_brackets(data) or (len(data) > 4300 and has_long_number(text))


def is_deep(value: Any, data: bytes) -> bool:
    """Tell whether JSON data, which came as `data`, is nested so deeply that it is better kept as text."""
    return _has_many_brackets(data) and _is_deeper(value, _DEEPEST)


def is_too_deep(value: Any, data: bytes | None = None) -> bool:
    """Tell whether JSON data, which came as `data`, is nested more deeply than a recording may be.

    The limit is a few levels above that of `is_deep`, since a recording nests a body in objects of its own.
    """
    return (data is None or _has_many_brackets(data)) and _is_deeper(value, _DEEPEST + 8)


def _has_many_brackets(data: bytes) -> bool:
    return data.count(b"[") + data.count(b"{") > _DEEPEST


def _is_deeper(value: Any, levels: int) -> bool:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return items is not None and (levels == 0 or any(_is_deeper(item, levels - 1) for item in items))
