"""Summaries of a request and of an answer: their values in the frame of interactions, whichever provider's they are.

`nbreplay.analysis.plain_chat` makes them at a fraction of the cost for chats as most are. Imports no pandas.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import msgspec
from pydantic_core import to_json

from nbreplay.core.recording.blob import Blob
from nbreplay.core.recording.body import Text
from nbreplay.core.recording.json_text import dicts
from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.take import Take
from nbreplay.core.request.request import Request, last_user_text
from nbreplay.providers.answer import Answer
from nbreplay.providers.deltas import values
from nbreplay.providers.messages import Message, canonical, prompt_key
from nbreplay.providers.tool_links import tool_error, tool_result

MAX_TOKENS = (
    *("max_tokens", "max_completion_tokens", "max_output_tokens", "max_tokens_to_sample"),
    *("maxOutputTokens", "maxTokens", "num_predict"),
)
SETTINGS = ("generationConfig", "generation_config", "inferenceConfig", "options")
"""The objects in a body that hold settings, too."""
TOOLS = ("tools", "functions", "toolConfig")
# Fields that differ between answers that say the same.
_PASSING = frozenset(("id", "created", "created_at", "completed_at", "system_fingerprint", "usage", "request_id"))


class RequestSummary(msgspec.Struct, frozen=True, gc=False):
    """What a request asks; the columns of these names say more."""

    model: str | None = None
    tool: str | None = None
    prompt: str | None = None
    stream: bool | None = None  # whether a stream was requested
    temperature: float | None = None
    max_tokens: int | None = None
    n_tools: int = 0
    n_messages: int = 0
    prompt_key: str | None = None


class AnswerSummary(msgspec.Struct, frozen=True, gc=False):
    """What an answer says; the columns of these names say more."""

    text: str | None = None
    model: str | None = None
    finish_reason: str | None = None
    error_type: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    n_tool_calls: int = 0
    output_chars: int = 0
    key: str | None = None
    duration_s: float | None = None
    stream: bool | None = None
    n_chunks: int | None = None
    ttfc_s: float | None = None
    ttft_s: float | None = None


def summarise_request(request: Request | None, messages: Sequence[Message], model: str = "") -> RequestSummary:
    """Return the summary of a request, given the messages in it.

    `model` is the one that the messages of a websocket name; its request does not.
    """
    if request is None:
        return RequestSummary()
    if request.kind == "tool":
        return RequestSummary(tool=request.model, prompt=json.dumps(request.body, ensure_ascii=False))
    body = request.body if isinstance(request.body, dict) else {}
    stream = body.get("stream")
    holders = [body, *dicts([body[name] for name in SETTINGS if name in body])]
    if request.kind == "websocket":
        prompt = next((one.content for one in reversed(messages) if one.role == "user" and one.content), None)
    else:
        prompt = last_user_text(request.fields) or None
    return RequestSummary(
        request.model or model or None,
        prompt=prompt,
        stream=stream if isinstance(stream, bool) else None,
        temperature=_setting(holders, "temperature"),
        max_tokens=limit_of(_setting(holders, *MAX_TOKENS)),
        n_tools=_count_tools(body),
        n_messages=len(messages),
        prompt_key=prompt_key(messages),
    )


def _setting(holders: Sequence[dict[str, Any]], *names: str) -> float | None:
    """Return the first of these settings that one of the objects has."""
    for holder in holders:
        for name in names:
            if name in holder and type(holder[name]) in (int, float):
                number: float = holder[name]
                return number
    return None


def limit_of(limit: float | None) -> int | None:
    """Return a limit of tokens, where 64 bits hold it."""
    return int(limit) if limit is not None and abs(limit) < 2**63 else None


def _count_tools(body: dict[str, Any]) -> int:
    config = body.get("toolConfig")
    tools = dicts(body.get("tools")) + dicts(body.get("functions"))
    tools += dicts(config.get("tools")) if isinstance(config, dict) else []
    declared = [tool.get("functionDeclarations", tool.get("function_declarations")) for tool in tools]
    return sum(len(inner) if isinstance(inner, list) else 1 for inner in declared)


def summarise_answer(kind: str | None, take: Take | None, answer: Answer) -> AnswerSummary:
    """Return the summary of the answer to a request of a kind; `answer` is empty for a tool."""
    if take is None:
        return AnswerSummary()
    reader, tokens, is_tool = answer.reader, answer.reader.tokens, kind == "tool"
    error_type = (tool_error(take) if is_tool else None) or failure_of(take)
    if take.error is None and (reader.error_type or reader.error):
        error_type = reader.error_type or error_type or "error"
    said = [(choice, "".join(pieces), at) for (at, choice), pieces in answer.texts.items() if at != "reasoning"]
    lines = dict[int, str]()
    for choice, text, _ in said:
        lines[choice] = lines.get(choice, "") + text
    texts: Any = [[at, choice, text] for choice, text, at in said]
    if kind == "websocket":  # what the client said differs as well, since the answers depend on it
        texts = [[turn.kind, "".join(turn.parts)] for turn in answer.turns.values()]
    calls = [[call.choice, call.name, canonical("".join(call.arguments))] for call in answer.calls.values()]
    if not texts and not calls and error_type is None:
        texts = _data(take)
    first_s = first_ms = None
    if isinstance(take.body, Events) and take.body.chunks and take.timed:
        first_s = take.body.chunks[0].gap_ms / 1000
        # A websocket waits for its client before it answers.
        first_ms = None if kind == "websocket" else answer.first_ms
    return AnswerSummary(
        tool_result(take) if is_tool else "\n".join(line for _, line in sorted(lines.items()) if line) or None,
        reader.model or None,
        reader.finish or None,
        error_type,
        tokens.get("input"),
        tokens.get("output"),
        tokens.get("cached"),
        tokens.get("reasoning"),
        n_tool_calls=len(calls),
        output_chars=sum(len(text) for _, text, _ in said),
        key=answer_key(texts, calls, error_type),
        duration_s=take.duration_s,
        stream=None if take.status is None else isinstance(take.body, Events),
        n_chunks=len(take.body.chunks) if isinstance(take.body, Events) else 0,
        ttfc_s=first_s,
        ttft_s=None if first_ms is None else first_ms / 1000,
    )


def failure_of(take: Take) -> str | None:
    """Return the error of the connection, else the status of a failure, as far as the body does not say more."""
    if take.error is not None:
        return take.error.get("type") or "error"
    return str(take.status) if (take.status or 0) >= 400 else None


def answer_key(texts: Any, calls: Sequence[Any], error_type: str | None) -> str:
    """Return the key of an answer with these texts (kind, choice and text of each), or data, and tool calls."""
    try:
        data = to_json([texts, calls, error_type])
    except ValueError:
        data = repr((texts, calls, error_type)).encode()  # half of a surrogate pair, or not JSON
    return "a1:" + hashlib.sha256(data).hexdigest()[:32]


def _data(take: Take) -> Any:
    """Return the data of an answer without text: vectors, the value of a tool, a page, a file."""
    if isinstance(take.body, Blob):
        return take.body.name
    objects = [] if isinstance(take.body, Text) else [value for _, value, _ in values(take.body) if value is not None]
    if not objects:
        return take.body.as_fields()
    return [{name: one for name, one in value.items() if name not in _PASSING} for value in objects]
