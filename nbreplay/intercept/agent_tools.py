"""Tools of langchain, pydantic-ai and openai-agents: recorded and replayed as they are, with nothing said of it.

Each is hooked where the library calls the tool's own body, so that what it does around that (validation, callbacks,
what it makes of an exception, ids of calls) happens in a replay, too. What belongs to the run and not to the call, such
as contexts and injected state, is no part of the key.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable
from types import ModuleType
from typing import Any, Union

from nbreplay.core import active
from nbreplay.core.config import Mode
from nbreplay.intercept import guard, hooks
from nbreplay.intercept.codec import UNKNOWN
from nbreplay.intercept.tool_calls import Tool, annotated

__all__ = ["install_agents", "install_langchain", "install_pydantic_ai", "watched"]

_OF_THE_RUN = frozenset({"config", "run_manager", "callbacks"})


def watched() -> bool:
    """Tell whether a tool's call is to be looked at; one within another is the other's own business."""
    session = active.current()
    return session is not None and session.mode is not Mode.OFF and not guard.passing()


def install_langchain(library: ModuleType) -> hooks.Undo:
    """Hook into `langchain_core.tools.base`; return what undoes it.

    Raises
    ------
    AttributeError
        Where the library no longer has the hook.
    """
    base, error = library.BaseTool, library.ToolException
    before, before_async = base.run, base.arun
    put: dict[tuple[type, str], hooks.Undo] = {}

    def prepare(kind: type) -> None:
        # The bodies are methods of subclasses, some of which are not there yet.
        for name, hooked in (("_run", _langchain), ("_arun", _langchain_async)):
            owner = next(known for known in kind.__mro__ if name in vars(known))
            if owner is not base and (owner, name) not in put:
                put[owner, name] = hooks.put((owner, name, hooked(vars(owner)[name], error)))

    def run(self: Any, *args: Any, **options: Any) -> Any:
        prepare(type(self))
        return before(self, *args, **options)

    async def arun(self: Any, *args: Any, **options: Any) -> Any:
        prepare(type(self))
        return await before_async(self, *args, **options)

    undo = hooks.put((base, "run", functools.wraps(before)(run)), (base, "arun", functools.wraps(before_async)(arun)))

    def undo_all() -> None:
        undo()
        while put:
            put.popitem()[1]()

    return undo_all


def _langchain(body: Callable[..., Any], error: type[Exception]) -> Callable[..., Any]:
    @functools.wraps(body)
    def run(self: Any, *args: Any, **options: Any) -> Any:
        if not watched():
            return body(self, *args, **options)
        made = _langchain_tool(self, body, error)
        return made.call(lambda: _langchain_given(self, args, options), lambda: body(self, *args, **options))

    return run


def _langchain_async(body: Callable[..., Any], error: type[Exception]) -> Callable[..., Any]:
    @functools.wraps(body)
    async def run(self: Any, *args: Any, **options: Any) -> Any:
        if not watched():
            return await body(self, *args, **options)
        made = _langchain_tool(self, body, error)
        return await made.acall(lambda: _langchain_given(self, args, options), lambda: body(self, *args, **options))

    return run


def _langchain_tool(tool: Any, body: Callable[..., Any], error: type[Exception]) -> Tool:
    own = getattr(tool, "func", None) or getattr(tool, "coroutine", None) or body
    returns = annotated(own)
    if returns is UNKNOWN and getattr(tool, "response_format", "") == "content_and_artifact":
        returns = tuple[Any, Any]
    return Tool(tool.name, _named(own), returns, (error,))


def _langchain_given(tool: Any, args: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
    left_out = _OF_THE_RUN | getattr(tool, "_injected_args_keys", frozenset())
    named = {"input" if len(args) == 1 else f"input{place}": value for place, value in enumerate(args, 1)}
    return named | {name: value for name, value in options.items() if name not in left_out}


def install_pydantic_ai(library: ModuleType) -> hooks.Undo:
    """Hook into `pydantic_ai.toolsets.function`; return what undoes it.

    Raises
    ------
    AttributeError
        Where the library no longer has the hook.
    """
    kind = library.FunctionToolset
    before = kind.call_tool
    retry = (library.ModelRetry,)  # by which a tool has the model ask again

    async def call_tool(self: Any, name: str, tool_args: dict[str, Any], ctx: Any, tool: Any) -> Any:
        if not watched():
            return await before(self, name, tool_args, ctx, tool)
        own = getattr(self.tools.get(name), "function", None)
        returns = UNKNOWN if own is None else annotated(own)
        made = Tool(name, name if own is None else _named(own), returns, retry)
        return await made.acall(lambda: tool_args, lambda: before(self, name, tool_args, ctx, tool))

    return hooks.put((kind, "call_tool", functools.wraps(before)(call_tool)))


def install_agents(library: ModuleType) -> hooks.Undo:
    """Hook into `agents.run_internal.tool_execution`; return what undoes it.

    Raises
    ------
    AttributeError
        Where the library no longer has the hook.
    """
    before = library._invoke_function_tool_with_metadata

    async def invoke(*, function_tool: Any, context: Any, arguments: str) -> Any:
        if watched():
            function_tool = _agents_tool(function_tool)
        return await before(function_tool=function_tool, context=context, arguments=arguments)

    return hooks.put((library, "_invoke_function_tool_with_metadata", functools.wraps(before)(invoke)))


def _agents_tool(tool: Any) -> Any:
    """Return a tool as it is, but for its body."""
    body = tool.on_invoke_tool

    @functools.wraps(body)
    async def on_invoke_tool(context: Any, arguments: str) -> Any:
        returns = annotated(getattr(tool, "__wrapped__", body))
        # What goes wrong in it, the library makes a text of.
        kept = Tool(tool.name, tool.name, UNKNOWN if returns in (UNKNOWN, Any) else Union[returns, str])  # noqa: UP007
        return await kept.acall(lambda: _agents_given(arguments), lambda: body(context, arguments))

    made = object.__new__(type(tool))
    made.__dict__.update(tool.__dict__, on_invoke_tool=on_invoke_tool)
    return made


def _agents_given(arguments: str) -> dict[str, Any]:
    try:
        given = json.loads(arguments or "{}")
    except ValueError:
        given = None
    return given if isinstance(given, dict) else {"arguments": arguments}


def _named(function: Any) -> str:
    function = inspect.unwrap(function)
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__qualname__)}"
