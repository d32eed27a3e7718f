"""The table of the cookbook: what the command line says of each notebook, in whole processes.

``expected.csv`` is the table that is expected; ``python -m tests.cookbook --update`` writes it.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any

from tests.cookbook.server import KEY, SECRETS, Services

__all__ = ["EXPECTED", "NOTEBOOKS", "Row", "adopt", "copy_cookbook", "format_rows", "nbreplay", "read_rows"]

NOTEBOOKS = Path(__file__).parent / "notebooks"
EXPECTED = Path(__file__).parent / "expected.csv"

_PRIVATE = re.compile(r".*(_KEY|_TOKEN|_SECRET|_BASE_URL|_PROXY|_proxy)$|NBREPLAY_.*|PYTEST_.*")
_RAISED = re.compile(r"cell \d+ \(.*?\): (\w+)(:|$)")
_REASONS = {"cell ": "differs", "missing": "missing", "The kernel": "kernel", "The notebook": "kernel"}
"""The word for a failure, by its beginning."""


@dataclass(frozen=True, slots=True)
class Row:
    """What is said of a notebook.

    Attributes
    ----------
    notebook : str
        Its path in the cookbook.
    adopt : str
        Its statuses in the table of ``nbreplay adopt``.
    replays : str
        ``yes`` or ``no``: whether it then replays without a key.
    record, replay : str
        What ``nbreplay run`` says if it records, and replays without a key, an unprepared notebook: ``ok``, or why it
        fails: the name of an exception, ``missing``, ``differs``, ``kernel`` or ``language``.
    """

    notebook: str
    adopt: str
    replays: str
    record: str
    replay: str


def copy_cookbook(folder: Path, names: Iterable[str] = ()) -> Path:
    """Copy some notebooks, or all, with the files beside them into a new folder, which is a git repository."""
    wanted = set(names)
    shutil.copytree(NOTEBOOKS, folder)
    for path in list(folder.rglob("*.ipynb")):
        if wanted and path.relative_to(folder).as_posix() not in wanted:
            path.unlink()
    # It holds what the author never commits.
    (folder / ".gitignore").write_text(".env\n", "utf-8")
    git(folder, "init", "--quiet")
    commit(folder, "The cookbook")
    return folder


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder, and return what it prints."""
    identity = ("-c", "user.name=An author", "-c", "user.email=author@example.org", "-c", "core.hooksPath=/dev/null")
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def commit(folder: Path, message: str) -> None:
    """Commit all that is in a folder."""
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", message)


def nbreplay(folder: Path, services: Services, *arguments: str, keys: bool) -> subprocess.CompletedProcess[str]:
    """Run the command line in a folder, as the author who has keys, or as CI, which has none."""
    environment = {name: value for name, value in os.environ.items() if not _PRIVATE.fullmatch(name)}
    environment |= services.addresses() | (SECRETS if keys else {})
    environment |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    dotenv = folder / "keys" / ".env"
    if keys and dotenv.parent.is_dir():
        dotenv.write_text(f"OPENAI_API_KEY={KEY}\n", "utf-8")
    command = [sys.executable, "-m", "nbreplay", *arguments]
    try:
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    finally:
        dotenv.unlink(missing_ok=True)


def adopt(folder: Path, services: Services) -> dict[str, tuple[str, str]]:
    """Adopt all notebooks in a folder, and return the statuses of each, and whether it replays."""
    done = nbreplay(folder, services, "adopt", "--yes", "--json", ".", keys=True)
    assert done.returncode in (0, 1), done.stderr
    return {
        Path(row["notebook"]).as_posix(): (
            "; ".join(finding["status"] for finding in row["statuses"]) or "ok",
            "yes" if row["ok"] else "no",
        )
        for row in json.loads(done.stdout)["notebooks"]
    }


def record_and_replay(folder: Path) -> dict[str, tuple[str, str]]:
    """Record all notebooks in a folder, replay them without a server, and return in a word what was said of each."""
    with Services() as services:
        recorded = _words(nbreplay(folder, services, "run", "--mode", "record", "--update", "--json", ".", keys=True))
    replayed = _words(nbreplay(folder, services, "run", "--json", ".", keys=False))
    return {name: (recorded[name], replayed[name]) for name in sorted(recorded)}


def _words(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    assert done.returncode in (0, 1), done.stderr
    return {Path(row["notebook"]).as_posix(): _word(row) for row in json.loads(done.stdout)}


def _word(row: Mapping[str, Any]) -> str:
    """Return the first reason for which a notebook failed, in a word."""
    if row["passed"]:
        return "ok"
    first = row["errors"][0].split("\n")[0]
    if match := _RAISED.match(first):
        return match[1]
    return next((word for start, word in _REASONS.items() if first.startswith(start)), first)


def read_rows() -> list[Row]:
    """Return the expected rows."""
    with EXPECTED.open(encoding="utf-8", newline="") as file:
        return [Row(**row) for row in csv.DictReader(file)]


def write_rows(rows: Iterable[Row]) -> None:
    """Write rows as the expected ones."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Row)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(asdict, rows))
    EXPECTED.write_text(text.getvalue(), "utf-8")


def format_rows(rows: Iterable[Row]) -> str:
    """Return rows as a table in Markdown."""
    head = [field.name for field in fields(Row)]
    lines = [head, ["---"] * len(head), *map(astuple, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
