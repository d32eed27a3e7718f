"""Tools of langchain: recorded and replayed are what their own bodies return, `_run` and `_arun`.

`BaseTool.run` and `arun` are hooked, and run as they are with a stand-in of the tool whose body is ours: arguments are
validated, callbacks called, errors handled and messages made as live, with the id of the call that is asked now.
Arguments that langchain injects (ids of calls, states, stores) are no part of what a call is known by.
"""

from __future__ import annotations

import functools
import inspect
from types import ModuleType
from typing import Any

from nbreplay.intercept.patching import Undo, put
from nbreplay.intercept.tools.calls import StandIn, ToolCalls, adapted, asking, origin
from nbreplay.intercept.tools.codec import UNKNOWN

__all__ = ["install"]


def install(base: ModuleType) -> Undo:
    """Hook into the module of langchain's tools."""
    run, arun, parameter = base.BaseTool.run, base.BaseTool.arun, base._get_runnable_config_param
    _ = base.BaseTool._filter_injected_args  # a version without it is told of now, and not when a tool is called
    shapes, raises = {"ToolMessage": base.ToolMessage}, (base.ToolException,)

    def stand_in(tool: Any, body: Any, call_id: str | None) -> Any:
        function = getattr(tool, "func", None) or getattr(tool, "coroutine", None)
        own = "" if function is not None else origin(type(tool))
        pair = tool.response_format == "content_and_artifact"
        fallback = tuple[Any, Any] if pair else UNKNOWN
        function = function or body
        calls = adapted(tool.name, function, own=own, fallback=fallback, shapes=shapes, raises=raises)
        return _stand_in(tool, function, calls, {parameter(function), parameter(body)}, call_id)

    @functools.wraps(run)
    def our_run(self: Any, *args: Any, **kwargs: Any) -> Any:
        if asking() is None:
            return run(self, *args, **kwargs)
        return run(stand_in(self, self._run, kwargs.get("tool_call_id")), *args, **kwargs)

    @functools.wraps(arun)
    async def our_arun(self: Any, *args: Any, **kwargs: Any) -> Any:
        if asking() is None:
            return await arun(self, *args, **kwargs)
        body = self._run if type(self)._arun is base.BaseTool._arun else self._arun
        return await arun(stand_in(self, body, kwargs.get("tool_call_id")), *args, **kwargs)

    return put((base.BaseTool, "run", our_run), (base.BaseTool, "arun", our_arun))


def _stand_in(tool: Any, function: Any, calls: ToolCalls, configs: set[str | None], call_id: str | None) -> Any:
    def given(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        named = _named(function, args, kwargs)
        return {name: value for name, value in tool._filter_injected_args(named).items() if name not in configs}

    def now(value: Any) -> Any:
        if call_id is not None and getattr(value, "type", None) == "tool" and hasattr(value, "tool_call_id"):
            value.tool_call_id = call_id  # a message that the tool made itself
        return value

    @functools.wraps(tool._run)
    def body(*args: Any, **kwargs: Any) -> Any:
        return now(calls.run(lambda: given(args, kwargs), lambda: tool._run(*args, **kwargs)))

    @functools.wraps(tool._arun)
    async def async_body(*args: Any, **kwargs: Any) -> Any:
        return now(await calls.arun(lambda: given(args, kwargs), lambda: tool._arun(*args, **kwargs)))

    return StandIn(tool, _run=body, _arun=async_body)


def _named(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by their names, with defaults."""
    try:
        signature = inspect.signature(function)
        accepted = {name for name, one in signature.parameters.items() if one.kind is not one.VAR_KEYWORD}
        whole = len(accepted) < len(signature.parameters)
        # What the tool itself is handed, such as a callback manager, its function need not take.
        bound = signature.bind_partial(
            *args, **{name: value for name, value in kwargs.items() if whole or name in accepted}
        )
    except (TypeError, ValueError):
        return {**kwargs, **({"args": list(args)} if args else {})}
    bound.apply_defaults()
    named = dict(bound.arguments)
    for name, one in signature.parameters.items():
        if one.kind is one.VAR_KEYWORD:
            named.update(named.pop(name))
        elif one.kind is one.VAR_POSITIONAL and not named[name]:
            del named[name]
    return named
