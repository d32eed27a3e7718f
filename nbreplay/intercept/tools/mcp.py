"""Tools of MCP servers: `ClientSession.call_tool` is recorded and replayed as one call.

Within the process nothing else can be seen. Over stdio the other requests of a client are recorded, too, and the
messages that come before a result, see `nbreplay.intercept.tools.mcp_stdio`. Over HTTP the exchange itself is recorded.
"""

from __future__ import annotations

import contextvars
import functools
import importlib
import weakref
from types import ModuleType
from typing import Any

from nbreplay.core.config import Mode
from nbreplay.core.replay import Replay
from nbreplay.core.secrets.redact import Redactor
from nbreplay.core.session import Session
from nbreplay.intercept.network import guard
from nbreplay.intercept.patching import Undo, put
from nbreplay.intercept.tools.calls import ToolCalls, adapt, tool_session
from nbreplay.intercept.tools.mcp_stdio import NoProcess, ServerProcess, name_command

_connected: contextvars.ContextVar[bool] = contextvars.ContextVar("nbreplay_mcp_over_http", default=False)
_connecting: contextvars.ContextVar[ServerProcess | None] = contextvars.ContextVar("nbreplay_mcp_stdio", default=None)
_over_http: weakref.WeakSet[Any] = weakref.WeakSet()
_processes: weakref.WeakKeyDictionary[Any, ServerProcess] = weakref.WeakKeyDictionary()
_servers: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()  # what servers say of themselves
_HANDSHAKES = ("initialize", "server/discover")
# What a method returns where a client's library has a choice of classes.
_RESULTS = ("CallToolResult", "GetPromptResult", "InputRequiredResult", "ReadResourceResult")


class MCPError(Exception):
    """An error of the protocol as it is recorded, under the name that mcp 2 gives it, with its arguments."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(code, message, data)

    def __str__(self) -> str:
        return str(self.args[1])


def install(library: ModuleType) -> Undo:
    """Hook into MCP's module of client sessions."""
    session = library.ClientSession
    init, initialize, call_tool = session.__init__, session.initialize, session.call_tool
    send_request, send_discover = session.send_request, getattr(session, "send_discover", None)  # of mcp 2
    # mcp 1 has neither that kind of result nor this class of errors, which is made of other arguments there.
    shapes = {name: getattr(library.types, name) for name in _RESULTS if hasattr(library.types, name)}
    errors = importlib.import_module("mcp.shared.exceptions")
    error_class, old_class = getattr(errors, "MCPError", MCPError), getattr(errors, "McpError", ())

    @functools.wraps(init)
    def our_init(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if _connected.get():
            _over_http.add(self)
            _connected.set(False)
        if (process := _connecting.get()) is not None:
            _processes[self] = process
            _connecting.set(None)

    @functools.wraps(initialize)
    async def our_initialize(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = await initialize(self, *args, **kwargs)
        _servers[self] = getattr(result, "serverInfo", None)  # mcp 2 keeps it itself
        return result

    @functools.wraps(call_tool)
    async def our_call_tool(
        self: Any, name: str, arguments: dict[str, Any] | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        if self in _over_http or tool_session() is None:
            return await call_tool(self, name, arguments, *args, **kwargs)
        server = getattr(self, "server_info", None) or _servers.get(self)
        calls = adapt(
            name, None, origin=server_origin(getattr(server, "name", "")), shapes=shapes, raises=[error_class]
        )
        progress = args[1] if len(args) > 1 else kwargs.get("progress_callback")

        async def call() -> Any:
            return await call_tool(self, name, arguments, *args, **kwargs)

        return await ask(self, calls, "tools/call", arguments or {}, call, progress)

    @functools.wraps(send_request)
    async def our_send_request(self: Any, request: Any, result_type: Any, *args: Any, **kwargs: Any) -> Any:
        async def call() -> Any:
            return await send_request(self, request, result_type, *args, **kwargs)

        if self not in _processes:
            return await call()
        data = request.model_dump(by_alias=True, mode="json", exclude_none=True)
        own = {result_type.__name__: result_type} if isinstance(result_type, type) else {}
        return await ask_method(self, data["method"], data.get("params") or {}, own | shapes, call)

    async def our_send_discover(self: Any, version: str) -> Any:
        assert send_discover is not None
        return await ask_method(self, "server/discover", {}, {}, lambda: send_discover(self, version))

    async def ask_method(self: Any, method: str, params: dict[str, Any], shapes: Any, call: Any) -> Any:
        """Ask about a request other than a tool's: a replay whose server runs, as in older recordings, sends it."""
        process, current = _processes.get(self), tool_session()
        if process is None or current is None or method == "tools/call":
            return await call()
        arguments = {} if method in _HANDSHAKES else {name: params[name] for name in params if name != "_meta"}
        calls = adapt(method, None, origin=process.origin, shapes=shapes, raises=[error_class])
        is_sent = process.is_started and current.mode is not Mode.RECORD
        if is_sent and (current.mode is Mode.REPLAY or _is_recorded(current, calls, arguments)):
            return await call()
        return await ask(self, calls, method, arguments, call, None)

    async def ask(self: Any, calls: ToolCalls, method: str, arguments: dict[str, Any], call: Any, progress: Any) -> Any:
        async def convert() -> Any:
            try:
                return await call()
            except old_class as error:
                raise MCPError(error.error.code, error.error.message, error.error.data) from error

        try:
            if (process := _processes.get(self)) is None:
                return await calls.arun(lambda: arguments, convert)
            return await _run(process, calls, method, arguments, convert, progress)
        except MCPError as error:
            code, message, data = error.args
            raise errors.McpError(library.types.ErrorData(code=code, message=message, data=data)) from error.__cause__

    discover = () if send_discover is None else ((session, "send_discover", our_send_discover),)
    return put(
        (session, "__init__", our_init),
        (session, "initialize", our_initialize),
        (session, "call_tool", our_call_tool),
        (session, "send_request", our_send_request),
        *discover,
    )


async def _run(
    process: ServerProcess, calls: ToolCalls, method: str, arguments: dict[str, Any], call: Any, progress: Any
) -> Any:
    """Return the result of a call over stdio, with the messages of the server that come before it."""
    decision = calls.ask(lambda: arguments)
    if decision is None:
        return await call()
    if isinstance(decision, Replay):
        data = await process.replay(decision, progress)
        calls.end(decision)
        return calls.load(decision, data)
    with calls.recording(decision) as record:
        with guard.permit(""), process.listen(decision, method):
            value = await call()
        record(value)
    return value


def _is_recorded(session: Session, calls: ToolCalls, arguments: dict[str, Any]) -> bool:
    takes = session.recorded_takes(calls.call(arguments))
    return any(take.tool == calls.origin for take in takes)


def install_stdio(library: ModuleType) -> Undo:
    """Hook into MCP's module of that transport: a server whose handshake is recorded is not started in a replay."""
    start = library._create_platform_compatible_process

    @functools.wraps(start)
    async def our_start(command: str, args: Any, *more: Any, **kwargs: Any) -> Any:
        if (session := tool_session()) is None:
            return await start(command, args, *more, **kwargs)
        origin = server_origin(name_command([command, *args]))
        handshakes = [adapt(method, None, origin=origin) for method in _HANDSHAKES]
        is_replayed = session.mode is Mode.REPLAY and any(_is_recorded(session, calls, {}) for calls in handshakes)
        process = ServerProcess(origin, NoProcess() if is_replayed else await start(command, args, *more, **kwargs))
        _connecting.set(process)
        return process

    return put((library, "_create_platform_compatible_process", our_start))


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
    """Return the origin of the tools of an MCP server, by its name without secrets, since its address may change."""
    return f"mcp:{Redactor().text(name)}"
