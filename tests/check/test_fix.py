"""``nbreplay check --fix``: what it rewrites in recordings, and what it leaves alone."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nbreplay.cli.main import main
from nbreplay.core.recording.body import Json
from nbreplay.core.recording.recording import file_name, parse
from nbreplay.core.request.request import Call, key_of
from nbreplay.core.store.store import Store
from tests.check.making import KEY, OTHER, Check, put, said, with_blob
from tests.core.making import chat, replayed, session
from tests.testing.making import recorded


def test_a_fixed_request_is_found_again_by_the_program_that_sends_the_secret(store: Path, check: Check) -> None:
    asked = chat(f"{OTHER} and {KEY}", user=KEY, metadata={"b": OTHER, "a": KEY})
    path = put(store, asked, said("first"))
    done = check("--fix", store)
    assert done.status == 0, done.out
    assert "secrets removed, nothing left" in done.out
    assert not path.exists()
    (fixed,) = store.glob("*.json")
    recording = parse(fixed.read_bytes())
    assert recording.key == key_of(recording.kind, recording.request)
    assert fixed.name == file_name(recording.kind, recording.key)
    with session(store, "replay") as live:
        assert replayed(live, asked)["choices"][0]["message"]["content"] == "first"


@pytest.mark.parametrize(
    "asked",
    [
        Call("GET", "example.com", f"/v1/things?key={KEY}&page=a%26b&empty=", "", b""),
        Call("GET", "example.com", f"/v1/{KEY}/things", "", b""),
        Call(
            "POST",
            "example.com",
            "/form",
            "application/x-www-form-urlencoded",
            f"a={KEY}&b=c+d&password=Tr0ub4dor%263x9Qz".encode(),
        ),
        Call("POST", "example.com", "/text", "text/plain", f"the key {KEY}, and {OTHER}".encode()),
        Call("POST", "example.com", f"/{KEY}/x?token={OTHER}", "application/json", json.dumps([OTHER]).encode()),
    ],
    ids=["query", "path", "form", "text", "all of them"],
)
def test_a_fixed_call_of_any_shape_is_found_again(asked: Call, store: Path, check: Check) -> None:
    put(store, asked, said("here"))
    assert check("--fix", store).status == 0
    with session(store, "replay") as live:
        assert replayed(live, asked)["choices"][0]["message"]["content"] == "here"


def test_a_request_that_was_redacted_in_part_is_numbered_as_a_call_is(store: Path, check: Check) -> None:
    """A rule that an older version lacked finds a second secret, before the one that was removed."""
    whole = chat(f"{KEY} {OTHER}")
    before = chat(f"{KEY} [secret:1]")
    put(store, before, said("here"))
    assert check("--fix", store).status == 0
    with session(store, "replay") as live:
        assert replayed(live, whole)["choices"][0]["message"]["content"] == "here"


def test_earlier_placeholders_of_an_answer_keep_their_numbers(store: Path, check: Check) -> None:
    path = put(store, chat(), said(f"{KEY} [secret:1] [secret:2] {KEY}", redacted=2))
    assert check("--fix", store).status == 0
    (clean,) = parse(path.read_bytes()).takes
    assert isinstance(clean.body, Json)
    assert clean.body.value["choices"][0]["message"]["content"] == "[secret:3] [secret:1] [secret:2] [secret:3]"
    assert clean.redacted == 4


def test_requests_that_differ_in_a_secret_alone_become_one_recording(store: Path, check: Check) -> None:
    put(store, chat(KEY), said("second", at=2))
    put(store, chat(OTHER), said("first", at=1))
    put(store, chat("[secret:1]"), said("third", at=3))
    assert check("--fix", store).status == 0
    (path,) = store.glob("*.json")
    texts = [one.body.value["choices"][0]["message"]["content"] for one in parse(path.read_bytes()).takes]  # type: ignore[union-attr]
    assert texts == ["first", "second", "third"]


def test_fields_of_later_versions_are_kept(store: Path, check: Check) -> None:
    path = put(store, chat(KEY), said("ok"))
    text = path.read_text(encoding="utf-8").replace('  "takes"', '  "later": {"x": [1]},\n  "takes"')
    path.write_text(text, encoding="utf-8")
    assert check("--fix", store).status == 0
    (fixed,) = store.glob("*.json")
    assert parse(fixed.read_bytes()).extra == {"later": {"x": [1]}}


def test_a_fix_touches_no_file_without_a_secret(store: Path, check: Check) -> None:
    recorded(store, "one", "two")
    put(store, chat(KEY), said("ok"))
    before = {path: path.stat().st_mtime_ns for path in store.glob("*.json") if KEY not in path.read_text()}
    assert check("--fix", store).status == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_json_of_a_fix_says_what_was_fixed_and_what_is_left(store: Path, check: Check) -> None:
    put(store, chat(), said(KEY))
    put(store, chat("other"), said("ok")).rename(store / f"chat-{'0' * 16}.json")
    done = check("--fix", "--json", store)
    assert done.status == 1
    assert [(one["kind"], one["fixed"]) for one in done.findings] == [("secret", True), ("name", False)]


def test_each_place_of_one_secret_counts(store: Path, check: Check) -> None:
    put(store, chat(), said(KEY), said(KEY, at=1), said(f"{KEY} {KEY}", at=2))
    assert len(check(store, "--json").findings) == 4
    assert check("--fix", store).out.endswith("checked 1 recording: 4 secrets removed, nothing left\n")


@pytest.mark.parametrize("number", range(8))
def test_a_fix_that_is_interrupted_loses_nothing_and_can_be_run_again(
    number: int, store: Path, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The n-th change of a name, removal of a file, or opening of one for writing fails."""
    put(store, chat(KEY), said("one"))
    put(store, chat(OTHER), said("two", at=1))
    with_blob(store, f"three {KEY}".encode(), chat("three"))
    calls = itertools.count()

    def failing(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **more: Any) -> Any:
            if next(calls) == number:
                raise OSError(28, "No space left on device")
            return real(*given, **more)

        return call

    with monkeypatch.context() as broken:
        for name in ("replace", "unlink", "fsync"):
            broken.setattr(os, name, failing(getattr(os, name)))
        status = check("--fix", store).status
    assert status == (1 if next(calls) > number else 0)
    assert not [one for one in check(store, "--json").findings if one["kind"] not in ("secret", "unused")]
    assert check("--fix", store).status == 0
    texts = [
        one.body.value["choices"][0]["message"]["content"] if isinstance(one.body, Json) else one.body.data().decode()
        for _, recording in Store(store).recordings()
        for one in recording.takes  # type: ignore[union-attr]
    ]
    assert sorted(texts) == ["one", "three [secret:1]", "two"]
    assert len(list(store.glob("blob-*"))) == 1


def test_a_store_that_cannot_be_written_says_so(store: Path, check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(store, chat(), said(KEY))
    before = path.read_bytes()

    def refuse(*_: object) -> None:
        raise PermissionError(13, "permission denied", str(path))

    monkeypatch.setattr("nbreplay.core.store.files.Writer.replace", refuse)
    done = check("--fix", store)
    assert done.status == 1
    assert "Make it writable" in done.err
    assert path.read_bytes() == before


def test_a_zip_is_checked_and_left_as_it_is(store: Path, check: Check, tmp_path: Path) -> None:
    put(store, chat(), said(KEY))
    target = tmp_path / "store.zip"
    assert main(["export", str(target), "--format", "zip", "--store", str(store)]) == 0
    before = target.read_bytes()
    done = check("--fix", target)
    assert done.status == 1
    assert f"Not fixed: unzip {target}" in done.out
    assert target.read_bytes() == before


def test_a_recording_that_was_fixed_says_so_where_it_is_shown(
    store: Path, check: Check, capsys: pytest.CaptureFixture[str]
) -> None:
    path = put(store, chat(), said(f"{KEY} or {OTHER}"))
    assert check("--fix", store).status == 0
    assert main(["show", str(path)]) == 0
    assert "2 secrets removed" in capsys.readouterr().out
