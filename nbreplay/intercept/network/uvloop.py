"""uvloop: an event loop whose connections, lookups and child processes are opened by libuv."""

from __future__ import annotations

import functools
import os
import socket
from collections.abc import Callable
from types import ModuleType
from typing import Any

from nbreplay.intercept.children.processes import check_child
from nbreplay.intercept.network import guard
from nbreplay.intercept.patching import Undo, put

__all__ = ["install"]


def install(module: ModuleType) -> Undo:
    """Hook into uvloop's loops.

    Raises
    ------
    AttributeError
        Where the module no longer has one of the methods.
    """
    kind = module.Loop
    datagrams = kind.create_datagram_endpoint

    def checked(name: str, check: Callable[..., None]) -> tuple[Any, str, Any]:
        before = getattr(kind, name)

        @functools.wraps(before)
        async def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            if guard.replay_session() is not None:
                check(*args, **kwargs)
            return await before(self, *args, **kwargs)

        return kind, name, method

    @functools.wraps(datagrams)
    async def create_datagram_endpoint(
        self: Any, protocol_factory: Any, local_addr: Any = None, remote_addr: Any = None, **kwargs: Any
    ) -> Any:
        if guard.replay_session() is None:
            return await datagrams(self, protocol_factory, local_addr, remote_addr, **kwargs)
        guard.check_address(remote_addr)
        protocol = protocol_factory()
        transport, _ = await datagrams(self, lambda: _Protocol(protocol), local_addr, remote_addr, **kwargs)
        return _Transport(transport, protocol), protocol

    return put(
        *(checked(name, check) for name, check in _CHECKS.items()),
        (kind, "create_datagram_endpoint", create_datagram_endpoint),
    )


class _Transport:
    """A datagram transport that checks each address."""

    def __init__(self, inner: Any, protocol: Any) -> None:
        self._inner, self._protocol = inner, protocol

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def get_protocol(self) -> Any:
        return self._protocol

    def sendto(self, data: Any, addr: Any = None) -> None:
        guard.check_address(addr)
        self._inner.sendto(data, addr)


class _Protocol:
    """A protocol that receives such a transport."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def connection_made(self, transport: Any) -> None:
        self._inner.connection_made(_Transport(transport, self._inner))


def _check_connection(_: Any, host: Any = None, port: Any = None, *, sock: Any = None, **__: Any) -> None:
    if sock is None:  # a socket was connected by Python's own module
        guard.check(str(host or "localhost"), int(port) if str(port).isdigit() else port)


def _check_unix_connection(_: Any, path: Any = None, *, sock: Any = None, **__: Any) -> None:
    if sock is None and path is not None:
        guard.check_path(os.fsdecode(path))


def _check_name(host: Any, port: Any, **_: Any) -> None:
    guard.check_name(host, port)


def _check_reverse(sockaddr: Any, flags: int = 0) -> None:
    if not flags & socket.NI_NUMERICHOST:
        guard.check_reverse(sockaddr[0])


def _check_exec(_: Any, program: Any, *args: Any, cwd: Any = None, **__: Any) -> None:
    check_child([program, *args], cwd)


def _check_shell(_: Any, cmd: Any, *, cwd: Any = None, **__: Any) -> None:
    check_child(cmd, cwd)


_CHECKS: dict[str, Callable[..., None]] = {
    "create_connection": _check_connection,
    "create_unix_connection": _check_unix_connection,
    "getaddrinfo": _check_name,
    "getnameinfo": _check_reverse,
    "subprocess_exec": _check_exec,
    "subprocess_shell": _check_shell,
}
