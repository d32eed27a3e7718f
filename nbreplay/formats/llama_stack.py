"""llama-stack's recordings: reading those of every kind, importing them into a store, and exporting one.

A recording of theirs becomes a take. What the take's own fields cannot tell (the test, the class, the url as it was
written) it keeps by name under ``llama_stack``; no copy of the source is kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from nbreplay.core.recording import Recording
from nbreplay.core.redact import Redactor
from nbreplay.core.request import Request
from nbreplay.core.store import Store
from nbreplay.core.take import Take
from nbreplay.errors import RecordingFormatError
from nbreplay.formats.gathering import Counts, files, gather, loaded_json, put, read_text, refused
from nbreplay.formats.llama_stack_answers import answer_of
from nbreplay.formats.llama_stack_export import OWN, differences, export, recorded
from nbreplay.formats.llama_stack_names import file_of, folder_of, is_file, is_folder
from nbreplay.formats.llama_stack_requests import call_of, shape_of
from nbreplay.formats.taking import taken

__all__ = ["export", "import_", "load"]


def load(source: str | os.PathLike[str]) -> Iterator[Recording | RecordingFormatError]:
    """Read llama-stack's recordings.

    Parameters
    ----------
    source : path
        A file, or a folder with files in it or in its folders.

    Yields
    ------
    RecordingFormatError
        In place of each file that cannot be read; it names the file.
    Recording
        One a request, with a take for each answer; ``take.extra["scope"]`` is the test that recorded it.

    Raises
    ------
    StoreError
        Where there is no such file or folder.
    """
    root = Path(source).expanduser()
    yield from gather(files(root, (".json",)), partial(_parsed, root=root))


def import_(source: str | os.PathLike[str], store: Store) -> Counts:
    """Write llama-stack's recordings into a store, beside what is there; what is there already is not added.

    Parameters
    ----------
    source : path
        A file, or a folder with files in it or in its folders.
    store : Store

    Returns
    -------
    Counts

    Raises
    ------
    StoreError
        Where there is no such file or folder, or the store cannot be written.
    """
    return put(load(source), store)


def _parsed(path: Path, root: Path) -> list[tuple[Request, Take]]:
    text = read_text(path)
    data = loaded_json(path, text)
    try:
        return [_converted(data, text, *_place(path, root))]
    except RecordingFormatError as error:
        raise refused(path, str(error), type(error)) from None


def _place(path: Path, root: Path) -> tuple[str, str]:
    """Return the name of a file and of its folder below the one that was named."""
    folder = path.parent.relative_to(root).as_posix() if path != root else "."
    return path.name, folder


def _converted(data: Any, text: str, name: str, folder: str) -> tuple[Request, Take]:
    if isinstance(data, dict) and "nbreplay" in data:
        raise RecordingFormatError("it is a recording of nbreplay's own, which a store reads as it is")
    if not isinstance(data, dict) or not all(isinstance(data.get(part), dict) for part in ("request", "response")):
        raise RecordingFormatError("it has no 'request' and 'response', as llama-stack's recordings have")
    asked, answered = data["request"], data["response"]
    call, origin = call_of(asked)
    shape = "google" if "model" in origin else shape_of(asked)
    answer, more = answer_of(answered, shape)
    redactor = Redactor(call.tokens)
    origin = _without_secrets({"shape": shape, **origin, **more}, redactor)
    scope = data.get("test_id")
    told: dict[str, Any] = {"scope": redactor.text(scope)} if isinstance(scope, str) else {}
    request, take = taken(call, answer, extra={**told, OWN: origin})
    # What an export would write otherwise than it was is kept, field by field.
    derived = recorded(request.kind, request.fields, take)
    hidden = take.redacted > 0 or redactor.finds(text)
    origin |= differences(_without_secrets(data, redactor) if hidden else data, derived, bodies=not hidden)
    derived = recorded(request.kind, request.fields, take)
    if is_file(name) and name != file_of(derived):
        origin["file"] = name
    if is_folder(folder) and folder != folder_of(scope):
        origin["folder"] = folder
    return request, take


def _without_secrets(fields: Mapping[str, Any], redactor: Redactor) -> dict[str, Any]:
    made: dict[str, Any] = redactor.value(dict(fields))
    if isinstance(made.get("url"), str):
        made["url"] = redactor.url(made["url"])
    return made
