"""Dataset: the four frames as Parquet files in folders, one a month, and back. For other tools, and other machines.

``x.parquet/interactions/month=2026-11/part-0.parquet``, the other frames alike; what has no date is in ``month=none``.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd  # type: ignore[import-untyped]

from nbreplay.analysis import parquet
from nbreplay.analysis.columns import FRAMES, SERVED, Column
from nbreplay.core.store.folder import open_folder, temporary_name
from nbreplay.errors import OptionError, RecordingFormatError, StoreError

if TYPE_CHECKING:
    from nbreplay.analysis.library import Library

__all__ = ["MARK", "Dataset", "is_dataset", "parts", "write"]

MARK = "_nbreplay.json"
_VERSION = 1
_PART = "part-0.parquet"


def is_dataset(source: Any) -> bool:
    """Tell whether a source is a folder that `write` wrote."""
    return isinstance(source, str | os.PathLike) and (Path(source).expanduser() / MARK).is_file()


def write(library: Library, folder: str | os.PathLike[str]) -> int:
    """Write the frames of a library into a folder; return how many files there are.

    Raises
    ------
    OptionError
        Where pyarrow is not installed, or the folder has something else in it.
    StoreError
        Where it cannot be written.
    """
    path, pa = Path(folder).expanduser(), parquet.arrow()
    path = path.parent / path.name  # without a separator at its end, by which a link would be followed
    temporary, old = path.with_name(temporary_name(path.name)), path.with_name(temporary_name(path.name))
    months = library.interactions.recorded_at.dt.strftime("%Y-%m").fillna("none")
    number = 0
    made = False
    try:
        _require_own(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()  # fails where anything of that name is there: what is in it is ours alone
        made = True
        for name, declared in FRAMES.items():
            frame = getattr(library, name)
            flat = frame.reset_index() if frame.index.name is not None else frame
            extra = [column for column in SERVED if column.name in flat.columns]
            own = months.reindex(flat.interaction.astype(object)).to_numpy(dtype=object)
            table = parquet.to_table(flat, [*declared, *extra]).append_column(
                "row", pa.array(range(len(flat)), pa.int64())
            )
            for month in sorted(set(own)) or ["none"]:
                place = temporary / name / f"month={month}"
                place.mkdir(parents=True)
                with open_folder(place) as part:
                    parquet.write(table.filter(pa.array(own == month, pa.bool_())), part, _PART)
                number += 1
        text = json.dumps(
            {"nbreplay-frames": _VERSION, "served": "outcome" in library.interactions, "interactions": len(months)}
        )
        (temporary / MARK).write_text(text + "\n", encoding="utf-8")
        if path.exists():
            os.rename(path, old)
        try:
            os.rename(temporary, path)
        except OSError:
            if old.exists():
                os.rename(old, path)
            raise
        made = False
        if old.exists():
            _remove(old)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror or error}. Name another folder") from error
    finally:
        if made:
            shutil.rmtree(temporary, ignore_errors=True)
    return number


def _require_own(path: Path) -> None:
    """Refuse to write in place of a folder that has anything in it which no export wrote.

    Raises
    ------
    OptionError
    """
    if path.is_symlink():
        raise OptionError(f"{path} is a symbolic link. Name the folder that it leads to: {os.path.realpath(path)}")
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not is_dataset(path):
        raise OptionError(f"{path} is there already and is not an export of frames. Name another folder, or move it")
    files, folders = _contents(path)
    own = [*map(Path, FRAMES), *(one.relative_to(path) for one in folders if _is_month(one.relative_to(path).parts))]
    other = next((one for one in files if not _is_own(one.relative_to(path).parts)), None)
    other = other or next((one for one in folders if one.relative_to(path) not in own or one.is_symlink()), None)
    if other is not None:
        raise OptionError(f"{path} has {other.relative_to(path)} in it, which no export wrote. Move it out of there")


def _contents(path: Path) -> tuple[list[Path], list[Path]]:
    """Return files and folders below a folder, the innermost first; links are not followed."""
    files, folders = list[Path](), list[Path]()
    for root, inner, names in os.walk(path, topdown=False):
        files += [Path(root, name) for name in names]
        folders += [Path(root, name) for name in inner]
    return files, folders


def _is_own(parts: tuple[str, ...]) -> bool:
    if len(parts) == 1:
        return parts[0] == MARK
    return len(parts) == 3 and _is_month(parts[:2]) and parts[2] == _PART


def _is_month(parts: tuple[str, ...]) -> bool:
    return len(parts) == 2 and parts[0] in FRAMES and parts[1].startswith("month=")


def _remove(path: Path) -> None:
    """Remove an export, file by file; where anything else has come into it, that stays."""
    files, folders = _contents(path)
    with contextlib.suppress(OSError):
        for file in files:
            if _is_own(file.relative_to(path).parts):
                file.unlink()
        for folder in [*folders, path]:
            folder.rmdir()


def parts(folder: str | os.PathLike[str], name: str) -> list[Path]:
    """Return the files of a frame."""
    found = sorted((Path(folder).expanduser() / name).glob(f"month=*/{_PART}"))
    if not found:
        raise RecordingFormatError(f"{Path(folder) / name} has no {_PART} of any month: export the recordings again")
    return found


class Dataset:
    """The frames that a folder holds.

    Attributes
    ----------
    served : bool
        Whether they are a session's.
    count : int
        How many interactions there are.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.path = Path(folder).expanduser()
        parquet.arrow()
        try:
            mark = json.loads((self.path / MARK).read_text(encoding="utf-8"))
            version, self.served, self.count = mark["nbreplay-frames"], bool(mark["served"]), int(mark["interactions"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RecordingFormatError(
                f"{self.path / MARK} cannot be read: {error}. Export the recordings again"
            ) from None
        if version != _VERSION:
            raise RecordingFormatError(
                f"{self.path} is of version {version!r}: install a newer nbreplay, or export again"
            )

    def frame(self, name: str) -> pd.DataFrame:
        """Return a frame."""
        declared: Sequence[Column] = FRAMES[name]
        if name == "interactions" and self.served:
            declared = (*declared, *SERVED)
        pa = parquet.arrow()
        tables = [table_of(path, declared) for path in parts(self.path, name)]
        table = pa.concat_tables([one.cast(plain(one.schema)) for one in tables]).sort_by("row")
        return parquet.from_table(table, declared, index="interaction" if name == "interactions" else None)


def plain(schema: Any) -> Any:
    """Return a schema with texts in place of dictionaries of them."""
    pa = parquet.arrow()
    kinds = [pa.large_string() if pa.types.is_dictionary(field.type) else field.type for field in schema]
    return pa.schema(list(zip(schema.names, kinds, strict=True)))


def table_of(path: Path, declared: Sequence[Column]) -> Any:
    """Return the table in a file, with the declared columns and the numbers of its rows.

    Raises
    ------
    RecordingFormatError
        Where it is no such file.
    """
    try:
        with open_folder(path.parent) as folder:
            table = parquet.read(folder, path.name)
    except OSError as error:
        raise RecordingFormatError(f"{path}: {error}. Export the recordings again") from None
    lacking = {"row", *(column.name for column in declared)} - {*table.column_names}
    if lacking:
        raise RecordingFormatError(f"{path} has no column {', '.join(sorted(lacking))}: export the recordings again")
    return table.select([*(column.name for column in declared), "row"])
