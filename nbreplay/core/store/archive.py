"""Archive: a store that is in one ``.zip``, here or at an https address, unpacked into a private folder.

It may lie anywhere in the zip, such as that of a repository. What comes after ``#`` names its folder where there are
several stores.

The content is a stranger's: only files that a store has are unpacked, within bounds that are checked while they are
read, whatever its own table of contents says. An address is fetched before a session closes the network. Nothing is
sent but the address, and no message quotes the parts of it that may be secret.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import stat
import struct
import tempfile
import threading
import time
import zipfile
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from nbreplay.core import pyodide
from nbreplay.core.config import is_url, whole_url
from nbreplay.core.request.route import is_loopback
from nbreplay.core.store.files import is_member
from nbreplay.errors import StoreError

MOST_MEMBERS = 60_000
_UNPACKED_BYTES = 1 << 30
_RATIO, _SMALL = 200, 16 << 20  # of what is unpacked to the zip, where it is more than a few bytes
_PIECE = 1 << 16
_END, _END_LARGE = b"PK\x05\x06", b"PK\x06\x07"
_TABLE_BYTES = MOST_MEMBERS * 512
_DOWNLOADED_BYTES = 256 << 20
_TOO_LARGE = f"larger than {_DOWNLOADED_BYTES >> 20} MB"
_SECONDS, _SECONDS_IN_ALL = 30, 600

_locks: dict[tuple[str, ...], threading.RLock] = {}
_paths: dict[tuple[str, ...], str] = {}
_permit: Callable[[str], AbstractContextManager[object]] = nullcontext


class Archive(msgspec.Struct, frozen=True):
    """A store that is in a ``.zip``."""

    # Opens it again from any working directory: an absolute path, or the whole address, with what is secret in it.
    source: str
    name: str  # identifies it, without secrets
    shown: str  # the path as it was given, or the address without secrets
    folder: str  # where it is unpacked

    def __repr__(self) -> str:
        return f"Archive({self.shown!r})"


class _Refused(Exception):
    """Why a zip is not downloaded, or not unpacked, and what to do about it where that is not what is usual."""

    def __init__(self, why: str, remedy: str = "") -> None:
        super().__init__(why)
        self.remedy = remedy


def is_archive(store: object) -> bool:
    """Tell whether a store is named by an address or is in a ``.zip``."""
    if not isinstance(store, str | os.PathLike):
        return False
    zipped, _ = _split(store)
    return is_url(zipped) or (zipped.lower().endswith(".zip") and not Path(zipped).expanduser().is_dir())


def open_archive(store: str | os.PathLike[str]) -> Archive | None:
    """Download a store that has an address, unpack a ``.zip``, and return it; None for a folder.

    It is unpacked once a process, as long as the zip stays the same. Raise `StoreError` where it cannot be downloaded,
    or is not the zip of a store.
    """
    if not is_archive(store):
        return None
    zipped, inner = _split(store)
    part = f"#{inner}" if inner else ""  # shown only if the zip has a folder of that name
    if is_url(zipped):
        shown = _shown_url(zipped)
        path = _once((zipped,), "store.zip", partial(_download, zipped))
        return Archive(zipped + part, shown + part, shown + part, _unpacked_folder(path, shown, unquote(inner)))
    given = str(Path(zipped).expanduser())
    whole = os.path.abspath(given)
    return Archive(whole + part, whole + part, given + part, _unpacked_folder(whole, given, inner))


def _split(store: str | os.PathLike[str]) -> tuple[str, str]:
    """Return the address or path of a zip, and the folder in it that comes after ``#``."""
    text = whole_url(store)
    if is_url(text):
        address, _, inner = text.partition("#")
    else:
        address, _, inner = text.rpartition("#")
        if not address.lower().endswith(".zip") or os.path.exists(os.path.expanduser(text)):
            return text, ""
    return address, inner.strip("/")


def set_permit(permit: Callable[[str], AbstractContextManager[object]]) -> None:
    """Have a store downloaded within ``permit(host)``, so that a network guard lets it through."""
    global _permit
    _permit = permit


def _once(key: tuple[str, ...], name: str, create: Callable[[str], None]) -> str:
    """Return the path that `create` has filled, once a process, in a folder that goes with the process."""
    with _locks.setdefault(key, threading.RLock()):
        path = _paths.get(key)
        if path is None or not os.path.exists(path):
            private = tempfile.mkdtemp(prefix="nbreplay-")
            atexit.register(_remove, private, os.getpid())
            path = os.path.join(private, name)
            try:
                create(path)
            except BaseException:
                shutil.rmtree(private, ignore_errors=True)
                raise
            _paths[key] = path
        return path


def _remove(folder: str, process: int) -> None:
    if process == os.getpid():  # a forked child still reads what its parent has put there
        shutil.rmtree(folder, ignore_errors=True)


# Unpacking


def _unpacked_folder(path: str, shown: str, inner: str) -> str:
    remedy = "Pass the .zip of a store, or a folder"
    try:
        status = os.stat(path)
    except OSError as error:
        raise StoreError(f"{shown} cannot be read: {error.strerror or error}. {remedy}") from None
    if not stat.S_ISREG(status.st_mode):
        # Before it is opened: a pipe keeps its reader waiting, and a device may have no end.
        raise StoreError(f"{shown} is not a regular file. {remedy}")
    version = path, inner, str(status.st_mtime_ns), str(status.st_size)
    return _once(version, "store", lambda folder: unpack(path, folder, shown, inner))


def unpack(path: str, folder: str, shown: str, inner: str = "") -> None:
    """Unpack the files of a store from a ``.zip`` into a new folder; errors call the zip `shown`.

    `inner` is the folder of the store in the zip; without it, the zip must have one store only.
    """
    remedy = ""
    try:
        size = os.path.getsize(path)
        _require_small_table(path, size)
        os.mkdir(folder, 0o700)
        with zipfile.ZipFile(path) as archive:
            left = min(_UNPACKED_BYTES, max(_SMALL, size * _RATIO))
            for name, member in _members(archive.infolist(), inner):
                with archive.open(member) as source, open(os.path.join(folder, name), "xb") as target:
                    while piece := source.read(_PIECE):
                        left -= len(piece)
                        if left < 0:
                            raise _Refused("unpacks to more than a store of its size would")
                        target.write(piece)
        return
    except _Refused as error:
        why, remedy = str(error), error.remedy
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError) as error:
        why = f"not a zip, or a damaged one ({_printable(error)})"
    except RuntimeError as error:
        why = f"cannot be unpacked ({_printable(error)})"
    except OSError as error:
        raise StoreError(f"{shown} cannot be unpacked: {error.strerror or error}. Free the disk, or unzip it") from None
    remedy = remedy or "Make it with nbreplay export --format zip, or pass a folder of recordings"
    raise StoreError(f"{shown} is not a usable zip of a store: {why}. {remedy}")


def _require_small_table(path: str, size: int) -> None:
    """Refuse a table of contents that takes much memory to read, before it is read."""
    with open(path, "rb") as file:
        file.seek(max(0, size - (1 << 16) - 64))
        tail = file.read()
    end = len(tail) - 22
    if not (tail[end:].startswith(_END) and tail.endswith(b"\0\0")):
        end = tail.rfind(_END)
    if end < 0 or len(tail) < end + 22:
        raise _Refused("not a zip, or cut short")
    table = struct.unpack_from("<L", tail, end + 12)[0]
    if tail[max(0, end - 20) : end].startswith(_END_LARGE) or table > _TABLE_BYTES:
        raise _Refused(f"more than {MOST_MEMBERS:,} files")


def _members(infos: list[zipfile.ZipInfo], inner: str) -> list[tuple[str, zipfile.ZipInfo]]:
    """Return the files of a store in a zip, by their names in its folder."""
    if len(infos) > MOST_MEMBERS:
        raise _Refused(f"more than {MOST_MEMBERS:,} files")
    folders: dict[str, list[tuple[str, zipfile.ZipInfo]]] = {}
    for member in infos:
        # As it is in the zip: `filename` has been made harmless in part, which another reader might not have done.
        whole = member.orig_filename
        if not is_member(re.split(r"[/\\:]", whole)[-1]):
            continue  # a file of a repository, say, which may have any name
        *parts, name = whole.split("/")
        if not whole.isprintable() or "\\" in whole or ":" in whole or {"", ".", ".."}.intersection(parts):
            raise _Refused(f"has a file named {_printable(repr(whole))}, which no zip of a store has")
        folders.setdefault("/".join(parts), []).append((name, member))
    stores = {folder: files for folder, files in folders.items() if any(name.endswith(".json") for name, _ in files)}
    files = stores[_choose_folder(sorted(stores), inner, _top_folder(infos))]
    names: set[str] = set()
    for name, member in files:
        shown = _printable(member.orig_filename)
        if name in names:
            raise _Refused(f"has {shown} twice")
        names.add(name)
        if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
            raise _Refused(f"{shown} in it is a link, or not a file")
        if member.flag_bits & 1:
            raise _Refused("encrypted")
        if member.compress_type not in (0, 8):  # stored, deflated
            raise _Refused(f"unknown compression of {shown}")
    return files


def _top_folder(infos: list[zipfile.ZipInfo]) -> str:
    """Return the folder that holds all else, as the zip of a repository has one: ``REPO-REF/``; ``""`` without one."""
    tops = {member.orig_filename.partition("/")[0] for member in infos}
    return f"{tops.pop()}/" if len(tops) == 1 else ""


def _choose_folder(folders: list[str], inner: str, top: str) -> str:
    """Return the folder of the only store, or of the one that is named, with or without the folder at the top."""
    if not folders:
        raise _Refused("has no recordings")
    if not inner and len(folders) == 1:
        return folders[0]
    for folder in ("", top.rstrip("/")) if inner == "." else (inner, top + inner) if inner else ():
        if folder in folders:
            return folder
    names = [folder.removeprefix(top) for folder in folders]
    places = ", ".join(_printable(name or "the root") for name in names[:5])
    more = f" and {len(names) - 5} more folders" if len(names) > 5 else ""
    named = _printable(next(filter(None, names), "."))
    raise _Refused(
        f"has recordings in {places}{more}{', and not in the folder after #' if inner else ''}",
        f"Name one of these folders after the address or path, such as #{named}",
    )


# Downloading


def _download(url: str, path: str) -> None:
    """Write what is at an https address into a file; http is for this machine itself, where nobody can overhear it."""
    import http.client
    import urllib.request
    from email.message import Message
    from urllib.error import HTTPError, URLError

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

    try:
        host = _require_allowed(url)
        if pyodide.IS_PYODIDE:
            with _permit(host):
                status, reason, last, body = pyodide.fetch(url)
            _require_allowed(last)
            if status != 200:
                raise HTTPError(url, status, reason, Message(), None)
            if len(body) > _DOWNLOADED_BYTES:
                raise _Refused(_TOO_LARGE)
            Path(path).write_bytes(body)
            return
        handlers: list[Any] = [Redirects]
        if is_loopback(host):
            handlers.append(urllib.request.ProxyHandler({}))  # a proxy may be another machine
        request = urllib.request.Request(url, headers={"User-Agent": "nbreplay"})
        with _permit(host):
            _copy(urllib.request.build_opener(*handlers), request, path)
        return
    except _Refused as error:
        why = str(error)
    except HTTPError as error:
        error.close()
        # The reason of a redirection has the address that it leads to.
        why = f"redirect refused ({error.code})" if error.code < 400 else f"{error.code} {_printable(error.reason)}"
    except URLError as error:
        why = _printable(error.reason)
    except (http.client.HTTPException, ValueError) as error:
        why = f"not a valid address or HTTP response ({type(error).__name__})"
    except OSError as error:
        why = _printable(error.strerror or error)
    # Not from the error: it may quote the whole address.
    raise StoreError(f"{_shown_url(url)} cannot be fetched: {why}. Download it yourself, and pass the file")


def _copy(opener: Any, request: Any, path: str) -> None:
    until, size = time.monotonic() + _SECONDS_IN_ALL, 0
    with opener.open(request, timeout=_SECONDS) as answer, open(path, "xb") as file:
        length = answer.headers.get("Content-Length", "")
        while piece := answer.read1(_PIECE):
            size += len(piece)
            if size > _DOWNLOADED_BYTES:
                raise _Refused(_TOO_LARGE)
            if time.monotonic() > until:
                raise _Refused(f"not complete after {_SECONDS_IN_ALL} s")
            file.write(piece)
    if length.isdecimal() and int(length) != size:
        raise _Refused("the connection broke off")


def _require_allowed(url: str) -> str:
    """Return the host of an address that may be asked."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if "@" in parts.netloc:
        raise _Refused("a name or password in an address is not sent")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        raise _Refused("only https addresses are fetched")
    return host


def _shown_url(url: str) -> str:
    """Return an address without what may be secret in it."""
    scheme, _, rest = re.split(r"[?#]", url, maxsplit=1)[0].partition("://")
    netloc, slash, path = rest.partition("/")
    return _printable(f"{scheme}://{netloc.rpartition('@')[2]}{slash}{path}", 300)


def _printable(text: object, most: int = 120) -> str:
    """Return a stranger's text for a message: on one line, and of at most `most` characters."""
    return "".join(character if character.isprintable() else "\ufffd" for character in str(text)[:most])
