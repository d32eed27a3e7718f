"""Plain chats, as most are, summarised at a tenth of the cost: messages that are texts, one choice, no calls.

The JSON of a recording is decoded into types that list what `summaries` looks at. What does not fit them is left to it:
a field that would say more, and is typed as None here. Imports no pandas.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from nbreplay.analysis.summaries import (
    MAX_TOKENS,
    SETTINGS,
    TOOLS,
    AnswerSummary,
    RequestSummary,
    answer_key,
    failure_of,
    limit_of,
)
from nbreplay.core.recording.body import Json
from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.take import Take
from nbreplay.core.request.request import PROMPTS
from nbreplay.providers.deltas import COUNTS, PARTS, count_tokens
from nbreplay.providers.messages import SYSTEM, hash_prompt

_Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class _Message(Struct, forbid_unknown_fields=True, gc=False):
    role: Literal["user", "assistant", "system", "developer"]
    content: str


class _Tool(Struct, gc=False):
    functionDeclarations: None = None  # noqa: N815
    function_declarations: None = None


def _absent(*names: str) -> list[tuple[str, Any, None]]:
    return [(name, None, None) for name in names]


_Body: Any = msgspec.defstruct(
    "_Body",
    [
        ("messages", list[_Message]),
        ("model", str),
        ("system", str | None, None),
        ("stream", bool | None, None),
        ("temperature", int | float | None, None),
        *((name, int | float | None, None) for name in MAX_TOKENS),
        ("tools", list[_Tool] | None, None),
        *_absent(*sorted({*SYSTEM, *PROMPTS, *SETTINGS, *TOOLS}.difference(("messages", "system", "tools")))),
    ],
    gc=False,
)
_limits = attrgetter(*MAX_TOKENS)


class _Request(Struct, gc=False):
    body: _Body


class _Cached(Struct, gc=False):
    cached_tokens: _Count | None = None


class _Reasoning(Struct, gc=False):
    reasoning_tokens: _Count | None = None


_USAGE = {
    "prompt_tokens": _Count,
    "completion_tokens": _Count,
    "prompt_tokens_details": _Cached,
    "completion_tokens_details": _Reasoning,
}
_Usage: Any = msgspec.defstruct(
    "_Usage",
    [
        *((name, kind | None, None) for name, kind in _USAGE.items()),
        *_absent(*sorted({path.partition(".")[0] for path in COUNTS}.difference(_USAGE))),
    ],
    gc=False,
)
_Reply: Any = msgspec.defstruct("_Reply", [("content", Annotated[str, Meta(min_length=1)]), *_absent(*sorted(PARTS))])


class _Choice(Struct, gc=False):
    message: _Reply
    index: Literal[0] = 0
    finish_reason: str | None = None
    delta: None = None


class _Completion(Struct, gc=False):
    choices: Annotated[list[_Choice], Meta(min_length=1, max_length=1)]
    model: str
    usage: _Usage | None = None
    error: None = None


_decode_request = msgspec.json.Decoder(_Request).decode
_decode_completion = msgspec.json.Decoder(_Completion).decode
_NONE = (None,) * len(MAX_TOKENS)


def summarise_plain_request(source: object) -> RequestSummary | None:
    """Return the summary of a canonical request, given its JSON; None where it is not a plain chat's."""
    if type(source) is not Raw:
        return None
    try:
        body = _decode_request(source).body
    except (msgspec.MsgspecError, RecursionError):
        return None
    system, asked, limits = body.system, body.messages, _limits(body)
    fields = [(one.role, one.content, "text", (), None, ()) for one in asked]
    if system:
        fields.insert(0, ("system", system, "text", (), None, ()))
    return RequestSummary(
        body.model or None,
        None,
        next((one.content for one in reversed(asked) if one.content and one.role == "user"), None),
        body.stream,
        body.temperature,
        None if limits == _NONE else limit_of(next(limit for limit in limits if limit is not None)),
        len(body.tools) if body.tools else 0,
        len(fields),
        hash_prompt(fields),
    )


def summarise_plain_answer(take: Take | None) -> AnswerSummary | None:
    """Return the summary of an answer; None where it is not a plain chat's."""
    if take is None:
        return None
    body = take.body
    if type(body) is Events:
        return _summarise_stream(take, body)
    if type(body) is not Json or type(body.source) is not Raw:
        return None
    try:
        value = _decode_completion(body.source)
    except (msgspec.MsgspecError, RecursionError):
        return None
    choice, usage = value.choices[0], value.usage or _NO_USAGE
    read, written = usage.prompt_tokens_details, usage.completion_tokens_details
    tokens = {
        "input": usage.prompt_tokens,
        "output": usage.completion_tokens,
        "cached": read and read.cached_tokens,
        "reasoning": written and written.reasoning_tokens,
    }
    return _summary(take, choice.message.content, value.model, choice.finish_reason, tokens)


_NO_USAGE = _Usage()
# What a stream of chat completions says of each chunk; no other field of these tells anything.
_CHUNK = frozenset(
    ("id", "object", "created", "model", "service_tier", "system_fingerprint", "choices", "usage", "obfuscation")
)


def _summarise_stream(take: Take, body: Events) -> AnswerSummary | None:
    common, model = body.common, body.common.get("model")
    is_plain = common and _CHUNK.issuperset(body.fields) and common.get("object") == "chat.completion.chunk"
    if not is_plain or "choices" in common or common.get("usage") or type(model) is not str:
        return None
    at, first_ms, finish, pieces, tokens = 0, None, "", [], dict[str, int]()
    for gap, data, event, raw in body.chunks:
        at += gap
        if type(data) is not dict:
            if data != "[DONE]" or event is not None:
                return None
            continue
        choices = data.get("choices")
        if type(choices) is not list or len(choices) > 1 or "model" in data or event is not None or raw is not None:
            return None
        if data.get("usage"):
            count_tokens(data["usage"], tokens)
        for choice in choices:
            delta = choice.get("delta") if type(choice) is dict else None
            if type(delta) is not dict or choice.get("index", 0) != 0 or "message" in choice or "text" in choice:
                return None
            content, reason = delta.get("content", ""), choice.get("finish_reason")
            if len(delta) > 1 or not content:
                if any(delta[name] is not None for name in PARTS.intersection(delta)):
                    return None
                content = content or ""
            if type(content) is not str or (reason is not None and type(reason) is not str):
                return None
            if content:
                first_ms = at if first_ms is None else first_ms
                pieces.append(content)
            finish = reason or finish
    if not pieces or first_ms is None:
        return None
    times = (body.chunks[0].gap_ms / 1000, first_ms / 1000) if take.timed else (None, None)
    return _summary(take, "".join(pieces), model, finish, tokens, len(body.chunks), *times)


def _summary(
    take: Take,
    text: str,
    model: str,
    finish: str | None,
    tokens: Mapping[str, int | None],
    n_chunks: int = 0,
    ttfc_s: float | None = None,
    ttft_s: float | None = None,
) -> AnswerSummary:
    error_type = failure_of(take)
    return AnswerSummary(
        text,
        model or None,
        finish or None,
        error_type,
        tokens.get("input"),
        tokens.get("output"),
        tokens.get("cached"),
        tokens.get("reasoning"),
        0,
        len(text),
        answer_key([["text", 0, text]], (), error_type),
        take.duration_s,
        None if take.status is None else type(take.body) is Events,
        n_chunks,
        ttfc_s,
        ttft_s,
    )
