"""The columns of the frames: name, type, meaning, extractor and OpenTelemetry name, one row a column.

An extractor takes an item of `nbreplay.analysis.rows`. Times are seconds, absent (NA) where they were not recorded.
Imports no pandas.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

from nbreplay.providers.answer import provider_of


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


def _of_request(name: str) -> Callable[[Any], Any]:
    return attrgetter(f"request_summary.{name}")


def _of_answer(name: str) -> Callable[[Any], Any]:
    return attrgetter(f"answer_summary.{name}")


# fmt: off
_FIRST = (
    Column("interaction", "string", "the index, such as ``chat-3f2a9c81#1``: kind and key of the request, shortened, "
           "and the number of the take (in a session, of the call)"),
    Column("recorded_at", "datetime", "when the take was recorded", lambda row: row.recorded_ms),
    Column("notebook", "category", "the notebook that made it, as seen from the folder that the store is in",
           lambda row: row.take and row.take.cell and row.take.cell.notebook),
    Column("kind", "category", "chat, completion, embedding, response, message, tool, http, …",
           None, "gen_ai.operation.name"),
    Column("model", "category", "the model in the request; NA for a tool",
           _of_request("model"), "gen_ai.request.model"),
    Column("tool", "category", "the tool that was called; NA for a model", _of_request("tool"), "gen_ai.tool.name"),
    Column("prompt", "string", "the last text of a user; of a tool, its arguments as JSON",
           _of_request("prompt")),
    Column("answer", "string", "the text of the answer: all choices, without reasoning; of a tool, its result, as JSON "
           "unless it is a text", _of_answer("text")),
    Column("input_tokens", "Int64", "as the provider counted", _of_answer("input_tokens"), "gen_ai.usage.input_tokens"),
    Column("output_tokens", "Int64", "as the provider counted",
           _of_answer("output_tokens"), "gen_ai.usage.output_tokens"),
    Column("duration_s", "Float64", "from sending the request to the end of the answer",
           _of_answer("duration_s")),
    Column("ttft_s", "Float64", "to the first chunk with text, reasoning or a tool call", _of_answer("ttft_s")),
)
COST = Column("cost_usd", "Float64", "an estimate in US dollars, by list prices; NA where tokens or price are unknown, "
              "or genai-prices is not installed", lambda _: None)
"""One more column, after `ttft_s`, which is computed when the frame is asked for and never stored: prices change."""

SERVED = (
    Column("outcome", "category", "the outcome of the call: replayed, recorded, live, missing, unsaved or blocked"),
    Column("served_s", "Float64", "from the request to the end of the answer, as served in the session"),
)
"""More columns, of a session's interactions."""

_DETAILS = (
    Column("status", "Int64", "HTTP status; NA where the connection failed before there was one",
           lambda row: row.take and row.take.status, "http.response.status_code"),
    Column("error_type", "category", "the error of provider or connection, else the status; of a tool, its exception",
           _of_answer("error_type"), "error.type"),
    Column("finish_reason", "category", "why the first choice ended, in the provider's own word",
           _of_answer("finish_reason"), "gen_ai.response.finish_reasons"),
    Column("complete", "boolean", "whether the answer was recorded to its end",
           lambda row: row.take and row.take.complete),
    Column("stream", "boolean", "whether the answer was streamed", None, "gen_ai.request.stream"),
    Column("n_messages", "Int64", "messages in the request: its input rows in `messages`",
           _of_request("n_messages")),
    Column("n_tools", "Int64", "tools offered to the model", _of_request("n_tools")),
    Column("n_tool_calls", "Int64", "tool calls in the answer: its rows in `tool_calls`",
           _of_answer("n_tool_calls")),
    Column("n_chunks", "Int64", "chunks of the stream, 0 where it is not one: its rows in `chunks`",
           _of_answer("n_chunks")),
    Column("output_chars", "Int64", "characters of the answer's text: all choices, refusals too, without reasoning",
           _of_answer("output_chars")),
    Column("ttfc_s", "Float64", "to the first chunk", _of_answer("ttfc_s"), "gen_ai.response.time_to_first_chunk"),
    Column("cached_tokens", "Int64", "input tokens from the provider's cache",
           _of_answer("cached_tokens"), "gen_ai.usage.cache_read.input_tokens"),
    Column("reasoning_tokens", "Int64", "output tokens spent on reasoning",
           _of_answer("reasoning_tokens"), "gen_ai.usage.reasoning.output_tokens"),
    Column("temperature", "Float64", "the temperature in the request",
           _of_request("temperature"), "gen_ai.request.temperature"),
    Column("max_tokens", "Int64", "the limit of output tokens in the request",
           _of_request("max_tokens"), "gen_ai.request.max_tokens"),
    Column("response_model", "category", "the model in the answer", _of_answer("model"), "gen_ai.response.model"),
    Column("provider", "category", "the provider, by OpenTelemetry's names; NA where the host does not say",
           lambda row: provider_of(row.host) if row.host else None, "gen_ai.provider.name"),
    Column("host", "category", "the host that answered", lambda row: row.host or None, "server.address"),
    Column("sdk", "category", "the library that sent the request, and its version",
           lambda row: (row.take and row.take.sdk) or None),
    Column("origin", "category", "the recorder: nbreplay, llama-stack or vcr"),
    Column("key", "string", "the key of the request"),
    Column("prompt_key", "string", "the key of the messages alone: the same for another model or other settings",
           _of_request("prompt_key")),
    Column("answer_key", "string", "the key of the answer: of its text, tool calls and error; else of its data",
           _of_answer("key")),
    Column("cell", "string", "the cell: its id, else the digest of its source"),
    Column("file", "string", "the file of the recording, as seen from the working directory", lambda row: row.shown),
)
INTERACTIONS = (*_FIRST, *_DETAILS)
SESSION_INTERACTIONS = (*_FIRST, *SERVED, *_DETAILS)

# The text is last: a narrow terminal shows the first and the last columns.
MESSAGES = (
    Column("interaction", "category", "the interaction"),
    Column("message", "Int64", "number in the interaction, from 0; input first, then output", lambda item: item.number),
    Column("role", "category", "system, user, assistant, tool, …", lambda item: item.message.role),
    Column("direction", "category", "input or output"),
    Column("content_type", "category", "text, image, tool_call, tool_result, reasoning, …; several joined by +",
           lambda item: item.message.content_type),
    Column("n_tool_calls", "Int64", "tool calls in it", lambda item: len(item.message.calls)),
    Column("tool_call_id", "string", "the call that it is the result of",
           lambda item: (item.message.result_of and item.message.result_of.id) or None, "gen_ai.tool.call.id"),
    Column("chars", "Int64", "characters of its text", lambda item: len(item.message.content)),
    Column("content", "string", "the text; NA where the message has none"),
)
CHUNKS = (
    Column("interaction", "category", "the interaction"),
    Column("chunk", "Int64", "number in the interaction, from 0", lambda item: item.number),
    Column("t_s", "Float64", "when it came, from sending the request"),
    Column("gap_s", "Float64", "since the chunk before; of the first, since sending the request"),
    Column("kind", "category", "text, reasoning, refusal, tool_call (joined by +), start, finish, usage, error, …"),
    Column("text", "string", "the text; of a tool call, a piece of the arguments"),
    Column("chars", "Int64", "characters of its text", lambda item: len(item.text or "")),
    Column("tool_index", "Int64", "the number of its call in `tool_calls`"),
)
TOOL_CALLS = (
    Column("interaction", "category", "the interaction whose answer has the call"),
    Column("call", "Int64", "number in the interaction, from 0", lambda item: item.number),
    Column("name", "category", "the tool", lambda item: item.name or None, "gen_ai.tool.name"),
    Column("arguments", "string", "as the model wrote them", None, "gen_ai.tool.call.arguments"),
    Column("result", "string", "the result: from a later request, else from the tool's recording",
           lambda item: item.link.result, "gen_ai.tool.call.result"),
    Column("duration_s", "Float64", "how long the tool ran", lambda item: item.link.duration_s),
    Column("answered", "boolean", "whether there is a result", lambda item: bool(item.link.carriers or item.link.ran)),
    Column("error_type", "category", "the tool's exception; ``error`` where the result says no more",
           lambda item: item.link.error, "error.type"),
    Column("arguments_valid", "boolean", "whether they are a JSON object", lambda item: item.link.valid),
    Column("first_s", "Float64", "when its first piece came, from sending the request"),
    Column("last_s", "Float64", "when its last piece came"),
    Column("tool_call_id", "string", "id of the call; NA where the provider gives none",
           lambda item: item.id or None, "gen_ai.tool.call.id"),
    Column("result_interaction", "string", "the interaction whose request carried the result",
           lambda item: next(iter(item.link.carriers), None)),
    Column("tool_interaction", "string", "the recording of the tool itself: same name, same arguments",
           lambda item: item.link.ran),
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
