"""What a ``%replay`` or ``%%replay`` line says. Pure: text to a `Directive`, a cell's lines to lines."""

from __future__ import annotations

import argparse
import shlex
from typing import Any, NoReturn

import msgspec
from IPython.core.inputtransformer2 import TransformerManager

from nbreplay.core.config import Mode, Options
from nbreplay.errors import OptionError

__all__ = [
    "HELP",
    "MODES",
    "VIEWS",
    "WORDS",
    "Directive",
    "cleaned",
    "misplaced",
    "parse_cell",
    "parse_line",
    "transform",
]

VIEWS = ("badge", "stream", "off")
MODES = ("on", "auto", "record", "replay", "off")
WORDS = (*MODES, "last", "diff")
"""What may follow ``%replay``."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise OptionError(message)


def _parser() -> _Parser:
    parser = _Parser(prog="%replay", add_help=False, allow_abbrev=False, exit_on_error=True)
    parser.add_argument(
        "word", nargs="?", metavar="MODE", help="on (= auto), auto, record, replay or off; or last, diff"
    )
    parser.add_argument("store", nargs="?", metavar="STORE", help="the folder of recordings, a .zip of it, or its URL")
    parser.add_argument("--speed", metavar="N", help="replay at the recorded pace times N; at once, if not given")
    parser.add_argument(
        "--view", choices=VIEWS, help="what to show below a cell: badge (one line), stream (a card a call), off"
    )
    parser.add_argument(
        "--ignore", action="append", metavar="PATH", help="a field of the request that does not count: metadata.run_id"
    )
    parser.add_argument(
        "--mask", action="append", metavar="REGEX", help="what it matches in the request does not count"
    )
    parser.add_argument("--only", action="append", metavar="HOST", help="record and replay this host only")
    parser.add_argument("--allow", action="append", metavar="HOST[:PORT]", help="let this through under replay, live")
    parser.add_argument(
        "--allow-children", action="store_true", default=None, help="let curl, node, … start under replay, uncovered"
    )
    return parser


_PARSER = _parser()


def _help() -> str:
    rows = []
    for action in _PARSER._actions:
        name = (
            action.option_strings[0] + (f" {action.metavar or '|'.join(VIEWS)}" if action.nargs != 0 else "")
            if action.option_strings
            else str(action.metavar)
        )
        rows.append(f"    {name:<24} {action.help}")
    return "\n".join(rows)


HELP = _help()
"""One line an option, for the magics' docstrings."""


class Directive(msgspec.Struct, frozen=True):
    """What a line asks for.

    Attributes
    ----------
    word : str or None
        One of `WORDS`.
    store : str or None
    view : str or None
    given : dict
        The options of a session that were given, as `nbreplay.core.config.Options.of` takes them.
    source : str
        The cell without its ``%%replay`` line, stripped.
    """

    word: str | None = None
    store: str | None = None
    view: str | None = None
    given: dict[str, Any] = msgspec.field(default_factory=dict)
    source: str = ""

    @property
    def mode(self) -> Mode | None:
        """The mode asked for, or None."""
        return None if self.word is None else Mode.of(self.word)


def parse_line(line: str, *, cell: bool = False) -> Directive:
    """Read what follows ``%replay`` or, for a cell, ``%%replay``.

    Raises
    ------
    OptionError
    """
    lexer = shlex.shlex(line, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters = True, ""
    lexer.escape = ""  # a regular expression and a Windows path keep their backslashes
    try:
        words = list(lexer)
    except ValueError as error:
        raise OptionError(f"{error} in {line!r}") from None
    found = vars(_PARSER.parse_args(words))
    word, store, view = found.pop("word"), found.pop("store"), found.pop("view")
    given = {name: value for name, value in found.items() if value is not None}
    if word in ("last", "diff"):
        if cell or store or view or given:
            raise OptionError(f"%replay {word} stands alone")
    elif word is not None:
        try:
            Mode.of(word)
        except OptionError as error:
            raise OptionError(
                str(error).replace(
                    "; the modes are", f"; %{'%' if cell else ''}replay takes one of {', '.join(MODES)}. Also:"
                )
            ) from None
    Options.of(**given)
    return Directive(word, store, view, given)


def _is_directive(line: str) -> bool:
    return line.startswith("%%replay") and (len(line) == 8 or line[8].isspace())


def cleaned(raw: str) -> list[str]:
    """Return a cell's lines as IPython reads them: pasted prompts, leading blank lines and indentation taken off."""
    lines = raw.splitlines(keepends=True)
    for clean in _CLEANUP:
        lines = clean(lines)
    return lines


_CLEANUP: list[Any] = TransformerManager().cleanup_transforms


def _parse(lines: list[str]) -> Directive | None:
    if not lines or not _is_directive(lines[0]):
        return None
    directive = parse_line(lines[0].strip()[len("%%replay") :], cell=True)
    source = "".join(lines[1:]).strip()
    if not source:
        raise OptionError("there is nothing below %%replay; for all cells from here on, say %replay")
    return msgspec.structs.replace(directive, source=source)


def parse_cell(raw: str) -> Directive | None:
    """Read the ``%%replay`` line of a cell; None where it has none.

    Raises
    ------
    OptionError
    """
    return _parse(cleaned(raw))


def misplaced(lines: list[str]) -> bool:
    """Tell whether a ``%%replay`` stands below other text of the cell, where it would do nothing.

    In the body of a magic that runs no Python here (``%%writefile``, ``%%bash``) or inside a string it is just text.
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
            if not _inside_string("".join(above)):
                return True
    return False


_TEXT_MAGICS = {
    *("!", "bash", "cmd", "perl", "pypy", "python", "python2", "python3", "ruby", "script", "sh", "sx", "system"),
    *("HTML", "SVG", "html", "javascript", "js", "latex", "markdown", "svg", "file", "writefile"),
    *("R", "cython", "sql"),
}
"""Cell magics whose body is no Python that runs here. Any other may run it, and would pass a ``%%replay`` by."""


def _inside_string(text: str) -> bool:
    return any(text.count(mark) % 2 for mark in ('"""', "'''"))


def transform(lines: list[str]) -> list[str]:
    """Take the ``%%replay`` line out of a cell, and keep the numbers of the lines below it.

    What the line asks for is done by a hook that reads the raw cell. A line that is wrong stays, so that the
    real cell magic meets it, and says what is wrong with it.
    """
    if not any("%%replay" in line for line in lines):
        return lines
    if misplaced(lines):
        return ["%%replay\n", *lines]
    try:
        if _parse(lines) is None:
            return lines
    except OptionError:
        return lines
    below = lines[1:]
    first = next(index for index, line in enumerate(below) if line.strip())
    # Another cell magic under it must come first to be one.
    return below[first:] if below[first].startswith("%%") else ["\n", *below]


# Not a side effect of ours, but IPython's word for what a prompt leaves out when it asks whether a cell is complete.
# Without it a terminal would run the cell as soon as its first line is typed.
transform.has_side_effects = True  # type: ignore[attr-defined]
