"""What can be loaded, what is not read and said to be so, and what the frames look like whatever is in them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import nbreplay
from nbreplay.analysis import columns, frames, parquet
from nbreplay.analysis import rows as rows_module
from nbreplay.core.recording.body import Json
from nbreplay.core.store.store import Store
from tests.analysis.making import lib, named, put, rows, streamed
from tests.core.making import Replay, chat, record, session
from tests.formats import making

ASKED: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
SAID: dict[str, Any] = {"choices": [{"index": 0, "message": {"content": "Hello"}}], "usage": {"prompt_tokens": 3}}
ARROW = "pyarrow" if frames.find_spec("pyarrow") else "python"


def expected(dtype: str) -> Any:
    if dtype == "datetime":
        return pd.DatetimeTZDtype("ms", "UTC")
    return pd.StringDtype(ARROW) if dtype == "string" else pd.api.types.pandas_dtype(dtype)


def hold(made: nbreplay.analysis.library.Library) -> None:
    """All frames have all their columns and their types."""
    for name in columns.FRAMES:
        frame = getattr(made, name)
        frame = frame.reset_index() if name == "interactions" else frame
        declared = list(frames.declared_columns(name, "outcome" in frame))
        if name == "interactions":
            declared.insert(declared.index(columns.SERVED[0]) if "outcome" in frame else 12, columns.COST)
        assert list(frame.columns) == [column.name for column in declared]
        for column in declared:
            found = frame[column.name].dtype
            if column.dtype == "category":
                assert isinstance(found, pd.CategoricalDtype), column.name
                assert found.categories.dtype == pd.StringDtype(ARROW)
            else:
                assert found == expected(column.dtype), column.name
    assert list(made.unread.columns) == ["file", "reason"]


def test_an_empty_store_has_frames_with_all_columns_and_no_rows(tmp_path: Path) -> None:
    for source in (tmp_path, Store(tmp_path / "not yet"), []):
        made = nbreplay.load(source)
        hold(made)
        assert (
            len(made) == len(made.interactions) == len(made.messages) == len(made.chunks) == len(made.tool_calls) == 0
        )
        assert made.interactions.index.name == "interaction"


def test_frames_of_every_source_have_the_declared_columns_and_types(tmp_path: Path) -> None:
    hold(lib(tmp_path, (ASKED, SAID), (ASKED | {"stream": True}, streamed(SAID, "[DONE]"))))
    made = lib(tmp_path / "another", (ASKED, SAID))
    hold(made)
    assert made.interactions.input_tokens.sum() == 3
    assert made.interactions.groupby("model", observed=True).input_tokens.sum().to_dict() == {"m": 3}
    joined = made.messages.merge(made.interactions, left_on="interaction", right_index=True)
    assert len(joined) == 2


def test_every_column_says_what_it_means_in_the_docs_too() -> None:
    documented = set((Path(__file__).parents[2] / "docs" / "frames.md").read_text(encoding="utf-8").splitlines())
    for declared in (*columns.FRAMES.values(), columns.SERVED, columns.UNREAD, [columns.COST]):
        names = [column.name for column in declared]
        assert len(set(names)) == len(names)
        assert all(column.meaning for column in declared)
        rows = [f"| `{one.name}` | {one.dtype} | {one.meaning.replace('``', '`')} |" for one in declared]
        assert set(rows) <= documented
    frame = frames.frame_of(columns.INTERACTIONS, ())
    assert list(frame.columns) == [column.name for column in columns.INTERACTIONS]


def test_frames_are_built_when_they_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("chunks were built")

    made = lib(tmp_path, (ASKED | {"stream": True}, streamed(SAID)))
    monkeypatch.setattr(frames, "chunks", never)
    assert (len(made.interactions), len(made.messages), len(made.tool_calls)) == (1, 2, 0)
    assert made.interactions is made.interactions
    with pytest.raises(AssertionError, match="chunks were built"):
        made.chunks  # noqa: B018


def test_several_stores_are_one_library(tmp_path: Path) -> None:
    for name in "ab":
        put(Store(tmp_path / name), ASKED, SAID)
    put(Store(tmp_path / "a"), ASKED, SAID | {"usage": {"prompt_tokens": 4}})
    made = nbreplay.load([tmp_path / "a", str(tmp_path / "b")])
    key = made.interactions.key.iloc[0]
    assert list(made.interactions.index) == [named("chat", key, number) for number in (1, 2, 3)]
    assert [Path(file).parent.name for file in made.interactions.file] == ["a", "a", "b"]
    assert list(made.interactions.input_tokens) == [3, 4, 3]


def test_llama_stacks_files_are_rows_with_their_paths_and_without_times(tmp_path: Path) -> None:
    making.written(tmp_path / "deep" / "recordings", making.chat("One"), making.chat("Two"))
    made = nbreplay.load(tmp_path)
    hold(made)
    assert [Path(file).name for file in made.interactions.file] == ["000000000000.json", "000000000001.json"]
    assert (
        rows(made.interactions, "origin", "provider", "duration_s", "recorded_at")
        == [("llama-stack", "openai", None, None)] * 2
    )
    (one,) = nbreplay.load(tmp_path / "deep" / "recordings" / "000000000001.json").interactions.file
    assert one.endswith("1.json")


def test_a_file_is_named_as_seen_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(Store(tmp_path / "project" / "recordings"), ASKED, SAID)
    (path,) = (tmp_path / "project" / "recordings").glob("*.json")
    shutil.make_archive(str(tmp_path / "project" / "packed"), "zip", path.parent)
    for folder, source, expected in (
        ("project", "recordings", f"recordings/{path.name}"),
        ("project", path.parent, f"recordings/{path.name}"),
        ("project/recordings", ".", path.name),
        ("project/recordings", "../packed.zip", f"../packed.zip/{path.name}"),
        (".", "project/recordings", f"project/recordings/{path.name}"),
    ):
        monkeypatch.chdir(tmp_path / folder)
        made = nbreplay.load(source)
        ((name, file),) = made.interactions.file.items()
        assert file == expected.replace("/", os.sep)
        if "zip" in expected:
            with pytest.raises(nbreplay.StoreError, match="part of an archive"):
                made.path(name)
        else:
            assert Path(file).samefile(path)
            assert made.path(name) == path
    assert rows_module.relative_path("https://example.org/a.zip/x.json") == "https://example.org/a.zip/x.json"


def test_what_is_no_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(nbreplay.StoreError, match=r"nowhere does not exist\. Name the folder"):
        nbreplay.load(tmp_path / "nowhere")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(nbreplay.StoreError, match="is not a recording"):
        nbreplay.load(tmp_path / "a.txt")
    with pytest.raises(nbreplay.OptionError, match="not int"):
        nbreplay.load(7)  # type: ignore[arg-type]


def broken(folder: Path) -> dict[str, str]:
    """A store with one good recording, and one file of every kind that is none; with what is said of each."""
    store = Store(folder)
    put(store, ASKED, SAID)
    (name,) = store.names()
    good = (folder / name).read_text(encoding="utf-8")
    files = {
        "chat-0000000000000001.json": (good[: len(good) // 2], "invalid JSON"),
        "chat-0000000000000002.json": ("", "invalid JSON"),
        "chat-0000000000000003.json": ('{"a": 1}', "the field 'nbreplay' is missing"),
        "chat-0000000000000004.json": (good.replace('"nbreplay": 1', '"nbreplay": 9'), "Install a newer nbreplay"),
        "chat-0000000000000005.json": (good, "should be called " + name),
        "package.json": ('{"name": "x"}', "a recording is called kind-"),
        "chat-0000000000000006.json": (
            good.replace('"status": 200', '"status": 9000'),
            "invalid `status`: expected `int` <= 999",
        ),
    }
    for own, (text, _) in files.items():
        (folder / own).write_text(text, encoding="utf-8")
    (folder / "chat-0000000000000007.json").write_bytes(b'{"nbreplay": "\xff"}')
    return {own: said for own, (_, said) in files.items()} | {"chat-0000000000000007.json": "not UTF-8"}


def test_what_cannot_be_read_is_an_error_that_names_every_file(tmp_path: Path) -> None:
    bad = broken(tmp_path)
    with pytest.raises(nbreplay.RecordingFormatError) as caught:
        nbreplay.load(tmp_path)
    assert all(name in str(caught.value) for name in bad)
    assert "strict=False" in str(caught.value)


def test_what_cannot_be_read_is_told_beside_what_can(tmp_path: Path) -> None:
    bad = broken(tmp_path)
    made = nbreplay.load(tmp_path, strict=False)
    hold(made)
    assert {Path(row.file).name: row.reason for row in made.unread.itertuples()}.keys() == bad.keys()
    for row in made.unread.itertuples():
        assert bad[Path(row.file).name] in row.reason
    # The one that has another's name is read, and its take is a take of its own.
    assert [name[-2:] for name in made.interactions.index] == ["#1", "#2"]
    assert "8 unread" in repr(made)


def test_a_folder_of_other_json_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": 1}')
    with pytest.raises(nbreplay.RecordingFormatError, match=r"a\.json"):
        nbreplay.load(tmp_path)
    made = nbreplay.load(tmp_path, strict=False)
    assert len(made) == 0
    assert len(made.unread) == 1


def test_a_date_that_is_none_is_told_and_absent(tmp_path: Path) -> None:
    for number, at in enumerate(
        ["99999-01-01T00:00:00Z", "yesterday", "0001-01-01T00:00:00Z", "2026-01-02T03:04:05.678Z"]
    ):
        put(Store(tmp_path), ASKED | {"n": number}, SAID)
        (path,) = [path for path in tmp_path.glob("chat-*.json") if "2026-01-01T00:00:00.000Z" in path.read_text()]
        path.write_text(path.read_text().replace("2026-01-01T00:00:00.000Z", at))
    with pytest.raises(nbreplay.RecordingFormatError, match="is not a time"):
        nbreplay.load(tmp_path)
    made = nbreplay.load(tmp_path, strict=False)
    assert len(made.unread) == 2
    assert len(made) == 4
    dates = sorted(made.interactions.recorded_at.dropna())
    assert [str(date) for date in dates] == ["0001-01-01 00:00:00+00:00", "2026-01-02 03:04:05.678000+00:00"]


def test_halves_of_surrogate_pairs_are_shown_as_what_they_are_not(tmp_path: Path) -> None:
    said = {"model": "m\udc00", "choices": [{"index": 0, "message": {"content": "a\ud83db\U0001f600"}}]}
    made = lib(tmp_path, (ASKED, Json(said, "compact-ascii")))
    assert rows(made.messages, "content")[-1] == ("a\ufffdb\U0001f600",)
    assert rows(made.interactions, "response_model") == [("m\ufffd",)]


def test_counts_that_no_column_holds_are_absent(tmp_path: Path) -> None:
    usage = {"prompt_tokens": 10**30, "completion_tokens": -1, "prompt_tokens_details": {"cached_tokens": True}}
    made = lib(tmp_path, (ASKED | {"max_tokens": 10**30, "temperature": "hot"}, {"choices": [], "usage": usage}))
    names = ("input_tokens", "output_tokens", "cached_tokens", "max_tokens", "temperature")
    assert rows(made.interactions, *names) == [(None,) * 5]


def test_a_session_has_a_row_a_call(tmp_path: Path) -> None:
    with session(tmp_path) as live:
        record(live, chat("One"), SAID)
    with session(tmp_path, mode="replay") as live:
        answer = live.ask(chat("One"))
        assert isinstance(answer, Replay)
        answer.finish()
        with pytest.raises(nbreplay.RecordingMissing):
            live.ask(chat("Two"))
    made = nbreplay.load(live)
    hold(made)
    assert rows(made.interactions, "outcome", "input_tokens", "n_messages", "complete") == [
        ("replayed", 3, 1, True),
        ("missing", None, 1, None),
    ]
    with pytest.raises(nbreplay.StoreError, match="is in no file"):
        made.path(made.interactions.index[1])
    (served, none) = made.interactions.served_s.isna()
    assert not served
    assert none
    (file, missing) = made.interactions.file
    assert Path(file).is_file()
    assert missing is pd.NA
    with session(tmp_path / "none") as live:
        pass
    columns = list(nbreplay.load(live).interactions.columns)
    assert columns.index("status") == columns.index("served_s") + 1 == columns.index("outcome") + 2
    assert "outcome" not in nbreplay.load(tmp_path).interactions


def test_two_calls_of_one_key_in_a_session_are_two_rows(tmp_path: Path) -> None:
    with session(tmp_path) as live:
        record(live, chat("One"), SAID)
        record(live, chat("One"), SAID)
    made = nbreplay.load(live)
    assert [name[-2:] for name in made.interactions.index] == ["#1", "#2"]
    assert list(made.interactions.outcome) == ["recorded", "recorded"]


@pytest.mark.skipif(ARROW == "python", reason="pyarrow is not installed: pip install -e '.[parquet]'")
def test_without_pyarrow_the_frames_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_arrow = lib(tmp_path, (ASKED, SAID)).interactions
    for module in (frames, parquet):
        monkeypatch.setattr(module, "find_spec", lambda _: None)
    without = nbreplay.load(tmp_path).interactions
    assert without.file.dtype == pd.StringDtype("python")
    assert with_arrow.reset_index().astype(object).equals(without.reset_index().astype(object))
