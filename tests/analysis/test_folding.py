"""Every provider's answers and requests fold to the same columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from nbreplay.analysis.frames import RowFrames
from nbreplay.analysis.rows import Row
from nbreplay.core.recording.body import plain_body
from nbreplay.core.recording.stream import Events
from nbreplay.core.request.request import Request
from tests.analysis.making import lib, rows, streamed
from tests.core.making import JSON, json_values, take
from tests.providers.test_answer import odd_values

ARGS = '{"city": "Tokyo"}'
OPENAI: dict[str, Any] = {
    "model": "m",
    "temperature": 0.5,
    "max_tokens": 50,
    "tools": [{"type": "function", "function": {"name": "get_weather"}}],
    "messages": [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "Weather?"}, {"type": "image_url", "image_url": {"url": "x"}}],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c0", "function": {"name": "get_weather", "arguments": ARGS}}],
        },
        {"role": "tool", "tool_call_id": "c0", "content": "18"},
    ],
}
ANTHROPIC: dict[str, Any] = {
    "model": "m",
    "temperature": 0.5,
    "max_tokens": 50,
    "system": [{"type": "text", "text": "Be brief."}],
    "tools": [{"name": "get_weather"}],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "Weather?"}, {"type": "image", "source": {"data": "x"}}]},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "c0", "name": "get_weather", "input": {"city": "Tokyo"}}],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "c0", "content": [{"type": "text", "text": "18"}]}],
        },
    ],
}
RESPONSES: dict[str, Any] = {
    "model": "m",
    "temperature": 0.5,
    "max_output_tokens": 50,
    "instructions": "Be brief.",
    "tools": [{"type": "function", "name": "get_weather"}],
    "input": [
        {
            "role": "user",
            "content": [{"type": "input_text", "text": "Weather?"}, {"type": "input_image", "image_url": "x"}],
        },
        {"type": "function_call", "call_id": "c0", "id": "fc0", "name": "get_weather", "arguments": ARGS},
        {"type": "function_call_output", "call_id": "c0", "output": "18"},
    ],
}
GEMINI: dict[str, Any] = {
    "generationConfig": {"temperature": 0.5, "maxOutputTokens": 50},
    "systemInstruction": {"parts": [{"text": "Be brief."}]},
    "tools": [{"functionDeclarations": [{"name": "get_weather"}]}],
    "contents": [
        {"role": "user", "parts": [{"text": "Weather?"}, {"inlineData": {"mimeType": "image/png", "data": "x"}}]},
        {"role": "model", "parts": [{"functionCall": {"id": "c0", "name": "get_weather", "args": {"city": "Tokyo"}}}]},
        {"role": "user", "parts": [{"functionResponse": {"id": "c0", "name": "get_weather", "response": "18"}}]},
    ],
}
OLLAMA: dict[str, Any] = {
    "model": "m",
    "options": {"temperature": 0.5, "num_predict": 50},
    "tools": [{"type": "function", "function": {"name": "get_weather"}}],
    "messages": [
        {"role": "system", "content": "Be brief.", "images": []},  # as LangChain sends
        {"role": "user", "content": "Weather?", "images": ["x"]},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "c0", "function": {"name": "get_weather", "arguments": {"city": "Tokyo"}}}],
        },
        {"role": "tool", "tool_call_id": "c0", "content": "18"},
    ],
}
BEDROCK: dict[str, Any] = {
    "inferenceConfig": {"temperature": 0.5, "maxTokens": 50},
    "system": [{"text": "Be brief."}],
    "toolConfig": {"tools": [{"toolSpec": {"name": "get_weather"}}]},
    "messages": [
        {"role": "user", "content": [{"text": "Weather?"}, {"image": {"format": "png"}}]},
        {
            "role": "assistant",
            "content": [{"toolUse": {"toolUseId": "c0", "name": "get_weather", "input": {"city": "Tokyo"}}}],
        },
        {"role": "user", "content": [{"toolResult": {"toolUseId": "c0", "content": [{"text": "18"}]}}]},
    ],
}

CALL = {"name": "get_weather", "arguments": ARGS}
USAGE = {"input_tokens": 9, "output_tokens": 4}
OPENAI_USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 4,
    "prompt_tokens_details": {"cached_tokens": 3},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
ITEMS = [
    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Let me see."}]},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "It is clear."}]},
    {"type": "function_call", "call_id": "c1", "id": "fc_1", **CALL},
]
RESPONSES_USAGE = USAGE | {
    "input_tokens_details": {"cached_tokens": 3},
    "output_tokens_details": {"reasoning_tokens": 2},
}


def delta(value: dict[str, Any], finish: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    return {"id": "x", "model": "m-1", "choices": [{"index": index, "delta": value, "finish_reason": finish}], **more}


def piece(index: int, arguments: str, **more: Any) -> dict[str, Any]:
    name = {"name": more.pop("name")} if "name" in more else {}
    return {"tool_calls": [{"index": index, **more, "function": {**name, "arguments": arguments}}]}


ANSWERS: dict[str, tuple[dict[str, Any], Any]] = {
    "openai": (
        OPENAI,
        {
            "model": "m-1",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {
                        "content": "It is clear.",
                        "reasoning_content": "Let me see.",
                        "tool_calls": [{"id": "c1", "type": "function", "function": CALL}],
                    },
                }
            ],
            "usage": OPENAI_USAGE,
        },
    ),
    "openai stream": (
        OPENAI,
        streamed(
            delta({"role": "assistant", "content": ""}),
            delta({"reasoning": "Let me see."}),
            delta({"content": "It is "}, logprobs={"content": [{"token": "It"}]}),
            delta(piece(0, "", id="c1", name="get_weather")),
            delta(piece(0, ARGS[:5])),
            delta({"content": "clear."}),
            delta(piece(0, ARGS[5:])),
            delta({}, "stop"),
            {"choices": [], "model": "m-1", "usage": OPENAI_USAGE},
            "[DONE]",
        ),
    ),
    "anthropic": (
        ANTHROPIC,
        {
            "type": "message",
            "model": "m-1",
            "stop_reason": "stop",
            "usage": USAGE | {"cache_read_input_tokens": 3},
            "content": [
                {"type": "thinking", "thinking": "Let me see."},
                {"type": "text", "text": "It is clear."},
                {"type": "tool_use", "id": "c1", "name": "get_weather", "input": {"city": "Tokyo"}},
            ],
        },
    ),
    "anthropic stream": (
        ANTHROPIC,
        streamed(
            {"type": "message_start", "message": {"model": "m-1", "usage": USAGE | {"cache_read_input_tokens": 3}}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Let me see."}},
            {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "It is clear."}},
            {
                "type": "content_block_start",
                "index": 2,
                "content_block": {"type": "tool_use", "id": "c1", "name": "get_weather", "input": {}},
            },
            {"type": "content_block_delta", "index": 2, "delta": {"partial_json": ARGS[:4]}},
            {"type": "content_block_delta", "index": 2, "delta": {"partial_json": ARGS[4:]}},
            {"type": "message_delta", "delta": {"stop_reason": "stop"}, "usage": {"output_tokens": 4}},
            {"type": "message_stop"},
        ),
    ),
    "responses": (
        RESPONSES,
        {"object": "response", "model": "m-1", "status": "stop", "usage": RESPONSES_USAGE, "output": ITEMS},
    ),
    "responses stream": (
        RESPONSES,
        streamed(
            {"type": "response.created", "response": {"model": "m-1", "status": "in_progress", "output": []}},
            {"type": "response.reasoning_summary_text.delta", "item_id": "r", "delta": "Let me see."},
            {"type": "response.output_text.delta", "item_id": "a", "delta": "It is "},
            {"type": "response.output_text.delta", "item_id": "a", "delta": "clear."},
            {"type": "response.output_item.added", "output_index": 2, "item": {**ITEMS[2], "arguments": ""}},
            {"type": "response.function_call_arguments.delta", "item_id": "fc_1", "delta": ARGS[:6]},
            {"type": "response.function_call_arguments.delta", "item_id": "fc_1", "delta": ARGS[6:]},
            {
                "type": "response.completed",
                "response": {"model": "m-1", "status": "stop", "usage": RESPONSES_USAGE, "output": ITEMS},
            },
        ),
    ),
    "gemini stream": (
        GEMINI,
        streamed(
            {"candidates": [{"content": {"parts": [{"text": "Let me see.", "thought": True}]}}], "modelVersion": "m-1"},
            {"candidates": [{"content": {"parts": [{"text": "It is clear."}]}}], "modelVersion": "m-1"},
            {
                "candidates": [
                    {
                        "content": {
                            "parts": [
                                {"functionCall": {"id": "c1", "name": "get_weather", "args": {"city": "Tokyo"}}},
                            ]
                        },
                        "finishReason": "stop",
                    }
                ],
                "modelVersion": "m-1",
                "usageMetadata": {
                    "promptTokenCount": 9,
                    "candidatesTokenCount": 4,
                    "cachedContentTokenCount": 3,
                    "thoughtsTokenCount": 2,
                },
            },
        ),
    ),
    "ollama stream": (
        OLLAMA,
        streamed(
            {"model": "m-1", "message": {"content": "", "thinking": "Let me see."}, "done": False},
            {"model": "m-1", "message": {"content": "It is clear."}, "done": False},
            {
                "model": "m-1",
                "message": {
                    "content": "",
                    "tool_calls": [{"id": "c1", "function": {"name": "get_weather", "arguments": {"city": "Tokyo"}}}],
                },
                "done": False,
            },
            {
                "model": "m-1",
                "message": {"content": ""},
                "done": True,
                "done_reason": "stop",
                "prompt_eval_count": 9,
                "eval_count": 4,
            },
            framing="ndjson",
        ),
    ),
    "bedrock": (
        BEDROCK,
        {
            "output": {
                "message": {
                    "role": "assistant",
                    "content": [
                        {"reasoningContent": {"reasoningText": {"text": "Let me see."}}},
                        {"text": "It is clear."},
                        {"toolUse": {"toolUseId": "c1", "name": "get_weather", "input": {"city": "Tokyo"}}},
                    ],
                }
            },
            "stopReason": "stop",
            "usage": {"inputTokens": 9, "outputTokens": 4, "cacheReadInputTokens": 3},
        },
    ),
    "bedrock stream": (
        BEDROCK,
        streamed(
            ("messageStart", {"role": "assistant"}),
            ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "Let me see."}}}),
            ("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"text": "It is clear."}}),
            (
                "contentBlockStart",
                {"contentBlockIndex": 2, "start": {"toolUse": {"toolUseId": "c1", "name": "get_weather"}}},
            ),
            ("contentBlockDelta", {"contentBlockIndex": 2, "delta": {"toolUse": {"input": ARGS[:4]}}}),
            ("contentBlockDelta", {"contentBlockIndex": 2, "delta": {"toolUse": {"input": ARGS[4:]}}}),
            ("messageStop", {"stopReason": "stop"}),
            ("metadata", {"usage": {"inputTokens": 9, "outputTokens": 4, "cacheReadInputTokens": 3}}),
            framing="eventstream",
        ),
    ),
    "cohere": (
        OPENAI,
        {
            "id": "x",
            "finish_reason": "stop",
            "message": {
                "role": "assistant",
                "tool_plan": "Let me see.",
                "content": [{"type": "text", "text": "It is clear."}],
                "tool_calls": [{"id": "c1", "type": "function", "function": CALL}],
            },
            "usage": {"billed_units": {"input_tokens": 1}, "tokens": USAGE},
        },
    ),
    "cohere stream": (
        OPENAI,
        streamed(
            {"type": "message-start", "id": "x", "delta": {"message": {"role": "assistant"}}},
            {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "Let me see."}}},
            {"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}},
            {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "It is clear."}}}},
            {
                "type": "tool-call-start",
                "index": 1,
                "delta": {
                    "message": {"tool_calls": {"id": "c1", "function": {"name": "get_weather", "arguments": ""}}}
                },
            },
            {
                "type": "tool-call-delta",
                "index": 1,
                "delta": {"message": {"tool_calls": {"function": {"arguments": ARGS}}}},
            },
            {"type": "message-end", "delta": {"finish_reason": "stop", "usage": {"tokens": USAGE}}},
            "[DONE]",
        ),
    ),
}


@pytest.mark.parametrize("shape", ANSWERS)
def test_every_provider_folds_to_the_same_rows(shape: str, tmp_path: Path) -> None:
    made = lib(tmp_path, ANSWERS[shape])
    (told,) = rows(
        made.interactions,
        *("temperature", "max_tokens", "n_tools", "n_messages", "n_tool_calls", "output_chars", "finish_reason"),
        *("input_tokens", "output_tokens", "stream", "complete", "status"),
    )
    assert told == (0.5, 50, 1, 4, 1, 12, "stop", 9, 4, "stream" in shape, True, 200)
    (cached,) = rows(made.interactions, "cached_tokens", "reasoning_tokens")
    reasoning = 2 if shape.startswith(("openai", "responses", "gemini")) else None
    assert cached == (None if shape.startswith(("ollama", "cohere")) else 3, reasoning)
    assert rows(made.messages, "direction", "role", "content", "content_type", "tool_call_id", "n_tool_calls") == [
        ("input", "system", "Be brief.", "text", None, 0),
        ("input", "user", "Weather?", "text+image", None, 0),
        ("input", "assistant", None, "tool_call", None, 1),
        ("input", "tool", "18", "tool_result", "c0", 0),
        ("output", "assistant", "Let me see.", "reasoning", None, 0),
        ("output", "assistant", "It is clear.", "text+tool_call", None, 1),
    ]
    assert rows(made.tool_calls, "call", "name", "arguments", "arguments_valid", "tool_call_id", "answered") == [
        (0, "get_weather", ARGS, True, "c1", False)
    ]
    pieces = rows(made.chunks, "kind", "text", "tool_index")
    if "stream" in shape:
        assert "".join(text for kind, text, _ in pieces if kind == "text") == "It is clear."
        assert "".join(text for kind, text, _ in pieces if kind == "reasoning") == "Let me see."
        assert "".join(text for kind, text, _ in pieces if kind == "tool_call") == ARGS
        assert {index for kind, _, index in pieces if kind == "tool_call"} == {0}
        (times,) = rows(made.interactions, "duration_s", "ttfc_s", "n_chunks")
        assert times == (pytest.approx(len(pieces) / 100), pytest.approx(0.01), len(pieces))
        (first,) = rows(made.tool_calls, "first_s", "last_s")
        called = [t for kind, t in rows(made.chunks, "kind", "t_s") if kind == "tool_call"]
        assert first == (called[0], called[-1])
        (to_text,) = rows(made.interactions, "ttft_s")
        assert to_text == (next(t for kind, t in rows(made.chunks, "kind", "t_s") if kind == "reasoning"),)
    else:
        assert pieces == []


def test_the_same_prompt_has_one_key_whoever_is_asked(tmp_path: Path) -> None:
    plain = {"messages": [{"role": "user", "content": "Hi"}], "model": "a"}
    answer = {"choices": []}
    others = [
        plain | {"model": "b", "temperature": 1},
        {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]},
        {"input": "Hi", "model": "c"},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}], "model": "d"},
    ]
    made = lib(tmp_path, (plain, answer), *((other, answer) for other in others))
    assert made.interactions.prompt_key.nunique() == 1
    assert made.interactions.key.nunique() == 5
    picture = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a"}}]}
    another = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "b"}}]}
    made = lib(tmp_path / "two", ({"messages": [picture]}, answer), ({"messages": [another]}, answer))
    assert made.interactions.prompt_key.nunique() == 2


def test_parallel_tool_calls_between_text_and_broken_arguments(tmp_path: Path) -> None:
    stream = streamed(
        delta({"content": "a"}),
        delta(piece(0, "", id="x", name="f")),
        delta(piece(1, "", id="y", name="g")),
        delta({"content": "b"}),
        delta(piece(0, '{"n"')),
        delta(piece(1, "{broken")),
        delta(piece(0, ":1}")),
        delta(piece(1, "", id="z", name="h")),  # a server that gives another call a known index
        delta(piece(1, "[1]")),
    )
    made = lib(tmp_path, ({"messages": []}, stream))
    names = ("call", "name", "arguments", "arguments_valid", "tool_call_id", "first_s", "last_s", "answered")
    assert rows(made.tool_calls, *names) == [
        (0, "f", '{"n":1}', True, "x", 0.02, 0.07, False),
        (1, "g", "{broken", False, "y", 0.03, 0.06, False),
        (2, "h", "[1]", False, "z", 0.08, 0.09, False),
    ]
    assert [index for (index,) in rows(made.chunks, "tool_index")] == [None, 0, 1, None, 0, 1, 0, 2, 2]
    assert rows(made.messages, "content", "n_tool_calls") == [("ab", 3)]


def test_several_choices_are_messages_of_their_own(tmp_path: Path) -> None:
    whole = {"choices": [{"index": n, "message": {"content": text}, "finish_reason": f"end{n}"} for n, text in
                         enumerate(["one", "three"])]}  # fmt: skip
    stream = streamed(
        delta({"content": "one"}), delta({"content": "three"}, index=1), delta({"refusal": "No."}, index=1)
    )
    made = lib(tmp_path, ({"n": 2}, whole), ({"n": 2, "stream": True}, stream))
    told = sorted(rows(made.messages, "content", "content_type"))
    assert told == [("one", "text"), ("one", "text"), ("three", "text"), ("threeNo.", "text+refusal")]
    assert sorted(made.interactions.output_chars) == [8, 11]
    assert set(made.interactions.finish_reason.dropna()) == {"end0"}


def test_errors_have_a_type(tmp_path: Path) -> None:
    def answered(n: int, told: Any, **more: Any) -> tuple[Any, ...]:
        return {"n": n}, told, more

    made = lib(
        tmp_path,
        answered(0, {"error": {"type": "rate_limit_error", "message": "slow"}}, status=429),
        answered(1, {"type": "error", "error": {"type": "overloaded_error", "message": "x"}}, status=529),
        answered(2, {"error": {"code": 404, "status": "NOT_FOUND", "message": "x"}}, status=404),
        answered(3, {"message": "no such model"}, status=400),
        answered(4, {}, status=None, error={"type": "ConnectError", "message": "x"}, complete=False, reason="dropped"),
        answered(5, streamed(("exception:throttlingException", {"message": "slow"}), framing="eventstream")),
        answered(6, {"choices": []}),
    )
    told = {row[0]: row[1:] for row in rows(made.interactions, "recorded_at", "error_type", "status", "complete")}
    assert [told[at] for at in sorted(told)] == [
        ("rate_limit_error", 429, True),
        ("overloaded_error", 529, True),
        ("NOT_FOUND", 404, True),
        ("400", 400, True),
        ("ConnectError", None, False),
        ("throttlingException", 200, True),
        (None, 200, True),
    ]


@given(odd_values | json_values, odd_values | json_values)
def test_nothing_that_is_asked_or_answered_is_too_odd(asked: Any, answered: Any) -> None:
    text = json.dumps(answered)
    stream = Events.parse([(0.0, f"data: {text}\n\ndata: {text}\n\n".encode())], "sse", 0.0)
    for body in (plain_body(text.encode(), JSON), stream):
        request = Request("chat", {"method": "POST", "body": asked}, "k1:0")
        frames = RowFrames([Row("k1:0#1", None, request, take(body))])
        assert len(frames.frame("interactions")) == 1
        for name in ("messages", "chunks", "tool_calls"):
            assert set(frames.frame(name).interaction) <= {"k1:0#1"}
