"""The table of the ways out: ``python -m tests.hostile.ways_out`` prints it as it stands in ``docs/ways-out.md``."""

from __future__ import annotations

from tests.hostile import ways_by_child, ways_by_library, ways_by_socket
from tests.hostile.ways import HELD, NAMED, WAYS

__all__ = ["TABLE", "counts", "main"]

MODULES = (ways_by_socket, ways_by_library, ways_by_child)
"""Each adds its ways to the table."""


def _table() -> str:
    groups = dict.fromkeys(way.group for way in WAYS)
    rows = [f"| {group} | {way.name} | {way.expected} |" for group in groups for way in WAYS if way.group == group]
    return "\n".join(["| kind | way | under replay |", "|---|---|---|", *rows])


TABLE = _table()


def counts() -> str:
    """Return how many ways there are, and what becomes of them."""
    held, named = (sum(way.expected == what for way in WAYS) for what in (HELD, NAMED))
    return f"{len(WAYS)} ways: {held} {HELD}; {named} {NAMED}; 0 silent."


def main() -> None:
    """Print the table."""
    print(TABLE)
    print()
    print(counts())


if __name__ == "__main__":
    main()
