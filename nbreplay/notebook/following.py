"""Following an answer while it comes: its objects, as far as they are whole."""

from __future__ import annotations

import re
from typing import Any

from nbreplay.core.recorder import Recorder
from nbreplay.core.recording.body import from_json
from nbreplay.core.recording.stream import Chunk, Events, framing_of
from nbreplay.providers.deltas import values

__all__ = ["Following"]

_ENDS = {"sse": (b"\n\n", b"\r\n\r\n"), "ndjson": (b"\n",)}
_PLAIN = re.compile(rb"(?:data: \{[^\n]*\}\n\n)+")


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

    def more(self) -> tuple[int, list[tuple[dict[str, Any] | None, str | None]]]:
        """Return what has come since this was asked last.

        Returns
        -------
        int
            When the last of it came, in milliseconds from the request.
        list of (dict or None, str or None)
            The object and the event's name of every chunk that is whole; none of an answer that is no stream of text.
        """
        recorder, framing = self.recorder, framing_of(self.recorder.content_type)
        if framing not in _ENDS:
            return 0, []
        pieces = recorder.so_far()
        new = pieces[self._seen :]
        if not new:
            return 0, []
        self._seen += len(new)
        data = b"".join([self._rest, *[piece for _, piece in new]])
        end = max(data.rfind(mark) + len(mark) if mark in data else 0 for mark in _ENDS[framing])
        whole, self._rest = data[:end], data[end:]
        return round((new[-1][0] - recorder.started) * 1000), _objects(whole, framing)


def _objects(data: bytes, framing: str) -> list[tuple[dict[str, Any] | None, str | None]]:
    plain = _PLAIN.match(data) if framing == "sse" else None
    if plain is not None:
        # Most streams are such, and one call parses all of it in a fifth of the time.
        upto = plain.end()
        try:
            made = from_json(b"[" + data[6 : upto - 2].replace(b"\n\ndata: ", b",") + b"]")
        except (ValueError, RecursionError):
            upto = 0
        else:
            rest = _objects(data[upto:], framing) if upto < len(data) else []
            return [*((value, None) for value in made), *rest]
    text = data.decode("utf-8", "surrogateescape").replace("\r\n", "\n")
    blocks = [block for block in text.split("\n\n" if framing == "sse" else "\n") if block]
    body = Events(tuple(Chunk(0, None, None, block) for block in blocks), framing)
    return [(value, event) for _, value, event in values(body)]
