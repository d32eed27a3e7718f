"""What is inside of compressed content: the files of a zip (docx, xlsx, a wheel), gzip and its like, a PDF's streams.

A secret in there is on the disk as much as any other, though no search through the bytes finds it.
"""

from __future__ import annotations

import bz2
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Iterator

from nbreplay.core.secrets.redact import Redactor

__all__ = ["UnreadableContainer", "hides_secret", "is_container", "parts_inside"]

_LARGEST = 256 << 20  # bytes; what unpacks to more is not looked through
_DEEPEST = 3  # containers in containers
_PIECE, _STEP = 1 << 20, 1 << 14
_BEGINNINGS = (
    *(b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"%PDF-"),
    *(b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07", b"\x28\xb5\x2f\xfd"),
)
_PDF_STREAM = re.compile(rb"stream\r?\n")


class UnreadableContainer(Exception):
    """Why a container cannot be looked into."""


def is_container(data: bytes | memoryview) -> bool:
    """Tell by its first bytes whether content is compressed, with other content inside."""
    return bytes(data[:8]).startswith(_BEGINNINGS)


def hides_secret(data: bytes, redactor: Redactor) -> bool:
    """Tell whether a container holds a secret that no search through its bytes finds.

    Raises
    ------
    UnreadableContainer
        Where that cannot be told.
    """
    return any(redactor.finds(part.decode("latin-1")) for part in parts_inside(data))


def parts_inside(data: bytes) -> Iterator[bytes]:
    """Yield what a container holds, whatever is inside of that included.

    Raises
    ------
    UnreadableContainer
        Where it is encrypted, damaged, too large, or of a kind that nothing here reads.
    """
    yield from _unpacked(data, _Budget(), _DEEPEST)


class _Budget:
    def __init__(self) -> None:
        self.left = _LARGEST

    def spend(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise UnreadableContainer(f"it unpacks to more than {_LARGEST >> 20} MB")


def _unpacked(data: bytes, budget: _Budget, levels: int) -> Iterator[bytes]:
    if levels == 0:
        raise UnreadableContainer("it holds containers in containers")
    for part in _parts(data, budget):
        yield part
        if is_container(part):
            yield from _unpacked(part, budget, levels - 1)


def _parts(data: bytes, budget: _Budget) -> Iterator[bytes]:
    try:
        if data.startswith(b"PK"):
            yield from _zip_members(data, budget)
        elif data.startswith(b"%PDF-"):
            yield from _pdf_streams(data, budget)
        elif data.startswith(b"\x1f\x8b"):
            yield _inflated(data, budget)
        elif data.startswith(b"BZh"):
            yield _decompressed(bz2.BZ2Decompressor(), data, budget)
        elif data.startswith(b"\xfd7zXZ\0"):
            yield _decompressed(lzma.LZMADecompressor(), data, budget)
        else:
            raise UnreadableContainer("nothing here can unpack it")
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, RuntimeError, ValueError) as error:
        raise UnreadableContainer(f"it cannot be unpacked ({type(error).__name__})") from None


def _zip_members(data: bytes, budget: _Budget) -> Iterator[bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        yield archive.comment
        for member in archive.infolist():
            yield member.filename.encode("utf-8", "surrogateescape") + b"\n" + member.comment
            with archive.open(member) as file:
                pieces = []
                while piece := file.read(_PIECE):
                    budget.spend(len(piece))
                    pieces.append(piece)
                yield b"".join(pieces)


def _inflated(data: bytes, budget: _Budget) -> bytes:
    """Return the members of a gzip file, which may follow one another."""
    whole, decompressor = list[bytes](), zlib.decompressobj(31)
    pending = b""
    for at in range(0, len(data), _STEP):
        pending += data[at : at + _STEP]
        while pending:
            whole.append(decompressor.decompress(pending, _PIECE))
            budget.spend(len(whole[-1]))
            pending = decompressor.unconsumed_tail
            if decompressor.eof:
                pending = decompressor.unused_data
                if not pending.startswith(b"\x1f\x8b"[: len(pending)]):
                    return b"".join(whole)
                decompressor = zlib.decompressobj(31)
    return b"".join(whole)


def _decompressed(decompressor: bz2.BZ2Decompressor | lzma.LZMADecompressor, data: bytes, budget: _Budget) -> bytes:
    whole = []
    while not decompressor.eof:
        piece = decompressor.decompress(data, _PIECE)
        if not piece and decompressor.needs_input:
            raise EOFError
        data = b""
        budget.spend(len(piece))
        whole.append(piece)
    return b"".join(whole)


def _pdf_streams(data: bytes, budget: _Budget) -> Iterator[bytes]:
    """Yield the streams of a PDF that deflate reads: its text. Pictures are left alone."""
    at, view = 0, memoryview(data)
    while found := _PDF_STREAM.search(data, at):
        at = found.end()
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
            at = found.end()
        if whole:
            yield b"".join(whole)
