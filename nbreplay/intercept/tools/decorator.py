"""`tool`: any function, recorded and replayed as calls of models are.

What a tool does inside is its own: calls that it makes over the network are neither recorded nor replayed.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

from nbreplay.core.recorder import Recorder
from nbreplay.core.replay import Replay
from nbreplay.errors import ToolError
from nbreplay.intercept.network import guard
from nbreplay.intercept.tools.calls import MARK, ToolCalls, annotated, line, origin
from nbreplay.intercept.tools.codec import UNKNOWN, Codec, item_of

__all__ = ["tool"]

_LINES = "application/x-ndjson"
Function = Callable[..., Any]


def tool(
    function: Any = None,
    *,
    name: str = "",
    returns: Any = UNKNOWN,
    raises: Iterable[type[Exception]] = (),
    ignore: Iterable[str] = (),
) -> Any:
    """Have a function recorded and replayed: ``@tool``, ``@tool(name=…)`` or ``tool(function)``.

    Parameters
    ----------
    function : function, sync or async, generator or not, or a method
    name : str, optional
        By which its calls are known; the function's, if not given.
    returns : type, optional
        What it returns, or what a generator yields; what is annotated, if not given. Results come back in this class.
    raises : iterable of exception classes
        That come back as themselves. Built-in ones do anyway, any other as `nbreplay.RecordedToolError`.
    ignore : iterable of str
        Arguments by which calls are not told apart.

    Returns
    -------
    function
        To be called as before. Outside of any session it only calls `function`.

    Raises
    ------
    ToolError
        Where what it returns cannot be kept. When it is called: where arguments or results cannot be, or another
        function has its name.
    """
    if function is None:
        return functools.partial(tool, name=name, returns=returns, raises=raises, ignore=ignore)
    made = _Tool(function, name or function.__name__, returns, tuple(raises), frozenset(ignore))
    if inspect.isasyncgenfunction(function):
        return made.async_generator()
    if inspect.isgeneratorfunction(function):
        return made.generator()
    return made.coroutine() if inspect.iscoroutinefunction(function) else made.plain()


class _Tool(ToolCalls):
    def __init__(
        self, function: Function, name: str, returns: Any, raises: tuple[type[Exception], ...], ignore: frozenset[str]
    ) -> None:
        self.function, self.signature = function, inspect.signature(function)
        if returns is UNKNOWN:
            returns = annotated(function)
            if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
                returns = item_of(returns)
        codec = Codec(returns, raises, name)
        super().__init__(name, origin(function), codec, ignore, "Name one of them with @tool(name=...)")

    def given(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of a call by their names, without the object whose method it is."""
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        first = next(iter(bound.arguments), "")
        return {name: value for name, value in bound.arguments.items() if name != first or name not in ("self", "cls")}

    def marked(self, call: Function) -> Function:
        setattr(call, MARK, self)
        return call

    # The wrappers.

    def plain(self) -> Function:
        @functools.wraps(self.function)
        def call(*args: Any, **kwargs: Any) -> Any:
            return self.run(lambda: self.given(args, kwargs), lambda: self.function(*args, **kwargs))

        return self.marked(call)

    def coroutine(self) -> Function:
        @functools.wraps(self.function)
        async def call(*args: Any, **kwargs: Any) -> Any:
            return await self.arun(lambda: self.given(args, kwargs), lambda: self.function(*args, **kwargs))

        return self.marked(call)

    def generator(self) -> Function:
        @functools.wraps(self.function)
        def call(*args: Any, **kwargs: Any) -> Iterator[Any]:
            decision = self.ask(lambda: self.given(args, kwargs))
            if isinstance(decision, Replay):
                for delay, data in _lines(decision):
                    time.sleep(delay)
                    yield self.loaded(decision, data)
                self.over(decision)
                return
            inner = self.function(*args, **kwargs)
            if decision is None:
                yield from inner
                return
            with _yielding(self, decision) as note:
                while True:
                    with guard.permit(""):
                        value = next(inner, _END)
                    if value is _END:
                        return
                    note(value)
                    yield value

        return call

    def async_generator(self) -> Function:
        @functools.wraps(self.function)
        async def call(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            decision = self.ask(lambda: self.given(args, kwargs))
            if isinstance(decision, Replay):
                for delay, data in _lines(decision):
                    await asyncio.sleep(delay)
                    yield self.loaded(decision, data)
                self.over(decision)
                return
            inner = self.function(*args, **kwargs)
            if decision is None:
                async for value in inner:
                    yield value
                return
            with _yielding(self, decision) as note:
                while True:
                    with guard.permit(""):
                        value = await anext(inner, _END)
                    if value is _END:
                        return
                    note(value)
                    yield value

        return call


_END = object()


class _yielding:  # noqa: N801
    """Around a generator that is recorded: every item is noted as it comes."""

    def __init__(self, tool: _Tool, decision: Recorder) -> None:
        self._tool, self._decision = tool, decision
        decision.begin(200, [("content-type", _LINES)])

    def __enter__(self) -> Callable[[Any], None]:
        return lambda value: self._decision.feed(line(self._tool.codec.dump(value)))

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None:
            self._decision.end()
        elif isinstance(error, GeneratorExit):
            self._decision.close()
        elif isinstance(error, ToolError):
            self._decision.fail("ToolError", str(error))
        elif isinstance(error, Exception):
            self._decision.feed(line(self._tool.codec.dump_exception(error)))
            self._decision.end()
        else:
            self._decision.interrupt()


def _lines(replay: Replay) -> Iterator[tuple[float, bytes]]:
    for delay, data in replay.parts():
        for one in data.splitlines():
            yield delay, one
            delay = 0.0
