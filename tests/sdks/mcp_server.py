"""A real MCP server over streamable HTTP, in a process of its own: what `tests.sdks.server` is for models' APIs.

It is made with the mcp package itself, and is spoken to over the same pipe.
"""

import asyncio
import contextlib
import socket
import threading
from multiprocessing.connection import Connection
from typing import Any

from tests.sdks import server

__all__ = ["BothServers", "McpServer"]


class McpServer(server.Server):
    """A server of MCP, to be used as `tests.sdks.server.Server`; its address for clients is ``url`` + ``/mcp``."""

    def __init__(self, holds: bool = False, patience: float = 20.0) -> None:
        self._pipe, theirs = server._processes.Pipe()
        self._process = server._processes.Process(target=_serve, args=(theirs, holds, patience), daemon=True)
        self._process.start()
        theirs.close()
        self.port = int(self._pipe.recv())
        self.url = f"http://127.0.0.1:{self.port}"


class BothServers(server.Server):
    """A server of models' APIs, and one of MCP beside it.

    Attributes
    ----------
    mcp : str
        The address of the second one that was started last, also when it is gone.
    """

    mcp = ""

    def __init__(self, holds: bool = False, patience: float = 20.0) -> None:
        super().__init__(holds, patience)
        self._beside = McpServer()
        BothServers.mcp = f"{self._beside.url}/mcp"

    def told(self) -> server.Told:
        """Ask both."""
        models, beside = super().told(), self._beside.told()
        return server.Told(models.hits + beside.hits, models.held, models.late)

    def stop(self) -> None:
        """Stop both."""
        self._beside.stop()
        super().stop()


class _Counts:
    """What the server has to tell, and the acknowledgements that it waits for."""

    def __init__(self, holds: bool, patience: float) -> None:
        self.holds, self.patience = holds, patience
        self.hits = self.calls = self.held = self.late = self.acks = 0
        self._changed = threading.Condition()

    def ack(self) -> None:
        with self._changed:
            self.acks += 1
            self._changed.notify_all()

    async def hold(self, seen: int) -> None:
        """Wait for an acknowledgement beyond the `seen` ones."""
        if self.holds:
            self.held += 1
            self.late += not await asyncio.to_thread(self._wait, seen)

    def _wait(self, seen: int) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self.acks > seen, self.patience)


def _made(counts: _Counts) -> Any:
    from mcp.server.mcpserver import Context, MCPServer
    from mcp.server.mcpserver.exceptions import ToolError

    made = MCPServer("tests", instructions="Ask for the weather.", log_level="ERROR")

    @made.tool()
    def get_weather(city: str, days: int = 1) -> str:
        """Tell the weather."""
        counts.calls += 1
        return f"answer {counts.calls}: 18 degrees in {city} for {days} days \u6f22\u5b57"

    @made.tool()
    def get_table(city: str) -> dict[str, float]:
        """Tell it in figures."""
        counts.calls += 1
        return {"number": counts.calls, "degrees": 18.123456789012345}

    @made.tool()
    def get_nothing(city: str) -> str:
        """Fail."""
        counts.calls += 1
        raise ToolError(f"answer {counts.calls}: no weather in {city}")

    @made.tool()
    async def get_slowly(city: str, context: Context) -> str:
        """Tell it bit by bit."""
        counts.calls += 1
        seen = counts.acks
        for step in range(3):
            await context.report_progress(step, 3, f"step {step}")
            if not step:
                await counts.hold(seen)
        return f"answer {counts.calls}: slowly, 18 degrees in {city}"

    @made.tool()
    async def change_tools(city: str, context: Context) -> str:
        """Tell whoever listens, in either era, that there are other tools."""
        counts.calls += 1
        await context.notify_tools_changed()
        await context.session.send_tool_list_changed()
        return f"answer {counts.calls}: changed for {city}"

    @made.resource("weather://{city}")
    def weather(city: str) -> str:
        """Have it as a text."""
        counts.calls += 1
        return f"answer {counts.calls} about {city}"

    @made.prompt()
    def ask(city: str) -> str:
        """Ask for it."""
        counts.calls += 1
        return f"{counts.calls}: how is the weather in {city}?"

    return made


def _serve(pipe: Connection, holds: bool, patience: float) -> None:
    import uvicorn

    counts = _Counts(holds, patience)
    app = _made(counts).streamable_http_app()

    async def counting(scope: Any, receive: Any, send: Any) -> None:
        counts.hits += scope["type"] == "http"
        await app(scope, receive, send)

    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    config = uvicorn.Config(counting, log_level="critical", lifespan="on")
    threading.Thread(target=uvicorn.Server(config).run, args=([listener],), daemon=True).start()
    pipe.send(listener.getsockname()[1])
    with contextlib.suppress(EOFError):
        while True:
            if pipe.recv() == "ack":
                counts.ack()
            else:
                pipe.send((counts.hits, counts.held, counts.late))
