"""Tools of pydantic-ai: the result of a toolset's function is recorded and replayed, or what it asks of the model.

`FunctionToolset.call_tool` is hooked, which an agent's own tools use, too. Validation, retries and timeouts run in a
replay, too. The context with its dependencies is left out of the key.
A program's own class of toolsets is hooked where `CombinedToolset` or a wrapper calls it. A toolset over MCP calls the
tools of its session: see `nbreplay.intercept.tools.mcp`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any

from nbreplay.intercept.patching import StandIn, Undo, put
from nbreplay.intercept.tools.calls import adapt, origin_of, tool_session

Call = Callable[[], Awaitable[Any]]
_SHAPES = ("ToolReturn", "BinaryContent", "BinaryImage", "ImageUrl", "DocumentUrl", "AudioUrl", "VideoUrl")


@dataclasses.dataclass(frozen=True)
class _Deferred:
    """Recorded for an exception that defers a call, whose metadata is not among its arguments."""

    approval: bool
    metadata: dict[str, Any] | None
    kind: str = "external"


def install(library: ModuleType) -> Undo:
    """Hook into the module of function toolsets."""
    call_tool, runner = library.FunctionToolset.call_tool, _Runner()

    @functools.wraps(call_tool)
    async def our_call_tool(self: Any, name: str, tool_args: dict[str, Any], ctx: Any, tool: Any) -> Any:
        if tool_session() is None:
            return await call_tool(self, name, tool_args, ctx, tool)
        inner = tool.call_func
        function = getattr(getattr(inner, "__self__", None), "function", None)

        async def call_func(args: dict[str, Any], context: Any) -> Any:
            return await runner.run(name, ctx, function, function or inner, args, lambda: inner(args, context))

        return await call_tool(self, name, tool_args, ctx, dataclasses.replace(tool, call_func=call_func))

    return put((library.FunctionToolset, "call_tool", our_call_tool))


def install_combined(library: ModuleType) -> Undo:
    """Hook into the module of toolsets that combine others."""
    call_tool, runner = library.CombinedToolset.call_tool, _Runner()

    @functools.wraps(call_tool)
    async def our_call_tool(self: Any, name: str, tool_args: dict[str, Any], ctx: Any, tool: Any) -> Any:
        if (stand_in := runner.stand_in(tool.source_toolset)) is not None:
            tool = dataclasses.replace(tool, source_toolset=stand_in)
        return await call_tool(self, name, tool_args, ctx, tool)

    return put((library.CombinedToolset, "call_tool", our_call_tool))


def install_wrapper(library: ModuleType) -> Undo:
    """Hook into the module of toolsets that wrap another."""
    call_tool, runner = library.WrapperToolset.call_tool, _Runner()

    @functools.wraps(call_tool)
    async def our_call_tool(self: Any, *args: Any, **kwargs: Any) -> Any:
        if (stand_in := runner.stand_in(self.wrapped)) is not None:
            self = StandIn(self, wrapped=stand_in)
        return await call_tool(self, *args, **kwargs)

    return put((library.WrapperToolset, "call_tool", our_call_tool))


class _Runner:
    """Runs calls of tools, with pydantic-ai's own classes."""

    def __init__(self) -> None:
        from pydantic_ai import exceptions, messages

        self._exceptions, self._messages = exceptions, messages
        self._shapes = {name: getattr(messages, name) for name in _SHAPES} | {"Deferred": _Deferred}

    def stand_in(self, toolset: Any) -> StandIn | None:
        """Return a stand-in for a toolset of a program's own class, None for any other."""
        from pydantic_ai.toolsets.wrapper import WrapperToolset

        own = type(toolset).call_tool.__module__.partition(".")[0] != "pydantic_ai"
        if tool_session() is None or not own or isinstance(toolset, WrapperToolset):
            return None

        async def call_tool(name: str, args: dict[str, Any], ctx: Any, tool: Any) -> Any:
            call = functools.partial(toolset.call_tool, name, args, ctx, tool)
            return await self.run(name, ctx, None, type(toolset), args, call)

        return StandIn(toolset, call_tool=call_tool)

    async def run(self, name: str, ctx: Any, function: Any, owner: Any, args: Any, call: Call) -> Any:
        # Two toolsets may have tools of one name, which the agent tells apart by prefixes.
        name = getattr(ctx, "_dispatched_tool_name", None) or name
        raises = (self._exceptions.ModelRetry, self._exceptions.ToolFailed)
        calls = adapt(name, function, origin=origin_of(owner), shapes=self._shapes, raises=raises)

        async def call_or_defer() -> Any:
            try:
                return self._narrow(await call())
            except self._exceptions.ApprovalRequired as error:
                return _Deferred(True, error.metadata)
            except self._exceptions.CallDeferred as error:
                return _Deferred(False, error.metadata, getattr(error, "kind", "external"))

        result = await calls.arun(lambda: args, call_or_defer)
        if not isinstance(result, _Deferred):
            return result
        if result.approval:
            raise self._exceptions.ApprovalRequired(result.metadata)
        # Older versions have one kind only.
        options = {} if result.kind == "external" else {"kind": result.kind}
        raise self._exceptions.CallDeferred(result.metadata, **options)

    def _narrow(self, value: Any) -> Any:
        # pydantic-ai itself loads an image as `BinaryImage`, whichever class it was written as.
        if isinstance(value, self._messages.BinaryContent):
            return self._messages.BinaryContent.narrow_type(value)
        if type(value) is self._messages.ToolReturn:
            content = value.content
            if isinstance(content, list | tuple):
                content = [self._narrow(item) for item in content]
            return dataclasses.replace(value, return_value=self._narrow(value.return_value), content=content)
        return value
