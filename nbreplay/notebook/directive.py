"""Directive: the request of a ``%replay`` or ``%%replay`` line. Pure: text to values, a cell's lines to lines."""

from __future__ import annotations

import argparse
import re
import shlex
import textwrap
from collections.abc import Mapping
from typing import Any, NoReturn

import msgspec
from IPython.core.inputtransformer2 import TransformerManager

from nbreplay.core.config import Mode, Options
from nbreplay.core.words import suggest
from nbreplay.errors import NbreplayError, OptionError

VIEWS = {
    "badge": "one line below the cell",
    "stream": "a card per call, which grows while the answer streams",
    "off": "nothing but failures",
}
MODES = {
    "on": "replay what is recorded, and record what is missing",
    "auto": "the same as on",
    "record": "record every call again",
    "replay": "replay only: nothing goes out, and a call that is not recorded fails",
    "off": "let calls go out as if nbreplay were not there",
}
_DISPLAYS = {
    "last": "show the calls of the last cell",
    "recordings": "show the recordings of the store, to search and to play",
    "diff": "show why the last missing call is not recorded",
    "help": "show this text",
}
"""The words of a ``%replay`` line with their help, for the magic's docstring, errors and completion."""

# Cell magics whose body is not Python that runs here. Any other may run it, where a %%replay would do nothing.
_TEXT_MAGICS = {
    *("!", "bash", "cmd", "perl", "pypy", "python", "python2", "python3", "ruby", "script", "sh", "sx", "system"),
    *("HTML", "SVG", "html", "javascript", "js", "latex", "markdown", "svg", "file", "writefile"),
    *("R", "cython", "sql"),
}
_CLEANUP: list[Any] = TransformerManager().cleanup_transforms


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        option = re.match(r"argument (--[\w-]+): expected one argument", message)
        raise OptionError(f"{option[1]} needs a value:\n{_option_help(option[1])}" if option else message)


_ARGUMENTS: dict[str, dict[str, Any]] = {
    "word": {"nargs": "?", "metavar": "WORD"},
    "store": {"nargs": "?", "metavar": "STORE", "help": "the folder of recordings, a .zip of it, or its URL"},
    "--speed": {"metavar": "N", "help": "replay at the recorded pace times N; at once, if not given"},
    "--view": {
        "metavar": "VIEW",
        "help": "below a cell: badge (a line), stream (a card per call) or off (failures only)",
    },
    "--ignore": {"action": "append", "metavar": "PATH", "help": "a field to leave out of the key: metadata.run_id"},
    "--mask": {"action": "append", "metavar": "REGEX", "help": "leave what it matches out of the key"},
    "--only": {"action": "append", "metavar": "HOST", "help": "record and replay this host only"},
    "--allow": {"action": "append", "metavar": "HOST[:PORT]", "help": "let this host through during replay, live"},
    "--allow-children": {"action": "store_true", "help": "let curl, node, … start during replay, uncovered"},
}
_OPTIONS = [name for name in _ARGUMENTS if name.startswith("--")]
_PARSER = _Parser(prog="%replay", add_help=False, allow_abbrev=False)
for _name, _settings in _ARGUMENTS.items():
    _PARSER.add_argument(_name, default=None, **_settings)


def _lines(rows: Mapping[str, str]) -> str:
    return "\n".join(
        textwrap.fill(text, 79, initial_indent=f"    {name:<20} ", subsequent_indent=" " * 25)
        for name, text in rows.items()
    )


def _option_help(*names: str) -> str:
    rows = ((f"{name} {_ARGUMENTS[name].get('metavar', '')}".rstrip(), _ARGUMENTS[name]["help"]) for name in names)
    return _lines(dict(rows))


HELP = f"""Record what cells exchange with models, and replay it.

    %replay [WORD] [STORE] [OPTIONS]     from here on
    %%replay [WORD] [STORE] [OPTIONS]    this cell only; must be its first line

WORD is one of these; without words and options, the status is shown:

{_lines({**MODES, **_DISPLAYS})}

%%replay takes the first {len(MODES)} of them, or none, to set options alone.

STORE and OPTIONS are:

{_lines({"STORE": _ARGUMENTS["store"]["help"]})}
{_option_help(*_OPTIONS)}

Examples:

    %replay on
    %replay replay https://example.org/recordings.zip --speed 1
    %replay on --view stream --mask "\\d{{4}}-\\d\\d-\\d\\d"
    %%replay record

%config ReplayMagics shows the defaults of the options, and sets them.
"""
"""The docstring of the magic."""


class Directive(msgspec.Struct, frozen=True):
    """The request of a line."""

    mode: Mode | None = None
    display: str | None = None  # one of `_DISPLAYS`
    store: str | None = None
    view: str | None = None
    options: dict[str, Any] = {}  # the session's, as `Options.of` takes them
    source: str = ""  # the cell without its ``%%replay`` line, stripped


def parse_line(line: str, *, cell: bool = False) -> Directive:
    """Parse the rest of a ``%replay`` line or, for a cell, of a ``%%replay`` line. Raises `OptionError`."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters = True, ""
    lexer.escape = ""  # regular expressions and Windows paths keep their backslashes
    try:
        words = list(lexer)
    except ValueError as error:
        raise OptionError(f"{error} in {line!r}") from None
    if words in (["--help"], ["-h"]):
        words = ["help"]
    known, rest = _PARSER.parse_known_args(words)
    _refuse_rest(rest)
    values = vars(known)
    word, store, view = values.pop("word"), values.pop("store"), values.pop("view")
    options = {name: value for name, value in values.items() if value is not None}
    mode = None
    if word in _DISPLAYS:
        if cell or store or view or options:
            raise OptionError(f"{word} takes no arguments")
    elif word is not None:
        try:
            mode, word = Mode.of(word), None
        except OptionError:
            every = MODES if cell else {**MODES, **_DISPLAYS}
            raise _unknown("word", word, every) from None
    if view is not None and view not in VIEWS:
        raise _unknown("view", view, VIEWS)
    Options.of(**options)
    return Directive(mode, word, store, view, options)


def _unknown(kind: str, name: str, known: Mapping[str, str], text: str = "") -> OptionError:
    """Return the error for a wrong name: with the name that is close to it, or else with all of them, explained."""
    if near := suggest(name, known):
        return OptionError(f"unknown {kind} {name}.{near} %replay help explains each")
    return OptionError(f"unknown {kind} {name}. The {kind}s are\n{text or _lines(known)}")


def _refuse_rest(words: list[str]) -> None:
    """Raise `OptionError` for words of a line that are not understood."""
    for word in words:
        if word.startswith("-"):
            name = word.partition("=")[0]
            raise _unknown("option", name, dict.fromkeys(_OPTIONS, ""), _option_help(*_OPTIONS))
    if words:
        raise OptionError(f"too many words: {' '.join(words)}. A line takes a word, a store and options")


def _is_directive(line: str) -> bool:
    return line.startswith("%%replay") and (len(line) == 8 or line[8].isspace())


def clean_cell(raw: str) -> list[str]:
    """Return a cell's lines as IPython reads them, without pasted prompts, leading blank lines and indentation."""
    lines = raw.splitlines(keepends=True)
    for clean in _CLEANUP:
        lines = clean(lines)
    return lines


def _parse(lines: list[str]) -> Directive | None:
    if not lines or not _is_directive(lines[0]):
        return None
    directive = parse_line(lines[0].strip()[len("%%replay") :], cell=True)
    source = "".join(lines[1:]).strip()
    if not source:
        raise OptionError("there is nothing below %%replay. To set the mode of all later cells, run %replay")
    return msgspec.structs.replace(directive, source=source)


def parse_cell(raw: str) -> Directive | None:
    """Parse the ``%%replay`` line of a cell; None where it has none. Raises `OptionError`."""
    return _parse(clean_cell(raw))


def _is_misplaced(lines: list[str]) -> bool:
    """Tell whether a ``%%replay`` stands below other text of the cell, where it would do nothing.

    In a string, or in the body of a magic that runs no Python here (``%%writefile``, ``%%bash``), it is just text.
    """
    if not lines or _is_directive(lines[0]):
        return False
    for index, line in enumerate(lines):
        if _is_directive(line):
            above = [text for text in lines[:index] if text.strip()]
            if all(text.startswith("%%") for text in above):
                return not any(_TEXT_MAGICS.intersection(text[2:].split(maxsplit=1)[:1]) for text in above)
            if above[0].startswith("%%"):
                return False
            if not any("".join(above).count(quotes) % 2 for quotes in ('"""', "'''")):
                return True
    return False


def transform(lines: list[str]) -> list[str]:
    """Remove the ``%%replay`` line from a cell, and keep the numbers of the lines below it.

    A hook that reads the raw cell does what the line asks for. A line that is wrong stays, so that the cell magic
    reports it.
    """
    if not any("%%replay" in line for line in lines):
        return lines
    if _is_misplaced(lines):
        return ["%%replay\n", *lines]
    try:
        if _parse(lines) is None:
            return lines
    except OptionError:
        return lines
    below = lines[1:]
    first = next(index for index, line in enumerate(below) if line.strip())
    # Another cell magic below it must be the first line.
    return below[first:] if below[first].startswith("%%") else ["\n", *below]


# IPython leaves such transforms out when a prompt asks whether a cell is complete. Otherwise a terminal would run the
# cell as soon as its first line is typed.
transform.has_side_effects = True  # type: ignore[attr-defined]


def explain_refusal(line: str, cell: str) -> str:
    """Return the reason why a cell with a ``%%replay`` line was not run."""
    if _is_misplaced(cell.splitlines(keepends=True)):
        return "%%replay must be the first line of its cell; nothing was run"
    try:
        parse_cell(f"%%replay{line}\n{cell}" if line[:1].isspace() else f"%%replay {line}\n{cell}")
    except NbreplayError as error:
        return f"%%replay: {error}"
    return "%%replay must be the first line of its cell, and the cell must be run whole; nothing was run"


def complete(_: Any, event: Any) -> list[str]:
    """Return the completions of a ``%replay`` or ``%%replay`` line, as a hook of IPython."""
    before = event.line[: len(event.line) - len(event.symbol)].split()
    if before and before[-1] == "--view":
        return list(VIEWS)
    words = () if len(before) != 1 else MODES if event.line.startswith("%%") else {**MODES, **_DISPLAYS}
    return [*words, *_OPTIONS]
