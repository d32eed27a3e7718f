"""``nbreplay diff``: how two recordings, two stores or two executed notebooks differ."""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from nbreplay.cli.conversation import find_recording
from nbreplay.cli.listing import entry_of, format_bytes, format_call, rows_of, short_name
from nbreplay.cli.output import HEADING, NAME, make_console, print_error, print_json, print_text
from nbreplay.cli.table import Column, fit, print_line
from nbreplay.core.nearest import differences
from nbreplay.core.recording.blob import Blob
from nbreplay.core.recording.json_text import parse_object
from nbreplay.core.recording.recording import Recording
from nbreplay.core.store.archive import is_archive
from nbreplay.core.store.store import Store
from nbreplay.core.words import count_of, shorten
from nbreplay.errors import OptionError, RecordingFormatError
from nbreplay.notebook.escape import clip, plain
from nbreplay.notebook.word_diff import changed_spans, fold_equal, split_at

if TYPE_CHECKING:
    from nbreplay.analysis.rows import Row
    from nbreplay.providers.messages import Message

_EPILOG = """\
Two recordings differ by the fields of their requests and by their answers, two stores by their recordings, two executed
notebooks by the outputs of the cells that have the same source. Words that differ are marked: by colours on a terminal,
else by brackets with - in a and with + in b. What is equal and long is left out.

--json prints of recordings request (path, a and b of each field) and same_answers; of stores the names of the files by
only_a, only_b, changed and same; of notebooks the numbers of cells by only_a and only_b, the cells changed (a, b and
lines), and how many are the same.

examples:
  $ nbreplay diff chat-3f2a9c81 chat-77aa01b2
  $ nbreplay diff recordings-october recordings
  $ nbreplay diff before.ipynb after.ipynb

exit status: 0 nothing differs, 1 something differs or cannot be read, 2 wrong usage
"""
_ONE_SIDED, _LONG = 500, 5_000  # characters of a value that the other side does not have, and of a piece of a text
_OLD, _NEW = "bold underline red", "bold underline green"


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to those of the command line."""
    diff = commands.add_parser(
        "diff",
        description="Show how two recordings, two stores or two executed notebooks differ.",
        epilog=_EPILOG,
    )
    diff.add_argument("a", metavar="A", help="a key, the beginning of one, a file, a store, or a notebook")
    diff.add_argument("b", metavar="B", help="another one of the same sort")
    diff.add_argument("--store", metavar="STORE", help="of the keys; by default, the store of the working directory")
    diff.add_argument("--json", action="store_true", help="print JSON")
    diff.set_defaults(do=_diff)


def _diff(options: argparse.Namespace) -> int:
    paths = options.a, options.b
    stores = [is_archive(path) or Path(path).is_dir() for path in paths]
    notebooks = [path.endswith(".ipynb") for path in paths]
    if all(stores):
        return _diff_stores(Store(options.a), Store(options.b), options.json)
    if all(notebooks):
        return _diff_notebooks(Path(options.a), Path(options.b), options.json)
    for sort, name in ((stores, "a store"), (notebooks, "a notebook")):
        if any(sort):
            one, other = paths if sort[0] else reversed(paths)
            raise OptionError(f"{one} is {name}, and {other} is not. Compare two of the same sort")
    return _diff_recordings(*(find_recording(path, options.store) for path in paths), as_json=options.json)


def _diff_recordings(a: tuple[str, Recording], b: tuple[str, Recording], *, as_json: bool) -> int:
    fields = differences(a[1].request, b[1].request)
    rows = [rows_of(*a) if a[1].takes else [], rows_of(*b) if b[1].takes else []]
    keys = [[row.answer_summary.key for row in side] for side in rows]
    same_answers = keys[0] == keys[1]
    if as_json:
        request = [{"path": field.path, "a": field.recorded, "b": field.asked} for field in fields]
        print_json({"request": request, "same_answers": same_answers})
        return 1 if fields or not same_answers else 0
    for label, (name, recording) in (("a", a), ("b", b)):
        entry = entry_of(recording, rows_of(name, recording), 0)
        parts = [entry.model, count_of(entry.takes, "take")]
        print_text(f"{label}  ", (name, NAME), *(f"  {part}" for part in parts if part))
    print_text()
    if not fields:
        print_text("the requests are the same")
    for field in fields:
        if field.recorded is None or field.asked is None:
            side, value = ("b", field.asked) if field.recorded is None else ("a", field.recorded)
            print_text((field.path, HEADING), f"  only in {side}")
            print_text(f"{side}  ", clip(_field_text(value or ""), _ONE_SIDED), indent=2, hang=3)
        else:
            print_text((field.path, HEADING))
            print_sides(_field_text(field.recorded), _field_text(field.asked))
    if same_answers:
        print_text("the answers are the same")
    else:
        print_text()
        _print_answers(rows[0], rows[1])
    return 1 if fields or not same_answers else 0


def _field_text(text: str) -> str:
    """Return a value that is written as JSON: a text as it is, others as JSON."""
    value = json.loads(text)
    return value if isinstance(value, str) else text


def _print_answers(a: Sequence[Row], b: Sequence[Row], indent: int = 0) -> None:
    """Print the answers that differ, in pairs in the order of the takes."""
    if len(a) != len(b):
        print_text(f"{count_of(len(a), 'take')} in a, {count_of(len(b), 'take')} in b", indent=indent)
    many = max(len(a), len(b)) > 1
    for number, (one, other) in enumerate(zip(a, b, strict=False), 1):
        if one.answer_summary.key != other.answer_summary.key:
            if not indent or many:
                title = f"the answers of take {number} differ" if many else "the answers differ"
                print_text((title, HEADING), indent=indent)
            print_sides(answer_text(one), answer_text(other), indent)


def answer_text(row: Row) -> str:
    """Return an answer as text: what it says, its tool calls and its error, else its data."""
    from nbreplay.providers.tool_links import tool_value

    answer, take = row.answer, row.take
    if take is None:
        return ""
    if row.is_session:
        lines = [_message_line(message) for _, message in answer.messages()]
    else:
        texts = (answer.text("text", choice) or answer.text("refusal", choice) for choice in answer.choices())
        lines = [
            *filter(None, texts),
            *(_call_line(call.name, "".join(call.arguments)) for call in answer.calls.values()),
        ]
    if row.answer_summary.error_type:
        lines.append(f"{row.answer_summary.error_type}: {answer.reader.error or take.failure}".rstrip(": "))
    if not lines and row.kind == "tool":
        result = tool_value(take)
        lines = [result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)]
    elif not lines and isinstance(take.body, Blob):
        lines = [f"{take.body.name}, {format_bytes(take.body.size)}"]
    elif not lines:
        lines = [take.body.data().decode("utf-8", "replace")]
    return "\n".join(lines)


def _call_line(name: str, written: str) -> str:
    value = parse_object(written) if written else {}
    return "→ " + format_call(name, written if value is None else value)


def _message_line(message: Message) -> str:
    """Return a message of a websocket on lines of its own, after who said it."""
    calls = [_call_line(call.name, call.arguments) for call in message.calls]
    return f"{message.role}: " + " ".join(filter(None, [message.content, *map(str, message.others), *calls]))


def print_sides(a: str, b: str, indent: int = 0, labels: tuple[str, str] = ("a", "b")) -> None:
    """Print two texts below each other, with the words marked that differ."""
    spans = changed_spans(a, b)
    if a != b and not any(spans):
        print_text("only white space differs", indent=indent + 2)
        return
    is_terminal = sys.stdout.isatty()
    colours = is_terminal and make_console().color_system is not None
    width = max(map(len, labels)) + 2
    for label, text, side, style, marks in zip(labels, (a, b), spans, (_OLD, _NEW), ("[-%s-]", "{+%s+}"), strict=True):
        pieces = fold_equal(split_at(text, side), lambda piece: f"… ({count_of(len(piece.split()), 'word')}) … ")
        if is_terminal:
            pieces = [(clip(piece, _LONG), differs) for piece, differs in pieces]
        parts = [
            (piece, "") if not differs else (piece, style) if colours else (marks % piece, "")
            for piece, differs in pieces
        ]
        print_text(label.ljust(width), *parts, indent=indent + 2, hang=width)


def _diff_stores(one: Store, other: Store, as_json: bool) -> int:
    stores = [dict(store.recordings()) for store in (one, other)]
    errors = [item for items in stores for item in items.values() if isinstance(item, RecordingFormatError)]
    a, b = ({name: item for name, item in items.items() if isinstance(item, Recording)} for items in stores)
    both = sorted(a.keys() & b.keys())
    rows = {
        "only_a": sorted(a.keys() - b.keys()),
        "only_b": sorted(b.keys() - a.keys()),
        "changed": [name for name in both if a[name].takes != b[name].takes],
        "same": [name for name in both if a[name].takes == b[name].takes],
    }
    if as_json:
        print_json(rows)
    else:
        for label, store, items in (("a", one, a), ("b", other, b)):
            print_text(f"{label}  ", (store.shown, NAME), f"  {count_of(len(items), 'recording')}")
        counts = {name: f"{len(names):,}" for name, names in rows.items()}
        print_text("{same} same, {changed} changed, {only_a} only in a, {only_b} only in b".format(**counts))
        _print_names(a, b, rows)
    for error in errors:
        print_error(error)
    return 1 if errors or len(rows["same"]) < len(a | b) else 0


def _print_names(a: Mapping[str, Recording], b: Mapping[str, Recording], rows: Mapping[str, Sequence[str]]) -> None:
    """Print the recordings that differ, a line each; below those that both stores have, how the answers differ."""
    labels = [(label, name) for label in ("only_a", "only_b", "changed") for name in rows[label]]
    sides = [[rows_of(name, side[name]) for side in (a, b) if name in side] for _, name in labels]
    entries = [entry_of(a.get(name) or b[name], side[0], 0) for (_, name), side in zip(labels, sides, strict=True)]
    is_terminal = sys.stdout.isatty()
    lines: list[tuple[str, ...]] = [
        (label.replace("_", " in "), *(short_name(name) if is_terminal else name, entry.model, shorten(entry.line, 60)))
        for (label, name), entry in zip(labels, entries, strict=True)
    ]
    columns = (Column(""), Column("", NAME), Column("", weight=1), Column("", weight=2))
    lines = [tuple(map(plain, line)) for line in lines]
    console = make_console() if is_terminal else None
    widths = fit(columns, lines, console.width) if console else []
    for line, (one, *other) in zip(lines, sides, strict=True):
        if console:
            print_line(console, columns, line, widths)
        else:
            print(f"{line[0]:<9}  " + "  ".join(filter(None, line[1:])))
        if other and [row.answer_summary.key for row in one] == [row.answer_summary.key for row in other[0]]:
            print_text("the answers are the same: only when and how they were recorded differs", indent=2)
        elif other:
            _print_answers(one, other[0], 2)


def _diff_notebooks(a: Path, b: Path, as_json: bool) -> int:
    from nbreplay.testing.notebook_file import read_notebook

    notebooks = read_notebook(a), read_notebook(b)
    sources = [[cell.source for cell in notebook.cells] for notebook in notebooks]
    pairs, only_a, only_b = list[tuple[int, int]](), list[int](), list[int]()
    for tag, i, j, k, m in difflib.SequenceMatcher(None, sources[0], sources[1], autojunk=False).get_opcodes():
        if tag == "equal":
            pairs += zip(range(i, j), range(k, m), strict=True)
        else:
            only_a += range(i, j)
            only_b += range(k, m)
    changed = _compare_outputs(notebooks, pairs, a.parent)
    if as_json:
        rows = [{"a": one + 1, "b": other + 1, "lines": lines} for (one, other), lines in changed.items()]
        others = {"only_a": [place + 1 for place in only_a], "only_b": [place + 1 for place in only_b]}
        print_json({"changed": rows, **others, "same": len(pairs) - len(changed)})
        return 1 if changed or only_a or only_b else 0
    for label, path, cells in (("a", a, sources[0]), ("b", b, sources[1])):
        print_text(f"{label}  ", (str(path), NAME), f"  {count_of(len(cells), 'cell')}")
    counts = [len(pairs) - len(changed), len(changed), len(only_a), len(only_b)]
    print_text("cells: {:,} same, {:,} changed, {:,} only in a, {:,} only in b".format(*counts))
    for label, places, side in (("only in a", only_a, sources[0]), ("only in b", only_b, sources[1])):
        for place in places:
            print_text(f"{label}  {_cell_title(place, side)}")
    for (one, other), lines in changed.items():
        moved = f", cell {other + 1} in b" if other != one else ""
        print_text((f"{_cell_title(one, sources[0])}{moved}", HEADING))
        for line in lines:
            print_text((line, {"-": _OLD, "+": _NEW}.get(line[:1], "").removeprefix("bold underline ")), indent=2)
    return 1 if changed or only_a or only_b else 0


def _cell_title(place: int, sources: Sequence[str]) -> str:
    from nbreplay.testing.outputs.diff import first_line

    first = first_line(sources[place])
    return f"cell {place + 1}" + (f" ({first})" if first else "")


def _compare_outputs(
    notebooks: tuple[Any, Any], pairs: Sequence[tuple[int, int]], folder: Path
) -> dict[tuple[int, int], list[str]]:
    """Return how the outputs of pairs of cells differ, as the rules of the project in a folder want it."""
    from nbformat import NotebookNode

    from nbreplay.testing.outputs.compare import compare
    from nbreplay.testing.outputs.sanitise import rules_for

    sides = [
        NotebookNode({**notebook, "cells": [notebook.cells[pair[side]] for pair in pairs]})
        for side, notebook in enumerate(notebooks)
    ]
    rules = msgspec.structs.replace(rules_for(folder), compare=True)
    found = {difference.index - 1: list(difference.lines) for difference in compare(sides[0], sides[1], rules)}
    for place, cells in enumerate(zip(*(side.cells for side in sides), strict=True)):
        has_run = [bool(cell.get("outputs")) or cell.get("execution_count") is not None for cell in cells]
        if has_run[0] != has_run[1]:
            found[place] = [f"not executed in {'b' if has_run[0] else 'a'}"]
    return {pairs[place]: found[place] for place in sorted(found)}
