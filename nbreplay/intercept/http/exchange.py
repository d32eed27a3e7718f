"""One HTTP call, as every interceptor handles it: ask the session, send past the guard, record how it ends.

An interceptor translates between its library and an `Exchange`, and decides nothing. Must not import an HTTP library.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from nbreplay.core.config import Mode
from nbreplay.core.recorder import Recorder
from nbreplay.core.recording.headers import framed_headers, phrase_of
from nbreplay.core.recording.take import HTTP11, Take
from nbreplay.core.replay import Replay
from nbreplay.core.request.request import Call, Headers
from nbreplay.core.session import Session
from nbreplay.errors import RecordingMissing
from nbreplay.intercept import placeholder_keys
from nbreplay.intercept.network import guard

CUT_OFF = "the connection broke here when this was recorded"  # where a take has an error without a message
_PORTS = {"http": 80, "https": 443}
_ERRNO = re.compile(r"\[Errno (-?\d{1,6})\] (.*)", re.DOTALL)

DescribeError = Callable[[BaseException], tuple[str, str] | None]
"""Returns the name and the message by which a take keeps an error; None for an interrupt of the program."""


class Exchange:
    """A call that a library is about to send. The mode in which it starts decides, whatever happens to the session.

    Outside of any session it is sent, unless it carries the placeholder of an API key, which raises `RecordingMissing`.
    """

    def __init__(
        self, session: Session | None, method: str, host: str, target: str, headers: Headers, library: str
    ) -> None:
        if session is None:
            placeholder_keys.refuse(target, headers)
        self._session, self._mode = session, Mode.OFF if session is None else session.mode
        self._call = Call(method, host, target, "", b"", headers, library)
        # Whether `replay` needs the body of the request: a placeholder may be in it, too.
        self.needs_body = self._mode is not Mode.OFF or placeholder_keys.was_placed()
        self.recorder: Recorder | None = None  # records the answer, once `replay` has decided so

    def replay(self, body: bytes) -> Replay | None:
        """Ask the session; return the answer to give, or None where the call is to be sent.

        A call without a recording that must not be sent raises `RecordingMissing`.
        """
        self._call.body = body
        if self._session is None:
            placeholder_keys.refuse("", (), self._call.content)
            return None
        decision = self._session.ask(self._call, self._mode)
        if isinstance(decision, Replay):
            return decision
        self.recorder = decision
        return None

    @contextlib.contextmanager
    def sending(self, host: str, describe: DescribeError) -> Iterator[None]:
        """Let the call past the network guard, to `host`; record the error that it ends in."""
        with record_errors(self.recorder, describe), guard.permit(host):
            yield


@contextlib.contextmanager
def record_errors(recorder: Recorder | None, describe: DescribeError) -> Iterator[None]:
    """Record the error in which a part of a call ends, where the call is recorded."""
    try:
        yield
    except BaseException as error:
        if recorder is not None:
            record_error(recorder, error, describe)
        raise


def record_error(recorder: Recorder, error: BaseException, describe: DescribeError) -> None:
    """Record that a call ended in `error`, of the library or of the program around it."""
    if isinstance(error, RecordingMissing):
        return  # a library over this one has said so
    description = describe(error)
    if description is None:
        recorder.interrupt()
    else:
        recorder.fail(*description)


def host_and_target(scheme: str, host: str, port: int | None, target: str) -> tuple[str, str]:
    """Return the host, with a port that is not the scheme's own, and the target, which may name the host to a proxy."""
    if target.startswith(("http://", "https://")):
        parts = urlsplit(target)
        scheme, host, port = parts.scheme, parts.hostname or host, parts.port
        target = parts._replace(scheme="", netloc="", fragment="").geturl()
        target = target if target.startswith("/") else f"/{target}"
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return (host if port in (None, _PORTS.get(scheme)) else f"{host}:{port}"), target or "/"


def errno_and_text(message: str) -> tuple[int, str] | None:
    """Return the two arguments of an `OSError`, of which a take keeps the text; None where it has no number."""
    match = _ERRNO.fullmatch(message)
    return (int(match[1]), match[2]) if match else None


def head_of(take: Take, method: str, size: int | None, encode: Callable[[str], bytes]) -> bytes:
    """Return the head of an HTTP/1 response to `method`; without a `size` of the body, it comes in chunks."""
    version = "HTTP/1.0" if take.http_version == "HTTP/1.0" else HTTP11
    headers = [f"{name}: {value}" for name, value in framed_headers(take, method, size)]
    return b"\r\n".join(map(encode, [f"{version} {take.status} {phrase_of(take)}", *headers, "", ""]))


def encode_line(text: str) -> bytes:
    """Return a line of a head as HTTP/1 sends it, in Latin-1; text that does not fit was received as UTF-8."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape")
