"""Tunnels of a proxy's clients (CONNECT): refused under replay, else passed on, since nobody can read their content."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import os
import re
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

from nbreplay.core.config import Mode
from nbreplay.core.request.route import bare_host, host_matches, is_background
from nbreplay.core.secrets.redact import Redactor
from nbreplay.core.session import Session
from nbreplay.core.words import shorten_line
from nbreplay.intercept.network import guard

_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


def why_refused(session: Session, host: str, port: int) -> str:
    """Return why a tunnel to ``HOST:PORT`` is refused, or ``""``; log that it is refused, or that it is not recorded.

    `port` is the one from which its caller has connected.
    """
    name = host.removesuffix(":443")
    program = program_of(port) or "a program"
    mode, is_own = session.mode, is_background(bare_host(host), "/")
    if mode is Mode.REPLAY and not host_matches(host, session.options.allow):
        text = (
            f"nbreplay blocked {program}, which opens a tunnel to {name} during replay; nothing was sent. Only "
            f"calls to the server's own addresses are replayed. To let it through, pass --allow {name}"
        )
        if not is_own:
            session.log_blocked(name, text)
        return text
    if not session.options.only or host_matches(host, session.options.only):
        note = f"{program} opens a tunnel, which nbreplay cannot record. It will not replay"
        session.log_live(name, "" if mode in (Mode.OFF, Mode.REPLAY) or is_own else note)
    return ""


async def open_tunnel(protocol: Any, host: str) -> bool:
    """Join the connection of a caller with one to ``HOST:PORT``; return whether that could be opened.

    `protocol` is the caller's. It ends with the tunnel.
    """
    answer = _Answer()
    pipe = _Pipe(answer)
    try:
        far = await _connect(host, pipe, answer)
    except (OSError, ValueError, OverflowError):  # the last one of a port that is none
        return False
    near, early = protocol.hand_over(_Pipe(far, protocol.forget))
    pipe.other = near
    near.write(_ESTABLISHED + answer.data.partition(b"\r\n\r\n")[2])
    if early:
        far.write(early)
    return True


async def _connect(host: str, pipe: _Pipe, answer: _Answer) -> Any:
    """Return a connection to ``HOST:PORT``, through the proxy that the environment names, as the caller would have."""
    loop, proxies = asyncio.get_running_loop(), urllib.request.getproxies()
    url = proxies.get("https") or proxies.get("all") or ""
    proxy = urlsplit(url if "://" in url else f"http://{url}")
    if not url or proxy.scheme not in ("http", "https") or urllib.request.proxy_bypass(host):
        name, _, number = host.rpartition(":")
        with guard.permit(host):
            return (await loop.create_connection(lambda: pipe, name.strip("[]"), int(number)))[0]
    is_secure, name = proxy.scheme == "https", proxy.hostname or ""
    port = proxy.port or (443 if is_secure else 80)
    with guard.permit(f"{name}:{port}"):
        far, _ = await loop.create_connection(lambda: pipe, name, port, ssl=True if is_secure else None)
    login = base64.b64encode(unquote(f"{proxy.username}:{proxy.password or ''}").encode()).decode()
    lines = [f"CONNECT {host} HTTP/1.1", f"Host: {host}"]
    lines += [f"Proxy-Authorization: Basic {login}"] if proxy.username else []
    far.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
    try:
        await answer.whole.wait()
        if not re.match(rb"HTTP/1\.\d 2\d\d", answer.data):
            raise OSError(f"the proxy refuses {host}")
    except BaseException:
        far.abort()
        raise
    return far


class _Answer:
    """Takes what a proxy answers, in place of the caller's connection."""

    def __init__(self) -> None:
        self.data, self.whole, self.has_ended = b"", asyncio.Event(), True

    def write(self, data: bytes) -> None:
        self.data += data
        if b"\r\n\r\n" in self.data:
            self.whole.set()

    def get_protocol(self) -> _Answer:
        return self

    def close(self) -> None:
        self.whole.set()


class _Pipe(asyncio.Protocol):
    """Passes what its connection receives on to another one, no faster than that takes it."""

    def __init__(self, other: Any = None, when_lost: Callable[[], None] | None = None) -> None:
        self.other, self._when_lost = other, when_lost
        self.has_ended = False

    def data_received(self, data: bytes) -> None:
        self.other.write(data)

    def eof_received(self) -> bool:
        self.has_ended = True
        if self.other.get_protocol().has_ended:
            return False  # which closes this connection, and so the other one
        if self.other.can_write_eof():
            self.other.write_eof()
        return True

    def connection_lost(self, _: Exception | None) -> None:
        if self.other is not None:
            self.other.close()
        if self._when_lost is not None:
            self._when_lost()

    def pause_writing(self) -> None:
        self.other.pause_reading()

    def resume_writing(self) -> None:
        self.other.resume_reading()


def program_of(port: int) -> str:
    """Return the program that has connected from a port of 127.0.0.1, with its arguments up to the first option.

    It is ``""`` where it cannot be found, as on other systems than Linux.
    """
    with contextlib.suppress(OSError, StopIteration):
        with open("/proc/net/tcp", encoding="ascii") as file:
            rows = [line.split() for line in file]
        inode = next(row[9] for row in rows if re.fullmatch(rf"[0-9A-F]{{8}}:{port:04X}", row[1]) and row[9] != "0")
        for process in filter(str.isdecimal, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                folder = f"/proc/{process}/fd"
                if any(os.readlink(f"{folder}/{name}") == f"socket:[{inode}]" for name in os.listdir(folder)):
                    with open(f"/proc/{process}/cmdline", encoding="utf-8", errors="replace") as file:
                        first, *words = file.read().rstrip("\0").split("\0")
                    # Options and addresses may hold passwords, of which no pattern tells.
                    plain = itertools.takewhile(lambda word: re.fullmatch(r"[^-@:=][^@:=]*", word), words)
                    return shorten_line(Redactor().text(" ".join([first, *plain])), 60)
    return ""
