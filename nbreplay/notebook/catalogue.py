"""Catalogue: recordings as a list. The explorer shows it; this module, where no widget can, as text and HTML."""

from __future__ import annotations

import importlib
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from IPython.display import publish_display_data
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nbreplay.core.log import Interaction
from nbreplay.core.words import count_of, shorten_line
from nbreplay.notebook.display import has_front_end, try_view
from nbreplay.notebook.escape import escape, format_seconds, plain
from nbreplay.notebook.render import FONT, MUTED

_TEXTS = ("file", "notebook", "kind", "model", "tool", "prompt", "answer", "state", "problem", "outcome")
COLUMNS = (*_TEXTS, "at", "tokens", "seconds")
"""The columns of a list. `at` is in seconds since 1970; `state` is ``ok``, ``error`` or ``incomplete``."""
_LINES = 20  # of the list as text


class Catalogue(Protocol):
    """Recordings to explore; `nbreplay.analysis.catalogue` makes one of a library."""

    @property
    def notes(self) -> Sequence[str]:
        """Remarks on the list, such as files that could not be read."""

    @property
    def columns(self) -> Mapping[str, Sequence[Any]]:
        """The columns of the list by their names, of equal length, with None for a missing value."""

    def __len__(self) -> int: ...

    def call(self, place: int) -> Interaction:
        """Return a recording by its place in the list; raise `NbreplayError` where it cannot be read."""

    def search(self, words: Sequence[str]) -> Sequence[int]:
        """Return the places whose texts have all words, in any case."""


def show(catalogue: Catalogue, metadata: dict[str, Any] | None = None) -> None:
    """Show a list: by the widget, or as text where no front end is there, or its widgets fail."""
    if not has_front_end():
        _print_list(catalogue, _console())
    elif not try_view(lambda: _show_widget(catalogue, metadata)):
        publish_display_data(list_bundle(catalogue), metadata=metadata)


def _show_widget(catalogue: Catalogue, metadata: dict[str, Any] | None) -> None:
    # By name: the widget is built upon this module, and anywidget may be missing.
    importlib.import_module("nbreplay.notebook.explorer").show_widget(catalogue, metadata)


def _heading(catalogue: Catalogue) -> str:
    return " · ".join([count_of(len(catalogue), "recording"), *catalogue.notes])


def _lines(catalogue: Catalogue) -> list[list[str]]:
    """Return the first rows of the list as texts: when, model or tool, prompt, answer, tokens, time."""
    columns = catalogue.columns
    lines = []
    for place in range(min(len(catalogue), _LINES)):
        row = {name: columns[name][place] for name in COLUMNS}
        at = "" if row["at"] is None else f"{datetime.fromtimestamp(row['at'], UTC):%Y-%m-%d %H:%M}"
        name = row["model"] or row["tool"] or row["kind"] or ""
        answer = " ".join(filter(None, (row["problem"], shorten_line(row["answer"] or "", 60))))
        tokens = "" if row["tokens"] is None else f"{row['tokens']:,}"
        texts = [at, name, shorten_line(row["prompt"] or "", 60), answer, tokens, format_seconds(row["seconds"])]
        lines.append([plain(text) for text in texts])
    return lines


_HEADS = ("recorded (UTC)", "model or tool", "prompt", "answer", "tokens", "time")


def _more(catalogue: Catalogue) -> str:
    return f"… and {len(catalogue) - _LINES:,} more" if len(catalogue) > _LINES else ""


def _console(**settings: Any) -> Console:
    return Console(highlight=False, markup=False, emoji=False, force_jupyter=False, **settings)


def _print_list(catalogue: Catalogue, console: Console) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
    for name in _HEADS:
        # The texts share what the other columns leave.
        ratio = {"prompt": 3, "answer": 2}.get(name)
        side: Literal["left", "right"] = "right" if name in ("tokens", "time") else "left"
        table.add_column(name, no_wrap=True, overflow="ellipsis", ratio=ratio, justify=side, max_width=30)
    for line in _lines(catalogue):
        table.add_row(*map(Text, line))
    console.print(Text(plain(_heading(catalogue)), style="bold"))
    if len(catalogue):
        console.print(table)
    if more := _more(catalogue):
        console.print(more)


def list_bundle(catalogue: Catalogue) -> dict[str, str]:
    """Return the list as text and HTML, for where no widget is shown."""
    page = io.StringIO()
    _print_list(catalogue, _console(file=page, width=120, color_system=None))
    head = "".join(f"<th>{name}</th>" for name in _HEADS)
    body = "".join(f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in line)}</tr>" for line in _lines(catalogue))
    more = f'<div style="{MUTED}">{_more(catalogue)}</div>'
    table = f"<table><tr>{head}</tr>{body}</table>" if len(catalogue) else ""
    html = f'<div style="{FONT}"><b>{escape(_heading(catalogue))}</b>{table}{more}</div>'
    return {"text/plain": "\n".join(line.rstrip() for line in page.getvalue().splitlines()), "text/html": html}
