"""Short names of interactions, and how longer ones are found again."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

import nbreplay
from nbreplay.analysis import dask_frames, frame_cache, names
from nbreplay.analysis.names import NameIndex, ShortNames
from nbreplay.core.store.store import Store
from tests.analysis.making import put

SHARED = ("chat-3f2a9c81d04be77a.json", "chat-3f2a9c81d0aaaaaa.json", "tool-3f2a9c81d04be77a.json")


def key(name: str) -> str:
    return "k1:" + name[5:21] + "0" * 48


def test_a_name_has_8_digits_or_as_many_as_tell_it_from_others() -> None:
    known = ShortNames([*SHARED, "chat-ffffffff00000000.json"])
    assert [known.short(name[:4], key(name)) for name in SHARED] == [
        "chat-3f2a9c81d04",
        "chat-3f2a9c81d0a",
        "tool-3f2a9c81",
    ]
    assert known.short("chat", key("chat-ffffffff00000000.json")) == "chat-ffffffff"
    # A file that is named by more digits belongs to no other recording.
    assert ShortNames(["chat-3f2a9c81d04be77a.json", "chat-3f2a9c81d04be77a00.json"]).short("chat", key(SHARED[0]))


def test_a_row_is_found_by_any_of_its_names(tmp_path: Path) -> None:
    for text in ("a", "b", "b"):
        put(Store(tmp_path), {"messages": [{"role": "user", "content": text}]}, {"choices": []})
    for cache in (False, True):
        lib = nbreplay.load(tmp_path, cache=cache)
        for name, request in lib.interactions.key.items():
            _, _, number = str(name).partition("#")
            for other in (name, f"{request}#{number}", f"{request[:12]}#{number}", f"chat-{request[3:19]}#{number}"):
                assert lib.row(other).interaction == name
                assert lib.path(other) == tmp_path / f"chat-{request[3:19]}.json"
        with pytest.raises(nbreplay.StoreError, match="chat-00000000#1 is not among these interactions"):
            lib.row("chat-00000000#1")


def test_a_row_of_a_misnamed_copy_is_read_from_the_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_cache, "BATCH", 1)
    for number, text in enumerate("abb"):
        put(Store(tmp_path), {"messages": [{"role": "user", "content": text}]}, {"choices": []}, at=number)
    twice = next(path for path in tmp_path.glob("*.json") if len(nbreplay.Store(tmp_path).read(path.name).takes) == 2)
    shutil.copy(twice, tmp_path / "chat-ffffffffffffffff.json")
    lib = nbreplay.load(tmp_path, strict=False)
    assert len(lib.interactions) == 5
    for name, file in lib.interactions.file.items():
        assert (lib.row(name).interaction, lib.path(name).name) == (name, Path(file).name)
    if not find_spec("pyarrow"):
        return  # frames are not cached, so that rows are kept and no file is read again
    twice.unlink()
    with pytest.raises(nbreplay.StoreError, match="cannot be read"):
        lib.row(next(name for name, file in lib.interactions.file.items() if Path(file).name == twice.name))


def test_a_name_that_may_be_any_of_several_is_refused() -> None:
    index = NameIndex(["chat-3f2a9c81d04#1", "chat-3f2a9c81d0a#1"], [key(name) for name in SHARED[:2]])
    assert index.find("chat-3f2a9c81d0a#1") == 1
    assert index.find("chat-3f2a9c81d0aaa#1") == 1
    with pytest.raises(nbreplay.OptionError, match=r"chat-3f2a9c81#1 may be any of chat-3f2a9c81d04#1, .*more digits"):
        index.find("chat-3f2a9c81#1")
    for name in ("tool-3f2a9c81d04#1", "chat-3f2a9c81d0a#2", "chat-3f2a9c81d04", "", "#1", "chat-#1"):
        with pytest.raises(nbreplay.StoreError, match=r"lib\.interactions\.index lists them"):
            index.find(name)


def test_every_part_and_engine_gives_the_same_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "_DIGITS", 1)  # as in a store with very many recordings
    monkeypatch.setattr(frame_cache, "YOUNG_NS", 0)
    for number in range(40):
        put(Store(tmp_path / "ab"[number % 2]), {"messages": [], "n": number}, {"choices": []})
    lib = nbreplay.load(tmp_path / "a", cache=False)
    index = list(lib.interactions.index)
    digits = {len(name) - len("chat-#1") for name in index}
    assert len(set(index)) == 20
    assert digits > {1}, "some have one digit, and those that share it have more"
    assert all(lib.row(f"{key}#1").interaction == name for name, key in lib.interactions.key.items())
    both = nbreplay.load([tmp_path / "a", tmp_path / "b"]).interactions
    assert both.index.is_unique
    for batch in (3, 2000):
        monkeypatch.setattr(frame_cache, "BATCH", batch)
        for _ in range(2):
            assert list(nbreplay.load(tmp_path / "a").interactions.index) == index
        shutil.rmtree(tmp_path / "a" / ".nbreplay", ignore_errors=True)
    pytest.importorskip("dask.dataframe", reason="dask is not installed: pip install -e '.[dask]'")
    monkeypatch.setattr(dask_frames, "FILES", 3)
    found = nbreplay.load(tmp_path / "a", engine="dask").interactions
    assert found.npartitions == 7
    assert list(found.compute(scheduler="sync").index) == index
