"""Following an answer while it comes: its objects, as far as they are whole, each with its time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from nbreplay.core.pieces import values
from nbreplay.core.recorder import Recorder
from nbreplay.core.stream import Chunk, Events, framing_of

__all__ = ["Following"]

_ENDS = {"sse": (b"\n\n", b"\r\n\r\n"), "ndjson": (b"\n",)}


class Following:
    """Looks over the shoulder of a recorder.

    Parameters
    ----------
    recorder : Recorder
    """

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self._seen = 0  # pieces
        self._rest = b""

    def more(self) -> Iterator[tuple[int, dict[str, Any] | None, str | None]]:
        """Yield the objects that have come since this was asked last, as `nbreplay.core.pieces.values` does.

        Nothing of an answer that is no stream of text.
        """
        framing = framing_of(self.recorder.content_type)
        if framing not in _ENDS:
            return
        pieces = self.recorder.so_far()
        for at, data in itertools.islice(pieces, self._seen, None):
            self._seen += 1
            self._rest += data
            end = max(self._rest.rfind(mark) + len(mark) if mark in self._rest else 0 for mark in _ENDS[framing])
            if not end:
                continue
            whole, self._rest = self._rest[:end], self._rest[end:]
            text = whole.decode("utf-8", "surrogateescape").replace("\r\n", "\n")
            ms = round((at - self.recorder.started) * 1000)
            blocks = [block for block in text.split("\n\n" if framing == "sse" else "\n") if block]
            body = Events(tuple(Chunk(0, None, None, block) for block in blocks), framing)
            for _, value, event in values(body):
                yield ms, value, event
