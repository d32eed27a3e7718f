"""Tools of MCP servers: `ClientSession.call_tool` is recorded and replayed as one call.

Over stdio and within the process nothing else can be seen: a replay starts the server, and does not call its tools.
Over HTTP the exchange itself is recorded, with the notifications that come before a result.
"""

from __future__ import annotations

import contextvars
import functools
import weakref
from types import ModuleType
from typing import Any

from nbreplay.intercept.patching import Undo, put
from nbreplay.intercept.tools.calls import adapt, tool_session

_connected: contextvars.ContextVar[bool] = contextvars.ContextVar("nbreplay_mcp_over_http", default=False)
_over_http: weakref.WeakSet[Any] = weakref.WeakSet()


def install(library: ModuleType) -> Undo:
    """Hook into MCP's module of client sessions."""
    session = library.ClientSession
    init, call_tool = session.__init__, session.call_tool
    shapes = {name: getattr(library.types, name) for name in ("CallToolResult", "InputRequiredResult")}
    raises = (library.MCPError,)

    @functools.wraps(init)
    def our_init(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if _connected.get():
            _over_http.add(self)
            _connected.set(False)

    @functools.wraps(call_tool)
    async def our_call_tool(
        self: Any, name: str, arguments: dict[str, Any] | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        if self in _over_http or tool_session() is None:
            return await call_tool(self, name, arguments, *args, **kwargs)
        origin = server_origin(getattr(getattr(self, "server_info", None), "name", ""))
        calls = adapt(name, None, origin=origin, shapes=shapes, raises=raises)
        return await calls.arun(lambda: arguments or {}, lambda: call_tool(self, name, arguments, *args, **kwargs))

    return put((session, "__init__", our_init), (session, "call_tool", our_call_tool))


def install_http(library: ModuleType) -> Undo:
    """Hook into MCP's module of that transport: the next session that is made in this context uses HTTP."""
    transport = library.StreamableHTTPTransport
    init = transport.__init__

    @functools.wraps(init)
    def our_init(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        _connected.set(True)

    return put((transport, "__init__", our_init))


def server_origin(name: str) -> str:
    """Return the origin of the tools of an MCP server, by its name, since its address may change."""
    return f"the one of the MCP server {name}".rstrip()
