"""A tool, and one call of it: what a session is asked, how a result is kept, and how it comes back.

Shared by `nbreplay.tool` and by what hooks into the tools of other libraries.
"""

from __future__ import annotations

import asyncio
import functools
import json
import time
import typing
import weakref
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from nbreplay.core import active
from nbreplay.core.recorder import Recorder
from nbreplay.core.replay import Replay
from nbreplay.core.request import Call
from nbreplay.core.session import Session
from nbreplay.errors import RecordingFormatError, RecordingMissing, ToolError
from nbreplay.intercept import guard
from nbreplay.intercept.codec import UNKNOWN, Codec, arguments_of

__all__ = ["Tool", "annotated", "line_of"]

_JSON = "application/json"

# A tool that is hooked into is made anew for each call, and what validates its results takes longest.
_codec = functools.lru_cache(maxsize=256)(Codec)

_names: weakref.WeakKeyDictionary[Session, dict[str, str]] = weakref.WeakKeyDictionary()
"""What has been called as a tool in a session, by the tool's name."""


class Tool:
    """Something whose calls are recorded and replayed.

    Parameters
    ----------
    name : str
        By which its calls are known.
    own : str
        What tells it from another of that name, such as where it is defined.
    returns : type
        What it returns, or `nbreplay.intercept.codec.UNKNOWN`.
    raises : tuple of exception classes
        That come back as themselves.

    Raises
    ------
    ToolError
        Where what it returns cannot be kept.
    """

    def __init__(self, name: str, own: str, returns: Any = UNKNOWN, raises: tuple[type[Exception], ...] = ()) -> None:
        self.name, self.own = name, own
        try:
            self.codec = _codec(returns, raises, name)
        except TypeError:  # a type that cannot be hashed
            self.codec = Codec(returns, raises, name)

    def ask(self, given: Callable[[], Mapping[str, Any]]) -> Replay | Recorder | None:
        """Return what becomes of a call with the arguments that `given` returns, by name.

        Raises
        ------
        RecordingMissing
        ToolError
            Where the arguments cannot be told apart, or another tool has the name.
        """
        session = active.current()
        if session is None or guard.passing() or session.passes(""):
            return None
        known = _names.setdefault(session, {})
        if known.setdefault(self.name, self.own) != self.own:
            raise ToolError(
                f"two tools are called {self.name}: {known[self.name]} and {self.own}. "
                "Name one of them with @tool(name=...)"
            )
        call = Call("CALL", "", self.name, "", b"", (), "tool", (self.name, arguments_of(given(), self.name)))
        return session.ask(call)

    def call(self, given: Callable[[], Mapping[str, Any]], function: Callable[[], Any]) -> Any:
        """Return what `function` returns, or raise what it raises: now, or when it was recorded."""
        decision = self.ask(given)
        if isinstance(decision, Replay):
            delay, value = self.result(decision)
            time.sleep(delay)
            return value
        if decision is None:
            return function()
        with _running(self, decision), guard.permitted(""):
            value = function()
        self.keep(decision, lambda: self.codec.dump(value))
        return value

    async def acall(self, given: Callable[[], Mapping[str, Any]], function: Callable[[], Awaitable[Any]]) -> Any:
        """Do as `call`, for what is awaited."""
        decision = self.ask(given)
        if isinstance(decision, Replay):
            delay, value = self.result(decision)
            await asyncio.sleep(delay)
            return value
        if decision is None:
            return await function()
        with _running(self, decision), guard.permitted(""):
            value = await function()
        self.keep(decision, lambda: self.codec.dump(value))
        return value

    def keep(self, decision: Recorder, made: Callable[[], dict[str, Any]]) -> None:
        """Write what came of a call. What cannot be kept is said now, and not when somebody replays it."""
        try:
            data = made()
        except ToolError as error:
            decision.fail("ToolError", str(error))
            raise
        decision.feed(line_of(data)[:-1])
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


class _running:  # noqa: N801
    """Around a tool that is recorded: what it raises is kept, too."""

    def __init__(self, tool: Tool, decision: Recorder) -> None:
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


def annotated(function: Callable[..., Any]) -> Any:
    """Return what a function says that it returns, or `nbreplay.intercept.codec.UNKNOWN`."""
    try:
        return typing.get_type_hints(function, include_extras=True).get("return", UNKNOWN)
    except Exception:  # a name that is not there yet, or only while types are checked
        return UNKNOWN


def line_of(data: dict[str, Any]) -> bytes:
    """Return a result as a line of JSON."""
    return (json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n").encode()


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise RecordingFormatError(f"the result of a tool is no JSON ({error})") from None
