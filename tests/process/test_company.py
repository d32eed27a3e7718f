"""Two processes that record into one store at once lose nothing of each other's."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import nbreplay as nr
from tests.clients import call, chat, recordings
from tests.provider import Provider

ROOT = Path(__file__).resolve().parents[2]
DIFFERENT, IDENTICAL = 200, 50
WRITER = """
import json, sys
import openai
import nbreplay as nr

url, store, mode, name, different, identical = sys.argv[1:]
with openai.OpenAI(base_url=url, api_key="a-key-of-the-tests", max_retries=0) as client:
    def ask(text):
        messages = [{"role": "user", "content": text}]
        return client.chat.completions.create(model="test", messages=messages).choices[0].message.content

    with nr.session(store, mode=mode) as session:
        print("ready", flush=True)
        sys.stdin.readline()
        texts, each = [], int(different) // int(identical)
        for number in range(int(different)):
            texts.append(ask(f"{name} {number}"))
            if number % each == 0:
                texts.append(ask("the same"))
    outcomes = [item.outcome for item in session.interactions]
    print(json.dumps({"texts": texts, "outcomes": outcomes}), flush=True)
"""


def written(
    url: str, store: Path, modes: tuple[str, str], different: int = DIFFERENT, identical: int = IDENTICAL
) -> list[dict[str, list[str]]]:
    """Have two processes record at once; return what each of them got."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, url, str(store), mode, f"writer-{n}", str(different), str(identical)],
            cwd=store.parent,
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n, mode in enumerate(modes)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        return [json.loads(process.communicate(timeout=600)[0]) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@pytest.mark.full
@pytest.mark.parametrize("modes", [("record", "record"), ("auto", "auto")], ids="+".join)
def test_two_writers_lose_nothing(modes: tuple[str, str], provider: Provider, store: Path) -> None:
    found = written(provider.url, store, modes)
    outcomes = Counter(outcome for each in found for outcome in each["outcomes"])
    assert set(outcomes) <= {"recorded", "replayed"}
    assert sum(outcomes.values()) == 2 * (DIFFERENT + IDENTICAL)
    assert outcomes["recorded"] == provider.hits
    if modes == ("record", "record"):
        assert provider.hits == 2 * (DIFFERENT + IDENTICAL)

    takes = {recording.key: recording.takes for recording in recordings(store)}
    assert len(takes) == 2 * DIFFERENT + 1
    assert sum(map(len, takes.values())) == provider.hits, "every answer of the server is in the store"
    stored = {
        json.loads(take.body.data())["choices"][0]["message"]["content"] for each in takes.values() for take in each
    }
    assert stored == {text for each in found for text in each["texts"]}
    assert not list((store / ".nbreplay").glob("*.json*")), "and nothing is left half-written"


def test_one_may_replay_what_another_has_just_recorded(provider: Provider, store: Path) -> None:
    """A session that is on sees what other processes add."""
    with nr.session(store, mode="replay"):
        with pytest.raises(nr.RecordingMissing):
            call("sync", provider.url, chat("writer-0 0"))
        found = written(provider.url, store, ("record", "auto"), 20, 10)
        assert call("sync", provider.url, chat("writer-0 0")) == found[0]["texts"][0]
        assert call("sync", provider.url, chat("writer-1 19")) == found[1]["texts"][-1]
