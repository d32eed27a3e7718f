"""What both sides of a websocket say: in frames, on cards and in what the command line prints."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nbreplay as nr
from nbreplay.cli.main import main
from nbreplay.core.log import Interaction
from nbreplay.core.recording.recording import Recording, file_name
from nbreplay.core.recording.stream import Chunk, Events
from nbreplay.core.recording.take import Take
from nbreplay.core.request.request import Request, key_of
from nbreplay.notebook.card import Timeline, make_cards
from nbreplay.notebook.render import render
from nbreplay.providers.answer import Answer
from tests.core.making import json_values

FIELDS = {"method": "GET", "host": "api.openai.com", "path": "/v1/realtime"}
AUDIO = base64.b64encode(bytes(72_000)).decode()
USAGE = {"input_tokens": 12, "output_tokens": 50, "input_token_details": {"cached_tokens": 4}}


def item(**fields: Any) -> dict[str, Any]:
    return {">": {"type": "conversation.item.create", "item": fields}}


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"<": {"type": kind, **fields}}


OPENAI: list[dict[str, Any]] = [
    event("session.created", session={"model": "gpt-realtime"}),
    {">": {"type": "session.update", "session": {"instructions": "Be brief."}}, "style": "spaced"},
    event("session.updated", session={"model": "gpt-realtime"}),
    item(type="message", role="user", content=[{"type": "input_text", "text": "Is it warm in Rome?"}]),
    {">": {"type": "response.create"}},
    event("response.output_item.added", item={"id": "i1", "type": "function_call", "name": "warmth", "call_id": "c1"}),
    event("response.function_call_arguments.delta", item_id="i1", call_id="c1", delta='{"city":'),
    event("response.function_call_arguments.delta", item_id="i1", call_id="c1", delta='"Rome"}'),
    event("response.function_call_arguments.done", item_id="i1", call_id="c1", arguments='{"city":"Rome"}'),
    event("response.done", response={"status": "completed", "usage": USAGE}),
    item(type="function_call_output", call_id="c1", output="28 degrees"),
    {">": {"type": "response.create"}},
    event("response.output_audio_transcript.delta", item_id="i2", delta="Yes, "),
    event("response.output_audio.delta", item_id="i2", delta=AUDIO),
    event("response.output_audio_transcript.delta", item_id="i2", delta="<b>28</b> degrees."),
    event("response.output_audio.done", item_id="i2"),
    event("response.output_audio_transcript.done", item_id="i2", transcript="Yes, <b>28</b> degrees."),
    event("response.done", response={"status": "completed", "usage": USAGE}),
    {">": {"type": "input_audio_buffer.append", "audio": AUDIO}},
    event("input_audio_buffer.committed", item_id="i3"),
    event("conversation.item.input_audio_transcription.completed", item_id="i3", transcript=" Thanks!"),
    {"close": {"code": 1000, "reason": "", "by": "client"}},
]
GEMINI: list[dict[str, Any]] = [
    {">": {"setup": {"model": "models/gemini-live", "systemInstruction": {"parts": [{"text": "Be brief."}]}}}},
    {"<": {"setupComplete": {}}},
    {">": {"client_content": {"turns": [{"role": "user", "parts": [{"text": "Is it warm in Rome?"}]}]}}},
    {"<": {"toolCall": {"functionCalls": [{"name": "warmth", "args": {"city": "Rome"}, "id": "c1"}]}}},
    {">": {"tool_response": {"functionResponses": [{"id": "c1", "response": {"output": "28 degrees"}}]}}},
    {"<": {"serverContent": {"outputTranscription": {"text": "Yes, "}}}},
    {
        "<": {
            "serverContent": {
                "modelTurn": {"parts": [{"inlineData": {"mimeType": "audio/pcm;rate=24000", "data": AUDIO}}]}
            }
        }
    },
    {"<": {"serverContent": {"outputTranscription": {"text": "<b>28</b> degrees."}}}},
    {
        "<": {
            "serverContent": {"turnComplete": True},
            "usageMetadata": {"promptTokenCount": 24, "responseTokenCount": 100},
        }
    },
    {">": {"realtimeInput": {"audio": {"mimeType": "audio/pcm;rate=24000", "data": AUDIO}}}},
    {"<": {"serverContent": {"inputTranscription": {"text": " Thanks!"}}}},
    {"close": {"code": 1000, "reason": "", "by": "client"}},
]
SAID = [
    ("system", "Be brief."),
    ("user", "Is it warm in Rome?"),
    ("assistant", ""),  # the tool call
    ("tool", "28 degrees"),
    ("assistant", "Yes, <b>28</b> degrees."),
    ("assistant", ""),  # the audio
    ("user", ""),
    ("user", " Thanks!"),
]


def take(lines: list[dict[str, Any]], *, timed: bool = True) -> Take:
    chunks = tuple(Chunk(100 if timed else 0, line) for line in lines)
    extra = {} if timed else {"timed": False}
    return Take(host="api.openai.com", body=Events(chunks, "ndjson"), status=101, extra=extra)


def write(store: Path, *takes: Take, fields: dict[str, Any] = FIELDS) -> str:
    key = key_of("websocket", fields)
    store.mkdir(exist_ok=True)
    name = file_name("websocket", key)
    (store / name).write_bytes(Recording(key, "websocket", fields, takes).data())
    return name


def call(lines: list[dict[str, Any]], **given: Any) -> Interaction:
    request = Request("websocket", FIELDS, key_of("websocket", FIELDS))
    return Interaction(request, take(lines, **given), "replayed", host="api.openai.com")


@pytest.mark.parametrize("lines", [OPENAI, GEMINI], ids=["openai", "gemini"])
def test_frames(lines: list[dict[str, Any]], tmp_path: Path) -> None:
    write(tmp_path / "store", take(lines))
    lib = nr.load(tmp_path / "store")
    (row,) = lib.interactions.itertuples()
    assert (row.kind, row.prompt, row.answer) == ("websocket", " Thanks!", "Yes, <b>28</b> degrees.")
    assert row.model in ("gpt-realtime", "gemini-live")
    assert (row.input_tokens, row.output_tokens, row.n_messages, row.n_tool_calls) == (24, 100, 5, 1)
    assert row.n_chunks == len(lines)
    assert row.duration_s == pytest.approx(len(lines) / 10)
    assert lib.interactions[["ttft_s", "cost_usd"]].isna().all(axis=None)
    messages = lib.messages
    assert [(one.role, one.content if isinstance(one.content, str) else "") for one in messages.itertuples()] == SAID
    assert list(messages.direction) == ["input"] * 2 + ["output", "input"] + ["output"] * 2 + ["input"] * 2
    assert messages.content_type[5] == messages.content_type[6] == "audio"
    chunks = lib.chunks
    assert chunks.t_s.tolist() == pytest.approx([number / 10 for number in range(1, len(lines) + 1)])
    assert {"sent", "received", "system", "user", "text", "tool_call", "finish"} <= set(chunks.kind)
    (tool,) = lib.tool_calls.itertuples()
    assert (tool.name, json.loads(tool.arguments), tool.result, tool.answered) == (
        "warmth",
        {"city": "Rome"},
        "28 degrees",
        True,
    )
    assert tool.result_interaction == tool.interaction


@pytest.mark.parametrize("lines", [OPENAI, GEMINI], ids=["openai", "gemini"])
def test_card(lines: list[dict[str, Any]]) -> None:
    (card,) = make_cards([call(lines)])
    texts = render(card)
    text = texts["text/plain"]
    assert text.splitlines()[0] == f"{card.title} · done · {len(lines) / 10:.2f} s · {len(lines) - 1} messages"
    assert [line.strip() for line in text.splitlines()[1:-1]] == [
        "[instructions] Be brief.",
        "asked: Is it warm in Rome?",
        '▸ warmth(city="Rome")  ok',
        "→ 28 degrees",
        "Yes, <b>28</b> degrees.",
        "(1.5 s of audio, 72,000 bytes)",
        "asked: (1.5 s of audio, 72,000 bytes)",
        "asked: Thanks!",
    ]
    assert "<b>28" not in texts["text/html"]
    assert "Yes, &lt;b&gt;28&lt;/b&gt; degrees." in texts["text/html"]
    assert AUDIO[:100] not in json.dumps(card.state())
    if lines is OPENAI:
        assert len(card.raw) == len(lines)
        assert f'"delta": "AAAAAAAAAAAAAAAA… ({len(AUDIO):,} characters)"' in card.raw[13]
    assert card.until_ms == 100 * len(lines)  # it plays, each turn at its time
    early = [(track.kind, track.text) for track in card.tracks_at(700)]
    assert early[:2] == [("system", "Be brief."), ("user", "Is it warm in Rome?")]
    assert all(track.when for track in card.tracks)
    results = [
        [track.result for track in card.tracks_at(at) if track.kind == "tool_call"] for at in range(0, 1200, 100)
    ]
    assert results.count([None]) > 0  # for some time the call waits for its result
    assert [one.text for one in results[-1] if one] == ["28 degrees"]


def test_a_card_that_grows_equals_the_card_of_the_take() -> None:
    growing, at = Timeline(), 0
    for line in OPENAI:
        at += 100
        growing.feed(at, line)
    whole = make_cards([call(OPENAI)])
    assert make_cards([call(OPENAI)], [growing])[0].state() == whole[0].state()


def test_a_card_without_times() -> None:
    (card,) = make_cards([call(OPENAI, timed=False)])
    assert "no timings recorded" in card.facts
    assert not any(track.when for track in card.tracks)
    assert not card.entries


def test_messages_of_an_unknown_service_are_shown_as_they_are() -> None:
    lines: list[dict[str, Any]] = [{">text": "hello"}, {"<base64": AUDIO}, {"<": {"type": "response_1", "x": [1]}}]
    (card,) = make_cards([call(lines)])
    texts = [(track.kind, track.text) for track in card.tracks]
    assert texts == [
        ("sent", "hello"),
        ("received", "(72,000 bytes)"),
        ("received", '{"type": "response_1", "x": [1]}'),
    ]
    assert "→ hello\n  ← (72,000 bytes)" in render(card)["text/plain"]
    many = make_cards([call([{">text": str(number)} for number in range(1_000)])])[0]
    assert (len(many.tracks), many.foot[0]) == (100, "900 more messages not shown")
    answer = Answer(take([{">text": str(number)} for number in range(1_000)]).body)
    assert [message.content for _, message in answer.messages()] == [str(number) for number in range(1_000)]


def test_a_session_that_ends_with_an_error(tmp_path: Path) -> None:
    error = event("error", error={"type": "invalid_request_error", "message": "no such voice"})
    write(tmp_path / "store", take([*OPENAI[:3], {"close": {"code": 1011, "reason": "down", "by": "server"}}]))
    write(tmp_path / "other", take([*OPENAI[:3], error]))
    (row,) = nr.load(tmp_path / "store").interactions.itertuples()
    assert row.error_type == "closed 1011"
    (card,) = make_cards([call([*OPENAI[:3], {"close": {"code": 1011, "reason": "down", "by": "server"}}])])
    assert (card.facts[0], card.error) == ("failed", "closed by the server (1011): down")
    (row,) = nr.load(tmp_path / "other").interactions.itertuples()
    assert row.error_type == "invalid_request_error"


def test_a_responses_websocket() -> None:
    asked = {"type": "response.create", "model": "gpt-5", "input": [{"role": "user", "content": "Hi"}]}
    done = {"model": "gpt-5", "status": "completed", "usage": {"input_tokens": 3, "output_tokens": 2}}
    lines = [
        {">": asked},
        event("response.output_text.delta", item_id="m1", delta="Hel"),
        event("response.output_text.delta", item_id="m1", delta="lo"),
        event("response.completed", response=done),
        {">": {**asked, "previous_response_id": "r1"}},
        event("response.output_text.delta", item_id="m2", delta="Again"),
        event("response.completed", response=done),
    ]
    answer = Answer(take(lines).body)
    assert [(sent, one.role, one.content) for sent, one in answer.messages()] == [
        (True, "user", "Hi"),
        (False, "assistant", "Hello"),
        (True, "user", "Hi"),
        (False, "assistant", "Again"),
    ]
    assert answer.text() == "Hello\nAgain"
    assert (answer.reader.model, answer.reader.tokens) == ("gpt-5", {"input": 6, "output": 4})


TYPES = [
    *("session.update", "session.created", "conversation.item.create", "response.create", "response.done", "error"),
    *("response.output_text.delta", "response.output_audio.delta", "response.output_audio.done"),
    *("response.output_item.added", "response.function_call_arguments.done", "input_audio_buffer.append"),
    *("conversation.item.input_audio_transcription.completed", "response.completed"),
]
NAMES = [
    *("session", "item", "response", "delta", "audio", "item_id", "call_id", "arguments", "usage", "status_details"),
    *("setup", "serverContent", "toolCall", "client_content", "realtimeInput", "tool_response", "usageMetadata"),
]
MESSAGES = st.tuples(st.sampled_from(TYPES), st.dictionaries(st.sampled_from(NAMES), json_values, max_size=4))


@given(st.lists(st.tuples(st.sampled_from("<>"), MESSAGES | json_values), max_size=8), json_values)
def test_any_message_of_a_stranger_is_shown(sent: list[Any], close: Any) -> None:
    lines = [{sign: {"type": m[0], **m[1]} if isinstance(m, tuple) else m} for sign, m in sent]
    lines.append({"close": {"by": "server", "code": close, "reason": close}})
    (card,) = make_cards([call(lines)])
    assert render(card)["text/html"]
    assert json.dumps(card.state())
    for _, message in Answer(take(lines).body).messages():
        assert isinstance(message.content, str)


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "store"
    changed = json.loads(json.dumps(OPENAI).replace("warm in Rome", "cold in Oslo"))
    name = write(store, take(OPENAI))
    other = write(store, take(changed), fields={**FIELDS, "host": "api.example.com"})
    assert main(["ls", str(store)]) == 0
    assert "gpt-realtime" in capsys.readouterr().out
    assert main(["show", name.removesuffix(".json"), "--store", str(store)]) == 0
    shown = capsys.readouterr().out
    assert "GET api.openai.com/v1/realtime" in shown
    assert Request("websocket", {**FIELDS, "query": [["model", "gpt-live"]]}, "").model == "gpt-live"
    assert 'user  0.40 s\n  Is it warm in Rome?\n\nassistant  0.60 s\n  → warmth(city="Rome")' in shown
    assert "Yes, <b>28</b> degrees.\n  (1.5 s of audio, 72,000 bytes)" in shown
    assert main(["show", name.removesuffix(".json"), "--store", str(store), "--raw"]) == 0
    assert '"<": {"type": "session.created"' in capsys.readouterr().out
    assert main(["diff", name.removesuffix(".json"), other.removesuffix(".json"), "--store", str(store)]) == 1
    assert "user: Is it [-warm-] in [-Rome-]?" in capsys.readouterr().out
    assert main(["verify", str(store), "--dry-run"]) == 3
    assert "a websocket is not asked again" in "".join(capsys.readouterr())
    assert main(["check", str(store)]) == 0
