"""Compiled libraries that open their own connections, which the guard's audit hook does not see.

Each is hooked where it is told to connect, one row per method in `_METHODS`. A library without such a method is named.
"""

from __future__ import annotations

import functools
import gc
import re
import socket
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from nbreplay.intercept.children.processes import is_called_by
from nbreplay.intercept.network import guard
from nbreplay.intercept.patching import Undo, put

__all__ = ["check_url", "install", "install_pycurl", "install_unhooked"]

_PORTS = {"ftp": 21, "ftps": 990, "http": 80, "https": 443, "imap": 143, "ldap": 389, "smtp": 25, "telnet": 23}
_JUPYTER = ("ipykernel", "ipyparallel", "jupyter_client", "jupyter_server", "nbclient", "nbreplay.testing")
_GRPC_SCHEME = re.compile(r"(dns|ipv4|ipv6|passthrough|unix|unix-abstract|vsock|xds|google-c2p):(//[^/]*/)?")


def install(module: ModuleType) -> Undo:
    """Hook into the methods of a module that `_METHODS` lists.

    Raises
    ------
    AttributeError
        Where the module no longer has one of them.
    """
    return put(*(_checked(getattr(module, kind), name, check) for kind, name, check in _METHODS[module.__name__]))


def install_unhooked(module: ModuleType) -> Undo:
    """Name a library that cannot be hooked."""
    guard.name_library(module.__name__)
    return lambda: None


def install_pycurl(module: ModuleType) -> Undo:
    """Replace the classes of pycurl, whose methods cannot be replaced.

    Raises
    ------
    AttributeError
        Where the module no longer has them.
    """
    handle, multi = module.Curl, module.CurlMulti
    if any(type(item) is handle for item in gc.get_objects()):
        guard.name_library("pycurl (handles that were built before)")

    class Curl(handle):  # type: ignore[misc, valid-type]
        def setopt(self, option: int, value: Any) -> Any:
            if option == getattr(module, "UNIX_SOCKET_PATH", None):
                self.nbreplay_path = value
            return super().setopt(option, value)

        def perform(self) -> Any:
            check(self)
            return super().perform()

        def perform_rb(self) -> Any:
            check(self)
            return super().perform_rb()

        def perform_rs(self) -> Any:
            check(self)
            return super().perform_rs()

    class CurlMulti(multi):  # type: ignore[misc, valid-type]
        def add_handle(self, curl: Any) -> Any:
            check(curl)
            return super().add_handle(curl)

    def check(curl: Any) -> None:
        if guard.replay_session() is None:
            return
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

    for ours, before in ((Curl, handle), (CurlMulti, multi)):
        ours.__module__, ours.__qualname__ = before.__module__, before.__name__
    return put((module, "Curl", Curl), (module, "CurlMulti", CurlMulti))


def check_url(url: Any) -> None:
    """Refuse the host of an address, unless it is allowed.

    Raises
    ------
    NetworkBlocked
    """
    text = url.decode("utf-8", "replace") if isinstance(url, bytes) else str(url or "")
    parts = urlsplit(text if "://" in text else f"http://{text}")
    try:
        port = parts.port
    except ValueError:
        port = None
    guard.check(parts.hostname or text, port or _PORTS.get(parts.scheme))


def _checked(kind: Any, name: str, check: Callable[..., None]) -> tuple[Any, str, Any]:
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


def _check_gevent_nameinfo(_: Any, sockaddr: Any, flags: int) -> None:
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


# By module: class, method, and what is called with the method's arguments. Channels of gRPC connect when they are used.
_METHODS: dict[str, tuple[tuple[str, str, Callable[..., None]], ...]] = {
    "curl_cffi.aio": (("AsyncCurl", "add_handle", _check_curl_cffi_aio),),
    "curl_cffi.curl": (("Curl", "perform", _check_curl_cffi),),
    "gevent.resolver": (
        ("AbstractResolver", "getaddrinfo", _check_gevent_name),
        ("AbstractResolver", "gethostbyaddr", _check_gevent_address),
        ("AbstractResolver", "gethostbyname", _check_gevent_name),
        ("AbstractResolver", "gethostbyname_ex", _check_gevent_name),
        ("AbstractResolver", "getnameinfo", _check_gevent_nameinfo),
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
    "zmq.sugar.socket": (("Socket", "connect", _check_zmq),),
}
