"""The rules of a session: which fields of a request are left out before it is keyed, and which patterns are masked."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from nbreplay.errors import OptionError

MASKED = "[masked]"
"""What stands where a mask has matched."""


class Normaliser:
    """The ``--ignore`` paths and ``--mask`` patterns of a session.

    Parameters
    ----------
    ignore : iterable of str
        Fields of the body to leave out: ``metadata.run_id``, ``messages[0].name``, ``messages[*].id``.
    mask : iterable of str
        Regular expressions; what they match in any string of the body becomes ``[masked]``.

    Raises
    ------
    OptionError
        If a pattern does not compile, or a path has no steps.
    """

    __slots__ = ("_masks", "_paths", "ignore", "mask", "rules")

    def __init__(self, ignore: Iterable[str] = (), mask: Iterable[str] = ()) -> None:
        self.ignore = _texts(ignore, "ignore")
        self.mask = _texts(mask, "mask")
        self._paths = [_path(text) for text in self.ignore]
        self._masks = [_pattern(text) for text in self.mask]
        self.rules = len(self.ignore) + len(self.mask)  # how many paths and patterns there are

    def apply(self, value: Any) -> Any:
        """Return JSON data without ignored fields and with masks; `value` itself is not changed."""
        for path in self._paths:
            value = _without(value, path)
        return self._mask(value) if self._masks else value

    def _mask(self, node: Any) -> Any:
        if isinstance(node, str):
            for pattern in self._masks:
                node = pattern.sub(MASKED, node)
        elif isinstance(node, list):
            return [self._mask(item) for item in node]
        elif isinstance(node, dict):
            return {name: self._mask(item) for name, item in node.items()}
        return node


def _texts(values: Iterable[str] | str, option: str) -> tuple[str, ...]:
    texts = (values,) if isinstance(values, str) else tuple(values)
    for text in texts:
        if not isinstance(text, str) or not text:
            raise OptionError(f"{option} takes texts such as 'metadata.run_id', not {text!r}")
    return texts


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise OptionError(f"--mask {text!r} is not a regular expression: {error}") from None


def _path(text: str) -> tuple[str | int, ...]:
    steps: list[str | int] = []
    for name, index in re.findall(r"([^.\[\]]+)|\[([^\]]+)\]", text):
        steps.append(name or ("*" if index == "*" else int(index) if index.lstrip("-").isdigit() else index))
    if not steps:
        raise OptionError(f"--ignore {text!r} is not a path. Write it like metadata.run_id or messages[0].name")
    return tuple(steps)


def _without(node: Any, path: tuple[str | int, ...]) -> Any:
    step, rest = path[0], path[1:]
    if isinstance(node, dict):
        if step == "*":
            return {name: _without(item, rest) for name, item in node.items()} if rest else {}
        if step not in node:
            return node
        if not rest:
            return {name: item for name, item in node.items() if name != step}
        return {name: _without(item, rest) if name == step else item for name, item in node.items()}
    if isinstance(node, list):
        if isinstance(step, str) and step != "*" and not step.isdigit():
            return node
        chosen = range(len(node)) if step == "*" else (int(step) + len(node) * (int(step) < 0),)
        if rest:
            return [_without(item, rest) if index in chosen else item for index, item in enumerate(node)]
        return [item for index, item in enumerate(node) if index not in chosen]
    return node
