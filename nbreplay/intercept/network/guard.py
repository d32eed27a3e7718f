"""The network guard: refuses connections, name lookups and network clients during replay.

One audit hook, which Python cannot remove, sees what Python's own modules open. It refuses nothing unless the innermost
session replays. Compiled libraries are hooked in `nbreplay.intercept.network.libraries`, and child processes are
checked in `nbreplay.intercept.children.processes`. Whatever cannot be refused is named in the session's log.
"""

from __future__ import annotations

import contextlib
import contextvars
import ipaddress
import os
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any

from nbreplay.core.cell import current_run
from nbreplay.core.config import Mode
from nbreplay.core.request.route import host_matches, is_loopback
from nbreplay.core.session import Session, current_session
from nbreplay.core.store import archive
from nbreplay.errors import NetworkBlocked
from nbreplay.intercept.children import forks
from nbreplay.intercept.network import sockets

_installed = False
_permitted: contextvars.ContextVar[str | bool] = contextvars.ContextVar("nbreplay_permitted", default=False)
# By permit, not as counts: a count that one of two threads loses would leave a host open for ever.
_permitted_hosts: dict[permit, str] = {}
# Addresses that hooked clients have connected to. Under replay they do not use the connections they keep.
_pooled: set[tuple[Any, ...]] = set()
_libraries: dict[str, None] = {}

# Functions of the C library that send something, look a name up, or start a process.
_NATIVE = (
    *("connect", "send", "sendmmsg", "sendmsg", "sendto", "socket"),
    *("getaddrinfo", "gethostbyaddr", "gethostbyname", "getnameinfo"),
    *("execl", "execlp", "execv", "execve", "execvp", "fork", "popen", "posix_spawn", "posix_spawnp", "system"),
)


def install() -> None:
    """Install the audit hook, once per process."""
    global _installed
    if not _installed:
        _installed = True
        sys.addaudithook(_hook)


def add_handlers(handlers: Mapping[str, Callable[..., None]]) -> None:
    """Add functions that are called with the arguments of audit events, by the event's name."""
    _handlers.update(handlers)


def replay_session() -> Session | None:
    """Return the innermost session if it replays and no permitted call is under way, else None."""
    session = current_session()
    return None if session is None or session.mode is not Mode.REPLAY or _permitted.get() else session


class permit:  # noqa: N801
    """Context manager that lets one call through, which is recorded by an inner transport or allowed by ``--allow``."""

    __slots__ = ("_host", "_token")

    def __init__(self, host: str) -> None:
        self._host = host.rpartition(":")[0] or host

    def __enter__(self) -> None:
        self._token = _permitted.set(self._host or True)
        _permitted_hosts[self] = self._host

    def __exit__(self, *_: object) -> None:
        _permitted_hosts.pop(self, None)
        # A generator may be finished in another context than the one it was started in.
        with contextlib.suppress(ValueError):
            _permitted.reset(self._token)


is_permitted: Callable[[], str | bool] = _permitted.get
"""Return a true value inside a permitted call: when one library calls another, only the outer call is handled."""


def name_uncovered(kind: str, name: str) -> None:
    """Log something that the guard cannot refuse, by a kind of `nbreplay.core.log.UNCOVERED`, if a session replays."""
    if (session := replay_session()) is not None:
        session.log.uncovered.setdefault((kind, name), False)


def name_library(name: str) -> None:
    """Name a library whose connections cannot be refused, in this session and in later ones."""
    _libraries[name] = None
    name_uncovered("library", name)


def name_existing(session: Session) -> None:
    """Name connections and libraries that were there before `session` began to replay."""
    for peer in sockets.peers():
        host, port = peer if isinstance(peer, tuple) else (peer, None)
        if (host, port) not in _pooled and not _is_allowed(session, host, port):
            text = f"[{host}]" if ":" in host else host
            name_uncovered("connection", host if port is None else f"{text}:{port}")
    for name in _libraries:
        name_uncovered("library", name)


def check_address(address: Any) -> None:
    """Raise `NetworkBlocked` for the address of a socket that is about to connect or send, unless it is allowed."""
    if isinstance(address, tuple):
        if len(address) >= 2:
            check(str(address[0]), address[1])
    elif address and isinstance(address, str | bytes):  # a connected datagram socket gives None
        check_path(os.fsdecode(address))


def check_name(host: Any, port: Any = None, *_: Any) -> None:
    """Raise `NetworkBlocked` for the lookup of a name, unless it is allowed, an address, or this machine's."""
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host or "")
    if not name or name in ("localhost", "localhost.localdomain"):
        return
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        check(name, port)


def check_reverse(host: Any) -> None:
    """Raise `NetworkBlocked` for the lookup of an address's name, unless it is allowed or this machine's."""
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
    # Python's HTTP servers look up this machine's own name, by `socket.getfqdn`.
    if name not in ("", "0.0.0.0", "::", socket.gethostname()) and not is_loopback(name):
        check(name, None)


def check(host: str, port: Any) -> None:
    """Raise `NetworkBlocked` for a host, unless it is allowed, permitted now, or this process listens there."""
    session = replay_session()
    if session is None or host in [*_permitted_hosts.values()] or _is_allowed(session, host, port):
        return
    if is_loopback(host) and sockets.listens_here(port):
        return
    where = host if port in (None, 0) else f"{host}:{port}"
    refuse(
        session,
        where,
        f"nbreplay blocked a connection to {where} during replay; nothing was sent. "
        f"To let it through, run %replay replay --allow {where}",
    )


def check_path(path: str) -> None:
    """Raise `NetworkBlocked` for the Unix socket of another process, unless it is allowed."""
    session = replay_session()
    if session is None or _is_allowed(session, path, None) or sockets.is_own_path(path):
        return
    where = path.replace("\0", "@")
    refuse(
        session,
        where,
        f"nbreplay blocked a connection to the Unix socket {where} of another process during replay; nothing was sent. "
        f"To let it through, run %replay replay --allow unix:{where}",
    )


def refuse(session: Session, where: str, text: str) -> None:
    """Log that something was refused, and raise `NetworkBlocked`."""
    session.log_blocked(where, text)
    run = current_run()
    forks.send(session.log, where, text, run.cell if run else None, session.store.name)
    raise NetworkBlocked(text)


def _is_allowed(session: Session, host: str, port: Any) -> bool:
    allow = session.options.allow
    if not allow:
        return False
    if "/" in host or "\0" in host:
        return any(item.removeprefix("unix:").replace("@", "\0") == host.replace("@", "\0") for item in allow)
    return (
        host_matches(host, allow) or host_matches(f"{host}:{port}", allow) or _is_address_of_allowed(allow, host, port)
    )


def _is_address_of_allowed(allow: tuple[str, ...], host: str, port: Any) -> bool:
    """Tell whether an allowed name resolves to an address: ``connect`` sees addresses only."""
    for item in allow:
        name, _, allowed_port = item.rpartition(":")
        if not allowed_port.isdigit():
            name, allowed_port = item, ""
        if "/" in name or allowed_port not in ("", str(port)):
            continue
        if is_loopback(host):
            if name == "localhost":
                return True
            continue
        with contextlib.suppress(OSError):
            # This lookup passes the guard, since the name is allowed.
            if any(address[0] == host for *_, address in socket.getaddrinfo(name, port if allowed_port else None)):
                return True
    return False


def _on_connect(_: Any, address: Any, *__: Any) -> None:
    permitted = _permitted.get()
    if permitted and permitted is not True and isinstance(address, tuple):
        _pooled.add(address[:2])
    check_address(address)


def _on_getnameinfo(address: Any, *_: Any) -> None:
    if isinstance(address, tuple) and address and not sockets.numeric.get():
        check_reverse(address[0])


def _on_dlsym(_: Any, name: Any, *__: Any) -> None:
    if name in _NATIVE:
        name_uncovered("native", str(name))


def _on_fork(*_: Any) -> None:
    if replay_session() is not None:
        forks.prepare()


_handlers: dict[str, Callable[..., None]] = {
    **dict.fromkeys(("socket.connect", "socket.sendto", "socket.sendmsg"), _on_connect),
    **dict.fromkeys(("socket.getaddrinfo", "socket.gethostbyname"), check_name),
    **dict.fromkeys(("os.fork", "os.forkpty"), _on_fork),
    "socket.gethostbyaddr": check_reverse,
    "socket.getnameinfo": _on_getnameinfo,
    "ctypes.dlsym": _on_dlsym,
}


# A default argument, since this module's names are gone before the last events of a process.
def _hook(event: str, arguments: tuple[Any, ...], handler_of: Any = _handlers.get) -> None:
    handler = handler_of(event)
    if handler is not None:
        handler(*arguments)


# A store that the user named is fetched even while another session replays.
archive.set_permit(permit)
