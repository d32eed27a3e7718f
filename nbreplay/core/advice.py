"""The options that would make the nearest recording answer, and how a user writes them down."""

from __future__ import annotations

import enum
import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from nbreplay.core.config import Options, describe_project_file, format_setting, project
from nbreplay.core.nearest import Difference, is_prompt
from nbreplay.core.request.request import Request, apply_rules
from nbreplay.core.request.rules import Normaliser
from nbreplay.core.variable_text import Proposal, propose_masks
from nbreplay.core.words import join_words
from nbreplay.errors import OptionError

_MOST = 6  # fields to ignore
_WORDS = 3  # a text of so many may be a question
_LONG = 80  # characters
# Options reach what these fields of a request hold. The paths of `ignore` begin below the first two.
_BODIES, _TEXTS = frozenset({"body", "arguments"}), frozenset({"body", "arguments", "form", "parts", "text"})
# Without them a request is another one, or its answer has another form.
_NEEDED = frozenset({"model", "stream", "tools", "functions", "jsonrpc", "method"})
_HARMLESS = frozenset({"name", "id", "call_id", "tool_call_id", "tool_use_id", "cache_control"})  # in a message


class Place(enum.Enum):
    """Where a user writes the options of a session."""

    PYTHON = "python"  # the arguments of `nbreplay.session`
    MAGIC = "magic"  # a ``%replay`` line
    SERVER = "server"  # the options of ``nbreplay serve``
    PROJECT = "project"  # pyproject.toml, if the notebook has no magics


class Advice(msgspec.Struct, frozen=True):
    """Options that make the nearest recording answer."""

    masks: tuple[Proposal, ...]
    ignore: tuple[str, ...]

    @property
    def reason(self) -> str:
        """When to follow it, such as ``only a date differs``."""
        names = [*dict.fromkeys(mask.name for mask in self.masks), *self.ignore]
        differs = f"only {join_words(names)} differ{'s' if len(names) == 1 else ''}" if self.masks else ""
        if not self.ignore:
            return differs
        condition = f"if {join_words(self.ignore)} do{'es' if len(self.ignore) == 1 else ''} not matter"
        return f"{differs}; {condition}" if differs else condition

    def lines(self, place: Place, options: Options) -> list[str]:
        """Return how to add them to the options of a session, for a place: lines to show below each other."""
        defaults = project()
        values = {"mask": [mask.pattern for mask in self.masks], "ignore": list(self.ignore)}
        # A line replaces the one before it; what stands in pyproject.toml counts besides.
        outer = {name: getattr(defaults.options, name) for name in values}
        own = {name: [item for item in getattr(options, name) if item not in outer[name]] for name in values}
        if place is Place.PROJECT:
            settings = [format_setting(name, [*outer[name], *items]) for name, items in values.items() if items]
            inside = [line for setting in settings for line in setting.split("\n")]
            text = f"{self.reason}: set in {describe_project_file()}, and that recording answers"
            return [text, "  [tool.nbreplay]", *_indent(inside)]
        every = {name: [*own[name], *items] for name, items in values.items()}
        if place in (Place.MAGIC, Place.SERVER):
            words = [f"--{name} {shlex.quote(item)}" for name, items in every.items() for item in items]
            start = "nbreplay serve" if place is Place.SERVER else f"%replay {options.mode.value}"
            option = " ".join([start, *words])
        else:
            lists = {name: ", ".join(map(_literal if name == "mask" else repr, items)) for name, items in every.items()}
            arguments = [f"{name}=[{items}]" for name, items in lists.items() if items]
            option = f"nbreplay.session(..., {', '.join(arguments)})"
        return [f"{self.reason}: {option} makes that recording answer"]


def _indent(lines: Sequence[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def _literal(text: str) -> str:
    return repr(text) if "'" in text or not text.isprintable() or text.endswith("\\") else f"r'{text}'"


def advise(
    recorded: Mapping[str, Any], request: Request, differing: Sequence[Difference], options: Options
) -> Advice | None:
    """Return the options that make a recording answer, if what differs varies by itself or may not matter.

    They never ignore the whole of a question.
    """
    if not all(_root(item, request) in _TEXTS for item in differing):
        return None
    if any(side and side.startswith('"@') for item in differing for side in (item.recorded, item.asked)):
        return None  # an id that stands for another request is replaced before an option applies
    texts = {item: pair for item in differing if (pair := _texts(item)) and propose_masks(pair[:1], pair[1:])}
    masks = propose_masks([recorded for recorded, _ in texts.values()], [asked for _, asked in texts.values()])
    rest = [item for item in differing if item not in texts]
    if len(rest) > 1 and (len(rest) > _MOST or not all(None in (item.recorded, item.asked) for item in rest)):
        return None
    if not all(_may_be_ignored(item, request) for item in rest):
        return None
    advice = Advice(masks, tuple(item.path for item in rest))
    return advice if _works(advice, recorded, request, options) else None


def _root(item: Difference, request: Request) -> str:
    """Return the field of a request that a path begins in; those of a body have no beginning of their own."""
    roots = (
        name
        for name in request.fields.keys() - _BODIES
        if item.path == name or item.path.startswith((f"{name}.", f"{name}["))
    )
    return next(roots, "body")


def _texts(item: Difference) -> tuple[str, str] | None:
    """Return both sides of a difference if they are texts."""
    if item.recorded is None or item.asked is None or not item.recorded[:1] == item.asked[:1] == '"':
        return None
    return json.loads(item.recorded), json.loads(item.asked)


def _may_be_ignored(item: Difference, request: Request) -> bool:
    steps = item.path.replace("[", ".").replace("]", "").split(".")
    if _root(item, request) != "body" or steps[0] in _NEEDED or not item.path.isprintable():
        return False
    if is_prompt(item.path):
        return len(steps) > 1 and steps[-1] in _HARMLESS
    if request.kind == "tool" and len(steps) == 1 and len(request.fields.get("arguments", ())) < 2:
        return False
    return steps[0] == "metadata" or not any(map(_is_question, (item.recorded, item.asked)))


def _is_question(value: str | None) -> bool:
    return value is not None and value[:1] == '"' and (len(value.split()) >= _WORDS or len(value) > _LONG)


def _works(advice: Advice, recorded: Mapping[str, Any], request: Request, options: Options) -> bool:
    try:
        rules = Normaliser([*options.ignore, *advice.ignore], [*options.mask, *(mask.pattern for mask in advice.masks)])
    except OptionError:
        return False
    return apply_rules(recorded, rules) == apply_rules(request.fields, rules)
