"""Uploads and answers of 20 MB: beside the recording, and never whole in memory several times over."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients import recordings
from tests.provider import spawn

ROOT = Path(__file__).resolve().parents[2]
SIZE = 20_000_000
MOST = 64_000_000  # bytes above what the process had before
CHILD = """
import hashlib, json, sys
import nbreplay, openai
url, store, mode, what, path = sys.argv[1:]
client = openai.OpenAI(base_url=url, api_key="a-key-of-the-tests", max_retries=0)

def upload(path):
    with open(path, "rb") as file:
        return client.files.create(file=file, purpose="batch").id

def answer(model):
    with client.audio.speech.with_streaming_response.create(model=model, voice="alloy", input="hi") as response:
        digest = hashlib.sha256()
        for piece in response.iter_bytes():
            digest.update(piece)
        return digest.hexdigest()

def memory(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name))

with nbreplay.session(store, mode=mode) as session:
    if what == "upload":
        upload(path + ".small")
        idle = memory("VmRSS")
        given = upload(path)
    else:
        answer("test/a")
        idle = memory("VmRSS")
        given = answer("test/size=" + path)
print(json.dumps([given, memory("VmHWM") - idle, [item.outcome for item in session.interactions]]))
"""


def run(url: str, store: Path, mode: str, what: str, path: str) -> tuple[str, int, list[str]]:
    """Run the calls in a process of its own; what it got, the bytes that its memory grew by, the outcomes."""
    command = [sys.executable, "-c", CHILD, url, str(store), mode, what, path]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    given, grown, outcomes = json.loads(done.stdout)
    return given, grown, outcomes


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "upload.bin"
    block = bytes(range(256)) * 625
    path.write_bytes(block * (SIZE // len(block)))
    (tmp_path / "upload.bin.small").write_bytes(b"\xff" * 10)
    return path


@pytest.mark.full(quick=["answer"])
@pytest.mark.skipif(sys.platform != "linux", reason="reads what memory is in use where Linux tells it, in /proc")
@pytest.mark.parametrize("what", ["upload", "answer"])
def test_twenty_megabytes_go_beside_the_recording_in_bounded_memory(what: str, file: Path, store: Path) -> None:
    path = str(file) if what == "upload" else str(SIZE)
    with spawn() as server:
        url = server.url
        recorded, grown, outcomes = run(url, store, "record", what, path)
    assert outcomes == ["recorded"] * 2
    print("memory grew by", grown)
    assert grown < MOST
    blobs = [blob for blob in store.glob("blob-*.bin") if blob.stat().st_size == SIZE]
    assert len(blobs) == 1, "one file beside the recording holds it"
    if what == "upload":
        assert blobs[0].read_bytes() == file.read_bytes()
    assert sum(each.stat().st_size for each in store.glob("*.json")) < 10_000
    assert len(recordings(store)) == 2
    replayed, grown, outcomes = run(url, store, "replay", what, path)
    assert outcomes == ["replayed"] * 2
    assert grown < MOST
    assert replayed == recorded
