"""Whether a text has a pattern in it, asked of Rust's regular expressions, which pydantic brings.

They search a text once for any number of words, where Python's own take one look for each. They know no lookaround,
and do not say where.
"""

from __future__ import annotations

from collections.abc import Callable

from pydantic_core import SchemaValidator, core_schema

__all__ = ["finder"]


def finder(pattern: str) -> Callable[[str], bool]:
    """Return what tells whether `pattern`, of ASCII and in Rust's syntax, is found in a text."""
    found: Callable[[str], bool] | None = None

    def finds(text: str) -> bool:
        nonlocal found
        if found is None:  # not while the package is imported
            schema = core_schema.str_schema(pattern=pattern, regex_engine="rust-regex")
            found = SchemaValidator(schema).isinstance_python
        # Half of a surrogate pair would make it no text to Rust, in which nothing is found.
        return found(text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8"))

    return finds
