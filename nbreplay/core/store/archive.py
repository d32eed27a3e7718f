"""Archive: a store that is one ``.zip``, here or at an https address, unpacked into a private folder.

Its content is a stranger's: only files that a store has are unpacked, within bounds that are checked while they are
read, whatever its own table of contents says.
"""

from __future__ import annotations

import os
import stat
import struct
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from nbreplay.core.config import is_url, whole_url
from nbreplay.core.store.files import is_member, private_folder, remove_folder
from nbreplay.core.store.remote import fetch, printable, shown_url
from nbreplay.errors import StoreError

if TYPE_CHECKING:
    import zipfile

MOST_MEMBERS = 60_000
_UNPACKED_BYTES = 1 << 30
_RATIO, _SMALL = 200, 16 << 20  # of what is unpacked to the zip, where it is more than a few bytes
_PIECE = 1 << 16
_END, _END_LARGE = b"PK\x05\x06", b"PK\x06\x07"
_TABLE_BYTES = MOST_MEMBERS * 512

_lock = threading.RLock()
_folders: dict[tuple[str, int, int], str] = {}


class Archive(msgspec.Struct, frozen=True):
    """A store that is one ``.zip``."""

    # Opens it again from any working directory: an absolute path, or the whole address, with what is secret in it.
    source: str
    name: str  # identifies it, without secrets
    shown: str  # the path as it was given, or the address without secrets
    folder: str  # where it is unpacked

    def __repr__(self) -> str:
        return f"Archive({self.shown!r})"


def is_archive(store: object) -> bool:
    """Tell whether a store is named by an address or is a ``.zip``."""
    if not isinstance(store, str | os.PathLike):
        return False
    return is_url(store) or (os.fspath(store).lower().endswith(".zip") and not Path(store).expanduser().is_dir())


def open_archive(store: str | os.PathLike[str]) -> Archive | None:
    """Download a store that has an address, unpack a ``.zip``, and return it; None for a folder.

    It is unpacked once a process, as long as the zip stays the same. Raise `StoreError` where it cannot be downloaded,
    or is not the zip of a store.
    """
    if not is_archive(store):
        return None
    if is_url(store):
        url = whole_url(store)
        shown = shown_url(url)
        return Archive(url, shown, shown, _unpacked_folder(fetch(url), shown))
    path = Path(store).expanduser()
    whole = os.path.abspath(path)
    return Archive(whole, whole, str(path), _unpacked_folder(whole, str(path)))


def _unpacked_folder(path: str, shown: str) -> str:
    remedy = "Pass the .zip of a store, or a folder"
    try:
        status = os.stat(path)
    except OSError as error:
        raise StoreError(f"{shown} cannot be read: {error.strerror or error}. {remedy}") from None
    if not stat.S_ISREG(status.st_mode):
        # Before it is opened: a pipe keeps its reader waiting, and a device may have no end.
        raise StoreError(f"{shown} is not a regular file. {remedy}")
    version = path, status.st_mtime_ns, status.st_size
    with _lock:
        folder = _folders.get(version)
        if folder is None or not os.path.isdir(folder):
            folder = private_folder()
            try:
                unpack(path, folder, shown)
            except BaseException:
                remove_folder(folder)
                raise
            _folders[version] = folder
        return folder


def unpack(path: str, folder: str, shown: str) -> None:
    """Unpack the files of a store from a ``.zip`` into a folder; raise `StoreError`, which calls the zip `shown`."""
    import zipfile
    import zlib

    try:
        size = os.path.getsize(path)
        _require_small_table(path, size)
        with zipfile.ZipFile(path) as archive:
            left = min(_UNPACKED_BYTES, max(_SMALL, size * _RATIO))
            for name, member in _members(archive.infolist()):
                with archive.open(member) as source, open(os.path.join(folder, name), "xb") as target:
                    while piece := source.read(_PIECE):
                        left -= len(piece)
                        if left < 0:
                            raise _Refused("unpacks to more than a store of its size would")
                        target.write(piece)
        return
    except _Refused as error:
        why = str(error)
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError) as error:
        why = f"not a zip, or a damaged one ({printable(error)})"
    except RuntimeError as error:
        why = f"cannot be unpacked ({printable(error)})"
    except OSError as error:
        raise StoreError(f"{shown} cannot be unpacked: {error.strerror or error}. Free the disk, or unzip it") from None
    remedy = "Make it with nbreplay export --format zip, or pass a folder of recordings"
    raise StoreError(f"{shown} is not a usable zip of a store: {why}. {remedy}") from None


class _Refused(Exception):
    """Why a zip is not unpacked."""


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


def _members(infos: list[zipfile.ZipInfo]) -> list[tuple[str, zipfile.ZipInfo]]:
    """Return the files of a store in a zip, which lie at its root or in one folder of it."""
    if len(infos) > MOST_MEMBERS:
        raise _Refused(f"more than {MOST_MEMBERS:,} files")
    names: set[str] = set()
    folders: dict[str, list[tuple[str, zipfile.ZipInfo]]] = {}
    for member in infos:
        # As it is in the zip: `filename` has been made harmless in part, which another reader might not have done.
        whole = member.orig_filename
        parts = whole.removesuffix("/").split("/")
        if not whole.isprintable() or "\\" in whole or ":" in whole or {"", ".", ".."}.intersection(parts):
            raise _Refused(f"has a file named {printable(repr(whole))}, which no zip of a store has")
        if whole in names:
            raise _Refused(f"has {printable(whole)} twice")
        names.add(whole)
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFDIR if member.is_dir() else stat.S_IFREG):
            raise _Refused(f"{printable(whole)} in it is a link, or not a file")
        if member.is_dir() or not is_member(parts[-1]):
            continue
        if member.flag_bits & 1:
            raise _Refused("encrypted")
        if member.compress_type not in (0, 8):  # stored, deflated
            raise _Refused(f"unknown compression of {printable(whole)}")
        folders.setdefault("/".join(parts[:-1]), []).append((parts[-1], member))
    if not any(name.endswith(".json") for files in folders.values() for name, _ in files):
        raise _Refused("has no recordings")
    if len(folders) > 1 or any("/" in folder for folder in folders):
        places = ", ".join(printable(folder or "the root") for folder in sorted(folders)[:3])
        raise _Refused(f"has recordings in {places}, and not at the root or in one folder of it")
    return next(iter(folders.values()))
