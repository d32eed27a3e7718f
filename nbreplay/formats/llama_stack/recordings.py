"""llama-stack's recordings: reading those of every kind, and writing a store's as its recorder would have.

A recording of theirs becomes a take. The fields that a take does not have (the test, the class, the url as it was
written) it keeps by name under ``llama_stack``; no copy of the source is kept, and an export works from these alone.
Neither a recording nor a store is trusted: only plain names come out of them, nothing is written outside of the folder
that is named, and nothing over a file that exists.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nbreplay.core.recording.recording import Recording
from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.take import Take
from nbreplay.core.request.request import Request
from nbreplay.core.request.route import is_private
from nbreplay.core.secrets.redact import Redactor
from nbreplay.core.store.files import open_folder
from nbreplay.core.store.store import Store
from nbreplay.errors import NbreplayError, RecordingFormatError, StoreError
from nbreplay.formats.importer import Contents, Counts, import_error, load_json, read_text, record_answer
from nbreplay.formats.llama_stack.answers import answer_of, response_of
from nbreplay.formats.llama_stack.requests import call_of, request_of

OWN = "llama_stack"
"""The field of a take that keeps the fields of llama-stack which a take does not have."""

_PARTS = ("file", "request", "response")
_BODIES = ("body", "payload", "kwargs")
_CHAT, _LEGACY = "openai.types.chat.", "openai.types.completion.Completion"
_CLASSES: Mapping[str, tuple[str, str]] = {
    "chat/completions": (f"{_CHAT}chat_completion.ChatCompletion", f"{_CHAT}chat_completion_chunk.ChatCompletionChunk"),
    "completions": (_LEGACY, _LEGACY),
    "embeddings": ("openai.types.create_embedding_response.CreateEmbeddingResponse", ""),
    "models": ("openai.types.model.Model", ""),
}
"""The class of an answer that nbreplay has recorded itself, by endpoint: plain and streamed."""

_ERRORS: Mapping[int, str] = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    409: "ConflictError",
    422: "UnprocessableEntityError",
    429: "RateLimitError",
}

# A file has one of these names in either scheme of the recorder, or in that of lists of models.
_FILE = re.compile(r"(?:[0-9a-f]{12}|[0-9a-f]{64}|models-[0-9a-f]{12,64}-[0-9a-f]{8})\.json")
_FOLDER = re.compile(r"(?=.{1,499}\Z)\w[\w.\-]{0,100}(?:/\w[\w.\-]{0,100})*")
_DECIMAL = re.compile(r"-?\d+\.\d{4,}")
_MODELS = ("/api/tags", "/v1/models", "/v1/openai/v1/models")


# Reading


def is_recording(path: Path) -> bool:
    """Return whether a file may be one of llama-stack's; a VCR cassette may end in ``.json``, too."""
    if path.suffix != ".json":
        return False
    text = read_text(path)
    data = load_json(path, text) if text.lstrip()[:1] in ("{", "[") else None  # cassettes named so may be YAML
    return isinstance(data, dict) and "interactions" not in data


def read_recording(path: Path, root: Path, _: str = "") -> Contents:
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
    answer, answer_origin = answer_of(data["response"], origin["shape"])
    redactor = Redactor(call.tokens)
    origin = _redact({**origin, **answer_origin}, redactor)
    test_id = data.get("test_id")
    scope = {"scope": redactor.text(test_id)} if isinstance(test_id, str) else {}
    request, take = record_answer(call, answer, extra={**scope, OWN: origin})
    # The fields that an export would write otherwise are kept one by one.
    derived = _derive(request.kind, request.fields, take)
    hides_secret = take.redacted > 0 or redactor.finds(text)
    origin |= _differences(_redact(data, redactor) if hides_secret else data, derived, bodies=not hides_secret)
    if _is_plain(_FILE, file) and file != _file_of(_derive(request.kind, request.fields, take)):
        origin["file"] = file
    if _is_plain(_FOLDER, folder) and folder != _folder_of(test_id):
        origin["folder"] = folder
    return request, take


def _redact(fields: Mapping[str, Any], redactor: Redactor) -> dict[str, Any]:
    clean: dict[str, Any] = redactor.value(dict(fields))
    if isinstance(clean.get("url"), str):
        clean["url"] = redactor.url(clean["url"])
    return clean


def _differences(source: Mapping[str, Any], derived: Mapping[str, Any], *, bodies: bool) -> dict[str, Any]:
    """Return the fields to set and unset in `derived`, so that it equals `source`; bodies only with `bodies`."""
    changes: dict[str, dict[str, Any]] = {"set": {}, "unset": {}}
    for part in _PARTS:
        one, other = (
            {name: item for name, item in whole.items() if name not in _PARTS} if part == "file" else whole[part]
            for whole in (source, derived)
        )
        changes["set"][part] = {
            name: item
            for name, item in one.items()
            if (name not in other or _text(item) != _text(other[name])) and (bodies or name not in _BODIES)
        }
        changes["unset"][part] = [name for name in other if name not in one]
    kept = {kind: {part: fields for part, fields in parts.items() if fields} for kind, parts in changes.items()}
    return {kind: parts for kind, parts in kept.items() if parts}


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


# Writing


def export(store: Store, folder: str | os.PathLike[str]) -> Counts:
    """Write the recordings of a store as llama-stack's, one file per take; a take that cannot be written is left out.

    `folder` has the folders of the tests in it: ``tests/integration`` in llama-stack's repository.
    """
    root = Path(folder).expanduser()
    written = known = recordings = 0
    left_out: list[str] = []
    for name, recording in store.recordings():
        if isinstance(recording, RecordingFormatError):
            left_out.append(str(recording))
            continue
        recordings += 1
        for number, take in enumerate(recording.takes, 1):
            try:
                new = _write(root, recording, take)
            except StoreError:
                raise
            except NbreplayError as error:
                left_out.append(f"{name}, take {number}: {error}")
            except (TypeError, ValueError, KeyError, AttributeError, IndexError, RecursionError) as error:
                why = f"the field {OWN!r} has an unexpected structure ({type(error).__name__}: {error})"
                left_out.append(f"{name}, take {number}: {why}. Import it again")
            else:
                written += new
                known += not new
    return Counts(written, known, recordings, tuple(left_out))


def _write(root: Path, recording: Recording, take: Take) -> bool:
    data = _derive(recording.kind, recording.request, take)
    text = json.dumps(data, indent=2) + "\n"
    own = take.extra.get(OWN, {})
    below = own["folder"] if _is_plain(_FOLDER, own.get("folder")) else _folder_of(data.get("test_id"))
    name = own["file"] if _is_plain(_FILE, own.get("file")) else _file_of(data)
    path = root / below / name
    try:
        if root.is_symlink():
            raise StoreError(f"{root} is a symbolic link. Name the folder that it leads to: {root.resolve()}")
        root.mkdir(parents=True, exist_ok=True)
        with open_folder(root, *Path(below).parts, make=True) as place:
            with contextlib.suppress(FileNotFoundError), place.read(name) as existing:
                if json.loads(existing.read()) == data:
                    return False
                why = f"{path} holds another answer, and llama-stack keeps one per request and test"
                raise RecordingFormatError(f"{why}. Move it away")
            with place.write(name) as output:
                output.write(text.encode("utf-8"))
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror or error}. Name another folder") from error
    return True


def _derive(kind: str, fields: Mapping[str, Any], take: Take) -> dict[str, Any]:
    """Return a take as llama-stack writes it."""
    own = take.extra.get(OWN)
    origin: Mapping[str, Any] = own if isinstance(own, dict) else _native(kind, fields, take)
    shape = str(origin["shape"])
    parts: dict[str, Any] = {
        "file": {"test_id": take.extra.get("scope"), "id_normalization_mapping": {}},
        "request": request_of("method" if shape == "google" else shape, fields, take, origin),
        "response": response_of(shape, take, origin),
    }
    for part in _PARTS:
        parts[part].update(origin.get("set", {}).get(part, {}))
        for name in origin.get("unset", {}).get(part, ()):
            parts[part].pop(name, None)
    top = parts.pop("file")
    mapping = {name: top.pop(name) for name in ("id_normalization_mapping",) if name in top}
    return {**top, **parts, **mapping}


def _native(kind: str, fields: Mapping[str, Any], take: Take) -> dict[str, Any]:
    """Return the fields of llama-stack for a take that nbreplay has recorded itself."""
    if not take.complete or take.status is None:
        raise RecordingFormatError("cut short, or failed before there was an answer, which llama-stack does not keep")
    if kind == "tool":
        return {"shape": "tool"}
    base = f"{'http' if is_private(take.host) else 'https'}://{take.host}"
    endpoint, streamed = str(fields.get("endpoint", "")), isinstance(take.body, Events)
    classes = _CLASSES.get(endpoint)
    if classes is None:
        if fields.get("method") != "POST" or not isinstance(fields.get("body"), dict):
            raise RecordingFormatError(f"llama-stack does not record such calls ({kind}, {fields.get('method')})")
        return {"shape": "http", "url": base + take.url, **({"form": "lines"} if streamed else {})}
    path = take.url.partition("?")[0].rstrip("/").removesuffix(endpoint).rstrip("/")
    origin = {"shape": "method", "url": f"{base}{path}/v1/{endpoint}", "endpoint": f"/v1/{endpoint}"}
    if take.status >= 400:
        error = _ERRORS.get(take.status, "InternalServerError" if take.status >= 500 else "APIStatusError")
        exception = {"category": "provider_sdk", "provider": "openai", "type": error, "wrapped": "error"}
        return {**origin, "exception": exception}
    return {**origin, "type": classes[streamed], **({"form": "models"} if endpoint == "models" else {})}


# Where the recorder keeps a recording: the folder of its test, and the hash of its request.


def _is_plain(pattern: re.Pattern[str], name: object) -> bool:
    return isinstance(name, str) and pattern.fullmatch(name) is not None


def _folder_of(test_id: object) -> str:
    """Return the folder of a test's recordings, below the one that has all of the tests."""
    if isinstance(test_id, str) and test_id:
        folder = test_id.partition("::")[0].rpartition("/")[0].removeprefix("tests/integration/")
        name = f"{folder}/recordings" if folder else "recordings"
        if _is_plain(_FOLDER, name):
            return name
    return "common/recordings"


def _file_of(data: Mapping[str, Any]) -> str:
    """Return the name of the file for a recording, as llama-stack computes it."""
    request, test_id = data["request"], data.get("test_id")
    method, models = str(request.get("method", "")).upper(), None
    if "tool_name" in request:
        hashed = {name: request.get(name) for name in ("provider", "tool_name", "kwargs")}
    elif "payload" in request:
        payload = _round(request["payload"])
        hashed = {"test_id": test_id, "url": request.get("url"), "method": method, "payload": payload}
    elif "body" not in request:
        hashed = request
    else:
        url, body = urlsplit(str(request.get("url", ""))), _round(request["body"])
        if "bedrock" in url.netloc and isinstance(body, dict):
            body.pop("stream_options", None)
        hashed = {"method": method, "endpoint": url.path, "body": body}
        if url.path not in _MODELS:
            hashed["test_id"] = test_id
        if request.get("endpoint") in _MODELS:
            models = _model_names(data)
    name = _sha(_text(hashed))
    return f"{name}.json" if models is None else f"models-{name}-{_sha('|'.join(sorted(set(models))))[:8]}.json"


def _model_names(data: Mapping[str, Any]) -> list[str] | None:
    try:
        body, name = data["response"]["body"], "id"
        if isinstance(body, dict):
            body, name = body["__data__"]["models"], "model"
        return [str(item.get("__data__", item)[name]) for item in body]
    except (KeyError, TypeError, AttributeError):
        return None  # an exception, say


def _round(value: Any) -> Any:
    match value:
        case dict():
            return {name: _round(item) for name, item in value.items()}
        case list():
            return [_round(item) for item in value]
        case float():
            return round(value, 5)
        case str():
            return _DECIMAL.sub(lambda match: f"{float(match[0]):.5f}", value)
    return value


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
