"""Downloading the ``.zip`` of a store from its address, once a process, before a session closes the network.

Nothing is sent but the address, and no message quotes the parts of it that may be secret.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from nbreplay.core.request.route import is_loopback
from nbreplay.core.store.files import private_folder, remove_folder
from nbreplay.errors import StoreError

_MOST_BYTES = 256 << 20
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
    """Return the path of a zip, downloaded once a process.

    Parameters
    ----------
    url : str
        An https address; http for this machine itself, where nobody can overhear it.

    Raises
    ------
    StoreError
    """
    with _lock:
        path = _zips.get(url)
        if path is not None and os.path.isfile(path):
            return path
        folder = private_folder()
        path = os.path.join(folder, "store.zip")
        try:
            host = _require_allowed(url)
            with _permit(host):
                _download(url, host, path)
        except BaseException as error:
            remove_folder(folder)
            why = _reason(error)
            if why is None:
                raise
            # Not from the error: it may quote the whole address.
            remedy = "Download it yourself, and pass the file"
            raise StoreError(f"{shown_url(url)} cannot be fetched: {why}. {remedy}") from None
        _zips[url] = path
        return path


class _Refused(Exception):
    """Why nothing is downloaded."""


def _reason(error: BaseException) -> str | None:
    """Return why a download failed, without the address; None where that is not known."""
    import http.client
    import urllib.error

    match error:
        case _Refused():
            return str(error)
        case urllib.error.HTTPError():
            error.close()
            # The reason of a redirection has the address that it leads to.
            return f"redirect refused ({error.code})" if error.code < 400 else f"{error.code} {printable(error.reason)}"
        case urllib.error.URLError():
            return printable(error.reason)
        case http.client.HTTPException() | ValueError():
            return f"not a valid address or HTTP response ({type(error).__name__})"
        case OSError():
            return printable(error.strerror or error)
    return None


def _download(url: str, host: str, path: str) -> None:
    import urllib.request

    class Redirects(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
            try:
                if not newurl.lower().startswith("https:"):
                    raise _Refused("redirect to an address that is not https")
                _require_allowed(newurl)
            except _Refused:
                fp.close()
                raise
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    handlers: list[Any] = [Redirects]
    if is_loopback(host):
        handlers.append(urllib.request.ProxyHandler({}))  # a proxy may be another machine
    request = urllib.request.Request(url, headers={"User-Agent": "nbreplay"})
    until, size = time.monotonic() + _SECONDS_IN_ALL, 0
    with urllib.request.build_opener(*handlers).open(request, timeout=_SECONDS) as answer, open(path, "xb") as file:
        length = answer.headers.get("Content-Length", "")
        while piece := answer.read1(_PIECE):
            size += len(piece)
            if size > _MOST_BYTES:
                raise _Refused(f"larger than {_MOST_BYTES >> 20} MB")
            if time.monotonic() > until:
                raise _Refused(f"not complete after {_SECONDS_IN_ALL} s")
            file.write(piece)
    if length.isdecimal() and int(length) != size:
        raise _Refused("the connection broke off")


def _require_allowed(url: str) -> str:
    """Return the host of an address that may be asked."""
    import urllib.parse

    parts = urllib.parse.urlsplit(url)
    host = parts.hostname or ""
    if "@" in parts.netloc:
        raise _Refused("a name or password in an address is not sent")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        raise _Refused("only https addresses are fetched")
    return host


def shown_url(url: str) -> str:
    """Return an address without what may be secret in it."""
    scheme, _, rest = re.split(r"[?#]", url, maxsplit=1)[0].partition("://")
    netloc, slash, path = rest.partition("/")
    return printable(f"{scheme}://{netloc.rpartition('@')[2]}{slash}{path}", 300)


def printable(text: object, most: int = 120) -> str:
    """Return a stranger's text for a message: on one line, and of at most `most` characters."""
    return "".join(character if character.isprintable() else "\ufffd" for character in str(text)[:most])
