"""The parser of the command line: argparse, with help and errors that are the same for every version of Python.

Help fits the terminal and lists the commands by group. An error shows the usage of the command that it is about, and
the known word that is nearest to an unknown one.
"""

from __future__ import annotations

import argparse
import itertools
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any, NoReturn

from nbreplay.cli.output import BAD, HEADING, NAME, print_text
from nbreplay.core.words import suggest

_WIDEST, _NARROWEST = 100, 40  # columns; longer lines are hard to read
_LONGEST = 26  # columns of an option and the space around it, before its help
# The styles of help on a terminal, by what they match.
_STYLES = {
    r"(?m)^usage:|^[a-z ]+:$": HEADING,
    r"(?m)(?<![\w-])--?[a-zA-Z][\w-]*|^  [a-z]+(?= )|^  \$ .*?(?=  |$)": NAME,
}
# Messages of argparse in other words.
_WORDS = {
    "^argument ": "",
    "^the following arguments are required: ": "missing ",
    "expected one argument$": "needs a value",
    "ignored explicit argument (.*)$": r"takes no value, and has \1",
}


class Parser(argparse.ArgumentParser):
    """A parser of a command, or of the whole command line, whose commands are in groups."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{**options, "add_help": False})
        self.add_argument("-h", "--help", action="help", help="show this help")
        self.groups: Mapping[str, Mapping[str, str]] = {}  # by the title of a group, its commands and what they do
        self.commands: Mapping[str, argparse.ArgumentParser] = {}
        self.tail = ""  # the name under which all that follows ``--`` is returned, whatever it looks like

    def add_commands(
        self, groups: Mapping[str, Mapping[str, str]]
    ) -> argparse._SubParsersAction[argparse.ArgumentParser]:
        """Return the action to which commands are added. The help lists them as `groups` says."""
        action: argparse._SubParsersAction[Any] = self.add_subparsers(
            prog=self.prog, dest="command", metavar="COMMAND", required=True, action=_Commands
        )
        self.groups, self.commands = groups, action.choices
        return action

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> argparse.Namespace:  # type: ignore[override]
        """Parse the arguments; a command reports those that it does not know."""
        options, others = self.parse_known_args(args, namespace)
        if others:
            self.commands.get(options.command, self).error(f"unexpected argument {others[0]}")
        return options

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse the arguments. An unknown option is reported first: what is missing may be due to it."""
        args = sys.argv[1:] if args is None else args
        if self.tail and "--" in args:
            at = args.index("--")
            options, others = self.parse_known_args(args[:at], namespace)
            setattr(options, self.tail, list(args[at + 1 :]))
            return options, others
        own = itertools.takewhile(lambda word: word != "--" and (word[:1] == "-" or not self.commands), args)
        for word in own:
            if self._is_unknown(word):
                known = [name.removeprefix("--") for name in self._option_string_actions if name[:2] == "--"]
                hint = suggest(word.partition("=")[0].lstrip("-"), known).replace("mean ", "mean --")
                hint = hint or f" See {self.prog} --help"
                self.error(f"unknown option {word}.{hint}")
        options, others = super().parse_known_args(args, namespace)
        if self.tail and getattr(options, self.tail):
            self.error(f"Write -- before the command: {' '.join(getattr(options, self.tail))}")
        return options, others

    def _is_unknown(self, word: str) -> bool:
        name = word.partition("=")[0]
        if len(name) < 2 or name[0] != "-" or " " in word or name[1].isdecimal():
            return False  # argparse takes it as a value, too
        known = self._option_string_actions
        return name not in known and not any(
            option.startswith(name) if name[1] == "-" else option == name[:2] for option in known
        )

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = list(map(str, action.choices))
            hint = suggest(str(value), known) or f" Choose from {', '.join(known)}"
            name = action.option_strings[-1] if action.option_strings else _metavar(action)
            words = f"unknown command {value}" if self.commands else f"{name} {value} is unknown"
            raise argparse.ArgumentError(None, f"{words}.{hint}")

    def error(self, message: str) -> NoReturn:
        """Print the usage and the error, and exit."""
        for pattern, words in _WORDS.items():
            message = re.sub(pattern, words, message)
        if message == "missing COMMAND":  # nothing was asked for: say what there is
            self.print_help(sys.stderr)
        else:
            print_text(self.format_usage().rstrip(), stderr=True)
            print_text((f"{self.prog}:", BAD), f" {message}", stderr=True)
        raise SystemExit(2)

    def print_help(self, file: IO[str] | None = None) -> None:  # type: ignore[override]
        """Print the help, in colour on a terminal."""
        print_text(self.format_help().rstrip(), stderr=file is sys.stderr, highlights=_STYLES)

    def format_usage(self) -> str:
        """Return one line: the command, and what it must and may get."""
        if self.commands:
            return f"usage: {self.prog} COMMAND [OPTIONS]\n"
        positionals = [action for action in self._actions if not action.option_strings]
        required = [action for action in self._actions if action.option_strings and action.required]
        words = [f"{action.option_strings[-1]} {_metavar(action)}" for action in required]
        words += map(_format_positional, positionals)
        return " ".join(["usage:", self.prog, "[OPTIONS]", *words]) + "\n"

    def format_help(self) -> str:
        """Return the help: usage, description, arguments or commands, options, examples and exit status."""
        width = max(min(shutil.get_terminal_size().columns, _WIDEST), _NARROWEST)
        parts = [self.format_usage().rstrip(), "", *_wrap(self.description or "", width)]
        named: list[tuple[str, str]] = []
        options: list[tuple[str, str]] = []
        for action in self._actions:
            text = (action.help or "") % {**vars(action), "prog": self.prog}
            if action.option_strings:
                words = ", ".join(action.option_strings)
                options.append((words if action.nargs == 0 else f"{words} {_metavar(action)}", text))
            elif action.dest != "command":
                named.append((_metavar(action), text))
        commands = {
            title: [(f"{name:<10}", text) for name, text in rows.items()] for title, rows in self.groups.items()
        }
        for title, rows in {"arguments": named, **commands, "options": options}.items():
            if rows:
                parts += ["", f"{title}:", *_format_rows(rows, width)]
        if self.epilog:
            parts += ["", *_wrap(self.epilog, width)]
        return "\n".join(parts) + "\n"


class _Commands(argparse._SubParsersAction):  # type: ignore[type-arg]
    """The commands. shtab offers only those that have a help; ours is in the groups."""

    def add_parser(self, name: str, **options: Any) -> Any:
        return super().add_parser(name, **{"help": "", **options})


def _metavar(action: argparse.Action) -> str:
    if isinstance(action.metavar, str):
        return action.metavar
    return f"{{{','.join(map(str, action.choices))}}}" if action.choices is not None else action.dest.upper()


def _format_positional(action: argparse.Action) -> str:
    name = f"{_metavar(action)}{'...' if action.nargs in ('+', '*') else ''}"
    return f"[{name}]" if action.nargs in ("?", "*") else name


def _format_rows(rows: Sequence[tuple[str, str]], width: int) -> Iterator[str]:
    """Yield lines of two columns. A first column that is too long has a line of its own."""
    column = min(max(len(name) for name, _ in rows) + 4, _LONGEST)
    for name, text in rows:
        lines = _wrap(text, width - column)
        if len(name) <= column - 4:
            yield f"  {name:<{column - 2}}{lines.pop(0) if lines else ''}".rstrip()
        else:
            yield f"  {name}"
        yield from (" " * column + line for line in lines)


def _wrap(text: str, width: int) -> list[str]:
    """Return the lines of paragraphs that fit. Indented lines, such as examples, stay as they are."""
    lines: list[str] = []
    for is_raw, group in itertools.groupby(text.strip("\n").split("\n"), lambda line: line[:1] in ("", " ")):
        paragraph = list(group)
        lines += paragraph if is_raw else textwrap.wrap(" ".join(paragraph), width, **_WRAPPING)
    return lines


_WRAPPING: Mapping[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
