"""Calls of a tool, as a session sees them. `tool` and the adapters of agent frameworks go through here.

To add an agent framework, write a module beside this one, and list it in `nbreplay.intercept.registry` under the
framework's module that runs tools. Its function ``install``

- looks up every attribute it depends on, so that a version without one is reported when nbreplay is switched on;
- replaces the method closest to the tool's own body, so that the framework's validation, callbacks, retries and error
  handling still run in a replay;
- calls the original method where `tool_session` returns None;
- makes the tool's `ToolCalls` with `adapt`, and gives the framework a `StandIn` that calls ``run`` or ``arun``.

Arguments that a framework injects, such as contexts and ids of calls, are left out of the key.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import typing
import weakref
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from nbreplay.core.config import Mode
from nbreplay.core.recorder import Recorder
from nbreplay.core.replay import Replay
from nbreplay.core.request.request import Call
from nbreplay.core.session import Session, current_session
from nbreplay.errors import RecordingFormatError, RecordingMissing, ToolError
from nbreplay.intercept.network import guard
from nbreplay.intercept.tools.codec import UNKNOWN, Codec, dump_arguments

_T = TypeVar("_T")
MARK = "__nbreplay_tool__"
"""The attribute of a function decorated with `tool` that holds its `ToolCalls`."""

# The origins of the tools called in a session, by the tool's name, in the order of their first calls.
_origins: weakref.WeakKeyDictionary[Session, dict[str, tuple[str, ...]]] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def tool_session() -> Session | None:
    """Return the session that decides on a call of a tool, None where the tool is simply called."""
    session = current_session()
    return None if session is None or session.mode is Mode.OFF or guard.is_permitted() else session


class ToolCalls:
    """A tool whose calls are recorded and replayed.

    `origin` is the module and name of its code: each of several tools of one name gets its own answers. The arguments
    in `ignore` are left out of the key.
    """

    def __init__(self, name: str, origin: str, codec: Codec, ignore: frozenset[str]) -> None:
        self.name, self.origin, self.codec, self.ignore = name, origin, codec, ignore

    def ask(self, arguments: Callable[[], Mapping[str, Any]]) -> Replay | Recorder | None:
        """Ask the session about a call; `arguments` is called only if there is one. None: call the tool."""
        session = current_session()
        if session is None or guard.is_permitted():
            return None
        if (mode := session.mode) is Mode.OFF:
            session.log_live("")
            return None
        call = self.call(arguments())
        call.origins = self._count_origin(session)
        return session.ask(call, mode)

    def call(self, arguments: Mapping[str, Any]) -> Call:
        """Return a call of the tool, as a session is asked about it."""
        keyed = {name: value for name, value in arguments.items() if name not in self.ignore}
        call = Call("CALL", "", self.name, "", b"", (), "tool", (self.name, dump_arguments(keyed, self.name)))
        call.origin = self.origin
        return call

    def _count_origin(self, session: Session) -> tuple[str, ...]:
        with _lock:
            by_name = _origins.setdefault(session, {})
            origins = by_name.get(self.name, ())
            if self.origin not in origins:
                origins = by_name[self.name] = (*origins, self.origin)
        return origins

    def run(self, arguments: Callable[[], Mapping[str, Any]], call: Callable[[], _T]) -> _T:
        """Return the result of a call, replayed or from `call`."""
        decision = self.ask(arguments)
        if decision is None:
            return call()
        value: _T
        if isinstance(decision, Replay):
            data = b"".join(decision.pieces())
            self.end(decision)
            return self.load(decision, data)  # type: ignore[return-value]
        with self.recording(decision) as record:
            with guard.permit(""):
                value = call()
            record(value)
        return value

    async def arun(self, arguments: Callable[[], Mapping[str, Any]], call: Callable[[], Awaitable[_T]]) -> _T:
        """Return the result of an asynchronous call, as `run` does."""
        decision = self.ask(arguments)
        if decision is None:
            return await call()
        value: _T
        if isinstance(decision, Replay):
            data = b"".join([piece async for piece in decision.pieces_async()])
            self.end(decision)
            return self.load(decision, data)  # type: ignore[return-value]
        with self.recording(decision) as record:
            with guard.permit(""):
                value = await call()
            record(value)
        return value

    @contextlib.contextmanager
    def recording(self, recorder: Recorder, *, items: bool = False) -> Iterator[Callable[[Any], None]]:
        """Record the result of a tool, or each of its `items`, and how the block ends."""
        recorder.begin(200, [("content-type", "application/x-ndjson" if items else "application/json")])

        def record(value: Any) -> None:
            try:
                data = self.codec.dump(value)
            except ToolError as error:
                recorder.fail("ToolError", str(error))
                raise
            recorder.feed(data + end())

        def end() -> bytes:
            return b"\n" if recorder.content_type.endswith("ndjson") else b""

        try:
            yield record
        except Exception as error:  # the tool's own; of one that `record` has raised nothing more is kept
            recorder.feed(self.codec.dump_exception(error) + end())
            recorder.end()
            raise
        except BaseException as error:
            if items and isinstance(error, GeneratorExit):
                recorder.close()
            else:
                recorder.interrupt()
            raise
        recorder.end()

    def load(self, replay: Replay, data: bytes) -> object:
        """Return the recorded result, or raise the recorded exception."""
        try:
            return self.codec.load(data)
        except RecordingFormatError as error:
            replay.refuse(str(error))
            raise RecordingMissing(f"{error}. Run the cell with %%replay record to record it again") from error

    def end(self, replay: Replay) -> None:
        """Note the end of a recorded result; raise `RecordingMissing` if the rest could not be recorded."""
        replay.end()
        if not replay.take.complete:
            text = f"the recorded result of the tool {self.name} ends here: {(replay.take.error or {}).get('message')}"
            replay.refuse(text)
            raise RecordingMissing(text)


def adapt(
    name: str,
    function: Any,
    *,
    origin: str,
    fallback: Any = UNKNOWN,
    shapes: Mapping[str, Any] | None = None,
    raises: Iterable[type[Exception]] = (),
) -> ToolCalls:
    """Return the calls of a framework's tool.

    A result that does not fit the function's annotation is recorded as `fallback`, since frameworks accept it. The
    options of a function decorated with `tool` apply.

    Parameters
    ----------
    name, origin : str
        The framework's name of the tool, and the module and name of its code.
    function : callable or None
        The user's function, if there is one.
    fallback : type
    shapes : mapping of str to type
        The framework's classes of results, by their names in recordings.
    raises : iterable of exception classes
        The framework's exceptions, which are raised as themselves.
    """
    calls: ToolCalls | None = getattr(function, MARK, None)
    kind = calls.codec.kind if calls else return_type(function)
    options = ((*raises, *(calls.codec.raises if calls else ())), fallback, tuple((shapes or {}).items()))
    try:
        codec = _codec(name, kind, *options)
    except TypeError:  # an annotation that is not hashable
        codec = _codec.__wrapped__(name, kind, *options)
    ignore = calls.ignore if calls else frozenset[str]()
    return ToolCalls(name, origin, codec, ignore)


# Adapters make the codec for each call, and pydantic's validators are slow to build.
@functools.lru_cache(maxsize=256)
def _codec(name: str, kind: Any, *options: Any) -> Codec:
    try:
        return Codec(name, kind, *options)
    except ToolError:
        return Codec(name, UNKNOWN, *options)


def origin_of(function: Any) -> str:
    """Return the module and name of a function, which stay the same when it is defined again."""
    while isinstance(function, functools.partial):
        function = function.func
    named: Any = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def return_type(function: Any) -> object:
    """Return the type that a function is annotated to return, or `UNKNOWN`."""
    try:
        return typing.get_type_hints(function, include_extras=True).get("return", UNKNOWN)
    except Exception:  # such as a name that is imported for type checkers only
        return UNKNOWN
