"""Content encodings of recorded bodies: undone, within bounds, whatever lengths they claim."""

from __future__ import annotations

import importlib
import re
import zlib
from collections.abc import Iterable
from typing import Any

from nbreplay.errors import RecordingFormatError, UnsafeRecordingError

__all__ = ["LARGEST", "decoded"]

LARGEST = 256 << 20  # bytes; what claims to be more is no answer of a model
_MODULES = {"br": ("brotli", "brotlicffi"), "zstd": ("compression.zstd", "backports.zstd", "zstandard")}
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f]")
_SIGNS = {"gzip": b"\x1f\x8b", "x-gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd"}


def decoded(data: bytes, headers: Iterable[tuple[str, str]]) -> bytes:
    """Return a body without the encodings that its headers name.

    Raises
    ------
    RecordingFormatError, UnsafeRecordingError
        Where an encoding is not known here, or what it holds is too large.
    """
    named = ",".join(value for name, value in headers if name.lower() == "content-encoding")
    for coding in reversed([one.strip().lower() for one in named.split(",") if one.strip()]):
        # Some recorders decode the body and leave the header.
        if data and coding != "identity" and data.startswith(_SIGNS.get(coding, b"")):
            # These two have no sign of their own, and a text may pass for them by chance.
            data = data if coding in ("br", "deflate") and _is_text(data) else _undone(data, coding)
    return data


def _undone(data: bytes, coding: str) -> bytes:
    try:
        if coding in ("gzip", "x-gzip"):
            return _inflated(data, 16 + zlib.MAX_WBITS)
        if coding == "deflate":
            try:
                return _inflated(data, zlib.MAX_WBITS)
            except zlib.error:
                return _inflated(data, -zlib.MAX_WBITS)
        library = _library(coding)
        return _unpacked_brotli(library, data) if coding == "br" else _unpacked_zstd(library, data)
    except RecordingFormatError:
        raise
    except Exception as error:  # each library has its own
        raise RecordingFormatError(f"a body that is not encoded as it says, {coding} ({error})") from None


def _unpacked_brotli(library: Any, data: bytes) -> bytes:
    decoder, made = library.Decompressor(), b""
    step = getattr(decoder, "process", None) or decoder.decompress
    for at in range(0, len(data), 256):  # a few bytes may stand for very many
        made = _bounded(made + step(data[at : at + 256]))
    return made


def _unpacked_zstd(library: Any, data: bytes) -> bytes:
    decoder = library.ZstdDecompressor()
    if library.__name__ == "zstandard":
        with decoder.stream_reader(data, read_across_frames=True) as reader:
            return _bounded(bytes(reader.read(LARGEST + 1)))
    return _bounded(bytes(decoder.decompress(data, LARGEST + 1)))


def _inflated(data: bytes, bits: int) -> bytes:
    made = b""
    while data:
        part = zlib.decompressobj(bits)
        made += part.decompress(data, LARGEST + 1 - len(made))
        _bounded(made)
        if not part.eof:
            break
        data = part.unused_data.lstrip(b"\0")
    return made


def _bounded(data: bytes) -> bytes:
    if len(data) > LARGEST:
        raise UnsafeRecordingError(f"a body that unpacks to more than {LARGEST >> 20} MB")
    return data


def _library(coding: str) -> Any:
    for name in _MODULES.get(coding, ()):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    package = " or ".join(name for name in _MODULES.get(coding, ()) if not name.startswith("compression"))
    remedy = (
        f"install {package}" if package else "record it anew with decoded bodies (vcrpy: decode_compressed_response)"
    )
    raise RecordingFormatError(f"a body in the encoding {coding!r}, which cannot be undone here: {remedy}")


def _is_text(data: bytes) -> bool:
    """Return whether a body is readable text, as compressed data is not."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return not _CONTROLS.search(text)
