"""A process that is killed while it records leaves a store in which every file is whole, and which goes on working."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import nbreplay as nr
from tests.clients import call, chat, outcomes, recordings
from tests.provider import Provider

ROOT = Path(__file__).resolve().parents[2]
KILLS = 24

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the writers are forked off a process that is warm")

# Forks a writer for every line it is told, so that a kill costs no start of an interpreter. A writer records for
# ever: the same question, whose file grows, one that is new each time, and an answer that has a file of its own.
WRITERS = """
import itertools, os, sys
import openai
import nbreplay as nr

url, store = sys.argv[1:]

def write(start):
    client = openai.OpenAI(base_url=url, api_key="a-key-of-the-tests", max_retries=0)
    with nr.session(store, mode="record"):
        for number in itertools.count():
            for text in ("the same", f"number {start}-{number}"):
                messages = [{"role": "user", "content": text}]
                client.chat.completions.create(model="test/words=300", messages=messages)
            client.audio.speech.create(model="test", voice="alloy", input="the same")

print("ready", flush=True)
for line in sys.stdin:
    pid = os.fork()
    if not pid:
        try:
            write(line.strip())
        finally:
            os._exit(1)
    print(pid, flush=True)
    print(os.waitpid(pid, 0)[1], flush=True)
"""


@contextmanager
def running(code: str, *arguments: str, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    """Have an interpreter run `code`."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def whole(store: Path) -> int:
    """See that every file of a store is whole; return how many takes there are."""
    for path in store.glob("*.json"):
        json.loads(path.read_text(encoding="utf-8"))
    return sum(len(recording.takes) for recording in recordings(store))


def usable(store: Path, provider: Provider) -> None:
    """See that a store can be read and written by others."""
    text = f"after {time.monotonic_ns()}"
    with nr.session(store, mode="auto") as session:
        live = call("sync", provider.url, chat(text))
    assert outcomes(session) == ["recorded"]
    with nr.session(store, mode="replay"):
        assert call("sync", provider.url, chat(text)) == live


@pytest.mark.full
def test_killed_at_any_time(provider: Provider, store: Path, tmp_path: Path) -> None:
    chance = random.Random(20261122)
    with running(WRITERS, provider.url, str(store), cwd=tmp_path) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        takes = 0
        for kill in range(KILLS):
            hits = provider.hits
            process.stdin.write(f"{kill}\n")
            process.stdin.flush()
            pid = int(process.stdout.readline())
            wanted, started = hits + 1 + kill % 5, time.monotonic()
            while provider.hits < wanted and time.monotonic() - started < 120:
                time.sleep(0.001)
            # The moment of the kill goes over the whole of one call and its writing.
            time.sleep(chance.uniform(0, 0.02))
            os.kill(pid, signal.SIGKILL)
            assert os.WTERMSIG(int(process.stdout.readline())) == signal.SIGKILL
            found = whole(store)
            assert found > 0 or kill == 0
            takes = max(takes, found)
            if kill % 6 == 5:
                usable(store, provider)
    assert takes > KILLS
    usable(store, provider)


# Kills itself at one exact point of the writing of the second file.
POINTS = {
    "before anything": "if name == 'open' and '.nbreplay' in str(given[0]) and given[1] & os.O_CREAT: die()",
    "in the middle of the bytes": "if name == 'fdopen' and given[1] == 'wb': real[name] = Cut",
    "before the file is in its place": "if name == 'replace': die()",
    "after the file is in its place": "if name == 'replace': real['replace'](*given); die()",
}
SUICIDE = """
import io, os, signal, sys
import openai
import nbreplay as nr

url, store, point, mode = sys.argv[1:]
real = {name: getattr(os, name) for name in ("open", "fdopen", "replace")}
armed = False

def die():
    os.kill(os.getpid(), signal.SIGKILL)

class Cut(io.FileIO):
    def write(self, data):
        super().write(data[: len(data) // 2])
        die()

def watched(name):
    def call(*given, **more):
        if armed:
            exec(point)
        return real[name](*given, **more)
    return call

with openai.OpenAI(base_url=url, api_key="a-key-of-the-tests", max_retries=0) as client:
    def ask(text):
        client.chat.completions.create(model="test", messages=[{"role": "user", "content": text}])

    with nr.session(store, mode=mode):
        ask("the same")
        for name in real:
            setattr(os, name, watched(name))
        armed = True
        ask("the same")
print("survived")
"""


@pytest.mark.full(quick=2)
@pytest.mark.parametrize("point", POINTS)
def test_killed_at_this_point(point: str, provider: Provider, store: Path, tmp_path: Path) -> None:
    with running(SUICIDE, provider.url, str(store), POINTS[point], "record", cwd=tmp_path) as process:
        said, _ = process.communicate(timeout=600)
        assert (said, process.returncode) == ("", -signal.SIGKILL)
    assert whole(store) == (2 if point.startswith("after") else 1), "the file is the old or the new one"
    usable(store, provider)
    with nr.session(store, mode="record") as session:
        live = call("sync", provider.url, chat("the same"))
    assert outcomes(session) == ["recorded"]
    with nr.session(store, mode="replay"):
        assert call("sync", provider.url, chat("the same")) == live


def test_what_a_killed_process_left_is_cleared_away_later(provider: Provider, store: Path, tmp_path: Path) -> None:
    arguments = (provider.url, str(store), POINTS["before the file is in its place"], "record")
    with running(SUICIDE, *arguments, cwd=tmp_path) as process:
        process.communicate(timeout=600)
    (left,) = (path for path in (store / ".nbreplay").iterdir() if ".json" in path.name)
    usable(store, provider)
    assert left.exists(), "it may still be somebody's"
    os.utime(left, (time.time() - 7200,) * 2)
    usable(store, provider)
    assert not left.exists()
