"""The network guard: refuses connections, name lookups and network clients during replay.

One audit hook, which Python cannot remove, sees what Python's own modules open. It refuses nothing unless the innermost
session replays. Compiled libraries are hooked in `nbreplay.intercept.network.libraries`, and child processes are
checked in `nbreplay.intercept.network.children`. Whatever cannot be refused is named in the session's log.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import gc
import ipaddress
import json
import os
import re
import socket
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from nbreplay.core import log as logs
from nbreplay.core.cell import Cell, current_run
from nbreplay.core.config import Mode
from nbreplay.core.log import Interaction
from nbreplay.core.request.route import host_matches, is_loopback
from nbreplay.core.session import Session, current_session
from nbreplay.core.store import archive
from nbreplay.errors import NetworkBlocked
from nbreplay.intercept.patching import Undo, put

_permitted: contextvars.ContextVar[str | bool] = contextvars.ContextVar("nbreplay_permitted", default=False)
# By permit, not as counts: a count that one of two threads loses would leave a host open for ever.
_permitted_hosts: dict[object, str] = {}
# Addresses that hooked clients have connected to. Under replay they do not use the connections they keep.
_pooled: set[tuple[Any, ...]] = set()
_libraries: dict[str, None] = {}

# Functions of the C library that send something, look a name up, or start a process.
_NATIVE = (
    *("connect", "send", "sendmmsg", "sendmsg", "sendto", "socket"),
    *("getaddrinfo", "gethostbyaddr", "gethostbyname", "getnameinfo"),
    *("execl", "execlp", "execv", "execve", "execvp", "fork", "popen", "posix_spawn", "posix_spawnp", "system"),
)
# Unix sockets of the desktop and of logging, which send nothing out of this machine, and of multiprocessing.
_OWN_PATHS = (
    r"\0*(/tmp/\.(X11|ICE|font)-unix/|/tmp/dbus-|(/var)?/run/(user/\d+/(bus$|wayland-|pulse/|pipewire-|at-spi/|gcr/"
    r"|keyring/)|dbus/|systemd/(journal|notify|userdb)|nscd/|syslog)|/dev/log$)|\0listener-\d+-\d+$"
)


@functools.cache
def install() -> None:
    """Install the audit hook, once per process."""
    sys.addaudithook(_hook)


def install_numeric(library: ModuleType) -> Undo:
    """Permit `socket.getnameinfo` for numbers, which sends nothing: its audit event does not have the flags."""
    before = library.getnameinfo

    @functools.wraps(before)
    def getnameinfo(sockaddr: Any, flags: int) -> Any:
        with permit("") if flags & socket.NI_NUMERICHOST else contextlib.nullcontext():
            return before(sockaddr, flags)

    return put((library, "getnameinfo", getnameinfo))


def replay_session() -> Session | None:
    """Return the innermost session if it replays and no permitted call is under way, else None."""
    session = current_session()
    return None if session is None or session.mode is not Mode.REPLAY or _permitted.get() else session


@contextlib.contextmanager
def permit(host: str) -> Iterator[None]:
    """Let one call through, which is recorded by an inner transport or allowed by ``--allow``."""
    name, permission = host.rpartition(":")[0] or host, object()
    token = _permitted.set(name or True)
    try:
        _permitted_hosts[permission] = name
        yield
    finally:
        _permitted_hosts.pop(permission, None)
        # A generator may be finished in another context than the one it was started in.
        with contextlib.suppress(ValueError):
            _permitted.reset(token)


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
    for host, port in peers():
        if (host, port) not in _pooled and not _is_allowed(session, host, port):
            text = f"[{host}]" if ":" in host else host
            name_uncovered("connection", host if port is None else f"{text}:{port}")
    for name in _libraries:
        name_uncovered("library", name)


def text_of(value: Any) -> str:
    """Return a host, a URL or a path as text, whether a library has it as str, bytes or None."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")


def check_address(address: Any) -> None:
    """Raise `NetworkBlocked` for the address of a socket that is about to connect or send, unless it is allowed."""
    if isinstance(address, tuple) and len(address) >= 2:
        check(str(address[0]), address[1])
    elif address and isinstance(address, str | bytes):  # a connected datagram socket gives None
        check_path(os.fsdecode(address))


def check_name(host: Any, port: Any = None, *_: Any) -> None:
    """Raise `NetworkBlocked` for the lookup of a name, unless it is allowed, an address, or this machine's."""
    if (name := text_of(host)) not in ("", "localhost", "localhost.localdomain"):
        try:
            ipaddress.ip_address(name.partition("%")[0])
        except ValueError:
            check(name, port)


def check_reverse(host: Any) -> None:
    """Raise `NetworkBlocked` for the lookup of an address's name, unless it is allowed or this machine's."""
    name = text_of(host)
    # Python's HTTP servers look up this machine's own name, by `socket.getfqdn`.
    if name not in ("", "0.0.0.0", "::", socket.gethostname()) and not is_loopback(name):
        check(name, None)


def check(host: str, port: Any) -> None:
    """Raise `NetworkBlocked` for a host, unless it is allowed, permitted now, or this process listens there."""
    session = replay_session()
    if session is None or host in [*_permitted_hosts.values()] or _is_allowed(session, host, port):
        return
    if not (is_loopback(host) and any(listens and _end(name) == port for name, _, listens in _sockets())):
        where = host if port in (None, 0) else f"{host}:{port}"
        _refuse_connection(session, where, where, where)


def check_path(path: str) -> None:
    """Raise `NetworkBlocked` for the Unix socket of another process, unless it is allowed."""
    session = replay_session()
    if session is not None and not _is_allowed(session, path, None) and not _is_own_path(path):
        where = path.replace("\0", "@")
        _refuse_connection(session, where, f"the Unix socket {where} of another process", f"unix:{where}")


def _refuse_connection(session: Session, where: str, what: str, allow: str) -> None:
    text = f"nbreplay blocked a connection to {what} during replay; nothing was sent. "
    refuse(session, where, f"{text}To let it through, run %replay replay --allow {allow}")


def refuse(session: Session, where: str, text: str) -> None:
    """Log that something was refused, and raise `NetworkBlocked`."""
    session.log_blocked(where, text)
    report(session, where, text)
    raise NetworkBlocked(text)


def _is_allowed(session: Session, host: str, port: Any) -> bool:
    allow = session.options.allow
    if "/" in host or "\0" in host:
        return any(item.removeprefix("unix:").replace("@", "\0") == host.replace("@", "\0") for item in allow)
    if host_matches(host, allow) or host_matches(f"{host}:{port}", allow):
        return True
    return any(_resolves_to(item, host, port) for item in allow)


def _resolves_to(item: str, host: str, port: Any) -> bool:
    """Tell whether an allowed name resolves to an address: ``connect`` sees addresses only."""
    name, _, allowed_port = item.rpartition(":")
    if not allowed_port.isdigit():
        name, allowed_port = item, ""
    if "/" in name or allowed_port not in ("", str(port)):
        return False
    if is_loopback(host):
        return name == "localhost"
    with contextlib.suppress(OSError):
        # This lookup passes the guard, since the name is allowed.
        return any(address[0] == host for *_, address in socket.getaddrinfo(name, allowed_port or None))
    return False


# The sockets of this process. They are listed by the system, since compiled libraries open sockets, too. Where it has
# no such list, as on Windows, Python's own sockets are found among its objects.


def peers() -> list[tuple[str, int | None]]:
    """Return the hosts and ports to which this process has connected sockets, or paths, except its own servers."""
    items = list(_sockets())
    servers = {_end(name) for name, _, listens in items if listens}
    names = {name for name, *_ in items}
    addresses: dict[tuple[str, int | None], None] = {}
    for name, peer, _ in items:
        if not peer or peer in names or not servers.isdisjoint((_end(name), _end(peer))):
            continue
        if isinstance(peer, tuple):
            addresses[peer[:2]] = None
        elif not _is_own_path(os.fsdecode(peer)):
            addresses[os.fsdecode(peer), None] = None
    return list(addresses)


def _end(address: Any) -> Any:
    """Return the port of an address, or the path of a Unix socket."""
    return address[1] if isinstance(address, tuple) else address


def _is_own_path(path: str) -> bool:
    """Tell whether a Unix socket belongs to this process, to multiprocessing, or to a desktop's service."""
    folder = os.path.dirname(os.path.abspath(path.lstrip("\0")))
    temporary = os.path.realpath(tempfile.gettempdir())
    return (
        re.match(_OWN_PATHS, path) is not None
        or (os.path.basename(folder).startswith("pymp-") and os.path.realpath(os.path.dirname(folder)) == temporary)
        or any(os.environ.get(n) in (path, os.path.basename(path)) for n in ("WAYLAND_DISPLAY", "NOTIFY_SOCKET"))
        or any(_is_same_path(name, path) for name, peer, _ in _sockets() if peer is None)
    )


def _is_same_path(name: Any, path: str) -> bool:
    if not name or isinstance(name, tuple):
        return False
    own = os.fsdecode(name)
    return own == path or ("\0" not in own + path and os.path.realpath(own) == os.path.realpath(path))


def _sockets() -> Iterator[tuple[Any, Any, bool]]:
    """Yield the address of each socket, that of its peer, which is None without one, and whether it listens."""
    families = (socket.AF_INET, socket.AF_INET6, getattr(socket, "AF_UNIX", None))
    for item in _open_sockets():
        with contextlib.suppress(OSError, AttributeError):
            if item.family in families:
                peer = None
                with contextlib.suppress(OSError):
                    peer = item.getpeername()
                yield item.getsockname(), peer, bool(item.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


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


# Reports of forked children. A child inherits the sessions and the guard, but its own log ends with it. So it reports
# refusals in memory that is shared, and made before the first fork under replay. It is not a pipe, since many children
# first close all their files.

_SLOTS, _SLOT_SIZE = 64, 8192  # a child writes to the slot of its process id, which needs no lock


class _Reports:
    def __init__(self) -> None:
        import mmap

        memory = memoryview(mmap.mmap(-1, _SLOTS * (_SLOT_SIZE + 4)))
        self._sizes, self._lines = memory[: _SLOTS * 4].cast("I"), memory[_SLOTS * 4 :]
        self.owner = os.getpid()

    def write(self, line: bytes) -> None:
        slot = os.getpid() % _SLOTS
        start, end = self._sizes[slot], self._sizes[slot] + len(line)
        if end <= _SLOT_SIZE:
            self._lines[slot * _SLOT_SIZE + start : slot * _SLOT_SIZE + end] = line
            self._sizes[slot] = end

    def read(self) -> Iterator[bytes]:
        for slot in range(_SLOTS):
            if size := self._sizes[slot]:
                lines = bytes(self._lines[slot * _SLOT_SIZE :][:size])
                self._sizes[slot] = 0
                yield from lines.splitlines()


_reports: _Reports | None = None
_last_report: list[Any] = []


def report(session: Session, host: str, text: str = "") -> None:
    """Report a refusal to the parent process, if this is a forked child; without `text`, a child process `host`."""
    global _last_report
    if _reports is None or _reports.owner == os.getpid():
        return
    run = current_run()
    cell = [run.cell.id, run.cell.number] if run and run.cell else None
    fields = [os.getpid(), session.log.number, host[:200], text[:1000], cell, session.store.name[:500]]
    if fields != _last_report:  # `os.execvp` tries every folder of the path
        _last_report = fields
        _reports.write(json.dumps([time.monotonic_ns(), *fields]).encode("ascii") + b"\n")


def _receive_reports() -> None:
    if _reports is None or _reports.owner != os.getpid():
        return
    reports = list[list[Any]]()
    for line in _reports.read():
        with contextlib.suppress(ValueError):  # two children of one slot
            reports.append(json.loads(line))
    for _, _, number, host, text, cell, store in sorted(reports, key=lambda fields: fields[0]):
        of = Cell(cell[0], cell[1], "") if cell else None
        for log in logs.all_logs():
            if log.number == number and text:
                log.start(Interaction(None, None, "blocked", of, None, text, store, host))
            elif log.number == number:
                log.uncovered.setdefault(("child", host), False)


def _on_connect(_: Any, address: Any, *__: Any) -> None:
    permitted = _permitted.get()
    if isinstance(permitted, str) and isinstance(address, tuple):
        _pooled.add(address[:2])
    check_address(address)


def _on_dlsym(_: Any, name: Any, *__: Any) -> None:
    if name in _NATIVE:
        name_uncovered("native", name)


def _on_fork(*_: Any) -> None:
    global _reports
    if _reports is None and replay_session() is not None:
        with contextlib.suppress(OSError):
            _reports = _Reports()


handlers: dict[str, Callable[..., None]] = {
    **dict.fromkeys(("socket.connect", "socket.sendto", "socket.sendmsg"), _on_connect),
    **dict.fromkeys(("socket.getaddrinfo", "socket.gethostbyname"), check_name),
    **dict.fromkeys(("os.fork", "os.forkpty"), _on_fork),
    "socket.gethostbyaddr": check_reverse,
    "socket.getnameinfo": lambda address: check_reverse(address[0]),
    "ctypes.dlsym": _on_dlsym,
}
"""What is called with the arguments of an audit event, by the event's name."""


# A default argument, since this module's names are gone before the last events of a process.
def _hook(event: str, arguments: tuple[Any, ...], handler_of: Any = handlers.get) -> None:
    handler = handler_of(event)
    if handler is not None:
        handler(*arguments)


logs.on_read(_receive_reports)
# A store that the user named is fetched even while another session replays.
archive.set_permit(permit)
