"""Card: everything that is shown of one call, with the timeline of its answer. Pure: from an interaction to values.

A card is built from the take alone, so recorded and replayed calls look the same. The outcome and the cost are shown
beside it, and never stored.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import msgspec

from nbreplay.core.log import Interaction
from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.take import Take
from nbreplay.core.request.request import Request, last_user_text
from nbreplay.core.words import FAILURES, OUTCOMES, count_of, shorten
from nbreplay.notebook.escape import clip, format_seconds, one_line, plain, shorten_data
from nbreplay.prices import packaged_prices
from nbreplay.providers.answer import Answer, provider_of
from nbreplay.providers.deltas import Piece, values
from nbreplay.providers.messages import messages_in
from nbreplay.providers.tool_links import fact_of, links, tool_error, tool_value

# The most characters that are shown; longer arguments of tools are shown as they came.
_MAX_PROMPT, _MAX_NOTE, _MAX_RAW, _MAX_RESULT, _MAX_INDENTED = 2_000, 5_000, 3_000, 10_000, 100_000
_MAX_LINE = 90  # of a tool's arguments or result on one line
_MAX_MESSAGES = 100  # of a websocket to a service that is not known
# Why an answer has ended, by what providers call it and by the reasons of takes; any other reason as it came.
_ENDINGS = {
    **dict.fromkeys(("", "stop", "end_turn", "completed", "STOP"), "done"),
    **dict.fromkeys(("length", "max_tokens", "MAX_TOKENS"), "stopped at the token limit"),
    **dict.fromkeys(("tool_calls", "tool_use", "function_call"), "asks for tools"),
    **dict.fromkeys(("content_filter", "SAFETY"), "stopped by a content filter"),
    "closed": "closed by the caller",
    "dropped": "connection lost",
    "open": "still open",
}


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

    kind: str  # "text", "reasoning", "refusal", "tool_call", or one of `nbreplay.providers.realtime`
    choice: int = 0
    name: str = ""  # the tool's, as far as it has come
    parts: list[str] = field(default_factory=list)  # of the text; of a tool call, of its arguments
    result: ToolResult | None = None
    marks: tuple[tuple[int, int], ...] = ()  # spans of `marked_text` that differ from another answer
    ran: bool = False  # whether it is the call of a card's own tool, whose outcome the card tells
    began_ms: int | None = None  # of a websocket: when its first piece came
    answered_ms: int | None = None  # and when the result of a tool call was sent

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.parts)

    def state(self) -> dict[str, Any]:
        """Return the track as JSON data for the widget, without empty values."""
        state: dict[str, Any] = {"kind": self.kind, "choice": self.choice, "text": self.text, "when": self.when}
        if self.marks:
            state["marks"] = _marks_text(self.marked_text, self.marks)
        if self.kind == "tool_call":
            arguments = self.format_arguments()
            state |= {"name": self.name, "invalid": arguments is None, "json": arguments, "ran": self.ran}
            state["line"] = shorten(self.format_line(), 2 * _MAX_LINE)
            if self.result is not None:
                state |= {"result": self.result.text, "error": self.result.error, "answered": True}
                state |= {"took": format_seconds(self.result.took_s), "answeredAt": self.answered_ms}
        return _without_empty(state)

    def is_answered(self, at_ms: int) -> bool:
        """Tell whether the result of a tool call had been sent at a time, of a websocket."""
        return self.answered_ms is not None and self.answered_ms <= at_ms

    @property
    def when(self) -> str:
        """When its first piece came, of a websocket; else ``""``."""
        return "" if self.began_ms is None else format_seconds(self.began_ms / 1000)

    @property
    def marked_text(self) -> str:
        """The text that is compared with another answer's: of a tool call, its arguments as they are shown."""
        return (self.format_arguments() or self.text) if self.kind == "tool_call" else self.text

    def format_line(self) -> str:
        """Return the arguments of a tool call on one line, as Python writes them, such as ``city="Tokyo", days=4``."""
        try:
            values = msgspec.json.decode(self.text or "{}", type=dict[str, msgspec.Raw])
        except (msgspec.DecodeError, ValueError, RecursionError):
            return one_line(self.text)
        return ", ".join(f"{one_line(plain(name))}={one_line(str(value, 'utf-8'))}" for name, value in values.items())

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


def _marks_text(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """Return spans as text, each as the gap before it, ``+`` and its length in UTF-16 units."""
    words, at = [], 0
    for low, high in spans:
        words.append("+".join(str(_utf16_size(part)) for part in (text[at:low], text[low:high])))
        at = high
    return " ".join(words)


def _utf16_size(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


class Timeline:
    """Tracks and entries of an answer: of a whole take, or of the objects that are fed as they come."""

    def __init__(self, take: Take | None = None) -> None:
        self.answer = Answer()  # the whole answer so far
        self.tracks: list[Track] = []  # in the order in which they began
        self.entries: list[Entry] = []
        self.is_timed = take is None or take.timed
        self.left_out = 0  # messages of a websocket that nothing is known of: the first ones tell enough
        self._places: dict[Hashable, int] = {}
        self._plain_messages = 0
        at_ms = 0
        for at_ms, value, event in values(take and take.body):
            self.feed(at_ms, value, event)
        if pieces := self.answer.end(at_ms):
            self._add(at_ms, pieces)

    def feed(self, at_ms: int, value: dict[str, Any] | None, event: str | None = None) -> int:
        """Add the next object of the answer. Return the number of its entries: one without text, if it has none."""
        return self._add(at_ms, [] if value is None else self.answer.feed(at_ms, value, event))

    def _add(self, at_ms: int, pieces: Sequence[Piece]) -> int:
        if not pieces:
            self.entries.append(Entry(at_ms, -1, ""))
            return 1
        for kind, text, choice, call, name, own in pieces:
            place = self._place_of(at_ms, kind, choice, call, own)
            if place < 0:
                self.entries.append(Entry(at_ms, -1, ""))
                continue
            track, text = self.tracks[place], plain(text)
            if kind == "user" and not track.parts:
                text = text.lstrip()  # what has been heard may begin with a space
            if name:
                track.name = plain(self.answer.calls[call].name)
            if kind == "tool_result" and track.kind == "tool_call":
                track.result, text = ToolResult(clip(text, _MAX_RESULT)), ""
                track.answered_ms = at_ms if self.is_timed else None
            elif kind in ("sent", "received"):
                text = clip(text, _MAX_PROMPT)
            track.parts.append(text)
            self.entries.append(Entry(at_ms, place, text))
        return len(pieces)

    def _place_of(self, at_ms: int, kind: str, choice: int, call: Hashable, own: str) -> int:
        """Return the number of the track that a piece belongs to, a new one if there is none yet; -1 for no track."""
        key = (kind, choice if call is None else call)
        if kind == "tool_result":  # it is shown with its call
            calls = self.answer.calls.items()
            key = next((("tool_call", known) for known, one in calls if one.id == own), key)
        elif kind in ("sent", "received"):
            self._plain_messages += 1
            if self._plain_messages > _MAX_MESSAGES:
                self.left_out += 1
                return -1
        place = self._places.setdefault(key, len(self.tracks))
        if place == len(self.tracks):
            began_ms = at_ms if self.is_timed and self.answer.turns else None
            self.tracks.append(Track(kind, choice, began_ms=began_ms))
        return place


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
    side: str = ""  # of a pair: ``-`` or ``+``

    @property
    def until_ms(self) -> int:
        """The arrival of the last piece."""
        return self.entries[-1].at_ms if self.entries else 0

    @property
    def beats(self) -> str:
        """The entries as text: ``@`` and a track where it changes, the gap in ms, ``+`` and a length in UTF-16 units.

        A list of numbers would take a line each in a notebook's file."""
        words: list[str] = []
        at = track = 0
        for entry in self.entries:
            gap, at = entry.at_ms - at, entry.at_ms
            if entry.track not in (track, -1):
                track = entry.track
                words.append(f"@{track}")
            words.append(str(gap) if entry.track < 0 else f"{gap}+{_utf16_size(entry.text)}")
        return " ".join(words)

    @property
    def outcome(self) -> str:
        """The outcome, such as ``REPLAY``."""
        return OUTCOMES[self.call.outcome].label if self.call else ""

    @property
    def cost(self) -> str:
        """An estimate such as ``≈ $0.0004``; ``""`` where tokens or prices are not known, or none are installed."""
        (sent, received), call = self.tokens, self.call
        # Of a websocket's tokens some may be audio, which costs more.
        if call is None or call.take is None or call.take.status == 101 or sent is None or received is None:
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
            replace(track, parts=texts, result=track.result if has_ended or track.is_answered(at_ms) else None)
            for track, texts in zip(self.tracks, parts, strict=True)
            if texts
        ]

    def state(self) -> dict[str, Any]:
        """Return the card as JSON data for the widget, without empty values."""
        names = ("title", "word", "facts", "foot", "error", "note", "raw", "chunks", "depth")
        state: dict[str, Any] = {name: getattr(self, name) for name in names}
        state |= {"asked": self.prompt, "untimed": self.timed is False}
        state |= {"tracks": [track.state() for track in self.tracks], "beats": self.beats}
        return _without_empty(state)


def _without_empty(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}


def _make_card(call: Interaction, take: Take | None, timeline: Timeline, depth: int) -> Card:
    request = call.request
    file = "" if request is None else f"{request.kind}-{call.key.partition(':')[2][:16]}"
    prompt = prompt_of(request)
    note = clip(plain(call.note), _MAX_NOTE)
    model = request.model if request else ""
    if take is None:
        foot = (plain(file),) if file else ()
        title = plain(model or call.host)
        return Card(title, OUTCOMES[call.outcome].label, foot=foot, prompt=prompt, note=note, depth=depth, call=call)
    tracks = [_tool_track(call, take)] if _is_tool(call) else timeline.tracks
    reader = timeline.answer.reader
    stream = take.body if isinstance(take.body, Events) else None
    tokens = reader.tokens.get("input"), reader.tokens.get("output")
    error = "" if take.error is None else f"{take.error.get('type', '')}: {take.error.get('message', '')}"
    error = error or _exception_text(call, take)
    return Card(
        title=plain(reader.model or model or take.host),
        word=OUTCOMES["unsaved"].label if call.outcome == "unsaved" else "",
        facts=_facts(take, timeline, tokens, error),
        foot=_foot(take, file, tokens, timeline.left_out),
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


def _exception_text(call: Interaction, take: Take) -> str:
    """Return the type and text of the exception that a tool raised, or ``""``."""
    if not _is_tool(call) or (kind := tool_error(take)) is None:
        return ""
    exceptions = (value.get("exception") for _, value, _ in values(take.body) if value)
    texts = (item.get("text") for item in exceptions if isinstance(item, dict))
    return ": ".join(filter(None, (kind, str(next(texts, "") or ""))))


def prompt_of(request: Request | None) -> str:
    """Return the user's last message in a request, as it is shown."""
    # Clipped first, since a text may be megabytes.
    return "" if request is None else plain(clip(last_user_text(request.fields), _MAX_PROMPT))


def _tool_track(call: Interaction, take: Take) -> Track:
    """Return the track of a tool that ran without a model's call to it."""
    value, error = tool_value(take), tool_error(take) or ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict | list) and len(text) > _MAX_LINE:
        text = json.dumps(value, ensure_ascii=False, indent=2)
    result = ToolResult(clip(plain("" if error else text), _MAX_RESULT), plain(error), take.duration_s)
    arguments = plain(json.dumps(call.request.body if call.request else None, ensure_ascii=False))
    name = plain(call.request.model if call.request else "")
    return Track("tool_call", name=name, parts=[arguments], result=result, ran=True)


def _facts(take: Take, timeline: Timeline, tokens: tuple[int | None, int | None], error: str) -> tuple[str, ...]:
    finish = timeline.answer.reader.finish
    if take.status is None or take.status >= 400:
        state = "failed" if take.status is None else f"error {take.status}"
    elif error:
        state = "failed"
    elif not take.complete and not take.standing:
        state = _ENDINGS.get(take.reason or "incomplete", take.reason or "incomplete")
    else:
        state = _ENDINGS.get(finish, plain(finish))
    took = take.duration_s
    facts = [state, "no timings recorded" if took is None else format_seconds(took)]
    if take.status == 101 and isinstance(take.body, Events):  # a websocket, which waits for its client
        facts[0] = "failed" if timeline.answer.reader.error else state
        closes = sum(isinstance(chunk.data, dict) and "close" in chunk.data for chunk in take.body.chunks[-1:])
        return (*facts, count_of(len(take.body.chunks) - closes, "message"))
    if took is None:
        return tuple(facts)
    first = timeline.answer.first_ms
    if isinstance(take.body, Events) and first is not None:
        facts.append(f"first token {format_seconds(first / 1000)}")
    if tokens[1] and took:
        facts.append(f"{tokens[1] / took:.0f} tok/s")
    return tuple(facts)


def _foot(take: Take, file: str, tokens: tuple[int | None, int | None], left_out: int) -> tuple[str, ...]:
    foot = [f"{count_of(left_out, 'more message')} not shown"] if left_out else []
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
        line = shorten_data(json.dumps(chunk.as_list(), ensure_ascii=False))
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
        messages += [message for is_sent, message in timeline.answer.messages() if is_sent]
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
