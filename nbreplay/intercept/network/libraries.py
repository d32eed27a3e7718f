"""Compiled libraries that open their own connections, which the guard's audit hook does not see.

Each is hooked where it is told to connect, one row per method in `_METHODS`. A library without such a method is named.
"""

from __future__ import annotations

import functools
import gc
import os
import re
import socket
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from nbreplay.intercept.children.processes import check_child, is_called_by
from nbreplay.intercept.network import guard
from nbreplay.intercept.patching import StandIn, Undo, put

_PORTS = {"ftp": 21, "ftps": 990, "http": 80, "https": 443, "imap": 143, "ldap": 389, "smtp": 25, "telnet": 23}
_JUPYTER = ("ipykernel", "ipyparallel", "jupyter_client", "jupyter_server", "nbclient", "nbreplay.testing")
_GRPC_SCHEME = re.compile(r"(dns|ipv4|ipv6|passthrough|unix|unix-abstract|vsock|xds|google-c2p):(//[^/]*/)?")


def install(module: ModuleType, *more: tuple[Any, str, Any]) -> Undo:
    """Hook into the methods of a module that `_METHODS` lists, and `more` of them."""
    methods = _METHODS[module.__name__]
    return put(*(_with_check(getattr(module, kind), name, check) for kind, name, check in methods), *more)


def install_unhooked(module: ModuleType) -> Undo:
    """Name a library that cannot be hooked."""
    guard.name_library(module.__name__)
    return lambda: None


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

    return install(module, (module.Loop, "create_datagram_endpoint", create_datagram_endpoint))


def check_url(url: Any) -> None:
    """Raise `NetworkBlocked` for the host of an address, unless it is allowed."""
    text = url.decode("utf-8", "replace") if isinstance(url, bytes) else str(url or "")
    parts = urlsplit(text if "://" in text else f"http://{text}")
    try:
        port = parts.port
    except ValueError:
        port = None
    guard.check(parts.hostname or text, port or _PORTS.get(parts.scheme))


def _with_check(kind: Any, name: str, check: Callable[..., None]) -> tuple[Any, str, Any]:
    """Return a method, as `put` takes it, that under replay first calls `check` with its own arguments."""
    before = getattr(kind, name)

    @functools.wraps(before)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        if guard.replay_session() is not None:
            check(self, *args, **kwargs)
        return before(self, *args, **kwargs)

    return kind, name, method


def _check_curl_cffi(curl: Any, *_: Any, **__: Any) -> None:
    check_url(curl.getinfo(sys.modules["curl_cffi.curl"].__dict__["CurlInfo"].EFFECTIVE_URL))


def _check_curl_cffi_aio(_: Any, curl: Any) -> None:
    _check_curl_cffi(curl)


def _check_gevent_name(_: Any, host: Any, *__: Any, **___: Any) -> None:
    guard.check_name(host)


def _check_gevent_address(_: Any, host: Any) -> None:
    guard.check_reverse(host)


def _check_nameinfo(_: Any, sockaddr: Any, flags: int = 0) -> None:
    if not flags & socket.NI_NUMERICHOST:
        guard.check_reverse(sockaddr[0])


def _check_grpc(call: Any, *_: Any, **__: Any) -> None:
    _check_grpc_target(call._target)


def _check_grpc_aio(call: Any, *_: Any, **__: Any) -> None:
    _check_grpc_target(call._channel.target)


def _check_grpc_target(target: Any) -> None:
    text = target.decode("utf-8", "replace") if isinstance(target, bytes) else str(target)
    scheme = _GRPC_SCHEME.match(text)
    rest = text[scheme.end() :] if scheme else text
    if scheme and scheme[1] == "unix":
        guard.check_path(f"/{rest.lstrip('/')}" if scheme[2] else rest)
    elif scheme and scheme[1] == "unix-abstract":
        guard.check_path(f"\0{rest}")
    else:
        check_url(f"https://{rest}")


def _check_zmq(_: Any, addr: Any) -> None:
    text = addr.decode() if isinstance(addr, bytes) else str(addr)
    scheme, _, rest = text.partition("://")
    if scheme == "inproc" or is_called_by(*_JUPYTER):  # Jupyter's own connections to its kernels
        return
    if scheme == "ipc":
        guard.check_path(rest.replace("@", "\0", 1) if rest.startswith("@") else rest)
    else:
        check_url(f"zmq://{rest.rpartition(';')[2]}")


def _check_uvloop_connection(_: Any, __: Any, host: Any = None, port: Any = None, sock: Any = None, **___: Any) -> None:
    if sock is None:  # a socket was connected by Python's own module
        guard.check(str(host or "localhost"), int(port) if str(port).isdigit() else port)


def _check_uvloop_path(_: Any, __: Any, path: Any = None, *, sock: Any = None, **___: Any) -> None:
    if sock is None and path is not None:
        guard.check_path(os.fsdecode(path))


def _check_uvloop_name(_: Any, host: Any, port: Any, **__: Any) -> None:
    guard.check_name(host, port)


def _check_uvloop_exec(_: Any, __: Any, program: Any, *args: Any, cwd: Any = None, **___: Any) -> None:
    check_child([program, *args], cwd)


def _check_uvloop_shell(_: Any, __: Any, cmd: Any, *, cwd: Any = None, **___: Any) -> None:
    check_child(cmd, cwd)


# By module: class, method, and what is called with the method's arguments. Channels of gRPC connect when they are used.
_METHODS: dict[str, tuple[tuple[str, str, Callable[..., None]], ...]] = {
    "curl_cffi.aio": (("AsyncCurl", "add_handle", _check_curl_cffi_aio),),
    "curl_cffi.curl": (("Curl", "perform", _check_curl_cffi),),
    "gevent.resolver": (
        ("AbstractResolver", "getaddrinfo", _check_gevent_name),
        ("AbstractResolver", "gethostbyaddr", _check_gevent_address),
        ("AbstractResolver", "gethostbyname", _check_gevent_name),
        ("AbstractResolver", "gethostbyname_ex", _check_gevent_name),
        ("AbstractResolver", "getnameinfo", _check_nameinfo),
    ),
    "grpc._channel": (
        ("Channel", "subscribe", _check_grpc),
        ("_SingleThreadedUnaryStreamMultiCallable", "__call__", _check_grpc),
        ("_StreamStreamMultiCallable", "__call__", _check_grpc),
        ("_StreamUnaryMultiCallable", "_blocking", _check_grpc),
        ("_StreamUnaryMultiCallable", "future", _check_grpc),
        ("_UnaryStreamMultiCallable", "__call__", _check_grpc),
        ("_UnaryUnaryMultiCallable", "_blocking", _check_grpc),
        ("_UnaryUnaryMultiCallable", "future", _check_grpc),
    ),
    "grpc.aio._channel": (
        ("Channel", "channel_ready", _check_grpc_aio),
        ("StreamStreamMultiCallable", "__call__", _check_grpc_aio),
        ("StreamUnaryMultiCallable", "__call__", _check_grpc_aio),
        ("UnaryStreamMultiCallable", "__call__", _check_grpc_aio),
        ("UnaryUnaryMultiCallable", "__call__", _check_grpc_aio),
    ),
    "uvloop": (
        ("Loop", "create_connection", _check_uvloop_connection),
        ("Loop", "create_unix_connection", _check_uvloop_path),
        ("Loop", "getaddrinfo", _check_uvloop_name),
        ("Loop", "getnameinfo", _check_nameinfo),
        ("Loop", "subprocess_exec", _check_uvloop_exec),
        ("Loop", "subprocess_shell", _check_uvloop_shell),
    ),
    "zmq.sugar.socket": (("Socket", "connect", _check_zmq),),
}
