"""The blocks of code in README and in the pages of the site, and how a reader would run them.

A block runs, or says why not in a comment before it: ``<!-- not run: why -->``. Blocks without a language, and those of
``text``, are not code. What a page takes for granted is in a comment from ``<!-- setup`` to ``-->``: lines of Python
that run where it stands, after `PRELUDE`. The blocks of a page share a kernel and a folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
PROSE = {"", "text", "markdown", "md", "html", "diff"}
RUN = {"python", "ipython", "pycon", "sh", "bash", "console"}
PARSED = {"toml", "yaml", "json"}
PRELUDE = """
import asyncio, json, os
import httpx2
import pandas as pd
from openai import AsyncOpenAI, OpenAI
import nbreplay as nr
client = OpenAI()
question = [{"role": "user", "content": "Hello"}]
"""
"""What every page takes for granted, as its reader does."""

_NOT_RUN = re.compile(r"<!--\s*not run:\s*(.+?)\s*-->\s*$", re.DOTALL)
_SETUP = re.compile(r"<!--\s*setup\s*\n(.*?)-->", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block, or a comment that sets something up."""

    page: Path
    line: int
    language: str
    text: str
    not_run: str = ""

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT).as_posix()}:{self.line}"


def pages() -> list[Path]:
    """Return README and the pages of the site, without those that are generated."""
    found = [path for path in (ROOT / "docs").rglob("*.md") if not {"_build", "generated"} & set(path.parts)]
    return [ROOT / "README.md", *sorted(found)]


def blocks(page: Path) -> Iterator[Block]:
    """Return the blocks of a page. Directives of MyST, such as ``{toctree}``, are none."""
    before = ""
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        line = token.map[0] + 1 if token.map else 0
        if token.type == "html_block" and (setup := _SETUP.search(token.content)):
            yield Block(page, line, "python", setup[1])
        elif token.type == "fence" and not token.info.startswith("{"):
            reason = _NOT_RUN.search(before)
            language = token.info.split()[0] if token.info.strip() else ""
            why = ".ci/run runs it" if page.name == "README.md" and language == "bash" else ""
            yield Block(page, line, language, token.content, reason[1] if reason else why)
        if token.type in ("html_block", "fence", "inline"):
            before = token.content if token.type == "html_block" else ""
