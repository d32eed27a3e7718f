"""README: short, with commands that work and a picture that tells the truth."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tests.docs.readme_picture import PICTURE, draw

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"


def test_readme_is_short() -> None:
    text = README.read_text("utf-8")
    assert len(text.splitlines()) <= 120
    assert len(text.split()) <= 900, "code, tables and links count, too"


def test_newcomers_find_the_two_commands_that_ci_runs() -> None:
    found = re.findall(r"^```bash\n(.*?)^```", README.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert found == [
        "pip install . && nbreplay run notebooks/01_quickstart.ipynb\n",
        "pip install -e '.[test]' && python -m pytest -n auto --dist worksteal\n",
    ]


def test_every_link_and_picture_of_readme_leads_to_a_file() -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", README.read_text("utf-8"))
    local = [target for target in targets if "://" not in target]
    assert len(local) > 10
    assert [target for target in local if not (README.parent / target.partition("#")[0]).is_file()] == []


def test_the_picture_is_drawn_from_the_recording_and_is_small() -> None:
    assert PICTURE.read_text("utf-8") == draw(), "write it again: python -m tests.docs.readme_picture"
    assert os.path.getsize(PICTURE) < 200_000
    assert "<script" not in PICTURE.read_text("utf-8")


def test_readme_counts_the_clients_of_the_table() -> None:
    rows = re.findall(r"^\| (?!client |---)", (ROOT / "docs" / "clients.md").read_text("utf-8"), re.MULTILINE)
    counts = re.findall(r"(\d+) clients", README.read_text("utf-8"))
    assert set(counts) == {str(len(rows))}
