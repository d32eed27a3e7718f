"""Writing a store as one ``.zip``, which is a store itself; the same recordings give the same bytes."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import zipfile
from pathlib import Path

from nbreplay.core.recording.blob import blob_name
from nbreplay.core.store.archive import unpack
from nbreplay.core.store.files import BLOB, is_member, open_folder, open_regular
from nbreplay.core.store.store import Store
from nbreplay.errors import RecordingFormatError, StoreError, UnsafeRecordingError
from nbreplay.formats.importer import Counts

_EARLIEST = (1980, 1, 1, 0, 0, 0)


def export(store: Store, path: str | os.PathLike[str]) -> Counts:
    """Write the readable recordings of a store and the files beside them into a ``.zip``, all at its root.

    Nothing is written over another file. Raise `StoreError` where there is nothing to write, or the zip cannot be
    written, or could not be read again.
    """
    target = Path(path).expanduser()
    if target.suffix.lower() != ".zip":
        raise StoreError(f"{target} does not end in .zip. Name a file that does")
    numbers: dict[str, int] = {}  # of takes, by the name of their recording
    left_out: list[str] = []
    for name, recording in store.recordings():
        if isinstance(recording, RecordingFormatError):
            left_out.append(str(recording))
        else:
            numbers[name] = len(recording.takes)
    if not numbers:
        why = left_out[0] if left_out else "Name another store"
        raise StoreError(f"{store.shown} has no recordings that can be written. {why}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="nbreplay-") as private, open_folder(target.parent) as folder:
            whole = Path(private, "whole.zip")
            left_out += _write(whole, store, list(numbers))
            unpack(str(whole), os.path.join(private, "again"), str(target))  # what is not read again is not given out
            if exists := os.path.lexists(target):
                if target.is_symlink() or not target.is_file() or _hash(target).digest() != _hash(whole).digest():
                    raise StoreError(f"{target} exists already with other content. Move it away, or name another file")
            else:
                with open(whole, "rb") as source, folder.write(target.name) as file:
                    shutil.copyfileobj(source, file)
    except OSError as error:
        raise StoreError(f"{target} cannot be written: {error.strerror or error}. Name another file") from error
    takes = sum(numbers.values())
    return Counts(0 if exists else takes, takes if exists else 0, len(numbers), tuple(left_out))


def _write(path: Path, store: Store, names: list[str]) -> list[str]:
    """Write the files, and return why some that lie beside recordings are left out."""
    left_out = []
    beside = [name for name in os.listdir(store.path) if is_member(name) and not name.endswith(".json")]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name in sorted([*names, *beside]):
            source = store.path / name
            try:
                if BLOB.fullmatch(name) and blob_name(_hash(source)) != name:
                    shown = os.path.join(store.name, name)
                    left_out.append(f"{shown} is corrupt: its content does not match the hash in its name. Restore it")
                    continue
            except UnsafeRecordingError as error:
                left_out.append(str(error))
                continue
            member = zipfile.ZipInfo(name, _EARLIEST)
            member.compress_type, member.create_system = zipfile.ZIP_DEFLATED, 3
            member.external_attr = 0o100644 << 16
            with os.fdopen(open_regular(str(source)), "rb") as file, zipped.open(member, "w") as into:
                shutil.copyfileobj(file, into, 1 << 16)
    return left_out


def _hash(path: Path) -> hashlib._Hash:
    with os.fdopen(open_regular(str(path)), "rb") as file:
        return hashlib.file_digest(file, "sha256")
