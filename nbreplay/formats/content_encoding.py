"""Decodes content encodings of recorded bodies, within bounds, whatever lengths they claim."""

from __future__ import annotations

import importlib
import re
import zlib
from collections.abc import Iterable
from typing import Any

from nbreplay.errors import RecordingFormatError, UnsafeRecordingError

LARGEST = 256 << 20  # bytes; no model sends a larger answer
_MODULES = {"br": ("brotli", "brotlicffi"), "zstd": ("compression.zstd", "backports.zstd", "zstandard")}
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f]")
_SIGNS = {"gzip": b"\x1f\x8b", "x-gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd"}


def decode_body(data: bytes, headers: Iterable[tuple[str, str]]) -> bytes:
    """Return a body without the encodings that its headers name."""
    codings = ",".join(value for name, value in headers if name.lower() == "content-encoding")
    for coding in reversed([one.strip().lower() for one in codings.split(",") if one.strip()]):
        # Some recorders decode the body and leave the header.
        if data and coding != "identity" and data.startswith(_SIGNS.get(coding, b"")):
            # These two have no sign of their own, and a text may pass for them by chance.
            data = data if coding in ("br", "deflate") and _is_text(data) else _decode(data, coding)
    return data


def _decode(data: bytes, coding: str) -> bytes:
    try:
        if coding in ("gzip", "x-gzip"):
            return _inflate(data, 16 + zlib.MAX_WBITS)
        if coding == "deflate":
            try:
                return _inflate(data, zlib.MAX_WBITS)
            except zlib.error:
                return _inflate(data, -zlib.MAX_WBITS)
        library = _library(coding)
        return _decode_brotli(library, data) if coding == "br" else _decode_zstd(library, data)
    except RecordingFormatError:
        raise
    except Exception as error:  # each library has its own
        raise RecordingFormatError(f"body is not {coding}, as its headers say ({error})") from None


def _decode_brotli(library: Any, data: bytes) -> bytes:
    decoder, body = library.Decompressor(), b""
    step = getattr(decoder, "process", None) or decoder.decompress
    for at in range(0, len(data), 256):  # a few bytes may stand for very many
        body = _check_size(body + step(data[at : at + 256]))
    return body


def _decode_zstd(library: Any, data: bytes) -> bytes:
    decoder = library.ZstdDecompressor()
    if library.__name__ == "zstandard":
        with decoder.stream_reader(data, read_across_frames=True) as reader:
            return _check_size(bytes(reader.read(LARGEST + 1)))
    return _check_size(bytes(decoder.decompress(data, LARGEST + 1)))


def _inflate(data: bytes, bits: int) -> bytes:
    body = b""
    while data:
        part = zlib.decompressobj(bits)
        body += part.decompress(data, LARGEST + 1 - len(body))
        _check_size(body)
        if not part.eof:
            break
        data = part.unused_data.lstrip(b"\0")
    return body


def _check_size(data: bytes) -> bytes:
    if len(data) > LARGEST:
        raise UnsafeRecordingError(f"body decodes to more than {LARGEST >> 20} MB")
    return data


def _library(coding: str) -> Any:
    for name in _MODULES.get(coding, ()):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    package = " or ".join(name for name in _MODULES.get(coding, ()) if not name.startswith("compression"))
    remedy = f"install {package}" if package else "record again with decoded bodies (vcrpy: decode_compressed_response)"
    raise RecordingFormatError(f"encoding {coding!r} cannot be decoded here: {remedy}")


def _is_text(data: bytes) -> bool:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return not _CONTROLS.search(text)
