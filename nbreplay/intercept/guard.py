"""The network guard: under replay nothing goes out, whatever library tries.

One audit hook, which Python cannot take back. It refuses nothing unless the innermost session replays; it also tells
of changes of the environment, so that nobody has to read that in every call.
It does not see compiled stacks that open their own sockets (pycurl, grpc, ZeroMQ), nor child processes.
"""

from __future__ import annotations

import contextlib
import contextvars
import gc
import ipaddress
import socket
import sys
from collections.abc import Callable
from typing import Any

from nbreplay.core import active, environment, places
from nbreplay.core.config import Mode
from nbreplay.core.frozen import identity
from nbreplay.core.hosts import host_matches, is_loopback
from nbreplay.core.session import Session
from nbreplay.errors import NetworkBlocked

__all__ = ["install", "passing", "permitted", "unseen"]

_installed = False
_permitted: contextvars.ContextVar[bool] = contextvars.ContextVar("nbreplay_permitted", default=False)
# By what lets them through. No counts: threads, and what the collector ends in between, would lose some of them, and
# a host would stay permitted for ever.
_permitted_hosts: dict[int, str] = {}
_UNSEEN = ("pycurl", "grpc", "curl_cffi", "primp")


def install() -> None:
    """Set the guard up, once a process."""
    global _installed
    if not _installed:
        _installed = True
        sys.addaudithook(_hook)
        environment.watched()


def unseen() -> list[str]:
    """Return imported libraries whose network traffic the guard cannot see."""
    return [name for name in _UNSEEN if name in sys.modules]


class permitted:  # noqa: N801
    """Let one call through that was decided to go out, by an inner transport or by ``--allow``. A context manager."""

    __slots__ = ("_host", "_token")

    def __init__(self, host: str) -> None:
        self._host = host.rpartition(":")[0] or host

    def __enter__(self) -> None:
        self._token = _permitted.set(True)
        _permitted_hosts[identity(self)] = self._host

    def __exit__(self, *_: object) -> None:
        _permitted_hosts.pop(identity(self), None)
        try:  # noqa: SIM105 – every call passes here, and `suppress` would take longer than all else
            _permitted.reset(self._token)
        except ValueError:
            pass  # a generator may be finished in another context than it was started in


passing: Callable[[], bool] = _permitted.get
"""Tells whether this is inside a call that is decided: a library over another is asked once, the outer one."""


def _connecting(_: Any, address: Any, *__: Any) -> None:
    # Unix sockets have a path for an address; connected datagram sockets give None.
    if isinstance(address, tuple) and len(address) >= 2:
        _check(str(address[0]), address[1])


def _looking_up(host: Any, port: Any = None, *_: Any) -> None:
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
    # Looking up a literal or this machine itself asks nobody.
    if name and not _is_local_name(name):
        _check(name, port)


_HEARD: dict[str, Callable[..., None]] = {
    **dict.fromkeys(("socket.connect", "socket.sendto", "socket.sendmsg"), _connecting),
    **dict.fromkeys(("socket.getaddrinfo", "socket.gethostbyname"), _looking_up),
    **dict.fromkeys(("os.putenv", "os.unsetenv"), environment.changing),
}


def _hook(event: str, arguments: tuple[Any, ...], heard: Any = _HEARD.get) -> None:
    # A call to a model raises some twenty events, none of which is one of these. As a default, since this module's own
    # names are gone before the last events of a process.
    hear = heard(event)
    if hear is not None:
        hear(*arguments)


def _check(host: str, port: Any) -> None:
    session = active.current()
    if session is None or session.mode is not Mode.REPLAY or _permitted.get() or host in [*_permitted_hosts.values()]:
        return
    if host_matches(host, session.options.allow) or host_matches(f"{host}:{port}", session.options.allow):
        return
    if _resolves_to_allowed(session, host, port) or (is_loopback(host) and _listens_here(port)):
        return
    _refuse(session, host, port)


def _refuse(session: Session, host: str, port: Any) -> None:
    where = host if port in (None, 0) else f"{host}:{port}"
    text = (
        f"nbreplay is replaying, and something tried to reach {where}, which is not recorded: nothing was sent. "
        f"To let it through, say %replay replay --allow {where}"
    )
    session.blocked(where, text)
    raise NetworkBlocked(text)


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


def _listens_here(port: Any) -> bool:
    """Tell whether this very process listens on a port, as a test's server or an event loop's own pair does."""
    for item in gc.get_objects():
        # By type, not isinstance: proxies among all objects would run code for being asked.
        if issubclass(type(item), socket.socket):
            with contextlib.suppress(OSError, AttributeError):
                if item.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) and item.getsockname()[1] == port:
                    return True
    return False


# A store is fetched because it was named, also while another session replays; and that is no call of anybody's.
places.let_out_by(permitted)
