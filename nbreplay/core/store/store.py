"""Store: a folder of recordings, which finds one by its key and adds takes to it, whoever else does so at once.

A file is replaced as a whole or not at all, under a lock that other processes heed. A file that is not a recording is
never overwritten. A ``.zip`` of such a folder, or the address of one, is read-only. Beside its recordings, a store has
the names of variables whose values requests carried, and notes on calls that failed on this machine and were not kept.
"""

from __future__ import annotations

import contextlib
import heapq
import operator
import os
import re
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nbreplay.core.recording.blob import Blob, Spool
from nbreplay.core.recording.recording import Recording, file_name, parse, parse_head
from nbreplay.core.recording.take import Take
from nbreplay.core.secrets.credentials import is_secret_variable
from nbreplay.core.secrets.redact import Redactor
from nbreplay.core.store.archive import Archive, open_archive
from nbreplay.core.store.files import (
    BLOB,
    PRIVATE,
    RECORDING,
    VARIABLES,
    Version,
    Writer,
    failed_path,
    file_stat,
    is_regular,
    named_blobs,
    open_folder,
    read_file,
    read_head,
    write_error,
)
from nbreplay.errors import RecordingFormatError, StoreError, UnsafeRecordingError

_CACHE_BYTES = 64 << 20
_MOST_VARIABLES = 200  # each may be set, and a process starts with so many bytes of them only
_LONGEST_NOTE = 200  # bytes


def is_variable(name: str) -> bool:
    """Tell whether a store may name this environment variable: one that usually holds a secret."""
    return re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,99}", name) is not None and is_secret_variable(name)


class Store:
    """A folder of recordings.

    Parameters
    ----------
    path : path
        Need not exist until something is written. Also a ``.zip`` of such a
        folder, or an https address of one.
    durable : bool
        Have the disk confirm every write before going on (fsync).

    Raises
    ------
    StoreError
        If `path` is neither a folder nor the zip of one.

    Attributes
    ----------
    archive : Archive or None
        The zip that it is, read-only; `path` is the folder that it is unpacked
        in.
    identity : str
        The absolute path of the folder; two stores of one folder share it.
    name, shown : str
        The whole path or the address; and the path as it was given.

    Examples
    --------
    >>> import nbreplay as nr
    >>> store = nr.Store("recordings")
    >>> store.names("embedding")
    ['embedding-ad31fbfb83d79073.json']
    >>> recording = store.read("embedding-ad31fbfb83d79073.json")
    >>> recording.request["body"]["input"], len(recording.takes)
    ('Tokyo', 1)
    """

    def __init__(self, path: str | os.PathLike[str], *, durable: bool = False) -> None:
        self.archive: Archive | None
        self.archive = archive = open_archive(path)
        self.path: Path = Path(archive.folder if archive else path).expanduser()
        self.name: str = archive.name if archive else os.path.abspath(self.path)
        self.shown: str = archive.shown if archive else str(self.path)
        self.durable = durable
        if os.path.exists(self.path) and not os.path.isdir(self.path):
            why = f"{self.path} is a file, and a store is a folder"
            raise StoreError(f"{why}. Name another store, or move the file away")
        self.identity: str = os.path.join(os.path.abspath(self.path), "")
        self._cache: dict[str, tuple[Version, Recording, int]] = {}
        self._cached = 0
        self._lock = threading.Lock()
        self._writer: Writer | None = None
        self._rekeyed: dict[tuple[Any, ...], tuple[int, dict[str, list[str]]]] = {}
        self._variables: set[str] = set()  # those that are known to be named in the store

    def __repr__(self) -> str:
        return f"Store({self.shown!r})"

    def find(self, kind: str, key: str) -> Recording | None:
        """Return the recording with `key`, or None.

        Raise `RecordingFormatError` where its file cannot be read, or does not
        match its name and its key.
        """
        name = file_name(kind, key)
        recording = self.read(name, Recording.verify)
        if recording is not None and recording.key != key:
            own = file_name(recording.kind, recording.key)
            remedy = "Move it away" if own == name else f"Rename it to {own}"
            why = f"{os.path.join(self.name, name)} holds another request, with the key {recording.key}"
            raise RecordingFormatError(f"{why}. {remedy}")
        return recording

    def read(
        self, name: str, check: Callable[[Recording], None] | None = None, *, keep: bool = True
    ) -> Recording | None:
        """Return the recording in the file `name`, or None.

        Raise `RecordingFormatError` where it cannot be read.

        `check` is `Recording.verify` where it is to be replayed,
        `Recording.check` where all of it is to be looked at. `keep` tells whether
        it is kept in memory for the next time.
        """
        path = self.identity + name
        version, recording, _ = self._cache.get(path, (None, None, 0))
        try:
            if not (isinstance(version, tuple) and file_stat(os.lstat(path)) == version):
                data, current = read_file(path)
                if current != version:
                    try:
                        recording = parse(data, self.identity)
                    except (UnicodeDecodeError, RecordingFormatError) as error:
                        raise self._content_error(name, error) from None
                    if keep:
                        self._remember(path, current, recording, len(data))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            # The file that cannot be read may be one beside it.
            other = f"{error.filename}: " if error.filename not in (None, path) else ""
            why = f"{other}{error.strerror or error}. Make it readable, or name another store"
            raise StoreError(f"{os.path.join(self.name, name)} cannot be read: {why}") from error
        if check is not None and recording is not None:
            try:
                check(recording)
            except RecordingFormatError as error:
                raise self._content_error(name, error) from None
        return recording

    def _content_error(self, name: str, error: UnicodeDecodeError | RecordingFormatError) -> RecordingFormatError:
        """Return an error about the content of a file, which names the file."""
        kind, why = RecordingFormatError, f"not UTF-8 ({error})"
        if isinstance(error, RecordingFormatError):
            kind, why = type(error), str(error)
        if self.archive:
            why = why.replace(self.identity, os.path.join(self.name, ""))
        remedy = "Restore it from version control, or remove it and record anew"
        return kind(f"{os.path.join(self.name, name)} cannot be read: {why}. {remedy}")

    def names(self, kind: str | None = None) -> list[str]:
        """Return the names of the files that hold recordings, of one kind or of all.

        Raise `StoreError` where the folder cannot be read.
        """
        beginning = f"{kind}-" if kind else ""
        return [name for name in self._entries() if name.startswith(beginning) and RECORDING.fullmatch(name)]

    def has_recordings(self) -> bool:
        """Tell whether there is a file that holds a recording, as `names` does."""
        try:
            with os.scandir(self.identity) as entries:
                return any(RECORDING.fullmatch(entry.name) for entry in entries)  # mostly the first one
        except OSError:
            return bool(self.names())  # raises the error that it is

    def blob_names(self) -> list[str]:
        """Return the names of the files beside the recordings, as `names` does."""
        return list(filter(BLOB.fullmatch, self._entries()))

    def _entries(self) -> list[str]:
        try:
            return os.listdir(self.identity)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            why = f"{error.strerror or error}. Make it readable, or name another store"
            raise StoreError(f"{self.path} cannot be read: {why}") from error

    def recordings(self) -> Iterator[tuple[str, Recording | RecordingFormatError]]:
        """Yield name and content of every recording, by name.

        In place of one that cannot be read there is its error.
        """
        for name in sorted(self.names()):
            content: Recording | RecordingFormatError | None
            try:
                content = self.read(name, Recording.check)
            except RecordingFormatError as error:
                content = error
            if content is not None:
                yield name, content

    def newest(self, kind: str, most: int) -> list[tuple[str, dict[str, Any]]]:
        """Return name and request of the newest recordings of a kind, newest first; unreadable ones are left out."""
        requests = []
        for name, head in self.heads(kind, most):
            with contextlib.suppress(RecordingFormatError):
                requests.append((name, parse_head(head)[2]))
        return requests

    def heads(self, kind: str, most: int) -> Iterator[tuple[str, str]]:
        """Yield the names of the newest recordings of a kind, newest first, and their text up to the takes.

        Files that cannot be read are left out. Reading them all to their ends would take several times as long.
        """
        dated = []
        for name in self.names(kind):
            with contextlib.suppress(OSError):
                dated.append((os.lstat(self.identity + name).st_mtime_ns, name))
        for _, name in heapq.nlargest(most, dated):
            with contextlib.suppress(OSError, RecordingFormatError, UnicodeDecodeError):
                yield name, read_head(self.identity + name)

    def names_by_key(
        self, kind: str, rule: tuple[Any, ...], rekey: Callable[[Mapping[str, Any]], str]
    ) -> dict[str, list[str]]:
        """Return the files of the recordings of a kind by the keys that a new ``--ignore`` or ``--mask`` gives them.

        `rule` identifies it, so that an unchanged store is looked through once; `rekey` returns the key of a canonical
        request under it.
        """
        try:
            changed = os.stat(self.identity).st_mtime_ns
        except OSError:
            return {}
        last = self._rekeyed.get((kind, *rule))
        if last and last[0] == changed:
            return last[1]
        index: dict[str, list[str]] = {}
        for name, request in reversed(self.newest(kind, len(self.names(kind)))):
            index.setdefault(rekey(request), []).append(name)
        self._rekeyed[kind, *rule] = changed, index
        return index

    def prepare(self) -> None:
        """Make the folder; raise `StoreError` where it cannot be written."""
        self._open_writer()

    def spool(self, redactor: Redactor) -> Spool:
        """Return a file that takes down a large body, until `write` gives it its name; raise `OSError` if it cannot."""
        return Spool(self._open_writer().temporary("spool"), redactor)

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
            From the takes that the file holds to those that it is to hold.
        uploads : iterable of Blob
            Uploads that the request names by digest; they are written beside the recording.

        Raises
        ------
        RecordingFormatError
            Where the file that is there is not a recording; it is left as it is.
        StoreError
            Where it cannot be written.
        """
        name = file_name(kind, key)
        path = self.identity + name
        try:
            writer = self._open_writer()
            with writer.exclusive():
                recording = self.find(kind, key) or Recording(key, kind, request)
                takes = change(list(recording.takes))
                if not takes or (len(takes) == len(recording.takes) and all(map(operator.is_, takes, recording.takes))):
                    return
                for blob in (*uploads, *(take.body for take in takes if isinstance(take.body, Blob))):
                    self._write_blob(writer, blob)
                recording = recording.with_takes(takes)
                data = recording.data()
                self._remember(path, writer.replace(name, data), recording, len(data))
        except OSError as error:
            raise write_error(path, error) from error

    def _write_blob(self, writer: Writer, blob: Blob) -> None:
        path = self.identity + blob.name
        if blob.spool is not None and blob.spool.path != path:
            # A file that is there already has the same bytes.
            writer.adopt(blob.spool.path, blob.name)
            blob.spool.path = path
        elif blob.content is not None and not is_regular(path, blob.size):
            writer.replace(blob.name, blob.content)

    def note_failure(self, kind: str, key: str, text: str) -> None:
        """Note that a call failed and was not kept, for the explanation of a miss on this machine. Never raises."""
        with contextlib.suppress(OSError, StoreError, UnsafeRecordingError):
            self._open_writer()
            with open_folder(self.identity, PRIVATE) as private, private.write(_failure_name(kind, key)) as file:
                file.write(text.encode("utf-8", "replace"))

    def noted_failure(self, kind: str, key: str) -> str:
        """Return how a call failed that was not kept, or ``""``."""
        with (
            contextlib.suppress(OSError, UnsafeRecordingError),
            open_folder(self.identity, PRIVATE) as private,
            private.read(_failure_name(kind, key)) as file,
        ):
            return "".join(filter(str.isprintable, file.read(_LONGEST_NOTE).decode("utf-8", "replace")))
        return ""

    def forget_failure(self, kind: str, key: str) -> None:
        """Remove the note of a failure, since an answer has been kept."""
        if os.path.lexists(os.path.join(self.identity, PRIVATE, _failure_name(kind, key))):
            with contextlib.suppress(OSError, UnsafeRecordingError), open_folder(self.identity, PRIVATE) as private:
                private.remove(_failure_name(kind, key))

    def makers(self, name: str) -> list[str]:
        """Return the notebooks that made the takes of a recording, sorted; an empty list if it cannot be read."""
        with contextlib.suppress(StoreError, RecordingFormatError):
            recording = self.read(name)
            takes = recording.takes if recording is not None else ()
            return sorted({take.cell.notebook for take in takes if take.cell and take.cell.notebook})
        return []

    def size(self, name: str) -> int:
        """Return the bytes of a recording, with those of the files beside it that it names."""
        try:
            files = [name, *self._named_blobs(name)]
        except OSError:
            return 0
        return sum(os.path.getsize(path) for file in files if os.path.isfile(path := self.identity + file))

    def variables(self) -> tuple[str, ...]:
        """Return the names of the environment variables whose values recorded requests carried, sorted.

        Only names of variables that hold secrets count: the file may come from a stranger.
        """
        try:
            text = read_file(self.identity + VARIABLES)[0].decode("utf-8", "replace")
        except (OSError, UnsafeRecordingError):
            return ()
        return tuple(sorted(line for line in set(text.splitlines()) if is_variable(line))[:_MOST_VARIABLES])

    def add_variables(self, names: Collection[str]) -> None:
        """Name environment variables whose values recorded requests carried; raise `StoreError` if that fails."""
        names = set(filter(is_variable, names))
        if names <= self._variables:
            return
        try:
            writer = self._open_writer()
            with writer.exclusive():
                known = set(self.variables())
                if not names <= known:
                    writer.replace(VARIABLES, "".join(f"{name}\n" for name in sorted(names | known)).encode())
        except OSError as error:
            raise write_error(self.identity + VARIABLES, error) from error
        self._variables |= names

    def find_unused(self, used: Collection[str]) -> list[str]:
        """Return the names of the recordings that are not among `used`, sorted."""
        return sorted(set(self.names()).difference(used))

    def remove(self, names: Iterable[str]) -> list[str]:
        """Remove recordings, and bodies beside them that no other recording names; return the removed files, sorted.

        Raise `StoreError`, or `UnsafeRecordingError` where the store or a file in it is a link.
        """
        removed = []
        try:
            if self.path.is_symlink():
                why = f"{self.path} is a symbolic link, and nothing is removed through it"
                raise UnsafeRecordingError(f"{why}. Name the folder that it leads to: {os.path.realpath(self.path)}")
            with Writer(self.identity, durable=False).exclusive():
                blobs = set[str]()
                for name in names:
                    with contextlib.suppress(FileNotFoundError):
                        blobs |= self._named_blobs(name)
                        os.unlink(self.identity + name)
                        removed.append(name)
                for name in self.names() if blobs else ():
                    blobs -= self._named_blobs(name)
                for name in blobs:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(self.identity + name)
                        removed.append(name)
        except OSError as error:
            why = f"{error.strerror or error}. Make it writable, and trim again"
            raise StoreError(f"{failed_path(self.path, error)} cannot be removed: {why}") from error
        return sorted(removed)

    def _named_blobs(self, name: str) -> set[str]:
        # Of the text: a recording that cannot be parsed names them, too.
        return named_blobs(read_file(self.identity + name)[0].decode("utf-8", "replace"))

    def _open_writer(self) -> Writer:
        if self.archive:
            raise StoreError(f"{self.shown} is read-only. Unzip it, and pass the folder")
        if self._writer is None:
            try:
                self._writer = Writer(self.identity, durable=self.durable)
            except OSError as error:
                why = f"{self.path} cannot be written ({error.strerror or error}), so nothing can be recorded there"
                raise StoreError(f"{why}. Make it writable, or name another store") from error
        return self._writer

    def _remember(self, path: str, version: Version, recording: Recording, size: int) -> None:
        cache = self._cache
        with self._lock:
            self._cached += size - (cache.pop(path)[2] if path in cache else 0)
            cache[path] = version, recording, size
            while self._cached > _CACHE_BYTES and len(cache) > 1:
                self._cached -= cache.pop(next(iter(cache)))[2]


def _failure_name(kind: str, key: str) -> str:
    return f"failed-{file_name(kind, key).removesuffix('.json')}.txt"


def format_makers(notebooks: Collection[str]) -> str:
    """Return which notebooks made a recording, as the end of a line; ``""`` if they are not known."""
    return f"  made by {', '.join(notebooks)}" if notebooks else ""
