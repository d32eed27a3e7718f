"""The key of a request: the hash of its canonical text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

__all__ = ["canonical", "key_of"]

ALGORITHM = "k1"
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode


def canonical(kind: str, fields: Mapping[str, Any]) -> bytes:
    """Return the text whose hash is the key: sorted names, no white space, ASCII."""
    return _encode([kind, fields]).encode("ascii")


def key_of(kind: str, fields: Mapping[str, Any]) -> str:
    """Return the key of a canonical request."""
    return f"{ALGORITHM}:{hashlib.sha256(canonical(kind, fields)).hexdigest()}"
