"""The sockets of this process: where it listens, and its peers.

They are listed by the system, since compiled libraries open sockets, too. Where it has no such list, as on Windows,
Python's own sockets are found among its objects.
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
from typing import Any, NamedTuple

from nbreplay.intercept.patching import Undo, put

numeric: contextvars.ContextVar[bool] = contextvars.ContextVar("nbreplay_numeric", default=False)
"""True inside a `socket.getnameinfo` for numbers only, which sends nothing."""

# Services of the desktop and of logging, which send nothing out of this machine.
_DESKTOP = (
    r"/tmp/\.(X11|ICE|font)-unix/|/tmp/dbus-|(/var)?/run/(user/\d+/(bus$|wayland-|pulse/|pipewire-|at-spi/|gcr/|keyring/)"
    r"|dbus/|systemd/(journal|notify|userdb)|nscd/|syslog)|/dev/log$"
)


def install(library: ModuleType) -> Undo:
    """Hook into the module `socket`: the audit event of ``getnameinfo`` has no flags."""
    before = library.getnameinfo

    @functools.wraps(before)
    def getnameinfo(sockaddr: Any, flags: int) -> Any:
        if not flags & socket.NI_NUMERICHOST:
            return before(sockaddr, flags)
        token = numeric.set(True)
        try:
            return before(sockaddr, flags)
        finally:
            numeric.reset(token)

    return put((library, "getnameinfo", getnameinfo))


def listens_here(port: Any) -> bool:
    """Tell whether this process listens on a port, as a test's server or the socket pair of an event loop does."""
    return any(item.listening and item.name[1] == port for item in _sockets() if isinstance(item.name, tuple))


def is_own_path(path: str | bytes) -> bool:
    """Tell whether a Unix socket belongs to this process, to multiprocessing, or to a desktop's service."""
    import tempfile

    path = os.fsdecode(path)
    plain = path.lstrip("\0")
    if re.match(_DESKTOP, plain) or (path.startswith("\0") and re.fullmatch(r"listener-\d+-\d+", plain)):
        return True
    folder = os.path.dirname(os.path.abspath(plain))
    temporary = os.path.realpath(tempfile.gettempdir())
    if os.path.basename(folder).startswith("pymp-") and os.path.realpath(os.path.dirname(folder)) == temporary:
        return True
    for display in ("WAYLAND_DISPLAY", "NOTIFY_SOCKET"):
        if os.environ.get(display) in (path, os.path.basename(path)):
            return True
    return any(_is_same_path(item.name, path) for item in _sockets() if item.peer is None)


def peers() -> list[tuple[str, int] | str]:
    """Return the hosts and ports, or paths, to which this process has connected sockets, except its own servers."""
    items = list(_sockets())
    ports = {item.name[1] for item in items if item.listening and isinstance(item.name, tuple)}
    paths = {item.name for item in items if item.listening and not isinstance(item.name, tuple)}
    names = {item.name for item in items}
    addresses: dict[tuple[str, int] | str, None] = {}
    for item in items:
        if not item.peer or item.peer in names:
            continue
        if isinstance(item.peer, tuple):
            if item.name[1] not in ports and item.peer[1] not in ports:
                addresses[item.peer[:2]] = None
        elif item.name not in paths and not is_own_path(item.peer):
            addresses[os.fsdecode(item.peer)] = None
    return list(addresses)


class _Socket(NamedTuple):
    listening: bool
    name: Any
    peer: Any  # None where it is not connected


def _sockets() -> Iterator[_Socket]:
    families = (socket.AF_INET, socket.AF_INET6, getattr(socket, "AF_UNIX", None))
    for item in _open_sockets():
        with contextlib.suppress(OSError, AttributeError):
            if item.family in families:
                peer = None
                with contextlib.suppress(OSError):
                    peer = item.getpeername()
                listening = bool(item.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
                yield _Socket(listening, item.getsockname(), peer)


def _open_sockets() -> Iterator[socket.socket]:
    folder = next(filter(os.path.isdir, ("/proc/self/fd", "/dev/fd")), None)
    if folder is None:
        # By type, not isinstance, which would run the code of proxies.
        yield from [item for item in gc.get_objects() if issubclass(type(item), socket.socket)]
        return
    for entry in os.listdir(folder):
        with contextlib.suppress(OSError, ValueError):
            number = int(entry)
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                blocking = os.get_blocking(number)
                with socket.socket(fileno=os.dup(number)) as item:
                    if socket.getdefaulttimeout() is not None:
                        os.set_blocking(number, blocking)  # the new object has changed that for the original, too
                    yield item


def _is_same_path(name: Any, path: str) -> bool:
    if not name or isinstance(name, tuple):
        return False
    own = os.fsdecode(name)
    return own == path or ("\0" not in own + path and os.path.realpath(own) == os.path.realpath(path))
