"""Table: rows of text as lines that fit a terminal. Columns of text give way to the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from nbreplay.cli.output import HEADING

if TYPE_CHECKING:
    from rich.console import Console

_GAP = "  "


class Column(msgspec.Struct, frozen=True):
    """A column of a table on a terminal."""

    name: str
    style: str = ""
    right: bool = False  # whether it is aligned right, as numbers are
    weight: int = 0  # its share of what the other columns leave; one without is never cut


def print_table(console: Console, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of text without line breaks and control characters below the names of their columns."""
    widths = fit(columns, rows, console.width)
    print_line(console, columns, [column.name for column in columns], widths, HEADING)
    for row in rows:
        print_line(console, columns, row, widths)


def print_line(
    console: Console, columns: Sequence[Column], row: Sequence[str], widths: Sequence[int], style: str = ""
) -> None:
    """Print one row of a table."""
    from rich.cells import cell_len
    from rich.text import Text

    line = Text()
    for place, (column, text, width) in enumerate(zip(columns, row, widths, strict=True)):
        text = clip_cells(text, width)
        padding = " " * (width - cell_len(text))
        is_last = place == len(columns) - 1
        line.append(f"{_GAP if place else ''}{padding if column.right else ''}")
        line.append(text, style or column.style)
        line.append("" if column.right or is_last else padding)
    # A line of a terminal that is narrower than the figures goes on below; nothing of it is lost.
    console.print(line, soft_wrap=True)


def clip_cells(text: str, width: int) -> str:
    """Return text that takes at most so many columns of a terminal, with an ellipsis where it is cut."""
    from rich.cells import cell_len, set_cell_size

    if (len(text) if text.isascii() else cell_len(text)) <= width:
        return text
    head = set_cell_size(text, max(width - 1, 0))
    *words, last = head.split(" ")
    # A word that is cut goes, unless it is a large part of the text, such as a path.
    whole = " ".join(words)
    cut = whole if 2 * len(last) < len(head) and not text.startswith(f"{head} ") else head
    return cut.rstrip() + "…"


def fit(columns: Sequence[Column], rows: Sequence[Sequence[str]], space: int) -> list[int]:
    """Return the widths of columns. Those with a weight share the space that the others leave."""
    from rich.cells import cell_len

    widths = [
        max(cell_len(column.name), max(map(cell_len, cells), default=0))
        for column, cells in zip(columns, zip(*rows, strict=True) if rows else [()] * len(columns), strict=True)
    ]
    left = (
        space
        - len(_GAP) * (len(columns) - 1)
        - sum(width for column, width in zip(columns, widths, strict=True) if not column.weight)
    )
    flexible = [place for place, column in enumerate(columns) if column.weight]
    while flexible:
        share = max(left, 0) / sum(columns[place].weight for place in flexible)
        shares = {place: max(int(share * columns[place].weight), len(columns[place].name)) for place in flexible}
        # Those that need less leave the rest to the others, as do those whose name needs more.
        others = [place for place in flexible if shares[place] > share * columns[place].weight]
        others = others or [place for place in flexible if widths[place] <= shares[place]] or flexible
        for place in others:
            widths[place] = min(widths[place], shares[place])
            left -= widths[place]
        flexible = [place for place in flexible if place not in others]
    return widths
