"""The sockets of this process: where it listens, and what it is connected to.

Python's own sockets are found among its objects; those that compiled libraries open are found in ``/proc``, where
there is one.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import gc
import os
import re
import socket
import stat
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from nbreplay.intercept.patching import Undo, put

__all__ = ["connected", "install", "is_own_path", "listens_here", "numeric"]

numeric: contextvars.ContextVar[bool] = contextvars.ContextVar("nbreplay_numeric", default=False)
"""Whether this is inside of a `socket.getnameinfo` that was asked for numbers only, which asks nobody."""

# Services of the desktop and of logging, which send nothing out of this machine.
_DESKTOP = (
    r"/tmp/\.(X11|ICE|font)-unix/|/tmp/dbus-|(/var)?/run/(user/\d+/(bus$|wayland-|pulse/|pipewire-|at-spi/|gcr/|keyring/)"
    r"|dbus/|systemd/(journal|notify|userdb)|nscd/|syslog)|/dev/log$"
)
_FOLDERS = ("/proc/self/fd", "/dev/fd")


def install(library: ModuleType) -> Undo:
    """Hook into the standard library's sockets; return what undoes it.

    Raises
    ------
    AttributeError
        Where it no longer has the hook.
    """
    before = library.getnameinfo

    @functools.wraps(before)
    def getnameinfo(sockaddr: Any, flags: int) -> Any:
        # The audit event tells of the address alone.
        if not flags & socket.NI_NUMERICHOST:
            return before(sockaddr, flags)
        token = numeric.set(True)
        try:
            return before(sockaddr, flags)
        finally:
            numeric.reset(token)

    return put((library, "getnameinfo", getnameinfo))


def listens_here(port: Any) -> bool:
    """Tell whether this very process listens on a port, as a test's server or an event loop's own pair does."""
    for item in _python_sockets():
        with contextlib.suppress(OSError, AttributeError):
            if item.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) and item.getsockname()[1] == port:
                return True
    return any(own.listening and own.name[1] == port for own in _descriptors() if isinstance(own.name, tuple))


def is_own_path(path: str | bytes) -> bool:
    """Tell whether a Unix socket is this process's own, of multiprocessing, or of a desktop's service."""
    import tempfile

    name = os.fsdecode(path)
    plain = name.lstrip("\0")
    if re.match(_DESKTOP, plain) or (name.startswith("\0") and re.fullmatch(r"listener-\d+-\d+", plain)):
        return True
    folder, temporary = os.path.dirname(os.path.abspath(plain)), os.path.realpath(tempfile.gettempdir())
    if os.path.basename(folder).startswith("pymp-") and os.path.realpath(os.path.dirname(folder)) == temporary:
        return True
    for display in ("WAYLAND_DISPLAY", "NOTIFY_SOCKET"):
        if os.environ.get(display) in (name, os.path.basename(name)):
            return True
    for item in _python_sockets():
        with contextlib.suppress(OSError, AttributeError):
            if item.family == socket.AF_UNIX and _same_path(item.getsockname(), name):
                return True
    return any(_same_path(own.name, name) for own in _descriptors() if own.peer is None)


def connected() -> list[str]:
    """Return the peers that sockets of this process are connected to now, but for its own and those it has accepted."""
    every = list(_descriptors())
    ports = {own.name[1] for own in every if own.listening and isinstance(own.name, tuple)}
    paths = {own.name for own in every if own.listening and not isinstance(own.name, tuple)}
    found: dict[str, None] = {}
    for own in every:
        if isinstance(own.peer, tuple) and isinstance(own.name, tuple):
            if own.name[1] not in ports and own.peer[1] not in ports:
                host = f"[{own.peer[0]}]" if ":" in own.peer[0] else own.peer[0]
                found[f"{host}:{own.peer[1]}"] = None
        elif own.peer and own.name not in paths and own.peer not in paths and not is_own_path(own.peer):
            found[os.fsdecode(own.peer)] = None
    return list(found)


class _Descriptor:
    """What the system says of a socket of this process.

    Attributes
    ----------
    listening : bool
    name, peer : tuple or str or bytes or None
        Its own address, and the one it is connected to.
    """

    __slots__ = ("listening", "name", "peer")

    def __init__(self, item: socket.socket) -> None:
        self.listening = bool(item.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
        self.name: Any = item.getsockname()
        self.peer: Any = None
        with contextlib.suppress(OSError):
            self.peer = item.getpeername()


def _descriptors() -> Iterator[_Descriptor]:
    families = (socket.AF_INET, socket.AF_INET6, getattr(socket, "AF_UNIX", None))
    folder = next(filter(os.path.isdir, _FOLDERS), None)
    for name in os.listdir(folder) if folder else ():
        with contextlib.suppress(OSError, ValueError):
            number = int(name)
            if not stat.S_ISSOCK(os.fstat(number).st_mode):
                continue
            blocking = os.get_blocking(number)
            with socket.socket(fileno=os.dup(number)) as item:
                if socket.getdefaulttimeout() is not None:
                    os.set_blocking(number, blocking)  # a new object has just changed that, for the original as well
                if item.family in families:
                    yield _Descriptor(item)


def _python_sockets() -> Iterator[socket.socket]:
    for item in gc.get_objects():
        # By type, not isinstance: proxies among all objects would run code for being asked.
        if issubclass(type(item), socket.socket):
            yield item


def _same_path(one: Any, other: str) -> bool:
    if not one or isinstance(one, tuple):
        return False
    given = os.fsdecode(one)
    return given == other or ("\0" not in given + other and os.path.realpath(given) == os.path.realpath(other))
