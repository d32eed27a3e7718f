"""The key of a request: the hash of its canonical text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from nbreplay.core.wire import compact

__all__ = ["canonical", "key_of"]

ALGORITHM = "k1"
_encode_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode


def canonical(kind: str, fields: Mapping[str, Any]) -> bytes:
    """Return the text whose hash is the key: sorted names, no white space, ASCII."""
    made = compact(_sorted([kind, fields]))
    if made is None or not made.isascii() or b"\x7f" in made:
        return _encode_canonical([kind, fields]).encode("ascii")
    return made


def _sorted(node: Any) -> Any:
    if isinstance(node, dict):
        return {name: item if type(item := node[name]) is str else _sorted(item) for name in sorted(node)}
    if isinstance(node, list):
        return [item if type(item) is str else _sorted(item) for item in node]
    return node


def key_of(kind: str, fields: Mapping[str, Any]) -> str:
    """Return the key of a canonical request."""
    return f"{ALGORITHM}:{hashlib.sha256(canonical(kind, fields)).hexdigest()}"
