"""Placeholders of secrets, ``[secret:N]``, in texts that are redacted a second time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from nbreplay.core.secrets.redact import Redactor

__all__ = ["clean_pairs", "clean_url", "numbered", "set_apart", "set_back"]

_PLACEHOLDER = re.compile(r"\[secret:(\d+)\]")
_URL_PARTS = re.compile(r"(\[secret:\d+\])")
_APART = 1_000_000


def set_apart(text: str) -> tuple[str, int]:
    """Return a text with the placeholders of earlier secrets numbered from a million, and the highest of them.

    What is removed now is numbered from 1, and the two are told apart afterwards.
    """
    numbers = [int(number) for number in _PLACEHOLDER.findall(text)]
    return _PLACEHOLDER.sub(lambda match: f"[secret:{int(match[1]) + _APART}]", text), max(numbers, default=0)


def set_back(text: str, highest: int) -> str:
    """Undo `set_apart`: earlier placeholders get their numbers again, and new ones those after `highest`."""

    def number(match: re.Match[str]) -> str:
        given = int(match[1])
        return f"[secret:{given - _APART if given >= _APART else given + highest}]"

    return _PLACEHOLDER.sub(number, text)


def clean_url(url: str, redactor: Redactor) -> str:
    """Return a URL without secrets; the placeholders of those that were removed before stay as they are."""
    return "".join(
        part if _PLACEHOLDER.fullmatch(part) else redactor.url(part) if part else "" for part in _URL_PARTS.split(url)
    )


def clean_pairs(pairs: Any, redactor: Redactor) -> Any:
    """Return the fields of a query or a form without secrets; placeholders stay as they are."""
    try:
        read = [(str(name), str(value)) for name, value in pairs]
    except (TypeError, ValueError):
        return redactor.value(pairs)
    return [
        [name, value] if _PLACEHOLDER.fullmatch(value) else redactor.pairs([(name, value)])[0] for name, value in read
    ]


def numbered(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Number all placeholders of a request in order of appearance, as those of a call are."""
    numbers: dict[str, str] = {}

    def number(match: re.Match[str]) -> str:
        return f"[secret:{numbers.setdefault(match[1], str(len(numbers) + 1))}]"

    def walk(node: Any) -> Any:
        if isinstance(node, str):
            return _PLACEHOLDER.sub(number, node)
        if isinstance(node, list):
            return [walk(item) for item in node]
        if isinstance(node, dict):
            done = {name: (walk(name), walk(node[name])) for name in sorted(node)}
            return dict(done[name] for name in node)
        return node

    order = [
        name for name in ("body", "arguments", "form", "parts", "text", "endpoint", "path", "query") if name in fields
    ]
    done = {name: walk(fields[name]) for name in order}
    return {name: done[name] if name in done else walk(value) for name, value in fields.items()}
