"""A recorder and its keeper: uploads, large and encoded answers, takes, interrupts and the ends of cells."""

from __future__ import annotations

import asyncio
import errno
import gzip
import io
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest

from nbreplay.core.recorder import Keeper, Pieces, Recorder
from nbreplay.core.recording.blob import Blob, Spool
from nbreplay.core.recording.body import LARGE, Json, Text
from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.take import Take
from nbreplay.core.session import Session
from nbreplay.core.store.store import Store
from tests.core.making import OPENAI, SECRET, SSE, begin, call, cell, chat, event, record, replayed, session

BINARY = "application/octet-stream"
NOISE = bytes(range(128, 256)) * (LARGE // 128 // 2)  # half of LARGE, and no text


def saved(store: Path, number: int = -1) -> Take:
    """A take of the only recording of a store, read anew."""
    (name,) = Store(store).names()
    recording = Store(store).read(name)
    assert recording is not None
    return recording.takes[number]


def outcomes(given: Session) -> list[str]:
    return [item.outcome for item in given.interactions]


def blobs(store: Path) -> list[bytes]:
    """The contents that lie beside the recordings."""
    files = [path for path in sorted(store.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    return [content for path in files if path.suffix != ".json" and (content := path.read_bytes())]


def zipped(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("notes.txt", content)
    return file.getvalue()


def multipart(*contents: bytes) -> Any:
    parts = [
        b'--x\r\nContent-Disposition: form-data; name="f%d"; filename="a.bin"\r\n\r\n%b\r\n' % (number, content)
        for number, content in enumerate(contents)
    ]
    raw = b"".join(parts) + b"--x--\r\n"
    return call(raw=raw, kind="multipart/form-data; boundary=x", path="/v1/files")


# Uploads.


def test_uploads_are_stored_beside_the_recording(store: Path) -> None:
    small, large = b"\xff\x00 small", NOISE * 3
    record(session(store), multipart(small, large), {"id": "file_1"})
    assert sorted(blobs(store), key=len) == [small, large]


def test_a_body_that_is_no_text_is_stored_beside_the_recording(store: Path) -> None:
    record(session(store), call(raw=b"\xff\xfe\x00", kind=BINARY, path="/v1/audio"), {"n": 1})
    assert blobs(store) == [b"\xff\xfe\x00"]


@pytest.mark.parametrize("content", [b"\xff key " + SECRET.encode(), zipped(SECRET.encode() * 3)])
def test_an_upload_with_a_secret_is_not_stored_and_noted(store: Path, content: bytes) -> None:
    made = session(store)
    record(made, multipart(content, b"\xff harmless"), {"n": 1})
    assert blobs(store) == [b"\xff harmless"]
    (item,) = made.interactions
    assert item.outcome == "recorded"
    assert item.note.startswith("an upload of ")
    assert item.note.endswith(" bytes is not stored: the content holds a secret")


def test_a_container_that_cannot_be_searched_is_not_stored_and_noted(store: Path) -> None:
    made = session(store)
    record(made, multipart(b"\x1f\x8b\x08\x00 broken"), {"n": 1})
    assert blobs(store) == []
    assert "is not stored: the content may hold a secret: " in made.interactions[0].note


def test_a_container_without_a_secret_is_stored(store: Path) -> None:
    harmless = zipped(b"nothing to hide")
    made = session(store)
    record(made, multipart(harmless), {"n": 1})
    assert blobs(store) == [harmless]
    assert made.interactions[0].note == ""


def test_an_upload_that_cannot_be_written_costs_the_caller_nothing(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Store, redactor: object) -> Spool:
        raise OSError(errno.ENOSPC, "No space left on device")

    made = session(store)
    monkeypatch.setattr(Store, "spool", full)
    with pytest.warns(UserWarning, match="which got its answer"):
        record(made, multipart(b"\xff"), {"n": 1})
    assert outcomes(made) == ["unsaved"]
    assert Store(store).names() == []


# Large answers.


def test_a_large_answer_goes_into_a_file_while_it_comes(store: Path) -> None:
    made = session(store)
    recorder = begin(made, chat(), NOISE, NOISE, NOISE, kind=BINARY)
    assert sum(len(data) for _, data in recorder.so_far()) == 0, "it is not in memory any more"
    recorder.feed(b"\xff end")
    recorder.end()
    body = saved(store).body
    assert isinstance(body, Blob)
    assert replayed(session(store, "replay"), chat()) == NOISE * 3 + b"\xff end"


def test_an_answer_of_just_the_limit_stays_in_memory(store: Path) -> None:
    recorder = begin(session(store), chat(), NOISE, NOISE, kind=BINARY)
    assert sum(len(data) for _, data in recorder.so_far()) == LARGE
    recorder.end()
    assert replayed(session(store, "replay"), chat()) == NOISE * 2


@pytest.mark.parametrize(("status", "spooled"), [(199, False), (200, True), (299, True), (300, False), (404, False)])
def test_only_answers_that_succeed_go_into_a_file(store: Path, status: int, spooled: bool) -> None:
    recorder = begin(session(store), chat(), NOISE, NOISE, NOISE, kind=BINARY, status=status)
    assert (sum(len(data) for _, data in recorder.so_far()) == 0) is spooled
    recorder.end()


def test_a_large_stream_stays_in_memory_with_the_times_of_its_events(store: Path) -> None:
    recorder = begin(session(store), chat(), *[event("x" * 400_000)] * 4, kind=SSE)
    assert len(recorder.so_far()) == 4
    recorder.end()
    assert isinstance(saved(store).body, Events)


def test_a_large_answer_is_redacted_cookies_included(store: Path) -> None:
    cookie = "c00kie-Zm9vYmFyYmF6cXV4"
    recorder = session(store).ask(chat())
    assert isinstance(recorder, Recorder)
    recorder.begin(200, [("content-type", BINARY), ("set-cookie", f"session={cookie}; Path=/")])
    for piece in (NOISE, NOISE, b"\xff" + cookie.encode() + b"\xff" + SECRET.encode() + b"\xff", NOISE):
        recorder.feed(piece)
    recorder.end()
    (content,) = blobs(store)
    assert cookie.encode() not in content
    assert SECRET.encode() not in content
    assert saved(store).redacted == 2
    assert len(recorder.secrets) == 2


def test_a_large_answer_that_goes_on_after_its_cell_is_written_twice(store: Path) -> None:
    made = session(store)
    recorder = begin(made, chat(), NOISE, NOISE, NOISE, kind=BINARY)
    made.flush()
    assert saved(store).reason == "open"
    assert blobs(store) == [NOISE * 3]
    made.flush()
    recorder.feed(b"\xff more")
    recorder.end()
    take = saved(store)
    assert take.complete
    assert replayed(session(store, "replay"), chat()) == NOISE * 3 + b"\xff more"


def test_a_large_answer_that_cannot_be_written_costs_the_caller_nothing(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = session(store)
    recorder = begin(made, chat(), NOISE, NOISE, NOISE, kind=BINARY)
    before = set(store.rglob("*"))
    assert any(path.stat().st_size > LARGE for path in before if path.is_file())

    def full(self: Spool, data: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", self.path)

    monkeypatch.setattr(Spool, "feed", full)
    recorder.feed(b"\xff")
    assert not any(path.stat().st_size > LARGE for path in store.rglob("*") if path.is_file()), "room is made at once"
    monkeypatch.undo()
    recorder.feed(b"\xff")
    with pytest.warns(UserWarning, match="No space left"):
        recorder.end()
    assert outcomes(made) == ["unsaved"]
    assert Store(store).names() == []


# Content encodings.


def unzip(pieces: Pieces) -> Pieces:
    data = b"".join(data for _, data in pieces)
    return [(at, gzip.decompress(data) if not number else b"") for number, (at, _) in enumerate(pieces)]


def test_an_encoded_answer_is_stored_decoded(store: Path) -> None:
    packed = gzip.compress(b'{"n":1}')
    recorder = begin(session(store), chat(), packed[:9], packed[9:])
    recorder.decode = unzip
    assert b"".join(data for _, data in recorder.so_far()) == b'{"n":1}'
    recorder.end()
    assert saved(store).body == Json({"n": 1})


def test_an_encoded_stream_that_is_read_to_its_end_is_decoded_once(store: Path) -> None:
    decoded: list[Pieces] = []

    def decode(pieces: Pieces) -> Pieces:
        decoded.append(pieces)
        return unzip(pieces)

    recorder = begin(session(store), chat(), gzip.compress(event({"n": 1}) + b"data: [DONE]\n\n"), kind=SSE)
    recorder.decode = decode
    recorder.end()
    assert isinstance(saved(store).body, Events)
    assert len(decoded) == 1


def test_an_encoded_answer_is_not_written_into_a_file_as_it_comes(store: Path) -> None:
    recorder = session(store).ask(chat())
    assert isinstance(recorder, Recorder)
    recorder.begin(200, [("content-type", BINARY)])
    recorder.decode = lambda pieces: pieces
    for _ in range(3):
        recorder.feed(NOISE)
    assert sum(len(data) for _, data in recorder.so_far()) == len(NOISE) * 3
    recorder.end()


@pytest.mark.parametrize("secret", [b"", SECRET.encode()])
def test_an_answer_that_stays_encoded_is_stored_so_unless_it_holds_a_secret(store: Path, secret: bytes) -> None:
    made = session(store)
    recorder = made.ask(chat())
    assert isinstance(recorder, Recorder)
    recorder.begin(200, [("content-type", "application/json"), ("content-encoding", "gzip")])
    recorder.keep_encoding()
    packed = gzip.compress(b'{"n":1,"key":"' + secret + b'"}')
    recorder.feed(packed)
    if secret:
        with pytest.warns(UserWarning, match="the caller wants it compressed"):
            recorder.end()
        assert outcomes(made) == ["unsaved"]
        return
    recorder.end()
    take = saved(store)
    assert take.headers["content-encoding"] == "gzip"
    assert take.body.data() == packed


PACKED = b'{"n":1,"key":"' + SECRET.encode() + b'"}'


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("gzip", gzip.compress(PACKED) + b"bytes after it"),
        ("gzip", gzip.compress(b"[]") + gzip.compress(PACKED)),
        ("gzip", zlib.compress(PACKED)),
        ("gzip, identity", gzip.compress(PACKED)),
        ("deflate, gzip", gzip.compress(zlib.compress(PACKED))),
    ],
    ids=["with a rest", "in two members", "zlib, not gzip", "gzip and nothing", "twice"],
)
def test_a_secret_is_found_in_whatever_way_an_answer_is_encoded(store: Path, encoding: str, data: bytes) -> None:
    made = session(store)
    recorder = made.ask(chat())
    assert isinstance(recorder, Recorder)
    recorder.begin(200, [("content-type", "application/json"), ("content-encoding", encoding)])
    recorder.keep_encoding()
    recorder.feed(data)
    with pytest.warns(UserWarning, match="the caller wants it compressed"):
        recorder.end()
    assert outcomes(made) == ["unsaved"]


def test_a_length_that_counts_encoded_bytes_is_not_stored_with_an_answer_that_is_cut(store: Path) -> None:
    for reason in ("closed", None):
        recorder = session(store, "record").ask(chat())
        assert isinstance(recorder, Recorder)
        recorder.begin(200, [("content-type", "text/plain"), ("content-length", "999")])
        recorder.decode = lambda pieces: pieces
        recorder.feed(b"text")
        recorder.close() if reason else recorder.end()
        assert ("content-length" in saved(store).headers) is (reason is None)


@pytest.mark.parametrize("answer", [zipped(SECRET.encode()), b"\x1f\x8b\x08\x00 broken"])
def test_a_compressed_answer_that_may_hold_a_secret_is_not_stored(store: Path, answer: bytes) -> None:
    made = session(store)
    with pytest.warns(UserWarning, match="compressed and cannot be redacted"):
        record(made, chat(), answer, kind="application/zip")
    assert outcomes(made) == ["unsaved"]
    assert blobs(store) == []


# Texts.


@pytest.mark.parametrize("mark", [b"\xff\xfe", b"\xfe\xff"])
def test_a_text_of_two_bytes_a_letter_is_stored_as_bytes(store: Path, mark: bytes) -> None:
    data = mark + "grüße".encode("utf-16-le")
    record(session(store), chat(), data, kind="text/plain")
    assert saved(store).body.data() == data


def test_a_text_that_is_not_utf8_comes_back_byte_for_byte_without_its_secrets(store: Path) -> None:
    recorder = record(session(store), chat(), b"caf\xe9 " + SECRET.encode(), kind="text/plain")
    data = saved(store).body.data()
    assert data.startswith(b"caf\xe9 [secret:")
    assert SECRET in recorder.secrets


def test_cookies_are_removed_from_a_body_that_repeats_them(store: Path) -> None:
    recorder = session(store).ask(chat())
    assert isinstance(recorder, Recorder)
    recorder.begin(200, [("content-type", "text/plain"), ("set-cookie", "sid=abcdef-uvwxyz-123")])
    recorder.feed(b"your session is abcdef-uvwxyz-123")
    recorder.end()
    body = saved(store).body
    assert isinstance(body, Text)
    assert "uvwxyz" not in body.text


# Takes.


def test_a_take_has_the_fields_of_the_answer(store: Path) -> None:
    with cell("ask()", "c1"):
        recorder = session(store).ask(chat(path=f"/v1/chat/completions?api_key={SECRET}&n=1"))
        assert isinstance(recorder, Recorder)
        recorder.begin(201, [("Content-Type", "text/plain"), ("X-Request-Id", "r1")], "Made It", "HTTP/1.0")
        recorder.feed(b"done")
        recorder.end()
    take = saved(store)
    assert take.status == 201
    assert take.reason_phrase == "Made It"
    assert take.http_version == "HTTP/1.0"
    assert take.host == OPENAI
    assert SECRET not in take.url
    assert take.url.endswith("&n=1")
    assert take.headers["x-request-id"] == "r1"
    assert take.cell is not None
    assert take.cell.id == "c1"
    assert take.complete
    assert take.reason is None
    assert take.error is None
    assert take.sized is False
    assert take.elapsed_ms is not None
    assert 0 <= take.elapsed_ms < 60_000


@pytest.mark.parametrize(
    ("version", "headers", "method", "sized"),
    [
        ("", [], "POST", True),
        ("HTTP/1.1", [], "POST", False),
        ("HTTP/1.1", [("content-length", "2")], "POST", True),
        ("HTTP/1.1", [], "HEAD", True),
        ("HTTP/1.1", [("content-type", SSE)], "POST", True),
    ],
)
def test_a_take_tells_whether_its_length_was_known(
    store: Path, version: str, headers: list[tuple[str, str]], method: str, sized: bool
) -> None:
    recorder = session(store).ask(call({"n": 1}, method=method, path="/x"))
    assert isinstance(recorder, Recorder)
    recorder.begin(200, [("content-type", "text/plain"), *headers], version=version)
    recorder.feed(b"" if method == "HEAD" else b"ok")
    recorder.end()
    assert recorder.saved is not None
    assert recorder.saved.sized is sized


def test_the_error_of_a_connection_is_stored_short_and_without_secrets(store: Path) -> None:
    recorder = begin(session(store, "record"), chat())
    recorder.fail("ReadError", f"https://x.example/?api_key={SECRET} " + "x" * 600)
    error = saved(store).error
    assert error is not None
    assert error["type"] == "ReadError"
    assert SECRET not in error["message"]
    assert len(error["message"]) == 500
    assert saved(store).redacted == 1


# Interrupts, and the ends of cells.


def test_an_interrupt_before_the_answer_leaves_nothing(store: Path) -> None:
    made = session(store)
    recorder = made.ask(chat())
    assert isinstance(recorder, Recorder)
    recorder.interrupt()
    recorder.end()
    assert [(item.outcome, item.note) for item in made.interactions] == [
        ("live", "interrupted before the answer began, so nothing is recorded")
    ]
    assert made.keeper.recorder_at(recorder.place) is None


def test_an_interrupt_that_unwinds_the_stack_is_the_reason_not_the_close(store: Path) -> None:
    recorder = begin(session(store), chat(), event({"n": 1}), kind=SSE)
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        recorder.close()
    assert saved(store).reason == "interrupted"


def test_another_exception_closes(store: Path) -> None:
    recorder = begin(session(store), chat(), event({"n": 1}), kind=SSE)
    try:
        raise ValueError
    except ValueError:
        recorder.close()
    assert saved(store).reason == "closed"


def test_what_is_closed_while_a_cell_is_interrupted_was_interrupted(store: Path) -> None:
    made = session(store)
    with cell("ask()") as run:
        recorder = begin(made, chat(), event({"n": 1}), kind=SSE)
        recorder.close()
        assert saved(store).reason == "closed"
        made.flush(run, interrupted=True)
    assert saved(store).reason == "interrupted"
    assert len(outcomes(made)) == 1


def test_what_was_closed_earlier_or_by_another_cell_stays_closed(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = session(store)
    with cell("ask()") as run:
        recorder = begin(made, chat(), event({"n": 1}), kind=SSE)
        recorder.close()
        made.flush(run)  # the cell ended well
        made.flush(run, interrupted=True)
    with cell("again()") as other:
        made.flush(other, interrupted=True)
    with cell("late()") as late:
        second = begin(made, chat("late"), event({"n": 1}), kind=SSE)
        second.close()
        monkeypatch.setattr("nbreplay.core.recorder._UNWINDING", 0.0)
        made.flush(late, interrupted=True)
    for name in Store(store).names():
        recording = Store(store).read(name)
        assert recording is not None
        assert [take.reason for take in recording.takes] == ["closed"]


def test_a_stream_that_nobody_reads_on_after_an_interrupt_stays_interrupted(store: Path) -> None:
    made = session(store)
    recorder = begin(made, chat(), event({"n": 1}), kind=SSE)
    made.flush(interrupted=True)
    assert saved(store).reason == "interrupted"
    assert made.keeper.recorder_at(recorder.place) is recorder
    recorder.close()
    assert saved(store).reason == "interrupted"
    assert made.keeper.recorder_at(recorder.place) is None
    recorder.end()
    assert saved(store).reason == "interrupted", "it is done"


def test_a_stream_that_somebody_reads_on_after_an_interrupt_is_closed(store: Path) -> None:
    made = session(store)
    recorder = begin(made, chat(), event({"n": 1}), kind=SSE)
    made.flush(interrupted=True)
    recorder.feed(event({"n": 2}))
    recorder.close()
    assert saved(store).reason == "closed"


def test_a_whole_stream_is_whole_though_its_cell_is_interrupted(store: Path) -> None:
    made = session(store)
    begin(made, chat(), event({"n": 1}), event("[DONE]"), kind=SSE)
    made.flush(interrupted=True)
    assert saved(store).complete


def test_the_end_of_a_cell_writes_its_own_streams_once(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = session(store)
    with cell("one") as one:
        first = begin(made, chat("one"), event({"n": 1}), kind=SSE)
    with cell("two") as two:
        second = begin(made, chat("two"), event({"n": 2}), kind=SSE)
    kept: list[Recorder] = []
    keep = Keeper.keep

    def counted(self: Keeper, recorder: Recorder, *args: Any, **options: Any) -> None:
        kept.append(recorder)
        keep(self, recorder, *args, **options)

    monkeypatch.setattr(Keeper, "keep", counted)
    made.flush(one)
    assert kept == [first]
    made.flush(one)
    assert kept == [first], "nothing new has come"
    made.flush(two)
    assert kept == [first, second]
    first.end()
    made.flush()
    assert kept == [first, second, first]


def test_an_answer_that_has_not_begun_is_unsaved_until_it_comes(store: Path) -> None:
    made = session(store)
    with cell("ask()") as run:
        recorder = made.ask(chat())
        assert isinstance(recorder, Recorder)
        made.flush(run)
    assert made.interactions == []
    made.flush()
    assert [(item.outcome, item.note) for item in made.interactions] == [
        ("unsaved", "the answer had not come when the session ended")
    ]
    assert made.keeper.recorder_at(recorder.place) is recorder
    recorder.begin(200, [("content-type", "application/json")])
    recorder.feed(b'{"n":1}')
    recorder.end()
    assert outcomes(made) == ["recorded"]
    assert made.interactions[0].served_s is not None
    assert made.interactions[0].host == OPENAI


def test_a_keeper_finds_the_recorder_of_a_call_while_its_answer_comes(store: Path) -> None:
    made = session(store)
    first, second = begin(made, chat("one")), begin(made, chat("two"))
    assert made.keeper.recorder_at(first.place) is first
    assert made.keeper.recorder_at(second.place) is second
    first.end()
    assert made.keeper.recorder_at(first.place) is None
    assert made.keeper.recorder_at(second.place) is second
    assert made.keeper.recorder_at(99) is None


def test_a_stream_of_json_rpc_is_whole_once_its_answer_is_there(store: Path) -> None:
    question = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "f"}}
    note = event({"jsonrpc": "2.0", "method": "notifications/progress"})
    for last, complete in (
        ({"jsonrpc": "2.0", "id": 8, "result": {}}, False),
        ({"jsonrpc": "2.0", "id": 7, "result": {}}, True),
    ):
        recorder = begin(session(store, "record"), call(question, path="/mcp"), note, event(last), kind=SSE)
        recorder.close()
        assert recorder.saved is not None
        assert recorder.saved.complete is complete


def test_a_failure_that_may_pass_is_live_in_auto_and_waits_in_record(store: Path) -> None:
    record(session(store, "record"), chat(), {"n": 1})
    why = {
        "auto": "429 Too Many Requests. auto does not keep failures that may pass",
        "record": "a failure that may pass does not replace a good answer",
    }
    for mode, outcome in (("auto", "live"), ("record", "recorded")):
        made = session(store, mode)
        record(made, chat("new" if mode == "auto" else "Weather in Tokyo?"), {"error": 1}, status=429)
        (item,) = made.interactions
        assert item.outcome == outcome
        assert item.note == f"not kept: {why[mode]}"
    assert len(Store(store).names()) == 1
    assert saved(store).status == 200


@pytest.mark.parametrize(("method", "status", "stored"), [("HEAD", 200, True), ("GET", 304, True), ("GET", 200, False)])
def test_an_answer_without_a_body_says_its_encoding(store: Path, method: str, status: int, stored: bool) -> None:
    recorder = session(store).ask(call(method=method, path="/x"))
    assert isinstance(recorder, Recorder)
    recorder.begin(status, [("content-type", "text/plain"), ("content-encoding", "gzip")])
    recorder.end()
    assert ("content-encoding" in saved(store).headers) is stored


async def test_a_take_has_the_rank_of_its_task(store: Path) -> None:
    made = session(store)

    async def ask() -> Take | None:
        await asyncio.sleep(0)
        return record(made, chat(), {"n": 1}).saved

    takes = await asyncio.gather(ask(), ask())
    assert [take.task for take in takes if take is not None] == [0, 1]


def test_a_stream_that_its_caller_closes_after_the_cell_is_closed(store: Path) -> None:
    made = session(store)
    recorder = begin(made, chat(), event({"n": 1}), kind=SSE)
    made.flush()
    assert saved(store).reason == "open"
    recorder.close()
    assert saved(store).reason == "closed"


def test_a_take_keeps_the_ids_of_its_request(store: Path) -> None:
    body = {
        "model": "m",
        "input": [{"type": "function_call", "call_id": "call_abc123XYZ", "name": "f", "arguments": ""}],
    }
    body["input"].append({"type": "function_call_output", "call_id": "call_abc123XYZ", "output": "1"})
    record(session(store), call(body, path="/v1/responses"), {"n": 1})
    assert saved(store).ids == ("call_abc123XYZ",)


def test_a_take_has_the_time_of_a_plain_answer_and_a_stream_those_of_its_events(store: Path) -> None:
    recorder = begin(session(store), chat(), {"n": 1})
    recorder.started -= 2.0
    recorder.end()
    elapsed_ms = saved(store).elapsed_ms
    assert elapsed_ms is not None
    assert 2_000 <= elapsed_ms < 60_000
    recorder = record(session(store), chat("stream"), event({"n": 1}), event("[DONE]"), kind=SSE)
    assert recorder.saved is not None
    assert recorder.saved.elapsed_ms is None


def test_the_usual_reason_phrase_is_not_stored(store: Path) -> None:
    recorder = session(store).ask(chat())
    assert isinstance(recorder, Recorder)
    recorder.begin(200, [("content-type", "text/plain")], "OK", "HTTP/1.1")
    recorder.end()
    assert saved(store).reason_phrase is None


def test_texts_are_redacted_as_they_are_encoded(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "quite ördinary")
    record(session(store, "record"), chat(), "x quite ördinary".encode(), kind="text/plain")
    assert saved(store).body.data() == b"x [secret:1]"
    for mark, encoding in ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        record(session(store, "record"), chat(), mark + "x quite ördinary".encode(encoding), kind="text/plain")
        assert saved(store).body.data() == mark + "x [secret:1]".encode(encoding)


def test_a_secret_of_an_answer_is_secret_in_the_next_request(store: Path) -> None:
    token = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
    made = session(store)
    record(made, chat("log in"), {"access_token": token})
    record(made, chat(f"the word {token}"), {"n": 1})
    assert not any(token in path.read_text() for path in store.glob("*.json"))


@pytest.mark.parametrize(("limit", "stored"), [(0, True), (-1, False)])
def test_a_container_that_is_too_large_is_not_searched_and_not_stored(
    store: Path, monkeypatch: pytest.MonkeyPatch, limit: int, stored: bool
) -> None:
    content = zipped(b"nothing to hide")
    monkeypatch.setattr("nbreplay.core.recorder._LARGEST_CONTAINER", len(content) + limit)
    made = session(store)
    record(made, multipart(content), {"n": 1})
    assert blobs(store) == ([content] if stored else [])
    note = made.interactions[0].note
    assert note.endswith("is not stored: the content is too large to be searched for secrets") is not stored
