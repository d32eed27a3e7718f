"""Placeholder API keys, so that a client can be built where no key is set. They are never sent."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from nbreplay.core.config import OFF, Mode
from nbreplay.core.secrets.credentials import PLACEHOLDER
from nbreplay.core.session import Session
from nbreplay.errors import RecordingMissing

__all__ = ["asked", "ever_placed", "place", "placed", "refuse", "withdraw"]

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
_MARK = PLACEHOLDER.encode()
_placed: set[str] = set()
_ever = PLACEHOLDER in os.environ.values()  # a parent process may have had it


def place() -> None:
    """Set a placeholder for every installed SDK whose key is neither in the environment nor in the nearest ``.env``."""
    global _ever
    named: set[str] | None = None
    for sdk, names in _SDKS:
        if any(os.environ.get(name) for name in names) or not _installed(sdk):
            continue
        if named is None:
            named = _named_in_dotenv()
        if not named.intersection(names):
            os.environ[names[0]] = PLACEHOLDER
            _placed.add(names[0])
            _ever = True


def withdraw() -> None:
    """Take the placeholders away again."""
    for name in list(_placed):
        _placed.discard(name)
        if os.environ.get(name) == PLACEHOLDER:
            del os.environ[name]


def placed() -> list[str]:
    """Return the variables that hold a placeholder."""
    return sorted(_placed)


def ever_placed() -> bool:
    """Tell whether a client may be around that holds a placeholder."""
    return _ever


def asked(
    session: Session | None, host: str, held: Callable[..., Iterable[bytes]], *given: object
) -> tuple[Session | None, Mode]:
    """Return `session` where it is to be asked about a call, None where the call is simply passed on.

    With it comes the mode in which the call starts, by which it is handled whatever becomes of the session meanwhile.

    Parameters
    ----------
    session : Session or None
    host : str
    held : callable
        Returns what may hold a key, the target and the values of the headers; it is seldom looked at.
    *given
        What `held` is to be called with.

    Raises
    ------
    RecordingMissing
        Outside any session, where the call carries a placeholder.
    """
    if session is None:
        if _ever:
            refuse(held(*given))
        return None, OFF
    mode = session.mode
    # A session that is off explains, where there is a placeholder in the call.
    if mode is not OFF or (_ever and _placeheld(held(*given))):
        return session, mode
    session.log_live(host)
    return None, mode


def refuse(held: Iterable[bytes]) -> None:
    """See that a call outside any session carries no placeholder.

    Raises
    ------
    RecordingMissing
    """
    if _placeheld(held):
        raise RecordingMissing(
            "this client was built under replay, where no API key was set: it holds nbreplay's placeholder, which is "
            "never sent. Set the key, in the environment or in .env, and build the client anew"
        )


def _placeheld(held: Iterable[bytes]) -> bool:
    return _MARK in b"\n".join(held)


def _installed(sdk: str) -> bool:
    try:
        return importlib.util.find_spec(sdk) is not None
    except (ImportError, ValueError):
        return False


def _named_in_dotenv() -> set[str]:
    folder = Path.cwd()
    for parent in (folder, *folder.parents):
        path = parent / ".env"
        try:
            if path.is_file():
                return set(
                    re.findall(r"(?m)^\s*(?:export\s+)?([A-Za-z_]\w*)\s*=\s*\S", path.read_text("utf-8", "replace"))
                )
        except OSError:
            continue
    return set()
