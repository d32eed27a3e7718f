"""Python's JSON encoder, made once for each way of writing.

Its own `encode` makes it anew in every call, which takes as long as writing what a call is about.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

__all__ = ["encoder"]


def encoder(
    separators: tuple[str, str] = (", ", ": "),
    *,
    ascii_only: bool = False,
    sort_keys: bool = False,
    allow_nan: bool = True,
    indent: int | None = None,
) -> Callable[[Any], str]:
    """Return what writes JSON data as text, as `json.dumps` does with these options."""
    usual = json.JSONEncoder(
        separators=separators, ensure_ascii=ascii_only, sort_keys=sort_keys, allow_nan=allow_nan, indent=indent
    )
    compiled = getattr(json.encoder, "c_make_encoder", None)
    if compiled is None or indent is not None:
        return usual.encode
    text = json.encoder.encode_basestring_ascii if ascii_only else json.encoder.encode_basestring
    comma, colon = separators
    parts = compiled(None, usual.default, text, None, colon, comma, sort_keys, False, allow_nan)

    def encode(value: Any) -> str:
        return text(value) if type(value) is str else "".join(parts(value, 0))

    return encode
