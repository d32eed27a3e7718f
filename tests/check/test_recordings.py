"""``nbreplay check``: what it finds in recordings and in the files beside them."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import zipfile
from pathlib import Path

import pytest

from nbreplay.core.recording.blob import Blob
from nbreplay.core.recording.body import Text
from nbreplay.core.recording.recording import parse
from nbreplay.core.recording.stream import Chunk, Events
from nbreplay.core.recording.take import Take
from nbreplay.core.request.request import Call
from nbreplay.core.secrets.credentials import PLACEHOLDER
from nbreplay.core.store.store import Store
from tests.check.making import KEY, OTHER, ROOT, Check, put, said, streamed, with_blob
from tests.core.making import chat, record, session, take
from tests.testing.making import recorded

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
    assert "Install a newer nbreplay" in check(store).out


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
        "not a regular file"
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
