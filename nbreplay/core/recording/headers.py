"""Headers of an answer as a take keeps them: without secrets, and without those that are only about the connection.

A take maps each name, in lower case, to its value. The values of a header that came several times are the lines of one
string, in their order. `nbreplay.core.recording.response_head` gives them back.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping

from nbreplay.core.secrets.redact import Redactor
from nbreplay.core.secrets.values import is_secret_named
from nbreplay.errors import RecordingFormatError

HTTP11 = "HTTP/1.1"

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
_NAME = r"[!-9;-~]+"
_BREAKS = r"[\r\n\0]+[ \t]*"
_FOLD = r"\r?\n[ \t]+"
_UNSAFE = "[\r\0\ud800-\udc7f\udd00-\udfff]"  # undecodable bytes are kept as \udc80 to \udcff
_ADDRESS = r'[^\s<>"]+'
_NEXT_COOKIE = r"(,(?=\s*[^\s;,=]+=))"


def kept_headers(headers: Iterable[tuple[str, str]], redactor: Redactor, also: Collection[str] = ()) -> dict[str, str]:
    """Return the headers of an answer as a take keeps them.

    Parameters
    ----------
    headers : iterable of (str, str)
        In their order, the names in lower case.
    redactor : Redactor
    also : collection of str
        Names to keep that are otherwise left out.
    """
    result: dict[str, str] = {}
    pairs = list(headers)
    dropped: Collection[str] = _DROPPED
    for name, value in pairs:
        if name == "connection" and value.lower() not in ("keep-alive", "close"):
            dropped = _DROPPED | {item.strip().lower() for item in value.split(",")}
    for name, value in pairs:
        if (name in dropped and name not in also) or not _is_name(name):
            continue
        if not value.isprintable():
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


@functools.lru_cache(maxsize=4096)
def _is_name(name: str) -> bool:
    return bool(re.fullmatch(_NAME, name))


def _redact(name: str, value: str, redactor: Redactor) -> str:
    if name not in _COOKIES:
        # Addresses one by one: what ends one, such as ">" in a Link, is not a part of a secret.
        value = re.sub(_ADDRESS, lambda match: redactor.url(match.group()), value)
    return redactor.text(value)


def cookie_values(headers: Iterable[tuple[str, str]]) -> list[str]:
    """Return the values of the cookies that an answer sets."""
    values = [value for name, value in headers if name in _COOKIES]
    return [secret for value in values for _, _, secret, _ in _cookies(value) if secret]


def _cookies(value: str) -> Iterator[tuple[str, str, str, str]]:
    """Yield for each cookie the comma before it, its name with the sign after it, its value, and its attributes."""
    comma = ""
    for part in re.split(_NEXT_COOKIE, value):
        if part == ",":
            comma = part
            continue
        pair, semicolon, attributes = part.partition(";")
        name, equals, secret = pair.partition("=")
        if not equals:
            name, secret = "", pair
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


def check_headers(headers: Mapping[str, str], phrase: str | None) -> None:
    """Check the head of an answer in a file.

    Raises
    ------
    RecordingFormatError
        If it cannot be sent.
    """
    for name in headers:
        if not _is_name(name):
            raise RecordingFormatError(f"{name!r} is not a name of a header")
    for name, value in headers.items():
        if not value.isprintable() and re.search(_UNSAFE, unfold(value)):
            raise RecordingFormatError(f"the header {name!r} has a line end, a NUL or half of a surrogate pair")
    if phrase and (re.search(_UNSAFE, phrase) or "\n" in phrase):
        raise RecordingFormatError("the reason phrase has a line end, a NUL or half of a surrogate pair")


def unfold(value: str) -> str:
    """Return the value of a header on a line; the lines of several values stay."""
    return re.sub(_FOLD, " ", value)
