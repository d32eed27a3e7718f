"""The cache of frames: the same frames as without it, and no file read of a store that has not changed."""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import nbreplay
from nbreplay.analysis import columns, frame_cache
from nbreplay.core.store import files
from nbreplay.core.store.store import Store
from tests.analysis.making import lib, put, streamed

pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install -e '.[parquet]'")
OWN = Path(__file__).parents[2] / "recordings"
NAMES = tuple(columns.FRAMES)


@pytest.fixture
def old(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are trusted as soon as they are there, as they are when they are older than the rule says."""
    monkeypatch.setattr(frame_cache, "YOUNG_NS", 0)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read from now on."""
    seen: list[str] = []
    real = Store.read

    def told(self: Store, name: str, *check: Any, **options: Any) -> Any:
        seen.append(name)
        return real(self, name, *check, **options)

    monkeypatch.setattr(Store, "read", told)
    return seen


def real_copy(folder: Path) -> Path:
    shutil.copytree(OWN, folder, ignore=shutil.ignore_patterns(".nbreplay"))
    return folder


def asked(text: str) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}]}


def said(text: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": {"content": text}}], "usage": {"prompt_tokens": 5}}


def hold(folder: Path, *, strict: bool = True) -> nbreplay.analysis.library.Library:
    """The frames that the cache gives are those that the files give, types and categories too."""
    made, plain = nbreplay.load(folder, strict=strict), nbreplay.load(folder, strict=strict, cache=False)
    for name in NAMES:
        pd.testing.assert_frame_equal(getattr(made, name), getattr(plain, name))
    pd.testing.assert_frame_equal(made.unread, plain.unread)
    assert (len(made), repr(made)) == (len(plain), repr(plain))
    return made


def kept(folder: Path) -> dict[str, int]:
    """How many files of each frame the cache has."""
    return dict(Counter(path.name.partition("-")[0] for path in folder.iterdir()))


def file_of(store: Path, text: str) -> Path:
    (found,) = [path for path in store.glob("*.json") if f'"{text}"' in path.read_text()]
    return found


@pytest.mark.usefixtures("old")
def test_a_second_load_reads_no_file_and_gives_the_same(tmp_path: Path, read: list[str]) -> None:
    store = real_copy(tmp_path / "store")
    hold(store)
    read.clear()
    again = nbreplay.load(store)
    for name in NAMES:
        assert len(getattr(again, name))
    assert read == []
    hold(store)
    # Under another name, its files are called by that.
    os.rename(store, tmp_path / "moved")
    hold(tmp_path / "moved")


@pytest.mark.usefixtures("old")
@pytest.mark.parametrize("change", ["a new file", "one more take", "one file less", "a blob"])
def test_a_store_that_has_changed_is_read_again(tmp_path: Path, read: list[str], change: str) -> None:
    store = real_copy(tmp_path / "store")
    put(Store(store), asked("old"), said("x"))
    hold(store)
    if change == "a new file":
        put(Store(store), asked("streamed"), streamed({"choices": [{"index": 0, "delta": {"content": "y"}}]}))
    elif change == "one more take":
        put(Store(store), asked("old"), said("z"))
    elif change == "one file less":
        file_of(store, "old").unlink()
    else:
        (store / "blob-0123456789abcdef0123456789abcdef.bin").write_bytes(b"x")
    read.clear()
    nbreplay.load(store)
    assert sorted(read) == sorted(Store(store).names())
    hold(store)


@pytest.mark.usefixtures("old")
def test_a_result_that_comes_later_is_linked_to_an_earlier_call(tmp_path: Path) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"x": 1}'}}
    first = {"choices": [{"index": 0, "message": {"content": None, "tool_calls": [call]}}]}
    assert not lib(tmp_path, (asked("a"), first)).tool_calls.answered.any()
    history = [{"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "c1", "content": "seen"}]
    put(Store(tmp_path), {"model": "m", "messages": history}, said("b"), at=5)
    assert nbreplay.load(tmp_path).tool_calls.result.tolist() == ["seen"]
    hold(tmp_path)


@pytest.mark.usefixtures("old")
def test_a_new_column_is_one_row_of_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "store"
    lib(store, (asked("a") | {"stop": ["x", "y"]}, said("b"))).interactions  # noqa: B018
    column = columns.Column("n_stop", "Int64", "stop sequences", lambda row: len(row.body.get("stop", ())))
    monkeypatch.setitem(columns.FRAMES, "interactions", (*columns.INTERACTIONS, column))
    # From files, as the cache is without it; from the cache; and out of an export.
    assert nbreplay.load(store).interactions.n_stop.tolist() == [2]
    again = nbreplay.load(store)
    assert again.interactions.n_stop.tolist() == [2]
    again.to_parquet(tmp_path / "x.parquet")
    assert nbreplay.load(tmp_path / "x.parquet").interactions.n_stop.tolist() == [2]


def same_size(store: Path, before: str, after: str) -> None:
    """Change a file's text in place, and set its times back to what they were."""
    assert len(before) == len(after)
    path = next(path for path in store.glob("*.json") if before in path.read_text())
    stat = path.stat()
    with path.open("r+", encoding="utf-8") as file:
        text = file.read()
        file.seek(0)
        file.write(text.replace(before, after))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)


@pytest.mark.parametrize("rule", [True, False])
def test_a_change_within_the_same_tick_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: bool) -> None:
    # As if the file system told no more than size and mtime, and its clock stood still.
    monkeypatch.setattr(files, "file_stat", lambda status: (status.st_mtime_ns, 0, status.st_size, 0))
    if not rule:
        monkeypatch.setattr(frame_cache, "YOUNG_NS", 0)
    before = lib(tmp_path, (asked("a"), said("before")))
    assert before.messages.content.iloc[-1] == "before"
    same_size(tmp_path, "before", "change")
    # Without the rule it would not be: so the test tests it.
    assert nbreplay.load(tmp_path).messages.content.iloc[-1] == ("change" if rule else "before")


@pytest.mark.usefixtures("old")
def test_a_change_that_hides_its_time_is_noticed(tmp_path: Path) -> None:
    assert lib(tmp_path, (asked("a"), said("before"))).messages.content.iloc[-1] == "before"
    same_size(tmp_path, "before", "change")
    assert nbreplay.load(tmp_path).messages.content.iloc[-1] == "change"


@pytest.mark.usefixtures("old")
def test_it_may_be_deleted_or_broken(tmp_path: Path) -> None:
    store = real_copy(tmp_path / "store")
    hold(store)
    folder = store / ".nbreplay" / "frames"
    assert kept(folder) == dict.fromkeys(NAMES, 1)
    assert (store / ".nbreplay" / ".gitignore").read_text() == "*\n"
    for path in sorted(folder.iterdir()):
        path.write_bytes(b"PAR1 nonsense")
        hold(store)
    shutil.rmtree(folder)
    hold(store)
    for _ in range(4):
        put(Store(store), asked("again"), said("x"))
        hold(store)
    assert kept(folder) == dict.fromkeys(NAMES, 2)  # of this state, and of the one before


@pytest.mark.usefixtures("old")
def test_where_nothing_can_be_written_nothing_is_kept(tmp_path: Path) -> None:
    store = real_copy(tmp_path / "store")
    (store / ".nbreplay").write_text("in the way")
    hold(store)
    assert (store / ".nbreplay").read_text() == "in the way"


@pytest.mark.usefixtures("old")
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux allows file names that are not UTF-8")
def test_a_folder_whose_name_is_no_text(tmp_path: Path) -> None:
    store = real_copy(Path(os.fsdecode(os.fsencode(tmp_path) + b"/st\xffre")))
    hold(store)
    assert "\ufffd" in hold(store).interactions.file.iloc[0]


@pytest.mark.usefixtures("old")
def test_loads_at_once_get_in_nobodys_way(tmp_path: Path) -> None:
    store = real_copy(tmp_path / "store")
    expected = nbreplay.load(store, cache=False)

    def whole(_: int) -> bool:
        made = nbreplay.load(store)
        return all(getattr(made, name).equals(getattr(expected, name)) for name in NAMES)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(whole, range(12)))


@pytest.mark.usefixtures("old")
def test_what_cannot_be_read_is_told_each_time(tmp_path: Path) -> None:
    store = real_copy(tmp_path / "store")
    good = sorted(store.glob("chat-*.json"))[0].read_text()
    (store / "chat-0000000000000001.json").write_text(good[: len(good) // 2])
    (store / "chat-0000000000000002.json").write_text(good)  # the same key twice
    (store / "package.json").write_text("{}")
    for _ in range(3):
        made = hold(store, strict=False)
        assert len(made.unread) == 3
        with pytest.raises(nbreplay.RecordingFormatError, match="3 files"):
            nbreplay.load(store)


@pytest.mark.usefixtures("old")
def test_frames_of_one_library_are_of_one_time(tmp_path: Path) -> None:
    first = lib(tmp_path, (asked("a"), said("x")))
    assert len(first.interactions) == 1
    made = nbreplay.load(tmp_path)
    put(Store(tmp_path), asked("b"), said("y"))
    assert len(made.interactions) == 1
    for _ in "12":  # also the second time
        with pytest.raises(nbreplay.StoreError, match="Load it again"):
            made.chunks  # noqa: B018
    hold(tmp_path)


@pytest.mark.usefixtures("old")
def test_a_time_that_no_file_has_is_no_error(tmp_path: Path) -> None:
    """Nor is an inode of 128 bits, as Windows has them."""
    lib(tmp_path, (asked("a"), said("x")))
    os.utime(file_of(tmp_path, "a"), (3e10, 3e10))
    hold(tmp_path)


@pytest.mark.usefixtures("old")
def test_what_another_process_has_kept_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody may be reading it, and the same rows may be other bytes."""
    monkeypatch.setattr(frame_cache, "BATCH", 7)
    store = real_copy(tmp_path / "store")
    slow = frame_cache.CachedFrames(Store(store))
    assert slow._load("messages") is None
    nbreplay.load(store).messages  # noqa: B018
    (file,) = (store / ".nbreplay" / "frames").glob("messages-*")
    before = file.stat()
    assert len(slow.frame("messages")) > 0
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.usefixtures("old")
def test_another_version_reads_anew(tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    lib(tmp_path, (asked("a"), said("x")))
    read.clear()
    monkeypatch.setattr(frame_cache, "_FORMAT", "another")
    nbreplay.load(tmp_path)
    assert len(read) == 1
