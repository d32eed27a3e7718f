"""The commands in the text of a shell script, each as its words. Pure.

Enough of a shell's grammar to see which programs a script names: quotes, separators, substitutions and heredocs.
Variables are not expanded.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

__all__ = ["commands"]

_KEYWORDS = frozenset({"!", "{", "do", "elif", "else", "if", "then", "until", "while"})
_SUBSTITUTION = re.compile(r"\$\(([^()]*)\)|`([^`]*)`|[<>]\(([^()]*)\)")
_SINGLE_QUOTED = re.compile(r"'[^']*'")
_HEREDOC = re.compile(r"<<-?[ \t]*(['\"]?)(\w+)\1(.*?)\n.*?^[ \t]*\2[ \t]*$", re.DOTALL | re.MULTILINE)
_ASSIGNMENT = re.compile(r"\w+\+?=")
_SEPARATORS = ";&|()\n"


def commands(text: str) -> Iterator[list[str]]:
    """Yield the commands of a script, those of substitutions first; assignments before a command are left out."""
    text = _HEREDOC.sub(r"\3", text.replace("\\\n", " "))
    text = "\n".join(line for line in text.split("\n") if not line.lstrip().startswith("#"))
    for match in _SUBSTITUTION.finditer(_SINGLE_QUOTED.sub("", text)):
        yield from commands(next(group for group in match.groups() if group is not None))
    words: list[str] = []
    for word in [*_words(text), "\n"]:
        if word and not word.strip(_SEPARATORS):
            command = _command(words)
            words = []
            if command:
                yield command
        else:
            words.append(word)


def _words(text: str) -> list[str]:
    lexer = shlex.shlex(text, posix=True, punctuation_chars=_SEPARATORS)
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t\r", True, ""
    try:
        return list(lexer)
    except ValueError:  # quotes that are not balanced, as far as can be seen
        return re.sub(f"([{_SEPARATORS}])", r" \1 ", text).replace("\n", " \n ").split(" ")


def _command(words: list[str]) -> list[str]:
    while words and (words[0] in _KEYWORDS or _ASSIGNMENT.match(words[0]) or not words[0]):
        words = words[1:]
    return words
