"""``nbreplay show``: prints a recording as the conversation that it is."""

from __future__ import annotations

import argparse
import difflib
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbreplay.cli.listing import address_of, entry_of, format_bytes, format_call, rows_of
from nbreplay.cli.output import BAD, HEADING, NAME, print_text
from nbreplay.cli.store import open_store
from nbreplay.core.log import Interaction
from nbreplay.core.nearest import is_prompt
from nbreplay.core.recording.blob import Blob
from nbreplay.core.recording.json_text import dicts, parse_object
from nbreplay.core.recording.recording import Recording, parse
from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.take import Take
from nbreplay.core.request.request import Request
from nbreplay.core.store.store import Store
from nbreplay.core.words import count_of, shorten
from nbreplay.errors import OptionError, RecordingFormatError
from nbreplay.notebook.escape import format_seconds, plain, shorten_data

if TYPE_CHECKING:
    from nbreplay.providers.messages import Message

_EPILOG = """\
A terminal shortens very long texts, reasoning and vectors, and says so; --full and a pipe have them whole.

examples:
  $ nbreplay show chat-3f2a9c81
  $ nbreplay show 3f2a9c81 --raw
  $ nbreplay show recordings/chat-3f2a9c81d04be77a.json --json

exit status: 0 fine, 1 the recording cannot be read, 2 wrong usage, or no recording has such a key
"""
_LONG, _SHORT, _SETTING = 10_000, 300, 200  # characters of a text, of reasoning or another detail, of a setting
_CANDIDATES = 10
_TOOLS = ("tools", "functions", "toolConfig")


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to those of the command line."""
    show = commands.add_parser(
        "show",
        description="Print a recording as a conversation: what was asked, with which settings, and each answer.",
        epilog=_EPILOG,
    )
    show.add_argument("key", metavar="KEY", help="a key, the beginning of one, or a file")
    show.add_argument("--store", metavar="STORE", help="by default, the store of the working directory")
    show.add_argument("--full", action="store_true", help="shorten nothing")
    show.add_argument("--raw", action="store_true", help="print the answers as stored: chunks with their times")
    show.add_argument("--json", action="store_true", help="print the file as it is")
    show.set_defaults(do=_show)


def find_recording(key: str, store_path: str | None) -> tuple[str, Recording]:
    """Return the name and the recording for a key, the beginning of one, or a file."""
    path = Path(key)
    if path.suffix == ".json" and path.is_file():
        try:
            return key, parse(path.read_bytes(), f"{path.absolute().parent}/")
        except (OSError, ValueError, RecordingFormatError) as error:
            raise RecordingFormatError(f"{path} cannot be read: {error}") from None
    store = open_store(store_path)
    start = key.removeprefix("k1:").removesuffix(".json")
    names = [name for name in store.names() if name.startswith(start) or name.partition("-")[2].startswith(start[:16])]
    if len(names) > 1:
        lines = "\n".join(_describe(store, name) for name in sorted(names)[:_CANDIDATES])
        more = f"\n  … {len(names) - _CANDIDATES:,} more" if len(names) > _CANDIDATES else ""
        raise OptionError(f"{key} may be any of {len(names):,} recordings. Write more of it:\n{lines}{more}")
    recording = store.read(names[0]) if names else None
    if recording is None or not (names[0].startswith(start) or recording.key.partition(":")[2].startswith(start)):
        raise OptionError(f"recording {key} was not found in {store.shown}. {_suggest(start, store)}")
    return names[0], recording


def _describe(store: Store, name: str) -> str:
    try:
        recording = store.read(name)
    except RecordingFormatError:
        recording = None
    if recording is None:
        return f"  {name}  (cannot be read)"
    entry = entry_of(recording, rows_of(name, recording), 0)
    return f"  {name}  {'  '.join(part for part in (entry.model, shorten(entry.line, 60)) if part)}"


def _suggest(start: str, store: Store) -> str:
    """Return the recordings whose names come near to what was written."""
    names = sorted(store.names())
    ends = {name.removesuffix(".json"): name for name in names} | {name.partition("-")[2][:16]: name for name in names}
    starts = {end[: len(start)]: name for end, name in ends.items()}
    near = dict.fromkeys(starts[text] for text in difflib.get_close_matches(start, starts, 3, 0.75)) if start else {}
    lines = "".join(f"\n{_describe(store, name)}" for name in near)
    return "nbreplay ls lists the recordings" + (f". Did you mean:{lines}" if near else "")


def _show(options: argparse.Namespace) -> int:
    name, recording = find_recording(options.key, options.store)
    if options.json:
        text = recording.text()
        # In JSON, \\u009b is the character itself.
        print(plain(text) if sys.stdout.isatty() else text, end="")
        return 0
    _Page(name, recording, not options.full and sys.stdout.isatty(), options.raw).print()
    return 0


class _Page:
    """What is printed of a recording."""

    def __init__(self, name: str, recording: Recording, shortens: bool, raw: bool) -> None:
        self.name, self.recording, self.shortens, self.raw = name, recording, shortens, raw
        self.request = Request(recording.kind, recording.request, recording.key)

    def print(self) -> None:
        """Print the request and each take."""
        recording = self.recording
        print_text((self.name, NAME))
        print_text(recording.key)
        print_text()
        if recording.kind == "tool":
            print_text(self._clip(format_call(self.request.model, self.request.body), _LONG))
        else:
            self._print_request()
        for number, take in enumerate(recording.takes, 1):
            self._print_take(take.readable(), number)

    def _print_request(self) -> None:
        from nbreplay.providers.messages import messages_in

        fields, body = self.recording.request, self.request.body
        body = body if isinstance(body, dict) else {}
        print_text(self._clip(address_of(fields), _SETTING))
        settings: dict[str, Any] = {"model": self.request.model} if self.request.model else {}
        settings |= {name: value for name, value in body.items() if not is_prompt(name) and name not in _TOOLS}
        for name, value in settings.items():
            text = value if isinstance(value, str) else _compact(value)
            print_text(f"{name} ", self._clip(text, _SETTING), indent=2)
        if tools := list(_tool_signatures(body)):
            print_text(f"{'tools' if len(tools) > 1 else 'tool'} ", self._clip(", ".join(tools), _LONG), indent=2)
        messages = messages_in(body, self.recording.takes[0].ids if self.recording.takes else ())
        for message in messages:
            self._print_message(message)
        if not messages:
            rest = {name: value for name, value in fields.items() if name in ("form", "parts", "text", "digest")}
            if not isinstance(self.request.body, dict) and self.request.body is not None:
                rest["body"] = self.request.body
            for name, value in rest.items():
                print_text()
                print_text((name, HEADING))
                print_text(self._clip(value if isinstance(value, str) else self._json(value), _LONG), indent=2)

    def _print_message(self, message: Message, when: str = "") -> None:
        heading = [message.role]
        if message.result_of is not None and message.result_of.name:
            heading.append(message.result_of.name)
        print_text()
        print_text((" ".join(heading), HEADING), " (failed)" if message.failed else "", when)
        self._print_text("reasoning" if message.content_type == "reasoning" else "text", message.content)
        for part in message.others:
            print_text(part if isinstance(part, str) else _describe_part(part), indent=2)
        for call in message.calls:
            self._print_call(call.name, call.arguments)

    def _print_text(self, kind: str, text: str) -> None:
        if not text:
            return
        label = "" if kind == "text" else f"({kind}) "
        print_text(label, self._clip(text, _SHORT if kind == "reasoning" else _LONG), indent=2)

    def _print_call(self, name: str, arguments: str) -> None:
        value = parse_object(arguments) if arguments else {}
        text = format_call("", arguments if value is None else value)
        print_text("→ ", (name, NAME), self._clip(text, _LONG), indent=2)

    def _print_take(self, take: Take, number: int) -> None:
        from nbreplay.notebook.card import make_cards

        notebook = take.cell.notebook if take.cell else None
        when = take.recorded_at[:19].replace("T", " ")
        sdk = "" if take.sdk == "tool" else take.sdk
        named = {"recorded": when, "at": take.host, "by": sdk, "in": notebook}
        parts = [f"  {word} {value}" for word, value in named.items() if value]
        print_text()
        print_text((f"take {number} of {len(self.recording.takes)}", HEADING), *parts)
        card = make_cards([Interaction(self.request, take, "replayed", host=take.host)])[0]
        if self.raw:
            _print_raw(take, shorten_data if self.shortens else str)
        elif self.recording.kind == "tool":
            self._print_result(take)
        elif self.recording.kind == "websocket":
            self._print_session(take, card.error)
        else:
            self._print_answer(take, card.error)
        tokens = " → ".join(f"{count:,}" for count in card.tokens if count is not None)
        facts = [*card.facts, tokens and f"{tokens} tokens", card.cost]
        if isinstance(take.body, Events):
            facts += [] if take.status == 101 else [count_of(len(take.body.chunks), "chunk")]
        if take.redacted:
            facts.append(f"{count_of(take.redacted, 'secret')} removed")
        print_text(" · ".join(fact for fact in facts if fact), indent=2)

    def _print_result(self, take: Take) -> None:
        from nbreplay.providers.tool_links import tool_error, tool_value

        value, error = tool_value(take), tool_error(take)
        text = value if isinstance(value, str) else self._json(value)
        print_text((f"{error}: " if error else "", BAD), self._clip(text, _LONG), indent=2)

    def _print_answer(self, take: Take, error: str) -> None:
        from nbreplay.providers.answer import Answer

        answer = Answer(take.body)
        choices = answer.choices()
        for choice in choices:
            if len(choices) > 1:
                print_text((f"choice {choice + 1}", HEADING), indent=2)
            for kind in ("reasoning", "text", "refusal"):
                self._print_text(kind, answer.text(kind, choice))
            for call in answer.calls.values():
                if call.choice == choice:
                    self._print_call(call.name, "".join(call.arguments))
        if error:
            print_text((error, BAD), indent=2)
        elif not choices:
            print_text(self._clip(self._data(take), _LONG), indent=2)

    def _print_session(self, take: Take, error: str) -> None:
        """Print what both sides of a websocket said, in its order, each with its time."""
        from nbreplay.providers.answer import Answer

        answer, before = Answer(take.body), ""
        for turn in answer.turns.values():
            when = f"  {format_seconds(turn.began_ms / 1000)}" if take.timed else ""
            message = turn.message(answer.calls)
            goes_on, before = message.content_type == "audio" and message.role == before, message.role
            if message.role in ("client", "server"):
                mark = "→ " if turn.is_sent else "← "
                print_text(mark, self._clip(message.content, _LONG), when, indent=2, hang=2)
            elif goes_on:
                print_text(*message.others, indent=2)
            else:
                self._print_message(message, when)
        if not answer.turns and not error:
            print_text(self._clip(self._data(take), _LONG), indent=2)
        print_text()
        if error:
            print_text((error, BAD), indent=2)

    def _data(self, take: Take) -> str:
        """Return an answer that has no text as text: vectors, a page, a list of models, a file."""
        from nbreplay.providers.deltas import values

        if isinstance(take.body, Blob):
            kind = take.headers.get("content-type", "binary")
            return f"{kind}, {format_bytes(take.body.size)}, in {take.body.name}"
        objects = [value for _, value, _ in values(take.body) if value is not None]
        if not objects:
            return take.body.data().decode("utf-8", "replace").strip() or "(empty)"
        return "\n".join(map(self._json, objects))

    def _json(self, value: Any) -> str:
        return json.dumps(_without_vectors(value) if self.shortens else value, ensure_ascii=False, indent=2)

    def _clip(self, text: str, size: int) -> str:
        if not self.shortens or len(text) <= size:
            return text
        return f"{text[:size].rstrip()} … ({len(text) - size:,} more characters: --full)"


def _print_raw(take: Take, shorten: Callable[[str], str]) -> None:
    if not isinstance(take.body, Events):
        text = f"{take.body.name}" if isinstance(take.body, Blob) else take.body.data().decode("utf-8", "replace")
        print_text(text, indent=2)
        return
    at = 0
    for chunk in take.body.chunks:
        at += chunk.gap_ms
        label = f"{at:>7,} ms  " if take.timed else ""
        parts = [shorten(_compact(part)) for part in chunk.as_list()[1:] if part is not None]
        print_text(label, "  ".join(parts), indent=2, hang=len(label))


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _tool_signatures(body: Mapping[str, Any]) -> Iterator[str]:
    """Yield the tools that a request offers, each with the names of its parameters."""
    config = body.get("toolConfig")
    tools = dicts(body.get("tools")) + dicts(body.get("functions"))
    for tool in tools + (dicts(config.get("tools")) if isinstance(config, dict) else []):
        declared = tool.get("functionDeclarations", tool.get("function_declarations"))
        for inner in dicts(declared) if isinstance(declared, list) else [tool]:
            spec = next((inner[name] for name in ("function", "toolSpec") if isinstance(inner.get(name), dict)), inner)
            name = spec.get("name") or spec.get("type") or next(iter(spec), "")
            yield f"{name}({', '.join(_properties(spec))})" if "name" in spec else str(name)


def _properties(node: Any) -> Sequence[str]:
    """Return the names of the parameters in the nearest JSON schema."""
    if not isinstance(node, dict):
        return ()
    if isinstance(node.get("properties"), dict):
        return list(node["properties"])
    return next((names for inner in node.values() if (names := _properties(inner))), ())


def _describe_part(part: Any) -> str:
    """Return a part of a message that is not text: as JSON, or its type and size where it is long."""
    text = _compact(part)
    if len(text) <= _SHORT:
        return text
    found = re.search(r'(?:data:|"(?:mime_?type|media_type|format)": ")([\w./+-]+)', text, re.IGNORECASE)
    kind = part.get("type") if isinstance(part, dict) else None
    data = max(re.findall(r"[\w+/=-]{100,}", text), key=len, default=text)
    return f"({found.group(1) if found else kind or 'data'}, {format_bytes(len(data) * 3 // 4)})"


def _without_vectors(value: Any) -> Any:
    """Return JSON data with long lists of numbers, and very long strings, as their beginnings."""
    if isinstance(value, dict):
        return {name: _without_vectors(item) for name, item in value.items()}
    if isinstance(value, str):
        return value if len(value) <= _LONG // 4 else f"{value[:24]}… ({len(value):,} characters)"
    if not isinstance(value, list):
        return value
    if len(value) > 12 and all(isinstance(item, int | float) for item in value):
        return f"{json.dumps(value[:3])[:-1]}, … {len(value):,} numbers]"
    return [_without_vectors(item) for item in value]
