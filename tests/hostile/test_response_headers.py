"""The head of an answer comes back, whichever library asks: headers, cookies, links, reason phrase and HTTP version.

Every behaviour is tried with each library against a real server, recorded, then replayed with the server gone.
"""

from __future__ import annotations

import asyncio
import gc
import gzip
import importlib
import json
import re
import urllib.parse
import urllib.request
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import requests

import nbreplay as nr
from nbreplay.core.recording.headers import NOISE
from nbreplay.core.recording.stream import Events
from nbreplay.errors import RecordingFormatError
from tests.clients import http, outcomes, takes
from tests.hostile.heads import CLIENTS, HTTPX, Answer, Client
from tests.intercept.raw import Server, chunked, serving, twice

server = pytest.fixture(serving)
each_client = pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)

HOP_BY_HOP = {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
TOKEN = "page-token-0123456789-of-the-tests"
JSON = b'{"answer": "the same words again and again, the same words again and again"}'


def said(
    *headers: str, body: bytes = b"", status: str = "200 OK", version: str = "HTTP/1.1", length: bool = True
) -> bytes:
    """Return an answer with its headers as they are given."""
    lines = [f"{version} {status}", *headers, *([f"Content-Length: {len(body)}"] if length else [])]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def kept(answer: Answer) -> list[tuple[str, str]]:
    """Return the headers of a live answer that are to come back, those of one name together."""
    dropped = HOP_BY_HOP | NOISE.keys() | {"x-of-this-connection"}
    names = dict.fromkeys(name for name, _ in answer.headers if name not in dropped)
    return [(name, value) for name in names for value in answer.all(name)]


# Headers


HEADERS = [
    "Content-Type: application/json",
    "Date: Mon, 30 Nov 2026 04:00:00 GMT",
    "Server: a-server/1.0",
    "Via: 1.1 a-proxy",
    "CF-Ray: 0123456789",
    "Connection: keep-alive, X-Of-This-Connection",
    "X-Of-This-Connection: yes",
    "Keep-Alive: timeout=5",
    'Link: <https://example.org/items?page=2>; rel="next"',
    'ETag: W/"a,b"',
    'Link: <https://example.org/items?page=9>; rel="last"',
    "X-Next-Page: 2",
    "Vary: Accept, Accept-Encoding",
    "Vary: Origin",
    'WWW-Authenticate: Basic realm="a"',
    'WWW-Authenticate: Digest realm="b", nonce="0123456789abcdef", qop="auth"',
    "Content-MD5: CY9rzUYh03PK3k6DJie09g==",
    "Last-Modified: Mon, 30 Nov 2026 04:00:00 GMT",
    "Cache-Control: no-store",
    "X-RateLimit-Remaining-Tokens: 9000",
    "X-Empty:",
]


@each_client
def test_all_headers_come_back_but_those_of_the_connection_and_the_machine(
    client: Client, server: Server, store: Path
) -> None:
    url = server.say("/a", said(*HEADERS, body=JSON))
    live, replayed = twice(store, server, lambda: client.ask(url))
    assert len(live.headers) == len(HEADERS) + 1
    assert replayed.headers == kept(live)
    assert (replayed.status, replayed.phrase, replayed.version, replayed.raw) == (200, "OK", "HTTP/1.1", JSON)
    text = "".join(path.read_text() for path in store.glob("*.json"))
    assert "a-server" not in text
    assert "x-of-this-connection" not in text


@each_client
def test_a_part_of_a_file_says_which(client: Client, server: Server, store: Path) -> None:
    url = server.say("/a", said("Content-Range: bytes 3-5/10", "Accept-Ranges: bytes", body=b"345", status="206 Part"))
    live, replayed = twice(store, server, lambda: client.ask(url))
    assert replayed == live
    assert replayed.all("content-range") == ["bytes 3-5/10"]


@each_client
def test_what_one_library_recorded_is_given_by_each_other(client: Client, server: Server, store: Path) -> None:
    url = server.say("/a", said(*HEADERS, body=JSON))
    for recorder in CLIENTS:
        with nr.session(store / recorder.name, mode="record"):
            live = recorder.ask(url)
    server.stop()
    for recorder in CLIENTS:
        with nr.session(store / recorder.name, mode="replay"):
            assert client.ask(url).headers == kept(live)


# Bodies


@pytest.mark.full(quick="each")
@each_client
@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/octet-stream", "text/event-stream"])
def test_a_length_is_there_if_it_was(client: Client, kind: str, server: Server, store: Path) -> None:
    body = b"data: a\n\ndata: b\n\n"
    sized = server.say("/sized", said(f"Content-Type: {kind}", body=body))
    in_chunks = server.say("/chunks", chunked(b"data: a\n\n", b"data: b\n\n", content_type=kind))
    empty = server.say("/empty", chunked(content_type=kind))
    to_the_end = server.say("/end", said(f"Content-Type: {kind}", body=body, version="HTTP/1.0", length=False), b"")
    urls = [sized, in_chunks, empty, to_the_end]
    live, replayed = twice(store, server, lambda: [client.ask(url) for url in urls])
    assert [answer.raw for answer in replayed] == [body, body, b"", body] == [answer.raw for answer in live]
    assert [answer.all("content-length") for answer in replayed] == [[str(len(body))], [], [], []]
    assert [answer.all("content-type") for answer in replayed] == [[kind]] * 4
    assert [answer.version for answer in replayed] == [answer.version for answer in live]


@each_client
@pytest.mark.parametrize("framing", ["sized", "chunked"])
def test_raw_bytes_agree_with_the_headers(client: Client, framing: str, server: Server, store: Path) -> None:
    data = gzip.compress(JSON)
    answer = (
        said("Content-Type: application/json", "Content-Encoding: gzip", body=data)
        if framing == "sized"
        else chunked(data[:9], data[9:], content_type="application/json", content_encoding="gzip")
    )
    url = server.say("/a", answer)
    live, replayed = twice(store, server, lambda: client.ask(url))
    assert live.all("content-encoding") == ["gzip"]
    assert replayed.all("content-encoding") == ([] if client.decodes else ["gzip"])
    assert replayed.raw == (JSON if client.decodes else data)
    assert replayed.all("content-length") == ([str(len(replayed.raw))] if framing == "sized" else [])


@each_client
def test_the_length_is_that_of_the_redacted_body(client: Client, server: Server, store: Path) -> None:
    body = b"this is the key: sk-aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY"
    url = server.say("/a", said("Content-Type: text/plain", 'ETag: "1"', body=body))
    _, replayed = twice(store, server, lambda: client.ask(url))
    assert replayed.raw == b"this is the key: [secret:1]"
    assert replayed.all("content-length") == [str(len(replayed.raw))]
    assert replayed.all("etag") == ['"1"']


@each_client
def test_an_answer_without_a_body_keeps_what_it_says_of_one(client: Client, server: Server, store: Path) -> None:
    about = ["Content-Type: application/json", "Content-Length: 1234", "Content-Encoding: gzip", 'ETag: "1"']
    head = server.say("/head", said(*about, length=False))
    same = server.say("/same", said('ETag: "1"', "Content-Length: 99", status="304 Not Modified", length=False))
    none = server.say("/none", said("X-Done: yes", status="204 No Content", length=False))

    def asked() -> list[Answer]:
        return [client.ask(head, "HEAD"), client.ask(same), client.ask(none)]

    live, replayed = twice(store, server, asked)
    assert replayed == live
    assert [answer.all("content-length") for answer in replayed] == [["1234"], ["99"], []]


# Status, reason phrase and version


@pytest.mark.full(quick="each")
@each_client
@pytest.mark.parametrize(
    "status",
    ["200 Fine By Me", "404 Nowhere", "404 Not Found", "413 Too Big", "422 Unprocessable Entity", "299 ", "600 "],
)
@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
def test_phrase_and_version_come_back(client: Client, status: str, version: str, server: Server, store: Path) -> None:
    url = server.say("/a", said("Content-Type: text/plain", body=b"text", status=status, version=version), b"")
    live, replayed = twice(store, server, lambda: client.ask(url))
    assert replayed == live
    assert (f"{live.status} {live.phrase}", live.version) == (status, version)


def test_a_phrase_is_written_where_it_is_not_the_usual_one(server: Server, store: Path) -> None:
    for number, status in enumerate(["200 OK", "404 Not Found", "200 ", "422 Unprocessable Entity"]):
        url = server.say(f"/{number}", said(body=b"text", status=status))
        with nr.session(store / str(number), mode="record"):
            requests.get(url)
    texts = ["".join(path.read_text() for path in (store / str(number)).glob("*.json")) for number in range(4)]
    assert [re.findall('"reason_phrase": "(.*?)"', text) for text in texts] == [[], [], [""], ["Unprocessable Entity"]]
    assert not any("http_version" in text or "sized" in text for text in texts)


def test_the_version_of_a_transport_of_its_own_comes_back(store: Path) -> None:
    """HTTP/2 has no reason phrases, and no library that reads HTTP/1.1 can be given it."""

    class Transport(http.BaseTransport):  # type: ignore[misc, name-defined]
        def handle_request(self, request: Any) -> Any:
            return http.Response(200, stream=http.ByteStream(b"text"), extensions={"http_version": b"HTTP/2"})

    def asked() -> tuple[Any, ...]:
        with http.Client(transport=Transport()) as client:
            answer = client.get("http://an-api.example/a")
            return answer.http_version, answer.reason_phrase, sorted(answer.extensions), answer.text

    with nr.session(store, mode="record"):
        live = asked()
    with nr.session(store, mode="replay"):
        assert asked() == live == ("HTTP/2", "OK", ["http_version"], "text")
    with nr.session(store, mode="replay"):
        assert requests.get("http://an-api.example/a", timeout=20).raw.version == 11


@pytest.mark.full(quick="each")
@each_client
@pytest.mark.parametrize("status", [600, 700, 999])
@pytest.mark.parametrize("mode", ["record", "auto"])
def test_a_status_beyond_599_comes_back(client: Client, status: int, mode: str, server: Server, store: Path) -> None:
    url = server.say("/a", said("Content-Type: text/plain", body=b"text", status=f"{status} Odd"))
    with nr.session(store, mode=mode):
        live = client.ask(url)
    server.stop()
    with nr.session(store, mode="replay"):
        assert client.ask(url) == live
    assert (live.status, live.phrase) == (status, "Odd")


# Cookies


COOKIES = [
    "Set-Cookie: session=0123456789abcdef; Path=/; HttpOnly; SameSite=Lax",
    "Set-Cookie: theme=dark; Path=/; Expires=Fri, 30 Nov 2096 04:00:00 GMT",
    'Set-Cookie: quoted="a value"; Max-Age=3600; Path=/',
    "Set-Cookie: old=; Max-Age=0; Path=/",
    "Set-Cookie: __cf_bm=of-the-network-in-between; Path=/; HttpOnly",
]


@each_client
def test_cookies_come_back_without_their_values(client: Client, server: Server, store: Path) -> None:
    url = server.say("/a", said(*COOKIES, body=b"text"))
    _, replayed = twice(store, server, lambda: client.ask(url))
    assert replayed.all("set-cookie") == [
        "session=[secret:1]; Path=/; HttpOnly; SameSite=Lax",
        "theme=[secret:2]; Path=/; Expires=Fri, 30 Nov 2096 04:00:00 GMT",
        "quoted=[secret:3]; Max-Age=3600; Path=/",
        "old=; Max-Age=0; Path=/",
    ]
    text = "".join(path.read_text() for path in store.glob("*.json"))
    assert not re.search("0123456789abcdef|dark|a value|of-the-network", text)


@each_client
def test_a_session_has_its_cookies_again(client: Client, server: Server, store: Path) -> None:
    urls = [
        server.say("/login", said(*COOKIES[:2], "Set-Cookie: old=1; Path=/", "Location: /home", status="302 Found")),
        server.say("/home", said("Set-Cookie: seen=yes; Path=/", "Set-Cookie: old=; Max-Age=0; Path=/", body=b"home")),
    ]
    live, replayed = twice(store, server, lambda: client.visit(urls[0], urls[1]))
    assert [name for name, _ in replayed] == [name for name, _ in live] == ["seen", "session", "theme"]
    assert all(re.fullmatch(r'"?\[secret:\d\]"?', value) for _, value in replayed)
    if client.name not in ("urllib3", "http.client"):
        assert any(b"session=0123456789abcdef" in head for head, _ in server.requests), "the client sends it back"


@each_client
def test_a_cookie_that_has_expired_since_is_still_one(client: Client, server: Server, store: Path) -> None:
    expires = "Fri, 30 Nov 2096 04:00:00 GMT"
    url = server.say("/a", said(f"Set-Cookie: a=1234; Path=/; Expires={expires}", body=b"text"))
    gone = server.say("/gone", said("Set-Cookie: b=1; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT", body=b"text"))
    with nr.session(store, mode="record"):
        live = client.visit(url, gone)
        client.ask(url)
        client.ask(gone)
    server.stop()
    for path in store.glob("*.json"):
        text = re.sub(r'"recorded_at": "\d{4}', '"recorded_at": "2001', path.read_text())
        path.write_text(text.replace(expires, "Sat, 30-Nov-2002 04:00:00 GMT"))
    with nr.session(store, mode="replay"):
        replayed = client.visit(url, gone)
        assert [name for name, _ in replayed] == [name for name, _ in live]
        assert client.ask(url).all("set-cookie") == ["a=[secret:1]; Path=/; Expires=Fri, 31 Dec 9999 23:59:59 GMT"]
        assert client.ask(gone).all("set-cookie") == ["b=[secret:1]; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT"]


def test_a_folded_list_of_cookies_keeps_none_of_the_values(server: Server, store: Path) -> None:
    cookies = "a=12345678; Expires=Fri, 30 Nov 2096 04:00:00 GMT; Path=/, b=abcdefgh; Path=/,c=ijklmnop, 123-456-789"
    url = server.say("/a", said(f"Set-Cookie: {cookies}", "Set-Cookie2: d=qrstuvwx; Version=1", body=b"text"))
    _, replayed = twice(store, server, lambda: CLIENTS[0].ask(url))
    assert replayed.all("set-cookie") == [
        "a=[secret:1]; Expires=Fri, 30 Nov 2096 04:00:00 GMT; Path=/, b=[secret:2]; Path=/,c=[secret:3]"
    ]
    assert replayed.all("set-cookie2") == ["d=[secret:4]; Version=1"]


def test_a_form_with_the_token_of_a_cookie_is_found_again(server: Server, store: Path) -> None:
    token = "csrf-0123456789-of-the-tests"
    form = server.say("/form", said(f"Set-Cookie: csrftoken={token}; Path=/", body=f"<input value={token}>".encode()))
    server.say("/form/post", said(body=b"done"))

    def logged_in() -> str:
        with http.Client(trust_env=False) as client:
            page = client.get(form)
            found = page.text.partition("value=")[2].rstrip(">")
            assert found == client.cookies["csrftoken"]
            return client.post(f"{form}/post", data={"csrf": found}).text

    live, replayed = twice(store, server, logged_in)
    assert replayed == live == "done"
    assert token not in "".join(path.read_text() for path in store.glob("*.json"))


# Links


@each_client
@pytest.mark.parametrize(
    "target",
    [
        "/items?page=2",
        f"/items?page=2&token={TOKEN}",
        f"/items?token={TOKEN}&page=2",
        "/items?cursor=sk-aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY",
        "/sk-aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY/items",
    ],
)
def test_pages_are_followed_by_their_link(client: Client, target: str, server: Server, store: Path) -> None:
    # Another secret comes first in the answer: the link's has another number there than in the request that follows it.
    other = b"this is ghp_aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY2zA4"
    first = server.say(
        "/items", said(f'Link: <{server.url}{target}>; rel="next", <{server.url}/items>; rel="first"', body=other)
    )
    server.say(target, said(body=b"the second page"))
    live, replayed = twice(store, server, lambda: client.links(first))
    assert live[1] == replayed[1] == b"the second page"
    assert replayed[0] == b"this is [secret:1]"
    text = "".join(path.read_text() for path in store.glob("*.json"))
    assert TOKEN not in text
    assert "sk-aB3d" not in text


@each_client
def test_a_redirect_to_an_address_with_a_secret_is_followed(client: Client, server: Server, store: Path) -> None:
    target = f"/file?X-Amz-Signature={TOKEN}&name=a%20b"
    url = server.say(
        "/a", said(f"Location: {target}", status="302 Found", body=b"ghp_aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY2zA4")
    )
    server.say(target, said("Set-Cookie: there=yes", body=b"there"))

    def visited() -> Any:
        if client.name in ("urllib3", "http.client"):
            return client.ask(urllib.parse.urljoin(url, client.ask(url).all("location")[0])).raw
        return client.visit(url)

    live, replayed = twice(store, server, visited)
    assert replayed == (live if isinstance(live, bytes) else [("there", "[secret:1]")])
    assert TOKEN not in "".join(path.read_text() for path in store.glob("*.json"))


# Challenges


def _digest(name: str) -> Callable[[str], Any]:
    library = importlib.import_module(name)

    def asked(url: str) -> Any:
        with library.Client(trust_env=False) as client:
            answer = client.get(url, auth=library.DigestAuth("me", "my-password"))
            return answer.status_code, answer.text, [earlier.status_code for earlier in answer.history]

    return asked


def _digest_of_requests(url: str) -> Any:
    answer = requests.get(url, auth=requests.auth.HTTPDigestAuth("me", "my-password"), timeout=20)
    return answer.status_code, answer.text, [earlier.status_code for earlier in answer.history]


def _digest_of_urllib(url: str) -> Any:
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    passwords.add_password(None, url, "me", "my-password")
    opener = urllib.request.build_opener(urllib.request.HTTPDigestAuthHandler(passwords))
    with opener.open(url, timeout=20) as answer:
        return answer.status, answer.read()


def _digest_of_aiohttp(url: str) -> Any:
    async def asked() -> Any:
        middleware = aiohttp.DigestAuthMiddleware("me", "my-password")
        async with aiohttp.ClientSession(middlewares=(middleware,)) as session, session.get(url) as answer:
            return answer.status, await answer.text()

    found = asyncio.run(asked())
    with warnings.catch_warnings(action="ignore"):
        gc.collect()  # the middleware leaves the first answer open
    return found


@pytest.mark.parametrize(
    "asked",
    [*map(_digest, HTTPX), _digest_of_requests, _digest_of_urllib, _digest_of_aiohttp],
    ids=[*HTTPX, "requests", "urllib", "aiohttp"],
)
def test_a_challenge_is_answered_again(asked: Callable[[str], Any], server: Server, store: Path) -> None:
    challenge = 'WWW-Authenticate: Digest realm="r", nonce="0123456789abcdef0123456789abcdef", qop="auth", opaque="o"'
    url = server.say("/a", said(challenge, status="401 Unauthorized", body=b"no"))
    server.say("/a", said(body=b"yes"))
    with nr.session(store, mode="record"):
        live = asked(url)
    server.stop()
    assert [take.status for take in takes(store)] == [401, 200]
    assert [b"authorization: digest" in head.lower() for head, _ in server.requests] == [False, True]
    with nr.session(store, mode="replay") as session:
        assert asked(url) == live
    assert outcomes(session) == ["replayed"] * 2


# Secrets


@each_client
def test_secrets_in_any_header_are_taken_out(client: Client, server: Server, store: Path) -> None:
    key = "sk-aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY"
    lines = [
        f"X-Anything: {key}",
        "X-Subject-Token: gAAAAABnothingThatLooksLikeAKey",
        f"Authorization: Bearer {TOKEN}",
        f"Content-Location: /items/{key}?sig={TOKEN}",
        f'Link: </a?token={TOKEN}>; rel="next", </b>; rel="last"',
        f"Refresh: 5; url=/c?access_token={TOKEN}&page=3",
        "X-RateLimit-Limit-Tokens: 30000",
    ]
    url = server.say("/a", said(*lines, body=b"text"))
    _, replayed = twice(store, server, lambda: client.ask(url))
    text = "".join(path.read_text() for path in store.glob("*.json"))
    assert not [secret for secret in (key, TOKEN, "gAAAAA") if secret in text]
    (link,) = replayed.all("link")
    assert re.fullmatch(r'</a\?token=\[secret:\d\]>; rel="next", </b>; rel="last"', link)
    (refresh,) = replayed.all("refresh")
    assert re.fullmatch(r"5; url=/c\?access_token=\[secret:\d\]&page=3", refresh)
    assert replayed.all("x-ratelimit-limit-tokens") == ["30000"]


# Files


def edited(store: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the take of the only recording of a store, as an editor or an attacker would."""
    (path,) = store.glob("*.json")
    data = json.loads(path.read_text())
    change(data["takes"][0])
    path.write_text(json.dumps(data))


@pytest.fixture
def recorded(server: Server, store: Path) -> str:
    """The URL of an answer with the body ``the body``, recorded."""
    url = server.say("/a", said("Content-Type: text/plain", body=b"the body"))
    with nr.session(store, mode="record"):
        requests.get(url, timeout=20)
    server.stop()
    return url


@each_client
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-a", "1\r\nset-cookie: a=b"),
        ("x-a", "1\r\n\r\nanother body"),
        ("x-a", "1\rset-cookie: a=b"),
        ("x-a", "nul \0 here"),
        ("x-a", "half \ud800 of a pair"),
        ("a\r\nset-cookie: a=b", "c"),
        ("set-cookie\n", "c"),
        ("with space", "c"),
        ("with:colon", "c"),
        ("\u00fcber", "c"),
        ("\ud800", "c"),
        ("", "c"),
    ],
)
def test_a_header_that_cannot_be_one_is_an_error_of_the_file(
    client: Client, name: str, value: str, recorded: str, store: Path
) -> None:
    edited(store, lambda take: take["headers"].update({name: value}))
    with nr.session(store, mode="replay") as session, pytest.raises(nr.RecordingMissing) as caught:
        client.ask(recorded)
    assert isinstance(caught.value.__cause__, RecordingFormatError)
    assert next(store.glob("*.json")).name in str(caught.value)
    assert outcomes(session) == ["missing"]


@each_client
@pytest.mark.parametrize("field", [{"reason_phrase": "OK\r\nset-cookie: a=b"}, {"http_version": "HTTP/1.1 500 No\r\n"}])
def test_a_status_line_that_cannot_be_one_is_an_error_of_the_file(
    client: Client, field: dict[str, str], recorded: str, store: Path
) -> None:
    edited(store, lambda take: take.update(field))
    with nr.session(store, mode="replay"), pytest.raises(nr.RecordingMissing) as caught:
        client.ask(recorded)
    assert isinstance(caught.value.__cause__, RecordingFormatError)


@pytest.mark.full(quick="each")
@each_client
@pytest.mark.parametrize(
    "value", ["\u00fcber", "\u6f22\u5b57", "\U0001f642", "\udcff", "a\tb", "\x0b \x0c \x1c \x85 \u2028"]
)
def test_an_odd_value_is_given_or_refused_by_the_library_itself(
    client: Client, value: str, recorded: str, store: Path
) -> None:
    edited(store, lambda take: take["headers"].update({"x-a": f"<{value}>", "x-b": "after it"}))
    with nr.session(store, mode="replay"):
        try:
            answer = client.ask(recorded)
        except aiohttp.ClientResponseError:
            assert not value.isprintable(), "its parser refuses control characters, as it does live"
            return
    assert answer.raw == b"the body"
    (given,) = answer.all("x-a")
    assert given.encode("latin-1") in (
        f"<{value}>".encode("utf-8", "surrogateescape"),
        f"<{value}>".encode("latin-1", "replace"),
    )
    assert answer.all("x-b") == ["after it"]


@each_client
@pytest.mark.parametrize(
    "headers",
    [
        {"content-length": "3"},
        {"Content-Length": "300"},
        {"content-length": "-1"},
        {"content-length": "8\n9"},
        {"content-length": "3", "Content-Length": "4"},
        {"content-length": "many"},
        {"transfer-encoding": "chunked"},
        {"Transfer-Encoding": "gzip, chunked", "content-length": "5"},
        {"Connection": "close", "trailer": "x-a", "upgrade": "h2c"},
    ],
)
def test_framing_in_a_file_is_not_believed(client: Client, headers: dict[str, str], recorded: str, store: Path) -> None:
    edited(store, lambda take: take.update(headers={"content-type": "text/plain", **headers, "x-a": "1"}))
    with nr.session(store, mode="replay"):
        answer = client.ask(recorded)
    assert answer.raw == b"the body"
    assert answer.all("content-length") in ([], ["8"])
    assert not {name for name, _ in answer.headers} & HOP_BY_HOP
    assert answer.all("x-a") == ["1"]


@each_client
def test_a_recording_of_an_earlier_version_is_given_as_before(client: Client, recorded: str, store: Path) -> None:
    edited(store, lambda take: take.update(headers={"content-type": "text/plain", "x-request-id": "req_1"}))
    with nr.session(store, mode="replay"):
        answer = client.ask(recorded)
    sized = [] if client.name.startswith("httpx") else [("content-length", "8")]
    assert sorted(answer.headers) == [*sized, ("content-type", "text/plain"), ("x-request-id", "req_1")]
    assert (answer.status, answer.phrase, answer.version, answer.raw) == (200, "OK", "HTTP/1.1", b"the body")


def test_a_stream_that_said_its_length_is_still_one_of_events(server: Server, store: Path) -> None:
    body = b"data: a\n\ndata: b\n\n"
    url = server.say("/a", said("Content-Type: text/event-stream", body=body))
    _, replayed = twice(store, server, lambda: list(requests.get(url, stream=True, timeout=20).iter_lines()))
    assert replayed == [b"data: a", b"", b"data: b", b""]
    assert isinstance(takes(store)[0].body, Events)
