"""A folder of recordings, with other writers, crashes and strangers in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from nbreplay.core.recording.blob import Blob
from nbreplay.core.recording.body import Json, plain_body
from nbreplay.core.recording.recording import Recording, file_name, parse
from nbreplay.core.recording.take import Take
from nbreplay.core.request.multipart import digest
from nbreplay.core.request.request import key_of
from nbreplay.core.store.files import read_file
from nbreplay.core.store.store import Store
from nbreplay.errors import RecordingFormatError, StoreError, UnsafeRecordingError
from tests.core.making import take

FIELDS = {"method": "POST", "endpoint": "chat/completions", "body": {"model": "m"}}
KEY = key_of("chat", FIELDS)
ROOT = Path(__file__).resolve().parents[2]


def add(store: Store, *takes: Take, fields: dict[str, object] = FIELDS) -> None:
    store.write("chat", key_of("chat", fields), fields, lambda old: [*old, *takes])


def found(store: Store) -> list[Any]:
    recording = store.find("chat", KEY)
    return [] if recording is None else [each.body.value for each in recording.takes if isinstance(each.body, Json)]


def private(folder: Path) -> set[str]:
    """What lies in the store besides recordings."""
    return {path.name for path in (folder / ".nbreplay").iterdir()} - {"lock", ".gitignore"}


def test_a_store_is_made_when_something_is_written(store: Path) -> None:
    folder = store / "deep" / "er"
    empty = Store(folder)
    assert empty.find("chat", KEY) is None
    assert empty.names() == list(empty.recordings()) == empty.newest("chat", 10) == []
    assert not folder.exists()
    add(empty, take(at=1))
    assert [path.name for path in folder.glob("*.json")] == [file_name("chat", KEY)]
    assert (folder / ".nbreplay" / ".gitignore").read_text() == "*\n"


def test_what_is_written_is_found_by_this_store_and_by_others(store: Path) -> None:
    one, two = Store(store), Store(str(store) + os.sep)
    assert one.identity == two.identity
    add(one, take(at=1))
    add(two, take(at=2))
    add(one, take(at=3))
    assert found(one) == found(two) == found(Store(store)) == [{"n": 1}, {"n": 2}, {"n": 3}]
    data = (store / file_name("chat", KEY)).read_bytes()
    assert parse(data).text().encode() == data
    assert not private(store)


def test_kinds_and_keys_do_not_mix(store: Path) -> None:
    stored = Store(store)
    add(stored, take(at=1))
    assert stored.find("response", KEY) is None
    with pytest.raises(RecordingFormatError, match=f"holds another request, with the key {KEY}"):
        stored.find("chat", KEY[:19] + "0" * 48)
    with pytest.raises(RecordingFormatError, match="another request"):
        stored.write("chat", KEY[:19] + "0" * 48, FIELDS, lambda old: [*old, take()])
    assert found(stored) == [{"n": 1}]


def test_a_change_that_changes_nothing_writes_nothing(store: Path) -> None:
    stored = Store(store)
    stored.write("chat", KEY, FIELDS, lambda old: old)
    assert not (store / file_name("chat", KEY)).exists()
    add(stored, take(at=1))
    before = (store / file_name("chat", KEY)).stat().st_mtime_ns
    stored.write("chat", KEY, FIELDS, lambda old: old)
    assert (store / file_name("chat", KEY)).stat().st_mtime_ns == before


def test_a_file_that_somebody_edits_is_read_anew(store: Path) -> None:
    stored = Store(store)
    add(stored, take(at=1))
    assert found(stored) == [{"n": 1}]
    path = store / file_name("chat", KEY)
    path.write_text(path.read_text().replace('{"n": 1}', '{"n": 9}'))
    os.utime(path, ns=(1, 1))
    assert found(stored) == [{"n": 9}]
    path.unlink()
    assert found(stored) == []


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"<<<<<<< HEAD\n{}", b"[]", b'{"nbreplay": 99}', b"[" * 100_000]
)
def test_what_is_no_recording_is_named_and_left_alone(store: Path, content: bytes) -> None:
    store.mkdir()
    path = store / file_name("chat", KEY)
    path.write_bytes(content)
    stored = Store(store)
    with pytest.raises(RecordingFormatError, match=path.name):
        stored.find("chat", KEY)
    with pytest.raises(RecordingFormatError, match=path.name):
        add(stored, take())
    assert path.read_bytes() == content
    ((name, error),) = stored.recordings()
    assert name == path.name
    assert isinstance(error, RecordingFormatError)
    assert stored.newest("chat", 10) == []


def test_one_bad_file_does_not_hide_the_others(store: Path) -> None:
    stored = Store(store)
    for number in range(3):
        add(stored, take(), fields={**FIELDS, "body": number})
    (store / "chat-0000000000000000.json").write_text("{")
    kinds = [type(content) for _, content in stored.recordings()]
    assert sorted(kind.__name__ for kind in kinds) == ["Recording"] * 3 + ["RecordingFormatError"]
    assert len(stored.newest("chat", 10)) == 3


def test_strangers_in_the_folder_are_not_looked_at(store: Path) -> None:
    stored = Store(store)
    add(stored, take())
    for name in (
        "README.md",
        "notes.json",
        "chat-1.json",
        "Chat-0000000000000000.json",
        "chat-0000000000000000.json.bak",
        "._chat-00.json",
    ):
        (store / name).write_text("{")
    (store / "folder-0000000000000000").mkdir()
    assert stored.names() == stored.names("chat") == [file_name("chat", KEY)]
    assert stored.names("cha") == stored.names("response") == []


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file"):
        Store(tmp_path / "file")
    with pytest.raises(StoreError):
        Store(tmp_path / "file" / "inner").prepare()
    with pytest.raises(StoreError):
        add(Store(tmp_path / "file" / "inner"), take())


def test_a_write_that_fails_leaves_what_was_there_and_no_rest(store: Path) -> None:
    stored = Store(store)
    add(stored, take(at=1))
    before = (store / file_name("chat", KEY)).read_bytes()

    def change(old: list[Take]) -> list[Take]:
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        stored.write("chat", KEY, FIELDS, change)
    assert (store / file_name("chat", KEY)).read_bytes() == before
    add(stored, take(at=2))
    assert found(stored) == [{"n": 1}, {"n": 2}]
    other = {**FIELDS, "body": 1}
    (store / file_name("chat", key_of("chat", other))).mkdir()
    with pytest.raises(UnsafeRecordingError, match="is a folder"):
        add(stored, take(), fields=other)
    assert not private(store)


def test_what_a_killed_process_left_is_no_recording_and_goes_in_time(store: Path) -> None:
    add(Store(store), take(at=1))
    name = file_name("chat", KEY)
    old, former, new = (
        store / ".nbreplay" / each for each in (f".{name}.1.a.1.tmp", f"{name}.2.2.2", f".{name}.3.b.3.tmp")
    )
    for path in (old, former, new):
        path.write_text('{"nbreplay": 1, "ke')
    for path in (old, former):
        os.utime(path, (time.time() - 7200,) * 2)
    stored = Store(store)
    add(stored, take(at=2))
    assert found(stored) == [{"n": 1}, {"n": 2}]
    assert private(store) == {new.name}


def test_durable_stores_write_the_same(store: Path) -> None:
    add(Store(store, durable=True), take(at=1), take(plain_body(b"\xff\x00", "audio/mpeg"), at=2))
    recording = Store(store).find("chat", KEY)
    assert recording is not None
    assert [each.body.data() for each in recording.takes] == [b'{"n":1}', b"\xff\x00"]


# Blobs.


def test_binary_bodies_lie_beside_the_file_once(store: Path) -> None:
    sound = bytes(range(256)) * 3
    add(
        Store(store),
        take(plain_body(sound, "audio/mpeg"), at=1),
        take(plain_body(sound, "audio/wav"), at=2),
        take(at=3),
    )
    blobs = list(store.glob("blob-*"))
    assert [blob.read_bytes() for blob in blobs] == [sound]
    recording = Store(store).find("chat", KEY)
    assert recording is not None
    assert [each.body.data() for each in recording.takes] == [sound, sound, b'{"n":3}']
    add(Store(store), take(at=4))
    again = Store(store).find("chat", KEY)
    assert again is not None
    assert [each.body.data() for each in again.takes] == [sound, sound, b'{"n":3}', b'{"n":4}']


@pytest.mark.parametrize("length", [10, 100_000])
def test_a_file_that_was_written_over_since_is_read_anew(length: int, tmp_path: Path) -> None:
    store = Store(tmp_path)
    add(store, take(Json({"answer": "a" * length})))
    assert found(store) == found(store) == [{"answer": "a" * length}]
    path = tmp_path / file_name("chat", KEY)
    stat, text = path.stat(), path.read_text("utf-8")
    path.write_text(text.replace("a" * length, "b" * length), "utf-8", newline="\n")
    if length == 10:
        # Neither its time nor its size nor its inode tells.
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert found(store) == [{"answer": "b" * length}]


@pytest.mark.parametrize("damage", ["gone", "cut", "changed", "longer"])
def test_a_blob_that_is_not_what_it_was_is_not_served(store: Path, damage: str) -> None:
    sound = bytes(range(256))
    add(Store(store), take(plain_body(sound, "audio/mpeg")))
    (blob,) = store.glob("blob-*")
    if damage == "gone":
        blob.unlink()
    else:
        blob.write_bytes({"cut": sound[:-1], "changed": sound[::-1], "longer": sound + b"\0"}[damage])
    with pytest.raises(RecordingFormatError, match="blob-"):
        Store(store).find("chat", KEY)


def test_a_blob_that_points_elsewhere_is_not_followed(store: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"\xff")
    body = plain_body(b"\xff", "audio/mpeg")
    assert isinstance(body, Blob)
    store.mkdir()
    text = Recording(KEY, "chat", FIELDS, (take(body),)).text().replace(body.name, "../secret")
    (store / file_name("chat", KEY)).write_text(text)
    with pytest.raises(RecordingFormatError, match="secret"):
        Store(store).find("chat", KEY)


# Other writers.


def test_no_take_is_lost_between_threads(store: Path) -> None:
    failures: list[BaseException] = []

    def work(writer: int) -> None:
        try:
            mine = Store(store)
            for number in range(5):
                add(mine, take(Json([writer, number])))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(writer,)) for writer in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    values = found(Store(store))
    assert sorted(values, key=str) == [[writer, number] for writer in range(6) for number in range(5)]
    for writer in range(6):
        mine = [value for value in values if isinstance(value, list) and value[0] == writer]
        assert mine == sorted(mine), "each writer's takes stay in its order"
    assert not private(store)


def test_one_thread_waits_for_another_in_the_middle_of_a_change(store: Path) -> None:
    inside, over = threading.Event(), threading.Event()
    events: list[str] = []

    def slow(old: list[Take]) -> list[Take]:
        inside.set()
        over.wait(0.2)
        events.append("slow")
        return [*old, take(at=1)]

    def quick(old: list[Take]) -> list[Take]:
        events.append("quick")
        over.set()
        return [*old, take(at=2)]

    first = threading.Thread(target=lambda: Store(store).write("chat", KEY, FIELDS, slow))
    first.start()
    inside.wait(5)
    Store(store).write("chat", KEY, FIELDS, quick)
    first.join()
    assert events == ["slow", "quick"]
    assert found(Store(store)) == [{"n": 1}, {"n": 2}]


def test_a_reader_sees_a_whole_file_while_another_writes(store: Path) -> None:
    over = threading.Event()

    def write() -> None:
        mine = Store(store)
        for number in range(60):
            add(mine, take(Json([number])))
        over.set()

    writer = threading.Thread(target=write)
    writer.start()
    reader, seen = Store(store), 0
    while not over.is_set():
        values = found(reader)
        assert values == [[number] for number in range(len(values))]
        assert len(values) >= seen
        seen = len(values)
    writer.join()


WRITER = """
import sys
from nbreplay.core.recording.take import Take
from nbreplay.core.request.multipart import digest
from nbreplay.core.request.request import key_of
from nbreplay.core.store.store import Store
from nbreplay.core.recording.body import Json
store = Store(sys.argv[1])
fields = {"method": "POST", "endpoint": "chat/completions", "body": {"model": "m"}}
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[3])):
    take = Take(body=Json([int(sys.argv[2]), number]))
    store.write("chat", key_of("chat", fields), fields, lambda old: [*old, take])
print("done", flush=True)
sys.stdin.readline()
"""


def test_no_take_is_lost_between_processes_nor_when_one_is_killed_at_it(store: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(store), str(number), str(times)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number, times in enumerate((15, 15, 10_000))
    ]
    try:
        for writer in writers:
            assert writer.stdout
            assert writer.stdout.readline() == "ready\n"
        for writer in writers:
            assert writer.stdin
            writer.stdin.write("\n")
            writer.stdin.flush()
        # Whoever reads meanwhile sees a whole file or none.
        reader, until = Store(store), time.monotonic() + 120
        while [2, 3] not in found(reader) and time.monotonic() < until:
            time.sleep(0.001)
        writers[2].kill()
        for writer in writers[:2]:
            assert writer.stdout
            assert writer.stdout.readline() == "done\n"
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()
    values = found(Store(store))
    assert values.count([2, 3]) == 1
    assert sorted(v for v in values if v[0] < 2) == [[writer, number] for writer in range(2) for number in range(15)]
    add(Store(store), take(at=1))
    assert found(Store(store)) == [*values, {"n": 1}]


# Reading again.


def several(number: int) -> list[dict[str, object]]:
    return [{**FIELDS, "body": each} for each in range(number)]


def test_an_error_about_a_file_is_not_shown_twice(store: Path) -> None:
    store.mkdir()
    (store / "chat-0123456789abcdef.json").write_text("{")
    with pytest.raises(RecordingFormatError) as caught:
        Store(store).read("chat-0123456789abcdef.json")
    assert caught.value.__suppress_context__


def test_a_file_that_another_program_has_changed_is_read_again(store: Path) -> None:
    changed, gone, broken = (key_of("chat", fields) for fields in several(3))
    for fields in several(3):
        add(Store(store), take(at=1), fields=fields)
    asked = Store(store)
    assert all(asked.find("chat", key) is not None for key in (changed, gone, broken))
    with open(store / file_name("chat", changed), "r+b") as file:  # in place, at once
        text = file.read().replace(b'"json": {"n": 1}', b'"json": {"n": 7}')
        file.seek(0)
        file.write(text)
    (store / file_name("chat", gone)).unlink()
    (store / file_name("chat", broken)).write_text("{")
    recording = asked.find("chat", changed)
    assert recording is not None
    assert recording.takes[0].body == Json({"n": 7})
    assert asked.find("chat", gone) is None
    with pytest.raises(RecordingFormatError, match=file_name("chat", broken)):
        asked.find("chat", broken)


def edited(path: Path, old: bytes, new: bytes) -> None:
    """Change a file in place, to another of the same length and of the same date."""
    before = path.stat()
    with open(path, "r+b") as file:
        text = file.read()
        assert old in text
        file.seek(0)
        file.write(text.replace(old, new))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_large_file_is_read_again_only_when_it_was_changed(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(Store(store), take(Json("1" * 70_000)))
    read: list[str] = []
    monkeypatch.setattr("nbreplay.core.store.store.read_file", lambda path: read.append(path) or read_file(path))
    asked = Store(store)
    assert found(asked) == found(asked) == ["1" * 70_000]
    assert len(read) == 1
    edited(store / file_name("chat", KEY), b"1" * 70_000, b"7" * 70_000)
    assert found(asked) == ["7" * 70_000]
    add(Store(store), take(at=2))
    assert found(asked) == ["7" * 70_000, {"n": 2}]


def test_what_it_has_written_is_not_read_again(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr("nbreplay.core.store.store.parse", lambda data, root: read.append(root) or parse(data, root))
    stored = Store(store)
    for number in range(3):
        add(stored, take(Json(str(number) * 70_000)))
    assert found(stored) == [str(number) * 70_000 for number in range(3)]
    assert read == []


def test_a_small_file_is_known_by_its_content(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time_ns()  # a clock that does not move while the file is written several times
    monkeypatch.setattr("nbreplay.core.store.files.file_stat", lambda stat: (now, now, stat.st_size, stat.st_ino))
    add(Store(store), take(at=1))
    asked = Store(store)
    for number in range(2, 5):
        assert found(asked) == [{"n": number - 1}]
        edited(store / file_name("chat", KEY), b'{"n": %d}' % (number - 1), b'{"n": %d}' % number)


# Looking through the folder.


def test_the_newest_come_first(store: Path) -> None:
    stored = Store(store)
    for number in range(5):
        fields = {**FIELDS, "body": {"n": number, "pad": "x" * (70_000 if number == 3 else 1)}}
        add(stored, take(), fields=fields)
        os.utime(store / file_name("chat", key_of("chat", fields)), (number, number))
    assert [request["body"]["n"] for _, request in stored.newest("chat", 3)] == [4, 3, 2]
    assert stored.newest("response", 3) == []


def test_recordings_are_indexed_under_a_new_rule_and_again_when_there_are_more(store: Path) -> None:
    stored = Store(store)

    def rekey(request: object) -> str:
        return "even" if json.loads(json.dumps(request))["body"] % 2 == 0 else "odd"

    def names(*numbers: int) -> list[str]:
        return [file_name("chat", key_of("chat", {**FIELDS, "body": number})) for number in numbers]

    for number in range(4):
        add(stored, take(), fields={**FIELDS, "body": number})
        os.utime(store / names(number)[0], (number, number))
    assert stored.names_by_key("chat", ("a",), rekey) == {"even": names(0, 2), "odd": names(1, 3)}
    add(Store(store), take(), fields={**FIELDS, "body": 4})
    assert stored.names_by_key("chat", ("a",), rekey) == {"even": names(0, 2, 4), "odd": names(1, 3)}
    assert stored.names_by_key("chat", ("b",), lambda _: "all").keys() == {"all"}
    assert Store(store / "absent").names_by_key("chat", ("a",), rekey) == {}


# Removing.


def test_an_upload_goes_with_the_last_recording_that_names_it(store: Path) -> None:
    stored, blob = Store(store), Blob.of(b"\0\1" * 2000)
    upload = {"method": "POST", "endpoint": "files", "parts": [{"name": "file", "data": digest(b"\0\1" * 2000)}]}
    stored.write("http", key_of("http", upload), upload, lambda _: [take()], [blob])
    add(stored, take(blob))
    assert stored.remove([file_name("chat", KEY)]) == [file_name("chat", KEY)]
    assert stored.blob_names() == [blob.name], "an answer of the same bytes is gone, and the upload stays"
    assert stored.remove([file_name("http", key_of("http", upload))]) == [
        *(blob.name, file_name("http", key_of("http", upload)))
    ]
