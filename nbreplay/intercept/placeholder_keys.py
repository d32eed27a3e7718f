"""Placeholder API keys, so that a client can be built where no key is set. They are never sent."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
from collections.abc import Iterable
from pathlib import Path

from nbreplay.core.secrets.credentials import PLACEHOLDER, has_placeholder
from nbreplay.errors import RecordingMissing

# (the SDK, the variables that it takes its key from; the first stands in for all)
_SDKS = (
    ("openai", ("OPENAI_API_KEY",)),
    ("openai", ("AZURE_OPENAI_API_KEY",)),
    ("anthropic", ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")),
    ("google.genai", ("GEMINI_API_KEY", "GOOGLE_API_KEY")),
    ("mistralai", ("MISTRAL_API_KEY",)),
    ("cohere", ("CO_API_KEY", "COHERE_API_KEY")),
    ("groq", ("GROQ_API_KEY",)),
    ("tavily", ("TAVILY_API_KEY",)),
)
_DOTENV_NAME = re.compile(r"(?m)^\s*(?:export\s+)?([A-Za-z_]\w*)\s*=\s*\S")
_placed: set[str] = set()
_ever = PLACEHOLDER in os.environ.values()  # a parent process may have placed it


def place() -> None:
    """Set a placeholder for every installed SDK whose key is neither in the environment nor in the nearest ``.env``."""
    global _ever
    present = _names_in_dotenv().union(name for name, value in os.environ.items() if value)
    for sdk, names in _SDKS:
        if present.isdisjoint(names) and _is_installed(sdk):
            os.environ[names[0]] = PLACEHOLDER
            _placed.add(names[0])
            _ever = True


def withdraw() -> None:
    """Remove the placeholders from the environment."""
    while _placed:
        name = _placed.pop()
        if os.environ.get(name) == PLACEHOLDER:
            del os.environ[name]


def placed_names() -> list[str]:
    """Return the names of the variables that hold a placeholder."""
    return sorted(_placed)


def was_placed() -> bool:
    """Return whether a client may exist that holds a placeholder."""
    return _ever


def refuse(target: str, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Refuse a call outside of any session that carries a placeholder: raise `RecordingMissing`."""
    if has_placeholder(target, headers):
        raise RecordingMissing(
            "this client was created without an API key and holds nbreplay's placeholder, which is never sent. "
            "Set the key in the environment or in .env, and create the client again"
        )


def _is_installed(sdk: str) -> bool:
    try:
        return importlib.util.find_spec(sdk) is not None
    except (ImportError, ValueError):
        return False


def _names_in_dotenv() -> set[str]:
    for folder in (Path.cwd(), *Path.cwd().parents):
        with contextlib.suppress(OSError):
            if (path := folder / ".env").is_file():
                return set(_DOTENV_NAME.findall(path.read_text("utf-8", "replace")))
    return set()
