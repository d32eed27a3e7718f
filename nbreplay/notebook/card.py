"""Card: everything that is shown of one call, with the timeline of its answer. Pure: from an interaction to values.

A card is built from the take alone, so recorded and replayed calls look the same. The outcome and the cost are shown
beside it, and never stored.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from nbreplay.core.log import FAILURES, Interaction
from nbreplay.core.log import OUTCOMES as CALL_OUTCOMES
from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.take import Take
from nbreplay.core.request.request import Request, last_user_text
from nbreplay.notebook.escape import clip, format_seconds, plain
from nbreplay.prices import packaged_prices
from nbreplay.providers.answer import Answer, provider_of
from nbreplay.providers.deltas import values
from nbreplay.providers.messages import messages_in
from nbreplay.providers.tool_links import fact_of, links, tool_error, tool_value

# The outcomes of calls, as a card shows them.
OUTCOMES = {outcome: outcome.upper() for outcome in CALL_OUTCOMES} | {"replayed": "REPLAY", "recorded": "REC"}
# The most characters that are shown; longer arguments of tools are shown as they came.
_MAX_PROMPT, _MAX_NOTE, _MAX_RAW, _MAX_RESULT, _MAX_INDENTED = 2_000, 5_000, 3_000, 10_000, 100_000
_SUCCESS = ("", "stop", "end_turn", "completed", "STOP")


class Entry(NamedTuple):
    """A piece of an answer: its arrival in ms from the request, the number of its track or -1, and its text."""

    at_ms: int
    track: int
    text: str


class ToolResult(msgspec.Struct, frozen=True):
    """The result of a tool call as text, or its error, and its duration in seconds."""

    text: str = ""
    error: str = ""
    took_s: float | None = None


@dataclass(slots=True)
class Track:
    """A part of an answer that grows by itself."""

    kind: str  # "text", "reasoning", "refusal" or "tool_call"
    choice: int = 0
    name: str = ""  # the tool's, as far as it has come
    parts: list[str] = field(default_factory=list)  # of the text; of a tool call, of its arguments
    result: ToolResult | None = None

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.parts)

    def state(self) -> dict[str, Any]:
        """Return the track as JSON data for the widget, without empty values."""
        state: dict[str, Any] = {"kind": self.kind, "choice": self.choice, "text": self.text}
        if self.kind == "tool_call":
            arguments = self.format_arguments()
            state |= {"name": self.name, "invalid": arguments is None, "json": arguments}
            if self.result is not None:
                state |= {"result": self.result.text, "error": self.result.error, "answered": True}
                state["took"] = format_seconds(self.result.took_s)
        return _without_empty(state)

    def format_arguments(self) -> str | None:
        """Return the arguments of a tool call, with one line per value; None where they are not JSON."""
        text = self.text or "{}"
        try:
            json.loads(text)
            return msgspec.json.format(text) if len(text) <= _MAX_INDENTED else text
        except msgspec.DecodeError:
            return text  # with NaN or half of a surrogate pair, which Python alone reads
        except (ValueError, RecursionError):
            return None


class Timeline:
    """Tracks and entries of an answer: of a whole take, or of the objects that are fed as they come."""

    def __init__(self, take: Take | None = None) -> None:
        self.answer = Answer()  # the whole answer so far
        self.tracks: list[Track] = []  # in the order in which they began
        self.entries: list[Entry] = []
        self._places: dict[Hashable, int] = {}
        for at_ms, value, event in values(take and take.body):
            self.feed(at_ms, value, event)

    def feed(self, at_ms: int, value: dict[str, Any] | None, event: str | None = None) -> int:
        """Add the next object of the answer. Return the number of its entries: one without text, if it has none."""
        pieces = None if value is None else self.answer.feed(at_ms, value, event)
        if not pieces:
            self.entries.append(Entry(at_ms, -1, ""))
            return 1
        for kind, text, choice, call, name, _ in pieces:
            key = (kind, choice if call is None else call)
            place = self._places.setdefault(key, len(self.tracks))
            if place == len(self.tracks):
                self.tracks.append(Track(kind, choice))
            track, text = self.tracks[place], plain(text)
            if name:
                track.name = plain(self.answer.calls[call].name)
            track.parts.append(text)
            self.entries.append(Entry(at_ms, place, text))
        return len(pieces)


class Card(msgspec.Struct, frozen=True):
    """Everything that is shown of one call."""

    title: str  # the model, the tool or the host
    word: str = ""  # the outcome of a call without a take
    facts: tuple[str, ...] = ()  # beside the title
    foot: tuple[str, ...] = ()  # below the answer
    prompt: str = ""  # the user's last message
    tracks: tuple[Track, ...] = ()
    entries: tuple[Entry, ...] = ()  # empty where there is nothing to play: no stream, or one without times
    timed: bool | None = None  # whether the times of a stream were recorded; None where it is not a stream
    error: str = ""
    note: str = ""
    raw: tuple[str, ...] = ()  # the first chunks, as they are stored
    chunks: int = 0
    tokens: tuple[int | None, int | None] = (None, None)  # input and output
    duration_s: float | None = None
    depth: int = 0  # the number of requests of an agent's loop that led here
    call: Interaction | None = None

    @property
    def until_ms(self) -> int:
        """The arrival of the last piece."""
        return self.entries[-1].at_ms if self.entries else 0

    @property
    def outcome(self) -> str:
        """The outcome, such as ``REPLAY``."""
        return OUTCOMES[self.call.outcome] if self.call else ""

    @property
    def cost(self) -> str:
        """An estimate such as ``≈ $0.0004``; ``""`` where tokens or prices are not known, or none are installed."""
        (sent, received), call = self.tokens, self.call
        if call is None or call.take is None or sent is None or received is None:
            return ""
        provider = provider_of(call.take.host)
        if provider is None or (price := packaged_prices()) is None:
            return ""
        parts = price(call.request.model if call.request else None, self.title, provider, sent, received, 0)
        return "" if None in parts else f"≈ ${sum(part or 0.0 for part in parts):.2g}"

    def tracks_at(self, at_ms: int) -> list[Track]:
        """Return the tracks as they were at a moment, in milliseconds from the request."""
        parts: list[list[str]] = [[] for _ in self.tracks]
        for entry in self.entries:
            if entry.track >= 0 and entry.at_ms <= at_ms:
                parts[entry.track].append(entry.text)
        has_ended = at_ms >= self.until_ms
        return [
            Track(track.kind, track.choice, track.name, texts, track.result if has_ended else None)
            for track, texts in zip(self.tracks, parts, strict=True)
            if texts
        ]

    def state(self) -> dict[str, Any]:
        """Return the card as JSON data for the widget, without empty values."""
        names = ("title", "word", "facts", "foot", "error", "note", "raw", "chunks", "depth")
        state: dict[str, Any] = {name: getattr(self, name) for name in names}
        state |= {"asked": self.prompt, "untimed": self.timed is False}
        state |= {"tracks": [track.state() for track in self.tracks], "beats": _entries_text(self.entries)}
        return _without_empty(state)


def _without_empty(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}


def _entries_text(entries: Sequence[Entry]) -> str:
    """Return entries as text: ``@`` and a track where it changes, the gap in ms, ``+`` and a length in UTF-16 units.

    A list of numbers would take a line each in a notebook's file."""
    words: list[str] = []
    at = track = 0
    for entry in entries:
        gap, at = entry.at_ms - at, entry.at_ms
        if entry.track not in (track, -1):
            track = entry.track
            words.append(f"@{track}")
        words.append(str(gap) if entry.track < 0 else f"{gap}+{len(entry.text.encode('utf-16-le')) // 2}")
    return " ".join(words)


def _make_card(call: Interaction, take: Take | None, timeline: Timeline, depth: int) -> Card:
    request = call.request
    file = "" if request is None else f"{request.kind}-{call.key.partition(':')[2][:16]}"
    prompt = prompt_of(request)
    note = clip(plain(call.note), _MAX_NOTE)
    model = request.model if request else ""
    if take is None:
        foot = (plain(file),) if file else ()
        title = plain(model or call.host)
        return Card(title, OUTCOMES[call.outcome], foot=foot, prompt=prompt, note=note, depth=depth, call=call)
    tracks = [_tool_track(call, take)] if _is_tool(call) else timeline.tracks
    reader = timeline.answer.reader
    stream = take.body if isinstance(take.body, Events) else None
    tokens = reader.tokens.get("input"), reader.tokens.get("output")
    error = "" if take.error is None else f"{take.error.get('type', '')}: {take.error.get('message', '')}"
    return Card(
        title=plain(reader.model or model or take.host),
        word="UNSAVED" if call.outcome == "unsaved" else "",
        facts=_facts(take, timeline, tokens),
        foot=_foot(take, file, tokens),
        prompt=prompt,
        tracks=tuple(tracks),
        entries=tuple(timeline.entries) if stream and take.timed and not _is_tool(call) else (),
        timed=take.timed if stream else None,
        error=plain(reader.error or error),
        note=note if call.outcome in FAILURES else "",
        raw=_raw(stream) if stream else (),
        chunks=len(stream.chunks) if stream else 0,
        tokens=tokens,
        duration_s=take.duration_s,
        depth=depth,
        call=call,
    )


def prompt_of(request: Request | None) -> str:
    """Return the user's last message in a request, as it is shown."""
    # Clipped first, since a text may be megabytes.
    return "" if request is None else plain(clip(last_user_text(request.fields), _MAX_PROMPT))


def _tool_track(call: Interaction, take: Take) -> Track:
    """Return the track of a tool that ran without a model's call to it."""
    value, error = tool_value(take), tool_error(take) or ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    result = ToolResult(clip(plain("" if error else text), _MAX_RESULT), plain(error), take.duration_s)
    arguments = plain(json.dumps(call.request.body if call.request else None, ensure_ascii=False))
    return Track("tool_call", name=plain(call.request.model if call.request else ""), parts=[arguments], result=result)


def _facts(take: Take, timeline: Timeline, tokens: tuple[int | None, int | None]) -> tuple[str, ...]:
    finish = timeline.answer.reader.finish
    if take.status is None or take.status >= 400:
        state = "failed" if take.status is None else f"error {take.status}"
    elif not take.complete and not take.standing:
        state = take.reason or "incomplete"
    else:
        state = "done" if finish in _SUCCESS else plain(finish)
    took = take.duration_s
    if took is None:
        return state, "no timings recorded"
    facts = [state, format_seconds(took)]
    first = timeline.answer.first_ms
    if isinstance(take.body, Events) and first is not None:
        facts.append(f"first token {format_seconds(first / 1000)}")
    if tokens[1] and took:
        facts.append(f"{tokens[1] / took:.0f} tok/s")
    return tuple(facts)


def _foot(take: Take, file: str, tokens: tuple[int | None, int | None]) -> tuple[str, ...]:
    foot = []
    if tokens != (None, None):
        foot.append(" → ".join(f"{count:,}" for count in tokens if count is not None) + " tokens")
    foot.append(file)
    if take.recorded_at:  # the answer of an MCP server may have none
        foot.append(f"recorded {take.recorded_at[:10]}" + (f" at {take.host}" if take.host else ""))
    if take.redacted:
        foot.append("1 secret was removed" if take.redacted == 1 else f"{take.redacted} secrets were removed")
    return tuple(plain(part) for part in foot if part)


def _raw(stream: Events) -> tuple[str, ...]:
    """Return the first chunks of a stream, as they are stored."""
    size, lines = 0, []
    for chunk in stream.chunks:
        line = json.dumps(chunk.as_list(), ensure_ascii=False)
        size += len(line)
        if size > _MAX_RAW:
            break
        lines.append(plain(line))
    return tuple(lines)


def make_cards(calls: Sequence[Interaction], timelines: Sequence[Timeline | None] = ()) -> list[Card]:
    """Return the cards of calls, in their order; their `timelines` need not be built where they are known.

    A tool that a model asked for is shown on the card of that answer, and has no card of its own.
    """
    takes = [call.take and call.take.readable() for call in calls]
    whole = [
        timeline or Timeline(None if _is_tool(call) else take)
        for call, take, timeline in zip(calls, takes, timelines or [None] * len(calls), strict=True)
    ]
    ran, depths = _link_tools(calls, takes, whole)
    parts = zip(calls, takes, whole, depths, strict=True)
    return [_make_card(*part) for place, part in enumerate(parts) if place not in ran]


def _link_tools(
    calls: Sequence[Interaction], takes: Sequence[Take | None], timelines: Sequence[Timeline]
) -> tuple[set[int], list[int]]:
    """Put the results of tools into the tracks of their calls. Return the places of these tools, and all depths."""
    facts = []
    for place, (call, take, timeline) in enumerate(zip(calls, takes, timelines, strict=True)):
        body = None if call.request is None or _is_tool(call) else call.request.body
        messages = messages_in(body, take.ids if take else ())
        facts.append(fact_of(str(place), place, call.request, take, timeline.answer, messages))
    ran: set[int] = set()
    depths = [0] * len(calls)
    for place, tool_calls in enumerate(links(facts)):
        tracks = [track for track in timelines[place].tracks if track.kind == "tool_call"]
        for number, link in enumerate(tool_calls):
            carriers = [int(carrier) for carrier in link.carriers if int(carrier) > place]
            tool = int(link.ran) if link.ran is not None and int(link.ran) > place else None
            for carrier in carriers:  # where several answers led to a request, it stands below the last
                depths[carrier] = depths[place] + 1
            if tool is not None:
                ran.add(tool)
            # The last object of a stream may name calls that no piece of it brought, and that have no track.
            if (carriers or tool is not None) and number < len(tracks):
                text, error = clip(plain(link.result or ""), _MAX_RESULT), plain(link.error or "")
                tracks[number].result = ToolResult(text, error, link.duration_s)
    return ran, depths


def _is_tool(call: Interaction) -> bool:
    return call.request is not None and call.request.kind == "tool"
