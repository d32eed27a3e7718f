"""``nbreplay verify``: what is asked again, what is told of it, and what never leaves."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

import nbreplay as nr
from nbreplay.cli import verify
from nbreplay.cli.main import main
from nbreplay.core.store.store import Store
from tests.analysis.making import put
from tests.clients import said, sdk
from tests.provider import Provider
from tests.terminals import EVIL, UNSAFE

ASKED = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}
LOCAL = ("--allow", "127.0.0.1")
SAID = {"choices": [{"index": 0, "message": {"content": "Hello"}}]}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def record(store: Path, provider: Provider) -> None:
    with nr.session(store, mode="record"), sdk("sync", provider.url) as client:
        client.chat.completions.create(model="test/", messages=said("plain"))
        list(client.chat.completions.create(model="test/words=4", messages=said("streamed"), stream=True))


def texts(store: Path) -> set[str]:
    frame = nr.load(store, cache=False).messages
    return set(frame[frame.direction == "output"].content)


def test_drift_is_told_and_kept_only_when_asked(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Provider() as provider:
        record(store, provider)
        bodies = [json.loads(body) for _, _, body in provider.requests]
        files = {path.name: path.read_bytes() for path in store.glob("*.json")}
        before = texts(store)
        # Each answer of the tests' provider is another.
        assert main(["verify", str(store), *LOCAL]) == 1
        told = capsys.readouterr()
        assert told.out.endswith("0 same, 2 changed\n")
        assert told.out.count("changed  chat-") == 2
        assert "  recorded  answer [-1-] to: plain\n         now       answer {+3+} to: plain\n" in told.out
        assert told.err.startswith("verify sends 2 requests again:\n  test/  at 127.0.0.1:")
        again = [json.loads(body) for _, _, body in provider.requests[2:]]
        assert sorted(again, key=len) == sorted(bodies, key=len)  # one streams, and has a field more
        assert {path.name: path.read_bytes() for path in store.glob("*.json")} == files
        assert main(["verify", str(store), "--update", "--json", *LOCAL]) == 0
        made = json.loads(capsys.readouterr().out)
    assert made["counts"]["changed"] == made["updated"] == 2
    assert {row["recorded"] for row in made["answers"]} == before
    assert {row["status"] for row in made["answers"]} == {"changed"}
    assert made["left_out"] == []
    assert {row["text_a"] for row in made["pairs"]} == before
    assert {row["text_b"] for row in made["pairs"]} == texts(store)
    assert len(nr.load(store)) == 2


def test_a_service_that_is_gone_changes_nothing(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Provider() as provider:
        record(store, provider)
    before = texts(store)
    assert main(["verify", str(store), "--update", *LOCAL]) == 3
    out = capsys.readouterr().out
    assert out.count("could not be reached") == out.count("failed   chat-") == 2
    assert out.endswith("0 same, 0 changed, 2 failed; 0 updated\n")
    assert texts(store) == before


def test_hosts_of_ones_own_network_are_asked_only_where_they_are_allowed(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Provider() as provider:
        record(store, provider)
        hits = provider.hits
        assert main(["verify", str(store)]) == 3
        assert provider.hits == hits
    told = capsys.readouterr().err
    assert "nothing can be asked again\nnot asked again: 2 recordings\n" in told
    assert told.count("Pass --allow 127.0.0.1:") == 1


def test_what_is_not_asked_again_is_said(
    store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    put(Store(store), ASKED, SAID)
    put(Store(store), ASKED | {"n": 1}, SAID, host="api.openai.com.example.org")
    put(Store(store), ASKED | {"user": "[secret:1]"}, SAID, host="127.0.0.1:9")
    put(Store(store), {"tool": "t", "arguments": {}}, {"return": 1}, kind="tool")
    put(Store(store), ASKED | {"n": 3}, {"error": {"message": "no"}}, status=500)
    (store / "chat-0000000000000001.json").write_text("{")
    assert main(["verify", str(store)]) == 3
    told = capsys.readouterr().err
    for why in (
        "no key for api.openai.com. Set OPENAI_API_KEY",
        "verify does not know how api.openai.com.example.org is authorised",
        "a secret or a masked text of the request",
        "not an inference call",
        "no good answer",
        "invalid JSON",
    ):
        assert told.count(why) == 1, why


def test_replay_is_no_way_to_verify(
    store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(Store(store), ASKED, SAID, host="127.0.0.1:9")
    monkeypatch.setenv("NBREPLAY_MODE", "replay")
    assert main(["verify", str(store), *LOCAL]) == 2
    assert "NBREPLAY_MODE is replay" in capsys.readouterr().err
    assert main(["verify", str(store / "none")]) == 2


def test_answers_that_are_the_same_are_a_success(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Provider() as provider:
        with nr.session(store, mode="record"), sdk("sync", provider.url) as client:
            client.models.list()
        assert main(["verify", str(store), *LOCAL]) == 0
    out = capsys.readouterr().out
    assert out.startswith("same     model-")
    assert out.endswith("1 same, 0 changed\n")


class Answers(io.StringIO):
    """A terminal at which somebody types."""

    def isatty(self) -> bool:
        return True


def test_what_it_costs_is_said_and_agreed_to(
    store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("genai_prices", reason="pip install nbreplay[prices]")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-tests")
    sent: list[str] = []
    monkeypatch.setattr(verify, "_send", lambda *call: sent.append(call[1]))
    usage = {"usage": {"prompt_tokens": 1_000_000, "completion_tokens": 100_000}}
    put(Store(store), ASKED, SAID | usage)
    put(Store(store), ASKED | {"n": 1}, SAID)
    put(Store(store), ASKED | {"model": "gpt-4o-mini"}, SAID | usage)
    plan = (
        "verify sends 3 requests again:\n"
        "  gpt-4o  at api.openai.com  2 requests  1,000,000 → 100,000 tokens, ≈ $3.50 (of 1 it is not known)\n"
        "  gpt-4o-mini  at api.openai.com  1 request  1,000,000 → 100,000 tokens, ≈ $0.21\n"
        "When recorded, they took 2,000,000 → 200,000 tokens, ≈ $3.71 (of 1 it is not known).\n"
    )
    assert main(["verify", str(store), "--dry-run"]) == 0
    assert capsys.readouterr().out == plan
    assert main(["verify", str(store), "--dry-run", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["plan"]
    assert [(row["model"], row["requests"], round(row["cost"], 2)) for row in rows] == [
        ("gpt-4o", 2, 3.5),
        ("gpt-4o-mini", 1, 0.21),
    ]
    for typed, asks in (("n\n", False), ("", False), ("y\n", True)):
        monkeypatch.setattr("sys.stdin", Answers(typed))
        monkeypatch.setattr("sys.stderr", screen := Answers())
        assert main(["verify", str(store)]) == 3, "the tests send nothing"
        assert "Go on? [y/N] " in screen.getvalue()
        assert bool(sent) is asks
    sent.clear()
    monkeypatch.setattr("sys.stdin", Answers(""))
    main(["verify", str(store), "--yes"])
    assert len(sent) == 3


def test_nothing_of_a_recording_is_obeyed(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Provider() as provider:
        with nr.session(store, mode="record"), sdk("sync", provider.url) as client:
            client.chat.completions.create(model="test/" + EVIL, messages=said(EVIL))
        put(Store(store), ASKED, SAID, host=EVIL)
        assert main(["verify", str(store), *LOCAL]) == 1
    told = capsys.readouterr()
    for out in told:
        assert not set(out) & UNSAFE
        assert "\\u001b[31mred" in out
