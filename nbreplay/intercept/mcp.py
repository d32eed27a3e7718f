"""Tools of MCP servers that are spoken to over stdio or within the process: calls of them are recorded as tools.

Over HTTP they are not: there the exchange itself is recorded, with the notifications that come before a result.
"""

from __future__ import annotations

import contextvars
import functools
import weakref
from types import ModuleType
from typing import Any

from nbreplay.intercept import hooks
from nbreplay.intercept.agent_tools import watched
from nbreplay.intercept.tool_calls import Tool

__all__ = ["install", "install_http"]

_connected: contextvars.ContextVar[bool] = contextvars.ContextVar("nbreplay_mcp_over_http", default=False)
_over_http: weakref.WeakSet[Any] = weakref.WeakSet()


def install(library: ModuleType) -> hooks.Undo:
    """Hook into `mcp.client.session`; return what undoes it.

    Raises
    ------
    AttributeError
        Where the library no longer has the hook.
    """
    session, result = library.ClientSession, library.types.CallToolResult
    before_init, before = session.__init__, session.call_tool

    def init(self: Any, *args: Any, **options: Any) -> None:
        before_init(self, *args, **options)
        if _connected.get():
            _over_http.add(self)
            _connected.set(False)

    async def call_tool(self: Any, name: str, arguments: Any = None, *args: Any, **options: Any) -> Any:
        if self in _over_http or not watched():
            return await before(self, name, arguments, *args, **options)
        made = Tool(name, name, result)
        return await made.acall(lambda: arguments or {}, lambda: before(self, name, arguments, *args, **options))

    return hooks.put(
        (session, "__init__", functools.wraps(before_init)(init)),
        (session, "call_tool", functools.wraps(before)(call_tool)),
    )


def install_http(library: ModuleType) -> hooks.Undo:
    """Hook into `mcp.client.streamable_http`: the session that is made next in this context is one over HTTP.

    Raises
    ------
    AttributeError
        Where the library no longer has the hook.
    """
    transport = library.StreamableHTTPTransport
    before = transport.__init__

    def init(self: Any, *args: Any, **options: Any) -> None:
        before(self, *args, **options)
        _connected.set(True)

    return hooks.put((transport, "__init__", functools.wraps(before)(init)))
