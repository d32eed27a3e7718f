"""Which foreign formats there are, and which one a file is of."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from nbreplay.core.recording.recording import Recording
from nbreplay.core.store.store import Store
from nbreplay.errors import OptionError, RecordingFormatError, StoreError
from nbreplay.formats import cassettes, vcr, zip_export
from nbreplay.formats.foreign_files import files, load_json, read_text
from nbreplay.formats.importer import Contents, Counts, ImportCounts, gather, put, read_files
from nbreplay.formats.llama_stack import reader

__all__ = ["EXPORTS", "IMPORTS", "export", "import_", "load", "read"]

IMPORTS: Mapping[str, Callable[[Path, Path], Contents]] = {
    "llama-stack": reader.parsed,
    "vcr": vcr.parsed,
}
"""How a file of each format is read; it is given the file, and the folder or file that was named."""
EXPORTS: Mapping[str, Callable[[Store, Path], Counts]] = {"llama-stack": reader.export, "zip": zip_export.export}
"""How a store is written in each format."""


def load(source: str | os.PathLike[str], form: str | None = None) -> Iterator[Recording | RecordingFormatError]:
    """Read foreign recordings; what they make up together.

    Parameters
    ----------
    source : path
        A file, or a folder with files in it or in its folders.
    form : str, optional
        One of `IMPORTS`; each file tells itself, if not given.

    Yields
    ------
    RecordingFormatError
        For each file that is not imported in full; it names the file and the remedy.
    Recording
        One a request, with a take for each answer; ``take.extra["scope"]`` is the test or the cassette it is from.

    Raises
    ------
    OptionError
        Where there is no such format.
    StoreError
        Where there is no such file or folder, or the folder has no such files.
    """
    yield from gather(read(source, form))


def read(source: str | os.PathLike[str], form: str | None = None) -> Iterator[tuple[Path, Contents]]:
    """Yield each foreign file with its contents; see `load`."""
    if form is not None and form not in IMPORTS:
        raise OptionError(f"there is no format {form!r}; those that can be imported are {', '.join(IMPORTS)}")
    root = Path(source).expanduser()
    if root.is_symlink():
        root = root.resolve()  # somebody has named it; no link below it is followed
    endings = (".json",) if form == "llama-stack" else cassettes.ENDINGS
    found = files(root, endings)
    if not found:
        raise StoreError(f"{root} has no file that ends in {', '.join(endings)}. Name another folder, or one file")
    yield from read_files(found, lambda path: IMPORTS[form or _form_of(path)](path, root))


def import_(source: str | os.PathLike[str], store: Store, form: str | None = None) -> ImportCounts:
    """Write foreign recordings into a store, beside what is there; what is there already is not added.

    Parameters
    ----------
    source, form
        As for `load`.
    store : Store

    Returns
    -------
    ImportCounts

    Raises
    ------
    OptionError, StoreError
        As for `load`; and where the store cannot be written.
    """
    return put(read(source, form), store)


def export(store: Store, folder: str | os.PathLike[str], form: str) -> Counts:
    """Write the recordings of a store as another recorder's, or as a ``.zip``.

    Parameters
    ----------
    store : Store
    folder : path
        For llama-stack, the one that has the folders of the tests in it: ``tests/integration`` in its repository.
        For zip, the file.
    form : str
        One of `EXPORTS`.

    Returns
    -------
    Counts
        What cannot be written so is left out, and said.

    Raises
    ------
    OptionError
        Where there is no such format.
    StoreError
        Where the folder cannot be written.
    """
    if form not in EXPORTS:
        raise OptionError(f"there is no format {form!r} to write; there is {', '.join(EXPORTS)}")
    return EXPORTS[form](store, Path(folder).expanduser())


def _form_of(path: Path) -> str:
    if path.suffix != ".json":
        return "vcr"
    text = read_text(path)
    data = load_json(path, text) if text.lstrip()[:1] in ("{", "[") else None  # cassettes named so may be YAML
    return "llama-stack" if isinstance(data, dict) and "interactions" not in data else "vcr"
