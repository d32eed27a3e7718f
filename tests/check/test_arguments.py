"""``nbreplay check``: what it looks at, and the hook for pre-commit."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

import nbreplay as nr
from nbreplay.core.store.files import BLOB, RECORDING
from nbreplay.errors import RecordingFormatError
from tests.check.making import KEY, ROOT, Check, printed, put, said, with_blob, write_notebook
from tests.core.making import chat, session

# Arguments


def test_single_files_are_checked_with_what_they_name(store: Path, check: Check) -> None:
    path, blob = with_blob(store, f"a {KEY}".encode())
    other = put(store, chat("other"), said(KEY))
    done = check(path, "--json")
    assert [one["file"] for one in done.findings] == [str(blob)]
    assert [one["file"] for one in check(blob, "--json").findings] == [str(blob)]
    assert [one["file"] for one in check(other, "--json").findings] == [str(other)]
    assert check("--fix", blob).status == 0
    assert KEY in other.read_text(encoding="utf-8")
    assert check("--fix", other).status == 0
    assert check(store).status == 0


def test_a_single_file_that_gets_another_name_is_checked_under_it(store: Path, check: Check) -> None:
    path = put(store, chat(KEY), said("ok"))
    done = check("--fix", path)
    assert done.status == 0, done.out
    assert not path.exists()


def test_a_folder_is_looked_through_for_stores_and_notebooks(check: Check) -> None:
    Path("deep").mkdir()
    put(Path("deep/recordings"), chat(), said(KEY))
    put(Path("recordings"), chat(), said(KEY))
    write_notebook(Path("deep/one.ipynb"), printed(KEY))
    environment = Path("venv")
    environment.mkdir()
    (environment / "pyvenv.cfg").touch()
    write_notebook(environment / "two.ipynb", printed(KEY))
    files = [Path(one["file"]).parts[:-1] for one in check(".", "--json").findings]
    assert files == [("deep", "recordings"), ("recordings",), ("deep",)]


def test_without_arguments_the_store_and_the_notebooks_here_are_checked(check: Check) -> None:
    put(Path("recordings"), chat(), said(KEY))
    write_notebook(Path("notes/one.ipynb"), printed(KEY))
    done = check("--json")
    assert done.status == 1
    assert [Path(one["file"]).parts[0] for one in done.findings] == ["recordings", "notes"]


@pytest.mark.parametrize(
    ("given", "why"),
    [([], "no store and no notebook was found"), (["nowhere"], "nowhere"), (["text.txt"], "is not a recording")],
    ids=["nothing", "missing", "another file"],
)
def test_wrong_usage(given: Sequence[str], why: str, check: Check) -> None:
    Path("text.txt").touch()
    done = check(*given)
    assert done.status == 2
    assert why in done.err
    assert not Path("recordings").exists()


def test_recordings_of_another_tool_are_not_a_store(check: Check) -> None:
    other = Path("foreign/recordings")
    other.mkdir(parents=True)
    (other / f"{'0' * 64}.json").write_text("{}", encoding="utf-8")
    done = check("foreign")
    assert done.status == 2
    assert "is not a store" in done.err
    assert "nbreplay import" in done.err
    (store := Path("recordings")).mkdir()
    shutil.copy(other / f"{'0' * 64}.json", store / f"chat-{'0' * 16}.json")
    assert "nbreplay import" in check(store).out


# pre-commit


def test_the_hook_names_the_files_of_stores_and_notebooks() -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    assert (hook["id"], hook["entry"], hook["language"]) == ("nbreplay-check", "nbreplay check", "python")
    pattern = re.compile(hook["files"])
    kept = ["chat-3f2a9c81d04be77a.json", f"blob-{'0' * 32}.bin"]
    assert [bool(RECORDING.fullmatch(kept[0])), bool(BLOB.fullmatch(kept[1]))] == [True, True]
    for name in (*kept, "one.ipynb", "my notes/two.ipynb"):
        assert pattern.search(name), name
        assert pattern.search(f"some/recordings/{name}"), name
    for name in ("package.json", "notes.txt", "xchat-3f2a.json", f"{'0' * 64}.json", "one.ipynb.bak", "blob-1.bin"):
        assert not pattern.search(name), name
    assert [path.name for path in (ROOT / "recordings").glob("*.json") if not pattern.search(path.name)] == []


def test_what_is_found_is_what_a_session_refuses_to_say(store: Path, check: Check) -> None:
    """A key that was edited is an error of replay, or replays nothing: check says it before."""
    path = put(store, chat("hello"), said("ok"))
    path.write_text(path.read_text(encoding="utf-8").replace('"k1:', '"k1:0'), encoding="utf-8")
    assert check(store, "--json").kinds() == ["key"]
    with session(store, "replay") as live, pytest.raises((nr.RecordingMissing, RecordingFormatError)):
        live.ask(chat("hello"))
