"""Bodies of answers: from bytes to the fields of a recording, and back to the very same bytes.

A body is JSON (kept as data where re-encoding gives the same bytes), text, or a blob that lies in a
file of its own. Streams of events are in `nbreplay.core.recording.stream`.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import re
import zlib
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Raw
from msgspec.json import format as _unspaced

from nbreplay.core.recording.blob import Blob
from nbreplay.core.recording.json_text import (
    STYLES,
    JsonValue,
    encode_json,
    is_deep,
    is_written_as,
    parse_json,
    parse_stored,
)
from nbreplay.errors import RecordingFormatError, UnsafeRecordingError

LARGE = 1 << 20
"""Bytes; a larger body lies in a file of its own."""
LARGEST_DECODED = 256 << 20
"""Bytes; no model sends a larger answer."""
_MODULES = {"br": ("brotli", "brotlicffi"), "zstd": ("compression.zstd", "backports.zstd", "zstandard")}
_SIGNS = {"gzip": b"\x1f\x8b", "x-gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd"}
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f]")
_STEP = 256  # bytes; a few may stand for very many


def decompress(data: bytes, encoding: str) -> bytes:
    """Return `data` without its content encodings, as far as they can be undone here; bytes after their end stay."""
    with contextlib.suppress(Exception):  # each library has its own for data that it cannot read
        for coding in _codings(encoding):
            data = b"".join(_decode(data, coding))
    return data


def decode_content(data: bytes, encoding: str) -> bytes:
    """Return `data` without its content encodings, given as in a header ``content-encoding``.

    Raise UnsafeRecordingError if it grows too large, and RecordingFormatError if not all of it can be decoded here. As
    for clients, gzip and deflate may lack their end: servers leave it out of streams.
    """
    for coding in _codings(encoding):
        # Some recorders decode the body and leave the header.
        if not data or not data.startswith(_SIGNS.get(coding, b"")):
            continue
        if coding in ("br", "deflate") and _is_text(data):
            continue  # these two have no sign of their own, and a text may pass for them by chance
        try:
            data, rest = _decode(data, coding)
        except RecordingFormatError:
            raise
        except Exception as error:  # each library has its own
            raise RecordingFormatError(f"body is not {coding}, as its headers say ({error})") from None
        if rest:
            raise RecordingFormatError(f"body is not {coding}, as its headers say ({len(rest)} bytes follow its end)")
    return data


def _codings(encoding: str) -> list[str]:
    """Return the content encodings of a header, the last one first."""
    names = [name.strip().lower() for name in encoding.split(",")]
    return [name for name in reversed(names) if name not in ("", "identity")]


def _is_text(data: bytes) -> bool:
    try:
        return not _CONTROLS.search(data.decode("utf-8"))
    except UnicodeDecodeError:
        return False


def _decode(data: bytes, coding: str) -> tuple[bytes, bytes]:
    """Return what is encoded in `data`, and the bytes after its end."""
    if coding in ("gzip", "x-gzip", "deflate"):
        try:
            return _decode_members(data, coding, functools.partial(zlib.decompressobj, 47))  # gzip or zlib, by its head
        except zlib.error:
            if coding != "deflate":
                raise
            return _decode_members(data, coding, functools.partial(zlib.decompressobj, -zlib.MAX_WBITS))
    library = _import_library(coding)
    if coding == "br":
        return _decode_brotli(data, library), b""
    if library.__name__ == "zstandard":
        return _decode_members(data, coding, lambda: library.ZstdDecompressor().decompressobj())
    return _decode_members(data, coding, library.ZstdDecompressor)


def _decode_members(data: bytes, coding: str, create: Callable[[], Any]) -> tuple[bytes, bytes]:
    body, at, sign = bytearray(), 0, _SIGNS.get(coding, _SIGNS["gzip"])
    while True:
        decoder = create()
        while at < len(data) and not decoder.eof:
            piece = data[at : at + _STEP]
            body += decoder.decompress(piece)
            _check_size(body)
            at += len(piece)
        if not decoder.eof and coding == "zstd":
            raise EOFError("cut short")
        at -= len(decoder.unused_data)
        while data.startswith(b"\0", at):  # padding
            at += 1
        if not data.startswith(sign, at):  # else another member
            return bytes(body), data[at:]


def _decode_brotli(data: bytes, library: Any) -> bytes:
    decoder, body = library.Decompressor(), bytearray()
    step = getattr(decoder, "process", None) or decoder.decompress
    for at in range(0, len(data), _STEP):
        body += step(data[at : at + _STEP])  # raises an error for bytes after the end
        _check_size(body)
    if hasattr(decoder, "is_finished") and not decoder.is_finished():
        raise EOFError("cut short")
    return bytes(body)


def _check_size(data: bytearray) -> None:
    if len(data) > LARGEST_DECODED:
        raise UnsafeRecordingError(f"body decodes to more than {LARGEST_DECODED >> 20} MB")


def _import_library(coding: str) -> Any:
    names = _MODULES.get(coding, ())
    for name in names:
        with contextlib.suppress(ImportError):
            return importlib.import_module(name)
    package = " or ".join(name for name in names if not name.startswith("compression"))
    remedy = f"install {package}" if package else "record again with decoded bodies (vcrpy: decode_compressed_response)"
    raise RecordingFormatError(f"encoding {coding!r} cannot be decoded here: {remedy}")


class Json(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A JSON body."""

    # The value, or the text of it in a file. The text is parsed when the value is wanted; a replay does without.
    source: Any
    style: str = "compact"  # one of `nbreplay.core.recording.json_text.STYLES`
    end: str = ""  # white space after the value, such as a line end

    @property
    def value(self) -> JsonValue:
        """The JSON value. Raise RecordingFormatError if it is nested too deeply, or holds a number that is too long."""
        if type(self.source) is Raw:
            msgspec.structs.force_setattr(self, "source", parse_stored(self.source))
        value: JsonValue = self.source
        return value

    def __eq__(self, other: object) -> bool:
        if type(other) is not Json:
            return NotImplemented
        return bool((self.style, self.end, self.value) == (other.style, other.end, other.value))

    def data(self) -> bytes:
        """Return the received bytes. Raise RecordingFormatError if the value was edited and cannot be written."""
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
        style = {"style": self.style} if self.style != "compact" else {}
        end = {"end": self.end} if self.end else {}
        return {**style, **end, "json": self.value}


class Text(msgspec.Struct, frozen=True):
    """A body kept as text. Bytes that are not UTF-8 are surrogate escapes in it."""

    text: str

    def data(self) -> bytes:
        """Return the received bytes. Raise RecordingFormatError if the text was edited and stands for no bytes."""
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
