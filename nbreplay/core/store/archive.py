"""An archive: a store that is one ``.zip``, here or at an https address, unpacked where nobody else looks.

What is in it is a stranger's: only files that a store has are taken out of it, within bounds that are checked as they
are read, whatever its own table of contents says.
"""

from __future__ import annotations

import os
import stat
import struct
import threading
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING

from nbreplay.core.config import is_url, whole_url
from nbreplay.core.frozen import frozen
from nbreplay.core.store.files import is_member, private_folder, removed
from nbreplay.core.store.remote import fetch, printable, shown_url
from nbreplay.errors import StoreError

if TYPE_CHECKING:
    import zipfile

__all__ = ["MOST_MEMBERS", "Archive", "is_archive", "open_archive", "unpack", "unpacked"]

MOST_MEMBERS = 60_000
_UNPACKED_BYTES = 1 << 30
_RATIO, _SMALL = 200, 16 << 20  # of what is unpacked to the zip, where it is more than a few bytes
_PIECE = 1 << 16
_END, _END_LARGE = b"PK\x05\x06", b"PK\x06\x07"
_TABLE_BYTES = MOST_MEMBERS * 512

_lock = threading.RLock()
_folders: dict[tuple[str, int, int], str] = {}


@frozen
class Archive:
    """A store that is one ``.zip``.

    Attributes
    ----------
    source : str
        What opens it again from any working directory: an absolute path, or the whole address, with what is secret
        in it.
    name : str
        What tells it from others, without secrets.
    shown : str
        What people are told: the path as it was given, or the address.
    folder : str
        Where it is unpacked.
    """

    source: str = field(repr=False)
    name: str
    shown: str
    folder: str


def is_archive(store: object) -> bool:
    """Tell whether a store is named by an address or is a ``.zip``."""
    if not isinstance(store, str | os.PathLike):
        return False
    return is_url(store) or (os.fspath(store).lower().endswith(".zip") and not Path(store).expanduser().is_dir())


def open_archive(store: str | os.PathLike[str]) -> Archive | None:
    """Download a store that has an address, unpack a ``.zip``, and return it; None for a folder.

    Raises
    ------
    StoreError
        Where it cannot be downloaded, or is not the zip of a store.
    """
    if not is_archive(store):
        return None
    if is_url(store):
        url = whole_url(store)
        shown = shown_url(url)
        return Archive(url, shown, shown, _unpacked(fetch(url), shown))
    path = Path(store).expanduser()
    whole = os.path.abspath(path)
    return Archive(whole, whole, str(path), _unpacked(whole, str(path)))


def unpacked(path: str | os.PathLike[str]) -> str:
    """Return a folder of this process's own that a ``.zip`` of a store is unpacked into, once as long as it stays.

    Raises
    ------
    StoreError
        Where it is none, or asks for what a store never may; the message names it.
    """
    return _unpacked(os.path.abspath(path), str(path))


def _unpacked(path: str, shown: str) -> str:
    try:
        found = os.stat(path)
    except OSError as error:
        why = f"{shown} cannot be read: {error.strerror or error}. Name the .zip of a store, or a folder"
        raise StoreError(why) from None
    if not stat.S_ISREG(found.st_mode):
        # Before it is opened: a pipe keeps its reader waiting, and a device may have no end.
        raise StoreError(f"{shown} is not a regular file. Name the .zip of a store, or a folder")
    known = path, found.st_mtime_ns, found.st_size
    with _lock:
        folder = _folders.get(known)
        if folder is None or not os.path.isdir(folder):
            folder = private_folder()
            try:
                unpack(path, folder, shown)
            except BaseException:
                removed(folder)
                raise
            _folders[known] = folder
        return folder


def unpack(path: str, folder: str, shown: str) -> None:
    """Take the files of a store out of a ``.zip``.

    Parameters
    ----------
    path : str
    folder : str
        Where they go.
    shown : str
        What messages call the zip.

    Raises
    ------
    StoreError
    """
    import zipfile
    import zlib

    try:
        size = os.path.getsize(path)
        _bounded(path, size)
        with zipfile.ZipFile(path) as zipped:
            left = min(_UNPACKED_BYTES, max(_SMALL, size * _RATIO))
            for name, member in _members(zipped.infolist()):
                with zipped.open(member) as source, open(os.path.join(folder, name), "xb") as target:
                    while piece := source.read(_PIECE):
                        left -= len(piece)
                        if left < 0:
                            raise _Refused("it unpacks to more than a store of its size would")
                        target.write(piece)
    except _Refused as error:
        raise _unusable(shown, str(error)) from None
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError) as error:
        raise _unusable(shown, f"it is no zip, or a damaged one ({printable(error)})") from None
    except RuntimeError as error:
        raise _unusable(shown, f"it cannot be unpacked ({printable(error)})") from None
    except OSError as error:
        raise StoreError(f"{shown} cannot be unpacked: {error.strerror or error}. Free the disk, or unzip it") from None


class _Refused(Exception):
    """Why a zip is not unpacked."""


def _unusable(shown: str, why: str) -> StoreError:
    remedy = "Make it with nbreplay export --format zip, or name a folder of recordings"
    return StoreError(f"{shown} is no zip of a store that can be used: {why}. {remedy}")


def _bounded(path: str, size: int) -> None:
    """Refuse a table of contents that takes much memory to be read, before it is read."""
    with open(path, "rb") as file:
        file.seek(max(0, size - (1 << 16) - 64))
        tail = file.read()
    end = len(tail) - 22
    if not (tail[end:].startswith(_END) and tail.endswith(b"\0\0")):
        end = tail.rfind(_END)
    if end < 0 or len(tail) < end + 22:
        raise _Refused("it is no zip, or was cut short")
    if (
        tail[max(0, end - 20) : end].startswith(_END_LARGE)
        or struct.unpack_from("<L", tail, end + 12)[0] > _TABLE_BYTES
    ):
        raise _Refused(f"it has more than {MOST_MEMBERS:,} files")


def _members(found: list[zipfile.ZipInfo]) -> list[tuple[str, zipfile.ZipInfo]]:
    """Return the files of a store in a zip, which lie at its root or in one folder of it."""
    if len(found) > MOST_MEMBERS:
        raise _Refused(f"it has more than {MOST_MEMBERS:,} files")
    seen: set[str] = set()
    folders: dict[str, list[tuple[str, zipfile.ZipInfo]]] = {}
    for member in found:
        # As it stands there: `filename` has been made harmless in part, which another reader might not have done.
        whole = member.orig_filename
        parts = whole.removesuffix("/").split("/")
        if not whole.isprintable() or "\\" in whole or ":" in whole or {"", ".", ".."}.intersection(parts):
            raise _Refused(f"it has a file named {printable(repr(whole))}, which no zip of a store has")
        if whole in seen:
            raise _Refused(f"it has {printable(whole)} twice")
        seen.add(whole)
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFDIR if member.is_dir() else stat.S_IFREG):
            raise _Refused(f"{printable(whole)} in it is a link, or no file")
        if member.is_dir() or not is_member(parts[-1]):
            continue
        if member.flag_bits & 1:
            raise _Refused("it is encrypted")
        if member.compress_type not in (0, 8):  # stored, deflated
            raise _Refused(f"{printable(whole)} in it is compressed in a way that is not read")
        folders.setdefault("/".join(parts[:-1]), []).append((parts[-1], member))
    if not any(name.endswith(".json") for files in folders.values() for name, _ in files):
        raise _Refused("it has no recordings")
    if len(folders) > 1 or any("/" in folder for folder in folders):
        names = ", ".join(printable(folder or "its root") for folder in sorted(folders)[:3])
        raise _Refused(f"its recordings lie in {names}, and not at its root or in one folder of it")
    return next(iter(folders.values()))
