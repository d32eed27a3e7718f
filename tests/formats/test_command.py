"""``nbreplay import`` and ``nbreplay export``: formats that are told apart, and what is said of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nbreplay.cli.main import main
from nbreplay.core.store.store import Store
from nbreplay.formats import registry
from tests.formats.making import chat, written

CASSETTE = """\
interactions:
- request: {method: GET, uri: https://api.example.com/v1/things, body: null, headers: {}}
  response: {status: {code: 200, message: OK}, headers: {Content-Type: [text/plain]}, body: {string: thing}}
version: 1
"""


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A folder with a recording of llama-stack's, a cassette, another in JSON, and a file that is neither."""
    folder = written(tmp_path / "in", chat(), "{")
    (folder / "one.yaml").write_text(CASSETTE)
    answer = {"status": {"code": 200}, "headers": {}, "body": {"string": "other"}}
    item = {"request": {"method": "GET", "uri": "https://api.example.com/other"}, "response": answer}
    (folder / "two.json").write_text(json.dumps({"version": 1, "interactions": [item]}))
    return folder


def test_files_of_all_formats_in_one_folder(mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "store"
    assert main(["import", str(mixed), "--store", str(store)]) == 1
    said = capsys.readouterr()
    assert said.out == f"3 interactions in 4 files: 3 added to {store}; 1 file cannot be read\n"
    assert f"{mixed / '000000000001.json'} cannot be imported: not JSON" in said.err
    (mixed / "000000000001.json").unlink()
    assert main(["import", str(mixed), "--store", str(store)]) == 0
    assert capsys.readouterr().out == f"3 interactions in 3 files: 0 added to {store}, 3 already there\n"
    assert {take.extra["scope"].rpartition("::")[2] for _, one in Store(store).recordings() for take in one.takes} == {
        "test_one[a]", "one", "two"
    }  # fmt: skip


def test_a_format_that_is_named(mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = str(tmp_path / "store")
    assert main(["import", str(mixed / "two.json"), "--store", store, "--format", "vcr", "--json"]) == 0
    counts = {"files": 1, "unreadable": 0, "interactions": 1, "written": 1, "known": 0, "recordings": 1}
    assert json.loads(capsys.readouterr().out) == {**counts, "not_imported": {}, "left_out": [], "assumed": {}}
    assert main(["import", str(mixed / "two.json"), "--store", store, "--format", "llama-stack"]) == 1
    assert "'request' or 'response' is missing" in capsys.readouterr().err


def test_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = written(tmp_path / "in", chat())
    assert main(["import", str(source), "--store", str(tmp_path / "store")]) == 0
    arguments = ["export", str(tmp_path / "out"), "--store", str(tmp_path / "store"), "--format", "llama-stack"]
    assert main(arguments) == 0
    assert capsys.readouterr().out.splitlines()[1] == f"1 answer of 1 request written to {tmp_path / 'out'}"
    (made,) = (tmp_path / "out").rglob("*.json")
    assert json.loads(made.read_text()) == chat()
    assert main(arguments) == 0
    assert "1 there already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["import", "nowhere"], "nowhere does not exist. Name a file or a folder"),
        (["export", "out", "--format", "llama-stack", "--store", "none"], "store none does not exist"),
    ],
)
def test_what_is_not_there(
    arguments: list[str], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder := tmp_path / "here").mkdir()
    monkeypatch.chdir(folder)
    (folder / "recordings").mkdir()
    assert main(arguments) in (1, 2)
    assert why in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["recordings"]


def test_every_format_that_is_written_is_read() -> None:
    written = {name for name, one in registry.FORMATS.items() if one.write}
    read = {name for name, one in registry.FORMATS.items() if one.endings}
    assert written - {"zip"} <= read, "a zip is a store, and is opened as one"
