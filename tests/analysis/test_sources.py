"""What `load` reads: stores, recordings of others, sessions, several of them; and what it says where it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import nbreplay as nr
from nbreplay.analysis import sources
from nbreplay.core.store.store import Store
from tests.analysis.making import put
from tests.clients import said, sdk
from tests.formats.making import chat, written
from tests.provider import Provider

ITEM = {
    "request": {"method": "GET", "uri": "https://api.example.com/v1/things"},
    "response": {"status": {"code": 200}, "headers": {"Content-Type": ["text/plain"]}, "body": {"string": "thing"}},
}


@pytest.fixture
def cassettes(tmp_path: Path) -> Path:
    folder = tmp_path / "cassettes"
    folder.mkdir()
    (folder / "one.json").write_text(json.dumps({"version": 1, "interactions": [ITEM]}))
    (folder / "two.yaml").write_text(f"version: 1\ninteractions:\n- {json.dumps(ITEM)}\n")
    return folder


def test_several_sources_and_recordings_of_others(store: Path, tmp_path: Path, cassettes: Path) -> None:
    with Provider() as provider, nr.session(store, mode="record") as session, sdk("sync", provider.url) as client:
        client.chat.completions.create(model="test", messages=said("hello"))
    theirs = written(tmp_path / "theirs", chat())
    both = nr.load([store, theirs, cassettes]).interactions
    assert list(both.origin) == ["nbreplay", "llama-stack", "vcr", "vcr"]
    assert len(nr.load(theirs / "000000000000.json")) == len(nr.load(cassettes / "two.yaml")) == 1
    assert list(nr.load(session).interactions.outcome) == ["recorded"]


def test_what_cannot_be_read_is_named_or_told_of(tmp_path: Path, cassettes: Path) -> None:
    (cassettes / "broken.json").write_text("{")
    with pytest.raises(nr.RecordingFormatError, match=r"(?s)broken\.json.*strict=False"):
        nr.load(cassettes)
    lib = nr.load(cassettes, strict=False)
    assert len(lib) == 2
    assert [Path(file).name for file in lib.unread.file] == ["broken.json"]
    with pytest.raises(nr.StoreError, match="nowhere"):
        nr.load(tmp_path / "nowhere")


def test_progress_is_shown_of_what_takes_long_and_of_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        put(Store(tmp_path), {"model": "m", "n": number}, {"choices": []})
    assert len(nr.load(tmp_path, cache=False)) == 3
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sources, "PROGRESS_AFTER_S", 0.0)
    assert len(nr.load(tmp_path, cache=False)) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert "Reading recordings" in err
    assert "100%" in err
