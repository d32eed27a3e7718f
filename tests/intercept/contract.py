"""One small client over each HTTP library, all used alike: what `test_contract` runs every interceptor with."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import importlib
import importlib.util
import io
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aiohttp
import requests
import urllib3

from tests.clients import in_threads

__all__ = ["CLIENTS", "Answer", "Client"]

PATIENCE = 20.0  # seconds


class Answer(NamedTuple):
    """What a library says of an answer, in plain data."""

    status: int
    reason: str
    headers: dict[str, str]
    body: bytes
    url: str
    history: list[int]


def headers_of(pairs: Any) -> dict[str, str]:
    """Headers by their names in lower case, without those that only concern the connection."""
    gone = ("connection", "transfer-encoding", "keep-alive", "trailer")
    return {name.lower(): value for name, value in sorted(pairs) if name.lower() not in gone}


class Client:
    """A client of one library, open until `close`.

    Attributes
    ----------
    decodes : bool
        Whether the library undoes the content encoding.
    apart : bool
        Whether each event is a piece of its own, even where a replay has them all at once.
    follows : bool
        Whether it follows redirections where it is asked to.
    forms : bool
        Whether it builds multipart forms.
    asynchronous : bool
    hooks : sequence of (class, str)
        What an interceptor replaces or builds upon.
    """

    decodes = apart = follows = forms = True
    asynchronous = False
    hooks: Sequence[tuple[Any, str]] = ()

    def request(self, method: str, url: str, *, timeout: float = PATIENCE, follow: bool = False, **sent: Any) -> Answer:
        """Ask, and read the whole answer. `sent` may have ``body``, ``headers`` and, for a form, ``file``."""
        raise NotImplementedError

    def pieces(self, url: str, size: int | None = None, *, timeout: float = PATIENCE) -> Iterator[bytes]:
        """Yield an answer as it comes, or so many bytes at a time; closing the iterator closes the answer."""
        raise NotImplementedError

    def get(self, url: str, **options: Any) -> Answer:
        return self.request("GET", url, **options)

    def together(self, urls: Sequence[str]) -> list[bytes]:
        """Ask for all at once."""
        found: dict[str, bytes] = {}
        in_threads(lambda url: found.__setitem__(url, b"".join(self.pieces(url))), urls)
        return [found[url] for url in urls]

    def close(self) -> None:
        pass


class Async(Client):
    """A client that is async, driven by a loop of its own."""

    asynchronous = True

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()

    async def ask(self, method: str, url: str, timeout: float, follow: bool, sent: dict[str, Any]) -> Answer:
        raise NotImplementedError

    def stream(self, url: str, size: int | None, timeout: float) -> AsyncIterator[bytes]:
        raise NotImplementedError

    async def leave(self) -> None:
        raise NotImplementedError

    def run(self, work: Awaitable[Any]) -> Any:
        return self.loop.run_until_complete(work)

    def request(self, method: str, url: str, *, timeout: float = PATIENCE, follow: bool = False, **sent: Any) -> Answer:
        answer: Answer = self.run(self.ask(method, url, timeout, follow, sent))
        return answer

    def pieces(self, url: str, size: int | None = None, *, timeout: float = PATIENCE) -> Iterator[bytes]:
        stream: Any = self.stream(url, size, timeout)
        try:
            while True:
                try:
                    yield self.run(anext(stream))
                except StopAsyncIteration:
                    return
        finally:
            self.run(stream.aclose())

    def together(self, urls: Sequence[str]) -> list[bytes]:
        async def whole(url: str) -> bytes:
            return b"".join([piece async for piece in self.stream(url, None, PATIENCE)])

        async def every() -> list[bytes]:
            return await asyncio.gather(*map(whole, urls))

        found: list[bytes] = self.run(every())
        return found

    def close(self) -> None:
        self.run(self.leave())
        self.run(self.loop.shutdown_asyncgens())
        self.loop.close()


async def _slowly(body: Iterator[bytes]) -> AsyncIterator[bytes]:
    for piece in body:
        yield piece


def _httpx_answer(answer: Any) -> Answer:
    history = [one.status_code for one in answer.history]
    headers = headers_of(answer.headers.multi_items())
    return Answer(answer.status_code, answer.reason_phrase, headers, answer.content, str(answer.url), history)


def _httpx_sent(sent: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"headers": sent.get("headers")}
    if "file" in sent:
        found |= {"files": {"file": sent["file"]}, "data": {"purpose": "tests"}}
    if "body" in sent:
        found |= {"content": sent["body"]}
    return found


class Httpx(Client):
    """httpx or httpx2, sync."""

    library: Any
    apart = False

    def __init__(self) -> None:
        self.client = self.library.Client(verify=False)

    def request(self, method: str, url: str, *, timeout: float = PATIENCE, follow: bool = False, **sent: Any) -> Answer:
        options = {"timeout": timeout, "follow_redirects": follow}
        return _httpx_answer(self.client.request(method, url, **options, **_httpx_sent(sent)))

    def pieces(self, url: str, size: int | None = None, *, timeout: float = PATIENCE) -> Iterator[bytes]:
        with self.client.stream("GET", url, timeout=timeout) as answer:
            yield from answer.iter_bytes(size)

    def close(self) -> None:
        self.client.close()


class AsyncHttpx(Async):
    """httpx or httpx2, async."""

    library: Any
    apart = False

    def __init__(self) -> None:
        super().__init__()
        self.client = self.library.AsyncClient(verify=False)

    async def ask(self, method: str, url: str, timeout: float, follow: bool, sent: dict[str, Any]) -> Answer:
        body = sent.get("body")
        if body is not None and not isinstance(body, bytes | str):
            sent["body"] = _slowly(iter(body))
        options = {"timeout": timeout, "follow_redirects": follow}
        return _httpx_answer(await self.client.request(method, url, **options, **_httpx_sent(sent)))

    async def stream(self, url: str, size: int | None, timeout: float) -> AsyncIterator[bytes]:
        async with self.client.stream("GET", url, timeout=timeout) as answer:
            async for piece in answer.aiter_bytes(size):
                yield piece

    async def leave(self) -> None:
        await self.client.aclose()


class Aiohttp(Async):
    hooks = (
        (aiohttp.BaseConnector, "connect"),
        (aiohttp.ClientResponse, "start"),
        (aiohttp.client_proto.ResponseHandler, "set_response_params"),
        (aiohttp.StreamReader, "feed_data"),
        (aiohttp.StreamReader, "_wait"),
    )

    def __init__(self) -> None:
        super().__init__()
        self.client = self.run(self.enter())

    async def enter(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession()

    async def ask(self, method: str, url: str, timeout: float, follow: bool, sent: dict[str, Any]) -> Answer:
        data = sent.get("body")
        if "file" in sent:
            data = aiohttp.FormData({"purpose": "tests"})
            name, content, kind = sent["file"]
            data.add_field("file", io.BytesIO(content), filename=name, content_type=kind)
        elif isinstance(data, bytes) and len(data) > 1 << 20:
            data = io.BytesIO(data)  # else it warns
        elif data is not None and not isinstance(data, bytes | str | io.IOBase):
            data = _slowly(data)
        options: dict[str, Any] = {"allow_redirects": follow, "timeout": aiohttp.ClientTimeout(sock_read=timeout)}
        async with self.client.request(method, url, data=data, headers=sent.get("headers"), **options) as answer:
            history = [one.status for one in answer.history]
            headers = headers_of(answer.headers.items())
            return Answer(answer.status, answer.reason or "", headers, await answer.read(), str(answer.url), history)

    async def stream(self, url: str, size: int | None, timeout: float) -> AsyncIterator[bytes]:
        async with self.client.get(url, timeout=aiohttp.ClientTimeout(sock_read=timeout)) as answer:
            async for piece in answer.content.iter_chunked(size) if size else answer.content.iter_any():
                yield piece

    async def leave(self) -> None:
        await self.client.close()
        await asyncio.sleep(0)


class Urllib3(Client):
    hooks = (
        (urllib3.connectionpool.HTTPConnectionPool, "_make_request"),
        (urllib3.connectionpool.HTTPSConnectionPool, "_prepare_proxy"),
        (urllib3.util.retry, "time"),
        (urllib3.HTTPResponse, "_decode"),
        (urllib3.HTTPResponse, "_init_decoder"),
    )

    def __init__(self) -> None:
        self.pool = urllib3.PoolManager(maxsize=8, block=True, cert_reqs="CERT_NONE")

    def request(self, method: str, url: str, *, timeout: float = PATIENCE, follow: bool = False, **sent: Any) -> Answer:
        options: dict[str, Any] = {"timeout": timeout, "headers": sent.get("headers")}
        if "file" in sent:
            options["fields"] = {"file": sent["file"], "purpose": "tests"}
        else:
            options["body"] = sent.get("body")
        answer = self.pool.request(method, url, redirect=follow, retries=3 if follow else False, **options)
        history = [one.status for one in answer.retries.history if one.status] if follow and answer.retries else []
        headers = headers_of(answer.headers.items())
        return Answer(answer.status, answer.reason or "", headers, answer.data, answer.url or "", history)

    def pieces(self, url: str, size: int | None = None, *, timeout: float = PATIENCE) -> Iterator[bytes]:
        answer = self.pool.request("GET", url, timeout=timeout, retries=False, preload_content=False)
        with contextlib.closing(answer):
            yield from answer.stream(size, decode_content=True)

    def close(self) -> None:
        self.pool.clear()


class Requests(Client):
    """requests, over urllib3."""

    def __init__(self) -> None:
        self.client = requests.Session()
        self.client.verify = False

    def request(self, method: str, url: str, *, timeout: float = PATIENCE, follow: bool = False, **sent: Any) -> Answer:
        options: dict[str, Any] = {"data": sent.get("body")}
        if "file" in sent:
            options = {"files": {"file": sent["file"]}, "data": {"purpose": "tests"}}
        answer = self.client.request(
            method, url, timeout=timeout, allow_redirects=follow, headers=sent.get("headers"), **options
        )
        history = [one.status_code for one in answer.history]
        headers = headers_of(answer.headers.items())
        return Answer(answer.status_code, answer.reason, headers, answer.content, answer.url, history)

    def pieces(self, url: str, size: int | None = None, *, timeout: float = PATIENCE) -> Iterator[bytes]:
        with self.client.get(url, timeout=timeout, stream=True) as answer:
            yield from answer.iter_content(size)

    def close(self) -> None:
        self.client.close()


class Botocore(Client):
    """What botocore sends with, over urllib3."""

    decodes = follows = forms = False

    def __init__(self) -> None:
        self.session = importlib.import_module("botocore.httpsession").URLLib3Session
        self.asking = importlib.import_module("botocore.awsrequest").AWSRequest
        self.client = self.session(verify=False, timeout=PATIENCE, max_pool_connections=40)

    def send(self, method: str, url: str, timeout: float, sent: dict[str, Any], *, stream: bool) -> Any:
        session = self.client if timeout == PATIENCE else self.session(verify=False, timeout=timeout)
        given = {"data": sent.get("body"), "headers": sent.get("headers") or {}}
        request = self.asking(method, url, stream_output=stream, **given)
        return session.send(request.prepare())

    def request(self, method: str, url: str, *, timeout: float = PATIENCE, follow: bool = False, **sent: Any) -> Answer:
        answer = self.send(method, url, timeout, sent, stream=False)
        headers = headers_of(answer.headers.items())
        return Answer(answer.status_code, answer.raw.reason, headers, answer.content, answer.url, [])

    def pieces(self, url: str, size: int | None = None, *, timeout: float = PATIENCE) -> Iterator[bytes]:
        answer = self.send("GET", url, timeout, {}, stream=True)
        with contextlib.closing(answer.raw):
            yield from answer.raw.stream(size)

    def close(self) -> None:
        self.client.close()


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class Urllib(Client):
    """urllib.request, over http.client."""

    decodes = forms = False

    def open(self, request: urllib.request.Request, timeout: float, follow: bool) -> Any:
        try:
            return urllib.request.build_opener(*([] if follow else [_Stay])).open(request, timeout=timeout)
        except urllib.error.HTTPError as answer:
            return answer

    def request(self, method: str, url: str, *, timeout: float = PATIENCE, follow: bool = False, **sent: Any) -> Answer:
        request = urllib.request.Request(url, sent.get("body"), sent.get("headers") or {}, method=method)
        with self.open(request, timeout, follow) as answer:
            return Answer(
                answer.status, answer.reason, headers_of(answer.headers.items()), answer.read(), answer.url, []
            )

    def pieces(self, url: str, size: int | None = None, *, timeout: float = PATIENCE) -> Iterator[bytes]:
        with self.open(urllib.request.Request(url), timeout, False) as answer:
            yield from iter((lambda: answer.read(size)) if size else answer.read1, b"")


class HttpClient(Client):
    """http.client itself."""

    decodes = follows = forms = False
    hooks = (
        (http.client.HTTPConnection, "_send_output"),
        (http.client.HTTPConnection, "send"),
        (http.client.HTTPConnection, "getresponse"),
    )

    @contextlib.contextmanager
    def asking(self, method: str, url: str, timeout: float, sent: dict[str, Any]) -> Iterator[Any]:
        place = urlsplit(url)
        kind = http.client.HTTPSConnection if place.scheme == "https" else http.client.HTTPConnection
        with contextlib.closing(kind(place.netloc, timeout=timeout)) as connection:
            target = (place.path or "/") + (f"?{place.query}" if place.query else "")
            connection.request(method, target, sent.get("body"), sent.get("headers") or {})
            with connection.getresponse() as answer:
                yield answer

    def request(self, method: str, url: str, *, timeout: float = PATIENCE, follow: bool = False, **sent: Any) -> Answer:
        with self.asking(method, url, timeout, sent) as answer:
            return Answer(answer.status, answer.reason, headers_of(answer.getheaders()), answer.read(), url, [])

    def pieces(self, url: str, size: int | None = None, *, timeout: float = PATIENCE) -> Iterator[bytes]:
        with self.asking("GET", url, timeout, {}) as answer:
            yield from iter((lambda: answer.read(size)) if size else answer.read1, b"")


def _over(name: str) -> dict[str, type[Client]]:
    """The two clients of httpx or httpx2, where it is installed."""
    if importlib.util.find_spec(name) is None:
        return {}
    library = importlib.import_module(name)
    sync = type("Sync", (Httpx,), {"library": library, "hooks": ((library.Client, "_transport_for_url"),)})
    asynchronous = type(
        "Asynchronous", (AsyncHttpx,), {"library": library, "hooks": ((library.AsyncClient, "_transport_for_url"),)}
    )
    return {f"{name} sync": sync, f"{name} async": asynchronous}


CLIENTS: dict[str, type[Client]] = {
    **_over("httpx"),
    **_over("httpx2"),
    "aiohttp": Aiohttp,
    "urllib3": Urllib3,
    "requests": Requests,
    **({"botocore": Botocore} if importlib.util.find_spec("botocore") else {}),
    "urllib": Urllib,
    "http.client": HttpClient,
}
