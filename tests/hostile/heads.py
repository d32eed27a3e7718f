"""HTTP libraries, each behind the same few calls, so that one test serves all of them."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import http.cookiejar
import importlib.util
import urllib.request
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple
from urllib.parse import urljoin, urlsplit

import aiohttp
import requests
import urllib3

__all__ = ["CLIENTS", "HTTPX", "Answer", "Client"]

_VERSIONS = {10: "HTTP/1.0", 11: "HTTP/1.1"}


class Answer(NamedTuple):
    """What a library gives of an answer.

    Attributes
    ----------
    status : int
    phrase, version : str
    headers : list of (str, str)
        As they came, the names in lower case.
    raw : bytes
        The body as the library gives it without decoding it, where it has a way to.
    """

    status: int
    phrase: str
    version: str
    headers: list[tuple[str, str]]
    raw: bytes

    def all(self, name: str) -> list[str]:
        """Return the values of a header."""
        return [value for known, value in self.headers if known == name]


class Client:
    """One library.

    Attributes
    ----------
    name : str
    decodes : bool
        Whether it decodes bodies, also for who does not ask.
    """

    name = ""
    decodes = True

    def ask(self, url: str, method: str = "GET") -> Answer:
        """Make one call; follow no redirect."""
        raise NotImplementedError

    def visit(self, *urls: str) -> list[tuple[str, str]]:
        """Get one after the other in one session, following redirects; return the cookies it has then."""
        raise NotImplementedError

    def links(self, url: str) -> list[bytes]:
        """Get a page, and those to which its ``Link`` leads as ``next``; return their bodies."""
        raise NotImplementedError


class _Httpx(Client):
    def __init__(self, name: str) -> None:
        self.name, self._library = name, importlib.import_module(name)

    def _client(self, **options: Any) -> Any:
        return self._library.Client(verify=False, trust_env=False, **options)

    def ask(self, url: str, method: str = "GET") -> Answer:
        with self._client() as client, client.stream(method, url) as answer:
            return self._answer(answer, b"".join(answer.iter_raw()))

    def _answer(self, answer: Any, raw: bytes) -> Answer:
        headers = [(name.decode().lower(), value.decode("latin-1")) for name, value in answer.headers.raw]
        return Answer(answer.status_code, answer.reason_phrase, answer.http_version, headers, raw)

    def visit(self, *urls: str) -> list[tuple[str, str]]:
        with self._client(follow_redirects=True) as client:
            for url in urls:
                client.get(url)
            return sorted((cookie.name, cookie.value) for cookie in client.cookies.jar)

    def links(self, url: str) -> list[bytes]:
        bodies = []
        with self._client() as client:
            while url:
                answer = client.get(url)
                bodies.append(answer.content)
                url = answer.links.get("next", {}).get("url", "")
        return bodies


class _AsyncHttpx(_Httpx):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = f"{name}-async"

    def _client(self, **options: Any) -> Any:
        return self._library.AsyncClient(verify=False, trust_env=False, **options)

    def ask(self, url: str, method: str = "GET") -> Answer:
        async def asked() -> Answer:
            async with self._client() as client, client.stream(method, url) as answer:
                return self._answer(answer, b"".join([piece async for piece in answer.aiter_raw()]))

        return asyncio.run(asked())

    def visit(self, *urls: str) -> list[tuple[str, str]]:
        async def visited() -> list[tuple[str, str]]:
            async with self._client(follow_redirects=True) as client:
                for url in urls:
                    await client.get(url)
                return sorted((cookie.name, cookie.value) for cookie in client.cookies.jar)

        return asyncio.run(visited())

    def links(self, url: str) -> list[bytes]:
        async def followed(url: str) -> list[bytes]:
            bodies = []
            async with self._client() as client:
                while url:
                    answer = await client.get(url)
                    bodies.append(answer.content)
                    url = answer.links.get("next", {}).get("url", "")
            return bodies

        return asyncio.run(followed(url))


class _Requests(Client):
    name = "requests"

    def ask(self, url: str, method: str = "GET") -> Answer:
        with requests.request(method, url, stream=True, allow_redirects=False, timeout=20) as answer:
            headers = [(name.lower(), value) for name, value in answer.raw.headers.iteritems()]
            raw = answer.raw.read()
            return Answer(answer.status_code, answer.reason, _VERSIONS[answer.raw.version], headers, raw)

    def visit(self, *urls: str) -> list[tuple[str, str]]:
        with requests.Session() as session:
            for url in urls:
                session.get(url, timeout=20)
            return sorted((cookie.name, cookie.value or "") for cookie in session.cookies)

    def links(self, url: str) -> list[bytes]:
        bodies = []
        while url:
            answer = requests.get(url, timeout=20)
            bodies.append(answer.content)
            url = answer.links.get("next", {}).get("url", "")
        return bodies


def _next(links: list[str]) -> str:
    found = requests.utils.parse_header_links(", ".join(links)) if links else []
    return next((link["url"] for link in found if link.get("rel") == "next"), "")


class _Low(Client):
    """A library that has neither cookies nor links: what is sent back is the test's own work."""

    def visit(self, *urls: str) -> list[tuple[str, str]]:
        found: dict[str, str] = {}
        for url in urls:
            here = url
            while here:
                answer = self.ask(here)
                for cookie in answer.all("set-cookie"):
                    name, _, value = cookie.partition(";")[0].partition("=")
                    found.pop(name, None)
                    if "max-age=0" not in cookie.lower():
                        found[name] = value
                here = urljoin(here, *answer.all("location")) if answer.all("location") else ""
        return sorted(found.items())

    def links(self, url: str) -> list[bytes]:
        bodies = []
        while url:
            answer = self.ask(url)
            bodies.append(answer.raw)
            url = _next(answer.all("link"))
        return bodies


class _Urllib3(_Low):
    name = "urllib3"

    def ask(self, url: str, method: str = "GET") -> Answer:
        with urllib3.PoolManager() as pool:
            answer = pool.request(method, url, preload_content=False, redirect=False, retries=False)
            headers = [(name.lower(), value) for name, value in answer.headers.iteritems()]
            raw = answer.read(decode_content=False)
            return Answer(answer.status, answer.reason or "", _VERSIONS[answer.version], headers, raw)


class _HttpClient(_Low):
    name, decodes = "http.client", False

    def ask(self, url: str, method: str = "GET") -> Answer:
        parts = urlsplit(url)
        with contextlib.closing(http.client.HTTPConnection(parts.netloc, timeout=20)) as connection:
            connection.request(method, f"{parts.path}?{parts.query}" if parts.query else parts.path)
            return _standard(connection.getresponse())


class _Urllib(_Low):
    name, decodes = "urllib", False

    def ask(self, url: str, method: str = "GET") -> Answer:
        opener = urllib.request.OpenerDirector()  # without what raises errors and follows redirects
        opener.add_handler(urllib.request.HTTPHandler())
        return _standard(opener.open(urllib.request.Request(url, method=method), timeout=20))

    def visit(self, *urls: str) -> list[tuple[str, str]]:
        jar = http.cookiejar.CookieJar()
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
        for url in urls:
            opener.open(url, timeout=20).read()
        return sorted((cookie.name, cookie.value or "") for cookie in jar)


def _standard(answer: Any) -> Answer:
    headers = [(name.lower(), value) for name, value in answer.getheaders()]
    assert list(answer.info().items()) == answer.getheaders()
    with answer:
        return Answer(answer.status, answer.reason, _VERSIONS[answer.version], headers, answer.read())


class _Aiohttp(Client):
    name = "aiohttp"

    def _run(self, way: Callable[[aiohttp.ClientSession], Coroutine[Any, Any, Any]]) -> Any:
        async def run() -> Any:
            async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
                return await way(session)

        return asyncio.run(run())

    def ask(self, url: str, method: str = "GET") -> Answer:
        async def way(session: aiohttp.ClientSession) -> Answer:
            async with session.request(method, url, allow_redirects=False) as answer:
                headers = [(name.decode().lower(), value.decode("latin-1")) for name, value in answer.raw_headers]
                assert answer.version is not None
                version = f"HTTP/{answer.version.major}.{answer.version.minor}"
                return Answer(answer.status, answer.reason or "", version, headers, await answer.read())

        return self._run(way)  # type: ignore[no-any-return]

    def visit(self, *urls: str) -> list[tuple[str, str]]:
        async def way(session: aiohttp.ClientSession) -> list[tuple[str, str]]:
            for url in urls:
                await (await session.get(url)).read()
            return sorted((cookie.key, cookie.value) for cookie in session.cookie_jar)

        return self._run(way)  # type: ignore[no-any-return]

    def links(self, url: str) -> list[bytes]:
        async def way(session: aiohttp.ClientSession) -> list[bytes]:
            bodies, here = [], url
            while here:
                answer = await session.get(here)
                bodies.append(await answer.read())
                here = str(answer.links.get("next", {}).get("url", ""))  # type: ignore[call-overload]
            return bodies

        return self._run(way)  # type: ignore[no-any-return]


HTTPX = [name for name in ("httpx", "httpx2") if importlib.util.find_spec(name)]
"""Which of the two are installed."""

CLIENTS: list[Client] = [
    *[kind(name) for name in HTTPX for kind in (_Httpx, _AsyncHttpx)],
    *[_Requests(), _Urllib3(), _HttpClient(), _Urllib(), _Aiohttp()],
]
