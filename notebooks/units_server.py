"""A small MCP server with one tool, for 04_agents.ipynb, which starts it."""

from mcp.server.mcpserver import MCPServer

server = MCPServer("units", log_level="ERROR")


@server.tool()
def to_fahrenheit(celsius: float) -> str:
    """Convert degrees Celsius to degrees Fahrenheit."""
    return f"{celsius:g} degrees Celsius are {celsius * 9 / 5 + 32:g} degrees Fahrenheit."


if __name__ == "__main__":
    server.run()
