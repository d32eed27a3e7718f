"""Tools of langchain: `_run` and `_arun`, the bodies of a tool, are recorded and replayed.

`BaseTool.run` and `arun` are hooked, and run with a stand-in for the tool. So a replay, too, validates arguments, calls
callbacks, handles errors and builds messages, with the current id of the call. Arguments that langchain injects (ids of
calls, states, stores) are left out of the key.
"""

from __future__ import annotations

import functools
import inspect
from types import ModuleType
from typing import Any

from nbreplay.intercept.patching import StandIn, Undo, put
from nbreplay.intercept.tools.calls import adapt, origin_of, tool_session
from nbreplay.intercept.tools.codec import UNKNOWN


def install(base: ModuleType) -> Undo:
    """Hook into the module of langchain's tools."""
    run, arun, parameter = base.BaseTool.run, base.BaseTool.arun, base._get_runnable_config_param
    _ = base.BaseTool._filter_injected_args
    shapes, raises = {"ToolMessage": base.ToolMessage}, (base.ToolException,)

    def stand_in(tool: Any, body: Any, call_id: str | None) -> StandIn:
        own = getattr(tool, "func", None) or getattr(tool, "coroutine", None)
        function = own or body
        origin = origin_of(own or type(tool))
        fallback = tuple[Any, Any] if tool.response_format == "content_and_artifact" else UNKNOWN
        calls = adapt(tool.name, function, origin=origin, fallback=fallback, shapes=shapes, raises=raises)
        configs = {parameter(function), parameter(body)}

        def arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
            named = tool._filter_injected_args(_arguments_by_name(function, args, kwargs))
            return {name: value for name, value in named.items() if name not in configs}

        def with_call_id(result: Any) -> Any:
            if call_id is not None and getattr(result, "type", None) == "tool" and hasattr(result, "tool_call_id"):
                result.tool_call_id = call_id  # a message that the tool built itself
            return result

        @functools.wraps(tool._run)
        def our_body(*args: Any, **kwargs: Any) -> Any:
            return with_call_id(calls.run(lambda: arguments(args, kwargs), lambda: tool._run(*args, **kwargs)))

        @functools.wraps(tool._arun)
        async def our_async_body(*args: Any, **kwargs: Any) -> Any:
            return with_call_id(await calls.arun(lambda: arguments(args, kwargs), lambda: tool._arun(*args, **kwargs)))

        return StandIn(tool, _run=our_body, _arun=our_async_body)

    @functools.wraps(run)
    def our_run(self: Any, *args: Any, **kwargs: Any) -> Any:
        if tool_session() is None:
            return run(self, *args, **kwargs)
        return run(stand_in(self, self._run, kwargs.get("tool_call_id")), *args, **kwargs)

    @functools.wraps(arun)
    async def our_arun(self: Any, *args: Any, **kwargs: Any) -> Any:
        if tool_session() is None:
            return await arun(self, *args, **kwargs)
        body = self._run if type(self)._arun is base.BaseTool._arun else self._arun
        return await arun(stand_in(self, body, kwargs.get("tool_call_id")), *args, **kwargs)

    return put((base.BaseTool, "run", our_run), (base.BaseTool, "arun", our_arun))


def _arguments_by_name(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by name, with defaults."""
    try:
        parameters = inspect.signature(function).parameters
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            # The function need not accept what the tool itself receives, such as a callback manager.
            kwargs = {name: value for name, value in kwargs.items() if name in parameters}
        bound = inspect.signature(function).bind_partial(*args, **kwargs)
    except (TypeError, ValueError):
        return {**kwargs, **({"args": list(args)} if args else {})}
    bound.apply_defaults()
    named = dict(bound.arguments)
    for name, parameter in parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            named.update(named.pop(name))
        elif parameter.kind is parameter.VAR_POSITIONAL and not named[name]:
            del named[name]
    return named
