"""Headers of an answer: which are kept, how a take writes them, and how a replay gives them back.

A take maps each name, in lower case, to its value. The values of a header that came several times are the lines of one
string, in their order. What a replay gives agrees with the body that it gives:

- ``content-encoding`` is there only where the body is still encoded (`http.client`, `urllib`, an aiohttp session with
  ``auto_decompress=False``); else the body is decoded, also for who reads it raw (``iter_raw``, ``.raw.read()``).
- ``content-length`` is there if it was there when the answer was recorded. It is the length of the body that is
  given, or the recorded one where there is no body (HEAD, 204, 304).
- Other headers about the body, such as ``etag`` and ``content-md5``, stay as they were.

Knows takes, and no HTTP library.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from nbreplay.core.recording.stream import Events
from nbreplay.core.secrets.values import is_secret_named
from nbreplay.errors import RecordingFormatError

if TYPE_CHECKING:
    from nbreplay.core.recording.take import Take
    from nbreplay.core.secrets.redact import Redactor

__all__ = [
    "HTTP11",
    "NOISE",
    "Pairs",
    "check_headers",
    "cookie_values",
    "framed_headers",
    "headers_of",
    "is_bare",
    "is_sized",
    "kept_headers",
    "kept_phrase",
    "kept_version",
    "phrase_of",
    "recorded_length",
]

Pairs = list[tuple[str, str]]
"""Headers in their order, each with its name in lower case."""

HTTP11 = "HTTP/1.1"

_HOP_BY_HOP = frozenset(
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
"""Headers about the machine that answered, each with what it says: no program needs them again."""

_NOISE_COOKIES = frozenset(["__cf_bm", "_cfuvid"])  # Cloudflare sets them for itself, with each answer
_COOKIES = frozenset(["set-cookie", "set-cookie2"])
_SECRET = frozenset(
    [
        *("api-key", "authorization", "x-access-token", "x-amz-security-token", "x-api-key", "x-auth-token"),
        *("x-csrf-token", "x-refresh-token", "x-session-token", "x-subject-token", "x-xsrf-token"),
    ]
)
"""Headers of an answer that hold nothing but a credential, whatever it looks like."""

_DROPPED = _HOP_BY_HOP | NOISE.keys() | {"content-encoding"}
_CHANGED = _HOP_BY_HOP | {"content-length", "set-cookie"}
"""Headers that a replay does not give back as they are."""
_valid: set[str] = set()
"""Names in lower case that were seen to be valid: looking at each again takes longer than the rest."""
# Patterns, compiled when they are first needed: few answers need one.
_VERSION = r"HTTP/[0-9](?:\.[0-9])?"
_NAME = r"[!-9;-~]+"
_BREAKS = r"[\r\n\0]+[ \t]*"
_FOLD = r"\r?\n[ \t]+"
_UNSAFE = "[\r\0\ud800-\udc7f\udd00-\udfff]"  # undecodable bytes are kept as \udc80 to \udcff
_ADDRESS = r'[^\s<>"]+'
_NEXT_COOKIE = r"(,(?=\s*[^\s;,=]+=))"
_EXPIRES = r"(?i)(;\s*expires=)([^;]*)"
_NEVER = "Fri, 31 Dec 9999 23:59:59 GMT"


# Recording


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
    kept: dict[str, str] = {}
    pairs = list(headers)
    dropped: Collection[str] = _DROPPED
    for name, value in pairs:
        if name == "connection" and value.lower() not in ("keep-alive", "close"):
            dropped = _DROPPED | {named.strip().lower() for named in value.split(",")}
    for name, value in pairs:
        if (name in dropped and name not in also) or not _is_name(name):
            continue
        if not value.isprintable():
            value = re.sub(_BREAKS, " ", value)  # as RFC 9110, 5.5, has it
        if name in _COOKIES:
            value = "".join(_without_values(value, redactor))
            if not value:
                continue
        elif (name in _SECRET and value) or is_secret_named(name, value):
            value = redactor.placeholder(value)
        kept[name] = f"{kept[name]}\n{value}" if name in kept else value
    text = "\n".join(kept.values())
    # An address is not searched for what its query names, unless there may be one.
    if "?" in text or "location" in kept or "link" in kept or redactor.finds(text):
        kept = {name: _redacted(name, value, redactor) for name, value in kept.items()}
    return kept


def _is_name(name: str) -> bool:
    if name in _valid:
        return True
    if not re.fullmatch(_NAME, name):
        return False
    if name.islower() and len(_valid) < 4096:
        _valid.add(name)
    return True


def _redacted(name: str, value: str, redactor: Redactor) -> str:
    if name not in _COOKIES:
        # Addresses one by one: what ends one, such as ">" in a Link, is not a part of a secret.
        value = re.sub(_ADDRESS, lambda found: redactor.url(found.group()), value)
    return redactor.text(value)


def cookie_values(headers: Iterable[tuple[str, str]]) -> list[str]:
    """Return the values of the cookies that an answer sets."""
    values = [value for name, value in headers if name in _COOKIES]
    return [secret for value in values for _, _, secret, _ in _cookies(value) if secret]


def _cookies(value: str) -> Iterator[tuple[str, str, str, str]]:
    """Yield what stands before each cookie, its name with the sign after it, its value, and its attributes."""
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


def _without_values(value: str, redactor: Redactor) -> Iterator[str]:
    for comma, name, secret, attributes in _cookies(value):
        if name.strip(" =") not in _NOISE_COOKIES:
            yield f"{comma}{name}{redactor.placeholder(secret) if secret else ''}{attributes}"


# Statuses of which Python 3.13 renamed the phrase: a file says it, so that it does not depend on who reads it.
_RENAMED = frozenset([413, 414, 416, 422])


@functools.cache
def _usual_phrase(status: int) -> str:
    import http  # 62 statuses take a while

    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return ""


def kept_phrase(status: int, phrase: str | None) -> str | None:
    """Return the reason phrase of an answer as a take keeps it: None where it is the status' own."""
    if phrase is None or (phrase == _usual_phrase(status) and status not in _RENAMED):
        return None
    return re.sub(_BREAKS, " ", phrase)


def kept_version(version: str) -> str:
    """Return the HTTP version of an answer as a take keeps it."""
    return version if re.fullmatch(_VERSION, version) else HTTP11


# Replaying


def check_headers(headers: Mapping[str, str], phrase: str | None) -> None:
    """Check what a file says of the head of an answer.

    Raises
    ------
    RecordingFormatError
        Where it cannot be sent as one header.
    """
    values = "".join(headers.values())
    if headers.keys() <= _valid and phrase is None and values.isascii() and "\r" not in values and "\0" not in values:
        return
    for name, value in headers.items():
        if not _is_name(name):
            raise RecordingFormatError(f"{name!r} is not a name of a header")
        if re.search(_UNSAFE, re.sub(_FOLD, " ", value)):
            raise RecordingFormatError(f"the header {name!r} has a line end, a NUL or half of a surrogate pair")
    if phrase and (re.search(_UNSAFE, phrase) or "\n" in phrase):
        raise RecordingFormatError("the reason phrase has a line end, a NUL or half of a surrogate pair")


def headers_of(take: Take, length: int | str | None) -> Pairs:
    """Return the headers with which a take is given back.

    Parameters
    ----------
    take : Take
    length : int, str or None
        What ``content-length`` says, where it was recorded. None leaves it out.
    """
    made: Pairs = []
    if take.status != 200 and take.transient and "retry-after-ms" not in take.headers:
        made.append(("retry-after-ms", "1"))  # nobody sleeps through the back-off of a failure that was recorded
    given = take.headers
    if given.keys() <= _valid and _CHANGED.isdisjoint(given) and "\n" not in "".join(given.values()):
        return [*made, *given.items()]
    for name, value in given.items():
        lower = name.lower()
        if lower in _HOP_BY_HOP:
            continue
        if lower == "content-length":
            if length is not None:
                made.append((lower, str(length)))
            length = None  # once, however often a file says it
        elif "\n" in value:
            made += [(name, line) for line in re.sub(_FOLD, " ", value).split("\n")]
        else:
            made.append((name, value))
    if "set-cookie" in take.headers:
        made = [(name, _lasting(value, take) if name == "set-cookie" else value) for name, value in made]
    return made


def framed_headers(take: Take, method: str, size: int | None) -> Pairs:
    """Return the headers with which a take is given back over HTTP/1.1.

    Parameters
    ----------
    take : Take
    method : str
    size : int or None
        The length of the body; None where it comes in chunks.
    """
    if is_bare(method, take.status):
        return headers_of(take, recorded_length(take))
    made = headers_of(take, size)
    if size is None:
        made.append(("transfer-encoding", "chunked"))
    elif not any(name == "content-length" for name, _ in made):
        made.append(("content-length", str(size)))
    return made


def _lasting(cookie: str, take: Take) -> str:
    """Return a cookie that has not expired, if it had not when it was recorded: else a client would not keep it."""
    found = re.search(_EXPIRES, cookie)
    if found is None:
        return cookie
    from datetime import datetime
    from email.utils import parsedate_to_datetime  # which imports sockets

    try:
        expires = parsedate_to_datetime(found[2].replace("-", " ")).timestamp()
        recorded = datetime.fromisoformat(take.recorded_at).timestamp()
    except (TypeError, ValueError, OverflowError):
        return cookie
    return cookie[: found.start(2)] + _NEVER + cookie[found.end(2) :] if recorded < expires < time.time() else cookie


def is_bare(method: str, status: int | None) -> bool:
    """Tell whether an answer has no body, whatever its headers say."""
    return method == "HEAD" or status in (204, 304) or (status or 0) < 200


def is_sized(take: Take) -> bool:
    """Tell whether a body is framed by its length; else it comes in chunks."""
    if not take.complete:
        return False  # of which an unknown rest is missing
    return "content-length" in take.headers or (take.sized and not isinstance(take.body, Events))


def recorded_length(take: Take) -> str | None:
    """Return the ``content-length`` that was recorded, where there is one."""
    length = take.headers.get("content-length", "").partition("\n")[0].strip()
    return length if length.isascii() and length.isdecimal() else None


def phrase_of(take: Take) -> str:
    """Return the reason phrase of a take."""
    return _usual_phrase(take.status or 0) if take.reason_phrase is None else take.reason_phrase
