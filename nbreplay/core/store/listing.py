"""Which recordings lie in a folder, by the names of their files."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import re
from typing import Any

from nbreplay.core.recording.recording import parse_head
from nbreplay.core.store.folder import open_regular
from nbreplay.errors import RecordingFormatError

__all__ = ["few", "is_name", "names", "newest"]

_NAME = re.compile(r"[a-z]+-[0-9a-f]{16,64}\.json")


def is_name(name: str) -> bool:
    """Tell whether a file of this name holds a recording."""
    return _NAME.fullmatch(name) is not None


def names(root: str, kind: str | None = None) -> list[str]:
    """Return the names of the files that hold recordings, of one kind or of all.

    Raises
    ------
    OSError
    """
    try:
        with os.scandir(root) as entries:
            return [
                entry.name
                for entry in entries
                if _NAME.fullmatch(entry.name) and (not kind or entry.name.startswith(kind + "-"))
            ]
    except (FileNotFoundError, NotADirectoryError):
        return []


def few(root: str, most: int) -> list[str]:
    """Return the names of the files that hold recordings, none where the folder holds more than `most` things."""
    with contextlib.suppress(OSError), os.scandir(root) as entries:
        found = [entry.name for entry in itertools.islice(entries, most + 1)]
        return [name for name in found if name.endswith(".json")] if len(found) <= most else []
    return []


def newest(root: str, kind: str, most: int) -> list[tuple[str, dict[str, Any]]]:
    """Return name and request of the newest recordings of a kind, newest first; what cannot be read is left out."""
    dated = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(root) as entries:
        for entry in entries:
            if entry.name.startswith(kind + "-") and _NAME.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    dated.append((entry.stat(follow_symlinks=False).st_mtime_ns, entry.name))
    found = []
    for _, name in heapq.nlargest(most, dated):
        with contextlib.suppress(OSError, RecordingFormatError, UnicodeDecodeError):
            with os.fdopen(open_regular(root + name), encoding="utf-8") as file:
                text = file.read(1 << 16)
                if '\n  "takes": [' not in text:
                    text += file.read()
            found.append((name, parse_head(text)[2]))
    return found
