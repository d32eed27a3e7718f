"""Function tools of openai-agents: the function or MCP call behind a tool is recorded and replayed.

The hook is below the code that handles a tool's failures. That code, guardrails, timeouts and traces run in a replay,
too. The context is left out of the key. An agent that serves as a tool is not recorded: its own calls are.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from types import ModuleType
from typing import Any

from nbreplay.core.recording.json_text import parse_object
from nbreplay.errors import ToolError
from nbreplay.intercept.patching import StandIn, Undo, put
from nbreplay.intercept.tools.calls import ToolCalls, adapt, origin_of, tool_session
from nbreplay.intercept.tools.mcp import server_origin

_INVOKE = "_invoke_function_tool_with_metadata"


def install(library: ModuleType) -> Undo:
    """Hook into the module of tools."""
    invoker = library._FailureHandlingFunctionToolInvoker
    call = invoker.__call__
    _ = library.FunctionTool._is_agent_tool, library.FunctionTool._tool_origin

    @functools.wraps(call)
    async def our_call(self: Any, ctx: Any, input: str) -> Any:  # noqa: A002
        inner, tool = self._invoke_tool_impl, self._function_tool
        if tool_session() is None or tool is None or tool._is_agent_tool:
            return await call(self, ctx, input)
        body, errors = _body(_calls(library, tool, inner), inner)
        result = await call(StandIn(self, _invoke_tool_impl=body), ctx, input)
        # The invoker tells failures to the model. These are for the user.
        if errors:
            raise errors[0]
        return result

    return put((invoker, "__call__", our_call), (library, _INVOKE, _invoke(library, library)))


def install_runner(runner: ModuleType) -> Undo:
    """Hook into the module that runs tools, which imports the function that invokes them by name."""
    import agents.tool as library

    return put((runner, _INVOKE, _invoke(runner, library)))


def _invoke(owner: ModuleType, library: ModuleType) -> Callable[..., Any]:
    """Return the function that invokes tools, hooked for those that nothing handles the failures of."""
    invoke = getattr(owner, _INVOKE)

    @functools.wraps(invoke)
    async def our_invoke(*, function_tool: Any, context: Any, arguments: str) -> Any:
        inner = function_tool.on_invoke_tool
        handles_failures = isinstance(inner, library._FailureHandlingFunctionToolInvoker)
        if tool_session() is not None and not handles_failures and not function_tool._is_agent_tool:
            body, _ = _body(_calls(library, function_tool, inner), inner)
            function_tool = StandIn(function_tool, on_invoke_tool=functools.wraps(inner)(body))
        return await invoke(function_tool=function_tool, context=context, arguments=arguments)

    return our_invoke


def _body(calls: ToolCalls, inner: Callable[..., Any]) -> tuple[Callable[..., Any], list[ToolError]]:
    """Return the body of a tool that is recorded and replayed, and the list to which it adds its own errors."""
    errors: list[ToolError] = []

    async def body(ctx: Any, arguments: str) -> Any:
        try:
            return await calls.arun(lambda: _load_arguments(arguments), lambda: inner(ctx, arguments))
        except ToolError as error:
            errors.append(error)
            raise

    return body, errors


def _calls(library: ModuleType, tool: Any, inner: Any) -> ToolCalls:
    function = getattr(tool, "__wrapped__", None)
    server = getattr(tool._tool_origin, "mcp_server_name", None)
    # A server without a name is called by its address, whose port may change.
    origin = server_origin(re.sub(r":[0-9]+", "", server)) if server else origin_of(function or inner)
    shapes = {name: getattr(library, name) for name in ("ToolOutputText", "ToolOutputImage", "ToolOutputFileContent")}
    raises = (library.UserError, library.ModelBehaviorError)
    return adapt(tool.qualified_name, function, origin=origin, shapes=shapes, raises=raises)


def _load_arguments(text: str) -> dict[str, Any]:
    arguments = parse_object(text.strip()) if text else {}
    return {"input": text} if arguments is None else arguments
