"""Content inside compressed content: the files of a zip (docx, xlsx, a wheel), gzip and its like, the streams of a PDF.

A secret in there is on the disk as much as any other, though no search through the bytes finds it.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO

_LARGEST = 256 << 20  # bytes; content that unpacks to more is not searched
_DEEPEST = 3  # containers in containers
_PIECE, _STEP = 1 << 20, 1 << 14
_File = IO[bytes] | gzip.GzipFile
_OPENERS: dict[bytes, Callable[[io.BytesIO], _File]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}
_UNREAD = b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07", b"\x28\xb5\x2f\xfd"
_BEGINNINGS = (b"PK\x03\x04", b"PK\x05\x06", b"%PDF-", *_OPENERS, *_UNREAD)
_Spend = Callable[[bytes], bytes]
_PDF_STREAM = re.compile(rb"stream\r?\n")


class UnreadableContainer(Exception):
    """Why a container cannot be unpacked."""


def is_container(data: bytes) -> bool:
    """Tell by its first bytes whether content is compressed, with other content inside."""
    return data.startswith(_BEGINNINGS)


def parts_inside(data: bytes) -> Iterator[bytes]:
    """Yield the parts of a container, and those of containers inside it.

    Raise `UnreadableContainer` where it is encrypted, damaged, too large, or of an unknown kind.
    """
    left = _LARGEST

    def spend(piece: bytes) -> bytes:
        nonlocal left
        left -= len(piece)
        if left < 0:
            raise UnreadableContainer(f"unpacks to more than {_LARGEST >> 20} MB")
        return piece

    return _unpack(data, spend, _DEEPEST)


def _unpack(data: bytes, spend: _Spend, levels: int) -> Iterator[bytes]:
    if levels == 0:
        raise UnreadableContainer("has containers in containers")
    try:
        for part in _parts(data, spend):
            yield part
            if is_container(part):
                yield from _unpack(part, spend, levels - 1)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, RuntimeError, ValueError) as error:
        raise UnreadableContainer(f"cannot be unpacked ({type(error).__name__})") from None


def _parts(data: bytes, spend: _Spend) -> Iterator[bytes]:
    if data.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            yield archive.comment
            for member in archive.infolist():
                yield member.filename.encode("utf-8", "surrogateescape") + b"\n" + member.comment
                yield _read(archive.open(member), spend)
    elif data.startswith(b"%PDF-"):
        yield from _pdf_streams(data, spend)
    elif opener := next((_OPENERS[start] for start in _OPENERS if data.startswith(start)), None):
        yield _read(opener(io.BytesIO(data)), spend)
    else:
        raise UnreadableContainer("unknown kind of compression")


def _read(file: _File, spend: _Spend) -> bytes:
    with file:
        return b"".join([spend(piece) for piece in iter(lambda: file.read(_PIECE), b"")])


def _pdf_streams(data: bytes, spend: _Spend) -> Iterator[bytes]:
    """Yield the streams of a PDF that deflate reads: its text. Pictures are left alone."""
    at, view = 0, memoryview(data)
    while match := _PDF_STREAM.search(data, at):
        at = match.end()
        decompressor = zlib.decompressobj()
        whole = list[bytes]()
        try:
            while at < len(data) and not decompressor.eof:
                pending: bytes | memoryview = view[at : at + _STEP]
                at += len(pending)
                while pending and not decompressor.eof:
                    whole.append(spend(decompressor.decompress(pending, _PIECE)))
                    pending = decompressor.unconsumed_tail
            at -= len(decompressor.unused_data)
        except zlib.error:
            at = match.end()
        if whole:
            yield b"".join(whole)
