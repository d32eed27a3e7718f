"""Directive: the request of a ``%replay`` or ``%%replay`` line. Pure: text to values, a cell's lines to lines."""

from __future__ import annotations

import argparse
import shlex
from typing import Any, NoReturn

import msgspec
from IPython.core.inputtransformer2 import TransformerManager

from nbreplay.core.config import Mode, Options
from nbreplay.errors import NbreplayError, OptionError

VIEWS = ("badge", "stream", "off")
MODES = ("on", "auto", "record", "replay", "off")
_DISPLAYS = ("last", "diff")

# Cell magics whose body is not Python that runs here. Any other may run it, where a %%replay would do nothing.
_TEXT_MAGICS = {
    *("!", "bash", "cmd", "perl", "pypy", "python", "python2", "python3", "ruby", "script", "sh", "sx", "system"),
    *("HTML", "SVG", "html", "javascript", "js", "latex", "markdown", "svg", "file", "writefile"),
    *("R", "cython", "sql"),
}
_CLEANUP: list[Any] = TransformerManager().cleanup_transforms


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise OptionError(message)


_ARGUMENTS: dict[str, dict[str, Any]] = {
    "word": {"nargs": "?", "metavar": "MODE", "help": "on (= auto), auto, record, replay or off; or last, diff"},
    "store": {"nargs": "?", "metavar": "STORE", "help": "the folder of recordings, a .zip of it, or its URL"},
    "--speed": {"metavar": "N", "help": "replay at the recorded pace times N; at once, if not given"},
    "--view": {"choices": VIEWS, "help": "below a cell, show badge (one line), stream (a card per call), or nothing"},
    "--ignore": {"action": "append", "metavar": "PATH", "help": "a field to leave out of the key: metadata.run_id"},
    "--mask": {"action": "append", "metavar": "REGEX", "help": "leave what it matches out of the key"},
    "--only": {"action": "append", "metavar": "HOST", "help": "record and replay this host only"},
    "--allow": {"action": "append", "metavar": "HOST[:PORT]", "help": "let this host through during replay, live"},
    "--allow-children": {"action": "store_true", "help": "let curl, node, … start during replay, uncovered"},
}
_PARSER = _Parser(prog="%replay", add_help=False, allow_abbrev=False)
for _name, _settings in _ARGUMENTS.items():
    _PARSER.add_argument(_name, default=None, **_settings)


def _help_line(name: str, settings: dict[str, Any]) -> str:
    value = "|".join(settings.get("choices", ())) or settings.get("metavar", "")
    return f"    {f'{name} {value}'.rstrip() if name.startswith('-') else value:<24} {settings['help']}"


HELP = "\n".join(_help_line(name, settings) for name, settings in _ARGUMENTS.items())  # for the magic's docstring


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
    values = vars(_PARSER.parse_args(words))
    word, store, view = values.pop("word"), values.pop("store"), values.pop("view")
    options = {name: value for name, value in values.items() if value is not None}
    mode = None
    if word in _DISPLAYS:
        if cell or store or view or options:
            raise OptionError(f"%replay {word} takes no arguments")
    elif word is not None:
        try:
            mode, word = Mode.of(word), None
        except OptionError:
            magic = "%%replay" if cell else "%replay"
            raise OptionError(f"unknown mode {word!r}. {magic} takes one of {', '.join(MODES)}") from None
    Options.of(**options)
    return Directive(mode, word, store, view, options)


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
    words = () if len(before) != 1 else MODES if event.line.startswith("%%") else MODES + _DISPLAYS
    return [*words, *(name for name in _ARGUMENTS if name.startswith("--"))]
