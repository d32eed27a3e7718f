"""The outside: a process of its own that listens in every way that is tried here, and counts what reaches it.

The guard refuses addresses of this machine that another process listens on, so this is as good as another machine.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

__all__ = ["HOST", "Outside", "main"]

HOST = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"
_PATIENCE = 1.5
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: {}\r\n\r\nok"


class Outside:
    """The process, as it is seen from here.

    Attributes
    ----------
    host : str
    port : int
        For TCP and UDP.
    port6 : int
        The same of ``::1``, or 0 where there is no IPv6.
    path, datagrams : str
        A Unix socket of streams, and one of datagrams.
    """

    host = HOST

    def __init__(self, folder: Path) -> None:
        # Not by its standard input: a child that reads from this process is named.
        asked, self._asking = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.outside", str(folder), str(asked)],
            cwd=Path(__file__).resolve().parents[2],
            pass_fds=[asked],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        os.close(asked)
        found = self._read()
        self.port, self.port6 = int(found["port"]), int(found["port6"])
        self.path, self.datagrams = str(folder / "stream"), str(folder / "datagrams")
        self.abstract = f"\0nbreplay-outside-{self.port}"

    @property
    def url(self) -> str:
        """The address for HTTP."""
        return f"http://{self.host}:{self.port}/"

    @property
    def address(self) -> tuple[str, int]:
        """The address for sockets."""
        return self.host, self.port

    @property
    def count(self) -> int:
        """How many connections and datagrams, and pieces of data, have arrived."""
        os.write(self._asking, b"\n")
        return int(self._read()["count"])

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found

    def stop(self) -> None:
        """End it."""
        os.close(self._asking)
        self._process.kill()
        self._process.communicate()


class _Server:
    def __init__(self, folder: str) -> None:
        self.count = 0
        self.idle: dict[socket.socket, float] = {}  # clients that wait for a greeting would wait for long
        self.selector = selectors.DefaultSelector()
        tcp = self._bound(socket.AF_INET, socket.SOCK_STREAM, (HOST, 0))
        self.port = tcp.getsockname()[1]
        self._bound(socket.AF_INET, socket.SOCK_DGRAM, (HOST, self.port))
        self.port6 = 0
        if socket.has_ipv6:
            try:
                self.port6 = self._bound(socket.AF_INET6, socket.SOCK_STREAM, ("::1", 0)).getsockname()[1]
                self._bound(socket.AF_INET6, socket.SOCK_DGRAM, ("::1", self.port6))
            except OSError:
                pass
        self._bound(socket.AF_UNIX, socket.SOCK_STREAM, os.path.join(folder, "stream"))
        self._bound(socket.AF_UNIX, socket.SOCK_DGRAM, os.path.join(folder, "datagrams"))
        if sys.platform == "linux":
            self._bound(socket.AF_UNIX, socket.SOCK_STREAM, f"\0nbreplay-outside-{self.port}")

    def _bound(self, family: int, kind: int, address: Any) -> socket.socket:
        made = socket.socket(family, kind)
        made.bind(address)
        stream = kind == socket.SOCK_STREAM
        if stream:
            made.listen(50)
        self.selector.register(made, selectors.EVENT_READ, self._accept if stream else self._datagram)
        return made

    def _accept(self, server: socket.socket) -> None:
        connection = server.accept()[0]
        self.count += 1
        self.idle[connection] = time.monotonic() + _PATIENCE
        self.selector.register(connection, selectors.EVENT_READ, self._data)

    def _datagram(self, server: socket.socket) -> None:
        server.recv(1 << 16)
        self.count += 1

    def _data(self, connection: socket.socket) -> None:
        try:
            self.idle.pop(connection, None)
            received = connection.recv(1 << 16)
            if received:
                self.count += 1
                keep = b"keep-alive" if b"x-keep: 1" in received.lower() else b"close"
                connection.sendall(_ANSWER.replace(b"{}", keep))
                if keep == b"keep-alive":
                    return
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        self._close(connection)

    def _close(self, connection: socket.socket) -> None:
        self.idle.pop(connection, None)
        self.selector.unregister(connection)
        connection.close()

    def serve(self, asked_by: int) -> None:
        """Print the count for every byte of a pipe, once all that has arrived by then is counted."""
        self.selector.register(asked_by, selectors.EVENT_READ)
        asked = 0
        while True:
            events = self.selector.select(0 if asked else 0.2)
            for connection, until in list(self.idle.items()):
                if time.monotonic() > until:
                    self._close(connection)
            for key, _ in events:
                if key.data is not None:
                    key.data(key.fileobj)
                elif received := os.read(asked_by, 100):
                    asked += len(received)
                else:
                    return
            if asked and not any(key.data for key, _ in events):
                print(json.dumps({"count": self.count}), flush=True)
                asked -= 1


def main() -> None:
    """Print the ports; then serve until the pipe is closed."""
    server = _Server(sys.argv[1])
    print(json.dumps({"port": server.port, "port6": server.port6}), flush=True)
    server.serve(int(sys.argv[2]))


if __name__ == "__main__":
    main()
