"""``python -m tests.cookbook [--update]``: adopt the cookbook, record and replay a second copy, and print the table."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.cookbook.server import Services
from tests.cookbook.table import Row, adopt, copy_cookbook, format_rows, read_rows, record_and_replay, write_rows


def main() -> int:
    """Print the table. The exit status says whether it is the expected one."""
    parser = argparse.ArgumentParser(prog="python -m tests.cookbook", description=__doc__)
    parser.add_argument("--update", action="store_true", help="write it into expected.csv")
    update = parser.parse_args().update
    with tempfile.TemporaryDirectory() as name:
        with Services() as services:
            adopted = adopt(copy_cookbook(Path(name) / "adopted"), services)
        ran = record_and_replay(copy_cookbook(Path(name) / "cookbook"))
    rows = [Row(name, *adopted[name], *ran[name]) for name in sorted(ran)]
    print(format_rows(rows))
    if update:
        write_rows(rows)
    return 0 if rows == read_rows() else 1


if __name__ == "__main__":
    sys.exit(main())
