"""Writes a store's recordings as llama-stack's recorder would have, into the folders where it looks for them.

Works from the fields of takes alone. A store is not trusted, either: nothing is written outside of the folder that is
named, and nothing over a file that exists.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbreplay.core.recording.recording import Recording
from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.take import Take
from nbreplay.core.request.route import is_private
from nbreplay.core.store.folder import open_folder
from nbreplay.core.store.store import Store
from nbreplay.errors import NbreplayError, RecordingFormatError, StoreError
from nbreplay.formats.importer import Counts
from nbreplay.formats.llama_stack.answers import response_of
from nbreplay.formats.llama_stack.names import file_of, folder_of, is_file, is_folder
from nbreplay.formats.llama_stack.requests import request_of

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


def export(store: Store, folder: str | os.PathLike[str]) -> Counts:
    """Write the recordings of a store as llama-stack's, one file per take; a take that cannot be written is left out.

    Parameters
    ----------
    store : Store
    folder : path
        The one that has the folders of the tests in it: ``tests/integration`` in llama-stack's repository."""
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
            except NbreplayError as error:
                if isinstance(error, StoreError):
                    raise
                left_out.append(f"{name}, take {number}: {error}")
            except (TypeError, ValueError, KeyError, AttributeError, IndexError, RecursionError) as error:
                why = f"the field {OWN!r} has an unexpected structure ({type(error).__name__}: {error})"
                left_out.append(f"{name}, take {number}: {why}. Import it again")
            else:
                written += new
                known += not new
    return Counts(written, known, recordings, tuple(left_out))


def _write(root: Path, recording: Recording, take: Take) -> bool:
    data = recording_of(recording.kind, recording.request, take)
    text = json.dumps(data, indent=2) + "\n"
    own = take.extra.get(OWN, {})
    file, folder = own.get("file"), own.get("folder")
    below = folder if is_folder(folder) else folder_of(data.get("test_id"))
    name = file if is_file(file) else file_of(data)
    path = root / below / name
    try:
        if root.is_symlink():
            raise StoreError(f"{root} is a symbolic link. Name the folder that it leads to: {root.resolve()}")
        root.mkdir(parents=True, exist_ok=True)
        with open_folder(root, *Path(below).parts, make=True) as place:
            with contextlib.suppress(FileNotFoundError), place.read(name) as existing:
                if json.loads(existing.read()) == data:
                    return False
                raise RecordingFormatError(
                    f"{path} holds another answer, and llama-stack keeps one per request and test. Move it away"
                )
            with place.write(name) as output:
                output.write(text.encode("utf-8"))
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror or error}. Name another folder") from error
    return True


def recording_of(kind: str, fields: Mapping[str, Any], take: Take) -> dict[str, Any]:
    """Return a take as llama-stack writes it."""
    own = take.extra.get(OWN)
    origin: Mapping[str, Any] = own if isinstance(own, dict) else _native(kind, fields, take)
    shape = str(origin["shape"])
    request = request_of("method" if shape == "google" else shape, fields, take, origin)
    parts: dict[str, Any] = {
        "file": {"test_id": take.extra.get("scope"), "id_normalization_mapping": {}},
        "request": request,
        "response": response_of(shape, take, origin),
    }
    for part in _PARTS:
        parts[part].update(origin.get("set", {}).get(part, {}))
        for name in origin.get("unset", {}).get(part, ()):
            parts[part].pop(name, None)
    top = parts.pop("file")
    mapping = {name: top.pop(name) for name in ("id_normalization_mapping",) if name in top}
    return {**top, **parts, **mapping}


def differences(source: Mapping[str, Any], derived: Mapping[str, Any], *, bodies: bool) -> dict[str, Any]:
    """Return the fields to set and unset in `derived`, so that it equals `source`; bodies only with `bodies`."""
    changes: dict[str, Any] = {"set": {}, "unset": {}}
    for part in _PARTS:
        one, other = (
            {name: item for name, item in whole.items() if name not in _PARTS} if part == "file" else whole[part]
            for whole in (source, derived)
        )
        changed = {
            name: item
            for name, item in one.items()
            if (name not in other or _text(item) != _text(other[name])) and (bodies or name not in _BODIES)
        }
        missing = [name for name in other if name not in one]
        if changed:
            changes["set"][part] = changed
        if missing:
            changes["unset"][part] = missing
    return {name: value for name, value in changes.items() if value}


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _native(kind: str, fields: Mapping[str, Any], take: Take) -> dict[str, Any]:
    """Return the fields of llama-stack for a take that nbreplay has recorded itself."""
    if not take.complete or take.status is None:
        raise RecordingFormatError("cut short, or failed before there was an answer, which llama-stack does not keep")
    if kind == "tool":
        return {"shape": "tool"}
    scheme = "http" if is_private(take.host) else "https"
    endpoint = str(fields.get("endpoint", ""))
    path = take.url.partition("?")[0].rstrip("/")
    streamed = isinstance(take.body, Events)
    classes = _CLASSES.get(endpoint)
    if classes is None:
        if fields.get("method") != "POST" or not isinstance(fields.get("body"), dict):
            raise RecordingFormatError(f"llama-stack does not record such calls ({kind}, {fields.get('method')})")
        form = {"form": "lines"} if streamed else {}
        return {"shape": "http", "url": f"{scheme}://{take.host}{take.url}", **form}
    origin: dict[str, Any] = {
        "shape": "method",
        "url": f"{scheme}://{take.host}{path.removesuffix(endpoint).rstrip('/')}/v1/{endpoint}",
        "endpoint": f"/v1/{endpoint}",
    }
    if take.status >= 400:
        error = {"category": "provider_sdk", "provider": "openai"}
        error["type"] = _ERRORS.get(take.status, "InternalServerError" if take.status >= 500 else "APIStatusError")
        return {**origin, "exception": {**error, "wrapped": "error"}}
    form = {"form": "models"} if endpoint == "models" else {}
    return {**origin, "type": classes[streamed], **form}
