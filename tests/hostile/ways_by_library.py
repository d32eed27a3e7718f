"""Ways out by libraries: HTTP and its pools, proxies, other protocols, and stacks of compiled code."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import ftplib
import http.client
import imaplib
import logging.handlers
import multiprocessing.connection
import multiprocessing.managers
import os
import poplib
import smtplib
import socket
import struct
import time
import urllib.request
import xmlrpc.client
from collections.abc import Iterator
from typing import Any
from unittest import mock

from nbreplay.core.session import active_sessions
from tests.hostile.outside import Outside
from tests.hostile.ways import NAMED, way

HTTP, POOLS, PROXIES = "HTTP libraries", "Pools of connections, used before", "Proxies"
PROTOCOLS, COMPILED = "Other protocols", "Compiled libraries"
ELSEWHERE = "http://model.example/"
KEEP = {"X-Keep": "1"}


@way(HTTP, "http.client")
def _(out: Outside) -> None:
    with contextlib.closing(http.client.HTTPConnection(*out.address, timeout=5)) as made:
        made.request("GET", "/")
        made.getresponse().read()


@way(HTTP, "http.client over TLS")
def _(out: Outside) -> None:
    with contextlib.closing(http.client.HTTPSConnection(*out.address, timeout=5)) as made:
        made.request("GET", "/")


@way(HTTP, "urllib.request")
def _(out: Outside) -> None:
    urllib.request.urlopen(out.url, timeout=5).close()


@way(HTTP, "requests", needs="requests")
def _(out: Outside) -> None:
    import requests

    requests.get(out.url, timeout=5).close()


@way(HTTP, "urllib3", needs="urllib3")
def _(out: Outside) -> None:
    import urllib3

    with urllib3.PoolManager(retries=False) as pool:
        pool.request("GET", out.url, timeout=5)


@way(HTTP, "httpx2", needs="httpx2")
def _(out: Outside) -> None:
    import httpx2

    with httpx2.Client(verify=False) as client:
        client.get(out.url)


@way(HTTP, "httpx2, asyncio", needs="httpx2")
def _(out: Outside) -> None:
    import httpx2

    async def whole() -> None:
        async with httpx2.AsyncClient(verify=False) as client:
            await client.get(out.url)

    asyncio.run(whole())


@way(HTTP, "httpx2 on trio", needs="httpx2 trio")
def _(out: Outside) -> None:
    import httpx2
    import trio

    async def whole() -> None:
        async with httpx2.AsyncClient(verify=False) as client:
            await client.get(out.url)

    trio.run(whole)


@way(HTTP, "httpx2 over a Unix socket", needs="httpx2")
def _(out: Outside) -> None:
    import httpx2

    with httpx2.Client(transport=httpx2.HTTPTransport(uds=out.path, verify=False)) as client:
        client.get("http://localhost/")


@way(HTTP, "aiohttp", needs="aiohttp")
def _(out: Outside) -> None:
    import aiohttp

    async def whole() -> None:
        async with aiohttp.ClientSession() as client, client.get(out.url) as answer:
            await answer.read()

    asyncio.run(whole())


@way(HTTP, "aiohttp on uvloop", needs="aiohttp uvloop")
def _(out: Outside) -> None:
    import aiohttp
    import uvloop

    async def whole() -> None:
        async with aiohttp.ClientSession() as client, client.get(out.url) as answer:
            await answer.read()

    uvloop.run(whole())


@way(HTTP, "aiohttp: a websocket", needs="aiohttp")
def _(out: Outside) -> None:
    import aiohttp

    async def whole() -> None:
        async with aiohttp.ClientSession() as client, client.ws_connect(out.url):
            pass

    asyncio.run(whole())


@way(HTTP, "Tornado: `AsyncHTTPClient`", needs="tornado")
def _(out: Outside) -> None:
    from tornado.simple_httpclient import SimpleAsyncHTTPClient

    async def whole() -> None:
        await SimpleAsyncHTTPClient().fetch(out.url)

    asyncio.run(whole())


@way(HTTP, "websockets", needs="websockets")
def _(out: Outside) -> None:
    from websockets.sync.client import connect

    connect(out.url.replace("http", "ws"), open_timeout=5).close()


@way(HTTP, "websockets, asyncio", needs="websockets")
def _(out: Outside) -> None:
    from websockets.asyncio.client import connect

    async def whole() -> None:
        async with connect(out.url.replace("http", "ws"), open_timeout=5):
            pass

    asyncio.run(whole())


@way(HTTP, "xmlrpc.client")
def _(out: Outside) -> None:
    with xmlrpc.client.ServerProxy(out.url) as server:
        server.hello()


@way(POOLS, "http.client")
def _(out: Outside) -> Iterator[None]:
    with contextlib.closing(http.client.HTTPConnection(*out.address, timeout=5)) as made:
        for under_replay in (False, True):
            made.request("GET", "/", headers=KEEP)
            made.getresponse().read()
            if not under_replay:
                yield


@way(POOLS, "requests", needs="requests")
def _(out: Outside) -> Iterator[None]:
    import requests

    with requests.Session() as client:
        client.get(out.url, timeout=5, headers=KEEP)
        yield
        client.get(out.url, timeout=5, headers=KEEP)


@way(POOLS, "urllib3", needs="urllib3")
def _(out: Outside) -> Iterator[None]:
    import urllib3

    with urllib3.PoolManager(retries=False) as pool:
        pool.request("GET", out.url, timeout=5, headers=KEEP)
        yield
        pool.request("GET", out.url, timeout=5, headers=KEEP)


@way(POOLS, "httpx2", needs="httpx2")
def _(out: Outside) -> Iterator[None]:
    import httpx2

    with httpx2.Client(verify=False, headers=KEEP) as client:
        client.get(out.url)
        yield
        client.get(out.url)


@way(POOLS, "httpx2, asyncio", needs="httpx2")
def _(out: Outside) -> Iterator[None]:
    import httpx2

    with asyncio.Runner() as runner:
        client = httpx2.AsyncClient(verify=False, headers=KEEP)
        runner.run(client.get(out.url))
        yield
        try:
            runner.run(client.get(out.url))
        finally:
            runner.run(client.aclose())


@way(POOLS, "aiohttp", needs="aiohttp")
def _(out: Outside) -> Iterator[None]:
    import aiohttp

    with asyncio.Runner() as runner:

        async def build() -> Any:
            return aiohttp.ClientSession(headers=KEEP)

        async def get(client: Any) -> None:
            async with client.get(out.url) as answer:
                await answer.read()

        client = runner.run(build())
        runner.run(get(client))
        yield
        try:
            runner.run(get(client))
        finally:
            runner.run(client.close())


@way(PROXIES, "requests, by `HTTP_PROXY`", needs="requests")
def _(out: Outside) -> None:
    import requests

    with mock.patch.dict(os.environ, {"HTTP_PROXY": out.url, "http_proxy": out.url}):
        requests.get(ELSEWHERE, timeout=5).close()


@way(PROXIES, "urllib.request, by `http_proxy`")
def _(out: Outside) -> None:
    with mock.patch.dict(os.environ, {"http_proxy": out.url}):
        urllib.request.build_opener(urllib.request.ProxyHandler()).open(ELSEWHERE, timeout=5).close()


@way(PROXIES, "httpx2, by `proxy=`", needs="httpx2")
def _(out: Outside) -> None:
    import httpx2

    with httpx2.Client(verify=False, proxy=out.url) as client:
        client.get(ELSEWHERE)


@way(PROXIES, "aiohttp, by `proxy=`", needs="aiohttp")
def _(out: Outside) -> None:
    import aiohttp

    async def whole() -> None:
        async with aiohttp.ClientSession() as client, client.get(ELSEWHERE, proxy=out.url) as answer:
            await answer.read()

    asyncio.run(whole())


@way(PROXIES, "httpx2, by `HTTP_PROXY`", needs="httpx2")
def _(out: Outside) -> None:
    import httpx2

    with mock.patch.dict(os.environ, {"HTTP_PROXY": out.url, "http_proxy": out.url}):
        httpx2.get(ELSEWHERE, verify=False)


@way(PROXIES, "httpx2, by SOCKS", needs="httpx2 socksio")
def _(out: Outside) -> None:
    import httpx2

    with httpx2.Client(verify=False, proxy=f"socks5://{out.host}:{out.port}") as client:
        client.get(ELSEWHERE)


@way(PROXIES, "PySocks: a socket through SOCKS", needs="socks")
def _(out: Outside) -> None:
    import socks

    with socks.socksocket() as made:
        made.set_proxy(socks.SOCKS5, *out.address)
        made.settimeout(5)
        made.connect(("192.0.2.1", 80))


@way(PROXIES, "urllib3 through SOCKS", needs="urllib3 socks")
def _(out: Outside) -> None:
    from urllib3.contrib.socks import SOCKSProxyManager

    with SOCKSProxyManager(f"socks5h://{out.host}:{out.port}", retries=False) as pool:
        pool.request("GET", ELSEWHERE, timeout=5)


@way(PROXIES, "websockets, by `proxy=`", needs="websockets")
def _(out: Outside) -> None:
    from websockets.sync.client import connect

    connect("ws://model.example/", proxy=out.url, open_timeout=5).close()


@way(PROXIES, "http.client, by `set_tunnel`")
def _(out: Outside) -> None:
    with contextlib.closing(http.client.HTTPConnection(*out.address, timeout=5)) as made:
        made.set_tunnel("model.example", 443)
        made.request("GET", "/")


@way(PROXIES, "pycurl, by `PROXY`", needs="pycurl")
def _(out: Outside) -> None:
    import pycurl

    made = _handle(pycurl, out)
    made.setopt(pycurl.URL, ELSEWHERE)
    made.setopt(pycurl.PROXY, out.url)
    made.perform()


@way(PROTOCOLS, "ftplib")
def _(out: Outside) -> None:
    ftplib.FTP().connect(*out.address, timeout=5)


@way(PROTOCOLS, "smtplib")
def _(out: Outside) -> None:
    smtplib.SMTP(*out.address, timeout=5)


@way(PROTOCOLS, "smtplib over TLS")
def _(out: Outside) -> None:
    smtplib.SMTP_SSL(*out.address, timeout=5)


@way(PROTOCOLS, "imaplib")
def _(out: Outside) -> None:
    imaplib.IMAP4(*out.address, timeout=5)


@way(PROTOCOLS, "poplib")
def _(out: Outside) -> None:
    poplib.POP3(*out.address, timeout=5)


@contextlib.contextmanager
def _logger(handler: logging.Handler) -> Iterator[logging.Logger]:
    """A logger that swallows what its handler raises, as handlers do."""
    handler.handleError = lambda _: None  # type: ignore[method-assign]
    logger = logging.Logger("out")
    logger.addHandler(handler)
    try:
        yield logger
    finally:
        handler.close()


@way(PROTOCOLS, "logging's `SocketHandler`")
def _(out: Outside) -> None:
    with _logger(logging.handlers.SocketHandler(*out.address)) as logger:
        logger.error("hello")


@way(PROTOCOLS, "logging's `DatagramHandler`")
def _(out: Outside) -> None:
    with _logger(logging.handlers.DatagramHandler(*out.address)) as logger:
        logger.error("hello")


@way(PROTOCOLS, "logging's `HTTPHandler`")
def _(out: Outside) -> None:
    handler = logging.handlers.HTTPHandler(f"{out.host}:{out.port}", "/", method="POST")
    with _logger(handler) as logger, contextlib.suppress(BaseException):
        logger.error("hello")


@way(PROTOCOLS, "multiprocessing.connection: `Client` over TCP")
def _(out: Outside) -> None:
    multiprocessing.connection.Client(out.address).close()


@way(PROTOCOLS, "multiprocessing.connection: `Client` over a Unix socket")
def _(out: Outside) -> None:
    multiprocessing.connection.Client(out.path).close()


@way(PROTOCOLS, "multiprocessing: a manager of another process")
def _(out: Outside) -> None:
    multiprocessing.managers.BaseManager(out.address, authkey=b"x").connect()


@way(PROTOCOLS, "ZeroMQ over TCP", needs="zmq")
def _(out: Outside) -> None:
    _by_zmq(out, f"tcp://{out.host}:{out.port}")


@way(PROTOCOLS, "ZeroMQ over a Unix socket (`ipc://`)", needs="zmq")
def _(out: Outside) -> None:
    _by_zmq(out, f"ipc://{out.path}")


@way(PROTOCOLS, "ZeroMQ, asyncio", needs="zmq")
def _(out: Outside) -> None:
    import zmq
    import zmq.asyncio

    async def whole() -> None:
        with zmq.asyncio.Context() as context, context.socket(zmq.PUSH) as made:
            made.setsockopt(zmq.LINGER, 0)
            made.connect(f"tcp://{out.host}:{out.port}")
            _wait(out)

    asyncio.run(whole())


@way(PROTOCOLS, "ZeroMQ over TCP, told to connect before", NAMED, needs="zmq")
def _(out: Outside) -> Iterator[None]:
    import zmq

    # Other kinds connect again and again to what does not speak ZeroMQ.
    with zmq.Context() as context, context.socket(zmq.STREAM) as made:
        made.setsockopt(zmq.LINGER, 0)
        made.setsockopt(zmq.RCVTIMEO, 10_000)
        made.connect(f"tcp://{out.host}:{out.port}")
        peer, _ = made.recv_multipart()
        yield
        made.send_multipart([peer, b"hello"])
        made.recv_multipart()


def _by_zmq(out: Outside, address: str) -> None:
    import zmq

    with zmq.Context() as context, context.socket(zmq.PUSH) as made:
        made.setsockopt(zmq.LINGER, 0)
        made.connect(address)
        _wait(out)


def _wait(out: Outside) -> None:
    """Give a library that connects in the background some time: as much as it takes, where nothing refuses it."""
    before, until = out.count, time.monotonic() + (0.5 if active_sessions() else 30)
    while out.count == before and time.monotonic() < until:
        time.sleep(0.02)


@way(PROTOCOLS, "paramiko", needs="paramiko")
def _(out: Outside) -> None:
    import paramiko

    with paramiko.SSHClient() as client:
        client.connect(*out.address, username="x", password="x", timeout=5, banner_timeout=5, look_for_keys=False)


def _handle(pycurl: Any, out: Outside) -> Any:
    made = pycurl.Curl()
    made.setopt(pycurl.URL, out.url)
    made.setopt(pycurl.TIMEOUT, 5)
    made.setopt(pycurl.WRITEFUNCTION, len)
    return made


@way(COMPILED, "pycurl: `perform`", needs="pycurl")
def _(out: Outside) -> None:
    import pycurl

    _handle(pycurl, out).perform()


@way(COMPILED, "pycurl: `perform_rb`", needs="pycurl")
def _(out: Outside) -> None:
    import pycurl

    made = pycurl.Curl()
    made.setopt(pycurl.URL, out.url)
    made.perform_rb()


@way(COMPILED, "pycurl: `CurlMulti`", needs="pycurl")
def _(out: Outside) -> None:
    import pycurl

    multi, handle = pycurl.CurlMulti(), _handle(pycurl, out)
    multi.add_handle(handle)
    left = 1
    while left:
        _, left = multi.perform()
        multi.select(0.1)
    multi.remove_handle(handle)


@way(COMPILED, "pycurl: a Unix socket", needs="pycurl")
def _(out: Outside) -> None:
    import pycurl

    made = _handle(pycurl, out)
    made.setopt(pycurl.URL, "http://localhost/")
    made.setopt(pycurl.UNIX_SOCKET_PATH, out.path)
    made.perform()


@way(COMPILED, "pycurl: a handle that was built before", NAMED, needs="pycurl")
def _(out: Outside) -> Iterator[None]:
    import pycurl

    made = _handle(pycurl, out)
    yield
    made.perform()


@way(COMPILED, "pycurl under Tornado (`CurlAsyncHTTPClient`)", needs="pycurl tornado")
def _(out: Outside) -> None:
    from tornado.curl_httpclient import CurlAsyncHTTPClient

    async def whole() -> None:
        client = CurlAsyncHTTPClient(force_instance=True)
        try:
            await client.fetch(out.url)
        finally:
            client.close()

    asyncio.run(whole())


@way(COMPILED, "curl_cffi", needs="curl_cffi")
def _(out: Outside) -> None:
    from curl_cffi import requests

    requests.get(out.url, timeout=5)


@way(COMPILED, "curl_cffi, asyncio", needs="curl_cffi")
def _(out: Outside) -> None:
    from curl_cffi.requests import AsyncSession

    async def whole() -> None:
        async with AsyncSession() as client:
            await client.get(out.url, timeout=5)

    asyncio.run(whole())


@way(COMPILED, "primp", NAMED, needs="primp")
def _(out: Outside) -> None:
    import primp

    primp.Client().get(out.url)


@contextlib.contextmanager
def _channel(target: str) -> Iterator[Any]:
    import grpc

    # Of itself it would try again in the background, which would be counted as a call.
    patient = [(f"grpc.{which}_reconnect_backoff_ms", 60_000) for which in ("initial", "min", "max")]
    with grpc.insecure_channel(target, options=patient) as channel:
        yield channel


def _method(channel: Any) -> Any:
    return channel.unary_unary("/a.B/c", request_serializer=bytes, response_deserializer=bytes)


@way(COMPILED, "grpc: a call", needs="grpc")
def _(out: Outside) -> None:
    with _channel(f"{out.host}:{out.port}") as channel:
        _method(channel)(b"x", timeout=2)


@way(COMPILED, "grpc: a call in the background", needs="grpc")
def _(out: Outside) -> None:
    with _channel(f"{out.host}:{out.port}") as channel:
        _method(channel).future(b"x", timeout=2).exception()


@way(COMPILED, "grpc: a streamed answer", needs="grpc")
def _(out: Outside) -> None:
    with _channel(f"ipv4:{out.host}:{out.port}") as channel:
        method = channel.unary_stream("/a.B/c", request_serializer=bytes, response_deserializer=bytes)
        list(method(b"x", timeout=2))


@way(COMPILED, "grpc: a streamed request", needs="grpc")
def _(out: Outside) -> None:
    with _channel(f"dns:///{out.host}:{out.port}") as channel:
        method = channel.stream_unary("/a.B/c", request_serializer=bytes, response_deserializer=bytes)
        method(iter([b"x"]), timeout=2)


@way(COMPILED, "grpc: `channel_ready_future`", needs="grpc")
def _(out: Outside) -> None:
    import grpc

    with _channel(f"{out.host}:{out.port}") as channel, contextlib.suppress(grpc.FutureTimeoutError):
        grpc.channel_ready_future(channel).result(timeout=1)


@way(COMPILED, "grpc: a channel that was used before", needs="grpc", reaches=False)
def _(out: Outside) -> Iterator[None]:
    with _channel(f"{out.host}:{out.port}") as channel:
        method = _method(channel)
        with contextlib.suppress(Exception):
            method(b"x", timeout=1)
        yield
        method(b"x", timeout=1)


@way(COMPILED, "grpc over a Unix socket", needs="grpc")
def _(out: Outside) -> None:
    with _channel(f"unix:{out.path}") as channel:
        _method(channel)(b"x", timeout=2)


@way(COMPILED, "grpc.aio", needs="grpc")
def _(out: Outside) -> None:
    import grpc.aio

    async def whole() -> None:
        async with grpc.aio.insecure_channel(f"{out.host}:{out.port}") as channel:
            await _method(channel)(b"x", timeout=2)

    asyncio.run(whole())


@way(COMPILED, "libpq, by psycopg", NAMED, needs="psycopg")
def _(out: Outside) -> None:
    import psycopg

    psycopg.connect(host=out.host, port=out.port, connect_timeout=2, sslmode="disable", gssencmode="disable")


@way(COMPILED, "obstore", NAMED, needs="obstore")
def _(out: Outside) -> None:
    from obstore.store import HTTPStore

    HTTPStore.from_url(out.url, client_options={"allow_http": True, "timeout": "2s"}).get("x")


@way(COMPILED, "duckdb: `INSTALL` of an extension, as `httpfs`", NAMED, needs="duckdb")
def _(out: Outside) -> None:
    import duckdb

    with duckdb.connect() as made:
        made.execute(f"INSTALL httpfs FROM '{out.url}'")


@way(COMPILED, "polars: `scan_parquet` of an address", needs="polars")
def _(out: Outside) -> None:
    import polars

    polars.scan_parquet(f"{out.url}x.parquet", storage_options={"max_retries": 0}).collect()


@way(COMPILED, "polars: `read_csv` of an address", needs="polars")
def _(out: Outside) -> None:
    import polars

    polars.read_csv(f"{out.url}x.csv")


@way(COMPILED, "pyarrow: a table of `s3://`", needs="pyarrow")
def _(out: Outside) -> None:
    import pyarrow.parquet

    address = f"{out.host}:{out.port}"
    pyarrow.parquet.read_table(f"s3://a:b@bucket/x.parquet?scheme=http&endpoint_override={address}&region=x")


@way(COMPILED, "pyarrow: `S3FileSystem`", NAMED, needs="pyarrow")
def _(out: Outside) -> None:
    from pyarrow import fs

    made = fs.S3FileSystem(
        endpoint_override=f"{out.host}:{out.port}", scheme="http", region="x", anonymous=True, request_timeout=2
    )
    made.get_file_info("bucket/x")


@way(COMPILED, "A connection of compiled code that stays open", NAMED)
def _(out: Outside) -> Iterator[None]:
    # It stands for any: the function was looked up before the session.
    connect = ctypes.CDLL(None).connect
    address = struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", out.port, socket.inet_aton(out.host))
    yield
    with socket.socket() as made:
        connect(made.fileno(), address, len(address))
        yield
