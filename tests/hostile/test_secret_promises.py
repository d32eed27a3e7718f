"""What docs/security.md promises of secrets in a conversation: tokens that are issued, compressed bodies, uploads."""

from __future__ import annotations

import base64
import gzip
import io
import json
import random
import string
import warnings
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

import nbreplay as nr
from nbreplay.core.secrets.credentials import header_credentials
from tests.clients import http, outcomes, recordings, takes

_LETTERS = string.ascii_letters + string.digits


def drawn(size: int = 40, seed: int = 1) -> str:
    """A secret without a format of its own."""
    return "".join(random.Random(seed).choices(_LETTERS, k=size))


class Service(BaseHTTPRequestHandler):
    """Issues tokens, and answers everything else with what it was asked."""

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.headers.get("content-encoding") == "gzip":
            asked = gzip.decompress(asked)
        kind = "application/json"
        if self.path == "/token":
            data = json.dumps({"access_token": drawn(seed=7), "refresh_token": drawn(seed=8), "n": 1}).encode()
        elif self.path == "/zip":
            data, kind = zipped(asked), "application/zip"
        else:
            data = json.dumps(
                {"asked": asked.decode("latin-1"), "session": self.headers.get("x-acme-session")}
            ).encode()
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def zipped(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("notes.txt", content)
    return buffer.getvalue()


def everything(store: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(store.rglob("*")) if path.is_file())


def test_a_token_that_an_answer_issues_finds_its_recording_when_a_replay_sends_it_back(
    service: str, tmp_path: Path
) -> None:
    """The replayed answer has `[secret:N]` in place of the token, and the next request sends that."""

    def program() -> Any:
        with http.Client(verify=False) as client:
            issued = client.post(f"{service}/token", data={"client_secret": drawn(seed=3)}).json()
            fields = {"client_secret": drawn(seed=3), "refresh_token": issued["refresh_token"]}
            client.post(f"{service}/more", data=fields, headers={"authorization": f"Bearer {issued['access_token']}"})
            body = {"memory": f"use {issued['refresh_token']}", "token": issued["access_token"]}
            return client.post(f"{service}/json", json=body).status_code

    with nr.session(tmp_path, mode="record"):
        program()
    with nr.session(tmp_path, mode="replay") as session:
        assert program() == 200
    assert outcomes(session) == ["replayed"] * 3
    assert not [seed for seed in (3, 7, 8) if drawn(seed=seed).encode() in everything(tmp_path)]


def test_a_token_of_a_replayed_answer_is_never_sent(service: str, tmp_path: Path) -> None:
    """In `auto` the login is replayed, and what follows it is not recorded: its refusal would be."""

    def program(question: str) -> None:
        with http.Client(verify=False) as client:
            token = client.post(f"{service}/token", json={}).json()["access_token"]
            client.post(f"{service}/who", json={"q": question}, headers={"authorization": f"Bearer {token}"})

    with nr.session(tmp_path, mode="auto"):
        program("first")
    with nr.session(tmp_path, mode="auto") as session, pytest.raises(nr.RecordingMissing, match="such as the login"):
        program("second")
    assert outcomes(session) == ["replayed", "missing"]


def test_requests_that_differ_only_in_a_secret_share_a_key_and_the_log_says_so(service: str, tmp_path: Path) -> None:
    def ask(client: Any, seed: int) -> None:
        client.post(f"{service}/who", json={"api_key": drawn(seed=seed)})

    with http.Client(verify=False) as client, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with nr.session(tmp_path, mode="record") as session:
            for seed in (1, 1, 2):
                ask(client, seed)
        assert [bool(item.note) for item in session.interactions] == [False, False, True]
        with nr.session(tmp_path, mode="replay") as session:
            for seed in (2, 1, 1):
                ask(client, seed)
    assert len(recordings(tmp_path)) == 1
    assert [bool(item.note) for item in session.interactions] == [False, True, True]
    assert "only in a secret" in session.interactions[1].note
    assert any("only in a secret" in str(item.message) for item in caught)


def test_that_note_breaks_no_program_that_makes_errors_of_warnings(service: str, tmp_path: Path) -> None:
    with http.Client(verify=False) as client, warnings.catch_warnings():
        warnings.simplefilter("error")
        with nr.session(tmp_path, mode="record"):
            for seed in (1, 2):
                assert client.post(f"{service}/who", json={"api_key": drawn(seed=seed)}).status_code == 200


def test_a_compressed_request_is_the_same_request_and_is_stored_as_it_is_meant(service: str, tmp_path: Path) -> None:
    body = json.dumps({"question": "What is in a name?", "password": drawn()}).encode()
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    with http.Client(verify=False) as client:
        with nr.session(tmp_path, mode="record"):
            client.post(f"{service}/who", content=gzip.compress(body, mtime=1), headers=headers)
        for content, sent in ((gzip.compress(body, 1, mtime=2), headers), (body, {"content-type": "application/json"})):
            with nr.session(tmp_path, mode="replay") as session:
                client.post(f"{service}/who", content=content, headers=sent)
            assert outcomes(session) == ["replayed"]
    (recording,) = recordings(tmp_path)
    assert recording.request["body"] == {"question": "What is in a name?", "password": "[secret:1]"}


@pytest.mark.parametrize("held", ["a harmless text", "secret"])
def test_an_upload_is_looked_into_and_left_out_with_a_note_where_it_has_a_secret(
    held: str, service: str, tmp_path: Path
) -> None:
    content = zipped(f"api_key = {drawn()}".encode() if held == "secret" else held.encode())
    with http.Client(verify=False) as client, nr.session(tmp_path, mode="record") as session:
        client.post(f"{service}/upload", files={"file": ("notes.zip", content)})
    (item,) = session.interactions
    assert item.outcome == "recorded"
    kept = list(tmp_path.glob("blob-*.bin"))
    if held == "secret":
        assert not kept
        assert "the content holds a secret" in item.note
    else:
        assert [path.read_bytes() for path in kept] == [content]
        assert not item.note


def test_an_answer_that_is_a_container_with_a_secret_is_not_written_and_fails_the_run(
    service: str, tmp_path: Path
) -> None:
    with http.Client(verify=False) as client, nr.session(tmp_path, mode="record") as session:
        with pytest.warns(UserWarning, match="could not record"):
            answer = client.post(f"{service}/zip", content=f"password: {drawn()}".encode())
        assert zipfile.ZipFile(io.BytesIO(answer.content)).read("notes.txt").startswith(b"password")
    assert outcomes(session) == ["unsaved"]
    assert drawn().encode() not in everything(tmp_path)
    assert not list(tmp_path.glob("*.bin"))


def test_what_a_header_of_any_name_carries_is_removed_where_the_answer_repeats_it(service: str, tmp_path: Path) -> None:
    with http.Client(verify=False) as client, nr.session(tmp_path, mode="record"):
        client.post(f"{service}/who", json={}, headers={"x-acme-session": drawn()})
    (take,) = takes(tmp_path)
    assert take.redacted == 1
    assert drawn().encode() not in everything(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("authorization", f"Bearer {drawn()}", {drawn()}),
        ("authorization", "plain-words-are-a-key-here", {"plain-words-are-a-key-here"}),
        ("authorization", "Basic " + base64.b64encode(b"me:pass-phrase").decode(), {"pass-phrase", "me:pass-phrase"}),
        ("x-acme-key", drawn(), {drawn()}),
        ("x-acme-key", f"Token {drawn()}", {drawn()}),
        ("cookie", "a=one; b=two", {"one", "two"}),
        ("x-acme-mode", "interactive", set()),
        ("idempotency-key", drawn(), set()),
        ("traceparent", f"00-{drawn()}-01", set()),
        ("x-stainless-retry-count", drawn(), set()),
    ],
)
def test_which_headers_carry_credentials(name: str, value: str, found: set[str]) -> None:
    credentials = set(header_credentials(name, value))
    assert found <= credentials if found else not credentials
