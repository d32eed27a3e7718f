"""llama-stack's recordings: reading those of every kind, importing them into a store, and exporting one.

A recording of theirs becomes a take. What the take's own fields cannot tell (the test, the class, the url as it was
written) it keeps by name under ``llama_stack``; no copy of the source is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbreplay.core.recording.take import Take
from nbreplay.core.request.request import Request
from nbreplay.core.secrets.redact import Redactor
from nbreplay.errors import RecordingFormatError
from nbreplay.formats.foreign_files import load_json, read_text, refused
from nbreplay.formats.importer import Contents
from nbreplay.formats.llama_stack.answers import answer_of
from nbreplay.formats.llama_stack.names import file_of, folder_of, is_file, is_folder
from nbreplay.formats.llama_stack.requests import call_of, shape_of
from nbreplay.formats.llama_stack.writer import OWN, differences, export, recorded
from nbreplay.formats.synthetic_take import taken

__all__ = ["OWN", "export", "parsed"]


def parsed(path: Path, root: Path) -> Contents:
    """Return the one interaction of a file below `root`, or of `root` itself.

    Raises
    ------
    RecordingFormatError, UnsafeRecordingError
        Where it cannot be read; the message names it.
    """
    text = read_text(path)
    data = load_json(path, text)
    try:
        return Contents(1, [_converted(data, text, *_place(path, root))])
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
