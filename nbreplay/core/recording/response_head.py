"""Response head: the headers and the reason phrase with which a take is given back.

The headers agree with the body that is given:

- ``content-encoding`` is there only where the body is still encoded (`http.client`, `urllib`, an aiohttp session with
  ``auto_decompress=False``); else the body is decoded, also for who reads it raw (``iter_raw``, ``.raw.read()``).
- ``content-length`` is there if it was there when the answer was recorded. It is the length of the body that is
  given, or the recorded one if it has no body (HEAD, 204, 304).
- Other headers about the body, such as ``etag`` and ``content-md5``, stay as they were.
"""

from __future__ import annotations

import re
import time

from nbreplay.core.recording.headers import HOP_BY_HOP, is_bare, unfold, usual_phrase
from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.take import Take

Pairs = list[tuple[str, str]]
"""Headers in their order, each with its name in lower case."""

_EXPIRES = r"(?i)(;\s*expires=)([^;]*)"
_NEVER = "Fri, 31 Dec 9999 23:59:59 GMT"


def response_headers(take: Take, length: int | str | None) -> Pairs:
    """Return the headers with which a take is given back.

    Parameters
    ----------
    take : Take
    length : int, str or None
        What ``content-length`` says, where it was recorded. None leaves it out.
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
            lines = unfold(value).split("\n") if "\n" in value else [value]
            headers += [(name, _without_expiry(line, take) if name == "set-cookie" else line) for line in lines]
    return headers


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
    if not take.complete:
        return False  # of which an unknown rest is missing
    return "content-length" in take.headers or (take.sized and not isinstance(take.body, Events))


def recorded_length(take: Take) -> str | None:
    """Return the ``content-length`` that was recorded, where there is one."""
    length = take.headers.get("content-length", "").partition("\n")[0].strip()
    return length if length.isascii() and length.isdecimal() else None


def phrase_of(take: Take) -> str:
    """Return the reason phrase of a take."""
    return usual_phrase(take.status or 0) if take.reason_phrase is None else take.reason_phrase
