"""Text from strangers, made safe to show: nothing in it is obeyed by a terminal, a page or a reader of Markdown."""

from __future__ import annotations

import html
import re

__all__ = ["clip", "escape", "fenced", "indented", "one_line", "plain", "seconds"]

# Controls, what turns or hides text, halves of surrogate pairs, which no message can carry.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')


def plain(text: str) -> str:
    """Return `text` with control characters, and others that cannot be seen, shown by their numbers."""
    if text.isascii() and text.isprintable():
        return text
    return _UNSEEN.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def escape(text: str) -> str:
    """Return `text` as HTML that shows it as it is."""
    return html.escape(plain(text), quote=True)


def fenced(text: str) -> str:
    """Return `text` as a block of Markdown that shows it as it is."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{plain(text)}\n{fence}"


def clip(text: str, size: int) -> str:
    """Return at most `size` characters of `text`, and how many there were, where some are left out."""
    return text if len(text) <= size else f"{text[:size]} … ({len(text):,} characters)"


def seconds(value: float) -> str:
    """Return a time in seconds in words."""
    return f"{value * 1000:.0f} ms" if value < 0.1 else f"{value:.2f} s" if value < 10 else f"{value:,.0f} s"


def one_line(text: str) -> str:
    """Return `text` with its line breaks, and the indents after them, as spaces; none are inside of JSON's strings."""
    return re.sub(r"\s*\n\s*", " ", text).strip()


def indented(text: str) -> str:
    """Return JSON text with a line a value. Every number and name stays as it is written, unlike after parsing."""
    out: list[str] = []
    depth, tokens = 0, _TOKEN.findall(text)
    for place, token in enumerate(tokens):
        before = tokens[place - 1] if place else ""
        if token in "}]":
            depth -= 1
            if before not in ("{", "["):
                out.append("\n" + "  " * depth)
        elif before in ("{", "[", ","):
            out.append("\n" + "  " * depth)
        out.append(": " if token == ":" else token)
        if token in "{[":
            depth += 1
    return "".join(out)
