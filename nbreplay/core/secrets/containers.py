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

from nbreplay.core.secrets.redact import Redactor

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
_PDF_STREAM = re.compile(rb"stream\r?\n")


class UnreadableContainer(Exception):
    """Why a container cannot be unpacked."""


def is_container(data: bytes | memoryview) -> bool:
    """Tell by its first bytes whether content is compressed, with other content inside."""
    return bytes(data[:8]).startswith(_BEGINNINGS)


def hides_secret(data: bytes, redactor: Redactor) -> bool:
    """Tell whether a container holds a secret that no search through its bytes finds.

    Raise `UnreadableContainer` where that cannot be told.
    """
    return any(redactor.finds(part.decode("latin-1")) for part in parts_inside(data))


def parts_inside(data: bytes) -> Iterator[bytes]:
    """Yield the parts of a container, and those of containers inside it.

    Raise `UnreadableContainer` where it is encrypted, damaged, too large, or of an unknown kind.
    """
    yield from _unpack(data, _Budget(), _DEEPEST)


class _Budget:
    def __init__(self) -> None:
        self.left = _LARGEST

    def spend(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise UnreadableContainer(f"unpacks to more than {_LARGEST >> 20} MB")


def _unpack(data: bytes, budget: _Budget, levels: int) -> Iterator[bytes]:
    if levels == 0:
        raise UnreadableContainer("has containers in containers")
    for part in _parts(data, budget):
        yield part
        if is_container(part):
            yield from _unpack(part, budget, levels - 1)


def _parts(data: bytes, budget: _Budget) -> Iterator[bytes]:
    try:
        if data.startswith(b"PK"):
            yield from _zip_parts(data, budget)
        elif data.startswith(b"%PDF-"):
            yield from _pdf_streams(data, budget)
        else:
            opener = next((_OPENERS[start] for start in _OPENERS if data.startswith(start)), None)
            if opener is None:
                raise UnreadableContainer("unknown kind of compression")
            yield _read(opener(io.BytesIO(data)), budget)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, RuntimeError, ValueError) as error:
        raise UnreadableContainer(f"cannot be unpacked ({type(error).__name__})") from None


def _read(file: _File, budget: _Budget) -> bytes:
    pieces = []
    with file:
        while piece := file.read(_PIECE):
            budget.spend(len(piece))
            pieces.append(piece)
    return b"".join(pieces)


def _zip_parts(data: bytes, budget: _Budget) -> Iterator[bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        yield archive.comment
        for member in archive.infolist():
            yield member.filename.encode("utf-8", "surrogateescape") + b"\n" + member.comment
            yield _read(archive.open(member), budget)


def _pdf_streams(data: bytes, budget: _Budget) -> Iterator[bytes]:
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
                    whole.append(decompressor.decompress(pending, _PIECE))
                    budget.spend(len(whole[-1]))
                    pending = decompressor.unconsumed_tail
            at -= len(decompressor.unused_data)
        except zlib.error:
            at = match.end()
        if whole:
            yield b"".join(whole)
