"""The network guard: under replay nothing goes out, whatever library tries.

One audit hook, which Python cannot take back. It refuses nothing unless the innermost session replays.
It sees what Python's own modules open and start. Libraries that open their own sockets are hooked in
`nbreplay.intercept.network.compiled`; child processes are judged by their command lines in
`nbreplay.intercept.children.processes`.
"""

from __future__ import annotations

import contextlib
import contextvars
import ipaddress
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

from nbreplay.core.cell import current_run
from nbreplay.core.config import Mode
from nbreplay.core.frozen import identity
from nbreplay.core.request.hosts import host_matches, is_loopback
from nbreplay.core.session import Session, current_session
from nbreplay.core.store import remote
from nbreplay.errors import NetworkBlocked
from nbreplay.intercept.children import forks
from nbreplay.intercept.network import sockets

__all__ = [
    "check",
    "check_address",
    "check_name",
    "check_path",
    "check_reverse",
    "hear",
    "install",
    "is_allowed",
    "passing",
    "permitted",
    "pooled",
    "refuse",
    "replaying",
]

_installed = False
_permitted: contextvars.ContextVar[str | bool] = contextvars.ContextVar("nbreplay_permitted", default=False)
# By what lets them through. No counts: threads, and what the collector ends in between, would lose some of them, and
# a host would stay permitted for ever.
_permitted_hosts: dict[int, str] = {}
pooled: set[tuple[Any, ...]] = set()
"""The addresses that hooked clients have connected to. Under replay they do not use the connections they keep."""

# Functions of the C library that send something, look a name up, or start a process.
_NATIVE = (
    *("connect", "send", "sendmmsg", "sendmsg", "sendto", "socket"),
    *("getaddrinfo", "gethostbyaddr", "gethostbyname", "getnameinfo"),
    *("execl", "execlp", "execv", "execve", "execvp", "fork", "popen", "posix_spawn", "posix_spawnp", "system"),
)


def install() -> None:
    """Set the guard up, once a process."""
    global _installed
    if not _installed:
        _installed = True
        sys.addaudithook(_hook)


def hear(**events: Callable[..., None]) -> None:
    """Have functions called with the arguments of audit events; a dot in a name is written ``__``."""
    _HEARD.update({name.replace("__", "."): function for name, function in events.items()})


def replaying() -> Session | None:
    """Return the innermost session if it replays and this is outside of a call that was decided, else None."""
    session = current_session()
    return None if session is None or session.mode is not Mode.REPLAY or _permitted.get() else session


class permitted:  # noqa: N801
    """Let one call through that was decided to go out, by an inner transport or by ``--allow``. A context manager."""

    __slots__ = ("_host", "_token")

    def __init__(self, host: str) -> None:
        self._host = host.rpartition(":")[0] or host

    def __enter__(self) -> None:
        self._token = _permitted.set(self._host or True)
        _permitted_hosts[identity(self)] = self._host

    def __exit__(self, *_: object) -> None:
        _permitted_hosts.pop(identity(self), None)
        try:  # noqa: SIM105 – every call passes here, and `suppress` would take longer than all else
            _permitted.reset(self._token)
        except ValueError:
            pass  # a generator may be finished in another context than it was started in


passing: Callable[[], str | bool] = _permitted.get
"""Tells whether this is inside a call that is decided: a library over another is asked once, the outer one."""


def _connecting(_: Any, address: Any, *__: Any) -> None:
    by = _permitted.get()
    if by and by is not True and isinstance(address, tuple):
        pooled.add(address[:2])
    check_address(address)


def _looking_up(host: Any, port: Any = None, *_: Any) -> None:
    check_name(host, port)


def _looking_up_address(host: Any, *_: Any) -> None:
    check_reverse(host)


def _naming(address: Any, *_: Any) -> None:
    if isinstance(address, tuple) and address and not sockets.numeric.get():
        check_reverse(address[0])


def _looking_up_symbol(_: Any, name: Any, *__: Any) -> None:
    if name in _NATIVE and (session := replaying()) is not None:
        session.log.uncovered.setdefault(("native", str(name)), False)


def _forking(*_: Any) -> None:
    if replaying() is not None:
        forks.prepare()


_HEARD: dict[str, Callable[..., None]] = {
    **dict.fromkeys(("socket.connect", "socket.sendto", "socket.sendmsg"), _connecting),
    **dict.fromkeys(("socket.getaddrinfo", "socket.gethostbyname"), _looking_up),
    **dict.fromkeys(("os.fork", "os.forkpty"), _forking),
    "socket.gethostbyaddr": _looking_up_address,
    "socket.getnameinfo": _naming,
    "ctypes.dlsym": _looking_up_symbol,
}


def _hook(event: str, arguments: tuple[Any, ...], heard: Any = _HEARD.get) -> None:
    # A call to a model raises some twenty events, none of which is one of these. As a default, since this module's own
    # names are gone before the last events of a process.
    hear = heard(event)
    if hear is not None:
        hear(*arguments)


def check_address(address: Any) -> None:
    """Refuse an address that a socket is about to send to, unless it may.

    Raises
    ------
    NetworkBlocked
    """
    if isinstance(address, tuple):
        if len(address) >= 2:
            check(str(address[0]), address[1])
    elif address and isinstance(address, str | bytes):  # a connected datagram socket gives None
        check_path(os.fsdecode(address))


def check_name(host: Any, port: Any = None) -> None:
    """Refuse to look a name up, unless it may be: a literal or this machine itself asks nobody.

    Raises
    ------
    NetworkBlocked
    """
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
    if name and not _is_local_name(str(name)):
        check(str(name), port)


def check_reverse(host: Any) -> None:
    """Refuse to look up the name of an address, unless it is this machine's.

    Raises
    ------
    NetworkBlocked
    """
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
    # `socket.getfqdn` asks for this machine's own name, and every HTTP server of Python's asks that.
    if name not in ("", "0.0.0.0", "::", socket.gethostname()) and not is_loopback(name):
        check(name, None)


def check(host: str, port: Any) -> None:
    """Refuse a host, unless it may be reached.

    Raises
    ------
    NetworkBlocked
    """
    session = replaying()
    if session is None or host in [*_permitted_hosts.values()] or is_allowed(session, host, port):
        return
    if is_loopback(host) and sockets.listens_here(port):
        return
    where = host if port in (None, 0) else f"{host}:{port}"
    refuse(
        session,
        where,
        f"nbreplay is replaying, and something tried to reach {where}, which is not recorded: nothing was sent. "
        f"To let it through, say %replay replay --allow {where}",
    )


def check_path(path: str) -> None:
    """Refuse the Unix socket of another process, unless it may be reached.

    Raises
    ------
    NetworkBlocked
    """
    session = replaying()
    if session is None or is_allowed(session, path, None) or sockets.is_own_path(path):
        return
    shown = path.replace("\0", "@")
    refuse(
        session,
        shown,
        f"nbreplay is replaying, and something tried to reach the Unix socket {shown} of another process: nothing was "
        f"sent. To let it through, say %replay replay --allow unix:{shown}",
    )


def refuse(session: Session, where: str, text: str) -> None:
    """Log that something was refused, and refuse it.

    Raises
    ------
    NetworkBlocked
        Always.
    """
    session.blocked(where, text)
    run = current_run()
    forks.send(session.log, where, text, run.cell if run else None, session.store.name)
    raise NetworkBlocked(text)


def is_allowed(session: Session, host: str, port: Any) -> bool:
    """Tell whether ``--allow`` lets a host or the path of a Unix socket through."""
    allow = session.options.allow
    if not allow:
        return False
    if "/" in host or "\0" in host:
        return any(item.removeprefix("unix:").replace("@", "\0") == host.replace("@", "\0") for item in allow)
    return (
        host_matches(host, allow) or host_matches(f"{host}:{port}", allow) or _resolves_to_allowed(session, host, port)
    )


def _resolves_to_allowed(session: Session, host: str, port: Any) -> bool:
    """Tell whether an address is one of an allowed name: `connect` sees addresses only."""
    for item in session.options.allow:
        name, _, given = item.rpartition(":") if item.rpartition(":")[2].isdigit() else (item, "", "")
        if given and str(port) != given:
            continue
        if is_loopback(host):
            if name == "localhost":
                return True
            continue
        with contextlib.suppress(OSError):
            # The name is allowed, so that this lookup is let through itself.
            if any(found[4][0] == host for found in socket.getaddrinfo(name, None)):
                return True
    return False


def _is_local_name(name: str) -> bool:
    if name in ("localhost", "localhost.localdomain"):
        return True
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


# A store is fetched because it was named, also while another session replays; and that is no call of anybody's.
remote.set_permit(permitted)
