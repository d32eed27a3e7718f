"""Pipes, devices, sockets, folders and links where a file is expected: refused at once, and named."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import nbreplay as nr
from nbreplay.cli.main import main
from nbreplay.core.store.store import Store
from tests.clients import call, chat
from tests.core.making import chat as asked
from tests.core.making import record, session
from tests.provider import Provider
from tests.testing.making import ASK, notebook, recorded

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")


@pytest.fixture(autouse=True)
def at_once() -> Iterator[None]:
    """Nothing waits for a pipe's writer, nor reads a device to its end."""

    def late(*_: object) -> None:
        raise AssertionError("it reads what does not end")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(30)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def bound(path: Path) -> None:
    with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as made:  # its name may be short only
        made.bind(path.name)


def linked(path: Path) -> None:
    target = path.with_name("another.json")
    shutil.copy(path.with_name("kept"), target)
    path.symlink_to(target.name)


KINDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "pipe": (pipe, "a pipe"),
    "socket": (bound, "a socket"),
    "folder": (Path.mkdir, "a folder"),
    "link in the store": (linked, "a symbolic link"),
    "link to a device": (lambda path: path.symlink_to("/dev/zero"), "a symbolic link"),
    "link to nothing": (lambda path: path.symlink_to("nothing"), "a symbolic link"),
    "link to itself": (lambda path: path.symlink_to(path.name), "a symbolic link"),
}


def replaced(path: Path, kind: str) -> str:
    """Put something else in the place of a file; return what an error is to say of it."""
    path.rename(path.with_name("kept"))
    KINDS[kind][0](path)
    return f"{path} is {KINDS[kind][1]}, and only regular files are read"


@pytest.mark.parametrize("kind", KINDS)
def test_a_recording(kind: str, store: Path, provider: Provider, capsys: pytest.CaptureFixture[str]) -> None:
    recorded(store, "hello", "bye")
    path = next(path for path in store.glob("*.json") if '"hello"' in path.read_text())
    message = replaced(path, kind)
    for mode in ("replay", "auto", "record"):
        with nr.session(store, mode=mode) as session, pytest.raises(nr.RecordingMissing) as missing:
            call("sync", provider.url, chat("hello"))
        assert isinstance(missing.value.__cause__, nr.UnsafeRecordingError)
        assert message in str(missing.value.__cause__)
        assert message in session.interactions[0].note
    assert provider.hits == 0
    with nr.session(store, mode="replay"):
        assert call("sync", provider.url, chat("bye"))
    with pytest.raises(nr.RecordingFormatError) as refused:
        nr.load(store)
    assert message in str(refused.value)
    assert len(nr.load(store, strict=False).interactions) == 1
    with pytest.raises(nr.UnsafeRecordingError, match=path.name):
        Store(store).remove([path.name])
    assert os.path.lexists(path)
    exports = (["export", "x.zip", "--format", "zip"], ["export", "stack", "--format", "llama-stack"])
    for command in (["ls", str(store)], *([*export, "--store", str(store)] for export in exports)):
        assert main(command) == 1
        assert message in capsys.readouterr().err
    assert "chat" in Store(store).newest("chat", 9)[0][0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_body_beside_a_recording(kind: str, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with session(store) as live:
        record(live, asked(), b"\xff\xfe" * 100, kind="audio/mpeg")
    (path,) = store.glob("blob-*")
    message = replaced(path, kind)
    (name,) = Store(store).names()
    with session(store, "replay") as again, pytest.raises(nr.RecordingMissing) as missing:
        again.ask(asked())
    error = missing.value.__cause__
    assert isinstance(error, nr.UnsafeRecordingError)
    assert message in str(error)
    assert str(store / name) in str(error)
    assert main(["export", "x.zip", "--format", "zip", "--store", str(store)]) == 1
    assert message in capsys.readouterr().err


def test_a_body_that_is_a_link_is_written_anew(store: Path) -> None:
    for turn in range(2):
        with session(store, "record") as live:
            record(live, asked(), b"\xff\xfe" * 100, kind="audio/mpeg")
        assert [item.outcome for item in live.interactions] == ["recorded"]
        (path,) = store.glob("blob-*")
        if not turn:
            path.rename(path.with_name("kept"))
            path.symlink_to("kept")
            for recording in store.glob("*.json"):
                recording.unlink()
    assert path.is_file()
    assert not path.is_symlink()


@pytest.mark.parametrize("target", ["pipe.zip", "/dev/zero", "zero.zip", "folder.zip/inner.zip"])
def test_a_zip(target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "pipe.zip")
    (tmp_path / "zero.zip").symlink_to("/dev/zero")
    (tmp_path / "folder.zip").mkdir()
    os.mkfifo(tmp_path / "folder.zip" / "inner.zip")
    path = str(tmp_path / target)
    with pytest.raises(nr.StoreError) as refused:
        Store(path)
    assert path in str(refused.value)
    with pytest.raises(nr.StoreError):
        nr.load(path)
    assert main(["ls", path]) == 1
    assert path in capsys.readouterr().err


def test_a_zip_may_be_a_link(store: Path, tmp_path: Path) -> None:
    recorded(store, "hello")
    assert main(["export", str(tmp_path / "real.zip"), "--format", "zip", "--store", str(store)]) == 0
    (tmp_path / "link.zip").symlink_to("real.zip")
    assert len(nr.load(tmp_path / "link.zip").interactions) == 1


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "folder"])
@pytest.mark.parametrize("ending", ["json", "yaml"])
def test_what_is_imported(kind: str, ending: str, store: Path, tmp_path: Path) -> None:
    (tmp_path / "foreign").mkdir()
    path = tmp_path / "foreign" / f"a.{ending}"
    path.write_text("interactions: []\nversion: 1\n")
    message = replaced(path, kind)
    path.with_name("kept").rename(path.with_name("kept.yaml"))
    from nbreplay.formats.registry import import_files

    counts = import_files(tmp_path / "foreign", Store(store))
    assert any(message in why for why in counts.left_out)
    assert path.with_name("kept.yaml").name not in str(counts.left_out)
    with pytest.raises(nr.RecordingFormatError, match=rf"a\.{ending} is a"):
        nr.load(tmp_path / "foreign")


def test_what_is_imported_may_be_named_by_a_link(store: Path, tmp_path: Path) -> None:
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "a.yaml").write_text("interactions: []\nversion: 1\n")
    (tmp_path / "folder").symlink_to("foreign")
    (tmp_path / "b.yaml").symlink_to("foreign/a.yaml")
    for name in ("folder", "b.yaml"):
        assert main(["import", str(tmp_path / name), "--store", str(store)]) == 0
    assert main(["import", "/dev/zero", "--store", str(store)]) == 1


def test_a_notebook(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "one.ipynb")
    assert main(["run", str(tmp_path)]) == 1
    assert f"{tmp_path / 'one.ipynb'} as a notebook: not a regular file" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["interactions", "messages"])
def test_a_file_of_the_cache(name: str, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install -e '.[parquet]'")
    monkeypatch.setattr("nbreplay.analysis.frame_cache.YOUNG_NS", 0)
    recorded(store, "hello")
    assert len(nr.load(store).interactions) == len(nr.load(store).messages) - 1 == 1
    (path,) = (store / ".nbreplay" / "frames").rglob(f"{name}-*.parquet")
    path.unlink()
    os.mkfifo(path)
    assert len(nr.load(store).interactions) == len(nr.load(store).messages) - 1 == 1


def test_an_export_of_frames(store: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install -e '.[parquet]'")
    recorded(store, "hello")
    nr.load(store).to_parquet(tmp_path / "out")
    (path,) = (tmp_path / "out" / "interactions").rglob("*.parquet")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(nr.UnsafeRecordingError, match="is a pipe"):
        nr.load(tmp_path / "out").interactions  # noqa: B018


def test_outputs_do_not_wait_for_a_pipe(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded(store, "hello")
    os.mkfifo(tmp_path / "x.zip")
    assert main(["export", str(tmp_path / "x.zip"), "--format", "zip", "--store", str(store)]) == 1
    assert f"{tmp_path / 'x.zip'} exists already" in capsys.readouterr().err
    path = notebook(tmp_path / "one.ipynb", ASK, "print(1)")
    (tmp_path / "out").mkdir()
    os.mkfifo(tmp_path / "out" / "one.ipynb")
    assert main(["run", str(path), "--output", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "one.ipynb").is_file()
