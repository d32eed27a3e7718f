"""Dataset: the four frames as Parquet files in folders, one per month, for other tools and other machines.

``x.parquet/interactions/month=2026-11/part-0.parquet``, the other frames alike; rows without a date are in
``month=none``.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

from nbreplay.analysis import parquet
from nbreplay.analysis.columns import FRAMES, Column
from nbreplay.analysis.frames import FrameSource, declared_columns, index_of
from nbreplay.analysis.pandas import pd
from nbreplay.analysis.rows import Row
from nbreplay.core.store.files import open_folder, temporary_name
from nbreplay.errors import OptionError, RecordingFormatError, StoreError

if TYPE_CHECKING:
    import pyarrow

MARK = "_nbreplay.json"
_VERSION = 1
_PART = "part-0.parquet"
_LATER = frozenset({"notebook", "tool", "prompt", "answer"})  # columns of text that earlier exports do not have


def is_dataset(source: object) -> TypeGuard[str | os.PathLike[str]]:
    """Return whether a source is a folder that `write_dataset` wrote."""
    return isinstance(source, str | os.PathLike) and (Path(source).expanduser() / MARK).is_file()


def write_dataset(library: FrameSource, folder: str | os.PathLike[str]) -> None:
    """Write the frames of a library into a folder, in place of an earlier export, as `Library.to_parquet` says."""
    path = Path(folder).expanduser()
    parquet.arrow()
    path = path.parent / path.name  # without a separator at its end, by which a link would be followed
    temporary, old = path.with_name(temporary_name(path.name)), path.with_name(temporary_name(path.name))
    try:
        _require_own(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()  # fails where the name exists: only our own folder is removed
        try:
            _write_frames(library, temporary)
            _replace(path, temporary, old)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror or error}. Name another folder") from error


def _write_frames(library: FrameSource, folder: Path) -> None:
    pa = parquet.arrow()
    interactions = library.frame("interactions")
    served = "outcome" in interactions
    months = interactions.recorded_at.dt.strftime("%Y-%m").fillna("none")
    for name in FRAMES:
        frame = library.frame(name)
        flat = frame.reset_index() if index_of(name) else frame
        own = months.reindex(flat.interaction.astype(object)).to_numpy(dtype=object)
        table = parquet.to_table(flat, declared_columns(name, served))
        table = table.append_column("row", pa.array(range(len(flat)), pa.int64()))
        for month in sorted(set(own)) or ["none"]:
            part = folder / name / f"month={month}"
            part.mkdir(parents=True)
            with open_folder(part) as target:
                parquet.write(table.filter(pa.array(own == month, pa.bool_())), target, _PART)
    mark = {"nbreplay-frames": _VERSION, "served": served, "interactions": len(months)}
    (folder / MARK).write_text(json.dumps(mark) + "\n", encoding="utf-8")


def _replace(path: Path, temporary: Path, old: Path) -> None:
    if path.exists():
        os.rename(path, old)
    try:
        os.rename(temporary, path)
    except OSError:
        if old.exists():
            os.rename(old, path)
        raise
    if old.exists():
        _remove(old)


def _require_own(path: Path) -> None:
    """Refuse to replace a folder that holds anything but an export."""
    if path.is_symlink():
        raise OptionError(f"{path} is a symbolic link. Name the folder that it leads to: {os.path.realpath(path)}")
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not is_dataset(path):
        raise OptionError(f"{path} exists and is not an export of frames. Name another folder, or move it")
    for entry in path.rglob("*"):
        if not _is_own(entry, path):
            raise OptionError(f"{path} holds {entry.relative_to(path)}, which no export wrote. Move it out of there")


def _is_own(entry: Path, path: Path) -> bool:
    """Return whether an entry below an export is part of it."""
    parts = entry.relative_to(path).parts
    if parts == (MARK,):
        return True
    if entry.is_symlink() or parts[0] not in FRAMES or not all(part.startswith("month=") for part in parts[1:2]):
        return False
    return parts[2:] == (_PART,) if len(parts) > 2 else entry.is_dir()


def _remove(path: Path) -> None:
    """Remove an export, file by file; anything that has been added meanwhile stays."""
    with contextlib.suppress(OSError):
        folders = [path]
        for entry in path.rglob("*"):
            if entry.is_dir() and not entry.is_symlink():
                folders.append(entry)
            elif _is_own(entry, path):
                entry.unlink()
        for folder in sorted(folders, reverse=True):
            folder.rmdir()


def part_files(folder: Path, name: str) -> list[Path]:
    """Return the files of a frame, one per month."""
    files = sorted((folder / name).glob(f"month=*/{_PART}"))
    if not files:
        raise RecordingFormatError(f"{folder / name} has no month=*/{_PART}. Export the recordings again")
    return files


class Dataset:
    """The frames in a folder that `write_dataset` wrote."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.path = Path(folder).expanduser()
        parquet.arrow()
        mark = self.path / MARK
        try:
            fields = json.loads(mark.read_text(encoding="utf-8"))
            version = fields["nbreplay-frames"]
            self.served = bool(fields["served"])  # whether they are a session's
            self._count = int(fields["interactions"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RecordingFormatError(f"{mark} cannot be read: {error}. Export the recordings again") from None
        if version != _VERSION:
            raise RecordingFormatError(
                f"{mark} has the unknown version {version!r}. Install a newer nbreplay, or export again"
            )

    def __len__(self) -> int:
        return self._count

    def frame(self, name: str) -> pd.DataFrame:
        """Return a frame."""
        declared = declared_columns(name, self.served)
        tables = [read_part(path, declared) for path in part_files(self.path, name)]
        table = parquet.arrow().concat_tables([table.cast(_plain(table.schema)) for table in tables]).sort_by("row")
        return parquet.from_table(table, declared, index=index_of(name))

    def row(self, interaction: str) -> Row:  # noqa: ARG002
        """Raise `OptionError`: an export holds no requests and answers."""
        raise OptionError(f"{self.path} holds frames without answers. Load the store that it was exported from")


def _plain(schema: pyarrow.Schema) -> pyarrow.Schema:
    """Return a schema with texts in place of dictionaries, whose values differ from part to part."""
    pa = parquet.arrow()
    kinds = [pa.large_string() if pa.types.is_dictionary(field.type) else field.type for field in schema]
    return pa.schema(list(zip(schema.names, kinds, strict=True)))


def read_part(path: Path, declared: Sequence[Column]) -> pyarrow.Table:
    """Return the table in a file, with the declared columns and the numbers of its rows."""
    try:
        with open_folder(path.parent) as folder:
            table = parquet.read(folder, path.name)
    except OSError as error:
        raise RecordingFormatError(f"{path}: {error}. Export the recordings again") from None
    names = [*(column.name for column in declared), "row"]
    lacking = sorted(set(names) - {*table.column_names})
    for name in sorted(_LATER.intersection(lacking)):
        table = table.append_column(name, parquet.arrow().nulls(len(table), parquet.arrow().large_string()))
    if "tool" in lacking and {"kind", "model"} <= {*table.column_names}:
        table = _with_tools(table)
    if lacking := sorted(set(lacking) - _LATER):
        raise RecordingFormatError(f"{path} has no column {', '.join(lacking)}. Export the recordings again")
    return table.select(names)


def _with_tools(table: pyarrow.Table) -> pyarrow.Table:
    """Return the table of an earlier export, which has the names of tools among those of models, with both apart."""
    pa = parquet.arrow()
    kinds, models = (table.column(name).cast(pa.large_string()) for name in ("kind", "model"))
    is_tool, none = pa.compute.equal(kinds, "tool"), pa.scalar(None, pa.large_string())
    for name, values in (
        ("model", pa.compute.if_else(is_tool, none, models)),
        ("tool", pa.compute.if_else(is_tool, models, none)),
    ):
        table = table.set_column(table.column_names.index(name), name, values)
    return table
