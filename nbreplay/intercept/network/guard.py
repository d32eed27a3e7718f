"""The network guard: refuses connections, name lookups and network clients during replay.

One audit hook, which Python cannot remove, sees what Python's own modules open. It refuses nothing unless the innermost
session replays. Compiled libraries are hooked in `nbreplay.intercept.network.libraries`, and child processes are
checked in `nbreplay.intercept.processes.children`. Whatever cannot be refused is named in the session's log.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import gc
import ipaddress
import os
import re
import socket
import stat
import sys
import tempfile
from collections.abc import Callable, Container, Iterator
from types import ModuleType
from typing import Any

from nbreplay.core import log as logs
from nbreplay.core.config import Mode
from nbreplay.core.request.route import host_matches, is_loopback
from nbreplay.core.session import Session, current_session
from nbreplay.core.store import archive
from nbreplay.errors import NetworkBlocked
from nbreplay.intercept.patching import Undo, put
from nbreplay.intercept.processes.parent import parent

_permitted: contextvars.ContextVar[str | bool] = contextvars.ContextVar("nbreplay_permitted", default=False)
# By permit, not as counts: a count that one of two threads loses would leave a host open for ever.
_permitted_hosts: dict[object, str] = {}
# Addresses that hooked clients have connected to. Under replay they do not use the connections they keep.
_pooled: set[tuple[Any, ...]] = set()
# Addresses that were connected to under replay, as they may be; libraries that nbreplay knows add theirs.
passed: set[tuple[Any, ...]] = set()
# Addresses of servers of this process that it has connected to. A connection may be open for longer than they listen.
_served: set[Any] = set()
_libraries: dict[str, None] = {}

# Functions of the C library that send something, look a name up, or start a process.
_NATIVE = (
    *("connect", "send", "sendmmsg", "sendmsg", "sendto", "socket"),
    *("getaddrinfo", "gethostbyaddr", "gethostbyname", "getnameinfo"),
    *("execl", "execlp", "execv", "execve", "execvp", "fork", "popen", "posix_spawn", "posix_spawnp", "system"),
)
# Unix sockets of the desktop and of logging, which send nothing out of this machine, and of multiprocessing.
_OWN_PATHS = (
    r"\0*(/tmp/\.(X11|ICE|font)-unix/|/tmp/dbus-|(/var)?/run/(user/\d+/(bus$|wayland-|pulse/|pipewire-|at-spi/|gcr/(?!ssh$)"
    r"|keyring/(?!ssh$))|dbus/|systemd/(journal|notify|userdb)|nscd/|syslog)|/dev/log$)|\0listener-\d+-\d+$"
)


@functools.cache
def install() -> None:
    """Install the audit hook, once per process."""
    sys.addaudithook(_hook)


def install_socket(library: ModuleType) -> Undo:
    """Permit `socket.getnameinfo` for numbers, which sends nothing; name a connection that another process passes on.

    The audit event of the former does not have the flags, and the latter has none.
    """
    before, receive = library.getnameinfo, library.socket.recvmsg

    @functools.wraps(before)
    def getnameinfo(sockaddr: Any, flags: int) -> Any:
        with permit("") if flags & socket.NI_NUMERICHOST else contextlib.nullcontext():
            return before(sockaddr, flags)

    @functools.wraps(receive)
    def recvmsg(self: Any, *args: Any) -> Any:
        received = receive(self, *args)
        if received[1] and (session := replay_session()) is not None:
            name_opened(session)
        return received

    return put((library, "getnameinfo", getnameinfo), (library.socket, "recvmsg", recvmsg))


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
        parent.tell(kind, name)


def name_library(name: str) -> None:
    """Name a library whose connections cannot be refused, in this session and in later ones."""
    _libraries[name] = None
    name_uncovered("library", name)


def name_existing(session: Session) -> None:
    """Name connections and libraries that were there before `session` began to replay."""
    for name in _connections(session):
        session.log.uncovered.setdefault(("connection", name), False)
    for name in _libraries:
        name_uncovered("library", name)


def name_opened(session: Session | None = None) -> None:
    """Name connections that are open in a replay though the guard did not see them opened, such as by compiled code."""
    session = session or replay_session()
    if session is None:
        return
    for name in _connections(session, passed):
        if ("connection", name) not in session.log.uncovered:
            session.log.uncovered.setdefault(("opened", name), False)


def _connections(session: Session, known: Container[tuple[Any, ...]] = ()) -> Iterator[str]:
    for host, port in peers():
        address = (host, port)
        if address not in _pooled and address not in known and not _is_allowed(session, host, port):
            text = f"[{host}]" if ":" in host else host
            yield host if port is None else f"{text}:{port}"


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
    items = _sockets() if is_loopback(host) else ()
    if servers := [name for name, _, listens in items if listens and _serves(name, (host, port))]:
        _served.update(servers)
    else:
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
    listening = {name for name, _, listens in items if listens}
    # Another process may listen at an address that is free again.
    _served.intersection_update(
        [item for item in [*_served] if item in listening or any(peer and _serves(item, peer) for _, peer, _ in items)]
    )
    servers = listening | _served
    names = {name for name, *_ in items}
    addresses: dict[tuple[str, int | None], None] = {}
    for name, peer, _ in items:
        if not peer or peer in names or any(_serves(item, name) for item in servers):
            continue
        if _is_here(peer, name) and any(_serves(item, peer) for item in servers):
            continue
        if isinstance(peer, tuple):
            addresses[peer[:2]] = None
        elif not _is_own_path(os.fsdecode(peer)):
            addresses[os.fsdecode(peer), None] = None
    return list(addresses)


def _is_here(peer: Any, name: Any) -> bool:
    """Tell whether the peer of a socket with this name is on the same machine."""
    return not isinstance(peer, tuple) or is_loopback(peer[0]) or peer[0] == name[0]


def _serves(server: Any, address: Any) -> bool:
    """Tell whether a server that listens at one address gets what is sent to another, which is of this machine."""
    if not (isinstance(server, tuple) and isinstance(address, tuple)):
        return bool(server == address)
    # A socket of IPv6 may listen at an address of IPv4.
    (host, port), (name, number) = [(item[0].removeprefix("::ffff:"), item[1]) for item in (server, address)]
    is_any = host == "::" or (host == "0.0.0.0" and ":" not in name)
    return port == number and (is_any or host == name or (name == "localhost" and is_loopback(host)))


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


def _on_connect(_: Any, address: Any, *__: Any) -> None:
    # Jupyter's debugger connects to its own adapter. The caller alone counts: what it debugs has it among its callers.
    caller = str(sys._getframe(2).f_globals.get("__name__"))
    if caller.endswith("pydevd_comm") and isinstance(address, tuple) and is_loopback(str(address[0])):
        _pooled.add(address[:2])
        return
    permitted = _permitted.get()
    if isinstance(permitted, str) and isinstance(address, tuple):
        _pooled.add(address[:2])
    check_address(address)
    if replay_session() is not None:
        passed.add(address[:2] if isinstance(address, tuple) else (text_of(address), None))


def _on_dlsym(_: Any, name: Any, *__: Any) -> None:
    if name in _NATIVE:
        name_uncovered("native", name)


handlers: dict[str, Callable[..., None]] = {
    **dict.fromkeys(("socket.connect", "socket.sendto", "socket.sendmsg"), _on_connect),
    **dict.fromkeys(("socket.getaddrinfo", "socket.gethostbyname"), check_name),
    "socket.gethostbyaddr": check_reverse,
    "socket.getnameinfo": lambda address: check_reverse(address[0]),
    "ctypes.dlsym": _on_dlsym,
    # Audit hooks in Python are of one interpreter.
    "cpython.PyInterpreterState_New": lambda *_: name_uncovered("library", "another interpreter in this process"),
}
"""What is called with the arguments of an audit event, by the event's name."""


# A default argument, since this module's names are gone before the last events of a process.
def _hook(event: str, arguments: tuple[Any, ...], handler_of: Any = handlers.get) -> None:
    handler = handler_of(event)
    if handler is not None:
        handler(*arguments)


# A store that the user named is fetched even while another session replays.
archive.set_permit(permit)
logs.on_report(name_opened)
