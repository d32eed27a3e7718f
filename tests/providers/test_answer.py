"""What an answer says, whoever gave it and whether or not it was streamed."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbreplay.core.recording.blob import Blob
from nbreplay.core.recording.body import Text, plain_body
from nbreplay.core.recording.stream import Chunk, Events
from nbreplay.core.recording.take import Take
from nbreplay.core.request.request import last_user_text, text_of
from nbreplay.providers.answer import Answer as Builder
from tests.core.making import JSON, call, chat, json_values, request, take


class ToolCall(NamedTuple):
    name: str
    arguments: str
    id: str = ""


class Answer(NamedTuple):
    """What an answer says, in values that can be compared."""

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    model: str = ""
    finish_reason: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    error: str = ""


def fold(take: Take) -> Answer:
    answer = Builder(take.body)
    calls = [call for call in answer.calls.values() if call.choice == 0]
    return Answer(
        answer.visible_text(),
        answer.text("reasoning"),
        tuple(ToolCall(call.name, "".join(call.arguments), call.id) for call in calls),
        answer.reader.model,
        answer.reader.finish,
        answer.reader.tokens.get("input"),
        answer.reader.tokens.get("output"),
        answer.reader.error,
    )


def folded(*values: Any, stream: str | None = None) -> Answer:
    """Fold a plain answer, or one streamed as ``sse`` or ``ndjson``."""
    if stream is None:
        return fold(take(plain_body(json.dumps(values[0]).encode(), JSON)))
    shape = "data: {}\n\n" if stream == "sse" else "{}\n"
    data = "".join(shape.format(v if isinstance(v, str) else json.dumps(v, separators=(",", ":"))) for v in values)
    return fold(take(Events.parse([(0.0, data.encode())], stream, 0.0)))


WEATHER = '{"city": "Tokyo"}'
CHUNK = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m-1"}


def chunk(delta: dict[str, Any], finish: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    return {**CHUNK, "choices": [{"index": index, "delta": delta, "finish_reason": finish}], **more}


EXPECTED = Answer("Tokyo is clear.", "Let me see.", (ToolCall("get_weather", WEATHER, "call_1"),), "m-1", "stop", 9, 4)

IN_OUT = {"input_tokens": 9, "output_tokens": 4}
FUNCTION = {"name": "get_weather", "arguments": WEATHER}
ARGS = {"name": "get_weather", "args": {"city": "Tokyo"}}
ITEMS = [
    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Let me see."}]},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Tokyo is clear."}]},
    {"type": "function_call", "call_id": "call_1", "id": "fc_1", **FUNCTION},
]


def block(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def block_delta(index: int, **delta: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": delta}


def candidate(*parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"role": "model", "parts": list(parts)}, **more}], "modelVersion": "m-1"}


def line(**message: Any) -> dict[str, Any]:
    return {"model": "m-1", "message": {"role": "assistant", **message}, "done": False}


COUNTED = {"usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 4}}
ANSWERS: dict[str, Answer] = {
    "chat": folded(
        {
            "model": "m-1",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {
                        "role": "assistant",
                        "content": "Tokyo is clear.",
                        "reasoning_content": "Let me see.",
                        "tool_calls": [{"id": "call_1", "type": "function", "function": FUNCTION}],
                    },
                },
                {"index": 1, "finish_reason": "length", "message": {"role": "assistant", "content": "Another choice"}},
            ],
            "usage": {"prompt_tokens": 9, "completion_tokens": 4},
        }
    ),
    "chat stream": folded(
        chunk({"role": "assistant", "content": ""}),
        chunk({"reasoning_content": "Let me "}),
        chunk({"reasoning_content": "see."}),
        chunk({"content": "Tokyo "}),
        chunk({"content": "No."}, index=1),
        chunk({"content": "is clear."}),
        chunk({"tool_calls": [{"index": 0, "id": "call_1", "function": {"name": "get_weather", "arguments": ""}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": WEATHER[:5]}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": WEATHER[5:]}}]}),
        chunk({}, "stop"),
        {**CHUNK, "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 4}},
        "[DONE]",
        stream="sse",
    ),
    "responses": folded({"object": "response", "model": "m-1", "status": "stop", "usage": IN_OUT, "output": ITEMS}),
    "responses stream": folded(
        {"type": "response.created", "response": {"model": "m-1", "status": "in_progress", "output": []}},
        {"type": "response.output_text.delta", "delta": "Tokyo "},
        {"type": "response.output_text.delta", "delta": "is clear."},
        {
            "type": "response.completed",
            "response": {"model": "m-1", "status": "stop", "usage": IN_OUT, "output": ITEMS},
        },
        stream="sse",
    ),
    "anthropic": folded(
        {
            "type": "message",
            "model": "m-1",
            "stop_reason": "stop",
            "usage": IN_OUT,
            "content": [
                {"type": "thinking", "thinking": "Let me see."},
                {"type": "text", "text": "Tokyo is clear."},
                {"type": "tool_use", "id": "call_1", "name": "get_weather", "input": {"city": "Tokyo"}},
            ],
        }
    ),
    "anthropic stream": folded(
        {"type": "message_start", "message": {"type": "message", "model": "m-1", "content": [], "usage": {**IN_OUT}}},
        block(0, type="thinking", thinking=""),
        block_delta(0, type="thinking_delta", thinking="Let me see."),
        block(1, type="text", text=""),
        block_delta(1, type="text_delta", text="Tokyo "),
        block_delta(1, type="text_delta", text="is clear."),
        block(2, type="tool_use", id="call_1", name="get_weather", input={}),
        block_delta(2, type="input_json_delta", partial_json=WEATHER[:6]),
        block_delta(2, type="input_json_delta", partial_json=WEATHER[6:]),
        {"type": "message_delta", "delta": {"stop_reason": "stop"}, "usage": {"output_tokens": 4}},
        {"type": "message_stop"},
        stream="sse",
    ),
    "gemini": folded(
        candidate(
            {"text": "Let me see.", "thought": True},
            {"text": "Tokyo is clear."},
            {"functionCall": {"id": "call_1", **ARGS}},
            finishReason="stop",
        )
        | COUNTED
    ),
    "gemini stream": folded(
        candidate({"text": "Let me see.", "thought": True}),
        candidate({"text": "Tokyo "}),
        candidate({"text": "is clear."}),
        candidate({"functionCall": {"id": "call_1", **ARGS}}, finishReason="stop") | COUNTED,
        stream="sse",
    ),
    "ollama stream": folded(
        line(content="", thinking="Let me see."),
        line(content="Tokyo "),
        line(
            content="is clear.",
            tool_calls=[{"id": "call_1", "function": {"name": "get_weather", "arguments": {"city": "Tokyo"}}}],
        ),
        line(content="") | {"done": True, "done_reason": "stop", "prompt_eval_count": 9, "eval_count": 4},
        stream="ndjson",
    ),
}


@pytest.mark.parametrize("shape", ANSWERS)
def test_every_provider_says_the_same(shape: str) -> None:
    answer = ANSWERS[shape]
    assert (answer.text, answer.reasoning, answer.tool_calls, answer.error) == (
        EXPECTED.text,
        EXPECTED.reasoning,
        EXPECTED.tool_calls,
        "",
    )
    assert (answer.model, answer.input_tokens, answer.output_tokens) == ("m-1", 9, 4)


@pytest.mark.parametrize("shape", ANSWERS)
def test_every_provider_says_why_it_finished(shape: str) -> None:
    assert ANSWERS[shape].finish_reason == "stop"


def test_several_tool_calls_are_kept_apart() -> None:
    def piece(index: int, arguments: str, **more: Any) -> dict[str, Any]:
        name = {"name": more.pop("name")} if "name" in more else {}
        return chunk({"tool_calls": [{"index": index, **more, "function": {**name, "arguments": arguments}}]})

    answer = folded(
        piece(0, "", id="a", name="f"),
        piece(1, "", id="b", name="g"),
        piece(0, '{"x"'),
        piece(1, "{}"),
        piece(0, ":1}"),
        stream="sse",
    )
    assert answer.tool_calls == (ToolCall("f", '{"x":1}', "a"), ToolCall("g", "{}", "b"))


def test_tool_calls_that_come_whole_one_after_another_are_kept_apart() -> None:
    calls = [
        {"message": {"content": "", "tool_calls": [{"function": {"name": name, "arguments": {"x": 1}}}]}}
        for name in "fg"
    ]
    assert folded(*calls, stream="ndjson").tool_calls == (ToolCall("f", '{"x": 1}'), ToolCall("g", '{"x": 1}'))


def test_a_legacy_completion_has_its_text() -> None:
    assert folded({"model": "m", "choices": [{"index": 0, "text": "Tokyo", "finish_reason": "length"}]}).text == "Tokyo"
    assert (
        folded({"choices": [{"index": 0, "text": "To"}]}, {"choices": [{"index": 0, "text": "kyo"}]}, stream="sse").text
        == "Tokyo"
    )


def test_a_refusal_is_text_and_an_error_is_none() -> None:
    assert folded({"choices": [{"index": 0, "message": {"content": None, "refusal": "No."}}]}).text == "No."
    assert folded({"error": {"message": "Rate limit", "type": "x"}}) == Answer(error="Rate limit")
    assert folded({"error": "model not found"}).error == "model not found"
    assert (
        folded({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}).error == "Overloaded"
    )
    assert folded(chunk({"content": "To"}), {"error": {"message": "gone"}}, stream="sse").error == "gone"


def test_a_stream_that_was_cut_says_what_came() -> None:
    assert folded({"type": "response.output_text.delta", "delta": "Tok"}, stream="sse").text == "Tok"
    assert folded(chunk({"content": "Tok"}), '{"choices":[{"ind', stream="sse").text == "Tok"


def test_tokens_that_nobody_counted_are_none() -> None:
    answer = folded(chunk({"content": "x"}, usage=None), stream="sse")
    assert (answer.input_tokens, answer.output_tokens) == (None, None)
    assert folded({"usage": {"prompt_tokens": 3, "total_tokens": 3}, "data": []}).input_tokens == 3


@given(json_values)
def test_nothing_that_a_server_may_answer_is_too_odd(value: Any) -> None:
    assert isinstance(folded(value), Answer)
    assert isinstance(folded(value, value, stream="sse"), Answer)


@pytest.mark.parametrize("index", [None, [], {}, "0", 0.5])
def test_an_index_may_be_anything(index: Any) -> None:
    call = {"index": index, "id": "a", "function": {"name": "f", "arguments": "{}"}}
    assert folded(chunk({"tool_calls": [call]}), stream="sse").tool_calls == (ToolCall("f", "{}", "a"),)
    block = {"type": "tool_use", "id": "a", "name": "f", "input": {}}
    answer = folded(
        {"type": "content_block_start", "index": index, "content_block": block},
        {"type": "content_block_delta", "index": index, "delta": {"partial_json": "{}"}},
        stream="sse",
    )
    assert [item.name for item in answer.tool_calls] == ["f"]


_NAMES = st.sampled_from(
    [
        "choices",
        "delta",
        "message",
        "content",
        "text",
        "tool_calls",
        "function",
        "name",
        "arguments",
        "index",
        "usage",
        "type",
        "response",
        "output",
        "item",
        "error",
        "candidates",
        "parts",
        "functionCall",
        "content_block",
        "partial_json",
        "status",
        "messages",
        "input",
        "system",
        "contents",
        "tools",
        "role",
        "id",
        "tool_call_id",
        "toolUse",
        "toolResult",
        "functionResponse",
        "start",
        "outputs",
        "bytes",
        "thinking",
        "summary",
        "item_id",
    ]
)
_TYPES = st.sampled_from(
    [
        "message",
        "message_start",
        "content_block_start",
        "response.completed",
        "function_call",
        "tool_use",
        "text",
        "response",
        "tool_result",
        "function_call_output",
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "reasoning",
    ]
)


odd_values = st.recursive(
    st.none() | st.integers() | _TYPES,
    lambda inner: st.lists(inner) | st.dictionaries(_NAMES, inner),
    max_leaves=25,
)


@given(odd_values)
def test_nothing_that_looks_like_an_answer_is_too_odd(value: Any) -> None:
    assert isinstance(folded(value), Answer)
    assert isinstance(folded(value, value, stream="sse"), Answer)
    if isinstance(value, dict):
        assert isinstance(last_user_text({"body": value}), str)


def test_text_and_binary_say_nothing() -> None:
    assert fold(take(plain_body(b"hello", "text/plain"))) == Answer()
    assert fold(take(plain_body(b"\xff\x00", "audio/mpeg"))) == Answer()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            {
                "messages": [
                    {"role": "user", "content": "one"},
                    {"role": "assistant", "content": "x"},
                    {"role": "user", "content": "two"},
                ]
            },
            "two",
        ),
        ({"messages": [{"role": "user", "content": "one"}, {"role": "tool", "content": "18"}]}, "one"),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "a"},
                            {"type": "image_url"},
                            {"type": "text", "text": "b"},
                        ],
                    }
                ]
            },
            "ab",
        ),
        ({"input": "hello"}, "hello"),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "hello"}]}]}, "hello"),
        ({"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}, "hello"),
        ({"contents": [{"parts": [{"text": "hello"}]}]}, "hello"),
        ({"prompt": "once upon"}, "once upon"),
        ({"input": ["a", "b"]}, "b"),
        (
            {"input": [{"type": "input_text", "text": "hello"}, {"type": "reasoning", "content": [{"text": "hm"}]}]},
            "hello",
        ),
        ({"content": {"parts": [{"text": "hello"}]}}, "hello"),
        ({"requests": [{"content": {"parts": [{"text": "hello"}]}}]}, "hello"),
        ({"documents": ["Tokyo is large."], "query": "Which is large?"}, "Which is large?"),
        ({"documents": ["Tokyo is large."]}, "Tokyo is large."),
        ({"messages": [{"role": "system", "content": "be nice"}]}, ""),
        ({}, ""),
        ([], ""),
    ],
)
def test_what_a_user_said_last(body: Any, said: str) -> None:
    assert last_user_text(request(call(body)).fields) == last_user_text({"body": body}) == said


def test_text_of_a_message() -> None:
    assert text_of("a") == text_of([{"type": "text", "text": "a"}]) == "a"
    assert text_of(None) == text_of([]) == text_of([None, "x"]) == ""
    assert last_user_text(request(chat("hi")).fields) == "hi"


def test_json_that_is_kept_as_text_or_in_a_file_of_its_own_is_read_as_json() -> None:
    said = b'{"choices" :[{"message":\t{"content": "Tokyo"}}],\n\n"usage":{"prompt_tokens":7}}'
    odd = plain_body(said, JSON)
    assert isinstance(odd, Text)
    large = plain_body(b'{"padding": "' + b"x" * (1 << 20) + b'", ' + said[1:], JSON)
    assert isinstance(large, Blob)
    for body in (odd, large):
        assert (fold(take(body)).text, fold(take(body)).input_tokens) == ("Tokyo", 7)
    assert fold(take(Text('{"broken'))) == fold(take(Blob.of(b"{broken"))) == fold(take(Text("[1]"))) == Answer()
    assert fold(take(Blob("blob-" + "0" * 32 + ".bin", 9, path="there is none"))) == Answer()


@pytest.mark.parametrize("shared", [chunk({"content": "x"}), block_delta(0, type="text_delta", text="x")])
def test_chunks_that_are_all_alike_are_each_of_them_said(shared: dict[str, Any]) -> None:
    assert folded(shared, shared, shared, shared, stream="sse").text == "xxxx"
    # As a file may hold them, whoever wrote it.
    assert fold(take(Events((Chunk(1, {}),) * 4, fields=tuple(shared), common=shared))).text == "xxxx"
