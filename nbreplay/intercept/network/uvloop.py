"""uvloop, an event loop whose connections, look-ups and child processes are libuv's: the guard is asked before each."""

from __future__ import annotations

import functools
import os
import socket
from types import ModuleType
from typing import Any

from nbreplay.intercept.children.processes import check_child
from nbreplay.intercept.network import guard
from nbreplay.intercept.patching import Undo, put

__all__ = ["install"]


def install(module: ModuleType) -> Undo:
    """Hook into uvloop's loops; return what undoes it.

    Raises
    ------
    AttributeError
        Where the module no longer has the hook.
    """
    checks = {
        "create_connection": _connecting,
        "create_unix_connection": _connecting_to_path,
        "getaddrinfo": _looking_up,
        "getnameinfo": _looking_up_address,
        "subprocess_exec": _starting,
        "subprocess_shell": _starting_shell,
    }
    kind = module.Loop
    datagrams = kind.create_datagram_endpoint

    def hooked(name: str, check: Any) -> tuple[Any, str, Any]:
        before = getattr(kind, name)

        @functools.wraps(before)
        async def method(self: Any, *args: Any, **given: Any) -> Any:
            if guard.replaying() is not None:
                check(*args, **given)
            return await before(self, *args, **given)

        return kind, name, method

    @functools.wraps(datagrams)
    async def create_datagram_endpoint(
        self: Any, protocol_factory: Any, local_addr: Any = None, remote_addr: Any = None, **given: Any
    ) -> Any:
        if guard.replaying() is None:
            return await datagrams(self, protocol_factory, local_addr, remote_addr, **given)
        guard.check_address(remote_addr)
        built: list[Any] = []

        def factory() -> _Protocol:
            built.append(protocol_factory())
            return _Protocol(built[0])

        transport, _ = await datagrams(self, factory, local_addr, remote_addr, **given)
        return _Transport(transport, built[0]), built[0]

    return put(
        *(hooked(name, check) for name, check in checks.items()),
        (kind, "create_datagram_endpoint", create_datagram_endpoint),
    )


class _Transport:
    """A transport of datagrams that asks the guard for each address."""

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
    """A protocol that is given such a transport."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def connection_made(self, transport: Any) -> None:
        self._inner.connection_made(_Transport(transport, self._inner))


def _connecting(_: Any, host: Any = None, port: Any = None, *, sock: Any = None, **__: Any) -> None:
    if sock is None:  # a socket is connected already, or by Python's own module
        guard.check(str(host or "localhost"), int(port) if str(port).isdigit() else port)


def _connecting_to_path(_: Any, path: Any = None, *, sock: Any = None, **__: Any) -> None:
    if sock is None and path is not None:
        guard.check_path(os.fsdecode(path))


def _looking_up(host: Any, port: Any, **_: Any) -> None:
    guard.check_name(host, port)


def _looking_up_address(sockaddr: Any, flags: int = 0) -> None:
    if not flags & socket.NI_NUMERICHOST:
        guard.check_reverse(sockaddr[0])


def _starting(_: Any, program: Any, *args: Any, **given: Any) -> None:
    check_child([program, *args], given.get("cwd"))


def _starting_shell(_: Any, cmd: Any, **given: Any) -> None:
    check_child(cmd, given.get("cwd"))
