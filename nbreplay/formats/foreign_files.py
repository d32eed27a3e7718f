"""Files of other recorders: finding them, and reading text and JSON within bounds. Knows no format of theirs."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from nbreplay.core.recording.json_text import is_deep
from nbreplay.core.store.folder import open_regular
from nbreplay.errors import RecordingFormatError, StoreError

__all__ = ["files", "load_json", "read_text", "refused"]

LARGEST = 256 << 20  # bytes; a larger file is refused before it is read


def files(source: str | os.PathLike[str], endings: tuple[str, ...]) -> list[Path]:
    """Return the files of a folder and of those in it by name, or the one that is named.

    Raises
    ------
    StoreError
        Where there is nothing of that name.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        # Links and pipes too: what is not read is said, and not left out in silence.
        return sorted(found for found in path.rglob("*") if found.suffix in endings and not found.is_dir())
    if path.is_file():
        return [path]
    raise StoreError(f"{path} is neither a file nor a folder: name the one that holds the recordings to import")


def refused(path: Path, why: str, kind: type[RecordingFormatError] = RecordingFormatError) -> RecordingFormatError:
    """Return the error for a file that cannot be imported."""
    return kind(f"{path} cannot be imported: {why}. Correct the file, or move it out of the folder")


def read_text(path: Path) -> str:
    """Return the text of a file.

    Raises
    ------
    RecordingFormatError
        Where it is too large, or not UTF-8.
    UnsafeRecordingError
        Where it is not a regular file.
    """
    try:
        with os.fdopen(open_regular(str(path)), encoding="utf-8-sig") as file:
            size = os.fstat(file.fileno()).st_size
            if size > LARGEST:
                raise refused(path, f"its {size >> 20} MB are more than the limit of {LARGEST >> 20} MB")
            return file.read()
    except UnicodeDecodeError as error:
        raise refused(path, f"it is not UTF-8 ({error})") from None


def load_json(path: Path, text: str) -> Any:
    """Return JSON data.

    Raises
    ------
    RecordingFormatError
        Where it is not JSON, nested too deeply, or has a name twice in one object.
    """
    try:
        value = json.loads(text, object_pairs_hook=_object)
    except RecursionError:
        raise refused(path, "it is nested too deeply") from None
    except ValueError as error:
        raise refused(path, f"it is not JSON ({error})") from None
    if is_deep(value, text.encode("utf-8", "surrogatepass")):
        raise refused(path, "it is nested too deeply")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        (name, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"it has {name!r} twice in one object")
    return made
