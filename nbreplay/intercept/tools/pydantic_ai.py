"""Tools of pydantic-ai: recorded and replayed is what a toolset's function returns, or asks of the model.

`FunctionToolset.call_tool` is hooked, through which an agent's own tools go, too. Validation, retries and timeouts
around it are as live. The context with its dependencies is no part of what a call is known by, the arguments are.
A program's own class of toolsets is met where one of pydantic-ai's calls it, by `CombinedToolset` or a wrapper.
A toolset over MCP calls the tools of its session: see `mcp_tools`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any

from nbreplay.intercept.patching import Undo, put
from nbreplay.intercept.tools.calls import StandIn, ToolCalls, adapted, asking, origin

__all__ = ["install", "install_combined", "install_wrapper"]

_RETURNED = ("ToolReturn", "BinaryContent", "BinaryImage", "ImageUrl", "DocumentUrl", "AudioUrl", "VideoUrl")


@dataclasses.dataclass(frozen=True)
class _Deferred:
    """In place of an exception that puts a call off: it has more to say than its arguments."""

    approval: bool
    metadata: dict[str, Any] | None
    kind: str = "external"


def install(library: ModuleType) -> Undo:
    """Hook into the module of function toolsets."""
    call_tool, made = library.FunctionToolset.call_tool, _Calls()

    @functools.wraps(call_tool)
    async def our_call_tool(self: Any, name: str, tool_args: dict[str, Any], ctx: Any, tool: Any) -> Any:
        if asking() is None:
            return await call_tool(self, name, tool_args, ctx, tool)
        inner = tool.call_func
        function = getattr(getattr(inner, "__self__", None), "function", None)
        calls = made.of(name, ctx, function, "" if function is not None else origin(inner))

        async def call_func(args: dict[str, Any], context: Any) -> Any:
            return await made.run(calls, args, lambda: inner(args, context))

        return await call_tool(self, name, tool_args, ctx, dataclasses.replace(tool, call_func=call_func))

    return put((library.FunctionToolset, "call_tool", our_call_tool))


def install_combined(library: ModuleType) -> Undo:
    """Hook into the module of toolsets that are made of others."""
    call_tool, stands = library.CombinedToolset.call_tool, _standing()

    @functools.wraps(call_tool)
    async def our_call_tool(self: Any, name: str, tool_args: dict[str, Any], ctx: Any, tool: Any) -> Any:
        inner = stands(tool.source_toolset)
        if inner is not tool.source_toolset:
            tool = dataclasses.replace(tool, source_toolset=inner)
        return await call_tool(self, name, tool_args, ctx, tool)

    return put((library.CombinedToolset, "call_tool", our_call_tool))


def install_wrapper(library: ModuleType) -> Undo:
    """Hook into the module of toolsets that wrap another."""
    call_tool, stands = library.WrapperToolset.call_tool, _standing()

    @functools.wraps(call_tool)
    async def our_call_tool(self: Any, *args: Any, **kwargs: Any) -> Any:
        inner = stands(self.wrapped)
        return await call_tool(self if inner is self.wrapped else StandIn(self, wrapped=inner), *args, **kwargs)

    return put((library.WrapperToolset, "call_tool", our_call_tool))


def _standing() -> Callable[[Any], Any]:
    """Return what gives a stand-in for a toolset of a program's own class, and any other as it is."""
    from pydantic_ai.toolsets.wrapper import WrapperToolset

    made = _Calls()

    def stands(inner: Any) -> Any:
        own = type(inner).call_tool.__module__.partition(".")[0] != "pydantic_ai"
        # One that wraps another does something around its calls, as live.
        if asking() is None or not own or isinstance(inner, WrapperToolset):
            return inner

        async def call_tool(name: str, tool_args: dict[str, Any], ctx: Any, tool: Any) -> Any:
            calls = made.of(name, ctx, None, origin(type(inner)))
            return await made.run(calls, tool_args, lambda: inner.call_tool(name, tool_args, ctx, tool))

        return StandIn(inner, call_tool=call_tool)

    return stands


class _Calls:
    """How calls of tools are made, with pydantic-ai's own classes."""

    def __init__(self) -> None:
        from pydantic_ai import exceptions, messages

        self._exceptions, self._messages = exceptions, messages
        self._shapes = {name: getattr(messages, name) for name in _RETURNED} | {"Deferred": _Deferred}

    def of(self, name: str, ctx: Any, function: Any, own: str) -> ToolCalls:
        # Two toolsets may have tools of one name, which the agent tells apart by prefixes.
        known = getattr(ctx, "_dispatched_tool_name", None) or name
        raises = (self._exceptions.ModelRetry, self._exceptions.ToolFailed)
        return adapted(known, function, own=own, shapes=self._shapes, raises=raises)

    async def run(self, calls: ToolCalls, args: dict[str, Any], call: Callable[[], Awaitable[Any]]) -> Any:
        async def called() -> Any:
            try:
                return self._narrowed(await call())
            except self._exceptions.ApprovalRequired as error:
                return _Deferred(True, error.metadata)
            except self._exceptions.CallDeferred as error:
                return _Deferred(False, error.metadata, getattr(error, "kind", "external"))

        made = await calls.arun(lambda: args, called)
        if not isinstance(made, _Deferred):
            return made
        if made.approval:
            raise self._exceptions.ApprovalRequired(made.metadata)
        # Older versions know of one kind only.
        more = {} if made.kind == "external" else {"kind": made.kind}
        raise self._exceptions.CallDeferred(made.metadata, **more)

    def _narrowed(self, value: Any) -> Any:
        # pydantic-ai itself reads an image as one, whatever it was written as.
        if isinstance(value, self._messages.BinaryContent):
            return self._messages.BinaryContent.narrow_type(value)
        if type(value) is self._messages.ToolReturn:
            content = value.content
            if isinstance(content, list | tuple):
                content = [self._narrowed(item) for item in content]
            return dataclasses.replace(value, return_value=self._narrowed(value.return_value), content=content)
        return value
