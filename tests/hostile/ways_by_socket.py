"""Ways out by sockets, by look-ups of names, and by what was connected before."""

from __future__ import annotations

import _socket
import asyncio
import concurrent.futures
import contextlib
import ctypes
import http.client
import importlib
import os
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any
from unittest import mock

from tests.hostile.outside import Outside
from tests.hostile.ways import NAMED, way

SOCKETS, UNIX, NAMES, BEFORE, LOOPS = "Sockets", "Unix sockets", "Look-ups of names", "Connected before", "Event loops"
ELSEWHERE = "model.example"
DOCUMENTED = "192.0.2.1"  # an address for documentation, where nobody is


@way(SOCKETS, "TCP: `connect`")
def _(out: Outside) -> None:
    with socket.socket() as made:
        made.connect(out.address)


@way(SOCKETS, "TCP: `connect_ex`")
def _(out: Outside) -> None:
    with socket.socket() as made:
        made.connect_ex(out.address)


@way(SOCKETS, "TCP: `socket.create_connection`")
def _(out: Outside) -> None:
    socket.create_connection(out.address, timeout=5).close()


@way(SOCKETS, "TCP: `create_connection` from a source address")
def _(out: Outside) -> None:
    socket.create_connection(out.address, timeout=5, source_address=("127.0.0.1", 0)).close()


@way(SOCKETS, "TCP over IPv6")
def _(out: Outside) -> None:
    with socket.socket(socket.AF_INET6) as made:
        made.connect(("::1", out.port6))


@way(SOCKETS, "TCP: not blocking, with `select`")
def _(out: Outside) -> None:
    with socket.socket() as made:
        made.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            made.connect(out.address)
        select.select([], [made], [], 5)


@way(SOCKETS, "TCP: `_socket.socket`, below the module")
def _(out: Outside) -> None:
    made = _socket.socket()
    try:
        made.connect(out.address)
    finally:
        made.close()


@way(SOCKETS, "TCP: to the port of another host that this process listens on, too")
def _(out: Outside) -> None:
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # "another host" is a loopback address here
            stack.enter_context(socket.create_server(("127.0.0.1", out.port)))
        stack.enter_context(socket.create_connection(out.address, timeout=5))


@way(SOCKETS, "TCP: in a thread")
def _(out: Outside) -> None:
    def connect() -> None:
        with contextlib.suppress(OSError):
            socket.create_connection(out.address, timeout=5).close()

    thread = threading.Thread(target=connect)
    thread.start()
    thread.join(10)


@way(SOCKETS, "TLS: `SSLSocket.connect`")
def _(out: Outside) -> None:
    context = ssl._create_unverified_context()
    with context.wrap_socket(socket.socket(), server_hostname="x") as made:
        made.settimeout(5)
        made.connect(out.address)


@way(SOCKETS, "TCP fast open: `sendto` with `MSG_FASTOPEN`")
def _(out: Outside) -> None:
    with socket.socket() as made:
        made.sendto(b"hello", getattr(socket, "MSG_FASTOPEN", 0), out.address)


@way(SOCKETS, "TCP fast open: `sendmsg` with `MSG_FASTOPEN`")
def _(out: Outside) -> None:
    with socket.socket() as made:
        made.sendmsg([b"hello"], [], getattr(socket, "MSG_FASTOPEN", 0), out.address)


@way(SOCKETS, "A duplicate that is connected: `socket.fromfd`")
def _(out: Outside) -> None:
    with socket.socket() as made, socket.fromfd(made.fileno(), made.family, made.type) as duplicate:
        duplicate.connect(out.address)
        made.sendall(b"hello")


@way(SOCKETS, "A connection that another process passes on: `socket.recv_fds`", NAMED)
def _(out: Outside) -> Iterator[None]:
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if not pid:
        with contextlib.suppress(BaseException):
            theirs.recv(1)
            with socket.create_connection(out.address, timeout=5) as made:
                socket.send_fds(theirs, [b"x"], [made.fileno()])
        os._exit(0)
    with ours, theirs:
        yield
        ours.send(b"x")
        _, descriptors, *_ = socket.recv_fds(ours, 1, 1)
        with socket.socket(fileno=descriptors[0]) as passed:
            passed.sendall(b"hello")
    os.waitpid(pid, 0)


@way(SOCKETS, "A connection of another interpreter in this process", NAMED)
def _(out: Outside) -> None:
    try:
        import _xxsubinterpreters as interpreters
    except ImportError:
        interpreters = importlib.import_module("_interpreters")
    made = interpreters.create()
    interpreters.run_string(made, f"import socket; socket.create_connection({out.address!r}, timeout=5).close()")
    interpreters.destroy(made)


@way(SOCKETS, "UDP: `sendto`")
def _(out: Outside) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as made:
        made.sendto(b"hello", out.address)


@way(SOCKETS, "UDP: `sendto` with flags")
def _(out: Outside) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as made:
        made.sendto(b"hello", 0, out.address)


@way(SOCKETS, "UDP: `connect`, then `send`")
def _(out: Outside) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as made:
        made.connect(out.address)
        made.send(b"hello")


@way(SOCKETS, "UDP: `sendmsg`")
def _(out: Outside) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as made:
        made.sendmsg([b"hello"], [], 0, out.address)


@way(SOCKETS, "UDP over IPv6")
def _(out: Outside) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as made:
        made.sendto(b"hello", ("::1", out.port6))


@way(SOCKETS, "UDP: multicast", reaches=False)
def _(_: Outside) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as made:
        made.sendto(b"hello", ("239.255.0.1", 9999))


@way(SOCKETS, "Raw IP: `sendto`", reaches=False)
def _(out: Outside) -> None:
    try:
        made = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    except PermissionError:  # only the superuser may open one; the guard sees the same event of any socket
        made = socket.socket(type=socket.SOCK_DGRAM)
    with made:
        made.sendto(struct.pack("!BBHHH", 8, 0, 0, 1, 1), (out.host, 0))


@way(SOCKETS, "Raw frames: `sendto` of a packet socket", reaches=False)
def _(_: Outside) -> None:
    try:
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        address: Any = ("lo", 0x0800)
    except (PermissionError, AttributeError):  # as above
        made, address = socket.socket(type=socket.SOCK_DGRAM), (DOCUMENTED, 9)
    with made:
        made.sendto(b"\0" * 60, address)


@way(SOCKETS, "The C library's `connect`, by ctypes", NAMED)
def _(out: Outside) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    address = struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", out.port, socket.inet_aton(out.host))
    with socket.socket() as made:
        library.connect(made.fileno(), address, len(address))


@way(UNIX, "Stream: `connect`, as to Docker or a database")
def _(out: Outside) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.connect(out.path)


@way(UNIX, "Stream: the path as bytes")
def _(out: Outside) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.connect(out.path.encode())


@way(UNIX, "Stream: an abstract name")
def _(out: Outside) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.connect(out.abstract)


@way(UNIX, "Datagram: `sendto`")
def _(out: Outside) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.sendto(b"hello", out.datagrams)


@way(UNIX, "Datagram: `connect`, then `send`")
def _(out: Outside) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.connect(out.datagrams)
        made.send(b"hello")


@way(UNIX, "Datagram: `sendmsg`")
def _(out: Outside) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.sendmsg([b"hello"], [], 0, out.datagrams)


@way(UNIX, "HTTP over a Unix socket, as Docker's client speaks it")
def _(out: Outside) -> None:
    class Connection(http.client.HTTPConnection):
        def connect(self) -> None:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.connect(out.path)

    connection = Connection("localhost")
    try:
        connection.connect()
        connection.request("GET", "/")
    finally:
        connection.close()


@way(UNIX, "ssh-agent, at `SSH_AUTH_SOCK`")
def _(out: Outside) -> None:
    with mock.patch.dict(os.environ, {"SSH_AUTH_SOCK": out.path}), socket.socket(socket.AF_UNIX) as made:
        made.connect(os.environ["SSH_AUTH_SOCK"])
        made.sendall(b"\0\0\0\1\x0b")


@way(UNIX, "Redis over a Unix socket", needs="redis")
def _(out: Outside) -> None:
    import redis

    with redis.Redis(unix_socket_path=out.path, socket_timeout=2) as client:
        client.ping()


@way(UNIX, "Docker's own client", needs="docker.client")  # a program is called docker, too
def _(out: Outside) -> None:
    import docker

    docker.DockerClient(base_url=f"unix:/{out.path}", version="1.41", timeout=2).containers.list()


@way(UNIX, "asyncio: `open_unix_connection`")
def _(out: Outside) -> None:
    async def whole() -> None:
        _, writer = await asyncio.open_unix_connection(out.path)
        writer.close()

    asyncio.run(whole())


@way(NAMES, "`socket.getaddrinfo`", reaches=False)
def _(_: Outside) -> None:
    socket.getaddrinfo(ELSEWHERE, 443)


@way(NAMES, "`socket.gethostbyname`", reaches=False)
def _(_: Outside) -> None:
    socket.gethostbyname(ELSEWHERE)


@way(NAMES, "`socket.gethostbyname_ex`", reaches=False)
def _(_: Outside) -> None:
    socket.gethostbyname_ex(ELSEWHERE)


@way(NAMES, "`socket.gethostbyaddr`", reaches=False)
def _(_: Outside) -> None:
    socket.gethostbyaddr(DOCUMENTED)


@way(NAMES, "`socket.gethostbyaddr` of a name", reaches=False)
def _(_: Outside) -> None:
    socket.gethostbyaddr(ELSEWHERE)


@way(NAMES, "`socket.getfqdn` of another machine", reaches=False)
def _(_: Outside) -> None:
    socket.getfqdn(DOCUMENTED)


@way(NAMES, "`socket.getnameinfo`", reaches=False)
def _(_: Outside) -> None:
    socket.getnameinfo((DOCUMENTED, 443), 0)


@way(NAMES, "asyncio: `loop.getaddrinfo`", reaches=False)
def _(_: Outside) -> None:
    async def whole() -> None:
        await asyncio.get_running_loop().getaddrinfo(ELSEWHERE, 443)

    asyncio.run(whole())


@way(NAMES, "asyncio: `loop.getnameinfo`", reaches=False)
def _(_: Outside) -> None:
    async def whole() -> None:
        await asyncio.get_running_loop().getnameinfo((DOCUMENTED, 443))

    asyncio.run(whole())


@way(NAMES, "uvloop: `loop.getaddrinfo`", needs="uvloop", reaches=False)
def _(_: Outside) -> None:
    import uvloop

    async def whole() -> None:
        await asyncio.get_running_loop().getaddrinfo(ELSEWHERE, 443)

    uvloop.run(whole())


@way(NAMES, "uvloop: `loop.getnameinfo`", needs="uvloop", reaches=False)
def _(_: Outside) -> None:
    import uvloop

    async def whole() -> None:
        await asyncio.get_running_loop().getnameinfo((DOCUMENTED, 443))

    uvloop.run(whole())


@way(NAMES, "gevent's resolver of its own (c-ares)", needs="gevent", reaches=False)
def _(_: Outside) -> None:
    from gevent.resolver.ares import Resolver

    resolver = Resolver(servers=["127.0.0.2"], timeout=1, tries=1)
    try:
        resolver.getaddrinfo(ELSEWHERE, 443)
    finally:
        resolver.close()


@way(NAMES, "dnspython", needs="dns")
def _(out: Outside) -> None:
    import dns.resolver

    made = dns.resolver.Resolver(configure=False)
    made.nameservers, made.port, made.lifetime = [out.host], out.port, 0.3
    made.resolve(ELSEWHERE)


@way(NAMES, "pycares, on which aiodns builds", NAMED, needs="pycares")
def _(out: Outside) -> None:
    import pycares

    channel = pycares.Channel(servers=[out.host], udp_port=out.port, timeout=0.3, tries=1)
    channel.query(ELSEWHERE, pycares.QUERY_TYPE_A, callback=lambda *_: None)
    time.sleep(0.1)
    channel.close()


@way(BEFORE, "A TCP connection", NAMED)
def _(out: Outside) -> Iterator[None]:
    with socket.create_connection(out.address, timeout=5) as made:
        yield
        made.sendall(b"hello")


@way(BEFORE, "A TCP connection over IPv6", NAMED)
def _(out: Outside) -> Iterator[None]:
    with socket.create_connection(("::1", out.port6), timeout=5) as made:
        yield
        made.sendall(b"hello")


@way(BEFORE, "A UDP socket that is connected", NAMED)
def _(out: Outside) -> Iterator[None]:
    with socket.socket(type=socket.SOCK_DGRAM) as made:
        made.connect(out.address)
        yield
        made.send(b"hello")


@way(BEFORE, "A UDP socket that is not connected: `sendto`")
def _(out: Outside) -> Iterator[None]:
    with socket.socket(type=socket.SOCK_DGRAM) as made:
        yield
        made.sendto(b"hello", out.address)


@way(BEFORE, "A socket that was inherited", NAMED)
def _(out: Outside) -> Iterator[None]:
    with socket.create_connection(out.address, timeout=5) as made:
        descriptor = made.detach()
    yield
    with socket.socket(fileno=descriptor) as again:
        again.sendall(b"hello")


@way(BEFORE, "A duplicate of a connection: `os.dup`", NAMED)
def _(out: Outside) -> Iterator[None]:
    with socket.create_connection(out.address, timeout=5) as made:
        descriptor = os.dup(made.fileno())
    yield
    os.write(descriptor, b"hello")
    os.close(descriptor)


@way(BEFORE, "A connection to the port of another host that this process listens on, too", NAMED)
def _(out: Outside) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # "another host" is a loopback address here
            stack.enter_context(socket.create_server(("127.0.0.1", out.port)))
        made = stack.enter_context(socket.create_connection(out.address, timeout=5, source_address=("127.0.0.1", 0)))
        yield
        made.sendall(b"hello")


@way(BEFORE, "A thread that connects later")
def _(out: Outside) -> Iterator[None]:
    go = threading.Event()

    def connect() -> None:
        go.wait(10)
        with contextlib.suppress(OSError):
            socket.create_connection(out.address, timeout=5).close()

    thread = threading.Thread(target=connect)
    thread.start()
    yield
    go.set()
    thread.join(10)


@way(BEFORE, "A pool of threads")
def _(out: Outside) -> Iterator[None]:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()
        yield
        pool.submit(socket.create_connection, out.address, 5).result().close()


@way(BEFORE, "A Unix socket", NAMED)
def _(out: Outside) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as made:
        made.connect(out.path)
        yield
        made.sendall(b"hello")


@way(BEFORE, "A connection of asyncio's", NAMED)
def _(out: Outside) -> Iterator[None]:
    with asyncio.Runner() as runner:
        _, writer = runner.run(asyncio.open_connection(*out.address))
        yield

        async def send() -> None:
            writer.write(b"hello")
            await writer.drain()
            writer.close()

        runner.run(send())


@way(BEFORE, "A connection of uvloop's", NAMED, needs="uvloop")
def _(out: Outside) -> Iterator[None]:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        _, writer = runner.run(asyncio.open_connection(*out.address))
        yield

        async def send() -> None:
            writer.write(b"hello")
            await writer.drain()
            writer.close()

        runner.run(send())


@way(LOOPS, "asyncio: `open_connection`")
def _(out: Outside) -> None:
    async def whole() -> None:
        _, writer = await asyncio.open_connection(*out.address)
        writer.close()

    asyncio.run(whole())


@way(LOOPS, "asyncio: `loop.sock_connect`")
def _(out: Outside) -> None:
    async def whole() -> None:
        with socket.socket() as made:
            made.setblocking(False)
            await asyncio.get_running_loop().sock_connect(made, out.address)

    asyncio.run(whole())


@way(LOOPS, "asyncio: `loop.sock_sendto`")
def _(out: Outside) -> None:
    async def whole() -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as made:
            made.setblocking(False)
            await asyncio.get_running_loop().sock_sendto(made, b"hello", out.address)

    asyncio.run(whole())


async def _datagram_endpoint(out: Outside, *, connected: bool) -> None:
    loop = asyncio.get_running_loop()
    given: dict[str, Any] = {"remote_addr": out.address} if connected else {"local_addr": ("127.0.0.1", 0)}
    transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, **given)
    try:
        transport.sendto(b"hello", None if connected else out.address)
        await asyncio.sleep(0.05)
    finally:
        transport.close()


@way(LOOPS, "asyncio: a datagram endpoint with a remote address")
def _(out: Outside) -> None:
    asyncio.run(_datagram_endpoint(out, connected=True))


@way(LOOPS, "asyncio: a datagram endpoint, `sendto`")
def _(out: Outside) -> None:
    asyncio.run(_datagram_endpoint(out, connected=False))


@way(LOOPS, "uvloop: `open_connection`", needs="uvloop")
def _(out: Outside) -> None:
    import uvloop

    async def whole() -> None:
        _, writer = await asyncio.open_connection(*out.address)
        writer.close()

    uvloop.run(whole())


@way(LOOPS, "uvloop: `open_unix_connection`", needs="uvloop")
def _(out: Outside) -> None:
    import uvloop

    async def whole() -> None:
        _, writer = await asyncio.open_unix_connection(out.path)
        writer.close()

    uvloop.run(whole())


@way(LOOPS, "uvloop: a loop that was made before", needs="uvloop")
def _(out: Outside) -> Iterator[None]:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.sleep(0))
        yield
        _, writer = runner.run(asyncio.open_connection(*out.address))
        writer.close()
        runner.run(asyncio.sleep(0))


@way(LOOPS, "uvloop: a datagram endpoint with a remote address", needs="uvloop")
def _(out: Outside) -> None:
    import uvloop

    uvloop.run(_datagram_endpoint(out, connected=True))


@way(LOOPS, "uvloop: a datagram endpoint, `sendto`", needs="uvloop")
def _(out: Outside) -> None:
    import uvloop

    uvloop.run(_datagram_endpoint(out, connected=False))


@way(LOOPS, "trio: `open_tcp_stream`", needs="trio")
def _(out: Outside) -> None:
    import trio

    async def whole() -> None:
        await (await trio.open_tcp_stream(*out.address)).aclose()

    trio.run(whole)


@way(LOOPS, "trio: UDP", needs="trio")
def _(out: Outside) -> None:
    import trio

    async def whole() -> None:
        with trio.socket.socket(type=socket.SOCK_DGRAM) as made:
            await made.sendto(b"hello", out.address)

    trio.run(whole)


@way(LOOPS, "anyio: `connect_tcp`", needs="anyio")
def _(out: Outside) -> None:
    import anyio

    async def whole() -> None:
        await (await anyio.connect_tcp(*out.address)).aclose()

    anyio.run(whole)


@way(LOOPS, "anyio: `create_connected_udp_socket`", needs="anyio")
def _(out: Outside) -> None:
    import anyio

    async def whole() -> None:
        async with await anyio.create_connected_udp_socket(*out.address) as made:
            await made.send(b"hello")

    anyio.run(whole)


@way(LOOPS, "gevent: `create_connection`", needs="gevent")
def _(out: Outside) -> None:
    from gevent import socket as green

    green.create_connection(out.address, timeout=5).close()


@way(LOOPS, "gevent: UDP", needs="gevent")
def _(out: Outside) -> None:
    from gevent import socket as green

    with contextlib.closing(green.socket(type=socket.SOCK_DGRAM)) as made:
        made.sendto(b"hello", out.address)


@way(LOOPS, "Tornado: `TCPClient`", needs="tornado")
def _(out: Outside) -> None:
    from tornado.tcpclient import TCPClient

    async def whole() -> None:
        (await TCPClient().connect(*out.address)).close()

    asyncio.run(whole())


@way("Child processes", "A forked child (`os.fork`) that connects")
def _(out: Outside) -> None:
    pid = os.fork()
    if not pid:
        with contextlib.suppress(BaseException):
            socket.create_connection(out.address, timeout=5).close()
        os._exit(0)
    os.waitpid(pid, 0)
