"""A folder of recordings: find one by its key, put a take into it, whoever else does so at once.

A file is replaced as a whole or not at all, under a lock that other processes heed. What is not a
recording is never written over. A ``.zip`` of such a folder, or an address of one, is read only.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nbreplay.core.recording.blob import Blob, Spool
from nbreplay.core.recording.recording import Recording, file_name, parse
from nbreplay.core.recording.take import Take
from nbreplay.core.secrets.redact import Redactor
from nbreplay.core.store import listing
from nbreplay.core.store.archive import open_archive
from nbreplay.core.store.files import State, Writer, content, dated, is_settled, write_error
from nbreplay.core.store.folder import is_regular
from nbreplay.core.store.lock import thread_lock
from nbreplay.errors import RecordingFormatError, StoreError

__all__ = ["Store"]

_CACHE_BYTES = 64 << 20
# What is read ahead: so many files of so many bytes at most, for about as long as two calls of an SDK take.
_FEW, _BRIEF, _SECONDS = 64, 1 << 16, 0.002


class Store:
    """A folder of recordings.

    Parameters
    ----------
    path : path
        Need not exist until something is written. Also a ``.zip`` of such a folder, or an https address of one.
    durable : bool
        Have the disk confirm every write before going on (fsync).

    Raises
    ------
    StoreError
        Where `path` is no folder, and no zip of one that can be had.

    Attributes
    ----------
    archive : Archive or None
        The zip that it is, read only; `path` is where that is unpacked.
    identity : str
        The absolute path of the folder; two stores of one folder share it.
    name, shown : str
        The whole path or the address; and the path as it was given.
    """

    def __init__(self, path: str | os.PathLike[str], *, durable: bool = False) -> None:
        self.archive = open_archive(path)
        self.path = Path(self.archive.folder if self.archive else path).expanduser()
        self.name = self.archive.name if self.archive else os.path.abspath(self.path)
        self.shown = self.archive.shown if self.archive else str(self.path)
        self.durable = durable
        if os.path.exists(self.path) and not os.path.isdir(self.path):
            why = f"{self.path} is a file, and a store is a folder"
            raise StoreError(f"{why}: name another store, or move the file away")
        self.identity = self._root = os.path.join(os.path.abspath(self.path), "")
        self._cache: dict[str, tuple[State, Recording, int]] = {}
        self._cached = 0
        self._begun = False
        self._lock = thread_lock(self._root)
        self._writer: Writer | None = None
        self._healed: dict[tuple[Any, ...], tuple[int, dict[str, list[str]]]] = {}

    def __repr__(self) -> str:
        return f"Store({self.shown!r})"

    def find(self, kind: str, key: str) -> Recording | None:
        """Return the recording with `key`, or None.

        Raises
        ------
        RecordingFormatError
            Where its file cannot be read, or is not what its name and its key say; the message names it.
        """
        if not self._begun:
            self._begun = True
            self._read_ahead()
        path = self._root + file_name(kind, key)
        recording = self._read(path)
        if recording is None:
            return None
        if not recording.verified:
            self._check(path, recording, Recording.verify)
        if recording.key != key:
            raise RecordingFormatError(self._misnamed(path, recording))
        return recording

    def spool(self, redactor: Redactor) -> Spool:
        """Return a file that takes down a large body, until `write` gives it its name.

        Raises
        ------
        OSError
        """
        return Spool(self._writing().temporary("spool"), redactor)

    def write(
        self,
        kind: str,
        key: str,
        request: Mapping[str, Any],
        change: Callable[[list[Take]], list[Take]],
        uploads: Iterable[Blob] = (),
    ) -> None:
        """Change the takes of a recording, in one step for every other reader and writer.

        Parameters
        ----------
        kind, key : str
        request : mapping
            Stored where the recording is new.
        change : callable
            Given the takes that the file holds now, returns those that it is to hold.
        uploads : iterable of Blob
            What the request names by digest, to lie beside the recording.

        Raises
        ------
        RecordingFormatError
            Where the file that stands there is no recording; it is left as it is.
        StoreError
            Where it cannot be written.
        """
        path = self._root + file_name(kind, key)
        try:
            writer = self._writing()
            with writer.exclusive():
                recording = self._read(path)
                if recording is not None:
                    self._check(path, recording, Recording.verify)
                    if recording.key != key:
                        raise RecordingFormatError(self._misnamed(path, recording))
                else:
                    recording = Recording(key, kind, request)
                takes = change(list(recording.takes))
                if not takes or (len(takes) == len(recording.takes) and all(map(_is, takes, recording.takes))):
                    return
                for blob in (*uploads, *(take.body for take in takes if isinstance(take.body, Blob))):
                    self._write_blob(writer, blob)
                recording = recording.with_takes(takes)
                data = recording.data()
                self._remember(path, writer.replace(file_name(kind, key), data), recording, len(data))
        except OSError as error:
            raise write_error(path, error) from error

    def prepare(self) -> None:
        """Make the folder, and see that it can be written.

        Raises
        ------
        StoreError
        """
        self._writing()

    def _writing(self) -> Writer:
        if self.archive:
            raise StoreError(f"{self.shown} is read-only: unzip it, and name the folder")
        if self._writer is None:
            try:
                self._writer = Writer(self._root, durable=self.durable)
            except OSError as error:
                why = f"{self.path} cannot be written ({error.strerror or error}), so nothing can be recorded there"
                raise StoreError(f"{why}: make it writable, or name another store") from error
        return self._writer

    def recordings(self) -> Iterator[tuple[str, Recording | RecordingFormatError]]:
        """Yield name and content of every recording, by name; an error in place of one that cannot be read."""
        for name in sorted(self.names()):
            try:
                recording = self.read(name, Recording.decode)
            except RecordingFormatError as error:
                yield name, error
            else:
                if recording is not None:
                    yield name, recording

    def names(self, kind: str | None = None) -> list[str]:
        """Return the names of the files that hold recordings, of one kind or of all."""
        try:
            return listing.names(self._root, kind)
        except OSError as error:
            why = f"{error.strerror or error}. Make it readable, or name another store"
            raise StoreError(f"{self.path} cannot be read: {why}") from error

    def newest(self, kind: str, most: int) -> list[tuple[str, dict[str, Any]]]:
        """Return name and request of the newest recordings of a kind, newest first; what cannot be read is left out."""
        return listing.newest(self._root, kind, most)

    def healed(
        self, kind: str, rule: tuple[Any, ...], rekey: Callable[[Mapping[str, Any]], str]
    ) -> dict[str, list[str]]:
        """Return, for the keys that a new ``--ignore`` or ``--mask`` gives the recordings of a kind, their files.

        Parameters
        ----------
        kind : str
        rule : tuple
            What identifies the rule, so that an unchanged store is looked through once.
        rekey : callable
            From a canonical request to its key under the rule.
        """
        try:
            state = os.stat(self._root).st_mtime_ns
        except OSError:
            return {}
        known = self._healed.get((kind, *rule))
        if known and known[0] == state:
            return known[1]
        names = self.names(kind)
        index: dict[str, list[str]] = {}
        for name, request in reversed(self.newest(kind, len(names))):
            index.setdefault(rekey(request), []).append(name)
        self._healed[kind, *rule] = state, index
        return index

    def read(self, name: str, check: Callable[[Recording], None] | None = None) -> Recording | None:
        """Return the recording in the file `name`, or None.

        Parameters
        ----------
        name : str
        check : callable, optional
            `Recording.verify` where it is to be replayed, `Recording.decode` where all of it is to be looked at.

        Raises
        ------
        RecordingFormatError
            Where the file cannot be read; the message names it.
        """
        path = self._root + name
        recording = self._read(path)
        if check is not None and recording is not None:
            self._check(path, recording, check)
        return recording

    def _check(self, path: str, recording: Recording, check: Callable[[Recording], None]) -> None:
        try:
            check(recording)
        except RecordingFormatError as error:
            raise self._refused(path, error) from None

    def _refused(self, path: str, error: RecordingFormatError) -> RecordingFormatError:
        remedy = "Restore it from version control, or remove it and record anew"
        why = str(error).replace(self._root, self._told(self._root)) if self.archive else error
        return type(error)(f"{self._told(path)} cannot be read: {why}. {remedy}")

    def _misnamed(self, path: str, recording: Recording) -> str:
        name = file_name(recording.kind, recording.key)
        remedy = f"Rename it to {name}" if not path.endswith(name) else "Move it away"
        return f"{self._told(path)} cannot be read: it holds another request, with the key {recording.key}. {remedy}"

    def _read(self, path: str) -> Recording | None:
        known = self._cache.get(path)
        try:
            if known is not None and type(known[0]) is tuple and dated(path) == known[0]:
                return known[1]
            data, state = content(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._unreadable(path, error) from error
        if known is not None and known[0] == state:
            return known[1]
        try:
            recording = parse(data, self._root)
        except RecordingFormatError as error:
            raise self._refused(path, error) from None
        except UnicodeDecodeError as error:
            why = f"it is no UTF-8 ({error}). Restore it, or remove it"
            raise RecordingFormatError(f"{self._told(path)} cannot be read: {why}") from None
        except OSError as error:
            raise self._unreadable(path, error) from error
        self._remember(path, state, recording, len(data))
        return recording

    def _read_ahead(self) -> None:
        """Read all of a small store: files are read sooner one after the other than each between two calls.

        Each is still compared with its file when it is asked for: by its date, if it has not just been written. What
        cannot be read is left to that.
        """
        until = time.perf_counter() + _SECONDS
        for name in listing.few(self._root, _FEW):
            path = self._root + name
            if path in self._cache or time.perf_counter() > until:
                continue
            try:
                before = dated(path)
                if not 0 < before[2] < _BRIEF:  # of no length is also what may keep its reader waiting, such as a pipe
                    continue
                data, state = content(path)
                state = before if is_settled(before) else state
                self._remember(path, state, parse(data, self._root), len(data))
            except (OSError, RecordingFormatError, UnicodeDecodeError):
                continue

    def _told(self, path: str) -> str:
        return os.path.join(self.name, path[len(self._root) :])

    def _unreadable(self, path: str, error: OSError) -> StoreError:
        # A file beside it may be what cannot be read.
        what = f"{error.filename}: " if error.filename not in (None, path) else ""
        why = f"{what}{error.strerror or error}. Make it readable, or name another store"
        return StoreError(f"{self._told(path)} cannot be read: {why}")

    def _remember(self, path: str, state: State, recording: Recording, size: int) -> None:
        cache = self._cache
        with self._lock:
            old = cache.pop(path, None)
            cache[path] = state, recording, size
            cached = self._cached + size - (old[2] if old else 0)
            while cached > _CACHE_BYTES and len(cache) > 1:
                cached -= cache.pop(next(iter(cache)))[2]
            self._cached = cached

    def _write_blob(self, writer: Writer, blob: Blob) -> None:
        path = self._root + blob.name
        if blob.spool is not None and blob.spool.path != path:
            # A file that is there already has the same bytes.
            writer.adopt(blob.spool.path, blob.name)
            blob.spool.path = path
        elif blob.content is not None and not is_regular(path, blob.size):
            writer.replace(blob.name, blob.content)


def _is(one: object, other: object) -> bool:
    return one is other
