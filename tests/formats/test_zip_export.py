"""``nbreplay export --format zip``, and what the command line reads from such a file."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest

from nbreplay.cli.main import main
from nbreplay.core.store.store import Store
from tests.archives import certificate, exported, served
from tests.core.making import take
from tests.core.test_archive import BLOB, FIELDS, KEY, NAME
from tests.testing.making import recorded


@pytest.fixture
def kept(store: Path) -> Path:
    """A store with three recordings, and a body beside one of them."""
    recorded(store, "hello", "bye")
    Store(store).write("chat", KEY, FIELDS, lambda _: [take(BLOB)])
    return store


def test_the_same_recordings_give_the_same_bytes(
    kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = tmp_path / "one.zip", tmp_path / "deep" / "other.zip"
    assert main(["export", "--format", "zip", "--store", str(kept), str(one)]) == 0
    assert capsys.readouterr().out == f"3 answers of 3 requests written to {one}\n"
    for path in kept.glob("*.*"):
        os.utime(path, (1, 1))
    (kept / "notes.txt").write_text("none of a store's")
    assert main(["export", "--format", "zip", "--store", str(one), str(other)]) == 0
    assert other.read_bytes() == one.read_bytes()
    with zipfile.ZipFile(one) as made:
        assert made.namelist() == sorted(path.name for path in [*kept.glob("*.json"), *kept.glob("*.bin")])
        assert made.read(NAME) == (kept / NAME).read_bytes()
        assert {member.compress_type for member in made.infolist()} == {zipfile.ZIP_DEFLATED}
    assert [path.name for path in tmp_path.glob("*.tmp")] == []


def test_nothing_is_written_over_another_file(kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["export", "--format", "zip", "--store", str(kept), str(tmp_path / "x.zip")]
    assert main(arguments) == 0
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.partition("\n")[2])["known"] == 3
    (tmp_path / "x.zip").write_text("mine")
    assert main(arguments) == 1
    assert f"{tmp_path / 'x.zip'} exists already with other content" in capsys.readouterr().err
    assert (tmp_path / "x.zip").read_text() == "mine"
    assert not list(tmp_path.glob(".x.zip*"))


def test_what_is_corrupt_is_left_out_and_said(kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, other = (path for path in sorted(kept.glob("chat-*.json")) if path.name != NAME)
    first.write_text("{")
    (kept / BLOB.name).write_bytes(b"other")
    assert main(["export", "--format", "zip", "--store", str(kept), str(tmp_path / "x.zip")]) == 1
    told = capsys.readouterr()
    assert "1 answer of 1 request" in told.out
    assert "3 left out" in told.out
    assert f"{first} cannot be read" in told.err
    assert f"{kept / BLOB.name} is corrupt: its content does not match" in told.err
    assert f"{kept / NAME} cannot be read" in told.err
    assert Store(tmp_path / "x.zip").names() == [other.name]


@pytest.mark.parametrize(("name", "why"), [("x", "does not end in .zip"), ("x.zip", "has no recordings")])
def test_what_cannot_be_written(name: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["export", "--format", "zip", "--store", str(tmp_path / "empty"), str(tmp_path / name)]) == 1
    assert why in capsys.readouterr().err
    assert not (tmp_path / name).exists()


def test_a_store_that_would_not_be_read_again_is_not_given_out(
    kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from nbreplay.core.recording.blob import Blob

    Store(kept).write("chat", KEY, FIELDS, lambda _: [take(Blob.of(b"\0" * (32 << 20)))])
    assert main(["export", "--format", "zip", "--store", str(kept), str(tmp_path / "x.zip")]) == 1
    assert "unpacks to more than" in capsys.readouterr().err
    assert not list(tmp_path.glob("*x.zip*"))


def test_the_command_line_reads_a_zip(kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(exported(kept, tmp_path / "x.zip"))
    for command in (["ls"], ["show", NAME, "--store"], ["show", NAME, "--json", "--store"], ["ls", "--json"]):
        assert main([*command, str(kept)]) == 0
        folder = capsys.readouterr().out
        assert main([*command, path]) == 0
        assert capsys.readouterr().out == folder
    assert main(["diff", path, str(kept)]) == 0
    assert "3 same, 0 changed" in capsys.readouterr().out
    assert main(["show", "chat-0000", "--store", path]) == 2
    assert f"recording chat-0000 was not found in {path}" in capsys.readouterr().err
    assert main(["verify", path, "--update"]) == 1
    assert f"{path} is read-only" in capsys.readouterr().err
    assert main(["ls", str(tmp_path / "none.zip")]) == 1
    assert "none.zip cannot be read" in capsys.readouterr().err


def test_the_command_line_reads_from_an_address(
    kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pem = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    (tmp_path / "served").mkdir()
    exported(kept, tmp_path / "served" / "x.zip")
    with served(tmp_path / "served", pem) as url:
        assert main(["ls", f"{url}/x.zip"]) == 0
        monkeypatch.setenv("NBREPLAY_STORE", f"{url}/x.zip")
        assert main(["show", NAME]) == 0
        assert main(["ls", f"{url}/none.zip"]) == 1
    told = capsys.readouterr()
    assert NAME in told.out
    assert f"{url}/none.zip cannot be fetched" in told.err
