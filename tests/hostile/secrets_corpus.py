"""What the redactor finds of the corpus, and what it takes for a secret that is none.

``python -m tests.hostile.secrets_corpus`` prints both.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from nbreplay.core.secrets.redact import Redactor
from tests.hostile import benign_lines
from tests.hostile.secret_kinds import KINDS, Kind

__all__ = ["FORMS", "NAMED", "UNNAMED", "benign", "false_alarms", "leftover", "missed"]

EXAMPLES_EACH = 5

FORMS: dict[str, Callable[[Kind, str], str]] = {
    "prose": lambda _, value: f"My key is {value}, please use it.",
    "KEY=value": lambda kind, value: f"{kind.name}={value}",
    "JSON": lambda _, value: json.dumps({"api_key": value}),
}

NAMED: dict[str, Callable[[Kind, str], str]] = {
    "shell": lambda kind, value: f'export {kind.name}="{value}"',
    "command": lambda kind, value: f"{kind.name.lower()}={value} python run.py",
    "option": lambda _, value: f"tool --api-key={value} --verbose",
    "YAML": lambda _, value: f"  apiKey: '{value}'",
    "TOML": lambda _, value: f'api_key = "{value}"',
    "ini, CRLF": lambda _, value: f"api_key={value}\r\nother=1",
    "Python": lambda _, value: f"client = Client(api_key={value!r})",
    "dictionary": lambda _, value: repr({"api_key": value, "other": 1}),
    "Go": lambda _, value: f'apiKey := "{value}"',
    "XML": lambda _, value: f"<apiKey>{value}</apiKey>",
    "header": lambda _, value: f"curl -H 'X-Api-Key: {value}' https://api.acme.example/",
    "bearer": lambda _, value: f"Authorization: Bearer {value}",
    "token": lambda _, value: f"Authorization: Token {value}",
    "compact JSON": lambda _, value: json.dumps({"apiKey": value}, separators=(",", ":")),
    "JSON in JSON": lambda _, value: json.dumps({"a": json.dumps({"client_secret": value})}),
    "JSON, thrice": lambda _, value: json.dumps({"a": json.dumps({"b": json.dumps({"password": value})})}),
    "access_token": lambda _, value: json.dumps({"access_token": value}),
    "refreshToken": lambda _, value: json.dumps({"refreshToken": value}),
    "SecretAccessKey": lambda _, value: json.dumps({"SecretAccessKey": value}),
}
"""Other ways to write a name and a secret."""

UNNAMED: dict[str, Callable[[Kind, str], str]] = {
    "paragraphs": lambda _, value: f"Here it is:\n\n{value}\n\nThanks!",
    "parentheses": lambda _, value: f"(it is {value})",
    "list": lambda _, value: f"These: {value}, and no other",
    "bold": lambda _, value: f"**{value}**",
    "code": lambda _, value: f"Use `{value}`.",
    "Chinese": lambda _, value: f"\u5bc6\u94a5\u662f{value}\u3002",
    "JSON": lambda _, value: json.dumps({"text": f"first\n{value}\tlast"}),
}
"""Ways to write a secret alone."""


def leftover(secret: str, text: str) -> str:
    """Return a longer part of `secret` that still stands in `text`, or an empty string."""
    size = min(16, max(7, len(secret) // 2))
    parts = (secret[start : start + size] for start in range(len(secret) - size + 1))
    return next((part for part in parts if part in text or json.dumps(part)[1:-1] in text), "")


def missed(
    form: Callable[[Kind, str], str], kinds: Sequence[Kind] = KINDS, examples: int = EXAMPLES_EACH
) -> dict[str, str]:
    """Return the kinds of which the redactor leaves an example, or a part of it, in this form; with the example."""
    found: dict[str, str] = {}
    for kind in kinds:
        for number in range(examples):
            example = kind.draw(number)
            text = form(kind, example)
            if leftover(kind.secret(example), Redactor().text(text)):
                found.setdefault(kind.id, text)
    return found


@dataclass(frozen=True, slots=True)
class Benign:
    """Lines without secrets, by where they are from."""

    code: list[str]
    made_up: list[str]
    recordings: list[str]

    def __len__(self) -> int:
        return len(self.code) + len(self.made_up) + len(self.recordings)

    def lines(self) -> Iterable[str]:
        """Yield all of them."""
        yield from self.code
        yield from self.made_up
        yield from self.recordings


def benign(*, packages: bool = False) -> Benign:
    """Collect the benign lines; those of code from Python's own library, or from the packages that are installed."""
    return Benign(
        list((benign_lines.of_packages if packages else benign_lines.of_library)(30_000)),
        list(benign_lines.made_up(8_000)),
        list(benign_lines.of_recordings(6_000)),
    )


def false_alarms(lines: Iterable[str]) -> list[tuple[str, str]]:
    """Return the lines that the redactor changes, with what it makes of them."""
    redact = Redactor().text
    return [(line, changed) for line in lines if (changed := redact(line)) != line]


def main() -> None:
    """Print what is found, what is missed, and the false alarms."""
    shaped = sum(kind.shaped for kind in KINDS)
    print(f"{len(KINDS)} kinds, {shaped} of them with a shape of their own, {EXAMPLES_EACH} examples each")
    for name, form in FORMS.items():
        lost = missed(form)
        print(f"{name}: {len(KINDS) - len(lost)} of {len(KINDS)} kinds found")
        print(f"    not found: {', '.join(lost) or 'none'}")
    lines = benign(packages=True)
    alarms = false_alarms(lines.lines())
    print(f"false alarms: {len(alarms)} of {len(lines)} benign lines")
    for line, changed in alarms[:20]:
        print(f"    {_around(line, changed)}")


def _around(line: str, changed: str) -> str:
    """Return the part of a line that is changed."""
    start = next((at for at, pair in enumerate(zip(line, changed, strict=False)) if pair[0] != pair[1]), 0)
    return line[max(0, start - 60) : start + 80]


if __name__ == "__main__":
    main()
