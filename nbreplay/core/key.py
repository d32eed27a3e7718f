"""The key of a request: the hash of its canonical text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

__all__ = ["canonical", "key_of"]

ALGORITHM = "k1"
_encoder = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _made() -> Callable[[Any, int], Iterable[str]]:
    """Return what the encoder's own `encode` makes anew in every call, which takes as long as what it then does."""
    compiled = getattr(json.encoder, "c_make_encoder", None)
    if compiled is None:
        return lambda value, _: _encoder.iterencode(value)
    made: Callable[[Any, int], Iterable[str]] = compiled(
        None, _encoder.default, json.encoder.encode_basestring_ascii, None, ":", ",", True, False, True
    )
    return made


_parts = _made()
_EMPTY = hashlib.sha256()  # copied, since making one takes longer than hashing a request


def canonical(kind: str, fields: Mapping[str, Any]) -> bytes:
    """Return the text whose hash is the key: sorted names, no white space, ASCII."""
    return "".join(_parts([kind, fields], 0)).encode("ascii")


def key_of(kind: str, fields: Mapping[str, Any]) -> str:
    """Return the key of a canonical request."""
    digest = _EMPTY.copy()
    digest.update(canonical(kind, fields))
    return f"{ALGORITHM}:{digest.hexdigest()}"
