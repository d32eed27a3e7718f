"""Binary and large bodies, each in a file beside the recordings that is named by its digest.

`Spool` takes one down as it arrives, so that it is never in memory as a whole; `Blob` stands for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import weakref
from collections.abc import Generator, Iterator
from typing import Any

import msgspec

from nbreplay.core.secrets.redact import Redactor
from nbreplay.core.store.files import create, open_regular
from nbreplay.errors import RecordingFormatError, UnsafeRecordingError

_PIECE = 1 << 16  # bytes; how much of a file is read at once
_OVERLAP = 1 << 13  # bytes; a secret that is longer may be cut apart where two pieces meet
_NAME = re.compile(r"blob-[0-9a-f]{32}\.bin")


class Blob(msgspec.Struct, frozen=True, eq=False):
    """A binary or large body, in a file beside the recording that is named by its digest."""

    name: str  # ``blob-`` and the first half of the SHA-256
    size: int  # bytes
    content: bytes | None = None  # the bytes, if they are in memory
    path: str | None = None  # where the file is, once a store has found or written it
    spool: Spool | None = None  # where the bytes are that a store is still to put into a file

    def __eq__(self, other: object) -> bool:
        return type(other) is Blob and (self.name, self.size) == (other.name, other.size)

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"Blob({self.name!r}, {self.size})"

    @classmethod
    def of(cls, content: bytes) -> Blob:
        """Return the blob of some bytes."""
        return cls(blob_name(hashlib.sha256(content)), len(content), content)

    def data(self) -> bytes:
        """Return the bytes of the body. Raise RecordingFormatError if the file is gone or corrupt."""
        return b"".join(self.pieces()) if self.content is None else self.content

    def pieces(self) -> Generator[bytes, None, None]:
        """Yield the bytes of the body. Raise RecordingFormatError if the file is gone, or at its end if corrupt."""
        if self.content is not None:
            yield self.content
            return
        path = self.path or (self.spool and self.spool.path)
        if not path:
            raise RecordingFormatError(f"{self.name} has not been read")
        digest, size = hashlib.sha256(), 0
        try:
            with _naming(path), os.fdopen(open_regular(path), "rb", buffering=0) as file:
                while piece := file.read(_PIECE):
                    digest.update(piece)
                    size += len(piece)
                    yield piece
        except FileNotFoundError:
            raise RecordingFormatError(f"{path}, which holds an answer, is gone") from None
        if size != self.size or blob_name(digest) != self.name:
            raise RecordingFormatError(f"{path} is corrupt: its content does not match the hash in its name")

    def as_fields(self) -> dict[str, Any]:
        """Return the fields of a take that hold this body."""
        return {"blob": self.name, "size": self.size}


def blob_name(digest: hashlib._Hash) -> str:
    """Return the name of the file for content with this SHA-256."""
    return f"blob-{digest.hexdigest()[:32]}.bin"


def blob_from(name: object, size: object, folder: str = "") -> Blob:
    """Return the blob that a recording names, checked if `folder` says where it lies, with a separator at its end.

    Raise UnsafeRecordingError if it is not named like one, else RecordingFormatError or OSError.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UnsafeRecordingError(f"the file {name!r} is not named like a blob, and is not read")
    if type(size) is not int or size < 0:
        raise RecordingFormatError(f"the size of {name} is {size!r}")
    blob = Blob(name, size, path=folder + name if folder else None)
    for _ in blob.pieces() if folder else ():
        pass  # the file must hold the bytes of its name
    return blob


class Spool:
    """Writes a large body to a file of its own as it arrives, without the secrets in it.

    The file is there until a store adopts it or nobody wants it any more.
    """

    def __init__(self, path: str, redactor: Redactor) -> None:
        self.path, self.redactor = path, redactor
        self._file = os.fdopen(create(path), "wb", buffering=0)
        self._digest, self._size, self._tail = hashlib.sha256(), 0, b""
        self._end = weakref.finalize(self, _remove, path, os.getpid())

    def feed(self, data: bytes | memoryview) -> None:
        """Write bytes that have just arrived."""
        # What may be the beginning of a secret waits for what follows it.
        window = self._tail + bytes(data)
        if len(window) > 2 * _OVERLAP:
            cut = self.redactor.before(window.decode("latin-1"), len(window) - _OVERLAP)
            self._write(window[:cut])
            window = window[cut:]
        self._tail = window

    def finish(self) -> Blob:
        """Return everything so far as a blob; nothing may be fed any more."""
        self._write(self._tail)
        self._tail = b""
        with self._writing():
            self._file.close()
        return Blob(blob_name(self._digest), self._size, spool=self)

    def discard(self) -> None:
        """Remove the file: nobody wants it any more, and the disk may be full."""
        with contextlib.suppress(OSError):
            self._file.close()
        self._end()

    def copy_from(self, other: Spool) -> Spool:
        """Write everything that another has so far; return self."""
        with open(other.path, "rb", buffering=0) as file:
            while piece := file.read(_PIECE):
                self._write(piece)
        self._write(other._tail)
        return self

    def _write(self, data: bytes) -> None:
        clean = self.redactor.data(data)
        self._digest.update(clean)
        self._size += len(clean)
        view = memoryview(clean)
        with self._writing():
            while view:
                view = view[self._file.write(view) :]

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Remove the file at once where it cannot be written."""
        try:
            with _naming(self.path):
                yield
        except OSError:
            self.discard()
            raise


@contextlib.contextmanager
def _naming(path: str) -> Iterator[None]:
    """Put the path of the file into each error of the system."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), path) from error


def _remove(path: str, process: int) -> None:
    if process == os.getpid():
        with contextlib.suppress(OSError):
            os.unlink(path)
