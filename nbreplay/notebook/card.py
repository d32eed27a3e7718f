"""Film: what a card shows of one call, and when each piece of it came. Pure: from an interaction to values.

The take alone speaks: of a call that is replayed it tells the same as of the one that was recorded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from nbreplay.core.log import Interaction
from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.take import Take
from nbreplay.core.request.request import Request, last_user_text
from nbreplay.notebook.escape import clip, plain, seconds
from nbreplay.notebook.timeline import Beat, Reel, Result, Track
from nbreplay.providers.deltas import values
from nbreplay.providers.tool_links import tool_error, tool_value

__all__ = ["RESULT", "WORDS", "Film", "Reeled", "asked_of", "film", "reeled"]

WORDS = {
    "replayed": "REPLAY",
    "recorded": "REC",
    "live": "LIVE",
    "missing": "MISSING",
    "unsaved": "UNSAVED",
    "blocked": "BLOCKED",
}
"""How a card names an outcome."""

RESULT = 10_000
"""How many characters of a tool's result are shown at most."""

_ASKED, _NOTE, _RAW = 2_000, 5_000, 3_000


class Film(msgspec.Struct, frozen=True):
    """What a card shows.

    Attributes
    ----------
    title : str
        The model, the tool or the host.
    word : str
        The outcome, where there is no take to tell of; else ``""``.
    facts, foot : tuple of str
        What is said beside the title, and under the answer.
    asked : str
        The last thing that the user says.
    tracks : tuple of Track
    beats : tuple of Beat
        Empty where there is nothing to play: no stream, or one without times.
    timed : bool or None
        Whether the times of a stream were recorded; None where it is no stream.
    error, note : str
    raw : tuple of str
        The first chunks as they are stored.
    chunks : int
        How many there are.
    tokens : tuple of (int or None)
        Input and output.
    duration_s : float or None
    depth : int
        How many requests of an agent's loop lead here.
    """

    title: str
    word: str = ""
    facts: tuple[str, ...] = ()
    foot: tuple[str, ...] = ()
    asked: str = ""
    tracks: tuple[Track, ...] = ()
    beats: tuple[Beat, ...] = ()
    timed: bool | None = None
    error: str = ""
    note: str = ""
    raw: tuple[str, ...] = ()
    chunks: int = 0
    tokens: tuple[int | None, int | None] = (None, None)
    duration_s: float | None = None
    depth: int = 0

    @property
    def until_ms(self) -> int:
        """When the last piece came."""
        return self.beats[-1].at_ms if self.beats else 0

    def upto(self, at_ms: int) -> list[Track]:
        """Return the tracks as they were at a moment, in milliseconds from the request."""
        parts: list[list[str]] = [[] for _ in self.tracks]
        for beat in self.beats:
            if beat.track >= 0 and beat.at_ms <= at_ms:
                parts[beat.track].append(beat.text)
        over = at_ms >= self.until_ms
        return [
            Track(track.kind, track.choice, track.name, said, track.result if over else None)
            for track, said in zip(self.tracks, parts, strict=True)
            if said
        ]

    def state(self) -> dict[str, Any]:
        """Return the film as JSON data for the widget; what is empty is left out."""
        state: dict[str, Any] = {
            "title": self.title,
            "word": self.word,
            "facts": list(self.facts),
            "foot": list(self.foot),
            "asked": self.asked,
            "tracks": [_track_state(track) for track in self.tracks],
            "beats": _written(self.beats),
            "untimed": self.timed is False,
            "error": self.error,
            "note": self.note,
            "raw": list(self.raw),
            "chunks": self.chunks,
            "depth": self.depth,
        }
        return {name: value for name, value in state.items() if value}


def _track_state(track: Track) -> dict[str, Any]:
    state: dict[str, Any] = {"kind": track.kind, "choice": track.choice, "text": track.text}
    if track.kind == "tool_call":
        formatted = track.formatted()
        state |= {"name": track.name, "invalid": formatted is None, "json": formatted}
        if track.result is not None:
            took = track.result.took_s
            state |= {"result": track.result.text, "error": track.result.error, "answered": True}
            state["took"] = "" if took is None else seconds(took)
    return {name: value for name, value in state.items() if value}


def _written(beats: Sequence[Beat]) -> str:
    """Return beats as one text: ``@`` and a track where it changes, the gap in ms, ``+`` and the length of a text.

    Lengths are UTF-16 units, as a browser counts them. A list of numbers would take a line each in a notebook's file.
    """
    words: list[str] = []
    at = track = 0
    for beat in beats:
        gap, at = beat.at_ms - at, beat.at_ms
        if beat.track < 0:
            words.append(str(gap))
            continue
        if beat.track != track:
            track = beat.track
            words.append(f"@{track}")
        size = len(beat.text) if beat.text.isascii() else len(beat.text.encode("utf-16-le")) // 2
        words.append(f"{gap}+{size}")
    return " ".join(words)


Reeled = tuple[Reel, list[Beat]]
"""What an answer says, and its beats."""


def reeled(item: Interaction) -> Reeled:
    """Return what an answer says, and its beats; nothing of a tool's."""
    reel = Reel()
    beats: list[Beat] = []
    if item.take is not None and (item.request is None or item.request.kind != "tool"):
        for at, value, event in values(item.take.body):
            beats += reel.feed(at, value, event)
    return reel, beats


def film(
    item: Interaction, *, reel: Reel, beats: Sequence[Beat], results: Mapping[int, Result] | None = None, depth: int = 0
) -> Film:
    """Return the film of a call.

    Parameters
    ----------
    item : Interaction
    reel, beats
        As `reeled` returns them.
    results : mapping of int to Result, optional
        From the number of a tool call in the answer to what became of it.
    depth : int
    """
    request, take = item.request, item.take
    own = "" if request is None else f"{request.kind}-{item.key.partition(':')[2][:16]}"
    asked = asked_of(request)
    note = clip(plain(item.note), _NOTE)
    if take is None:
        title = plain((request.model if request else "") or item.host)
        return Film(title, WORDS[item.outcome], foot=(plain(own),) if own else (), asked=asked, note=note, depth=depth)
    is_tool = request is not None and request.kind == "tool"
    if is_tool:
        reel.tracks = [_tool_track(item, take)]
    calls = [track for track in reel.tracks if track.kind == "tool_call"]
    for number, result in (results or {}).items():
        calls[number].result = result
    reader, stream = reel.folded.reader, isinstance(take.body, Events)
    tokens = reader.tokens.get("input"), reader.tokens.get("output")
    return Film(
        title=plain(reader.model or (request.model if request else "") or take.host),
        word="UNSAVED" if item.outcome == "unsaved" else "",
        facts=_facts(take, reel, tokens),
        foot=_foot(take, own, tokens),
        asked=asked,
        tracks=tuple(reel.tracks),
        beats=tuple(beats) if stream and take.timed and not is_tool else (),
        timed=take.timed if stream else None,
        error=plain(reader.error or _transport_error(take)),
        note=note if item.outcome in ("missing", "unsaved", "blocked") else "",
        raw=_raw(take.body),
        chunks=len(take.body.chunks) if isinstance(take.body, Events) else 0,
        tokens=tokens,
        duration_s=take.duration_s,
        depth=depth,
    )


def asked_of(request: Request | None) -> str:
    """Return what a request asked last, as it is shown."""
    # Clipped first: a text may be megabytes, and each character would be looked at.
    return "" if request is None else plain(clip(last_user_text(request.fields), _ASKED))


def _tool_track(item: Interaction, take: Take) -> Track:
    """A tool that ran without a model's call to it here."""
    given = item.request.body if item.request else None
    value = tool_value(take)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    error = tool_error(take) or ""
    result = Result(clip(plain("" if error else text), RESULT), plain(error), take.duration_s)
    arguments = plain(json.dumps(given, ensure_ascii=False))
    return Track("tool_call", name=plain(item.request.model if item.request else ""), parts=[arguments], result=result)


def _transport_error(take: Take) -> str:
    return "" if take.error is None else f"{take.error.get('type', '')}: {take.error.get('message', '')}"


def _facts(take: Take, reel: Reel, tokens: tuple[int | None, int | None]) -> tuple[str, ...]:
    reader = reel.folded.reader
    if take.status is None or take.status >= 400:
        state = "failed" if take.status is None else f"error {take.status}"
    elif not take.complete and not take.standing:
        state = take.reason or "incomplete"
    else:
        state = "done" if reader.finish in ("", "stop", "end_turn", "completed", "STOP") else plain(reader.finish)
    facts, took = [state], take.duration_s
    if took is None:
        return (*facts, "no timings recorded")
    facts.append(seconds(took))
    first = reel.folded.first_ms
    if isinstance(take.body, Events) and first is not None:
        facts.append(f"first token {seconds(first / 1000)}")
    if tokens[1] and took:
        facts.append(f"{tokens[1] / took:.0f} tok/s")
    return tuple(facts)


def _foot(take: Take, own: str, tokens: tuple[int | None, int | None]) -> tuple[str, ...]:
    foot = []
    if tokens != (None, None):
        foot.append(" → ".join(f"{count:,}" for count in tokens if count is not None) + " tokens")
    foot.append(own)
    if take.recorded_at:  # what an MCP client asked in vain was not
        foot.append(f"recorded {take.recorded_at[:10]}" + (f" at {take.host}" if take.host else ""))
    if take.redacted:
        foot.append("1 secret was removed" if take.redacted == 1 else f"{take.redacted} secrets were removed")
    return tuple(plain(part) for part in foot if part)


def _raw(body: object) -> tuple[str, ...]:
    """Return the first chunks of a stream as they are stored."""
    if not isinstance(body, Events):
        return ()
    left, shown = _RAW, []
    for chunk in body.chunks:
        text = json.dumps(chunk.stored(), ensure_ascii=False)
        left -= len(text)
        if left < 0:
            break
        shown.append(plain(text))
    return tuple(shown)
