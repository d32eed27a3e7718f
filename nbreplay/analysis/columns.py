"""The columns of the frames, declared as data: what each is called, of which type it is and what it means.

Times are seconds, absent (NA) where nobody recorded them. Imports no pandas.
"""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = [
    "CHUNKS",
    "COMPARED",
    "FRAMES",
    "GROUPED",
    "INTERACTIONS",
    "MESSAGES",
    "OPERATIONS",
    "OTEL",
    "SERVED",
    "TOOL_CALLS",
    "UNREAD",
    "Column",
    "grouped",
]


class Column(NamedTuple):
    """A column.

    Attributes
    ----------
    name : str
    dtype : str
        ``string``, ``category``, ``Int64``, ``Float64``, ``boolean`` or ``datetime`` (UTC, milliseconds).
    meaning : str
    """

    name: str
    dtype: str
    meaning: str


INTERACTIONS = (
    Column("interaction", "string", "the index: the key, # and the number of the take (of the call, in a session)"),
    Column("file", "string", "the file that it was read from"),
    Column("key", "string", "what identifies the request"),
    Column("prompt_key", "string", "what identifies the messages alone: the same for another model or other settings"),
    Column("kind", "category", "chat, completion, embedding, response, message, tool, http, …"),
    Column("origin", "category", "who recorded it: nbreplay, llama-stack or vcr"),
    Column("provider", "category", "who answered, by OpenTelemetry's names; NA where the host does not tell"),
    Column("host", "category", "the host that answered"),
    Column("sdk", "category", "the library that asked, and its version"),
    Column("model", "category", "the model that was asked; of a tool, its name"),
    Column("response_model", "category", "the model that answered, as it says"),
    Column("stream", "boolean", "whether the answer was streamed"),
    Column("complete", "boolean", "whether the answer was recorded to its end"),
    Column("status", "Int64", "HTTP status; NA where the connection failed before there was one"),
    Column("finish_reason", "category", "why the first choice ended, in the provider's own word"),
    Column(
        "error_type", "category", "the provider's or the connection's error, else the status; of a tool, what it raised"
    ),
    Column("temperature", "Float64", "as asked"),
    Column("max_tokens", "Int64", "the limit of the answer's tokens, as asked"),
    Column("input_tokens", "Int64", "as the provider counted"),
    Column("output_tokens", "Int64", "as the provider counted"),
    Column("cached_tokens", "Int64", "input tokens that came out of the provider's cache"),
    Column("reasoning_tokens", "Int64", "output tokens that were spent on reasoning"),
    Column("n_messages", "Int64", "messages that went in: its rows in `messages` whose direction is input"),
    Column("n_tools", "Int64", "tools that the model was offered"),
    Column("n_chunks", "Int64", "chunks of the stream, 0 where it is none: its rows in `chunks`"),
    Column("n_tool_calls", "Int64", "tool calls that the answer asks for: its rows in `tool_calls`"),
    Column("output_chars", "Int64", "characters of the answer's text, all choices, refusals too, without reasoning"),
    Column("duration_s", "Float64", "from sending the request to the end of the answer"),
    Column("ttfc_s", "Float64", "to the first chunk"),
    Column("ttft_s", "Float64", "to the first chunk that brings text, reasoning or a tool call"),
    Column("recorded_at", "datetime", "when it was recorded"),
    Column("cell", "string", "the cell that asked: its id, else the digest of its source"),
    Column("answer_key", "string", "what identifies what the answer says: its text, tool calls, error; else its data"),
)
SERVED = (
    Column("outcome", "category", "what became of the call: replayed, recorded, live, missing, unsaved or blocked"),
    Column("served_s", "Float64", "from the request to the end of the answer, as served in the session"),
)
"""What a session's interactions have besides."""

MESSAGES = (
    Column("interaction", "category", "the interaction that it is of"),
    Column("message", "Int64", "its number there, from 0; what came out follows what went in"),
    Column("direction", "category", "input or output"),
    Column("role", "category", "system, user, assistant, tool, …"),
    Column("content", "string", "its text; NA where it has none"),
    Column(
        "content_type", "category", "text, image, tool_call, tool_result, reasoning, refusal, …; several joined by +"
    ),
    Column("tool_call_id", "string", "the call that it is the result of"),
    Column("n_tool_calls", "Int64", "tool calls in it"),
    Column("chars", "Int64", "characters of its text"),
)
CHUNKS = (
    Column("interaction", "category", "the interaction that it is of"),
    Column("chunk", "Int64", "its number there, from 0"),
    Column("t_s", "Float64", "when it came, from the sending of the request"),
    Column("gap_s", "Float64", "since the chunk before it; of the first, since the sending of the request"),
    Column(
        "kind", "category", "text, reasoning, refusal, tool_call (several joined by +), start, finish, usage, error, …"
    ),
    Column("text", "string", "the text that it brings; of a tool call, the piece of its arguments"),
    Column("tool_index", "Int64", "the number in `tool_calls` of the call that it brings a piece of"),
    Column("chars", "Int64", "characters of its text"),
)
TOOL_CALLS = (
    Column("interaction", "category", "the interaction whose answer asks for it"),
    Column("call", "Int64", "its number there, from 0"),
    Column("name", "category", "the tool"),
    Column("arguments", "string", "as the model wrote them"),
    Column("arguments_valid", "boolean", "whether they are a JSON object"),
    Column("tool_call_id", "string", "its id; NA where the provider gives none"),
    Column("result", "string", "what came of it: as a later request carried it, else as the tool's recording holds it"),
    Column("result_interaction", "string", "the interaction whose request carried the result"),
    Column("tool_interaction", "string", "the recording of the tool itself: same name, same arguments"),
    Column("answered", "boolean", "whether there is a result"),
    Column("error_type", "category", "what the tool raised; ``error`` where the result only says that it failed"),
    Column("first_s", "Float64", "when its first piece came, from the sending of the request"),
    Column("last_s", "Float64", "when its last piece came"),
    Column("duration_s", "Float64", "how long the tool ran"),
)
UNREAD = (
    Column("file", "string", "the file that could not be read, or not all of it"),
    Column("reason", "string", "why, and what to do"),
)

FRAMES = {"interactions": INTERACTIONS, "messages": MESSAGES, "chunks": CHUNKS, "tool_calls": TOOL_CALLS}

COMPARED = (
    Column("pair", "string", "the index: the key or the prompt's key, # and the number of its answer"),
    Column("status", "category", "same, changed, only in a, or only in b"),
    Column("kind", "category", "as in `interactions`"),
    Column("interaction_a", "string", "the interaction in a"),
    Column("interaction_b", "string", "the interaction in b"),
    Column("model_a", "category", "the model that was asked in a"),
    Column("model_b", "category", "the model that was asked in b"),
    Column("prompt", "string", "the last message that a user sent"),
    Column("text_a", "string", "what a says"),
    Column("text_b", "string", "what b says"),
    Column("text_diff", "string", "the lines in which the texts differ: - of a, + of b; empty where none does"),
    Column("similarity", "Float64", "how much of the words is the same, 0 to 1"),
    Column("tool_calls_a", "string", "what a asks for, a call a line: name and arguments"),
    Column("tool_calls_b", "string", "what b asks for"),
    Column("n_tool_calls_delta", "Int64", "tool calls in b less those in a"),
    Column("input_tokens_delta", "Int64", "tokens in b less those in a"),
    Column("output_tokens_delta", "Int64", "tokens in b less those in a"),
    Column("duration_s_delta", "Float64", "seconds in b less those in a"),
    Column("ttft_s_delta", "Float64", "seconds to the first token in b less those in a"),
    Column("finish_reason_a", "category", "why a ended"),
    Column("finish_reason_b", "category", "why b ended"),
    Column("error_type_a", "category", "the error in a"),
    Column("error_type_b", "category", "the error in b"),
)
"""The frame of a comparison."""

OTEL = {
    "provider": "gen_ai.provider.name",
    "kind": "gen_ai.operation.name",
    "host": "server.address",
    "model": "gen_ai.request.model",
    "response_model": "gen_ai.response.model",
    "stream": "gen_ai.request.stream",
    "status": "http.response.status_code",
    "finish_reason": "gen_ai.response.finish_reasons",
    "error_type": "error.type",
    "temperature": "gen_ai.request.temperature",
    "max_tokens": "gen_ai.request.max_tokens",
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "cached_tokens": "gen_ai.usage.cache_read.input_tokens",
    "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
    "ttfc_s": "gen_ai.response.time_to_first_chunk",
    "name": "gen_ai.tool.name",
    "tool_call_id": "gen_ai.tool.call.id",
    "arguments": "gen_ai.tool.call.arguments",
    "result": "gen_ai.tool.call.result",
}
"""From our names to OpenTelemetry's; what it has no name for is `nbreplay.` and ours."""

OPERATIONS = {
    "message": "chat",
    "response": "chat",
    "completion": "text_completion",
    "embedding": "embeddings",
    "generate": "generate_content",
    "tool": "execute_tool",
}
"""From our kinds to OpenTelemetry's operations; those that are not here are called the same."""

GROUPED = "by "
"""Stands before the name of a column that a frame was given to be grouped by: it may have one of that name itself."""


def grouped(frame: Any, name: str) -> str:
    """Return the column of a frame that holds what it is to be grouped by under a name."""
    return GROUPED + name if GROUPED + name in frame.columns else name
