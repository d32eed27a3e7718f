"""The output of the commands: text, errors, JSON and progress, for terminals and pipes.

A terminal gets colours and folded lines. A pipe gets neither, so that a line stays one for grep; rich is not even
imported then. ``NO_COLOR`` and ``TERM=dumb`` turn colours off, ``FORCE_COLOR`` turns them on.

The styles are few, and legible on light and dark: no yellow, no white, nothing dim. No meaning is in a colour alone.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TextIO

from nbreplay.notebook.escape import plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn
    from rich.text import Text

GOOD, BAD, NAME, HEADING = "green", "bold red", "cyan", "bold"
"""The styles: of success, of failure, of what can be typed (commands, keys, files), and of headings."""

Part = str | tuple[str, str]
"""A text, or a text and its style."""

_NONE: Mapping[str, str] = {}
_HALF = re.compile("[\ud800-\udfff]")  # of a surrogate pair, which no stream can write


def make_console(*, stderr: bool = False) -> Console:
    """Return a console that writes text as it is: without markup, emoji codes and guessed highlights."""
    from rich.console import Console

    folds = is_terminal(sys.stderr if stderr else sys.stdout)
    return Console(
        stderr=stderr,
        width=None if folds else 10_000,
        color_system=None if os.environ.get("NO_COLOR") else "auto",
        soft_wrap=not folds,
        markup=False,
        emoji=False,
        highlight=False,
    )


def print_text(
    *parts: Part, indent: int = 0, hang: int = 0, stderr: bool = False, highlights: Mapping[str, str] = _NONE
) -> None:
    """Print text without its control characters. A terminal folds it between words.

    Parameters
    ----------
    *parts : str, or tuple of str
        Texts, or texts with their styles.
    indent : int
        Spaces before every line.
    hang : int
        More spaces before what is folded.
    highlights : mapping of str
        Styles by the regular expression of what gets them.
    """
    stream = sys.stderr if stderr else sys.stdout
    pairs = [(part, "") if isinstance(part, str) else part for part in parts]
    # Every kernel of ipykernel sets FORCE_COLOR, and a notebook stores what its "!" prints.
    is_forced = os.environ.get("FORCE_COLOR") and "JPY_PARENT_PID" not in os.environ
    if not (is_terminal(stream) or is_forced):
        margin = "\n" + " " * indent
        print(margin[1:] + plain("".join(text for text, _ in pairs)).replace("\n", margin), file=stream)
        return
    console = make_console(stderr=stderr)
    text = make_text(*pairs)
    for pattern, style in highlights.items():
        text.highlight_regex(pattern, style)
    for line in text.split(allow_blank=True):
        for place, piece in enumerate([line] if console.soft_wrap else _fold(line, console, indent, hang)):
            piece.rstrip()
            piece.pad_left(indent + hang * (place > 0))
            console.print(piece, soft_wrap=True)


def _fold(line: Text, console: Console, indent: int, hang: int) -> Iterable[Text]:
    """Return the parts of a line that fit, the first of which has `hang` columns more."""
    width = max(console.width - indent - hang, 20)
    head, rest = line[:hang], line[hang:]
    first, *others = rest.wrap(console, width, overflow="fold") or [rest]
    return [head.append(first), *others]


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether somebody sits at a stream; None is one that is closed.

    Nobody answers at the terminal of a notebook's ``!``, which keeps all that is written to it.
    """
    return stream is not None and stream.isatty() and "JPY_PARENT_PID" not in os.environ


def make_text(*parts: Part) -> Text:
    """Return parts as a text of rich without control characters."""
    from rich.text import Text

    pairs = [(part, "") if isinstance(part, str) else part for part in parts]
    return Text.assemble(*((plain(text), style) for text, style in pairs))


def print_error(error: object) -> None:
    """Print an error on standard error."""
    print_text(("nbreplay:", BAD), f" {error}", stderr=True)


def print_json(value: Any) -> None:
    """Print a value as JSON for another program. A terminal gets it without control characters."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    text = _HALF.sub(lambda half: f"\\u{ord(half.group()):04x}", text)
    print(plain(text) if sys.stdout.isatty() else text)


def is_watched(quiet: bool = False) -> bool:
    """Return whether somebody sees progress on standard error, unless `quiet`."""
    return not quiet and is_terminal(sys.stderr)


def make_progress(*columns: str | ProgressColumn) -> Progress:
    """Return a display of progress on standard error, which leaves nothing behind."""
    from rich.progress import Progress

    return Progress(*columns, console=make_console(stderr=True), transient=True)
