"""``nbreplay show``: a recording as a conversation, with every take, and which recording a word means."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from nbreplay.cli.main import main
from nbreplay.core.recording.blob import Blob
from nbreplay.core.recording.body import Text
from nbreplay.core.store.store import Store
from tests.analysis.making import put, streamed
from tests.terminals import EVIL, UNSAFE, on_terminal

WEATHER = {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {}, "days": {}}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Tokyo"}'}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + base64.b64encode(b"0" * 3000).decode()}}
ASKED: dict[str, Any] = {
    "model": "gpt-99",
    "temperature": 0.2,
    "response_format": {"type": "json_object"},
    "tools": [{"type": "function", "function": WEATHER}, {"type": "web_search"}],
    "messages": [
        {"role": "system", "content": "You are brief."},
        {"role": "user", "content": [{"type": "text", "text": "Is it warm?"}, IMAGE]},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "18 degrees"},
    ],
}
USAGE = {"prompt_tokens": 1200, "completion_tokens": 46}


def delta(**values: Any) -> dict[str, Any]:
    return {"model": "gpt-99-2024-08-06", "choices": [{"index": 0, "delta": values}]}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)
    return Store("recordings")


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["show", *arguments]) == 0
    return capsys.readouterr().out


def test_a_conversation_is_printed_in_its_order(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    answer = streamed(
        delta(reasoning_content="It is " * 100),
        delta(content="It is "),
        delta(content="warm."),
        delta(tool_calls=[CALL | {"index": 0}]),
        {"choices": [], "usage": USAGE},
        "[DONE]",
    )
    put(store, ASKED, answer, at=1, redacted=1)
    key = put(store, ASKED, {"error": {"message": "Slow down", "type": "rate_limit"}}, at=2, status=429)
    assert (
        shown(capsys, "chat-")
        == f"""\
{store.names()[0]}
{key}

POST chat/completions
  model gpt-99
  temperature 0.2
  response_format {{"type": "json_object"}}
  tools get_weather(city, days), web_search

system
  You are brief.

user
  Is it warm?
  (image/png, 3.0 kB)

assistant
  → get_weather(city="Tokyo")

tool get_weather
  18 degrees

take 1 of 2  recorded 2026-01-01 00:00:01  at api.openai.com  by tests 1.0
  (reasoning) {"It is " * 100}
  It is warm.
  → get_weather(city="Tokyo")
  done · 60 ms · first token 10 ms · 767 tok/s · 1,200 → 46 tokens · 6 chunks · 1 secret removed

take 2 of 2  recorded 2026-01-01 00:00:02  at api.openai.com  by tests 1.0
  Slow down
  error 429 · no timings recorded
"""
    )


def test_a_terminal_folds_lines_and_shortens_what_is_huge(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "word " * 4000
    put(store, {"model": "m", "messages": [{"role": "user", "content": text}]}, streamed(delta(reasoning="why " * 99)))
    for columns in (80, 120):
        _, out = on_terminal(monkeypatch, columns, "show", "chat-")
        assert max(map(cell_len, out.splitlines())) <= columns
        assert "more characters: --full)" in " ".join(out.split())
        assert out.count("word") < 2100
        assert out.count("why") < 80
        _, out = on_terminal(monkeypatch, columns, "show", "chat-", "--full")
        assert (out.count("word"), out.count("why")) == (4000, 99)


def test_what_is_not_a_chat(store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, {"tool": "add", "arguments": {"a": 1, "b": [2]}}, {"return": {"sum": 3}}, kind="tool")
    put(store, {"model": "e", "input": ["a cat"]}, {"data": [{"embedding": [0.5] * 100}]}, kind="embedding")
    put(
        store,
        {"model": "tts", "input": "Hello"},
        Blob.of(b"RIFF" * 500),
        kind="speech",
        headers={"content-type": "a/wav"},
    )
    put(store, {"page": 1}, Text("<html>"), kind="http")
    put(store, {"tool": "fail", "arguments": {}}, {"exception": {"type": "ValueError"}}, kind="tool", at=1)
    put(store, {"model": "m", "prompt": "?"}, {"choices": [{"index": n, "text": f"t{n}"} for n in (0, 1)]}, kind="text")
    tools = [shown(capsys, name) for name in store.names("tool")]
    (added,) = [out for out in tools if "add(a=1, b=[2])" in out]
    assert '"sum": 3' in added
    assert [out for out in tools if "fail()" in out and "ValueError" in out]
    assert shown(capsys, "embedding-").count("0.5") == 100
    _, out = on_terminal(monkeypatch, 80, "show", "embedding-")
    assert "[0.5, 0.5, 0.5, … 100 numbers]" in out
    assert "a/wav, 2.0 kB, in blob-" in shown(capsys, "speech-")
    assert "  page 1\n" in (out := shown(capsys, "http-"))
    assert "  <html>\n" in out
    assert "choice 1\n  t0\n  choice 2\n  t1\n" in shown(capsys, "text-")


def test_chunks_are_printed_as_they_are_stored(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    put(store, ASKED, streamed(delta(content="a"), delta(content="b"), "[DONE]", gap=0.7))
    lines = shown(capsys, "chat-", "--raw").splitlines()
    times = [line.split(" ms ")[0].strip() for line in lines if " ms  " in line]
    assert times == ["700", "1,400", "2,100"]
    assert '"content": "a"' in next(line for line in lines if "700 ms" in line)


def test_a_word_that_means_several_or_none(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(12):
        put(store, ASKED | {"n": number, "messages": [{"role": "user", "content": f"Question {number}?"}]}, {})
    names = sorted(store.names())
    assert main(["show", "chat-"]) == 2
    told = capsys.readouterr().err
    assert "chat- may be any of 12 recordings. Write more of it:" in told
    assert [line.split()[0] for line in told.splitlines()[1:11]] == names[:10]
    assert told.count("gpt-99  Question") == 10
    assert told.endswith("… 2 more\n")
    name = names[0].removesuffix(".json")
    wrong = name[:-2] + ("0" if name[-2] != "0" else "1") + name[-1]
    for word in (wrong, wrong.partition("-")[2]):
        assert main(["show", word]) == 2
        assert f"Did you mean:\n  {names[0]}  gpt-99  Question" in capsys.readouterr().err
    assert main(["show", "zzzzzzzz"]) == 2
    assert capsys.readouterr().err.endswith("nbreplay ls lists the recordings\n")


def test_nothing_of_a_recording_is_obeyed(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = {"type": "function", "function": {"name": EVIL, "parameters": {"properties": {EVIL: {}}}}}
    call = {"id": "c", "function": {"name": EVIL, "arguments": json.dumps({EVIL: EVIL})}}
    messages = [{"role": EVIL, "content": EVIL}, {"role": "assistant", "tool_calls": [call]}]
    asked = {"model": EVIL, EVIL: EVIL, "tools": [tool], "messages": messages}
    answer = {"choices": [{"message": {"content": EVIL, "reasoning": EVIL, "tool_calls": [call]}}], "model": EVIL}
    put(store, asked, answer, host=EVIL)
    put(store, asked, {"error": {"message": EVIL, "type": EVIL}}, status=500, headers={"content-type": EVIL})
    put(store, {"tool": EVIL, "arguments": {EVIL: EVIL}}, {"return": EVIL}, kind="tool")
    put(store, {"page": EVIL}, Blob.of(b"\x00" * 9), kind="http", headers={"content-type": EVIL})
    for name in store.names():
        for more in ([], ["--raw"], ["--full"]):
            outs = shown(capsys, name, *more), on_terminal(monkeypatch, 200, "show", name, *more)[1]
            assert not {sign for out in outs for sign in out} & UNSAFE
            assert all("\\u001b[31mred" in out for out in outs)
            assert all("[bold]" in out for out in outs)
        _, out = on_terminal(monkeypatch, 200, "show", name, "--json")
        assert not set(out) & UNSAFE
        assert json.loads(out) == json.loads(shown(capsys, name, "--json"))
