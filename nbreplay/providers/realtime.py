"""Messages of websocket sessions, in both directions, as pieces: OpenAI's realtime and responses, xAI's, Gemini Live.

Pieces of a session have kinds that no other answer has: ``user`` and ``user_audio`` for what a user says, ``system``
for instructions, ``history`` for what the client says that a model said before, ``tool_result``, ``audio`` for what a
model says aloud, ``sent`` and ``received`` for messages of any other service. Each turn has its own key, in `call`.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from nbreplay.core.recording.json_text import dicts, parse_object
from nbreplay.providers.deltas import ITEM_CALLS, LARGEST_COUNT, Piece, Reader, arguments_text, count_tokens, text
from nbreplay.providers.messages import Message, MessageCall, canonical, messages_of

SENT = frozenset(("user", "user_audio", "system", "history", "tool_result", "sent"))
"""The kinds of pieces that the client sends, or that repeat in words what it has said aloud."""

_PREFIXES = ("session.", "response.", "conversation.", "input_audio_buffer.", "output_audio_buffer.", "rate_limits.")
_OTHERS = ("error", "ping", "transcription_session.update", "transcription_session.updated")
# What brings text piece by piece: the end of its type, and the kind of the text.
_DELTAS = {
    **dict.fromkeys(("output_text.delta", "text.delta"), "text"),
    **dict.fromkeys(("output_audio_transcript.delta", "audio_transcript.delta"), "text"),
    **dict.fromkeys(("reasoning_summary_text.delta", "reasoning_text.delta"), "reasoning"),
    "refusal.delta": "refusal",
    "input_audio_transcription.delta": "user",
}
# What repeats such a text whole, or brings it where no piece has come: the kind, and the field with the text.
_WHOLE = {
    **dict.fromkeys(("output_text.done", "text.done"), ("text", "text")),
    **dict.fromkeys(("output_audio_transcript.done", "audio_transcript.done"), ("text", "transcript")),
    "refusal.done": ("refusal", "refusal"),
    "input_audio_transcription.completed": ("user", "transcript"),
}
_GEMINI_SENT = ("setup", "client_content", "realtime_input", "tool_response")
_GEMINI = frozenset(
    (
        *_GEMINI_SENT,
        *("clientContent", "realtimeInput", "toolResponse"),
        *("setupComplete", "serverContent", "toolCall", "toolCallCancellation", "usageMetadata"),
        *("goAway", "sessionResumptionUpdate", "voiceActivity", "voiceActivityDetectionSignal"),
    )
)
_ROLES = {"assistant": "history", "system": "system", "developer": "system"}


class Line(NamedTuple):
    """A line of a websocket's take: a message, or the end."""

    sent: bool  # whether the client sent the message
    message: Any  # JSON data or another text; of a binary message, the number of its bytes
    close: tuple[Any, str, str] | None = None  # code, reason, and who closed


LINES = frozenset(("close", *(f"{sign}{form}" for sign in "<>" for form in ("", "text", "base64", "blob"))))
"""The names with which the lines of a websocket's take begin, as `nbreplay.core.recording.websocket` says."""


def read_line(value: dict[str, Any]) -> Line | None:
    """Return the line that an object is which begins with one of `LINES`; None if it is none."""
    name, item = next(iter(value.items()))
    sent = name[0] == ">"
    match name[1:]:
        case "":
            return Line(sent, item)
        case "text":
            return Line(sent, parse_object(item) or item) if isinstance(item, str) else None
        case "base64":
            return Line(sent, _decoded_size(item)) if isinstance(item, str) else None
        case "blob":
            return Line(sent, value.get("size"))
    if isinstance(item, dict) and "by" in item:
        return Line(False, None, (item.get("code"), text(item.get("reason")), text(item["by"])))
    return None


def _decoded_size(data: str) -> int:
    """Return the number of bytes that base64 stands for."""
    return len(data) * 3 // 4 - data[-2:].count("=")


@dataclass(slots=True)
class Turn:
    """What one side has said without a break, as it comes together."""

    kind: str
    parts: list[str] = field(default_factory=list)
    call: Hashable = None  # of a tool call or its result
    began_ms: int = 0  # when it began, from the opening of the connection

    @property
    def is_sent(self) -> bool:
        """Whether the client has said it."""
        return self.kind in SENT

    def message(self, calls: dict[Hashable, Any]) -> Message:
        """Return the turn as a message, given the tool calls of the session by their keys."""
        words = "".join(self.parts)
        match self.kind:
            case "tool_call":
                call = calls[self.call]
                arguments = "".join(call.arguments)
                return Message("assistant", "", "tool_call", (MessageCall(call.id, call.name, arguments),))
            case "tool_result":
                of = next((call for call in calls.values() if call.id == self.call), None)
                arguments = canonical("".join(of.arguments)) if of else ""
                result_of = MessageCall(text(self.call), of.name if of else "", arguments)
                return Message("tool", words, "tool_result", (), result_of)
            case "user_audio" | "audio":
                return Message("user" if self.is_sent else "assistant", "", "audio", others=(words,))
            case "reasoning" | "refusal":
                return Message("assistant", words, self.kind)
            case "system":
                return Message("system", words, "text")
        role = {"user": "user", "sent": "client", "received": "server"}.get(self.kind, "assistant")
        return Message(role, words, "text")


class SessionReader:
    """Reads the messages of one session in their order; model, tokens and errors go to `reader`."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._pieces: list[Piece] = []  # of the current message
        self._audio: dict[str, tuple[int, float]] = {}  # by kind: bytes and seconds that no piece has told yet
        self._begun: set[Hashable] = set()  # the keys that have text
        self._serial = itertools.count()
        self._turn = 0  # changes wherever a turn ends
        self._rates = {"user_audio": 48_000.0, "audio": 48_000.0}  # bytes a second; 0 where that is not known
        self._is_known = False  # whether the session is one of OpenAI's kind

    def read_line(self, line: Line) -> list[Piece]:
        """Return the pieces that a line of a take brings."""
        self._pieces = []
        if line.close is not None:
            self._read_close(*line.close)
        else:
            self._read(line.sent, line.message)
        return self._pieces

    def end(self) -> list[Piece]:
        """Return the pieces that are only told once the last message has come."""
        self._pieces = []
        self._end_audio("user_audio", "audio")
        return self._pieces

    def _read(self, sent: bool, message: Any) -> None:
        kind = message.get("type") if isinstance(message, dict) else None
        if isinstance(kind, str) and (kind.startswith(_PREFIXES) or (self._is_known and kind in _OTHERS)):
            self._is_known = True
            (self._read_openai_sent if sent else self._read_openai)(kind, message)
        elif isinstance(message, dict) and not _GEMINI.isdisjoint(message):
            (self._read_gemini_sent if sent else self._read_gemini)(message)
        else:
            self._read_other("sent" if sent else "received", message)

    def _read_close(self, code: Any, reason: str, by: str) -> None:
        """Read the end of a session, which may be an error."""
        self._end_audio("user_audio", "audio")
        if code not in (1000, 1001, 1005):
            self._reader.error = f"closed by the {by} ({code})" + (f": {reason}" if reason else "")
            self._reader.error_type = self._reader.error_type or f"closed {code}"

    def _say(self, kind: str, words: Any, key: Hashable = None, own: str = "") -> None:
        if words and isinstance(words, str):
            key = (kind, self._turn) if key is None else key
            self._begun.add((kind, key))
            self._pieces.append(Piece(kind, words, 0, key, "", own))

    def _call(self, key: Hashable, name: Any, arguments: Any, own: Any) -> None:
        self._begun |= {("tool_call", key), *([("arguments", key)] if arguments else [])}
        self._pieces.append(Piece("tool_call", arguments_text(arguments), 0, key, text(name), text(own)))

    def _hear(self, kind: str, data: Any, rate: float | None = None) -> None:
        """Note audio, given as base64. A piece tells of it once it is over."""
        if isinstance(data, str) and data:
            size = _decoded_size(data)
            rate = self._rates[kind] if rate is None else rate
            before, seconds = self._audio.get(kind, (0, 0.0))
            self._audio[kind] = before + size, seconds + (size / rate if rate else 0.0)

    def _end_audio(self, *kinds: str) -> None:
        for kind in kinds:
            size, seconds = self._audio.pop(kind, (0, 0.0))
            if size:
                length = f"{seconds:.1f} s of " if seconds >= 1 else f"{seconds * 1000:.0f} ms of " if seconds else ""
                self._say(kind, f"({length}audio, {size:,} bytes)", (kind, next(self._serial)))

    def _end_turn(self) -> None:
        self._end_audio("user_audio", "audio")
        self._turn += 1

    def _read_messages(self, body: dict[str, Any]) -> None:
        """Read messages in any shape that a request may have them."""
        self._turn += 1
        for message in messages_of(body):
            self._turn += 1
            if message.result_of is not None:
                self._say("tool_result", message.content, ("result", self._turn), message.result_of.id)
                continue
            kind = _ROLES.get(message.role, "user")
            calls = [f"{call.name}({call.arguments})" for call in message.calls]
            parts = [_describe_part(part) for part in message.others]
            self._say(kind, "\n".join(filter(None, (message.content, *calls, *parts))))
        self._turn += 1

    def _add_tokens(self, usage: Any) -> None:
        """Add the tokens of one response to those of the session."""
        tokens: dict[str, int] = {}
        count_tokens(usage, tokens)
        for kind, number in tokens.items():
            self._reader.tokens[kind] = min(self._reader.tokens.get(kind, 0) + number, LARGEST_COUNT - 1)

    # OpenAI's and xAI's realtime sessions, and OpenAI's responses over a websocket.

    def _read_openai_sent(self, kind: str, message: dict[str, Any]) -> None:
        if kind == "input_audio_buffer.append":
            self._hear("user_audio", message.get("audio"))
            return
        self._end_audio("user_audio")
        if kind == "session.update" and isinstance(session := message.get("session"), dict):
            self._read_formats(session)
            self._say("system", session.get("instructions"), ("system", self._turn))
        elif kind == "conversation.item.create" and isinstance(item := message.get("item"), dict):
            self._read_messages({"input": [item]})
        elif kind == "response.create":
            response = message.get("response")
            body = response if isinstance(response, dict) else message
            self._reader.model = text(body.get("model")) or self._reader.model
            self._read_messages(body)

    def _read_formats(self, session: dict[str, Any]) -> None:
        """Note how audio is written, to tell its length."""
        sides = session.get("audio") if isinstance(session.get("audio"), dict) else {}
        for kind, side in (("user_audio", "input"), ("audio", "output")):
            part = sides.get(side) if isinstance(sides, dict) else None
            form = part.get("format") if isinstance(part, dict) else session.get(f"{side}_audio_format")
            if isinstance(form, dict):
                name, rate = text(form.get("type")), form.get("rate")
                rate = rate if type(rate) is int and 0 < rate < 10**6 else 24_000
                self._rates[kind] = {"audio/pcm": 2.0 * rate, "audio/pcmu": 8e3, "audio/pcma": 8e3}.get(name, 0.0)
            elif isinstance(form, str):
                self._rates[kind] = {"pcm16": 48e3, "g711_ulaw": 8e3, "g711_alaw": 8e3}.get(form, 0.0)

    def _read_openai(self, kind: str, message: dict[str, Any]) -> None:
        name = kind.removeprefix("response.").removeprefix("conversation.item.")
        key = ("item", str(message.get("item_id", message.get("output_index"))))
        if name.startswith("input_audio_transcription."):
            self._end_audio("user_audio")
        if name in _DELTAS:
            self._say(_DELTAS[name], message.get("delta"), key)
        elif name in _WHOLE:
            part, place = _WHOLE[name]
            if (part, key) not in self._begun:
                self._say(part, message.get(place), key)
        elif name in ("output_audio.delta", "audio.delta"):
            self._hear("audio", message.get("delta"))
        elif name in ("output_audio.done", "audio.done"):
            self._end_audio("audio")
        elif name.endswith((".arguments.delta", "_arguments.delta", "_input.delta")):
            self._call(key, "", message.get("delta"), message.get("call_id"))
        elif name.endswith(("_arguments.done", "_input.done")):
            self._read_call(key, message)
        elif name == "output_item.added" and isinstance(item := message.get("item"), dict):
            if item.get("type") in ITEM_CALLS:
                self._call(("item", str(item.get("id"))), item.get("name"), "", item.get("call_id", item.get("id")))
        elif name in ("done", "completed", "incomplete", "failed"):
            self._read_response(message)
        elif kind == "error":
            self._reader.note_error(message.get("error", message))
        elif kind == "input_audio_buffer.committed":
            self._end_audio("user_audio")
        elif kind in ("session.created", "session.updated") and isinstance(session := message.get("session"), dict):
            self._read_formats(session)
            self._reader.model = text(session.get("model")) or self._reader.model

    def _read_call(self, key: Hashable, message: dict[str, Any]) -> None:
        """Read a tool call that is over: arguments that have not come piece by piece, and its name."""
        arguments = message.get("arguments", message.get("input"))
        if ("arguments", key) in self._begun:
            arguments = ""
        if arguments or message.get("name"):
            self._call(key, message.get("name"), arguments, message.get("call_id"))

    def _read_response(self, message: dict[str, Any]) -> None:
        response = message.get("response")
        if not isinstance(response, dict):
            return
        self._end_audio("audio")
        reader, details = self._reader, response.get("status_details")
        reader.model = text(response.get("model")) or reader.model
        reader.finish = text(response.get("status")) or reader.finish
        self._add_tokens(response.get("usage") or message.get("usage"))
        error = response.get("error") or (details.get("error") if isinstance(details, dict) else None)
        if error:
            reader.note_error(error)
        for item in dicts(response.get("output")):
            key = ("item", str(item.get("id")))
            if item.get("type") in ITEM_CALLS and ("tool_call", key) not in self._begun:
                self._call(key, item.get("name"), item.get("arguments", item.get("input")), item.get("call_id"))
            elif item.get("type") == "message" and ("text", key) not in self._begun:
                for part in dicts(item.get("content")):
                    self._say("text", part.get("text") or part.get("transcript"), key)

    # Gemini Live.

    def _read_gemini_sent(self, message: dict[str, Any]) -> None:
        setup = message.get("setup")
        if isinstance(setup, dict):
            self._reader.model = text(setup.get("model")).rpartition("/")[2] or self._reader.model
            self._read_messages({name: setup[name] for name in setup if name.startswith("system")})
        content = message.get("clientContent", message.get("client_content"))
        if isinstance(content, dict):
            self._end_turn()
            self._read_messages({"contents": content.get("turns")})
        spoken = message.get("realtimeInput", message.get("realtime_input"))
        if isinstance(spoken, dict):
            self._say("user", spoken.get("text"))
            for part in dicts([spoken.get("audio"), *dicts(spoken.get("mediaChunks", spoken.get("media_chunks")))]):
                self._read_blob("user_audio", part)
        response = message.get("toolResponse", message.get("tool_response"))
        if isinstance(response, dict):
            answers = dicts(response.get("functionResponses", response.get("function_responses")))
            for answer in answers:
                value = answer.get("response")
                value = value.get("output", value.get("result", value)) if isinstance(value, dict) else value
                self._turn += 1
                self._say("tool_result", arguments_text(value), ("result", self._turn), text(answer.get("id")))

    def _read_gemini(self, message: dict[str, Any]) -> None:
        content = message.get("serverContent")
        if isinstance(content, dict):
            self._read_content(content)
        call = message.get("toolCall")
        for number, item in enumerate(dicts(call.get("functionCalls")) if isinstance(call, dict) else []):
            key = ("call", text(item.get("id")) or f"{self._turn}.{number}")
            self._call(key, item.get("name"), item.get("args"), item.get("id"))
        self._add_tokens(message.get("usageMetadata"))

    def _read_content(self, content: dict[str, Any]) -> None:
        for name, kind in (("inputTranscription", "user"), ("outputTranscription", "text")):
            part = content.get(name)
            if isinstance(part, dict):
                self._end_audio(*(["user_audio"] if kind == "user" else []))
                self._say(kind, part.get("text"))
        turn = content.get("modelTurn")
        for part in dicts(turn.get("parts")) if isinstance(turn, dict) else []:
            self._say("reasoning" if part.get("thought") else "text", part.get("text"))
            self._read_blob("audio", part.get("inlineData"))
        if content.get("interrupted"):
            self._reader.finish = "interrupted"
        if content.get("turnComplete") or content.get("interrupted"):
            self._end_turn()

    def _read_blob(self, kind: str, blob: Any) -> None:
        """Note audio that says its own type, such as ``audio/pcm;rate=24000``."""
        if isinstance(blob, dict):
            name = text(blob.get("mimeType", blob.get("mime_type")))
            rate = re.search(r"rate=(\d{1,6})", name)
            per_second = (2.0 * int(rate[1]) if rate else 48e3) if name.startswith("audio/pcm") else 0.0
            self._hear(kind, blob.get("data"), per_second)

    # Any other service.

    def _read_other(self, kind: str, message: Any) -> None:
        if type(message) is int:
            message = f"({message:,} bytes)"
        words = message if isinstance(message, str) else json.dumps(message, ensure_ascii=False)
        self._say(kind, words, (kind, next(self._serial)))


def _describe_part(part: Any) -> str:
    """Return a part of a message that is not text in a few words: audio and images are long."""
    if not isinstance(part, dict):
        return ""
    if text(part.get("transcript")):
        return str(part["transcript"])
    data = next((value for value in part.values() if isinstance(value, str) and len(value) > 100), "")
    return f"({part.get('type') or next(iter(part), 'data')}{f', {len(data) * 3 // 4:,} bytes' if data else ''})"
