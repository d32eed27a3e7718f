"""How a session, a call, a take and a recording show themselves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nbreplay.core.store.store import Store
from nbreplay.notebook.overview import table
from nbreplay.notebook.status import short_path
from tests.core.making import chat, missed, record, replayed, session

HOSTILE = "<img src=x onerror=alert(1)>\u202e\x1b[31m"


def test_a_session_shows_its_mode_its_store_and_its_last_calls(tmp_path: Path) -> None:
    with session(tmp_path / "store", mode="record") as recorded:
        for number in range(7):
            answer = {"choices": [{"message": {"content": f"{HOSTILE} {number}"}}], "usage": {"prompt_tokens": 3}}
            record(recorded, chat(f"{HOSTILE}?", seed=number, model=HOSTILE), answer)
        shown = recorded._repr_mimebundle_()
    text = shown["text/plain"]
    assert text.startswith("Session\n  mode    record\n")
    assert "  calls   7 recorded\n  tokens  21\n" in text
    assert "\nthe last 5 of 7 calls\n" in text
    assert "1)>\\u202e\\u001b[31m 6" in text
    assert " 1\n" not in text
    assert "<img" not in shown["text/html"]
    assert "&lt;img src=x" in shown["text/html"]
    with session(tmp_path / "store", mode="replay") as again:
        replayed(again, chat(f"{HOSTILE}?", seed=1, model=HOSTILE))
        missed(again, chat("never asked"))
    text = again._repr_mimebundle_()["text/plain"]
    assert "mode     replay; the session has ended" in text
    assert "calls    1 replayed, 1 missing" in text
    assert "saved    " in text
    assert "missing  " in text
    assert "the session has not begun" in session(tmp_path)._repr_mimebundle_()["text/plain"]


def test_a_call_shows_its_card_and_its_repr_is_short(tmp_path: Path) -> None:
    made = session(tmp_path, mode="record")
    record(made, chat(HOSTILE), {"choices": [{"message": {"content": HOSTILE * 100}}]})
    (call,) = made.interactions
    shown = call._repr_mimebundle_()
    assert "REC" in shown["text/html"]
    assert "<img" not in shown["text/html"]
    assert repr(call) == f"Interaction(recorded, 'chat-{call.key[3:11]}', 'gpt-4o')"
    (name,) = Store(tmp_path).names()
    recording = Store(tmp_path).read(name)
    assert recording is not None
    assert repr(recording) == f"Recording('chat', {call.key!r}, 1 take)"
    assert repr(recording.takes[0]).startswith("Take('status 200, api.openai.com, recorded at 20")
    assert len(repr(recording.takes[0])) < 120
    made.log_blocked("example.org", "why")
    assert repr(made.interactions[1]) == "Interaction(blocked, 'example.org')"


def test_numbers_of_a_table_are_to_the_right() -> None:
    part = table(("name", "seconds", "mixed"), [("a", "1.50 s", "1"), ("bb", "20 ms", "x")], "heading")
    assert part.text.split("\n") == ["  name  seconds  mixed", "  a      1.50 s  1", "  bb      20 ms  x"]
    assert part.page.count("text-align:right") == 3
    assert table(("a", "b"), []).text == "  a  b"


def test_a_store_that_is_near_is_named_alike_on_every_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook stores its name."""
    (tmp_path / "project" / "notebooks" / "deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project" / "notebooks" / "deep")
    for home in (tmp_path, tmp_path / "project", Path("/elsewhere")):
        monkeypatch.setenv("HOME", str(home))
        assert short_path(tmp_path / "project" / "recordings") == os.path.join("..", "..", "recordings")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert short_path(tmp_path / "r") == os.path.join("~", "r")
