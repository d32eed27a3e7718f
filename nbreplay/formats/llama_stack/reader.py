"""llama-stack's recordings: reading those of every kind.

A recording of theirs becomes a take. The fields that a take does not have (the test, the class, the url as it was
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
from nbreplay.formats.importer import Contents, import_error, load_json, read_text, record_answer
from nbreplay.formats.llama_stack.answers import answer_of
from nbreplay.formats.llama_stack.names import file_of, folder_of, is_file, is_folder
from nbreplay.formats.llama_stack.requests import call_of, shape_of
from nbreplay.formats.llama_stack.writer import OWN, differences, recording_of


def is_recording(path: Path) -> bool:
    """Return whether a file may be one of llama-stack's; a VCR cassette may end in ``.json``, too."""
    if path.suffix != ".json":
        return False
    text = read_text(path)
    data = load_json(path, text) if text.lstrip()[:1] in ("{", "[") else None  # cassettes named so may be YAML
    return isinstance(data, dict) and "interactions" not in data


def read_recording(path: Path, root: Path) -> Contents:
    """Return the one interaction of a file below `root`, or of `root` itself."""
    text = read_text(path)
    data = load_json(path, text)
    folder = path.parent.relative_to(root).as_posix() if path != root else "."
    try:
        return Contents(1, [_convert(data, text, path.name, folder)])
    except RecordingFormatError as error:
        raise import_error(path, str(error), type(error)) from None


def _convert(data: Any, text: str, file: str, folder: str) -> tuple[Request, Take]:
    if isinstance(data, dict) and "nbreplay" in data:
        raise RecordingFormatError("a recording of nbreplay itself needs no import")
    if not isinstance(data, dict) or not all(isinstance(data.get(part), dict) for part in ("request", "response")):
        raise RecordingFormatError("'request' or 'response' is missing, so it is not a recording of llama-stack")
    call, origin = call_of(data["request"])
    shape = "google" if "model" in origin else shape_of(data["request"])
    answer, answer_origin = answer_of(data["response"], shape)
    redactor = Redactor(call.tokens)
    origin = _redact({"shape": shape, **origin, **answer_origin}, redactor)
    test_id = data.get("test_id")
    scope = {"scope": redactor.text(test_id)} if isinstance(test_id, str) else {}
    request, take = record_answer(call, answer, extra={**scope, OWN: origin})
    # The fields that an export would write otherwise are kept one by one.
    derived = recording_of(request.kind, request.fields, take)
    hides_secret = take.redacted > 0 or redactor.finds(text)
    origin |= differences(_redact(data, redactor) if hides_secret else data, derived, bodies=not hides_secret)
    derived = recording_of(request.kind, request.fields, take)
    if is_file(file) and file != file_of(derived):
        origin["file"] = file
    if is_folder(folder) and folder != folder_of(test_id):
        origin["folder"] = folder
    return request, take


def _redact(fields: Mapping[str, Any], redactor: Redactor) -> dict[str, Any]:
    clean: dict[str, Any] = redactor.value(dict(fields))
    if isinstance(clean.get("url"), str):
        clean["url"] = redactor.url(clean["url"])
    return clean
