"""Function tools of openai-agents: recorded and replayed is what they were made of, a function or a call by MCP.

Hooked is where such a tool is invoked, inside of what handles its failures: that, guardrails, timeouts and traces are
as live, in a replay, too. The context is no part of what a call is known by, the arguments are.
An agent that serves as a tool is none here: what it asks and calls itself is recorded and replayed.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from types import ModuleType
from typing import Any

from nbreplay.errors import ToolError
from nbreplay.intercept.patching import Undo, put
from nbreplay.intercept.tools.calls import StandIn, ToolCalls, adapted, asking, origin

__all__ = ["install", "install_runner"]

_INVOKE = "_invoke_function_tool_with_metadata"


def install(library: ModuleType) -> Undo:
    """Hook into the module of tools."""
    invoker = library._FailureHandlingFunctionToolInvoker
    call = invoker.__call__
    # A version without these is told of now, and not when a tool is called.
    _ = library.FunctionTool._is_agent_tool, library.FunctionTool._tool_origin

    @functools.wraps(call)
    async def our_call(self: Any, ctx: Any, input: str) -> Any:  # noqa: A002
        inner, tool = self._invoke_tool_impl, self._function_tool
        if asking() is None or tool is None or tool._is_agent_tool:
            return await call(self, ctx, input)
        body, refused = _body(_calls(library, tool, inner), inner)
        made = await call(StandIn(self, _invoke_tool_impl=body), ctx, input)
        # What handles a tool's failures tells the model of them: this one is for the user.
        if refused:
            raise refused[0]
        return made

    return put((invoker, "__call__", our_call), (library, _INVOKE, _invoking(library, library)))


def install_runner(runner: ModuleType) -> Undo:
    """Hook into the module that runs tools, which has a name of its own for what invokes them."""
    import agents.tool as library

    return put((runner, _INVOKE, _invoking(runner, library)))


def _invoking(owner: ModuleType, library: ModuleType) -> Callable[..., Any]:
    """Return what invokes tools that were made without `function_tool`: nothing handles their failures."""
    invoke = getattr(owner, _INVOKE)

    @functools.wraps(invoke)
    async def our_invoke(*, function_tool: Any, context: Any, arguments: str) -> Any:
        inner = function_tool.on_invoke_tool
        handling = isinstance(inner, library._FailureHandlingFunctionToolInvoker)
        if asking() is not None and not handling and not function_tool._is_agent_tool:
            body = functools.wraps(inner)(_body(_calls(library, function_tool, inner), inner)[0])
            function_tool = StandIn(function_tool, on_invoke_tool=body)
        return await invoke(function_tool=function_tool, context=context, arguments=arguments)

    return our_invoke


def _body(calls: ToolCalls, inner: Callable[..., Any]) -> tuple[Callable[..., Any], list[ToolError]]:
    """Return what stands in for the body of a tool, and where that puts what it refuses."""
    refused: list[ToolError] = []

    async def body(ctx: Any, arguments: str) -> Any:
        try:
            return await calls.arun(lambda: _given(arguments), lambda: inner(ctx, arguments))
        except ToolError as error:
            refused.append(error)
            raise

    return body, refused


def _calls(library: ModuleType, tool: Any, inner: Any) -> ToolCalls:
    function = getattr(tool, "__wrapped__", None)
    server = getattr(tool._tool_origin, "mcp_server_name", None)
    # It is named by its address where the user does not name it; started again, it may have another port.
    named = f"the one of the MCP server {re.sub(r':[0-9]+', '', server)}" if server else ""
    own = named or ("" if function is not None else origin(inner))
    shapes = {name: getattr(library, name) for name in ("ToolOutputText", "ToolOutputImage", "ToolOutputFileContent")}
    raises = (library.UserError, library.ModelBehaviorError)
    return adapted(tool.qualified_name, function, own=own, shapes=shapes, raises=raises)


def _given(arguments: str) -> dict[str, Any]:
    try:
        given = json.loads(arguments) if arguments else {}
    except ValueError:
        given = None
    return given if isinstance(given, dict) else {"input": arguments}
