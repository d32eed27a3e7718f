"""Fetching a ``.zip`` of a store from its address, once a process, before a session closes the network.

Nothing is sent but the address; nothing that may be secret in it is told.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from nbreplay.core.request.hosts import is_loopback
from nbreplay.core.store.files import private_folder, removed
from nbreplay.errors import StoreError

__all__ = ["fetch", "printable", "set_permit", "shown_url"]

_BYTES = 256 << 20
_PIECE = 1 << 16
_SECONDS, _SECONDS_IN_ALL = 30, 600

_lock = threading.RLock()
_zips: dict[str, str] = {}
_permit: Callable[[str], AbstractContextManager[object]] = nullcontext


def set_permit(permit: Callable[[str], AbstractContextManager[object]]) -> None:
    """Have a store downloaded within ``permit(host)``, so that a network guard lets it through."""
    global _permit
    _permit = permit


def fetch(url: str) -> str:
    """Return the path of a zip that was fetched, once a process.

    Parameters
    ----------
    url : str
        Of https; of http for this machine itself, where nobody can overhear it.

    Raises
    ------
    StoreError
        Where it cannot be had; the message names the address, without what may be secret in it.
    """
    import http.client
    import urllib.error

    with _lock:
        known = _zips.get(url)
        if known is not None and os.path.isfile(known):
            return known
        folder = private_folder()
        path = os.path.join(folder, "store.zip")
        try:
            host = _checked(url)
            with _permit(host):
                _download(url, host, path)
        except BaseException as error:
            removed(folder)
            if isinstance(error, _Refused):
                why = str(error)
            elif isinstance(error, urllib.error.HTTPError):
                # What is said of a redirection has the address that it leads to.
                said = "which leads nowhere that is asked" if error.code < 400 else printable(error.reason)
                why = f"the server says {error.code} {said}"
                error.close()
            elif isinstance(error, urllib.error.URLError):
                why = printable(error.reason)
            elif isinstance(error, http.client.HTTPException | ValueError):
                why = f"it is no address, or the answer is no HTTP ({type(error).__name__})"
            elif isinstance(error, OSError):
                why = printable(error.strerror or error)
            else:
                raise
            # Not from the error: it may say the whole address.
            raise StoreError(
                f"{shown_url(url)} cannot be fetched: {why}. Download it yourself, and name the file"
            ) from None
        _zips[url] = path
        return path


class _Refused(Exception):
    """Why nothing is fetched."""


def _download(url: str, host: str, path: str) -> None:
    import urllib.request

    class Redirects(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
            try:
                if not newurl.lower().startswith("https:"):
                    raise _Refused("it leads on to an address that is not https")
                _checked(newurl)
            except _Refused:
                fp.close()
                raise
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    handlers: list[Any] = [Redirects]
    if is_loopback(host):
        handlers.append(urllib.request.ProxyHandler({}))  # which may be another machine
    request = urllib.request.Request(url, headers={"User-Agent": "nbreplay"})
    until, size = time.monotonic() + _SECONDS_IN_ALL, 0
    with urllib.request.build_opener(*handlers).open(request, timeout=_SECONDS) as answer, open(path, "xb") as file:
        told = answer.headers.get("Content-Length", "")
        while piece := answer.read1(_PIECE):
            size += len(piece)
            if size > _BYTES:
                raise _Refused(f"it is larger than {_BYTES >> 20} MB")
            if time.monotonic() > until:
                raise _Refused("it takes too long")
            file.write(piece)
    if told.isdecimal() and int(told) != size:
        raise _Refused("the connection broke off")


def _checked(url: str) -> str:
    """Return the host of an address that may be asked."""
    import urllib.parse

    parts = urllib.parse.urlsplit(url)
    host = parts.hostname or ""
    if "@" in parts.netloc:
        raise _Refused("a name or password in an address is not sent")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        raise _Refused("only https is fetched")
    return host


def shown_url(url: str) -> str:
    """Return an address without what may be secret in it."""
    scheme, _, rest = re.split(r"[?#]", url, maxsplit=1)[0].partition("://")
    netloc, slash, path = rest.partition("/")
    return printable(f"{scheme}://{netloc.rpartition('@')[2]}{slash}{path}", 300)


def printable(text: object, most: int = 120) -> str:
    """Return what a stranger says as it can be told: on one line, and not at any length."""
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in str(text)[:most])
