"""A server of MCP over stdio that says all that a server may say, for mcp 1 and 2, and a client that listens to it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.sdks.dump import dump

__all__ = ["SCRIPT", "Listener", "write_server"]

SCRIPT = '''
import pathlib, sys, warnings
warnings.simplefilter("ignore")
from mcp import types
from mcp.server import {module} as library

made = library.{name}("tests", log_level="ERROR")

@made.tool()
async def work(city: str, context: library.Context) -> str:
    """Work."""
    log = pathlib.Path(sys.argv[1])
    log.write_text((log.read_text() if log.exists() else "") + "x")
    await context.report_progress(0.5, 1.0, "half")
    await context.info(f"note for {{city}}")
    await context.session.send_tool_list_changed()
    await context.session.send_resource_updated("test://x")
    said = types.SamplingMessage(role="user", content=types.TextContent(type="text", text=f"Where is {{city}}?"))
    answer = await context.session.create_message([said], max_tokens=9)
    roots = await context.session.list_roots()
    await context.report_progress(1, 1.0, "whole")
    return f"{{answer.content.text}} {{roots.roots[0].uri}} {{log.read_text()}}"

@made.tool()
async def find(city: str) -> str:
    """Find it."""
    return f"found {{city}}"

@made.resource("test://x")
def read() -> str:
    return "a resource"

made.run("stdio")
'''


def write_server(folder: Path) -> list[str]:
    """Write the program of the server; return the command that starts it."""
    try:
        import mcp.server.mcpserver as _  # noqa: F401

        module, name = "mcpserver", "MCPServer"
    except ImportError:
        module, name = "fastmcp", "FastMCP"
    path = folder / "server.py"
    path.write_text(SCRIPT.format(module=module, name=name))
    return [sys.executable, str(path), str(folder / "log")]


class Listener:
    """A client's callbacks; `heard` is all that they were told, in order."""

    def __init__(self, mcp: Any, sample: Callable[[str], str]) -> None:
        self.heard: list[Any] = []
        self.mcp, self.sample = mcp, sample

    async def progress(self, *values: Any) -> None:
        self.heard.append(("progress", values))

    async def log(self, params: Any) -> None:
        self.heard.append(("log", params.data))

    async def handle(self, message: Any) -> None:
        root = getattr(message, "root", message)
        if "Notification" in type(root).__name__:
            self.heard.append((type(root).__name__, str(getattr(root.params, "uri", ""))))

    async def sampling(self, _: Any, params: Any) -> Any:
        text = params.messages[0].content.text
        self.heard.append(("sampling", text))
        content = self.mcp.types.TextContent(type="text", text=self.sample(text))
        return self.mcp.types.CreateMessageResult(role="assistant", content=content, model="test")

    async def roots(self, _: Any) -> Any:
        self.heard.append(("roots",))
        return self.mcp.types.ListRootsResult(roots=[self.mcp.types.Root(uri="file:///home")])

    @contextmanager
    def fresh(self) -> Iterator[list[Any]]:
        """Begin to listen anew."""
        self.heard.clear()
        yield self.heard

    async def run(self, command: list[str], *cities: str) -> list[Any]:
        """Ask a server all that one may, the tool once for each city."""
        from mcp.client.stdio import stdio_client

        parameters = self.mcp.StdioServerParameters(command=command[0], args=command[1:])
        callbacks = {
            "logging_callback": self.log,
            "message_handler": self.handle,
            "sampling_callback": self.sampling,
            "list_roots_callback": self.roots,
        }
        async with stdio_client(parameters) as streams, self.mcp.ClientSession(*streams, **callbacks) as session:
            begun = await session.initialize()
            names = [tool.name for tool in (await session.list_tools()).tools]
            read = (await session.read_resource("test://x")).contents[0].text
            await session.send_ping()
            results = [
                dump(await session.call_tool("work", {"city": city}, progress_callback=self.progress))
                for city in cities
            ]
            return [dump(begun), names, read, results]
