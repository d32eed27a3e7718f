"""Libraries that connect or start processes where the guard's audit hook does not see it; most are compiled.

Each is hooked where it is told to connect, by the methods in `_METHODS`. A library without such a method is named.
"""

from __future__ import annotations

import functools
import gc
import inspect
import os
import re
import socket
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from nbreplay.core import pyodide
from nbreplay.intercept.network import guard
from nbreplay.intercept.patching import StandIn, Undo, put
from nbreplay.intercept.processes.children import is_called_by
from nbreplay.intercept.processes.starts import uvloop_hooks
from nbreplay.intercept.processes.workers import check_forkserver

_PORTS = {"ftp": 21, "ftps": 990, "http": 80, "https": 443, "imap": 143, "ldap": 389, "smtp": 25, "telnet": 23}
_JUPYTER = ("ipykernel", "ipyparallel", "jupyter_client", "jupyter_server", "nbclient", "nbreplay.testing")
_REMOTE = re.compile(r"\b(https?|s3[an]?|gc?s|r2|hf|az(?:ure)?|abfss?|wasbs?)://[^/\s'\"]+", re.IGNORECASE)
_INSTALL = re.compile(r"\b(?:INSTALL|UPDATE EXTENSIONS)\b[^;]*", re.IGNORECASE)
_GRPC_SCHEME = re.compile(r"(dns|ipv4|ipv6|passthrough|unix|unix-abstract|vsock|xds|google-c2p):(//[^/]*/)?")


def install(module: ModuleType, *more: tuple[Any, str, Any]) -> Undo:
    """Hook into the methods of a module that `_METHODS` lists, and `more` of them; name a module that it does not."""
    if module.__name__ not in _METHODS:
        guard.name_library(module.__name__)
    hooks = []
    for kinds, names, check in _METHODS.get(module.__name__, ()):
        owners = [getattr(module, kind) for kind in kinds.split()] or [module]
        hooks += [_with_check(owner, name, check) for owner in owners for name in names.split()]
    return put(*hooks, *more)


def install_pycurl(module: ModuleType) -> Undo:
    """Replace the classes of pycurl, whose methods cannot be replaced."""
    if module.Curl in map(type, gc.get_objects()):
        guard.name_library("pycurl (handles that were built before)")

    def setopt(self: Any, option: int, value: Any) -> Any:
        if option == getattr(module, "UNIX_SOCKET_PATH", None):
            self.nbreplay_path = value
        return super(handle, self).setopt(option, value)

    def check(curl: Any) -> None:
        if path := getattr(curl, "nbreplay_path", None):
            guard.check_path(str(path))
            return
        check_url(curl.getinfo(module.EFFECTIVE_URL))
        curl.setopt(module.OPENSOCKETFUNCTION, open_socket)  # a redirect may lead to other hosts

    def open_socket(_: int, address: Any) -> socket.socket | int:
        try:
            guard.check_address(tuple(address.addr) if isinstance(address.addr, list) else address.addr)
        except OSError:
            return int(module.SOCKET_BAD)
        return socket.socket(address.family, address.socktype, address.protocol)

    def subclass(kind: Any, names: tuple[str, ...], check: Callable[..., None], **methods: Any) -> Any:
        checked = {name: _with_check(kind, name, check)[2] for name in names}
        return type(kind.__name__, (kind,), {"__module__": kind.__module__, **checked, **methods})

    handle = subclass(module.Curl, ("perform", "perform_rb", "perform_rs"), check, setopt=setopt)
    multi = subclass(module.CurlMulti, ("add_handle",), lambda _, curl: check(curl))
    return put((module, "Curl", handle), (module, "CurlMulti", multi))


def install_pyarrow(module: ModuleType) -> Undo:
    """Hook into pyarrow's file systems: an address is refused; one that a program has built itself is named."""

    def subclass(kind: type) -> type:
        def check(*_: Any, **__: Any) -> None:
            guard.name_uncovered("library", f"pyarrow ({kind.__name__})")

        init = _with_check(kind, "__init__", check)[2]
        return type(kind.__name__, (kind,), {"__module__": kind.__module__, "__init__": init})

    names = [name for name in ("AzureFileSystem", "GcsFileSystem", "S3FileSystem") if hasattr(module, name)]
    return install(module, *((module, name, subclass(getattr(module, name))) for name in names))


def install_pyodide(_: ModuleType) -> Undo:
    """Hook into the functions of a browser by which Python makes requests."""
    return pyodide.guard_requests(check_url)


def install_uvloop(module: ModuleType) -> Undo:
    """Hook into uvloop's loops, whose connections, lookups and child processes are opened by libuv."""
    before = module.Loop.create_datagram_endpoint

    @functools.wraps(before)
    async def create_datagram_endpoint(
        self: Any, protocol_factory: Any, local_addr: Any = None, remote_addr: Any = None, **kwargs: Any
    ) -> Any:
        if guard.replay_session() is None:
            return await before(self, protocol_factory, local_addr, remote_addr, **kwargs)
        guard.check_address(remote_addr)
        protocol = protocol_factory()

        def check_sends(transport: Any) -> StandIn:
            def sendto(data: Any, addr: Any = None) -> None:
                guard.check_address(addr)
                transport.sendto(data, addr)

            return StandIn(transport, sendto=sendto, get_protocol=lambda: protocol)

        inner = StandIn(protocol, connection_made=lambda transport: protocol.connection_made(check_sends(transport)))
        transport, _ = await before(self, lambda: inner, local_addr, remote_addr, **kwargs)
        return check_sends(transport), protocol

    return install(module, (module.Loop, "create_datagram_endpoint", create_datagram_endpoint), *uvloop_hooks(module))


def _with_check(owner: Any, name: str, check: Callable[..., None]) -> tuple[Any, str, Any]:
    """Return a function, as `put` takes it, that under replay first calls `check` with its own arguments."""
    before = inspect.getattr_static(owner, name)
    function = before.__func__ if isinstance(before, classmethod) else before

    @functools.wraps(function)
    def method(*args: Any, **kwargs: Any) -> Any:
        if guard.replay_session() is not None:
            check(*args, **kwargs)
        return function(*args, **kwargs)

    return owner, name, classmethod(method) if isinstance(before, classmethod) else method


def check_url(url: Any) -> None:
    """Raise `NetworkBlocked` for the host of an address, unless it is allowed."""
    text = guard.text_of(url)
    parts = urlsplit(text if "://" in text else f"http://{text}")
    try:
        port = parts.port
    except ValueError:
        port = None
    guard.check(parts.hostname or text, port or _PORTS.get(parts.scheme))


def _check_source(source: Any, *_: Any, **__: Any) -> None:
    """Raise `NetworkBlocked` for an address, or several, in place of the name of a file."""
    for item in source if isinstance(source, list | tuple) else [source]:
        if isinstance(item, str) and (remote := _REMOTE.match(item)):
            check_url("https://huggingface.co" if remote[1] == "hf" else item)


def _name_query(*args: Any, **kwargs: Any) -> None:
    """Name what a query or a reader of duckdb's reads that is not here; its text may only mention an address."""
    for text in filter(lambda value: isinstance(value, str), (*args, *kwargs.values())):
        if remote := _REMOTE.search(text) or _INSTALL.search(text):
            guard.name_uncovered("library", f"duckdb ({remote[0]})")


def _check_curl_cffi(curl: Any, *_: Any, **__: Any) -> None:
    check_url(curl.getinfo(sys.modules["curl_cffi.curl"].__dict__["CurlInfo"].EFFECTIVE_URL))


def _check_nameinfo(_: Any, sockaddr: Any, flags: int = 0) -> None:
    if not flags & socket.NI_NUMERICHOST:
        guard.check_reverse(sockaddr[0])


def _check_grpc(call: Any, *_: Any, **__: Any) -> None:
    text = guard.text_of(call._target if hasattr(call, "_target") else call._channel.target)
    scheme = _GRPC_SCHEME.match(text)
    rest = text[scheme.end() :] if scheme else text
    if scheme and scheme[1] == "unix":
        guard.check_path(f"/{rest.lstrip('/')}" if scheme[2] else rest)
    elif scheme and scheme[1] == "unix-abstract":
        guard.check_path(f"\0{rest}")
    else:
        check_url(f"https://{rest}")


def _check_zmq(_: Any, addr: Any) -> None:
    scheme, _, rest = guard.text_of(addr).partition("://")
    if scheme == "inproc":
        return
    if is_called_by(*_JUPYTER):  # Jupyter's own connections to its kernels
        host, _, port = rest.rpartition(":")
        guard.passed.add((host, int(port)) if port.isdigit() else (rest, None))
        return
    if scheme == "ipc":
        guard.check_path(rest.replace("@", "\0", 1) if rest.startswith("@") else rest)
    else:
        check_url(f"zmq://{rest.rpartition(';')[2]}")


def _check_uvloop(_: Any, __: Any, host: Any = None, port: Any = None, sock: Any = None, **___: Any) -> None:
    if sock is None:  # a socket was connected by Python's own module
        guard.check(str(host or "localhost"), int(port) if str(port).isdigit() else port)


def _check_uvloop_unix(_: Any, __: Any, path: Any = None, *, sock: Any = None, **___: Any) -> None:
    if sock is None and path is not None:
        guard.check_path(os.fsdecode(path))


# By module: its classes ("": functions), their methods, and what is called with the arguments of each. Channels of gRPC
# connect when they are used.
_METHODS: dict[str, tuple[tuple[str, str, Callable[..., None]], ...]] = {
    "curl_cffi.aio": (("AsyncCurl", "add_handle", lambda _, curl: _check_curl_cffi(curl)),),
    "curl_cffi.curl": (("Curl", "perform", _check_curl_cffi),),
    "gevent.resolver": (
        ("AbstractResolver", "getaddrinfo", lambda _, host, *__, **___: guard.check_name(host)),
        ("AbstractResolver", "gethostbyname gethostbyname_ex", lambda _, host, *__, **___: guard.check_name(host)),
        ("AbstractResolver", "gethostbyaddr", lambda _, host: guard.check_reverse(host)),
        ("AbstractResolver", "getnameinfo", _check_nameinfo),
    ),
    "grpc._channel": (
        ("Channel", "subscribe", _check_grpc),
        ("_SingleThreadedUnaryStreamMultiCallable", "__call__", _check_grpc),
        ("_StreamStreamMultiCallable _UnaryStreamMultiCallable", "__call__", _check_grpc),
        ("_StreamUnaryMultiCallable _UnaryUnaryMultiCallable", "_blocking future", _check_grpc),
    ),
    "grpc.aio._channel": (
        ("Channel", "channel_ready", _check_grpc),
        ("StreamStreamMultiCallable StreamUnaryMultiCallable", "__call__", _check_grpc),
        ("UnaryStreamMultiCallable UnaryUnaryMultiCallable", "__call__", _check_grpc),
    ),
    "duckdb": (
        ("", "execute query read_csv read_json read_parquet sql", _name_query),
        ("DuckDBPyConnection", "execute query read_csv read_json read_parquet sql", _name_query),
    ),
    # Processes that are forked by a server, which may run already.
    "multiprocessing.popen_forkserver": (("Popen", "_launch", check_forkserver),),
    "polars": (
        ("", "read_csv read_delta read_ipc read_ndjson read_parquet", _check_source),
        ("", "scan_csv scan_delta scan_iceberg scan_ipc scan_ndjson scan_parquet", _check_source),
    ),
    "pyarrow.fs": (("", "_ensure_filesystem _resolve_filesystem_and_path", _check_source),),
    # These have imported the functions by name, perhaps before.
    "pyarrow.orc": (("", "_resolve_filesystem_and_path", _check_source),),
    "pyarrow.parquet.core": (("", "_ensure_filesystem _resolve_filesystem_and_path", _check_source),),
    "uvloop": (
        ("Loop", "create_connection", _check_uvloop),
        ("Loop", "create_unix_connection", _check_uvloop_unix),
        ("Loop", "getaddrinfo", lambda _, host, port, **__: guard.check_name(host, port)),
        ("Loop", "getnameinfo", _check_nameinfo),
    ),
    "zmq.sugar.socket": (("Socket", "connect", _check_zmq),),
}
