"""aiohttp's errors: what a take keeps of one, and the library's own error for what a take keeps."""

from __future__ import annotations

import re
import ssl
from types import ModuleType
from typing import Any

from nbreplay.core.recorder import Recorder
from nbreplay.core.recording.take import Take
from nbreplay.errors import RecordingMissing

__all__ = ["error_of", "failed", "while_connecting"]

# Errors that a take may name, each with what stands in for it where the library is older. Nothing else from a file
# is looked up in the library.
_ERRORS = {
    "ClientConnectionError": "",
    "ClientConnectionResetError": "ClientOSError",
    "ClientConnectorCertificateError": "",
    "ClientConnectorDNSError": "ClientConnectorError",
    "ClientConnectorError": "",
    "ClientConnectorSSLError": "",
    "ClientHttpProxyError": "",
    "ClientOSError": "",
    "ClientPayloadError": "",
    "ClientProxyConnectionError": "",
    "ClientResponseError": "",
    "ConnectionTimeoutError": "ServerTimeoutError",
    "ServerDisconnectedError": "",
    "ServerTimeoutError": "",
    "SocketTimeoutError": "ServerTimeoutError",
    "TimeoutError": "",
}
# What other libraries call them.
_FOREIGN = {
    "ConnectError": "ClientConnectorError",
    "ConnectTimeout": "ConnectionTimeoutError",
    "ReadTimeout": "SocketTimeoutError",
}
_CONNECTING = frozenset(
    [
        "ClientConnectorCertificateError",
        "ClientConnectorDNSError",
        "ClientConnectorError",
        "ClientConnectorSSLError",
        "ClientProxyConnectionError",
        "ConnectionTimeoutError",
    ]
)
_ERRNO = re.compile(r"\[Errno (-?\d{1,6})\] (.*)", re.DOTALL)


def failed(recorder: Recorder, error: BaseException) -> None:
    """Tell a recorder that its call ended in `error`."""
    if isinstance(error, RecordingMissing):
        return
    if not isinstance(error, Exception):
        recorder.interrupt()
        return
    names = [kind.__name__ for kind in type(error).__mro__]
    known = next((name for name in names if name in _ERRORS), None)
    if known is None and isinstance(error, OSError):
        known = "ClientOSError"  # the library makes one of it on its way to the caller
    if known in ("ClientResponseError", "ClientHttpProxyError"):
        recorder.fail(known, f"{error.status}, {error.message}")  # type: ignore[attr-defined]
    elif known is None:
        recorder.fail("ClientConnectionError", f"{names[0]}: {error}")
    elif isinstance(error, OSError) and error.errno is not None:
        recorder.fail(known, f"[Errno {error.errno}] {error.strerror}")
    else:
        recorder.fail(known, str(error))


def _name_of(take: Take) -> str:
    given = (take.error or {}).get("type", "")
    return _FOREIGN.get(given, given)


def while_connecting(take: Take) -> bool:
    """Tell whether a take is of a call for which no connection could be made."""
    return take.status is None and _name_of(take) in _CONNECTING


def error_of(library: ModuleType, request: Any, take: Take) -> Exception:
    """Return the library's own error for the one that a take names."""
    name, message = _name_of(take), (take.error or {}).get("message", "")
    if name not in _ERRORS:
        name = "ClientConnectionError" if take.status is None else "ClientPayloadError"
    if name == "TimeoutError":
        return TimeoutError(*filter(None, [message]))
    kind: Any = getattr(library, name if hasattr(library, name) else _ERRORS[name])
    found = _ERRNO.fullmatch(message)
    number, text = (int(found[1]), found[2]) if found else (0, message)
    made: Exception
    if issubclass(kind, library.ClientConnectorError):
        by_name: dict[str, Any] = {
            "ClientConnectorSSLError": ssl.SSLError,
            "ClientConnectorCertificateError": ssl.SSLCertVerificationError,
        }
        made = kind(request.connection_key, by_name.get(name, OSError)(number, text))
    elif issubclass(kind, library.ClientResponseError):
        status, _, text = message.partition(", ")
        made = kind(request.request_info, (), status=int(status) if status.isdecimal() else 400, message=text)
    elif issubclass(kind, library.ClientOSError) and found:
        made = kind(number, text)
    else:
        made = kind(message or "the connection broke here when this was recorded")
    return made
