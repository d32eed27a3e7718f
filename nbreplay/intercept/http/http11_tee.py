"""Responses of `http.client` that note what they read, each piece as it comes.

What is noted is the body, out of its chunks; how it is compressed is left to whom reads it.
"""

from __future__ import annotations

from collections.abc import Callable
from http import client as http_client
from typing import Any

from nbreplay.core.recorder import Recorder
from nbreplay.intercept.http.http11 import failed

__all__ = ["Chunks", "Tee"]


class Tee:
    """Makes responses of `http.client` that note what they read of the answer.

    Parameters
    ----------
    recorder : Recorder
    kind : callable
        The class of the responses.
    begun : callable
        Told the response when its head is there.
    """

    def __init__(self, recorder: Recorder, kind: Callable[..., Any], begun: Callable[[Any], None]) -> None:
        self._recorder, self._kind, self._begun = recorder, kind, begun

    def __call__(self, *args: Any, **options: Any) -> http_client.HTTPResponse:
        made: http_client.HTTPResponse = self._kind(*args, **options)

        def begin() -> None:
            del made.begin  # the class has it: a response that refers to itself would not go when it is let go of
            made.begin()
            headers = [(name, str(value)) for name, value in made.msg.items()]
            version = "HTTP/1.0" if made.version == 10 else "HTTP/1.1"
            self._recorder.begin(made.status, headers, made.reason, version)
            self._begun(made)
            if made.fp is None or made.length == 0:
                self._recorder.end()
            else:
                made.fp = _Noting(made, self._recorder)  # type: ignore[assignment]

        made.begin = begin  # type: ignore[method-assign]
        return made


class _Noting:
    """The file that a response reads its body from, noting what is read, out of its chunks."""

    def __init__(self, response: http_client.HTTPResponse, recorder: Recorder) -> None:
        self._file, self._recorder = response.fp, recorder
        self._size, self._length = 0, response.length
        self._chunks = Chunks() if response.chunked else None

    def flush(self) -> None:
        if not self._file.closed:  # the collector lets go of it and of its response in any order
            self._file.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, size: int | None = -1) -> bytes:
        wanted = -1 if size is None else size
        return self._noted(lambda: self._file.read(wanted), lambda data: wanted < 0 or len(data) < wanted)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        return len(self._noted(lambda: bytes(view[: self._file.readinto(buffer)]), lambda data: len(data) < len(view)))

    def read1(self, size: int = -1) -> bytes:
        return self._noted(lambda: self._file.read1(size), lambda data: not data and size != 0)

    def readline(self, size: int = -1) -> bytes:
        return self._noted(lambda: self._file.readline(size), lambda data: not data and size != 0)

    def _noted(self, read: Callable[[], bytes], is_end: Callable[[bytes], bool]) -> bytes:
        try:
            data = read()
        except BaseException as error:
            failed(self._recorder, error)
            raise
        body = data if self._chunks is None else self._chunks.opened(data)
        if body:
            self._recorder.feed(body)
            self._size += len(body)
        ended = is_end(data)
        if self._chunks is not None:
            whole, ended = self._chunks.over, ended or self._chunks.broken
        else:
            whole = ended if self._length is None else self._size >= self._length
        if whole:
            self._recorder.end()
        elif ended:
            self._recorder.fail("IncompleteRead", f"IncompleteRead({self._size} bytes read{self._missing()})")
        return data

    def _missing(self) -> str:
        if self._chunks is not None:
            return f", {self._chunks.missing} more expected in its chunk" if self._chunks.missing is not None else ""
        return "" if self._length is None else f", {self._length - self._size} more expected"

    def close(self) -> None:
        self._recorder.close()
        self._file.close()


class Chunks:
    """Takes a body out of its chunks, as they come.

    Attributes
    ----------
    over : bool
        Whether the last chunk has come.
    broken : bool
        Whether something else has come than chunks.
    missing : int or None
        How many bytes are to come of the chunk that has begun; None between two.
    """

    def __init__(self) -> None:
        self.over = self.broken = False
        self.missing: int | None = None
        self._line = b""

    def opened(self, data: bytes) -> bytes:
        """Return what there is of the body in the bytes that come next."""
        found, at = [], 0
        while at < len(data) and not (self.over or self.broken):
            if self.missing:
                piece = data[at : at + self.missing]
                found.append(piece)
                at, self.missing = at + len(piece), self.missing - len(piece)
                continue
            end = data.find(b"\n", at) + 1
            self._line += data[at : end or len(data)]
            at = end or len(data)
            if end:
                self._begin(self._line.partition(b";")[0].strip())
                self._line = b""
        return b"".join(found)

    def _begin(self, line: bytes) -> None:
        if self.missing == 0:  # the line that ends a chunk
            self.missing = None
            return
        try:
            size = int(line, 16)
        except ValueError:
            size = -1
        self.over, self.broken = size == 0, size < 0
        self.missing = size if size > 0 else None
