"""The columns of the frames: name, type, meaning, extractor and OpenTelemetry name, one row a column.

An extractor takes an item of `nbreplay.analysis.rows`. Times are seconds, absent (NA) where they were not recorded.
Imports no pandas.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

from nbreplay.providers.answer import provider_of
from nbreplay.providers.messages import prompt_key


class Column(NamedTuple):
    """A column of a frame."""

    name: str
    dtype: str  # ``string``, ``category``, ``Int64``, ``Float64``, ``boolean`` or ``datetime`` (UTC, milliseconds)
    meaning: str
    # Returns the value of an item, None where there is none. If not given, the item's attribute of that name.
    get: Callable[[Any], Any] | None = None
    otel: str | None = None  # the name in OpenTelemetry's GenAI conventions

    def values(self, items: Sequence[Any]) -> list[Any]:
        """Return the value of each item."""
        return list(map(self.get or attrgetter(self.name), items))


def _tokens(kind: str) -> Callable[[Any], Any]:
    return lambda row: row.answer.reader.tokens.get(kind)


# fmt: off
INTERACTIONS = (
    Column("interaction", "string", "the index: the key, # and the number of the take (of the call, in a session)"),
    Column("file", "string", "the file of the recording"),
    Column("key", "string", "the key of the request", lambda row: row.request and row.request.key),
    Column("prompt_key", "string", "the key of the messages alone: the same for another model or other settings",
           lambda row: prompt_key(row.stored_messages)),
    Column("kind", "category", "chat, completion, embedding, response, message, tool, http, …",
           None, "gen_ai.operation.name"),
    Column("origin", "category", "the recorder: nbreplay, llama-stack or vcr"),
    Column("provider", "category", "the provider, by OpenTelemetry's names; NA where the host does not say",
           lambda row: provider_of(row.host) if row.host else None, "gen_ai.provider.name"),
    Column("host", "category", "the host that answered", lambda row: row.host or None, "server.address"),
    Column("sdk", "category", "the library that sent the request, and its version",
           lambda row: (row.take and row.take.sdk) or None),
    Column("model", "category", "the model in the request; of a tool, its name",
           lambda row: (row.request and row.request.model) or None, "gen_ai.request.model"),
    Column("response_model", "category", "the model in the answer",
           lambda row: row.answer.reader.model or None, "gen_ai.response.model"),
    Column("stream", "boolean", "whether the answer was streamed", None, "gen_ai.request.stream"),
    Column("complete", "boolean", "whether the answer was recorded to its end",
           lambda row: row.take and row.take.complete),
    Column("status", "Int64", "HTTP status; NA where the connection failed before there was one",
           lambda row: row.take and row.take.status, "http.response.status_code"),
    Column("finish_reason", "category", "why the first choice ended, in the provider's own word",
           lambda row: row.answer.reader.finish or None, "gen_ai.response.finish_reasons"),
    Column("error_type", "category", "the error of provider or connection, else the status; of a tool, its exception",
           None, "error.type"),
    Column("temperature", "Float64", "the temperature in the request",
           lambda row: row.setting("temperature"), "gen_ai.request.temperature"),
    Column("max_tokens", "Int64", "the limit of output tokens in the request", None, "gen_ai.request.max_tokens"),
    Column("input_tokens", "Int64", "as the provider counted", _tokens("input"), "gen_ai.usage.input_tokens"),
    Column("output_tokens", "Int64", "as the provider counted", _tokens("output"), "gen_ai.usage.output_tokens"),
    Column("cached_tokens", "Int64", "input tokens from the provider's cache",
           _tokens("cached"), "gen_ai.usage.cache_read.input_tokens"),
    Column("reasoning_tokens", "Int64", "output tokens spent on reasoning",
           _tokens("reasoning"), "gen_ai.usage.reasoning.output_tokens"),
    Column("n_messages", "Int64", "messages in the request: its input rows in `messages`",
           lambda row: len(row.sent_messages)),
    Column("n_tools", "Int64", "tools offered to the model"),
    Column("n_chunks", "Int64", "chunks of the stream, 0 where it is not one: its rows in `chunks`",
           lambda row: row.take and len(row.events.chunks if row.events else ())),
    Column("n_tool_calls", "Int64", "tool calls in the answer: its rows in `tool_calls`",
           lambda row: len(row.answer.calls)),
    Column("output_chars", "Int64", "characters of the answer's text: all choices, refusals too, without reasoning"),
    Column("duration_s", "Float64", "from sending the request to the end of the answer",
           lambda row: row.take and row.take.duration_s),
    Column("ttfc_s", "Float64", "to the first chunk", None, "gen_ai.response.time_to_first_chunk"),
    Column("ttft_s", "Float64", "to the first chunk with text, reasoning or a tool call"),
    Column("recorded_at", "datetime", "when the take was recorded", lambda row: row.recorded_ms),
    Column("cell", "string", "the cell: its id, else the digest of its source"),
    Column("answer_key", "string", "the key of the answer: of its text, tool calls and error; else of its data"),
)
SERVED = (
    Column("outcome", "category", "the outcome of the call: replayed, recorded, live, missing, unsaved or blocked"),
    Column("served_s", "Float64", "from the request to the end of the answer, as served in the session"),
)
"""More columns, of a session's interactions."""

MESSAGES = (
    Column("interaction", "category", "the interaction"),
    Column("message", "Int64", "number in the interaction, from 0; input first, then output", lambda item: item.number),
    Column("direction", "category", "input or output"),
    Column("role", "category", "system, user, assistant, tool, …", lambda item: item.message.role),
    Column("content", "string", "the text; NA where the message has none"),
    Column("content_type", "category", "text, image, tool_call, tool_result, reasoning, …; several joined by +",
           lambda item: item.message.content_type),
    Column("tool_call_id", "string", "the call that it is the result of",
           lambda item: (item.message.result_of and item.message.result_of.id) or None, "gen_ai.tool.call.id"),
    Column("n_tool_calls", "Int64", "tool calls in it", lambda item: len(item.message.calls)),
    Column("chars", "Int64", "characters of its text", lambda item: len(item.message.content)),
)
CHUNKS = (
    Column("interaction", "category", "the interaction"),
    Column("chunk", "Int64", "number in the interaction, from 0", lambda item: item.number),
    Column("t_s", "Float64", "when it came, from sending the request"),
    Column("gap_s", "Float64", "since the chunk before; of the first, since sending the request"),
    Column("kind", "category", "text, reasoning, refusal, tool_call (joined by +), start, finish, usage, error, …"),
    Column("text", "string", "the text; of a tool call, a piece of the arguments"),
    Column("tool_index", "Int64", "the number of its call in `tool_calls`"),
    Column("chars", "Int64", "characters of its text", lambda item: len(item.text or "")),
)
TOOL_CALLS = (
    Column("interaction", "category", "the interaction whose answer has the call"),
    Column("call", "Int64", "number in the interaction, from 0", lambda item: item.number),
    Column("name", "category", "the tool", lambda item: item.name or None, "gen_ai.tool.name"),
    Column("arguments", "string", "as the model wrote them", None, "gen_ai.tool.call.arguments"),
    Column("arguments_valid", "boolean", "whether they are a JSON object", lambda item: item.link.valid),
    Column("tool_call_id", "string", "id of the call; NA where the provider gives none",
           lambda item: item.id or None, "gen_ai.tool.call.id"),
    Column("result", "string", "the result: from a later request, else from the tool's recording",
           lambda item: item.link.result, "gen_ai.tool.call.result"),
    Column("result_interaction", "string", "the interaction whose request carried the result",
           lambda item: next(iter(item.link.carriers), None)),
    Column("tool_interaction", "string", "the recording of the tool itself: same name, same arguments",
           lambda item: item.link.ran),
    Column("answered", "boolean", "whether there is a result", lambda item: bool(item.link.carriers or item.link.ran)),
    Column("error_type", "category", "the tool's exception; ``error`` where the result says no more",
           lambda item: item.link.error, "error.type"),
    Column("first_s", "Float64", "when its first piece came, from sending the request"),
    Column("last_s", "Float64", "when its last piece came"),
    Column("duration_s", "Float64", "how long the tool ran", lambda item: item.link.duration_s),
)
UNREAD = (
    Column("file", "string", "the file that could not be read, or not all of it"),
    Column("reason", "string", "why, and what to do"),
)
# fmt: on

FRAMES = {"interactions": INTERACTIONS, "messages": MESSAGES, "chunks": CHUNKS, "tool_calls": TOOL_CALLS}

OTEL = {column.name: column.otel for declared in FRAMES.values() for column in declared if column.otel}
"""From our names to OpenTelemetry's; a column without one is called ``nbreplay.`` and its own name."""

OPERATIONS = {
    "message": "chat",
    "response": "chat",
    "completion": "text_completion",
    "embedding": "embeddings",
    "generate": "generate_content",
    "tool": "execute_tool",
}
"""From our kinds to OpenTelemetry's operations; other kinds have the same name."""
