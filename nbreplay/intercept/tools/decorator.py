"""`tool`: any function, recorded and replayed like calls of models.

Calls that a tool makes over the network are neither recorded nor replayed.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any, TypeVar, get_args, overload

from nbreplay.core.replay import Replay
from nbreplay.core.turns import Pause, wait, wait_async
from nbreplay.intercept.network import guard
from nbreplay.intercept.tools.calls import MARK, ToolCalls, origin_of, return_type
from nbreplay.intercept.tools.codec import UNKNOWN, Codec

_END = object()
Function = Callable[..., Any]
_F = TypeVar("_F", bound=Callable[..., object])  # the very type: a ParamSpec would lose overloads
_Errors = Iterable[type[Exception]]


@overload
def tool(
    function: _F, *, name: str = "", returns: object = ..., raises: _Errors = (), ignore: Iterable[str] = ()
) -> _F: ...
@overload
def tool(
    *, name: str = "", returns: object = ..., raises: _Errors = (), ignore: Iterable[str] = ()
) -> Callable[[_F], _F]: ...
def tool(
    function: Callable[..., object] | None = None,
    *,
    name: str = "",
    returns: object = UNKNOWN,
    raises: _Errors = (),
    ignore: Iterable[str] = (),
) -> object:
    """Record and replay a function: ``@tool``, ``@tool(name=…)``, ``tool(function)``.

    A call is identified by the tool's name and its arguments. In a replay the
    function does not run: its recorded result is returned, or the exception
    that it raised.

    Parameters
    ----------
    function : function
        Sync or async, a generator or not, or a method. The tool has its
        signature.
    name : str, optional
        The tool's name in recordings; the function's name, if not given.
    returns : type, optional
        The type that it returns, or that a generator yields; the annotated one,
        if not given. Replayed results have this type.
    raises : iterable of exception classes
        Exceptions that a replay raises as themselves, as it does built-in ones.
        Any other is raised as `nbreplay.RecordedToolError`.
    ignore : iterable of str
        Arguments to leave out of the key.

    Returns
    -------
    function
        Called like `function`. Outside any session it only calls `function`.

    Raises
    ------
    ToolError
        If its return type cannot be recorded; when it is called, if arguments
        or results cannot be recorded.

    Examples
    --------
    >>> import nbreplay as nr
    >>> @nr.tool
    ... def search(query: str, limit: int = 3) -> list[str]:
    ...     print("searching")
    ...     return [f"{query} {number}" for number in range(limit)]
    >>> with nr.session("recordings", mode="auto"):
    ...     search("harbours", limit=2)
    searching
    ['harbours 0', 'harbours 1']
    >>> with nr.session("recordings", mode="replay"):
    ...     search("harbours", limit=2)
    ['harbours 0', 'harbours 1']
    """
    if function is None:
        return functools.partial(tool, name=name, returns=returns, raises=raises, ignore=ignore)
    if isinstance(function, staticmethod | classmethod):
        inner = tool(function.__func__, name=name, returns=returns, raises=raises, ignore=ignore)
        return type(function)(inner)
    is_generator = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
    if returns is UNKNOWN:
        returns = return_type(function)
        if is_generator:
            returns = next(iter(get_args(returns)), UNKNOWN)
    name = name or function.__name__
    codec = Codec(name, returns, tuple(raises))
    calls = ToolCalls(name, origin_of(function), codec, frozenset(ignore))
    if is_generator:
        wrap = _wrap_async_generator if inspect.isasyncgenfunction(function) else _wrap_generator
    else:
        wrap = _wrap_coroutine if inspect.iscoroutinefunction(function) else _wrap_function
    wrapper = functools.wraps(function)(wrap(calls, function, inspect.signature(function)))
    setattr(wrapper, MARK, calls)
    return wrapper


def _wrap_function(calls: ToolCalls, function: Function, signature: inspect.Signature) -> Function:
    def call(*args: Any, **kwargs: Any) -> Any:
        return calls.run(lambda: _arguments(signature, args, kwargs), lambda: function(*args, **kwargs))

    return call


def _wrap_coroutine(calls: ToolCalls, function: Function, signature: inspect.Signature) -> Function:
    async def call(*args: Any, **kwargs: Any) -> Any:
        return await calls.arun(lambda: _arguments(signature, args, kwargs), lambda: function(*args, **kwargs))

    return call


def _wrap_generator(calls: ToolCalls, function: Function, signature: inspect.Signature) -> Function:
    def call(*args: Any, **kwargs: Any) -> Iterator[Any]:
        decision = calls.ask(lambda: _arguments(signature, args, kwargs))
        if isinstance(decision, Replay):
            for delay, line in _lines(decision):
                wait(delay)
                yield calls.load(decision, line)
            calls.end(decision)
        elif decision is None:
            yield from function(*args, **kwargs)
        else:
            items = function(*args, **kwargs)
            with calls.recording(decision, items=True) as record:
                while True:
                    with guard.permit(""):
                        item = next(items, _END)
                    if item is _END:
                        return
                    record(item)
                    yield item

    return call


def _wrap_async_generator(calls: ToolCalls, function: Function, signature: inspect.Signature) -> Function:
    async def call(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        decision = calls.ask(lambda: _arguments(signature, args, kwargs))
        if isinstance(decision, Replay):
            for delay, line in _lines(decision):
                await wait_async(delay)
                yield calls.load(decision, line)
            calls.end(decision)
        elif decision is None:
            async for item in function(*args, **kwargs):
                yield item
        else:
            items = function(*args, **kwargs)
            with calls.recording(decision, items=True) as record:
                while True:
                    with guard.permit(""):
                        item = await anext(items, _END)
                    if item is _END:
                        return
                    record(item)
                    yield item

    return call


def _arguments(signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by name, without the object of a method."""
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    first = next(iter(bound.arguments), "")
    return {name: value for name, value in bound.arguments.items() if name != first or name not in ("self", "cls")}


def _lines(replay: Replay) -> Iterator[tuple[Pause, bytes]]:
    for delay, data in replay.parts():
        for number, line in enumerate(data.splitlines()):
            yield 0.0 if number else delay, line
