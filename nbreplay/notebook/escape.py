"""Text that is safe to show: no terminal, page or Markdown reader obeys anything in it."""

from __future__ import annotations

import html
import re

from nbreplay.core.words import shorten

# Control characters, those that turn or hide text, and halves of surrogate pairs, which no message can carry.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)

_DATA = re.compile(r"[A-Za-z0-9+/]{200,}={0,2}")


def plain(text: str) -> str:
    """Return `text` with control characters, and others that cannot be seen, as their numbers."""
    if text.isascii() and text.isprintable():
        return text
    return _UNSEEN.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def escape(text: str) -> str:
    """Return `text` as HTML that shows it as it is."""
    return html.escape(plain(text), quote=True)


def fence(text: str) -> str:
    """Return `text` as a block of Markdown that shows it as it is."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    mark = "`" * max(3, longest + 1)
    return f"{mark}text\n{plain(text)}\n{mark}"


def clip(text: str, size: int) -> str:
    """Return at most `size` characters of `text`, with its length where some are left out."""
    return text if len(text) <= size else f"{shorten(text, size)} ({len(text):,} characters)"


def format_seconds(value: float | None) -> str:
    """Return a duration, given in seconds, such as ``0.34 s`` or ``<1 ms``; ``""`` for None."""
    if value is None:
        return ""
    if 0 <= value < 0.0005:
        return "<1 ms"
    return f"{value * 1000:.0f} ms" if value < 0.1 else f"{value:.2f} s" if value < 10 else f"{value:,.0f} s"


def one_line(text: str) -> str:
    """Return JSON text on one line. Its strings stay, since they contain no line breaks."""
    return re.sub(r"\s*\n\s*", " ", text).strip()


def shorten_data(text: str) -> str:
    """Return a text with only the beginnings of what looks like base64, such as audio, and its length."""
    return _DATA.sub(lambda match: f"{match[0][:16]}… ({len(match[0]):,} characters)", text)
