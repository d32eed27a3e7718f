"""Headers of an answer: as a take keeps them, and as it is given back with them.

A take keeps no secrets, and nothing that is only about the connection. It maps each name, in lower case, to its value.
The values of a header that came several times are the lines of one string, in their order.

The headers that are given back agree with the body that is given:

- ``content-encoding`` is there only where the body is still encoded (`http.client`, `urllib`, an aiohttp session with
  ``auto_decompress=False``); else the body is decoded, also for who reads it raw (``iter_raw``, ``.raw.read()``).
- ``content-length`` is there if it was there when the answer was recorded. It is the length of the body that is
  given, or the recorded one if it has no body (HEAD, 204, 304).
- Other headers about the body, such as ``etag`` and ``content-md5``, stay as they were.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Iterable, Iterator, Sequence

from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.take import HTTP11, Take, is_header_name, unfold
from nbreplay.core.secrets.credentials import is_secret_named
from nbreplay.core.secrets.redact import Redactor

HOP_BY_HOP = frozenset(
    ["connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"]
)
"""About one connection, not about the answer (RFC 9110, 7.6.1); a replay has a framing of its own."""

NOISE = {
    "age": "how long a cache has had it",
    "alt-svc": "other addresses of the server",
    "cf-cache-status": "Cloudflare's cache",
    "cf-ray": "Cloudflare's number of the call",
    "date": "the server's clock; a take has its own time",
    "nel": "where a browser reports errors",
    "report-to": "where a browser reports errors",
    "server": "the server's software",
    "strict-transport-security": "for browsers",
    "via": "the proxies in between",
    "x-envoy-upstream-service-time": "the proxy's clock",
    "x-served-by": "the machine that answered",
    "x-timer": "the cache's clock",
}
"""Headers about the machine that answered, each with its meaning. No program needs them again."""

_NOISE_COOKIES = frozenset(["__cf_bm", "_cfuvid"])  # Cloudflare sets them for itself, with each answer
_COOKIES = frozenset(["set-cookie", "set-cookie2"])
_SECRET = frozenset(
    [
        *("api-key", "authorization", "x-access-token", "x-amz-security-token", "x-api-key", "x-auth-token"),
        *("x-csrf-token", "x-refresh-token", "x-session-token", "x-subject-token", "x-xsrf-token"),
    ]
)
"""Headers of an answer that hold nothing but a credential, whatever it looks like."""

_DROPPED = HOP_BY_HOP | NOISE.keys() | {"content-encoding"}
# Patterns, compiled when they are first needed: few answers need one.
_VERSION = r"HTTP/[0-9](?:\.[0-9])?"
_BREAKS = r"[\r\n\0]+[ \t]*"
_ADDRESS = r'[^\s<>"]+'
_EXPIRES = r"(?i)(;\s*expires=)([^;]*)"
_NEVER = "Fri, 31 Dec 9999 23:59:59 GMT"
_NEXT_COOKIE = r"(,(?=\s*[^\s;,=]+=))"

Pairs = list[tuple[str, str]]
"""Headers in their order, each with its name in lower case."""


def kept_headers(headers: Sequence[tuple[str, str]], redactor: Redactor, *, encoding: bool = False) -> dict[str, str]:
    """Return an answer's headers, named in lower case, as a take keeps them; the content encoding if `encoding`."""
    result: dict[str, str] = {}
    connection = ",".join(value for name, value in headers if name == "connection")
    dropped = _DROPPED.union(name.strip().lower() for name in connection.split(","))
    if encoding:
        dropped -= {"content-encoding"}
    for name, value in headers:
        if name in dropped or not is_header_name(name):
            continue
        value = re.sub(_BREAKS, " ", value)  # as RFC 9110, 5.5, has it
        if name in _COOKIES:
            value = "".join(_redact_cookies(value, redactor))
            if not value:
                continue
        elif (name in _SECRET and value) or is_secret_named(name, value):
            value = redactor.placeholder(value)
        result[name] = f"{result[name]}\n{value}" if name in result else value
    text = "\n".join(result.values())
    # An address is not searched for what its query names, unless there may be one.
    if "?" in text or "location" in result or "link" in result or redactor.finds(text):
        result = {name: _redact(name, value, redactor) for name, value in result.items()}
    return result


def _redact(name: str, value: str, redactor: Redactor) -> str:
    if name not in _COOKIES:
        # Addresses one by one: what ends one, such as ">" in a Link, is not a part of a secret.
        value = re.sub(_ADDRESS, lambda match: redactor.url(match.group()), value)
    return redactor.text(value)


def cookie_values(headers: Iterable[tuple[str, str]]) -> list[str]:
    """Return the values of the cookies that an answer sets."""
    return [secret for name, value in headers if name in _COOKIES for _, _, secret, _ in _cookies(value) if secret]


def _cookies(value: str) -> Iterator[tuple[str, str, str, str]]:
    """Yield for each cookie the comma before it, its name with the sign after it, its value, and its attributes."""
    parts = re.split(_NEXT_COOKIE, value)  # with each comma in between
    for comma, part in zip(["", *parts[1::2]], parts[::2], strict=True):
        pair, semicolon, attributes = part.partition(";")
        name, equals, secret = pair.partition("=") if "=" in pair else ("", "", pair)
        yield comma, name + equals, secret.strip(), semicolon + attributes


def _redact_cookies(value: str, redactor: Redactor) -> Iterator[str]:
    for comma, name, secret, attributes in _cookies(value):
        if name.strip(" =") not in _NOISE_COOKIES:
            yield f"{comma}{name}{redactor.placeholder(secret) if secret else ''}{attributes}"


# Python 3.13 renamed the phrases of these: a file says it, so that it does not depend on the Python that reads it.
_RENAMED = frozenset([413, 414, 416, 422])


@functools.cache
def usual_phrase(status: int) -> str:
    """Return the reason phrase of a status, or ``""``."""
    import http  # 62 statuses take a while

    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return ""


def kept_phrase(status: int, phrase: str | None) -> str | None:
    """Return the reason phrase of an answer as a take keeps it: None where it is the status' own."""
    if phrase is None or (phrase == usual_phrase(status) and status not in _RENAMED):
        return None
    return re.sub(_BREAKS, " ", phrase)


def kept_version(version: str) -> str:
    """Return the HTTP version of an answer as a take keeps it."""
    return version if re.fullmatch(_VERSION, version) else HTTP11


def is_bare(method: str, status: int | None) -> bool:
    """Tell whether an answer has no body, whatever its headers say."""
    return method == "HEAD" or status in (204, 304) or (status or 0) < 200


def response_headers(take: Take, length: int | str | None) -> Pairs:
    """Return the headers with which a take is given back.

    Where ``content-length`` was recorded, `length` is what it says; None leaves it out.
    """
    headers: Pairs = []
    if take.status != 200 and take.transient and "retry-after-ms" not in take.headers:
        headers.append(("retry-after-ms", "1"))  # nobody sleeps through the back-off of a failure that was recorded
    for name, value in take.headers.items():
        lower = name.lower()
        if lower == "content-length":
            if length is not None:
                headers.append((lower, str(length)))
            length = None  # once, however often a file says it
        elif lower not in HOP_BY_HOP:
            lines = unfold(value).split("\n")
            headers += [(name, _without_expiry(line, take) if name == "set-cookie" else line) for line in lines]
    return headers


def framed_headers(take: Take, method: str, size: int | None) -> Pairs:
    """Return the headers with which a take is given back over HTTP/1.1; `size` is None where it comes in chunks."""
    if is_bare(method, take.status):
        return response_headers(take, recorded_length(take))
    headers = response_headers(take, size)
    if size is None:
        headers.append(("transfer-encoding", "chunked"))
    elif not any(name == "content-length" for name, _ in headers):
        headers.append(("content-length", str(size)))
    return headers


def _without_expiry(cookie: str, take: Take) -> str:
    """Return a cookie that has not expired, if it had not when it was recorded: else a client would not keep it."""
    match = re.search(_EXPIRES, cookie)
    if match is None:
        return cookie
    from datetime import datetime
    from email.utils import parsedate_to_datetime  # which imports sockets

    try:
        expires = parsedate_to_datetime(match[2].replace("-", " ")).timestamp()
        recorded = datetime.fromisoformat(take.recorded_at).timestamp()
    except (TypeError, ValueError, OverflowError):
        return cookie
    return cookie[: match.start(2)] + _NEVER + cookie[match.end(2) :] if recorded < expires < time.time() else cookie


def is_sized(take: Take) -> bool:
    """Tell whether a body is framed by its length; else it comes in chunks."""
    sized = "content-length" in take.headers or (take.sized and not isinstance(take.body, Events))
    return sized and take.complete  # else an unknown rest is missing


def recorded_length(take: Take) -> str | None:
    """Return the ``content-length`` that was recorded, where there is one."""
    length = take.headers.get("content-length", "").partition("\n")[0].strip()
    return length if length.isascii() and length.isdecimal() else None


def phrase_of(take: Take) -> str:
    """Return the reason phrase of a take."""
    return usual_phrase(take.status or 0) if take.reason_phrase is None else take.reason_phrase
