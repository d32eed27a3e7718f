"""The table of foreign formats, and reading, importing and exporting by it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from nbreplay.core.recording.recording import Recording
from nbreplay.core.store.store import Store
from nbreplay.errors import OptionError, RecordingFormatError, StoreError
from nbreplay.formats import vcr, zip_export
from nbreplay.formats.importer import (
    Contents,
    Counts,
    ImportCounts,
    find_files,
    merge_contents,
    read_contents,
    write_contents,
)
from nbreplay.formats.llama_stack import reader, writer

__all__ = ["ENDINGS", "FORMATS", "Format", "export_store", "import_files", "load", "read_files"]


class Format(NamedTuple):
    """A foreign format. One without `endings` is only written."""

    endings: tuple[str, ...] = ()
    detect: Callable[[Path], bool] = lambda _: False
    read: Callable[[Path, Path], Contents] = lambda *_: Contents()  # gets the file, and the path that the user named
    write: Callable[[Store, Path], Counts] | None = None


FORMATS = {
    "llama-stack": Format((".json",), reader.is_recording, reader.read_recording, writer.export),
    "vcr": Format((".yaml", ".yml", ".json", ".toml"), lambda _: True, vcr.read_cassette),
    "zip": Format(write=zip_export.export),
}
"""The formats by name. The first that detects a file reads it."""

ENDINGS = tuple(dict.fromkeys(ending for format_ in FORMATS.values() for ending in format_.endings))
"""The endings of all files that can be imported."""


def load(source: str | os.PathLike[str], name: str | None = None) -> Iterator[Recording | RecordingFormatError]:
    """Read foreign recordings, put together by request.

    Parameters
    ----------
    source : path
        A file, or a folder with files in it or in its folders.
    name : str, optional
        A format that can be imported; detected for each file, if not given.

    Yields
    ------
    RecordingFormatError
        For each file that is not imported in full; it names the file and the remedy.
    Recording
        One per request, with a take for each answer; ``take.extra["scope"]`` is the test or the cassette it is from.

    Raises
    ------
    OptionError
        For an unknown format.
    StoreError
        Where the source does not exist, or is a folder without such files.
    """
    yield from merge_contents(read_files(source, name))


def read_files(source: str | os.PathLike[str], name: str | None = None) -> Iterator[tuple[Path, Contents]]:
    """Yield each foreign file with its contents; see `load`."""
    if name is not None and not (name in FORMATS and FORMATS[name].endings):
        known = ", ".join(name for name, format_ in FORMATS.items() if format_.endings)
        raise OptionError(f"unknown format {name!r}. Formats that can be imported: {known}")
    root = Path(source).expanduser()
    if root.is_symlink():
        root = root.resolve()  # somebody has named it; no link below it is followed
    endings = ENDINGS if name is None else FORMATS[name].endings
    files = find_files(root, endings)
    if not files:
        raise StoreError(f"{root} has no file that ends in {', '.join(endings)}. Name another folder, or one file")
    yield from read_contents(files, lambda path: FORMATS[name or _detect(path)].read(path, root))


def _detect(path: Path) -> str:
    return next(name for name, format_ in FORMATS.items() if format_.detect(path))


def import_files(source: str | os.PathLike[str], store: Store, name: str | None = None) -> ImportCounts:
    """Write foreign recordings into a store, beside its own; see `load`. A take that it has is not added again."""
    return write_contents(read_files(source, name), store)


def export_store(store: Store, path: str | os.PathLike[str], name: str) -> Counts:
    """Write the recordings of a store as another recorder's, or as a ``.zip``. What cannot be written is left out.

    Parameters
    ----------
    store : Store
    path : path
        For llama-stack, the folder that has the folders of the tests in it: ``tests/integration`` in its repository.
        For zip, the file.
    name : str
        A format that can be exported.

    Raises
    ------
    OptionError
        For an unknown format.
    StoreError
        Where the path cannot be written.
    """
    write = FORMATS[name].write if name in FORMATS else None
    if write is None:
        known = ", ".join(name for name, format_ in FORMATS.items() if format_.write)
        raise OptionError(f"unknown format {name!r}. Formats that can be exported: {known}")
    return write(store, Path(path).expanduser())
