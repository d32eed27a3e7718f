"""Findings of ``nbreplay check``: what is wrong in a file, on which line, and a secret masked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from nbreplay.core.secrets.redact import Redactor

_LONG = 20  # characters; of a shorter secret nothing is shown
_SHOWN = 4
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]', re.S)


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong with a file."""

    file: str
    line: int  # from 1
    kind: str  # ``secret``, ``format``, ``key``, ``name``, ``blob``, or ``unused`` and ``unread``, which are only notes
    rule: str = ""  # the rule that found a secret; ``""`` for other kinds
    shown: str = ""  # the beginning of a secret and its length; ``""`` where even that would tell too much
    message: str = ""
    fixed: bool = False  # whether ``--fix`` has removed it

    @property
    def is_note(self) -> bool:
        """Whether it does not fail the check."""
        return self.kind in ("unused", "unread")


class Secret(NamedTuple):
    """A secret in a text, which begins at `start`; its value is never to be printed."""

    start: int
    rule: str
    value: str


def find_secrets(text: str) -> list[Secret]:
    """Return the secrets in `text`, in order."""
    return [
        Secret(match.start, match.rule, text[match.start : match.end])
        for match in Redactor().matches(text)
        if match.rule != "placeholder"
    ]


def secret_finding(file: str, line: int, secret: Secret, place: str = "") -> Finding:
    """Return the finding for a secret; `place` says where in the file it is, such as ``in the source of cell 3``."""
    value = secret.value
    shown = f"{value[:_SHOWN]}… ({len(value)} characters)" if len(value) >= _LONG else ""
    message = " ".join(filter(None, (secret.rule, place))) + (f": {shown}" if shown else "")
    return Finding(file, line, "secret", secret.rule, shown, message)


def line_of(text: str, place: int) -> int:
    """Return the number of the line, from 1, that a character is on."""
    return text.count("\n", 0, place) + 1


class Leaf(NamedTuple):
    """A string in a JSON text."""

    path: tuple[str | int, ...]  # the names and indexes that lead to it
    start: int  # the place of its first quote in the JSON text
    text: str
    is_name: bool  # whether it is the name of a member and not a value


def leaves(text: str) -> Iterator[Leaf]:
    """Yield the strings of a JSON text with their places. The text must be valid JSON."""
    path: list[str | int] = []
    brackets: list[str] = []
    name_next = False
    for match in _TOKEN.finditer(text):
        token = match.group()
        if token in "{[":
            brackets.append(token)
            path.append("" if token == "{" else 0)
            name_next = token == "{"
        elif token in "}]":
            brackets.pop()
            path.pop()
            name_next = False
        elif token == ",":
            name_next = brackets[-1] == "{"
            last = path[-1]
            if isinstance(last, int):
                path[-1] = last + 1
        elif token == ":":
            name_next = False
        else:
            value = json.loads(token, strict=False)
            if name_next:
                path[-1] = value
            yield Leaf(tuple(path), match.start(), value, name_next)


def unescape(value: str) -> str:
    """Return the text that a piece of a JSON string stands for; itself where it is not one."""
    try:
        return str(json.loads(f'"{value}"', strict=False)) if "\\" in value else value
    except ValueError:
        return value
