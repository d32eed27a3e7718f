"""One call of a tool, as a session sees it. `tool` and the adapters of all frameworks go through here."""

from __future__ import annotations

import asyncio
import functools
import json
import time
import typing
import weakref
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from nbreplay.core.config import Mode
from nbreplay.core.recorder import Recorder
from nbreplay.core.replay import Replay
from nbreplay.core.request.request import Call
from nbreplay.core.session import Session, current_session
from nbreplay.errors import RecordingFormatError, RecordingMissing, ToolError
from nbreplay.intercept import placeholder_keys
from nbreplay.intercept.network import guard
from nbreplay.intercept.tools.codec import UNKNOWN, Codec, arguments_of

__all__ = ["MARK", "StandIn", "ToolCalls", "adapted", "annotated", "asking", "line", "origin"]

_JSON = "application/json"
MARK = "__nbreplay_tool__"
"""The attribute of a function that `tool` has made, which holds its `ToolCalls`."""

_names: weakref.WeakKeyDictionary[Session, dict[str, str]] = weakref.WeakKeyDictionary()
"""The functions that have been called as tools in a session, by the tool's name."""


def asking() -> Session | None:
    """Return the session that is to be asked about a call of a tool, None where the call is simply made."""
    session = current_session()
    return None if session is None or session.mode is Mode.OFF or guard.is_permitted() else session


class ToolCalls:
    """A tool whose calls are recorded and replayed.

    Parameters
    ----------
    name : str
    own : str
        The code behind it, by module and name. Two tools of one name must have the same.
    codec : Codec
    ignore : frozenset of str
        Arguments by which calls are not told apart.
    remedy : str
        What to do where two tools have one name.
    """

    def __init__(self, name: str, own: str, codec: Codec, ignore: frozenset[str], remedy: str) -> None:
        self.name, self.own, self.codec, self.ignore, self._remedy = name, own, codec, ignore, remedy

    def ask(self, given: Callable[[], Mapping[str, Any]]) -> Replay | Recorder | None:
        """Ask the session about a call with the arguments that `given` returns; None where it is simply made."""
        if guard.is_permitted():
            return None
        session, mode = placeholder_keys.asked(current_session(), "", tuple)
        if session is None:
            return None
        known = _names.setdefault(session, {})
        if known.setdefault(self.name, self.own) != self.own:
            raise ToolError(f"two tools are called {self.name}: {known[self.name]} and {self.own}. {self._remedy}")
        told = {name: value for name, value in given().items() if name not in self.ignore}
        call = Call("CALL", "", self.name, "", b"", (), "tool", (self.name, arguments_of(told, self.name)))
        return session.ask(call, mode)

    def run(self, given: Callable[[], Mapping[str, Any]], call: Callable[[], Any]) -> Any:
        """Return the result of a call, replayed or out of `call`."""
        decision = self.ask(given)
        if isinstance(decision, Replay):
            delay, value = self._result(decision)
            time.sleep(delay)
            return value
        if decision is None:
            return call()
        with _running(self, decision), guard.permit(""):
            value = call()
        self.keep(decision, lambda: self.codec.dump(value))
        return value

    async def arun(self, given: Callable[[], Mapping[str, Any]], call: Callable[[], Awaitable[Any]]) -> Any:
        """Return the result of an asynchronous call, as `run` does."""
        decision = self.ask(given)
        if isinstance(decision, Replay):
            delay, value = self._result(decision)
            await asyncio.sleep(delay)
            return value
        if decision is None:
            return await call()
        with _running(self, decision), guard.permit(""):
            value = await call()
        self.keep(decision, lambda: self.codec.dump(value))
        return value

    def keep(self, decision: Recorder, made: Callable[[], dict[str, Any]]) -> None:
        """Write what came of a call. What cannot be kept is said now, and not when somebody replays it."""
        try:
            data = made()
        except ToolError as error:
            decision.fail("ToolError", str(error))
            raise
        decision.feed(line(data)[:-1])
        decision.end()

    def _result(self, replay: Replay) -> tuple[float, Any]:
        """Return the seconds to wait and the result of a replayed call."""
        parts = list(replay.parts())
        self.over(replay)
        value = self.loaded(replay, b"".join([data for _, data in parts]))
        return sum([delay for delay, _ in parts]), value

    def loaded(self, replay: Replay, data: bytes) -> Any:
        """Return what was recorded, or raise it."""
        try:
            return self.codec.load(_json(data))
        except RecordingFormatError as error:
            replay.refuse(str(error))
            raise RecordingMissing(f"{error}. To record it anew, say %%replay record") from error

    def over(self, replay: Replay) -> None:
        """Note the end of what was recorded, which may come too early."""
        incomplete = replay.incomplete
        if incomplete is not None:
            replay.fail(incomplete)
        replay.served()


class _running:  # noqa: N801
    """Around a tool that is recorded: what it raises is kept, too."""

    def __init__(self, calls: ToolCalls, decision: Recorder) -> None:
        self._calls, self._decision = calls, decision
        decision.begin(200, [("content-type", _JSON)])

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception):
            known = error
            self._calls.keep(self._decision, lambda: self._calls.codec.dump_exception(known))
        elif error is not None:
            self._decision.interrupt()


def adapted(
    name: str,
    function: Any,
    *,
    own: str = "",
    fallback: Any = UNKNOWN,
    shapes: Mapping[str, Any] | None = None,
    raises: Iterable[type[Exception]] = (),
) -> ToolCalls:
    """Return the calls of a framework's tool.

    What the function's annotation says is believed where it holds, since frameworks do not; one that is made with
    `tool` is kept as that says.

    Parameters
    ----------
    name : str
        The tool's in the framework.
    function : callable or None
        The user's own, which the tool is made of, if it is known.
    own : str
        The code behind it, where there is no function.
    fallback : type
        What it returns where that is not annotated, or not so.
    shapes : mapping of str to type
        The framework's own classes of results, by the names that they have in files.
    raises : iterable of exception classes
        The framework's, which come back as themselves.
    """
    made: ToolCalls | None = getattr(function, MARK, None)
    kind = annotated(function) if made is None else made.codec.kind
    named = (*raises, *(() if made is None else made.codec.raises))
    codec = _codec(kind, named, name, fallback, tuple((shapes or {}).items()))
    ignore = frozenset() if made is None else made.ignore
    return ToolCalls(name, own or origin(function), codec, ignore, "Give one of them another name")


def _made(
    kind: Any, raises: tuple[type[Exception], ...], name: str, fallback: Any, shapes: tuple[tuple[str, Any], ...]
) -> Codec:
    try:
        return Codec(kind, raises, name, fallback=fallback, shapes=dict(shapes))
    except ToolError:
        return Codec(UNKNOWN, raises, name, fallback=fallback, shapes=dict(shapes))


# A framework's tool is met anew with each call, and what validates its results takes longest.
_cached = functools.lru_cache(maxsize=256)(_made)


def _codec(kind: Any, *more: Any) -> Codec:
    try:
        hash(kind)
    except TypeError:
        return _made(kind, *more)
    return _cached(kind, *more)


class StandIn:
    """Passes for an object of a library's, but for some attributes: what it is asked to do, it does with ours.

    An object's own attributes are not replaced for a call: another call may run at the same time.
    """

    def __init__(self, stood: Any, **ours: Any) -> None:
        self.__dict__.update(ours, _stood=stood)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_stood"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.__dict__["_stood"], name, value)

    @property
    def __class__(self) -> Any:
        return type(self.__dict__["_stood"])

    @__class__.setter
    def __class__(self, kind: Any) -> None:
        raise AttributeError("__class__")


def origin(function: Any) -> str:
    """Return where a function is defined: the same for one that was defined again."""
    while isinstance(function, functools.partial):
        function = function.func
    named: Any = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def annotated(function: Any) -> Any:
    """Return the type that a function is annotated to return, or `UNKNOWN`."""
    try:
        return typing.get_type_hints(function, include_extras=True).get("return", UNKNOWN)
    except Exception:  # a name that is not there yet, or only while types are checked
        return UNKNOWN


def line(data: dict[str, Any]) -> bytes:
    """Return what came of a call as a line of JSON."""
    return (json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n").encode()


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RecordingFormatError(f"the result of a tool is not JSON ({error})") from None
