"""The reference of the command line as Markdown, written from its parsers."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

from nbreplay.cli.main import GROUPS, make_parser


def markdown() -> str:
    """Return a section per command, with a target for each of its options."""
    parser = make_parser()
    lines: list[str] = []
    for title, commands in GROUPS.items():
        lines += [f"## {title[0].upper()}{title[1:]}", ""]
        for name in commands:
            lines += [f"### nbreplay {name}", "", *_command(parser.commands[name])]
    return "\n".join(lines)


def _command(parser: argparse.ArgumentParser) -> Iterator[str]:
    yield from [
        "```text",
        parser.format_usage().strip().removeprefix("usage: "),
        "```",
        "",
        parser.description or "",
        "",
    ]
    yield from [f"```{{program}} {parser.prog}", "```", ""]
    for action in parser._actions:
        if action.dest != "help":
            names = ", ".join(f"{name}{_value(action)}" for name in action.option_strings)
            text = (action.help or "") % {**vars(action), "prog": parser.prog}
            yield from [f"````{{option}} {names or _metavar(action)}", _escape(text), "````", ""]
    prose, _, examples = (parser.epilog or "").partition("examples:\n")
    examples, _, status = examples.partition("exit status:")
    yield from [_escape(prose.strip()), ""]
    if examples.strip():
        yield from ["```text", *(line.removeprefix("  ") for line in examples.rstrip().splitlines()), "```", ""]
    if status.strip():
        yield from [f"Exit status: {_escape(' '.join(status.split()))}", ""]


def _value(action: argparse.Action) -> str:
    return "" if action.nargs == 0 else f" {_metavar(action)}"


def _metavar(action: argparse.Action) -> str:
    if action.metavar is None and action.choices is not None:
        return "{" + ",".join(map(str, action.choices)) + "}"
    return str(action.metavar or action.dest.upper())


def _escape(text: str) -> str:
    """Return plain text as Markdown that shows it."""
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", text)
