"""A run that misses says where the options are to be written that make the nearest recording answer."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from nbreplay.core.config import Mode
from nbreplay.testing.runner import run
from tests.testing.making import ASK, notebook, recorded


@pytest.fixture(autouse=True)
def project(tmp_path: Path) -> None:
    recorded(tmp_path / "recordings", "Today is 2026-01-31. Hello")


def only_failure(path: Path, mode: Mode = Mode.REPLAY) -> str:
    result = run(path, mode=mode)
    (failure,) = result.failures
    assert [mask.pattern for call in result.calls for mask in call.masks] == [r"Today is \d{4}-\d\d-\d\d"]
    return failure.text


def test_lines_for_pyproject_where_the_notebook_has_no_magics(tmp_path: Path) -> None:
    path = notebook(tmp_path / "one.ipynb", ASK, "ask('Today is 2026-02-01. Hello')")
    text = only_failure(path)
    assert len(text.split("\n")) <= 15
    assert "%replay" not in text
    pasted = re.search(r"(?m)^ +\[tool\.nbreplay\]\n +mask = .*\n?", text)
    assert pasted
    (tmp_path / "pyproject.toml").write_text(textwrap.dedent(pasted[0]))
    assert run(path).failures == []


@pytest.mark.full
def test_a_new_pyproject_belongs_beside_the_recordings(tmp_path: Path) -> None:
    """Beside a notebook in a folder below, it would hide them."""
    path = notebook(tmp_path / "chat" / "one.ipynb", ASK, "ask('Today is 2026-02-01. Hello')")
    text = only_failure(path)
    assert "set in a new pyproject.toml beside the folder recordings, and" in text
    pasted = re.search(r"(?m)^ +\[tool\.nbreplay\]\n +mask = .*\n?", text)
    assert pasted
    (tmp_path / "pyproject.toml").write_text(textwrap.dedent(pasted[0]))
    assert run(path).failures == []


@pytest.mark.full
@pytest.mark.parametrize("magic", ["%load_ext nbreplay", "%load_ext nbreplay\n%replay on", "%replay --view off"])
def test_a_magic_where_the_notebook_has_magics(tmp_path: Path, magic: str) -> None:
    ask = "ask('Today is 2026-02-01. Hello')"
    text = only_failure(notebook(tmp_path / "one.ipynb", magic, ASK, ask))
    assert "pyproject" not in text
    pasted = re.search("(%replay replay --mask .*) makes", text)
    assert pasted
    assert run(notebook(tmp_path / "one.ipynb", magic, pasted[1], ASK, ask)).failures == []


@pytest.mark.full
def test_arguments_where_the_notebook_has_a_session_of_its_own(tmp_path: Path) -> None:
    ask = "with nr.session({}): ask('Today is 2026-02-01. Hello')"
    text = only_failure(notebook(tmp_path / "one.ipynb", ASK, "import nbreplay as nr", ask.format("'recordings'")))
    pasted = re.search(r"nbreplay\.session\(\.\.\.(, mask=.*)\) makes", text)
    assert pasted
    ask = ask.format(f"'recordings'{pasted[1]}")
    assert run(notebook(tmp_path / "one.ipynb", ASK, "import nbreplay as nr", ask)).failures == []


@pytest.mark.full
def test_auto_without_a_key_says_the_same_as_replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    client = "import openai\nclient = openai.OpenAI(base_url='http://127.0.0.1:1/v1')"
    ask = "messages = [{'role': 'user', 'content': 'Today is 2026-02-01. Hello'}]\n"
    ask += "client.chat.completions.create(model='test', messages=messages)"
    path = notebook(tmp_path / "one.ipynb", client, ask)
    replay, auto = only_failure(path), only_failure(path, Mode.AUTO)
    assert "no API key is set" in auto
    for line in replay.split("\n"):
        if line.startswith("  ") and "store" not in line and "to fix" not in line:
            assert line in auto
