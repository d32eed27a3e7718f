"""Secrets in notebooks: finding them in sources, outputs and the state of widgets, and removing them."""

from __future__ import annotations

import bisect
import itertools
import json
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nbreplay.core.audit.audit import Finding, Leaf, Secret, find_secrets, leaves, line_of, unescape, unreadable
from nbreplay.core.audit.cleaning import last_number
from nbreplay.core.secrets.redact import Redactor
from nbreplay.testing.result import PrintedKey

_BEATS = re.compile(r' data-beats="[^"]*"')
_RAW = re.compile(r"<details[^>]*><summary>raw chunks .*?</details>", re.S)


def audit_notebook(path: Path, shown: str) -> list[Finding]:
    """Return the findings about a notebook: its format, and the secrets in it."""

    def finding(message: str, line: int = 1) -> Finding:
        return Finding(shown, line, "format", message=message)

    if not path.is_file():
        return [finding("not a regular file. Remove it")]
    text = ""
    try:
        text = path.read_bytes().decode("utf-8")
        problem = _problem(json.loads(text))
        findings = [finding(f"not a valid notebook: {problem}. Save it from Jupyter")] if problem else []
        return [*findings, *_secret_findings(text, shown)]
    except OSError as error:
        return [finding(unreadable(error))]
    except (ValueError, RecursionError) as error:
        remedy = "Save it from Jupyter" if isinstance(error, UnicodeDecodeError) else "Restore it from version control"
        line = error.lineno if isinstance(error, json.JSONDecodeError) else 1
        secrets = [secret.finding(shown, line_of(text, secret.start)) for secret in find_secrets(text)]
        return [finding(f"{unreadable(error)}. {remedy}", line), *secrets]


def _problem(document: Any) -> str:
    """Return the reason why the format of a notebook is wrong, without quoting it, else ``""``."""
    import nbformat

    if not isinstance(document, dict) or not isinstance(document.get("nbformat"), int):
        return "no field 'nbformat'"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as of cells without an id
            nbformat.validate(nbformat.from_dict(document), relax_add_props=True)
    except nbformat.ValidationError as error:
        where = ".".join(map(str, getattr(error, "absolute_path", ()) or getattr(error, "path", ())))
        return f"wrong or missing value at {where or 'the top level'}"
    except Exception as error:  # a stranger's file may be wrong in any way
        return type(error).__name__
    return ""


def _secret_findings(text: str, shown: str) -> Iterator[Finding]:
    """Yield the secrets of a notebook, each line's once."""
    every = list(leaves(text))
    secrets: list[tuple[Leaf, Secret]] = []
    for secret in find_secrets(text):
        leaf = every[max(0, bisect.bisect_right(every, secret.start, key=lambda leaf: leaf.start) - 1)]
        if not _is_picture(leaf.path):
            secrets.append((leaf, secret._replace(value=unescape(secret.value))))
    for _, group in itertools.groupby((leaf for leaf in every if not _is_picture(leaf.path)), _owner):
        items = list(group)
        lines = _lines([leaf.text for leaf in items])
        places = [0, *itertools.accumulate(map(len, lines))]
        secrets += [
            (items[bisect.bisect_right(places, secret.start) - 1], secret._replace(start=-1))
            for secret in find_secrets("".join(lines))
        ]
    reported = set[tuple[int, str]]()
    for leaf, secret in sorted(secrets, key=lambda item: (item[0].start, item[1].start < 0, item[1].start)):
        line = line_of(text, leaf.start)
        if (line, secret.value) not in reported:
            reported.add((line, secret.value))
            yield secret._replace(place=_place(leaf.path)).finding(shown, line)


def _is_picture(path: Sequence[str | int]) -> bool:
    return any(isinstance(step, str) and step.startswith("image/") and step != "image/svg+xml" for step in path)


def _owner(leaf: Leaf) -> tuple[Any, ...]:
    """Return the list that a string is an item of, else the string itself."""
    return (leaf.path[:-1], "items") if leaf.path and isinstance(leaf.path[-1], int) else (leaf.path, leaf.is_name)


def _lines(items: Sequence[str]) -> list[str]:
    """Return the lines of a list with their line ends, which some lack."""
    return [*(item if item.endswith("\n") else item + "\n" for item in items[:-1]), *items[-1:]]


def _place(path: Sequence[str | int]) -> str:
    steps = [*path, "", "", ""]
    if steps[0] == "cells" and isinstance(steps[1], int):
        part = {"source": "the source", "outputs": "an output", "metadata": "the metadata"}.get(str(steps[2]), "a part")
        return f"in {part} of cell {steps[1] + 1}"
    return "in the state of a widget" if steps[:2] == ["metadata", "widgets"] else "in the metadata"


def clean_notebook(path: Path) -> str:
    """Remove the secrets from the outputs, the state of the widgets and the metadata of a notebook.

    Return why others stay: without what is removed, a source might not run.
    """
    from nbreplay.testing.notebook_file import rewrite_notebook  # which imports nbformat

    if path.is_symlink():
        return f"{path} is a link. Name the file itself"
    try:
        before = path.read_bytes().decode("utf-8")
        document = json.loads(before)
        redactor, changed = _NotebookRedactor(last=last_number(before)), False
        cells = document.get("cells") if isinstance(document, dict) else None
        for holder in [document, *(cells if isinstance(cells, list) else [])]:
            for name in ("outputs", "metadata"):
                if isinstance(holder, dict) and name in holder:
                    clean = redactor.value(holder[name])
                    if clean != holder[name]:
                        _forget_times(holder[name], clean)
                        holder[name], changed = clean, True
        if changed:
            rewrite_notebook(path, document, before)
    except (ValueError, RecursionError):
        pass  # its format is a finding of its own
    except OSError as error:
        return f"{path} cannot be written: {error.strerror or error}. Make it writable"
    return "only outputs, widgets and metadata are changed. Edit the cell by hand"


def mask_notebook(notebook: Any, known: Sequence[str]) -> list[PrintedKey]:
    """Mask the secrets in the outputs and the widgets of an executed notebook. Return those that cells printed.

    `known` are values known to be secret, besides those that look like it.
    """
    import nbformat

    redactor, printed = _NotebookRedactor(known), list[PrintedKey]()
    for index, cell in enumerate(notebook.cells, 1):
        outputs = cell.get("outputs")
        if outputs and (clean := redactor.value(outputs)) != outputs:
            kinds = {match.rule for text in _texts(outputs) for match in redactor.matches(text)}
            printed += [PrintedKey(index, kind) for kind in sorted(kinds or {"named-value"})]
            _forget_times(outputs, clean)
            cell.outputs = [nbformat.from_dict(output) for output in clean]
    if widgets := notebook.metadata.get("widgets"):
        clean = redactor.value(widgets)
        if clean != widgets:
            _forget_times(widgets, clean)
            notebook.metadata["widgets"] = nbformat.from_dict(clean)
    return printed


def _texts(node: Any) -> Iterator[str]:
    """Yield the strings of JSON data, without pictures."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict):
        for name, item in node.items():
            yield from () if _is_picture((name,)) else _texts(item)
    elif isinstance(node, list):
        for item in node:
            yield from _texts(item)


class _NotebookRedactor(Redactor):
    """Finds secrets that reach over several lines of a list, too, and leaves pictures as they are."""

    __slots__ = ()

    def _value(self, node: Any, name: str = "") -> Any:
        if isinstance(node, list) and node and all(isinstance(item, str) for item in node):
            texts = zip(node, self.pieces(_lines(node)), strict=True)
            return [text if item.endswith("\n") else text.removesuffix("\n") for item, text in texts]
        if isinstance(node, dict):
            # A tuple is nothing of JSON, and so left alone.
            apart = {name: (item,) if _is_picture((name,)) else item for name, item in node.items()}
            clean = super()._value(apart)
            return {name: item[0] if isinstance(item, tuple) else item for name, item in clean.items()}
        return super()._value(node, name)


def _forget_times(before: Any, after: Any) -> None:
    """Remove the chunks of an answer whose text has changed: a secret is still spread over them."""
    if isinstance(before, list) and isinstance(after, list):
        for old, new in zip(before, after, strict=False):
            _forget_times(old, new)
    elif isinstance(before, dict) and isinstance(after, dict) and before != after:
        if "tracks" in before and "title" in before:  # a card of nbreplay's
            after.pop("beats", None)
            after.pop("raw", None)
        html = after.get("text/html")
        if html:
            text = _RAW.sub("", _BEATS.sub("", html if isinstance(html, str) else "".join(html)))
            after["text/html"] = text if isinstance(html, str) else text.splitlines(keepends=True)
        for name, old in before.items():
            _forget_times(old, after.get(name))
