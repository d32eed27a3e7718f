"""Libraries that open their own connections in compiled code, where the guard sees nothing: asked before they do.

Each is hooked where it is told to connect. What cannot be hooked is named.
"""

from __future__ import annotations

import functools
import gc
import re
import socket
import sys
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from nbreplay.intercept.children import uncovered
from nbreplay.intercept.children.processes import is_called_by
from nbreplay.intercept.network import guard
from nbreplay.intercept.patching import Undo, put

__all__ = [
    "check_url",
    "install_curl_cffi",
    "install_curl_cffi_async",
    "install_gevent",
    "install_grpc",
    "install_grpc_aio",
    "install_pycurl",
    "install_unhooked",
    "install_zmq",
]

_PORTS = {"ftp": 21, "ftps": 990, "http": 80, "https": 443, "imap": 143, "ldap": 389, "smtp": 25, "telnet": 23}
_JUPYTER = ("ipykernel", "ipyparallel", "jupyter_client", "jupyter_server", "nbclient", "nbreplay.testing")
_GRPC_SCHEME = re.compile(r"(dns|ipv4|ipv6|passthrough|unix|unix-abstract|vsock|xds|google-c2p):(//[^/]*/)?")


def check_url(url: Any) -> None:
    """Refuse an address, unless its host may be reached.

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


def install_unhooked(module: ModuleType) -> Undo:
    """Name a library that has just been imported, and of which nothing can be replaced."""
    uncovered.name_library(module.__name__)
    return lambda: None


def install_zmq(module: ModuleType) -> Undo:
    """Hook into ZeroMQ's sockets; what Jupyter connects to its kernels goes on.

    Raises
    ------
    AttributeError
        Where the module no longer has the hook.
    """
    kind = module.Socket
    before = kind.connect

    @functools.wraps(before)
    def connect(self: Any, addr: Any) -> Any:
        text = addr.decode() if isinstance(addr, bytes) else str(addr)
        scheme, _, rest = text.partition("://")
        if scheme != "inproc" and guard.replaying() is not None and not is_called_by(*_JUPYTER):
            if scheme == "ipc":
                guard.check_path(rest.replace("@", "\0", 1) if rest.startswith("@") else rest)
            else:
                check_url(f"zmq://{rest.rpartition(';')[2]}")
        return before(self, addr)

    return put((kind, "connect", connect))


def install_pycurl(module: ModuleType) -> Undo:
    """Hook into pycurl, whose classes cannot be changed: others take their place.

    Raises
    ------
    AttributeError
        Where the module no longer has the hook.
    """
    handle, multi = module.Curl, module.CurlMulti
    if any(type(item) is handle for item in gc.get_objects()):
        uncovered.name_library("pycurl (handles that were built before)")

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
        if guard.replaying() is not None:
            if path := getattr(curl, "nbreplay_path", None):
                guard.check_path(str(path))
                return
            check_url(curl.getinfo(module.EFFECTIVE_URL))
            # It may go on to other hosts from there.
            curl.setopt(module.OPENSOCKETFUNCTION, functools.partial(opening, module))

    for ours, before in ((Curl, handle), (CurlMulti, multi)):
        ours.__module__, ours.__qualname__ = before.__module__, before.__name__
    return put((module, "Curl", Curl), (module, "CurlMulti", CurlMulti))


def opening(module: Any, _: int, address: Any) -> Any:
    """Return the socket that curl is to connect to an address, unless it must not."""
    try:
        guard.check_address(tuple(address.addr) if isinstance(address.addr, tuple | list) else address.addr)
    except OSError:
        return module.SOCKET_BAD
    return socket.socket(address.family, address.socktype, address.protocol)


def install_curl_cffi(module: ModuleType) -> Undo:
    """Hook into the handles of curl_cffi.

    Raises
    ------
    AttributeError
        Where the module no longer has the hook.
    """
    kind, url = module.Curl, module.CurlInfo.EFFECTIVE_URL
    before = kind.perform

    @functools.wraps(before)
    def perform(self: Any, *args: Any, **given: Any) -> Any:
        if guard.replaying() is not None:
            check_url(self.getinfo(url))
        return before(self, *args, **given)

    return put((kind, "perform", perform))


def install_curl_cffi_async(module: ModuleType) -> Undo:
    """Hook into the asyncio handles of curl_cffi.

    Raises
    ------
    AttributeError
        Where the module no longer has the hook.
    """
    kind, url = module.AsyncCurl, sys.modules["curl_cffi.curl"].__dict__["CurlInfo"].EFFECTIVE_URL
    before = kind.add_handle

    @functools.wraps(before)
    def add_handle(self: Any, curl: Any) -> Any:
        if guard.replaying() is not None:
            check_url(curl.getinfo(url))
        return before(self, curl)

    return put((kind, "add_handle", add_handle))


def install_gevent(module: ModuleType) -> Undo:
    """Hook into gevent's resolvers of its own.

    Raises
    ------
    AttributeError
        Where the module no longer has the hook.
    """
    kind = module.AbstractResolver
    checks = {
        "getaddrinfo": guard.check_name,
        "gethostbyaddr": guard.check_reverse,
        "gethostbyname": guard.check_name,
        "gethostbyname_ex": guard.check_name,
        "getnameinfo": guard.check_reverse,
    }

    def hooked(name: str, check: Any) -> Any:
        before = getattr(kind, name)

        @functools.wraps(before)
        def resolve(self: Any, what: Any, *args: Any, **given: Any) -> Any:
            if not (name == "getnameinfo" and args and args[0] & socket.NI_NUMERICHOST):
                check(what[0] if isinstance(what, tuple) else what)
            return before(self, what, *args, **given)

        return resolve

    return put(*((kind, name, hooked(name, check)) for name, check in checks.items()))


def _check_grpc(target: Any) -> None:
    text = target.decode("utf-8", "replace") if isinstance(target, bytes) else str(target)
    scheme = _GRPC_SCHEME.match(text)
    rest = text[scheme.end() :] if scheme else text
    if scheme and scheme[1] == "unix":
        guard.check_path(f"/{rest.lstrip('/')}" if scheme[2] else rest)
    elif scheme and scheme[1] == "unix-abstract":
        guard.check_path(f"\0{rest}")
    else:
        check_url(f"https://{rest}")


def _asked_before(kind: Any, name: str, target: Any) -> tuple[Any, str, Any]:
    """Return a method of gRPC's, for `put`, that asks the guard for the target first."""
    before = getattr(kind, name)

    @functools.wraps(before)
    def method(self: Any, *args: Any, **given: Any) -> Any:
        if guard.replaying() is not None:
            _check_grpc(target(self))
        return before(self, *args, **given)

    return kind, name, method


def install_grpc(module: ModuleType) -> Undo:
    """Hook into the calls of gRPC's channels: channels connect when they are used.

    Raises
    ------
    AttributeError
        Where the module no longer has the hook.
    """
    methods = {
        "Channel": ["subscribe"],
        "_SingleThreadedUnaryStreamMultiCallable": ["__call__"],
        "_StreamStreamMultiCallable": ["__call__"],
        "_StreamUnaryMultiCallable": ["_blocking", "future"],
        "_UnaryStreamMultiCallable": ["__call__"],
        "_UnaryUnaryMultiCallable": ["_blocking", "future"],
    }

    def target(self: Any) -> Any:
        return self._target

    return put(
        *(_asked_before(getattr(module, kind), name, target) for kind, names in methods.items() for name in names)
    )


def install_grpc_aio(module: ModuleType) -> Undo:
    """Hook into the calls of gRPC's asyncio channels.

    Raises
    ------
    AttributeError
        Where the module no longer has the hook.
    """
    kinds = ("UnaryUnary", "UnaryStream", "StreamUnary", "StreamStream")

    def target(self: Any) -> Any:
        return self._channel.target

    calls = [_asked_before(getattr(module, f"{kind}MultiCallable"), "__call__", target) for kind in kinds]
    return put(*calls, _asked_before(module.Channel, "channel_ready", target))
