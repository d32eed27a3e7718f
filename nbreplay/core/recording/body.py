"""Bodies of answers: from bytes to the fields of a recording, and back to the very same bytes.

A body is JSON (kept as data where re-encoding gives the same bytes), text, or a blob that lies in a
file of its own. Streams of events are in `nbreplay.core.recording.stream`.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import zlib
from typing import Any

import msgspec
from msgspec import Raw
from msgspec.json import format as _unspaced

from nbreplay.core.recording.blob import Blob
from nbreplay.core.recording.json_text import STYLES, encode_json, is_deep, is_written_as, parse_json, parse_stored
from nbreplay.errors import RecordingFormatError

LARGE = 1 << 20
"""Bytes; a larger body lies in a file of its own."""
_LARGEST_DECOMPRESSED = 256 << 20  # bytes; what grows beyond stays compressed


def decompress(data: bytes, encoding: str) -> bytes:
    """Return `data` without its content encoding; unchanged if it cannot be undone here, or grows too large."""
    with contextlib.suppress(Exception):  # each library has its own for data that it cannot read
        match encoding.strip().lower():
            case "gzip" | "x-gzip" | "deflate":
                return _inflate(data)
            case "br":
                brotli = _import_any("brotli", "brotlicffi").Decompressor()
                content: bytes = brotli.process(data, output_buffer_limit=_LARGEST_DECOMPRESSED)
                return content if brotli.is_finished() else data
            case "zstd":
                zstd = _import_any("compression.zstd", "backports.zstd").ZstdDecompressor()
                content = zstd.decompress(data, _LARGEST_DECOMPRESSED)
                return content if zstd.eof else data
    return data


def _inflate(data: bytes) -> bytes:
    for bits in (47, -15):  # gzip or zlib by its head, or bare deflate
        with contextlib.suppress(zlib.error):
            decompressor = zlib.decompressobj(bits)
            content = decompressor.decompress(data, _LARGEST_DECOMPRESSED)
            return data if decompressor.unconsumed_tail else content
    return data


def _import_any(*names: str) -> Any:
    for name in names:
        with contextlib.suppress(ImportError):
            return importlib.import_module(name)
    raise ImportError(names)


class Json(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A JSON body."""

    # The value, or the text of it in a file. The text is parsed when the value is wanted; a replay does without.
    source: Any
    style: str = "compact"  # one of `nbreplay.core.recording.json_text.STYLES`
    end: str = ""  # white space after the value, such as a line end

    @property
    def value(self) -> Any:
        """The JSON value.

        Raises
        ------
        RecordingFormatError
            If it is nested too deeply, or holds a number that is too long.
        """
        if type(self.source) is Raw:
            msgspec.structs.force_setattr(self, "source", parse_stored(self.source))
        return self.source

    def __eq__(self, other: object) -> bool:
        if type(other) is not Json:
            return NotImplemented
        return bool((self.style, self.end, self.value) == (other.style, other.end, other.value))

    def data(self) -> bytes:
        """Return the bytes of the body, as they were received.

        Raises
        ------
        RecordingFormatError
            If the value cannot be written, as in a file that was edited.
        """
        try:
            if self.style == "compact" and type(self.source) is Raw:
                # A file has the same text, but for white space in it and some characters that are escaped.
                data = _unspaced(self.source, indent=-1)
                if b"\\u" not in data:
                    return data + self.end.encode("ascii")
            return (encode_json(self.value, self.style) + self.end).encode("utf-8")
        except (ValueError, RecursionError) as error:
            raise RecordingFormatError(f"the JSON cannot be written ({error})") from None

    def as_fields(self) -> dict[str, Any]:
        """Return the fields of a take that hold this body."""
        fields: dict[str, Any] = {}
        if self.style != "compact":
            fields["style"] = self.style
        if self.end:
            fields["end"] = self.end
        return {**fields, "json": self.value}


class Text(msgspec.Struct, frozen=True):
    """A body kept as text. Bytes that are not UTF-8 are surrogate escapes in it."""

    text: str

    def data(self) -> bytes:
        """Return the bytes of the body.

        Raises
        ------
        RecordingFormatError
            If the text stands for no bytes, as in a file that was edited.
        """
        try:
            return self.text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            raise RecordingFormatError(f"the text cannot be written ({error})") from None

    def as_fields(self) -> dict[str, Any]:
        """Return the fields of a take that hold this body."""
        return {"text": self.text}


@functools.lru_cache(maxsize=256)
def is_textual(content_type: str) -> bool:
    """Tell whether a content type is one of text, JSON and events included."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind.startswith("text/") or "json" in kind or "xml" in kind or "javascript" in kind or "urlencoded" in kind


def plain_body(data: bytes, content_type: str) -> Json | Text | Blob:
    """Return how a received body is stored, such that its `data()` is `data` again."""
    if not data:
        return Text("")
    textual = not content_type or is_textual(content_type)
    if len(data) <= LARGE and (textual or data[:1] in b"{["):
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            return Blob.of(data)
        body = _json_body(text) if text[0] == '"' or text.lstrip()[:1] in ("{", "[") else None
        if body is not None or textual:
            return body or Text(text)
    return Blob.of(data)


def _json_body(text: str) -> Json | None:
    bare = text.rstrip(" \t\r\n")
    try:
        value = parse_json(data := bare.encode())
    except (ValueError, RecursionError):
        return None
    written = (style for style in STYLES if is_written_as(value, bare, style))
    style = None if is_deep(value, data) else next(written, None)
    return None if style is None else Json(value, style, text[len(bare) :])
