"""README's moving picture: ``python -m tests.docs.readme_picture`` writes ``docs/_static/replay.svg``.

A cell of the quickstart, its answer as it was recorded, and the same answer as it is replayed. Each chunk appears when
it arrived: the times are those of the recording. Where nothing may move, the picture shows the end.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from html import escape
from pathlib import Path

import pandas as pd
from pygments.lexers import PythonLexer
from pygments.token import Comment, Keyword, Name, Number, Operator, String, _TokenType

import nbreplay as nr

__all__ = ["PICTURE", "draw"]

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "_static" / "replay.svg"
NOTEBOOK, CELL = ROOT / "notebooks" / "01_quickstart.ipynb", "stream"
PROMPT = "Write two sentences about the sea."

WIDTH, MARGIN, LINE, COLUMNS = 840, 28, 20, 94
LOOP = 10.0  # seconds
RECORDED, LATER, REPLAYED = 0.6, 5.2, 5.9  # when the call is sent, the replay is announced, and it is there
STYLES: tuple[tuple[_TokenType, str], ...] = (
    (Keyword, "k"), (Operator.Word, "k"), (Name.Builtin, "n"), (String, "s"), (Number, "d"), (Comment, "q"),
)  # fmt: skip
CSS = """
text { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; white-space: pre; }
svg { --page: #fff; --edge: #d1d9e0; --code: #f6f8fa; --text: #1f2328; --quiet: #59636e; --live: #bc4c00;
  --replay: #1a7f37; --k: #cf222e; --n: #8250df; --s: #0a3069; --d: #0550ae; }
@media (prefers-color-scheme: dark) { svg { --page: #0d1117; --edge: #3d444d; --code: #151b23; --text: #f0f6fc;
  --quiet: #9198a1; --live: #ffa657; --replay: #3fb950; --k: #ff7b72; --n: #d2a8ff; --s: #a5d6ff; --d: #79c0ff; } }
text { fill: var(--text); } .q { fill: var(--quiet); } .live { fill: var(--live); } .replay { fill: var(--replay); }
.b { font-weight: 600; } .k { fill: var(--k); } .n { fill: var(--n); } .s { fill: var(--s); } .d { fill: var(--d); }
@media (prefers-reduced-motion: no-preference) { [class*="at"] { animation: LOOPs step-end infinite; } }
"""


def draw() -> str:
    """Return the picture."""
    lib = nr.load(ROOT / "recordings")
    (name,) = lib.interactions.query("prompt == @PROMPT").index
    take = lib.interactions.loc[name]
    chunks = lib.chunks[lib.chunks.interaction == name]
    times = [float(at) for at in chunks.t_s]
    answer = lines_of(["" if pd.isna(text) else str(text) for text in chunks.text], times)

    source = "".join(
        next(cell["source"] for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"] if cell["id"] == CELL)
    )
    body, y = [], MARGIN + 16
    body.append(f'<rect class="code" x="{MARGIN - 10}" y="{y - 20}" width="{WIDTH - 2 * MARGIN + 20}"'
                f' height="{len(source.splitlines()) * LINE + 14}" rx="6" fill="var(--code)"/>')  # fmt: skip
    for line in coloured(source):
        body.append(f'<text x="{MARGIN}" y="{y}">{line}</text>')
        y += LINE
    y += 26
    body.append(
        f'<text x="{MARGIN}" y="{y}"{at(RECORDED)}><tspan class="live b">● record</tspan>'
        f'<tspan class="q">   {take.recorded_at:%-d %B %Y}, {take.model}: the answer arrives, chunk by chunk</tspan>'
        "</text>"
    )
    y += LINE + 4
    for line in answer:
        spans = "".join(f"<tspan{at(RECORDED + when)}>{escape(text, quote=False)}</tspan>" for text, when in line)
        body.append(f'<text x="{MARGIN}" y="{y}">{spans}</text>')
        y += LINE
    scale = 560 / times[-1]
    for when in times:
        body.append(
            f'<rect x="{MARGIN + when * scale:.1f}" y="{y - 8}" width="2" height="10"{at(RECORDED + when, "live")}/>'
        )
    body.append(
        f'<text x="{MARGIN + 580}" y="{y + 2}"{at(RECORDED + times[-1], "q")}>'
        f"{len(times)} chunks in {times[-1]:.1f} s</text>"
    )
    y += 40
    body.append(
        f'<text x="{MARGIN}" y="{y}"{at(LATER)}><tspan class="replay b">▶ replay</tspan>'
        f'<tspan class="q">   later, anywhere: no key, no network</tspan></text>'
    )
    y += LINE + 4
    for line in answer:
        body.append(
            f'<text x="{MARGIN}" y="{y}"{at(REPLAYED)}>{escape("".join(text for text, _ in line), quote=False)}</text>'
        )
        y += LINE
    body.append(f'<rect x="{MARGIN}" y="{y - 8}" width="2" height="10"{at(REPLAYED, "replay")}/>')
    body.append(f'<text x="{MARGIN + 12}" y="{y + 2}"{at(REPLAYED, "q")}>the same {len(times)} chunks, at once</text>')
    height = y + 22
    moments = sorted({RECORDED, LATER, REPLAYED, *(RECORDED + when for when in times)})
    css = CSS.replace("LOOP", f"{LOOP:g}") + "".join(keyframes(moment) for moment in moments)
    title = "A notebook's cell: its answer while it is recorded, and the same answer, replayed at once"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {size(WIDTH, height)} role="img">',
            f"<title>{title}</title>",
            f"<style>{css}</style>",
            f'<rect x=".5" y=".5" {size(WIDTH - 1, height - 1)} rx="10" fill="var(--page)" stroke="var(--edge)"/>',
            *body,
            "</svg>\n",
        ]
    )


def size(width: int, height: int) -> str:
    """The attributes of a width and a height."""
    return f'width="{width}" height="{height}"'


def at(moment: float, names: str = "") -> str:
    """The attribute of what appears at a moment."""
    return f' class="{f"{names} " if names else ""}at{round(moment * 1000)}"'


def keyframes(moment: float) -> str:
    """The rules that hide what appears at a moment until then."""
    name = f"at{round(moment * 1000)}"
    hidden, shown = "{opacity:0;fill-opacity:0}", "{opacity:1;fill-opacity:1}"
    return f".{name}{{animation-name:{name}}}@keyframes {name}{{0%{hidden}{moment / LOOP:.3%}{shown}}}\n"


def lines_of(texts: list[str], times: list[float]) -> list[list[tuple[str, float]]]:
    """The pieces of a text with their times, in lines."""
    lines: list[list[tuple[str, float]]] = []
    pieces = [(letter, when) for text, when in zip(texts, times, strict=True) for letter in text]
    for line in textwrap.wrap("".join(texts), COLUMNS):
        row: list[tuple[str, float]] = []
        while pieces and pieces[0][0].isspace():
            pieces.pop(0)
        for letter, when in pieces[: len(line)]:
            if row and row[-1][1] == when:
                row[-1] = (row[-1][0] + letter, when)
            else:
                row.append((letter, when))
        del pieces[: len(line)]
        lines.append(row)
    return lines


def coloured(source: str) -> Iterator[str]:
    """Each line of a cell, as it is coloured in a notebook."""
    line = ""
    for kind, text in PythonLexer().get_tokens(source):
        style = next((name for token, name in STYLES if kind in token), "")
        for number, part in enumerate(text.split("\n")):
            if number:
                yield line
                line = ""
            part = escape(part, quote=False)
            line += f'<tspan class="{style}">{part}</tspan>' if style and part else part


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
    print(PICTURE)
