"""`tool`: any function, recorded and replayed as calls of models are.

What a tool does inside is its own: calls that it makes over the network are neither recorded nor replayed.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import time
import typing
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

from nbreplay.core import active
from nbreplay.core.recorder import Recorder
from nbreplay.core.replay import Replay
from nbreplay.core.request import Call
from nbreplay.core.session import Session
from nbreplay.errors import RecordingFormatError, RecordingMissing, ToolError
from nbreplay.intercept import guard
from nbreplay.intercept.codec import UNKNOWN, Codec, arguments_of, item_of

__all__ = ["tool"]

_JSON, _LINES = "application/json", "application/x-ndjson"
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


_names: weakref.WeakKeyDictionary[Session, dict[str, str]] = weakref.WeakKeyDictionary()
"""The functions that have been called as tools in a session, by the tool's name."""


class _Tool:
    def __init__(
        self, function: Function, name: str, returns: Any, raises: tuple[type[Exception], ...], ignore: frozenset[str]
    ) -> None:
        self.function, self.name, self.ignore = function, name, ignore
        self.signature = inspect.signature(function)
        if returns is UNKNOWN:
            returns = _annotated(function)
            if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
                returns = item_of(returns)
        self.codec = Codec(returns, raises, name)

    def ask(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Replay | Recorder | None:
        session = active.current()
        if session is None or guard.passing() or session.passes(""):
            return None
        known = _names.setdefault(session, {})
        own = f"{self.function.__module__}.{self.function.__qualname__}"
        if known.setdefault(self.name, own) != own:
            raise ToolError(
                f"two tools are called {self.name}: {known[self.name]} and {own}. Name one of them with @tool(name=...)"
            )
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        first = next(iter(bound.arguments), "")
        left_out = self.ignore | ({first} if first in ("self", "cls") else set())
        given = {name: value for name, value in bound.arguments.items() if name not in left_out}
        call = Call("CALL", "", self.name, "", b"", (), "tool", (self.name, arguments_of(given, self.name)))
        return session.ask(call)

    # What the wrappers of all kinds of functions share.

    def keep(self, decision: Recorder, made: Callable[[], dict[str, Any]]) -> None:
        """Write what came of a call. What cannot be kept is said now, and not when somebody replays it."""
        try:
            data = made()
        except ToolError as error:
            decision.fail("ToolError", str(error))
            raise
        decision.feed(_line(data)[:-1])
        decision.end()

    def result(self, replay: Replay) -> tuple[float, Any]:
        """Return the seconds to wait and the result of a replayed call."""
        parts = list(replay.parts())
        self.over(replay)
        value = self.loaded(replay, b"".join([data for _, data in parts]))
        return sum([delay for delay, _ in parts]), value

    def loaded(self, replay: Replay, data: bytes) -> Any:
        try:
            return self.codec.load(_json(data))
        except RecordingFormatError as error:
            replay.refuse(str(error))
            raise RecordingMissing(f"{error}. To record it anew, say %%replay record") from error

    def over(self, replay: Replay) -> None:
        incomplete = replay.incomplete
        if incomplete is not None:
            replay.fail(incomplete)
        replay.served()

    # The wrappers.

    def plain(self) -> Function:
        @functools.wraps(self.function)
        def call(*args: Any, **kwargs: Any) -> Any:
            decision = self.ask(args, kwargs)
            if isinstance(decision, Replay):
                delay, value = self.result(decision)
                time.sleep(delay)
                return value
            if decision is None:
                return self.function(*args, **kwargs)
            with _running(self, decision), guard.permitted(""):
                value = self.function(*args, **kwargs)
            self.keep(decision, lambda: self.codec.dump(value))
            return value

        return call

    def coroutine(self) -> Function:
        @functools.wraps(self.function)
        async def call(*args: Any, **kwargs: Any) -> Any:
            decision = self.ask(args, kwargs)
            if isinstance(decision, Replay):
                delay, value = self.result(decision)
                await asyncio.sleep(delay)
                return value
            if decision is None:
                return await self.function(*args, **kwargs)
            with _running(self, decision), guard.permitted(""):
                value = await self.function(*args, **kwargs)
            self.keep(decision, lambda: self.codec.dump(value))
            return value

        return call

    def generator(self) -> Function:
        @functools.wraps(self.function)
        def call(*args: Any, **kwargs: Any) -> Iterator[Any]:
            decision = self.ask(args, kwargs)
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
                    with guard.permitted(""):
                        value = next(inner, _END)
                    if value is _END:
                        return
                    note(value)
                    yield value

        return call

    def async_generator(self) -> Function:
        @functools.wraps(self.function)
        async def call(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            decision = self.ask(args, kwargs)
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
                    with guard.permitted(""):
                        value = await anext(inner, _END)
                    if value is _END:
                        return
                    note(value)
                    yield value

        return call


_END = object()


class _running:  # noqa: N801
    """Around a tool that is recorded: what it raises is kept, too."""

    def __init__(self, tool: _Tool, decision: Recorder) -> None:
        self._tool, self._decision = tool, decision
        decision.answered(200, [("content-type", _JSON)])

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception):
            known = error
            self._tool.keep(self._decision, lambda: self._tool.codec.dump_exception(known))
        elif error is not None:
            self._decision.interrupt()


class _yielding:  # noqa: N801
    """Around a generator that is recorded: every item is noted as it comes."""

    def __init__(self, tool: _Tool, decision: Recorder) -> None:
        self._tool, self._decision = tool, decision
        decision.answered(200, [("content-type", _LINES)])

    def __enter__(self) -> Callable[[Any], None]:
        return lambda value: self._decision.feed(_line(self._tool.codec.dump(value)))

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None:
            self._decision.end()
        elif isinstance(error, GeneratorExit):
            self._decision.close()
        elif isinstance(error, ToolError):
            self._decision.fail("ToolError", str(error))
        elif isinstance(error, Exception):
            self._decision.feed(_line(self._tool.codec.dump_exception(error)))
            self._decision.end()
        else:
            self._decision.interrupt()


def _annotated(function: Function) -> Any:
    try:
        return typing.get_type_hints(function, include_extras=True).get("return", UNKNOWN)
    except Exception:  # a name that is not there yet, or only while types are checked
        return UNKNOWN


def _line(data: dict[str, Any]) -> bytes:
    return (json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n").encode()


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise RecordingFormatError(f"the result of a tool is no JSON ({error})") from None


def _lines(replay: Replay) -> Iterator[tuple[float, bytes]]:
    for delay, data in replay.parts():
        for line in data.splitlines():
            yield delay, line
            delay = 0.0
