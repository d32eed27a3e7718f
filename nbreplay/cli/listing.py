"""``nbreplay ls``: lists the recordings of a store, or what made them."""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from nbreplay.cli.output import BAD, NAME, make_console, print_error, print_json, print_text
from nbreplay.cli.store import open_store
from nbreplay.cli.table import Column, fit, print_table
from nbreplay.core.recording.blob import Blob
from nbreplay.core.recording.recording import Recording
from nbreplay.core.request.request import Request
from nbreplay.core.words import count_of
from nbreplay.errors import RecordingFormatError
from nbreplay.notebook.escape import plain

if TYPE_CHECKING:
    from nbreplay.analysis.rows import Row

_EPILOG = """\
On a terminal, a table that fits its width, and totals. In a pipe, one line per recording, with tabs between the
fields: file, kind, model, takes, failure, input tokens, output tokens, bytes, recorded at, notebooks, and what is
asked. Tokens, bytes and failures count all takes.

--json prints an object per recording: file, key, kind, model, takes, recorded_at, asked (the last text of a user),
tool, arguments, request (method and address), notebooks, hosts, input_tokens, output_tokens, bytes, failure. With --by,
an object per group: its name, recordings, takes, bytes, input_tokens, output_tokens, recorded_at (of the newest take).

examples:
  $ nbreplay ls --sort size --reverse
  $ nbreplay ls --notebook 01 --model gpt-4o --text weather
  $ nbreplay ls --by model
  $ nbreplay ls --failed > failed.tsv

exit status: 0 fine, 1 a recording cannot be read, 2 wrong usage
"""
_GROUPS = ("notebook", "model", "tool", "kind")
_LONGEST = 300  # characters of a cell; no terminal is that wide


class Entry(msgspec.Struct, frozen=True):
    """A recording in a list; its fields are those of ``--json``."""

    file: str
    key: str
    kind: str
    model: str  # "" for a tool, and for a request without one
    takes: int
    recorded_at: str  # of the last take
    asked: str  # the last text of a user
    tool: str
    arguments: Any  # of the tool
    request: str  # method and address; "" for a tool
    notebooks: tuple[str, ...]  # that made it
    hosts: tuple[str, ...]
    input_tokens: int | None  # of all takes; None where no provider counted
    output_tokens: int | None
    bytes: int
    failure: str  # the last one among the takes, such as ``429 Too Many Requests``

    @property
    def line(self) -> str:
        """What is asked, on one line: a prompt, a tool with its arguments, or a request."""
        return " ".join((format_call(self.tool, self.arguments) if self.tool else self.asked or self.request).split())

    @property
    def tokens(self) -> int:
        """Input and output tokens."""
        return (self.input_tokens or 0) + (self.output_tokens or 0)


_SORTS: dict[str, Callable[[Entry], Any]] = {
    "date": lambda entry: entry.recorded_at,
    "name": lambda entry: entry.file,
    "notebook": lambda entry: entry.notebooks,
    "model": lambda entry: (entry.model, entry.tool),
    "takes": lambda entry: entry.takes,
    "tokens": lambda entry: entry.tokens,
    "size": lambda entry: entry.bytes,
}


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to those of the command line."""
    ls = commands.add_parser(
        "ls",
        description="List the recordings of a store: who made them, what they ask, how large they are.",
        epilog=_EPILOG,
    )
    ls.add_argument("store", nargs="?", metavar="STORE", help="by default, the store of the working directory")
    ls.add_argument("--by", choices=_GROUPS, help="list notebooks, models, tools or kinds, with counts and sizes")
    ls.add_argument("--sort", choices=_SORTS, default="date", help="order (default: date, the newest last)")
    ls.add_argument("--reverse", action="store_true", help="turn the order round")
    ls.add_argument(
        "--notebook", metavar="TEXT", help="only those of notebooks with this in their path (* for anything)"
    )
    ls.add_argument("--model", metavar="TEXT", help="only those of models with this in their name (* for anything)")
    ls.add_argument("--kind", metavar="KIND", help="only those of this kind: chat, embedding, tool, http, …")
    ls.add_argument("--failed", action="store_true", help="only those with a take that failed or is incomplete")
    ls.add_argument("--text", metavar="TEXT", help="only those whose messages, arguments or answers contain this")
    ls.add_argument("--json", action="store_true", help="print JSON, an object per recording")
    ls.set_defaults(do=_ls)


def _ls(options: argparse.Namespace) -> int:
    store = open_store(options.store)
    entries: list[Entry] = []
    groups: dict[str, _Group] = defaultdict(_Group)
    errors: list[RecordingFormatError] = []
    total = 0
    for name, recording in store.recordings():
        if isinstance(recording, RecordingFormatError):
            errors.append(recording)
            continue
        total += 1
        rows = rows_of(name, recording)
        entry = entry_of(recording, rows, store.size(name))
        if not _is_wanted(entry, rows, options):
            continue
        entries.append(entry)
        if options.by:
            # A recording with takes of several notebooks counts for each of them.
            for group in dict.fromkeys(_group_of(options.by, entry, row) for row in rows):
                own = [row for row in rows if _group_of(options.by, entry, row) == group]
                groups[group].add(own, entry.bytes)
    entries.sort(key=_SORTS[options.sort], reverse=options.reverse)
    if options.by and entries:
        _print_groups(groups, options.by, options.json)
        if sys.stdout.isatty() and not options.json:
            _print_totals(entries, total, {})
    elif options.json:
        print_json([msgspec.to_builtins(entry) for entry in entries])
    elif not entries and not errors:
        print_text("no recordings" + (f" of {total:,} fit" if total else ""), stderr=not sys.stdout.isatty())
    elif sys.stdout.isatty():
        _print_table(entries, total)
    else:
        for entry in entries:
            print("\t".join(_fields(entry)))
    for error in errors:
        print_error(error)
    return 1 if errors else 0


def rows_of(file: str, recording: Recording) -> list[Row]:
    """Return the takes of a recording, with the recording's request."""
    from nbreplay.analysis.rows import Row

    request = Request(recording.kind, recording.request, recording.key)
    return [Row(file, file, request, take) for take in recording.takes or (None,)]


def entry_of(recording: Recording, rows: Sequence[Row], size: int) -> Entry:
    """Return what a list says of a recording with these rows."""
    first, takes, is_tool = rows[0], recording.takes, recording.kind == "tool"
    request = Request(recording.kind, recording.request, recording.key)
    into, out = (_sum(row.answer.reader.tokens.get(kind) for row in rows) for kind in ("input", "output"))
    return Entry(
        file=first.file or "",
        key=recording.key,
        kind=recording.kind,
        model=first.request_summary.model or "",
        takes=len(takes),
        recorded_at=takes[-1].recorded_at if takes else "",
        asked="" if first.kind == "tool" else first.request_summary.prompt or "",
        tool=request.model if is_tool else "",
        arguments=request.body if is_tool else None,
        request="" if is_tool else address_of(recording.request),
        notebooks=tuple(dict.fromkeys(take.cell.notebook for take in takes if take.cell and take.cell.notebook)),
        hosts=tuple(dict.fromkeys(take.host for take in takes if take.host)),
        input_tokens=into,
        output_tokens=out,
        bytes=size,
        failure=next(filter(None, map(failure_of, reversed(rows))), ""),
    )


def format_call(name: str, arguments: Any) -> str:
    """Return a tool's call as Python writes it: ``get_weather(city="Tokyo")``."""
    if not isinstance(arguments, dict):
        return f"{name}({'' if arguments is None else json.dumps(arguments, ensure_ascii=False)})"
    values = (f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in arguments.items())
    return f"{name}({', '.join(values)})"


def address_of(fields: Mapping[str, Any]) -> str:
    """Return the method and the address of a canonical request: ``GET api.example.com/search?q=x``."""
    host, path = fields.get("host", ""), fields.get("path", fields.get("endpoint", ""))
    query = "&".join("=".join(map(str, pair)) for pair in fields.get("query", ()) if isinstance(pair, list | tuple))
    return f"{fields.get('method', '')} {host}{path}{'?' if query else ''}{query}"


def failure_of(row: Row) -> str:
    """Return how a take failed, or why it is incomplete, in a few words; ``""`` where neither is so."""
    take = row.take
    if take is None or take.good:
        return row.answer_summary.error_type or ""
    return take.failure or row.answer_summary.error_type or take.reason or "incomplete"


def _sum(numbers: Iterable[int | None]) -> int | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if known else None


def _is_wanted(entry: Entry, rows: Sequence[Row], options: argparse.Namespace) -> bool:
    return (
        (options.kind is None or entry.kind == options.kind)
        and (not options.failed or bool(entry.failure))
        and (options.model is None or _fits(entry.model, options.model))
        and (options.notebook is None or any(_fits(path, options.notebook) for path in entry.notebooks))
        and (options.text is None or _contains(rows, options.text.casefold()))
    )


def _fits(text: str, pattern: str) -> bool:
    text, pattern = text.casefold(), pattern.casefold()
    return fnmatch.fnmatchcase(text, f"*{pattern}*") if "*" in pattern else pattern in text


def _contains(rows: Sequence[Row], text: str) -> bool:
    """Tell whether a request or an answer to it contains a text in lower case."""
    from nbreplay.providers.tool_links import tool_value

    texts = [message.content for message in rows[0].stored_messages]
    if not texts and rows[0].request:
        texts = [json.dumps(rows[0].request.fields, ensure_ascii=False)]
    for row in rows:
        if row.kind == "tool" and row.take:
            texts.append(json.dumps(tool_value(row.take), ensure_ascii=False))
        texts += ["".join(parts) for parts in row.answer.texts.values()]
        texts += [f"{call.name}({''.join(call.arguments)})" for call in row.answer.calls.values()]
        if row.take and row.kind != "tool" and not row.answer.choices() and not isinstance(row.take.body, Blob):
            texts.append(row.take.body.data().decode("utf-8", "replace"))
    return any(text in one.casefold() for one in texts)


def _fields(entry: Entry) -> list[str]:
    """Return the fields of a line in a pipe."""
    tokens = ["" if count is None else str(count) for count in (entry.input_tokens, entry.output_tokens)]
    fields = [entry.file, entry.kind, entry.model, str(entry.takes), entry.failure, *tokens, str(entry.bytes)]
    fields += [entry.recorded_at, ", ".join(entry.notebooks), entry.line]
    return [plain(" ".join(field.split())) for field in fields]


def _print_table(entries: Sequence[Entry], total: int) -> None:
    console = make_console()
    cells = {name: [_clean(text(entry)) for entry in entries] for name, (_, text) in _COLUMNS.items()}
    cells = {name: texts for name, texts in cells.items() if any(texts)}
    shared = {name: texts[0] for name, texts in cells.items() if len(entries) > 1 and len(set(texts)) == 1}
    years = {entry.recorded_at[:4] for entry in entries}
    # Where less is left for what is asked, the columns go that say least.
    steps = [(name, 30) for name in ("takes", "notebook", "model", "failure") if name in shared]
    for step, enough in (
        *steps,
        ("year", 30),
        ("failure", 26),
        ("kind", 24),
        ("takes", 20),
        ("size", 14),
        ("tokens", 14),
        ("", 0),
    ):
        columns = [Column(name, *_COLUMNS[name][0]) for name in cells]
        rows = list(zip(*cells.values(), strict=True))
        widths = dict(zip(cells, fit(columns, rows, console.width), strict=True))
        if "asked" not in cells or widths["asked"] >= min(enough, max(map(len, cells["asked"]))):
            continue
        if step == "year" and len(years) == 1 and "date" in cells:
            cells["date"] = [text[5:] for text in cells["date"]]
        elif step == "failure" and step in cells:
            failures = cells.pop(step)
            pairs = zip(failures, cells["asked"], strict=True)
            cells["asked"] = [f"failed: {asked}" if failure else asked for failure, asked in pairs]
        elif step == "kind":
            cells["recording"] = [text.rpartition("-")[2] for text in cells["recording"]]
        else:
            cells.pop(step, None)
    print_table(console, columns, rows)
    _print_totals(entries, total, {name: text for name, text in shared.items() if name not in cells})


# The columns on a terminal: style, whether aligned right, and weight; and what they show.
_COLUMNS: dict[str, tuple[tuple[str, bool, int], Callable[[Entry], str]]] = {
    "recording": ((NAME, False, 0), lambda entry: short_name(entry.file)),
    "notebook": (("", False, 2), lambda entry: ", ".join(entry.notebooks)),
    "model": (("", False, 2), lambda entry: entry.model),
    "asked": (("", False, 4), lambda entry: entry.line),
    "failure": ((BAD, False, 1), lambda entry: entry.failure),
    "takes": (("", True, 0), lambda entry: f"{entry.takes:,}"),
    "tokens": (("", True, 0), lambda entry: f"{entry.tokens:,}" if entry.tokens else ""),
    "size": (("", True, 0), lambda entry: format_bytes(entry.bytes)),
    "date": (("", False, 0), lambda entry: entry.recorded_at[:10]),
}


def _clean(text: str) -> str:
    return plain(text[:_LONGEST])


def short_name(file: str) -> str:
    """Return the name of a recording as lists show it: ``chat-3f2a9c81``. The command ``show`` finds it by that."""
    kind, _, key = file.removesuffix(".json").rpartition("-")
    return f"{kind}-{key[:8]}"


def format_bytes(size: int) -> str:
    """Return a size with its unit: ``2.1 kB``."""
    return f"{size / 1e6:,.1f} MB" if size >= 999_950 else f"{size / 1000:,.1f} kB"


def _print_totals(entries: Sequence[Entry], total: int, shared: Mapping[str, str]) -> None:
    """Print the sums of a list on a terminal, and what all its recordings have in common."""
    of = f"{len(entries):,} of " if len(entries) < total else ""
    parts = [of + count_of(total, "recording"), count_of(sum(entry.takes for entry in entries), "take")]
    into, out = (sum(getattr(entry, name) or 0 for entry in entries) for name in ("input_tokens", "output_tokens"))
    if into or out:
        parts.append(f"{into:,} → {out:,} tokens")
    parts.append(format_bytes(sum(entry.bytes for entry in entries)))
    dates = sorted({entry.recorded_at[:10] for entry in entries if entry.recorded_at})
    if dates:
        parts.append(_clean(dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"))
    print_text()
    print_text(" · ".join(parts))
    if common := [f"{name} {text}" for name, text in shared.items() if name != "takes"]:
        print_text(f"all: {', '.join(common)}")


class _Group(msgspec.Struct):
    recordings: int = 0
    takes: int = 0
    bytes: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    recorded_at: str = ""  # of the newest take

    def add(self, rows: Sequence[Row], size: int) -> None:
        self.recordings += 1
        self.takes += len(rows)
        self.bytes += size
        for row in rows:
            self.input_tokens += row.answer.reader.tokens.get("input", 0)
            self.output_tokens += row.answer.reader.tokens.get("output", 0)
            self.recorded_at = max(self.recorded_at, row.take.recorded_at if row.take else "")


def _group_of(by: str, entry: Entry, row: Row) -> str:
    if by == "notebook":
        return (row.take and row.take.cell and row.take.cell.notebook) or ""
    return str(getattr(entry, by))


def _print_groups(groups: Mapping[str, _Group], by: str, as_json: bool) -> None:
    """Print groups by name, that of the recordings without one at the end."""
    names = sorted(groups, key=lambda name: (not name, name))
    if as_json:
        print_json([{by: name or None, **msgspec.to_builtins(groups[name])} for name in names])
        return
    nameless = "(not known)" if by == "notebook" else f"(no {by})"
    titles = [_clean(name) or nameless for name in names]
    fields = [msgspec.structs.astuple(groups[name]) for name in names]
    if not sys.stdout.isatty():
        for title, values in zip(titles, fields, strict=True):
            print("\t".join([title, *(plain(str(value)) for value in values)]))
        return
    columns = [Column(by, NAME, weight=1), *(Column(name, right=True) for name in ("recordings", "takes", "size"))]
    columns += [Column("tokens in", right=True), Column("out", right=True), Column("newest")]
    rows = [
        (title, f"{recordings:,}", f"{takes:,}", format_bytes(size), f"{into:,}", f"{out:,}", plain(newest[:10]))
        for title, (recordings, takes, size, into, out, newest) in zip(titles, fields, strict=True)
    ]
    print_table(make_console(), columns, rows)
