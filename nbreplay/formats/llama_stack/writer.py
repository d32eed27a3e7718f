"""Writing a store's recordings as llama-stack's recorder would have, into the folders where it looks for them.

Works from the fields of takes alone. What a store says is a stranger's word, too: nothing is written outside of the
folder that is named, and nothing over what is there.
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
from nbreplay.core.request.hosts import is_private
from nbreplay.core.store.folder import open_folder
from nbreplay.core.store.store import Store
from nbreplay.errors import NbreplayError, RecordingFormatError, StoreError
from nbreplay.formats.importer import Counts
from nbreplay.formats.llama_stack.answers import response_of
from nbreplay.formats.llama_stack.names import file_of, folder_of, is_file, is_folder
from nbreplay.formats.llama_stack.requests import request_of

__all__ = ["OWN", "differences", "export", "recorded"]

OWN = "llama_stack"
"""The field of a take that keeps what only llama-stack knows of it."""

_PARTS = ("file", "request", "response")
_BODIES = ("body", "payload", "kwargs")
_CHAT, _LEGACY = "openai.types.chat.", "openai.types.completion.Completion"
# The class of what nbreplay has recorded itself, by endpoint, plain and streamed.
_CLASSES: Mapping[str, tuple[str, str]] = {
    "chat/completions": (f"{_CHAT}chat_completion.ChatCompletion", f"{_CHAT}chat_completion_chunk.ChatCompletionChunk"),
    "completions": (_LEGACY, _LEGACY),
    "embeddings": ("openai.types.create_embedding_response.CreateEmbeddingResponse", ""),
    "models": ("openai.types.model.Model", ""),
}
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
    """Write the recordings of a store as llama-stack's, a file a take.

    Parameters
    ----------
    store : Store
    folder : path
        The one that has the folders of the tests in it: ``tests/integration`` in llama-stack's repository.

    Returns
    -------
    Counts
        What cannot be written as one of llama-stack's is left out, and said.

    Raises
    ------
    StoreError
        Where the folder cannot be written, or is a link.
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
            except NbreplayError as error:
                if isinstance(error, StoreError):
                    raise
                left_out.append(f"{name}, take {number}: {error}")
            except (TypeError, ValueError, KeyError, AttributeError, IndexError, RecursionError) as error:
                why = f"what it keeps of llama-stack's is not as it should be ({type(error).__name__}: {error})"
                left_out.append(f"{name}, take {number}: {why}. Import it anew")
            else:
                written += new
                known += not new
    return Counts(written, known, recordings, tuple(left_out))


def _write(root: Path, recording: Recording, take: Take) -> bool:
    """Write one take, and return whether it was not there yet."""
    data = recorded(recording.kind, recording.request, take)
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
            with contextlib.suppress(FileNotFoundError), place.read(name) as known:
                if json.loads(known.read()) == data:
                    return False
                raise RecordingFormatError(
                    f"{path} holds another answer, and llama-stack keeps one a request and test: move it away"
                )
            with place.write(name) as made:
                made.write(text.encode("utf-8"))
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror or error}. Name another folder") from error
    return True


def recorded(kind: str, fields: Mapping[str, Any], take: Take) -> dict[str, Any]:
    """Return a take as llama-stack writes it.

    Raises
    ------
    RecordingFormatError
        Where it cannot be written as one of llama-stack's.
    """
    own = take.extra.get(OWN)
    origin: Mapping[str, Any] = own if isinstance(own, dict) else _native(kind, fields, take)
    shape = str(origin["shape"])
    request = request_of("method" if shape == "google" else shape, fields, take, origin)
    made = {
        "file": {"test_id": take.extra.get("scope"), "id_normalization_mapping": {}},
        "request": request,
        "response": response_of(shape, take, origin),
    }
    for part in _PARTS:
        made[part].update(origin.get("set", {}).get(part, {}))
        for name in origin.get("unset", {}).get(part, ()):
            made[part].pop(name, None)
    top = made.pop("file")
    mapping = {name: top.pop(name) for name in ("id_normalization_mapping",) if name in top}
    return {**top, **made, **mapping}


def differences(source: Mapping[str, Any], derived: Mapping[str, Any], *, bodies: bool) -> dict[str, Any]:
    """Return what has to be set and unset in `derived`, so that it is `source`.

    Parameters
    ----------
    source, derived : mapping
    bodies : bool
        Whether a body may be kept, too; not where secrets were taken out of it.
    """
    put: dict[str, Any] = {}
    gone: dict[str, Any] = {}
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
            put[part] = changed
        if missing:
            gone[part] = missing
    return {name: value for name, value in (("set", put), ("unset", gone)) if value}


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _native(kind: str, fields: Mapping[str, Any], take: Take) -> dict[str, Any]:
    """Return what llama-stack would tell of a take that nbreplay has recorded itself."""
    if not take.complete or take.status is None:
        raise RecordingFormatError("it was cut short, or failed before there was an answer: llama-stack keeps no such")
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
