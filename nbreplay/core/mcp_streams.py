"""The calls that an MCP client makes by itself, above all the standing stream in which its server speaks by itself.

Such a stream ends when its caller leaves, so that a recording of one is as whole as it can be, and a replay stays open
after its last event. Other streams that were cut short do not: whoever reads on there is told so, not left waiting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.stream_parser import framing_of
from nbreplay.core.recording.take import Take

if TYPE_CHECKING:
    from nbreplay.core.recording.recording import Recording
    from nbreplay.core.request.request import Call, Request

_SSE = "text/event-stream"
_SESSION = "mcp-session-id"
_SUBSCRIBES = "subscriptions/listen"
_MCP_HEADERS = frozenset([b"mcp-session-id", b"mcp-protocol-version"])


def is_listener(call: Call) -> bool:
    """Tell whether a call opens an MCP server's stream of its own messages."""
    return call.method == "GET" and any(name.lower() in _MCP_HEADERS for name, _ in call.headers)


def stays_open(call: Call, request: Request, status: int | None, content_type: str) -> bool:
    """Tell whether an answer is a stream of MCP that ends only when its caller leaves.

    It is the answer to an MCP client's GET, or to a ``subscriptions/listen``.
    """
    if status != 200 or framing_of(content_type) != "sse" or request.kind != "http":
        return False
    return _method(request) == _SUBSCRIBES or is_listener(call)


def adapt_take(call: Call, request: Request, take: Take, recording: Recording | None) -> Take:
    """Return a take as an MCP client that listens is to have it; any other call has it as it is.

    A server ends the stream when its session is deleted. In a replay that end would come at once, and the client would
    ask again: the stream stays open, unless the same session has listened again after it. Any other caller would wait
    for ever at the end of a stream that stays open.
    """
    if take.standing and not (is_listener(call) or _method(request) == _SUBSCRIBES):
        return replace(take, standing=False)
    if not take.complete or take.status != 200 or not isinstance(take.body, Events) or not is_listener(call):
        return take
    takes = recording.takes if recording else ()
    place = next((index for index, other in enumerate(takes) if other is take), len(takes))
    session = take.headers.get(_SESSION)
    if any(other.headers.get(_SESSION) == session for other in takes[place + 1 :]):
        return take
    return replace(take, complete=False, reason="open", standing=True)


def answer_again(call: Call, request: Request, recording: Recording | None) -> Take | None:
    """Return the answer to an MCP client that asks by itself once more than was recorded; None for any other call.

    How often it listens depends on how long it lives, and whether it had an answer before it left on chance: a server
    that refused does so again, else nothing more comes. It asks for the list of tools at every result that finds it
    without that, so that concurrent calls have it ask more often or less.
    """
    last = recording.takes[-1] if recording and recording.takes else None
    if last is not None and _method(request) == "tools/list":
        return last
    if not is_listener(call):
        return None
    if last is not None and last.status not in (None, 200):
        return last
    return Take(
        recorded_at=last.recorded_at if last else "",
        host=call.host,
        url=call.target,
        sdk=call.sdk,
        body=Events(()),
        headers=last.headers if last and last.status else {"content-type": _SSE},
        complete=False,
        reason="open",
        standing=True,
    )


def _method(request: Request) -> str:
    """Return the method of a JSON-RPC request, or ``""``."""
    return str(request.body.get("method", "")) if request.rpc_id is not None else ""
