"""A disk that fails at any one system call: nothing is lost that was kept, and nothing half-written is read.

In the way of sqlite: the n-th call of an operation fails, for every n, until it comes to its end without a fault.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest

import nbreplay as nr
from nbreplay.analysis import frame_cache
from nbreplay.cli.main import main
from nbreplay.core.config import Options
from nbreplay.core.recording.recording import Recording
from nbreplay.core.session import Session
from nbreplay.core.store.store import Store
from nbreplay.testing.notebook_file import read_notebook, save_outputs
from tests.core.making import chat, record, replayed
from tests.hostile.faults import ERRORS, Disk
from tests.testing.making import notebook

SOUND = bytes(range(256)) * 40
LARGE = bytes(range(256)) * 6_000  # more than is kept in memory
MOST = 400
BODIES: dict[str, list[bytes | dict[str, Any]]] = {
    "json": [{"n": "new"}],
    "large json": [{"n": "x" * 200_000}],
    "a body of its own": [SOUND],
    "a large body": [LARGE[at : at + 300_000] for at in range(0, len(LARGE), 300_000)],
}

FAULTS = [*((error, False) for error in ERRORS), ("ENOSPC", True), ("EROFS", True)]
FEW = [("EIO", False), ("short", False), ("ENOSPC", True)]
faults = pytest.mark.parametrize(("error", "lasts"), FAULTS)
some_faults = pytest.mark.parametrize(("error", "lasts"), FEW)


@pytest.fixture(autouse=True)
def at_once() -> Iterator[None]:
    """No lock is left to be waited for."""
    if not hasattr(signal, "alarm"):
        yield
        return

    def late(*_: object) -> None:
        raise AssertionError("it waits for a lock that nobody gives back")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(240)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def few_to_collect() -> Iterator[None]:
    """The tests collect what is left of each attempt, and that only."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def disk(store: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(store, monkeypatch)


def begun(store: Path, mode: str = "record", *, durable: bool = True) -> Session:
    return Session(Store(store, durable=durable), Options.of(mode=mode))


def kind_of(pieces: list[bytes | dict[str, Any]]) -> str:
    return "audio/mpeg" if isinstance(pieces[0], bytes) else "application/json"


def answers(store: Path) -> list[bytes]:
    """What is kept of the one question, take by take, every file of the store being whole."""
    found = []
    for _, recording in Store(store).recordings():
        assert isinstance(recording, Recording), recording
        found += [take.body.data() for take in recording.takes]
    return found


def rest(store: Path) -> set[str]:
    """What lies in the private folder and is not to stay there."""
    return {path.name for path in (store / ".nbreplay").iterdir()} - {"lock", ".gitignore", "frames"}


def whole(pieces: list[bytes | dict[str, Any]]) -> bytes:
    return b"".join(piece if isinstance(piece, bytes) else compact(piece) for piece in pieces)


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def error_of(action: Callable[[], object]) -> nr.NbreplayError | None:
    """The error with which something ends, if it does."""
    try:
        action()
    except nr.NbreplayError as error:
        return error
    return None


@pytest.mark.full(quick=["json-2-ENOSPC-False", "json-2-short-False", "json-2-EROFS-True"])
@pytest.mark.parametrize(
    ("body", "before", "error", "lasts"),
    [
        *(("json", 2, *fault) for fault in FAULTS),
        *(
            (body, before, *fault)
            for body in BODIES
            for before in (0, 2)
            for fault in FEW
            if (body, before) != ("json", 2)
        ),
    ],
)
def test_an_answer_is_recorded_or_said_to_be_unsaved(
    body: str, before: int, error: str, lasts: bool, store: Path, disk: Disk
) -> None:
    pieces = BODIES[body]
    for number in range(MOST):
        shutil.rmtree(store, ignore_errors=True)
        with begun(store) as session:
            for turn in range(before):
                record(session, chat(), {"n": turn})
        kept = [compact({"n": turn}) for turn in range(before)]
        assert answers(store) == kept
        with begun(store, "auto") as session:
            for take in kept:
                assert replayed(session, chat()) == json.loads(take)
            recorder = session.ask(chat())
            recorder.begin(200, [("content-type", kind_of(pieces))])  # type: ignore[union-attr]
            with disk.failing(number, error, lasts=lasts):
                # Whatever fails, the caller goes on with its answer.
                for piece in pieces:
                    data = piece if isinstance(piece, bytes) else whole([piece])
                    recorder.feed(data)  # type: ignore[union-attr]
                recorder.end()  # type: ignore[union-attr]
            done, calls = not disk.failed, list(disk.calls)
            last = session.interactions[-1]
        found = answers(store)
        assert found[:before] == kept, calls
        if last.outcome == "recorded":
            assert found == [*kept, whole(pieces)], calls
        else:
            assert last.outcome == "unsaved"
            assert str(store) in last.note, (last.note, calls)
            assert "Free the disk" in last.note or "Make it readable" in last.note, (last.note, calls)
            assert found in (kept, [*kept, whole(pieces)]), calls
            assert error != "short"
        if not lasts:
            del recorder, session, last
            gc.collect()
            assert rest(store) == set(), calls
        # The next one is recorded: nothing is locked, nor in its way.
        with begun(store, "auto") as session:
            record(session, chat("another"), {"n": "after"})
        assert [item.outcome for item in session.interactions] == ["recorded"]
        if done:
            break
    assert done
    assert number > (0 if error == "short" else 8)


@pytest.mark.full(quick=2)
@faults
def test_a_store_is_made_or_the_session_does_not_begin(error: str, lasts: bool, store: Path, disk: Disk) -> None:
    for number in range(MOST):
        shutil.rmtree(store, ignore_errors=True)
        session = begun(store)
        with disk.failing(number, error, lasts=lasts):
            refused = error_of(session.start)
            if refused is None:
                session.stop()
        assert disk.failed or refused is None
        assert refused is None or str(store) in str(refused)
        with begun(store) as again:
            record(again, chat(), {"n": 1})
        assert answers(store) == [b'{"n":1}']
        assert (store / ".nbreplay" / ".gitignore").read_text() == "*\n"
        if not disk.failed:
            break
    assert number


@pytest.mark.full
@some_faults
def test_frames_are_those_of_the_recordings(
    error: str, lasts: bool, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install -e '.[parquet]'")
    monkeypatch.setattr(frame_cache, "YOUNG_NS", 0)
    with begun(store) as session:
        record(session, chat("one"), {"choices": [{"index": 0, "message": {"content": "two"}}]})
    expected = nr.load(store, cache=False)
    disk = Disk(store / ".nbreplay", monkeypatch)
    for number in itertools.count():
        if number % 2:  # a cache that is there, and one that is not
            shutil.rmtree(store / ".nbreplay" / "frames", ignore_errors=True)
        with disk.failing(number // 2, error, lasts=lasts):
            made = nr.load(store)
            for name in ("interactions", "messages"):
                pd.testing.assert_frame_equal(getattr(made, name), getattr(expected, name))
        done = not disk.failed
        again = nr.load(store)
        for name in ("interactions", "messages"):
            pd.testing.assert_frame_equal(getattr(again, name), getattr(expected, name))
        if done and number % 2:
            break
        assert number < 4 * MOST


@pytest.mark.full(quick=1)
@faults
def test_trim_removes_nothing_that_is_used(error: str, lasts: bool, store: Path, disk: Disk) -> None:
    for number in range(MOST):
        shutil.rmtree(store, ignore_errors=True)
        with begun(store) as session:
            for text, body in (("used", SOUND), ("also", SOUND), ("unused", SOUND[::-1]), ("same", SOUND)):
                record(session, chat(text), body, kind="audio/mpeg")
        names = {item.request.key[3:19]: text for item, text in zip(session.interactions, "uaxs", strict=True)}  # type: ignore[union-attr]
        unused = [name for name in Store(store).names() if names[name[5:21]] in "xs"]
        with disk.failing(number, error, lasts=lasts):
            refused = error_of(lambda: Store(store).remove(unused))  # noqa: B023
        done = not disk.failed
        assert refused is None or str(store) in str(refused)
        with begun(store, "replay") as session:
            assert [replayed(session, chat(text)) for text in ("used", "also")] == [SOUND, SOUND]
        answers(store)
        # What was not removed is removed the next time.
        again = Store(store).remove([name for name in unused if name in Store(store).names()])
        assert set(Store(store).names()).isdisjoint(unused), again
        if done:
            break
    assert refused is None


def old_and_new(path: Path) -> Any:
    executed = read_notebook(path)
    executed.cells[0].outputs = [nbformat.v4.new_output("stream", text="new\n" * 5000)]
    return executed


@faults
def test_a_notebook_is_the_old_or_the_new_one(
    error: str, lasts: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "notebooks"
    path = notebook(folder / "one.ipynb", "print('new')")
    before = path.read_bytes()
    disk = Disk(folder, monkeypatch)
    for number in range(MOST):
        path.write_bytes(before)
        executed = old_and_new(path)
        with disk.failing(number, error, lasts=lasts):
            refused = error_of(lambda: save_outputs(path, executed))  # noqa: B023
        assert refused is None or "one.ipynb" in str(refused)
        outputs = json.loads(path.read_bytes())["cells"][0]["outputs"]
        assert (len(outputs) == 1) == (path.read_bytes() != before)
        assert outputs or refused is not None
        if not lasts:
            assert os.listdir(folder) == ["one.ipynb"], disk.calls
        if not disk.failed:
            break
    assert refused is None


EXPORTS: dict[str, Callable[[Path], object]] = {
    "x.zip": lambda path: nr.load(path).interactions.key.tolist(),
    "x.parquet": lambda path: nr.load(path).interactions.key.tolist(),
    "stack": lambda path: sorted(nr.load(path, strict=False).interactions.file.map(lambda name: Path(name).name)),
}


@pytest.mark.full(quick=["x.zip-over another-ENOSPC-True"])
@some_faults
@pytest.mark.parametrize("again", [False, True], ids=["new", "over another"])
@pytest.mark.parametrize("target", EXPORTS)
def test_an_export_is_whole_or_is_not_there(
    target: str, again: bool, error: str, lasts: bool, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install -e '.[parquet]'")
    with begun(store) as session:
        for text in ("one", "two"):
            record(session, chat(text), {"choices": [{"index": 0, "message": {"content": text}}]})
    form = {"x.zip": "zip", "x.parquet": "parquet", "stack": "llama-stack"}[target]
    command = ["export", str(tmp_path / "out" / target), "--format", form, "--store", str(store)]
    assert main(command) == 0
    expected = EXPORTS[target](tmp_path / "out" / target)
    disk = Disk(tmp_path / "out", monkeypatch)
    for number in range(MOST):
        shutil.rmtree(tmp_path / "out")
        if again:
            assert main(command) == 0
        with disk.failing(number, error, lasts=lasts):
            status = main(command)
        done = not disk.failed
        path = tmp_path / "out" / target
        if target == "stack":
            for file in path.rglob("*.json"):
                json.loads(file.read_bytes())
        elif status == 0 or (again and not lasts):
            assert EXPORTS[target](path) == expected, disk.calls
        if status == 0:
            assert EXPORTS[target](path) == expected, disk.calls
        # A second try gives the whole of it.
        assert main(command) == 0
        assert EXPORTS[target](path) == expected
        if done:
            break
    assert done
