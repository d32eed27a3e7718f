"""The journal of a store: the notebooks that were recorded into it, so that none is recorded again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from nbreplay import __version__
from nbreplay.core.config import default_store, is_url
from nbreplay.core.store.archive import is_archive
from nbreplay.core.store.files import PRIVATE, Writer, open_folder
from nbreplay.errors import OptionError
from nbreplay.testing.notebook_file import tags_of
from nbreplay.testing.result import Result

_NAME = "adopt.json"


class Entry(msgspec.Struct, frozen=True):
    """A recording run of a notebook."""

    digest: str  # of what decides how it runs
    recordings: dict[str, list[str]]  # the names of the recordings that it used, by store
    errors: tuple[str, ...] = ()  # why it failed
    files: tuple[str, ...] = ()  # what it, and those of its folder before it, had made or changed


def digest_of(notebook: Any) -> str:
    """Return the digest of what decides how a notebook runs: not its outputs, nor the tags that say how to compare."""
    cells = [
        (cell.cell_type, cell.source, sorted(tag for tag in tags_of(cell) if not tag.startswith("nbreplay-")))
        for cell in notebook.cells
    ]
    kernel = notebook.metadata.get("kernelspec", {}).get("name", "")
    return hashlib.sha256(json.dumps([__version__, kernel, cells]).encode()).hexdigest()


class Journal:
    """The notebooks that were recorded into the store of a folder.

    It is a file in the store's folder ``.nbreplay``, which git ignores and anybody may delete.
    """

    def __init__(self, folder: Path) -> None:
        folder = folder.resolve()
        store = default_store(folder)
        if is_url(store) or is_archive(store):
            raise OptionError(f"{store} cannot be written. Name a folder as the store of the notebooks in {folder}")
        self.store = Path(os.path.abspath(folder / store))

    def find(self, path: Path, notebook: Any) -> Entry | None:
        """Return the recording run of a notebook as it is now, if its recordings are still there."""
        entry = self._read().get(self._name(path))
        if entry is None or entry.digest != digest_of(notebook):
            return None
        names = (Path(store) / name for store, names in entry.recordings.items() for name in names)
        return entry if all(name.exists() for name in names) else None

    def add(self, path: Path, notebook: Any, result: Result, files: Iterable[str]) -> None:
        """Note a recording run of a notebook."""
        entry = Entry(digest_of(notebook), result.used, tuple(result.errors), tuple(files))
        entries = {**self._read(), self._name(path): entry}
        self.store.mkdir(parents=True, exist_ok=True)
        Writer(str(self.store), durable=False)  # makes the folder that git ignores
        with open_folder(str(self.store), PRIVATE, make=True) as folder, folder.write(_NAME) as file:
            file.write(msgspec.json.encode(dict(sorted(entries.items()))))

    def _name(self, path: Path) -> str:
        return Path(os.path.relpath(path.resolve(), self.store)).as_posix()

    def _read(self) -> Mapping[str, Entry]:
        try:
            return msgspec.json.decode((self.store / PRIVATE / _NAME).read_bytes(), type=dict[str, Entry])
        except (OSError, msgspec.DecodeError):
            return {}
