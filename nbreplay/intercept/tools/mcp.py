"""Tools of MCP servers: recorded and replayed is `ClientSession.call_tool`, as one call.

Over stdio and within the process nothing else can be seen: in a replay the server is started as ever, and its tools are
not entered. Over HTTP the exchange itself is recorded, with the notifications that come before a result.
"""

from __future__ import annotations

import contextvars
import functools
import weakref
from types import ModuleType
from typing import Any

from nbreplay.intercept.patching import Undo, put
from nbreplay.intercept.tools.calls import adapted, asking

__all__ = ["install", "install_http"]

_connected: contextvars.ContextVar[bool] = contextvars.ContextVar("nbreplay_mcp_over_http", default=False)
_over_http: weakref.WeakSet[Any] = weakref.WeakSet()


def install(library: ModuleType) -> Undo:
    """Hook into the module of client sessions.

    Raises
    ------
    AttributeError
        Where the library no longer has the hook.
    """
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
        if self in _over_http or asking() is None:
            return await call_tool(self, name, arguments, *args, **kwargs)
        calls = adapted(name, None, own=_server(self), shapes=shapes, raises=raises)
        return await calls.arun(lambda: arguments or {}, lambda: call_tool(self, name, arguments, *args, **kwargs))

    return put((session, "__init__", our_init), (session, "call_tool", our_call_tool))


def install_http(library: ModuleType) -> Undo:
    """Hook into the module of that transport: the session that is made next in this context is one over HTTP.

    Raises
    ------
    AttributeError
        Where the library no longer has the hook.
    """
    transport = library.StreamableHTTPTransport
    init = transport.__init__

    @functools.wraps(init)
    def our_init(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        _connected.set(True)

    return put((transport, "__init__", our_init))


def _server(session: Any) -> str:
    """Return the server's name, by which tools of one name are told apart; its address may change."""
    told = getattr(session, "server_info", None)
    return f"the one of the MCP server {getattr(told, 'name', '')}".rstrip()
