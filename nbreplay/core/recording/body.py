"""Bodies of answers: from bytes to what a recording stores, and back to the very same bytes.

A body is JSON (kept as data where re-encoding gives the same bytes), text, or a blob that lies in a
file of its own. Streams of events are in `nbreplay.core.recording.stream`.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Raw
from msgspec.json import format as _unspaced
from pydantic_core import to_json

from nbreplay.core.recording.blob import Blob
from nbreplay.core.recording.json_text import encoder
from nbreplay.core.secrets.patterns import finder
from nbreplay.errors import RecordingFormatError

__all__ = [
    "STYLES",
    "Blob",
    "Json",
    "Text",
    "compact",
    "encode_json",
    "from_json",
    "has_long_number",
    "inflated",
    "is_deep",
    "is_textual",
    "is_too_deep",
    "json_style",
    "plain_body",
    "rewritten",
]

LARGE = 1 << 20  # bytes; a larger body lies in a file of its own
_MOST_INFLATED = 256 << 20  # bytes; what grows beyond stays as it is
_DEEPEST = 200  # levels; what is nested deeper could not be read back from deep in a program
SHALLOW = 2 * _DEEPEST  # bytes; what is no longer cannot be so deep


# The ways in which servers write JSON; most write the first. A body in none of them is kept as text.
STYLES: Mapping[str, Callable[[Any], str]] = {
    "compact": encoder((",", ":"), allow_nan=False),
    "spaced": encoder((", ", ": "), allow_nan=False),
    "compact-ascii": encoder((",", ":"), ascii_only=True, allow_nan=False),
    "spaced-ascii": encoder((", ", ": "), ascii_only=True, allow_nan=False),
    "indent": encoder((",", ": "), indent=2, allow_nan=False),
    "indent-ascii": encoder((",", ": "), ascii_only=True, indent=2, allow_nan=False),
}


def encode_json(value: Any, style: str = "compact") -> str:
    """Return `value` as JSON text in one of the `STYLES`."""
    return STYLES[style](value)


def from_json(data: bytes) -> Any:
    """Return JSON data.

    Raises
    ------
    ValueError, RecursionError
        Where it is none; ``NaN`` and ``Infinity`` are none.
    """
    try:
        return _read(data)
    except msgspec.MsgspecError:
        return _decode(data.decode("utf-8"))  # it may still hold what that refuses, such as half of a surrogate pair


def read(text: Raw) -> Any:
    """Return the JSON data that a text in a file stands for.

    Raises
    ------
    RecordingFormatError
        Where it is nested too deeply, or holds a number that is too long.
    """
    data = bytes(text)
    try:
        value = from_json(data)
    except RecursionError:
        raise RecordingFormatError(TOO_DEEP) from None
    except ValueError as error:  # its syntax has been checked already
        raise RecordingFormatError(f"its JSON cannot be read ({error})") from None
    if is_too_deep(value, data):
        raise RecordingFormatError(TOO_DEEP)
    return value


def has_long_number(text: Raw) -> bool:
    """Tell whether JSON text may hold a number of more digits than Python reads."""
    data = bytes(text)
    # So many digits fill one of these windows, whatever is before and after them.
    return any(data[at : at + 64].isdigit() for at in range(0, len(data), 2048)) and bool(_LONG.search(data))


_LONG = re.compile(rb"[0-9]{4301}")
TOO_DEEP = "it is nested too deeply"


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


_read = msgspec.json.Decoder().decode
_decode = json.JSONDecoder(parse_constant=_refuse).decode


def compact(value: Any) -> bytes | None:
    """Return `value` as the ``compact`` style writes it, at a fifth of the cost; None where it may differ."""
    try:
        made = to_json(value)
    except ValueError:
        return None  # half of a surrogate pair
    # Floats near to zero are written in another way, and only they. Most texts have neither of the two signs of them.
    if (b"e-" in made or b"0.0000" in made) and _TINY.search(made):
        return None
    return made


_TINY = re.compile(rb"\de-\d|0\.0000")


def rewritten(value: Any) -> str:
    """Return what `from_json` has read as the ``compact`` style writes it, to be compared with what it was read from.

    That is all it is for: it takes less time than `compact`, and an infinite number is null in it.

    Raises
    ------
    ValueError
        Where it may be written in another way.
    """
    text = _write(value).decode("utf-8")
    # Very small and very large numbers are. What may be one is looked for much faster.
    if _maybe_odd(text) and _odd(text):
        raise ValueError("a very small or a very large number")
    return text


_write = msgspec.json.Encoder().encode
_maybe_odd = finder(r"[0-9]e[-0-9]|0\.0000")
_odd = finder(r"(?:^|[:,\[])-?(?:[0-9][0-9.]*e[-0-9]|0\.0000)")


def json_style(value: Any, text: str) -> str | None:
    """Return the style in which encoding `value` gives `text`, or None where there is none."""
    with contextlib.suppress(ValueError, RecursionError):
        if rewritten(value) == text:
            return "compact"
    for name, encode in STYLES.items():
        try:
            if encode(value) == text:
                return name
        except ValueError:
            return None
    return None


def inflated(data: bytes, encoding: str) -> bytes:
    """Return what compressed bytes say, as far as they tell; themselves where nothing here can read them."""
    for bits in (47, -15):  # gzip or zlib by its head, or bare deflate
        if encoding.strip().lower() in ("gzip", "x-gzip", "deflate"):
            with contextlib.suppress(zlib.error):
                decompressor = zlib.decompressobj(bits)
                made = decompressor.decompress(data, _MOST_INFLATED)
                return data if decompressor.unconsumed_tail else made
    with contextlib.suppress(Exception):  # whatever these raise for what they cannot read
        if encoding == "br":
            return _unbrotli(data)
        if encoding == "zstd":
            return _unzstd(data)
    return data


def _unbrotli(data: bytes) -> bytes:
    try:
        brotli = importlib.import_module("brotli")
    except ImportError:
        brotli = importlib.import_module("brotlicffi")
    decompressor = brotli.Decompressor()
    made: bytes = decompressor.process(data, output_buffer_limit=_MOST_INFLATED)
    return made if decompressor.is_finished() else data


def _unzstd(data: bytes) -> bytes:
    try:
        zstd = importlib.import_module("compression.zstd")
    except ImportError:
        zstd = importlib.import_module("backports.zstd")
    decompressor = zstd.ZstdDecompressor()
    made: bytes = decompressor.decompress(data, _MOST_INFLATED)
    return made if decompressor.eof else data


def is_deep(value: Any, data: bytes) -> bool:
    """Tell whether JSON data, which came as `data`, is nested so deeply that it is better kept as text."""
    return len(data) > SHALLOW and data.count(b"[") + data.count(b"{") > _DEEPEST and _deeper(value, _DEEPEST)


def is_too_deep(value: Any, data: bytes | None = None) -> bool:
    """Tell whether JSON data, which came as `data`, is nested more deeply than a recording may be.

    That is by some levels more than what is recorded as data, since a recording puts it into objects of its own.
    """
    shallow = data is not None and data.count(b"[") + data.count(b"{") <= _DEEPEST
    return not shallow and _deeper(value, _DEEPEST + 8)


def _deeper(value: Any, levels: int) -> bool:
    if isinstance(value, dict):
        return levels == 0 or any(_deeper(item, levels - 1) for item in value.values())
    if isinstance(value, list):
        return levels == 0 or any(_deeper(item, levels - 1) for item in value)
    return False


class Json(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A JSON body.

    Attributes
    ----------
    held : JSON value or msgspec.Raw
        The value. Also as the text of it in a file, which is read when somebody wants the value: a replay does not.
    style : str
        One of `STYLES`.
    end : str
        White space after the value, such as a line end.
    """

    held: Any
    style: str = "compact"
    end: str = ""

    @property
    def value(self) -> Any:
        """The JSON value.

        Raises
        ------
        RecordingFormatError
            Where it is nested too deeply, or holds a number that is too long.
        """
        if type(self.held) is Raw:
            msgspec.structs.force_setattr(self, "held", read(self.held))
        return self.held

    def __eq__(self, other: object) -> bool:
        if type(other) is not Json:
            return NotImplemented
        return bool((self.style, self.end, self.value) == (other.style, other.end, other.value))

    def data(self) -> bytes:
        """Return the bytes of the body, as they were received.

        Raises
        ------
        RecordingFormatError
            Where it stands for no bytes: only a file that was edited holds such a body.
        """
        try:
            if self.style == "compact":
                # A file has the same text, with white space in it and some characters escaped.
                made = _unspaced(self.held, indent=-1) if type(self.held) is Raw else None
                if made is None or (b"\\" in made and b"\\u" in made):  # one sign is looked for much faster than two
                    made = compact(self.value)
                if made is not None:
                    return made + self.end.encode("ascii") if self.end else made
            return (encode_json(self.value, self.style) + self.end).encode("utf-8")
        except (ValueError, RecursionError) as error:
            raise RecordingFormatError(f"its JSON cannot be written ({error})") from None

    def stored(self) -> dict[str, Any]:
        """Return the fields of a take that hold this body."""
        fields: dict[str, Any] = {}
        if self.style != "compact":
            fields["style"] = self.style
        if self.end:
            fields["end"] = self.end
        return {**fields, "json": self.value}


class Text(msgspec.Struct, frozen=True):
    """A body kept as text. Bytes that are no UTF-8 are surrogate escapes in it."""

    text: str

    def data(self) -> bytes:
        """Return the bytes of the body.

        Raises
        ------
        RecordingFormatError
            Where it stands for no bytes: only a file that was edited holds such a body.
        """
        try:
            return self.text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            raise RecordingFormatError(f"its text cannot be written ({error})") from None

    def stored(self) -> dict[str, Any]:
        """Return the fields of a take that hold this body."""
        return {"text": self.text}


@functools.lru_cache(maxsize=256)
def is_textual(content_type: str) -> bool:
    """Tell whether a content type is one of text, JSON and events included."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind.startswith("text/") or "json" in kind or "xml" in kind or "javascript" in kind or "urlencoded" in kind


def plain_body(data: bytes, content_type: str) -> Json | Text | Blob:
    """Return how a received body is stored, such that its `data()` is `data` again."""
    textual = not content_type or is_textual(content_type)
    if data and len(data) <= LARGE and (textual or data[:1] in b"{["):
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            text = None
        if text is not None:
            body = _json_body(text) if text[0] in '{["' or text.lstrip()[:1] in ("{", "[") else None
            if body is not None:
                return body
            if textual:
                return Text(text)
    if not data:
        return Text("")
    return Blob.of(data)


def _json_body(text: str) -> Json | None:
    bare = text.rstrip(" \t\r\n")
    try:
        value = from_json(data := bare.encode())
    except (ValueError, RecursionError):
        return None
    if is_deep(value, data):
        return None
    style = json_style(value, bare)
    return None if style is None else Json(value, style, text[len(bare) :])
