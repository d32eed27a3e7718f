"""``nbreplay check``: what it finds and shows, what ``--fix`` rewrites, and what it leaves alone."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml

import nbreplay as nr
from nbreplay.cli.main import main
from nbreplay.core.audit.cleaning import BLOB
from nbreplay.core.audit.findings import leaves, line_of
from nbreplay.core.recording.blob import Blob
from nbreplay.core.recording.body import Json, Text
from nbreplay.core.recording.recording import Recording, file_name, parse
from nbreplay.core.recording.stream import Chunk, Events
from nbreplay.core.recording.take import Take
from nbreplay.core.request.key import key_of
from nbreplay.core.request.request import Call, request_of
from nbreplay.core.request.rules import Normaliser
from nbreplay.core.secrets.redact import PLACEHOLDER, UNREDACTED
from nbreplay.core.store.listing import is_name
from nbreplay.core.store.store import Store
from nbreplay.errors import RecordingFormatError
from tests.core.making import chat, record, replayed, session, take
from tests.testing.making import recorded

ROOT = Path(__file__).parent.parent
# Put together here, so that scanners of secrets have nothing to say about this file.
KEY = "sk-" + "proj-" + "a1B2c3D4e5F6g7H8i9J0" * 2
OTHER = "gh" + "p_" + "Z9y8X7w6V5u4T3s2R1q0P9o8N7m6L5k4J3i2"
PEM = "-----BEGIN " + "PRIVATE KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\n-----END " + "PRIVATE KEY-----\n"


def put(store: Path, asked: Call, *takes: Take) -> Path:
    """Write a recording as a version would have that knew of no secrets."""
    made = request_of(asked, Normaliser(), {}, UNREDACTED)
    return write(store, Recording(made.key, made.kind, made.fields, takes))


def write(store: Path, recording: Recording, name: str = "") -> Path:
    store.mkdir(exist_ok=True)
    path = store / (name or file_name(recording.kind, recording.key))
    path.write_bytes(recording.data())
    return path


def said(text: str, *, at: int = 0, **more: Any) -> Take:
    """A take whose answer is `text`."""
    return take(Json({"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]}), at=at, **more)


def streamed(*pieces: str, **more: Any) -> Take:
    """A take whose answer comes in pieces, one a chunk."""
    chunks = [Chunk(5, {"choices": [{"index": 0, "delta": {"content": piece}}]}) for piece in pieces]
    return take(Events((*chunks, Chunk(5, "[DONE]"))), **more)


class Checked:
    """One run of the command."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: object) -> None:
        given = [str(argument) for argument in arguments]
        self.status = main(["check", *given])
        told = capsys.readouterr()
        self.out, self.err = told.out, told.err
        self.findings: list[dict[str, Any]] = json.loads(self.out) if "--json" in given else []

    def kinds(self) -> list[str]:
        return [finding["kind"] for finding in self.findings]


class Check:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> Checked:
        made = Checked(self._capsys, *arguments)
        for secret in (KEY, OTHER):
            for text in (made.out, made.err):
                assert secret[:12] not in text, "so much of a secret is never shown"
        return made


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Check:
    return Check(capsys)


# What is clean


def test_the_recordings_and_notebooks_of_the_project_are_clean(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    done = check()
    assert done.status == 0, done.out
    assert re.fullmatch(r"checked \d+ recordings and \d+ notebooks: nothing found\n", done.out)
    assert check("recordings", "notebooks", "--json").findings == []


def test_what_was_just_recorded_is_clean(store: Path, check: Check) -> None:
    recorded(store, "hello", f"my key is {KEY}")
    assert check(store).status == 0
    assert check(*store.glob("*.json")).status == 0, "its files one by one, too"


def test_an_empty_store_is_clean(store: Path, check: Check) -> None:
    Store(store).prepare()
    done = check(store)
    assert (done.status, done.out) == (0, "checked 0 files: nothing found\n")


def test_a_key_in_the_query_that_was_removed_is_clean(store: Path, check: Check) -> None:
    asked = Call("GET", "example.com", f"/v1/things?key={KEY}&sig=abc&page=2", "", b"")
    with session(store, "record") as live:
        record(live, asked, {"ok": True})
    (path,) = store.glob("*.json")
    assert "key=[secret:1]" in path.read_text(encoding="utf-8")
    assert check(store).out == "checked 1 recording: nothing found\n"


def test_the_placeholder_for_a_key_is_not_a_secret(store: Path, check: Check) -> None:
    put(store, chat(), said(PLACEHOLDER))
    assert check(store).status == 0


# What is wrong with a recording


def test_a_secret_in_an_answer_is_found_on_its_line_and_masked(store: Path, check: Check) -> None:
    path = put(store, chat(), said("fine"), said(f"use {KEY}", at=1))
    (finding,) = check(store, "--json").findings
    lines = path.read_text(encoding="utf-8").splitlines()
    assert KEY in lines[finding["line"] - 1]
    assert finding["file"] == str(path)
    assert finding["kind"] == "secret"
    assert finding["rule"]
    assert finding["shown"] == f"sk-p… ({len(KEY)} characters)"
    assert not finding["fixed"]
    done = check(store)
    assert done.status == 1
    first, last = done.out.splitlines()
    assert first == f"{path}:{finding['line']}: secret: {finding['message']}"
    assert last == "checked 1 recording: 1 finding in 1 file"


def test_of_a_short_secret_nothing_is_shown(store: Path, check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "tr0ub4dor&3")
    put(store, chat("the word is tr0ub4dor&3"), said("ok"))
    (finding,) = check(store, "--json").findings
    assert finding["shown"] == ""
    assert "tr0" not in json.dumps(finding)


@pytest.mark.parametrize(
    "asked",
    [
        chat(f"my key is {KEY}"),
        chat(metadata={KEY: 1}),
        chat(path=f"/files/{KEY}/content", host="example.com"),
        Call("GET", "example.com", f"/v1/things?key={KEY}&page=2", "", b""),
    ],
    ids=["message", "name", "path", "query"],
)
def test_a_secret_in_a_request_is_found(asked: Call, store: Path, check: Check) -> None:
    put(store, asked, said("ok"))
    assert "secret" in check(store, "--json").kinds()


@pytest.mark.parametrize(
    "bad",
    [
        take(Text(f"token {KEY}")),
        said("ok", headers={"x-echo": KEY}),
        said("ok", headers={"location": f"https://example.com/{KEY}/next"}),
        said("ok", error={"type": "ReadError", "message": KEY}),
        said("ok", extra={"later": [KEY]}),
        streamed("ok ", KEY),
        take(Events((Chunk(1, None, None, f": {KEY}\n\n"),))),
        take(Events((Chunk(1, {"delta": {"text": "x"}, "note": KEY}),), fields=("delta", "note"))),
    ],
    ids=["text", "header", "location", "error", "field of a later version", "chunk", "comment", "another field"],
)
def test_a_secret_anywhere_in_a_take_is_found_and_removed(bad: Take, store: Path, check: Check) -> None:
    path = put(store, chat(), bad)
    assert check(store).status == 1
    assert check("--fix", store).status == 0
    assert KEY not in path.read_text(encoding="utf-8")
    assert check(store).status == 0


def test_a_secret_in_the_address_of_a_take_is_found_and_removed(store: Path, check: Check) -> None:
    from msgspec.structs import replace

    path = put(store, chat(), replace(said("ok"), url=f"/v1/files/{OTHER}/content?x=1"))
    (finding,) = check(store, "--json").findings
    assert finding["shown"].startswith("ghp_…")
    assert check("--fix", store).status == 0
    assert "/v1/files/[secret:1]/content?x=1" in path.read_text(encoding="utf-8")


def test_a_secret_that_json_escapes_is_found(store: Path, check: Check) -> None:
    path = put(store, chat(), said("use it"))
    escaped = f"\\u{ord('s'):04x}{KEY[1:]}"
    path.write_text(path.read_text(encoding="utf-8").replace("use it", f"use {escaped}"), encoding="utf-8")
    (finding,) = check(store, "--json").findings
    assert escaped in path.read_text(encoding="utf-8").splitlines()[finding["line"] - 1]
    assert check("--fix", store).status == 0
    assert KEY[1:] not in path.read_text(encoding="utf-8")


def test_a_known_secret_in_json_within_json_is_found(
    store: Path, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = 'corr"ect\\horse/' * 2
    monkeypatch.setenv("SOME_PASSWORD", odd)
    path = put(store, chat(), said(json.dumps({"arguments": odd})))
    assert check(store, "--json").kinds() == ["secret"]
    assert check("--fix", store).status == 0
    assert "horse" not in path.read_text(encoding="utf-8")


def test_a_secret_that_is_spread_over_chunks_is_found_where_it_begins(store: Path, check: Check) -> None:
    path = put(store, chat(), streamed("Use ", KEY[:3], KEY[3:20], KEY[20:], " now"))
    (finding,) = check(store, "--json").findings
    assert f'"{KEY[:3]}"' in path.read_text(encoding="utf-8").splitlines()[finding["line"] - 1]
    assert "spread over several chunks" in finding["message"]
    assert finding["shown"] == f"sk-p… ({len(KEY)} characters)"
    assert check("--fix", store).status == 0
    text = path.read_text(encoding="utf-8")
    assert KEY[3:20] not in text
    assert KEY[20:] not in text
    (clean,) = parse(text).takes
    assert clean.redacted == 1
    assert isinstance(clean.body, Events)
    assert b"[secret:1]" in clean.body.data()
    assert [chunk.gap_ms for chunk in clean.body.chunks] == [5] * 6, "the times stay"


def test_a_file_that_cannot_be_read_is_named_with_its_line(store: Path, check: Check) -> None:
    path = put(store, chat(), said("ok"))
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"takes": [', '"takes": ['[:-1]), encoding="utf-8")
    (finding,) = check(store, "--json").findings
    assert finding["kind"] == "format"
    assert finding["line"] > 1
    assert "Restore it" in finding["message"]
    path.write_bytes(b"\xff\xfe")
    assert check(store, "--json").kinds() == ["format"]
    path.write_text('{"nbreplay": 99, "key": "", "kind": "", "request": {}, "takes": []}', encoding="utf-8")
    assert "install a newer nbreplay" in check(store).out


def test_a_secret_in_a_file_that_cannot_be_read_is_found_and_not_quoted(store: Path, check: Check) -> None:
    path = put(store, chat(), said("ok"))
    path.write_text(path.read_text(encoding="utf-8").replace('"takes": [', f'"takes": ["{KEY}",'), encoding="utf-8")
    done = check(store, "--json")
    assert sorted(done.kinds()) == ["format", "secret"]
    before = path.read_bytes()
    again = check("--fix", store)
    assert again.status == 1
    assert path.read_bytes() == before, "what cannot be read is left as it is"
    assert "Not fixed" in again.out


@pytest.mark.parametrize(
    "value",
    ["[" * 100_000 + "]" * 100_000, "1" * 100_000, '"\\ud800"', "1e999"],
    ids=["deep", "digits", "surrogate", "huge"],
)
@pytest.mark.parametrize("place", ["request", "answer", "chunk"])
def test_values_that_no_program_writes_are_a_finding_or_harmless(
    value: str, place: str, store: Path, check: Check
) -> None:
    marked = {"request": chat("MARK"), "answer": chat(), "chunk": chat()}[place]
    answer = {"request": said("ok"), "answer": said("MARK"), "chunk": streamed("MARK")}[place]
    path = put(store, marked, answer, said(KEY))
    path.write_text(path.read_text(encoding="utf-8").replace('"MARK"', value), encoding="utf-8")
    done = check("--fix", store, "--json")
    assert done.status in (0, 1)
    assert "secret" in done.kinds()


def test_what_is_not_a_regular_file_is_not_read(store: Path, check: Check) -> None:
    store.mkdir()
    os.mkfifo(store / f"chat-{'0' * 16}.json")
    os.mkfifo(store / f"blob-{'0' * 32}.bin")
    os.mkfifo("one.ipynb")
    done = check(store, "one.ipynb", "--json")
    assert [one["message"].partition(".")[0] for one in done.findings if one["kind"] != "unused"] == [
        "it is not a regular file"
    ] * 3


def test_an_edited_request_does_not_fit_its_key(store: Path, check: Check) -> None:
    path = put(store, chat("hello"), said("ok"))
    path.write_text(path.read_text(encoding="utf-8").replace("hello", "good evening"), encoding="utf-8")
    (finding,) = check(store, "--json").findings
    assert finding["kind"] == "key"
    assert '"key":' in path.read_text(encoding="utf-8").splitlines()[finding["line"] - 1]
    before = path.read_bytes()
    assert check("--fix", store).status == 1
    assert path.read_bytes() == before, "an edited request is not given a key by guess"


def test_a_secret_goes_from_an_edited_request_and_the_finding_about_its_key_stays(store: Path, check: Check) -> None:
    path = put(store, chat("hello"), said("ok"))
    path.write_text(path.read_text(encoding="utf-8").replace("hello", KEY), encoding="utf-8")
    assert check("--fix", store).status == 1
    assert KEY not in path.read_text(encoding="utf-8")
    assert check(store, "--json").kinds() == ["key"]


def test_a_renamed_recording_is_a_finding(store: Path, check: Check) -> None:
    path = put(store, chat(), said("ok"))
    path.rename(store / f"chat-{'0' * 16}.json")
    (finding,) = check(store, "--json").findings
    assert finding["kind"] == "name"
    assert path.name in finding["message"]


def test_a_link_out_of_the_store_is_not_followed(store: Path, check: Check, tmp_path: Path) -> None:
    outside = put(tmp_path / "outside", chat(), said(KEY))
    before = outside.read_bytes()
    store.mkdir()
    (store / outside.name).symlink_to(outside)
    assert check("--fix", store, "--json").kinds() == ["format"]
    assert outside.read_bytes() == before
    assert (store / outside.name).is_symlink()


def test_nothing_is_rewritten_through_a_store_that_is_a_link(store: Path, check: Check, tmp_path: Path) -> None:
    outside = put(tmp_path / "outside", chat(KEY), said("ok"))
    store.symlink_to(outside.parent, target_is_directory=True)
    done = check("--fix", store)
    assert done.status == 1
    assert "is a link, and nothing is rewritten through it" in done.out
    assert list(outside.parent.iterdir()) == [outside]


# Files beside recordings


def with_blob(store: Path, data: bytes, asked: Call | None = None) -> tuple[Path, Path]:
    """Return a recording whose answer is a file beside it, and that file."""
    blob = Blob.of(data)
    path = put(store, asked or chat(), take(blob, headers={"content-type": "text/plain"}))
    (store / blob.name).write_bytes(data)
    return path, store / blob.name


def test_blobs_are_there_and_contain_what_their_names_say(store: Path, check: Check) -> None:
    _, blob = with_blob(store, b"hello " * 100)
    assert check(store).status == 0
    blob.write_bytes(b"other " * 100)
    (finding,) = check(store, "--json").findings
    assert (finding["kind"], finding["file"]) == ("blob", str(blob))
    blob.write_bytes(b"short")
    assert check(store, "--json").kinds() == ["blob", "blob"], "the size that the recording says, too"
    blob.unlink()
    (finding,) = check(store, "--json").findings
    assert "is missing" in finding["message"]


def test_a_secret_in_a_blob_is_found_on_its_line_and_removed(store: Path, check: Check) -> None:
    path, blob = with_blob(store, f"one\ntwo\n{KEY}\nfour".encode())
    (finding,) = check(store, "--json").findings
    assert (finding["file"], finding["line"], finding["kind"]) == (str(blob), 3, "secret")
    assert check("--fix", store).status == 0
    assert not blob.exists()
    (clean,) = parse(path.read_bytes(), f"{store}/").takes
    assert isinstance(clean.body, Blob)
    assert clean.body.data() == b"one\ntwo\n[secret:1]\nfour"
    assert clean.redacted == 1
    assert check(store).status == 0


def test_a_secret_where_two_pieces_of_a_large_blob_meet_is_found(store: Path, check: Check) -> None:
    size = 1 << 22
    data = b"x" * (size - 11) + b" " + KEY.encode() + b" " + b"y" * 100
    with_blob(store, data)
    assert check(store, "--json").kinds() == ["secret"]
    assert check("--fix", store).status == 0


@pytest.mark.parametrize("form", ["zip", "gzip"])
def test_a_secret_in_a_compressed_blob_is_found_and_named_as_not_fixed(form: str, store: Path, check: Check) -> None:
    data = gzip.compress(f"the key {KEY}".encode())
    if form == "zip":
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as zipped:
            zipped.writestr("notes.txt", f"the key {KEY}")
        data = made.getvalue()
    _, blob = with_blob(store, data)
    done = check("--fix", store)
    assert done.status == 1
    assert "Not fixed: the secret is in compressed content" in done.out
    assert blob.read_bytes() == data


def test_an_upload_with_a_secret_is_removed_and_its_request_stays(store: Path, check: Check) -> None:
    data = b"\xff\xfe binary " + KEY.encode()
    asked = Call("POST", "example.com", "/upload", "application/octet-stream", data)
    path = put(store, asked, said("ok"))
    blob = store / Blob.of(data).name
    blob.write_bytes(data)
    before = path.read_bytes()
    assert check(store, "--json").kinds() == ["secret"]
    assert check("--fix", store).status == 0
    assert not blob.exists()
    assert path.read_bytes() == before


def test_a_file_that_no_recording_names_is_a_note(store: Path, check: Check) -> None:
    put(store, chat(), said("ok"))
    (store / Blob.of(b"alone").name).write_bytes(b"alone")
    done = check(store)
    assert done.status == 0
    assert ": note: no recording names this file" in done.out


# What --fix does to recordings


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
    assert "2 secrets were removed" in capsys.readouterr().out


# Arguments


def test_single_files_are_checked_with_what_they_name(store: Path, check: Check) -> None:
    path, blob = with_blob(store, f"a {KEY}".encode())
    other = put(store, chat("other"), said(KEY))
    done = check(path, "--json")
    assert [one["file"] for one in done.findings] == [str(blob)]
    assert [one["file"] for one in check(blob, "--json").findings] == [str(blob)]
    assert [one["file"] for one in check(other, "--json").findings] == [str(other)]
    assert check("--fix", blob).status == 0
    assert KEY in other.read_text(encoding="utf-8")
    assert check("--fix", other).status == 0
    assert check(store).status == 0


def test_a_single_file_that_gets_another_name_is_checked_under_it(store: Path, check: Check) -> None:
    path = put(store, chat(KEY), said("ok"))
    done = check("--fix", path)
    assert done.status == 0, done.out
    assert not path.exists()


def test_a_folder_is_looked_through_for_stores_and_notebooks(check: Check) -> None:
    Path("deep").mkdir()
    put(Path("deep/recordings"), chat(), said(KEY))
    put(Path("recordings"), chat(), said(KEY))
    write_notebook(Path("deep/one.ipynb"), printed(KEY))
    environment = Path("venv")
    environment.mkdir()
    (environment / "pyvenv.cfg").touch()
    write_notebook(environment / "two.ipynb", printed(KEY))
    files = [Path(one["file"]).parts[:-1] for one in check(".", "--json").findings]
    assert files == [("deep", "recordings"), ("recordings",), ("deep",)]


def test_without_arguments_the_store_and_the_notebooks_here_are_checked(check: Check) -> None:
    put(Path("recordings"), chat(), said(KEY))
    write_notebook(Path("notes/one.ipynb"), printed(KEY))
    done = check("--json")
    assert done.status == 1
    assert [Path(one["file"]).parts[0] for one in done.findings] == ["recordings", "notes"]


@pytest.mark.parametrize(
    ("given", "why"),
    [([], "there is no store"), (["nowhere"], "nowhere"), (["text.txt"], "is not a recording")],
    ids=["nothing", "missing", "another file"],
)
def test_wrong_usage(given: Sequence[str], why: str, check: Check) -> None:
    Path("text.txt").touch()
    done = check(*given)
    assert done.status == 2
    assert why in done.err
    assert not Path("recordings").exists()


def test_recordings_of_another_tool_are_not_a_store(check: Check) -> None:
    other = Path("foreign/recordings")
    other.mkdir(parents=True)
    (other / f"{'0' * 64}.json").write_text("{}", encoding="utf-8")
    done = check("foreign")
    assert done.status == 2
    assert "is not a store" in done.err
    assert "nbreplay import" in done.err
    (store := Path("recordings")).mkdir()
    shutil.copy(other / f"{'0' * 64}.json", store / f"chat-{'0' * 16}.json")
    assert "nbreplay import" in check(store).out


# Notebooks


def write_notebook(path: Path, *outputs: dict[str, Any], source: str = "1", **metadata: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cell = nbformat.v4.new_code_cell(source, id="cell-0", outputs=[nbformat.from_dict(one) for one in outputs])
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=metadata), path)
    return path


def printed(text: str) -> dict[str, Any]:
    return {"output_type": "stream", "name": "stdout", "text": text}


def displayed(**data: Any) -> dict[str, Any]:
    names = {"plain": "text/plain", "html": "text/html", "json": "application/json", "png": "image/png"}
    made = {names[name]: value for name, value in data.items()}
    return {"output_type": "display_data", "data": made, "metadata": {}}


RAISED = {"output_type": "error", "ename": "E", "evalue": KEY, "traceback": ["\x1b[31mE\x1b[0m", f"E: {KEY}"]}


@pytest.mark.parametrize(
    "output",
    [
        printed(f"one\ntwo {KEY}\nthree\n"),
        displayed(plain=f"'{KEY}'", html=f"<b>{KEY}</b>"),
        displayed(json={"deep": [{"x": KEY}]}, plain="x"),
        RAISED,
        printed(f"before\n{PEM}after\n"),
    ],
    ids=["stream", "display", "json", "traceback", "several lines"],
)
def test_a_secret_in_an_output_is_found_and_removed(output: dict[str, Any], check: Check) -> None:
    path = write_notebook(Path("one.ipynb"), output)
    done = check(path, "--json")
    assert done.status == 1
    assert {one["kind"] for one in done.findings} == {"secret"}
    lines = path.read_text(encoding="utf-8").splitlines()
    for one in done.findings:
        assert KEY in lines[one["line"] - 1] or "PRIVATE" in lines[one["line"] - 1]
        assert "in an output of cell 1" in one["message"]
    assert check("--fix", path).status == 0
    text = path.read_text(encoding="utf-8")
    assert KEY not in text
    assert "MIIE" not in text
    assert "[secret:1]" in text
    nbformat.validate(nbformat.read(path, as_version=4))
    assert check(path).status == 0


def test_a_fix_of_a_notebook_changes_nothing_else(check: Check) -> None:
    path = write_notebook(Path("one.ipynb"), printed(f"é {KEY}\n"), displayed(plain="x", png="iVBORw0KGgo=\n"))
    before = path.read_text(encoding="utf-8")
    assert check("--fix", path).status == 0
    assert path.read_text(encoding="utf-8") == before.replace(KEY, "[secret:1]")


def test_a_secret_in_a_source_is_reported_and_not_changed(check: Check) -> None:
    path = write_notebook(Path("one.ipynb"), printed(f"{KEY}\n"), source=f"import os\nkey = '{KEY}'")
    done = check("--fix", path)
    assert done.status == 1
    assert "1 secret removed, 1 finding in 1 file" in done.out
    assert "in the source of cell 1" in done.out
    assert "Not fixed: only outputs, widgets and metadata are changed" in done.out
    (cell,) = nbformat.read(path, as_version=4).cells
    assert KEY in cell.source
    assert cell.outputs[0]["text"] == "[secret:1]\n"


def test_the_state_of_widgets_is_cleaned_with_what_still_spells_the_secret(check: Check) -> None:
    """A card plays its chunks: where its text was changed, what it knows of them goes."""
    card = {
        "title": "gpt-4o",
        "tracks": [{"kind": "text", "text": f"Use {KEY}"}],
        "beats": "5+4 5+20 5+20",
        "raw": [f'[5, {{"delta": "{KEY[:12]}"}}]', f'[5, {{"delta": "{KEY[12:]}"}}]'],
        "chunks": 2,
    }
    other = {"title": "gpt-4o", "tracks": [{"kind": "text", "text": "Hi"}], "beats": "5+2", "raw": ["[5, {}]"]}
    models = {"abc": {"model_name": "AnyModel", "model_module": "anywidget", "state": {"cards": [card, other]}}}
    widgets = {"application/vnd.jupyter.widget-state+json": {"version_major": 2, "version_minor": 0, "state": models}}
    html = f"<div>Use {KEY}<details style=''><summary>raw chunks (2)</summary>{KEY[:12]}\n{KEY[12:]}</details></div>"
    path = write_notebook(Path("one.ipynb"), displayed(html=html), widgets=widgets)
    assert any("in the state of a widget" in one["message"] for one in check(path, "--json").findings)
    assert check("--fix", path).status == 0
    text = path.read_text(encoding="utf-8")
    assert KEY[:12] not in text
    assert KEY[12:] not in text
    state = json.loads(text)["metadata"]["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]
    clean, same = state["abc"]["state"]["cards"]
    assert clean["tracks"][0]["text"] == "Use [secret:1]"
    assert "beats" not in clean
    assert "raw" not in clean
    assert same == other


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "it is not JSON"),
        ("[]", "not a valid notebook"),
        (
            '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{"cell_type": "code"}]}',
            "not a valid notebook",
        ),
    ],
    ids=["cut short", "a list", "a cell without a source"],
)
def test_a_notebook_that_is_not_valid(text: str, why: str, check: Check) -> None:
    path = Path("one.ipynb")
    path.write_text(text, encoding="utf-8")
    (finding,) = check(path, "--json").findings
    assert finding["kind"] == "format"
    assert why in finding["message"]
    before = path.read_bytes()
    assert check("--fix", path).status == 1
    assert path.read_bytes() == before


def test_a_notebook_that_is_a_link_is_not_rewritten(check: Check, tmp_path: Path) -> None:
    real = write_notebook(tmp_path / "real.ipynb", printed(KEY))
    link = Path("link.ipynb")
    link.symlink_to(real)
    before = real.read_bytes()
    done = check("--fix", link)
    assert done.status == 1
    assert "is a link" in done.out
    assert real.read_bytes() == before


# Strings of JSON and their lines


def test_strings_of_a_json_text_have_their_paths() -> None:
    text = '{\n "a": ["x", {"b": "y\\"]"}, 1, "z"],\n "c": {}, "d": [], "e": "w"\n}'
    found = [(leaf.path, leaf.text, line_of(text, leaf.start)) for leaf in leaves(text) if not leaf.is_name]
    assert found == [
        (("a", 0), "x", 2),
        (("a", 1, "b"), 'y"]', 2),
        (("a", 3), "z", 2),
        (("e",), "w", 3),
    ]
    assert [leaf.text for leaf in leaves(text) if leaf.is_name] == ["a", "b", "c", "d", "e"]


# pre-commit


def test_the_hook_names_the_files_of_stores_and_notebooks() -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    assert (hook["id"], hook["entry"], hook["language"]) == ("nbreplay-check", "nbreplay check", "python")
    pattern = re.compile(hook["files"])
    kept = ["chat-3f2a9c81d04be77a.json", f"blob-{'0' * 32}.bin"]
    assert [is_name(kept[0]), bool(BLOB.fullmatch(kept[1]))] == [True, True]
    for name in (*kept, "one.ipynb", "my notes/two.ipynb"):
        assert pattern.search(name), name
        assert pattern.search(f"some/recordings/{name}"), name
    for name in ("package.json", "notes.txt", "xchat-3f2a.json", f"{'0' * 64}.json", "one.ipynb.bak", "blob-1.bin"):
        assert not pattern.search(name), name
    assert [path.name for path in (ROOT / "recordings").glob("*.json") if not pattern.search(path.name)] == []


def test_what_is_found_is_what_a_session_refuses_to_say(store: Path, check: Check) -> None:
    """A key that was edited is an error of replay, or replays nothing: check says it before."""
    path = put(store, chat("hello"), said("ok"))
    path.write_text(path.read_text(encoding="utf-8").replace('"k1:', '"k1:0'), encoding="utf-8")
    assert check(store, "--json").kinds() == ["key"]
    with session(store, "replay") as live, pytest.raises((nr.RecordingMissing, RecordingFormatError)):
        live.ask(chat("hello"))
