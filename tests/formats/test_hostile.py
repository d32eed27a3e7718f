"""Files of strangers: an error names the file, nothing is imported, run or written elsewhere, its siblings are read."""

from __future__ import annotations

import builtins
import gzip
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from nbreplay.core.recording import body
from nbreplay.core.store.store import Store
from nbreplay.errors import RecordingFormatError, UnsafeRecordingError
from nbreplay.formats import importer, registry
from nbreplay.formats.llama_stack import recordings
from tests.formats.making import chat, load, method, written


def refused(source: Path, folder: Path) -> RecordingFormatError:
    """The one error that a bad file gives; what is beside it is read, and nothing of it is written."""
    errors = [item for item in load(source) if isinstance(item, RecordingFormatError)]
    assert len(errors) == 1
    counts = registry.import_files(source, Store(folder))
    assert counts.left_out == (str(errors[0]),)
    return errors[0]


def typed(name: Any) -> dict[str, Any]:
    return method({"model": "m"}, {"body": {"__type__": name, "__data__": {"command": "true"}}, "is_streaming": False})


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "subprocess.Popen",
        "builtins.eval",
        "posix.system",
        "../../a.B",
        "a/b.C",
        "nothing.of_the_sort",
        "",
        7,
        None,
    ],
)
def test_a_type_that_is_no_class_of_an_answer_is_refused(tmp_path: Path, name: Any) -> None:
    error = refused(written(tmp_path / "in", typed(name), chat()), tmp_path / "store")
    assert isinstance(error, UnsafeRecordingError)
    assert "000000000000.json" in str(error)
    assert len(Store(tmp_path / "store").names()) == 1


def test_a_type_that_nobody_knows_is_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work" / "wicked.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path / "work"))
    load(written(tmp_path / "warm", chat()))
    real, names = builtins.__import__, list[str]()
    monkeypatch.setattr(builtins, "__import__", lambda name, *rest: (names.append(name), real(name, *rest))[1])
    store = Store(tmp_path / "store")
    assert registry.import_files(written(tmp_path / "in", typed("wicked.Answer")), store).written == 1
    assert recordings.export(store, tmp_path / "out").written == 1
    assert "wicked" not in sys.modules
    assert not [name for name in names if "wicked" in name]


@pytest.mark.parametrize("depth", [500, 100_000])
@pytest.mark.parametrize("place", ["whole", "request", "answer"])
def test_what_is_nested_absurdly_is_refused(tmp_path: Path, depth: int, place: str) -> None:
    deep = '{"a":' * depth + "1" + "}" * depth
    text = deep
    if place != "whole":
        data = chat(deep="@") if place == "request" else chat(answer="@")
        text = json.dumps(data).replace('"@"', deep)
    error = refused(written(tmp_path / "in", text), tmp_path / "store")
    assert "nested too deeply" in str(error)


WRONG = {
    "no JSON": "{",
    "nothing": "",
    "another thing": "[]",
    "no request": '{"response": {}}',
    "an empty request": '{"request": {}, "response": {"body": 1}}',
    "no body": json.dumps(method({}, {})),
    "a status that is none": json.dumps(
        {"request": {"url": "http://a/b", "method": "POST", "payload": {}}, "response": {"status": 1 << 40, "body": {}}}
    ),
    "a body that is none": json.dumps({"request": {"url": "u", "body": 1}, "response": {"body": 1}}),
    "a url that is none": json.dumps({"request": {"url": 1, "body": {}}, "response": {"body": 1}}),
    "a url that cannot be parsed": json.dumps({"request": {"url": "http://[", "body": {}}, "response": {"body": 1}}),
    "one of nbreplay's own": '{"nbreplay": 1, "request": {}, "response": {}}',
    "a tool without arguments": json.dumps({"request": {"tool_name": 1, "kwargs": 1}, "response": {"body": 1}}),
    "a stream of lists": json.dumps(
        {**method({"model": 1, "stream": True}, {"body": {"a": 1}, "is_streaming": True}), "request": 1}
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_recording_is_named(tmp_path: Path, name: str) -> None:
    folder = written(tmp_path / "in", WRONG[name], chat())
    before = (folder / "000000000000.json").read_text()
    error = refused(folder, tmp_path / "store")
    assert str(folder / "000000000000.json") in str(error)
    assert "move it out" in str(error)
    assert (folder / "000000000000.json").read_text() == before
    assert len(Store(tmp_path / "store").names()) == 1


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importer, "LARGEST", 1000)
    error = refused(written(tmp_path / "in", chat("a" * 2000)), tmp_path / "store")
    assert "more than" in str(error)


def test_what_is_no_text_is_named(tmp_path: Path) -> None:
    folder = written(tmp_path / "in", chat())
    (folder / "bad.json").write_bytes(b"\xff\xfe{}")
    assert "not UTF-8" in str(refused(folder, tmp_path / "store"))


@pytest.mark.parametrize(
    "test", ["../../../../up::test", "/etc/up.py::test", "a/../../b.py::t", "C:\\x\\y.py::t", "a\0b/c.py::t"]
)
def test_an_export_stays_in_its_folder(tmp_path: Path, test: str) -> None:
    store = Store(tmp_path / "store")
    registry.import_files(written(tmp_path / "in", chat(test=test)), store)
    before = set(tmp_path.rglob("*"))
    assert recordings.export(store, tmp_path / "out" / "deep").written == 1
    (made,) = (path for path in set(tmp_path.rglob("*")) - before if path.is_file())
    assert made.parent in (tmp_path / "out" / "deep" / name for name in ("recordings", "common/recordings"))


@pytest.mark.parametrize(
    "own",
    [
        {"file": "../../../up.json", "folder": "../../up"},
        {"file": "/up.json", "folder": "/up"},
        {"folder": 7, "file": ["a"]},
        {"shape": "os.system"},
        {"set": {"request": 1}},
        {"type": ["a"] * 9},
        {"type": 1e9, "form": {}},
        {"exception": "no"},
    ],
)
def test_what_a_store_says_of_an_export_is_not_believed(tmp_path: Path, own: dict[str, Any]) -> None:
    store = Store(tmp_path / "store")
    registry.import_files(written(tmp_path / "in", chat()), store)
    (name,) = store.names()
    path = tmp_path / "store" / name
    data = json.loads(path.read_text())
    data["takes"][0]["llama_stack"] |= own
    path.write_text(json.dumps(data))
    made = recordings.export(Store(tmp_path / "store"), tmp_path / "out" / "deep")
    assert made.written + len(made.left_out) == 1
    assert all(tmp_path / "out" / "deep" in path.parents for path in tmp_path.rglob("up*"))
    assert not list(tmp_path.rglob("up*"))


def cassette(folder: Path, text: str | bytes, name: str = "one.yaml") -> Path:
    folder.mkdir()
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


ITEM = "- request: {method: GET, uri: 'http://a.example/'}\n  response: {status: {code: 200}, body: {string: %s}}\n"

BOMBS = {
    "a call": 'version: 1\ninteractions: !!python/object/apply:os.system ["touch up"]\n',
    "a class": "version: 1\ninteractions: !!python/name:os.system\n",
    "laughs": "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"{b}: &{b} [{', '.join(['*' + a] * 10)}]\n" for a, b in zip("abcdefghij", "bcdefghijk", strict=True))
    + "version: 1\ninteractions: *k\n",
    "merged laughs": "a: &a {x: 1}\n" + "b: &b {<<: [*a, *a]}\n" + "version: 1\ninteractions: [{<<: *b}]\n",
    "itself": "version: 1\ninteractions: &a [*a]\n",
}


@pytest.mark.parametrize("name", BOMBS)
def test_yaml_that_is_more_than_data_is_refused(tmp_path: Path, name: str) -> None:
    error = refused(cassette(tmp_path / "in", BOMBS[name]), tmp_path / "store")
    assert isinstance(error, UnsafeRecordingError)
    assert "one.yaml" in str(error)
    assert not os.path.exists("up")


@pytest.mark.parametrize(
    "text",
    ["[" * 5000, "version: 1\ninteractions: 1\n", "a: b: c", "version: 2\ninteractions: []\n", "- request: {}\n"],
)
def test_yaml_that_is_no_cassette_is_named(tmp_path: Path, text: str) -> None:
    assert "one.yaml" in str(refused(cassette(tmp_path / "in", text), tmp_path / "store"))


def item(**response: Any) -> str:
    request = {"method": "GET", "uri": "http://a.example/"}
    return json.dumps({"version": 1, "interactions": [{"request": request, "response": response}]})


def test_a_length_that_is_claimed_is_not_believed(tmp_path: Path) -> None:
    headers = {"Content-Length": ["1000000000"], "Content-Type": ["text/plain"]}
    text = item(status={"code": 200}, headers=headers, body={"string": "short"})
    (recording,) = load(cassette(tmp_path / "in", text, "one.json"))
    assert not isinstance(recording, RecordingFormatError)
    assert recording.takes[0].body.data() == b"short"
    assert "content-length" not in recording.takes[0].headers


def test_a_body_that_unpacks_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import base64

    monkeypatch.setattr(body, "LARGEST_DECODED", 1 << 20)
    packed = base64.b64encode(gzip.compress(bytes(1 << 22))).decode()
    text = item(status={"code": 200}, headers={"content-encoding": ["gzip"]}, body={"base64_string": packed})
    error = refused(cassette(tmp_path / "in", text, "one.json"), tmp_path / "store")
    assert isinstance(error, UnsafeRecordingError)


@pytest.mark.parametrize(
    "response",
    [
        {},
        {"status": {"code": 7}},
        {"status": {"code": 200}, "body": {"base64_string": "?"}},
        {"status": 200, "body": {"type": "binary", "content": "zz"}},
        {"status": 200, "body": {"type": "pickle", "content": "a"}},
        {"status": {"code": 200}, "headers": 7},
        {"status": {"code": 200}, "body": 7},
        {"status": {"code": 200}, "headers": {"content-encoding": ["unheard-of"]}, "body": {"string": "a"}},
    ],
)
def test_an_answer_that_is_none_is_named(tmp_path: Path, response: dict[str, Any]) -> None:
    error = refused(cassette(tmp_path / "in", item(**response), "one.json"), tmp_path / "store")
    assert "one.json" in str(error)
