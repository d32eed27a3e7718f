"""The table of foreign formats, and reading, importing and exporting by it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from nbreplay.core.recording.recording import Recording
from nbreplay.core.recording.take import Take
from nbreplay.core.request.request import Request
from nbreplay.core.store.store import Store
from nbreplay.errors import NbreplayError, OptionError, RecordingFormatError, StoreError
from nbreplay.formats import vcr, zip_export
from nbreplay.formats.cassette_websockets import split_address
from nbreplay.formats.importer import Contents, Counts, ImportCounts, import_error
from nbreplay.formats.llama_stack import recordings as llama_stack

__all__ = ["ENDINGS", "FORMATS", "Format", "export_store", "find_files", "import_files", "read_files"]

_IN_FAULTY, _UNWRITABLE = "in a file with an error", "for a recording that cannot be written"


class Format(NamedTuple):
    """A foreign format. One without `endings` is only written."""

    endings: tuple[str, ...] = ()
    detect: Callable[[Path], bool] = lambda _: False
    # Gets the file, the path that the user named, and the address of websockets, ``""`` where the user names none.
    read: Callable[[Path, Path, str], Contents] = lambda *_: Contents()
    write: Callable[[Store, Path], Counts] | None = None


FORMATS = {
    "llama-stack": Format((".json",), llama_stack.is_recording, llama_stack.read_recording, llama_stack.export),
    "vcr": Format((".yaml", ".yml", ".json", ".toml"), lambda _: True, vcr.read_cassette),
    "zip": Format(write=zip_export.export),
}
"""The formats by name. The first that detects a file reads it."""

ENDINGS = tuple(dict.fromkeys(ending for format_ in FORMATS.values() for ending in format_.endings))
"""The endings of all files that can be imported."""


def find_files(source: str | os.PathLike[str], endings: tuple[str, ...]) -> list[Path]:
    """Return the file that is named; of a folder, the files in it and in its folders, by name."""
    path = Path(source).expanduser()
    if path.is_dir():
        # Links and pipes too: the import names a file that it does not read.
        return sorted(file for file in path.rglob("*") if file.suffix in endings and not file.is_dir())
    if path.is_file():
        return [path]
    raise StoreError(f"{path} is neither a file nor a folder. Name the one that holds the recordings to import")


def read_files(
    source: str | os.PathLike[str], name: str | None = None, url: str = ""
) -> Iterator[tuple[Path, Contents]]:
    """Yield each foreign file with its contents, which hold an error where it cannot be read.

    Parameters
    ----------
    source : path
        A file, or a folder with files in it or in its folders.
    name : str, optional
        A format that can be imported; detected for each file, if not given.
    url : str, optional
        The address of the websockets in files that do not name it.

    Raises
    ------
    OptionError
        For an unknown format, and for an address that is not one of a websocket.
    StoreError
        Where the source does not exist, or is a folder without such files.
    """
    if name is not None and not (name in FORMATS and FORMATS[name].endings):
        known = ", ".join(name for name, format_ in FORMATS.items() if format_.endings)
        raise OptionError(f"unknown format {name!r}. Formats that can be imported: {known}")
    if url:
        split_address(url)
    root = Path(source).expanduser()
    if root.is_symlink():
        root = root.resolve()  # somebody has named it; no link below it is followed
    endings = ENDINGS if name is None else FORMATS[name].endings
    files = find_files(root, endings)
    if not files:
        raise StoreError(f"{root} has no file that ends in {', '.join(endings)}. Name another folder, or one file")
    for path in files:
        try:
            form = FORMATS[name] if name else next(form for form in FORMATS.values() if form.detect(path))
            contents = form.read(path, root, url)
        except RecordingFormatError as error:
            contents = Contents(error=error)
        except OSError as error:
            contents = Contents(error=RecordingFormatError(f"{path} cannot be read: {error.strerror or error}"))
        except (RecursionError, TypeError, ValueError, KeyError, AttributeError, IndexError, NbreplayError) as error:
            # A stranger's file may be wrong in any way; its siblings are read all the same.
            why = f"unexpected structure ({type(error).__name__}: {str(error)[:200]})"
            contents = Contents(error=import_error(path, why))
        number = len(contents.takes) + sum(contents.unsupported.values())
        if contents.error is None and number != contents.interactions:
            why = f"{number} of {contents.interactions} interactions were read, which is a bug in nbreplay"
            contents = Contents(contents.interactions, error=import_error(path, why))
        yield path, contents


def import_files(source: str | os.PathLike[str], store: Store, name: str | None = None, url: str = "") -> ImportCounts:
    """Write foreign recordings into a store, beside its own; see `read_files`. No take is added twice."""
    files = list(read_files(source, name, url))
    assumed: Counter[str] = Counter()
    left_out = [str(problem) for path, contents in files if (problem := contents.problem(path))]
    not_imported: Counter[str] = Counter()
    by_key: dict[str, tuple[Request, list[Take]]] = {}
    for _, contents in files:
        assumed.update(contents.assumed)
        not_imported.update(contents.unsupported if contents.error is None else {_IN_FAULTY: contents.interactions})
        for request, take in contents.takes:
            by_key.setdefault(request.key, (request, []))[1].append(take)
    written = known = recordings = 0
    for request, takes in by_key.values():
        recording = Recording(request.key, request.kind, request.fields).with_takes(takes)
        try:
            new, old = _write(store, recording)
        except RecordingFormatError as error:
            left_out.append(str(error))
            not_imported[_UNWRITABLE] += len(recording.takes)
        else:
            recordings, written, known = recordings + 1, written + new, known + old
    interactions = sum(contents.interactions for _, contents in files)
    if interactions != written + known + not_imported.total():
        raise StoreError(
            f"{store.shown} has {written + known} of {interactions} interactions, and {not_imported.total()} were "
            "left out: this is a bug in nbreplay. Please report it, and do not rely on this import"
        )
    unreadable = sum(contents.error is not None and not contents.interactions for _, contents in files)
    reasons = dict(+not_imported)  # only those with interactions
    return ImportCounts(
        len(files), unreadable, interactions, written, known, recordings, reasons, tuple(left_out), assumed
    )


def _write(store: Store, recording: Recording) -> tuple[int, int]:
    """Add the takes that the store does not have; return the numbers of new and of old ones."""
    new = old = 0

    def change(takes: list[Take]) -> list[Take]:
        nonlocal new, old
        # An answer that was recorded twice is there twice: it was asked for twice.
        stored = Counter(take.text().encode("utf-8") for take in takes)
        added = []
        for take, text in zip(recording.takes, recording.texts, strict=True):
            if stored[text]:
                stored[text] -= 1
            else:
                added.append(take)
        new, old = len(added), len(recording.takes) - len(added)
        return [*takes, *added]

    store.write(recording.kind, recording.key, recording.request, change)
    return new, old


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
