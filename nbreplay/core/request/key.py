"""The key of a request: the hash of its canonical text."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from nbreplay.core.recording.json_text import encoder

__all__ = ["canonical", "key_of", "read_plain"]

ALGORITHM = "k1"
_SHORT = 1024  # bytes
_encode = encoder((",", ":"), ascii_only=True, sort_keys=True)


def _own() -> Any:
    """Return Python's own SHA-256: all of a usual request takes it less time than OpenSSL's takes to begin."""
    for name in ("_sha2", "_sha256"):
        try:
            return importlib.import_module(name).sha256
        except (ImportError, AttributeError):
            continue
    return hashlib.sha256


def _alike(text: str) -> float:
    """Read a number with a fraction or an exponent, where msgspec would write it as `json` does.

    Raises
    ------
    ValueError
        For any other: very large and very small ones are written in another way.
    """
    value = float(text)
    if value and not 1e-4 <= abs(value) < 1e16:
        raise ValueError(text)
    return value


_plain = msgspec.json.Encoder(order="sorted").encode
_short = _own()

read_plain: Callable[[bytes], Any] = msgspec.json.Decoder(float_hook=_alike).decode
"""Reads JSON data that are plain, see `key_of`; raises `msgspec.MsgspecError` or RecursionError for any other."""


def canonical(kind: str, fields: Mapping[str, Any]) -> bytes:
    """Return the text whose hash is the key: sorted names, no white space, ASCII."""
    return _encode([kind, fields]).encode("ascii")


def key_of(kind: str, fields: Mapping[str, Any], *, plain: bool = False) -> str:
    """Return the key of a canonical request.

    Parameters
    ----------
    kind : str
    fields : mapping
    plain : bool
        Whether the numbers in it are all of `read_plain`'s: then msgspec writes its text, which takes less long.
    """
    text = None
    if plain:
        try:  # noqa: SIM105 – every call passes here, and `suppress` would take longer than all else
            text = _plain((kind, fields))
        except UnicodeEncodeError:
            pass  # half of a surrogate pair, in a path
    if text is None or not text.isascii() or b"\x7f" in text:  # `json` escapes what is not ASCII, and that sign
        text = canonical(kind, fields)
    digest = _short(text) if len(text) < _SHORT else hashlib.sha256(text)
    return f"{ALGORITHM}:{digest.hexdigest()}"
