"""Where llama-stack's recorder keeps a recording: the folder of its test, and the hash of its request.

A recording is not trusted: only plain names come out of here.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

_FILE = re.compile(r"(?:[0-9a-f]{12}|[0-9a-f]{64}|models-[0-9a-f]{12,64}-[0-9a-f]{8})\.json")
_PART = re.compile(r"\w[\w.\-]{0,100}")
_DECIMAL = re.compile(r"(-?\d+\.\d{4,})")
_MODELS = ("/api/tags", "/v1/models", "/v1/openai/v1/models")
_BASE, _LEAF, _COMMON = "tests/integration/", "recordings", "common/recordings"


def is_file(name: object) -> bool:
    """Return whether the recorder gives such names, in either of its schemes or in that of lists of models."""
    return isinstance(name, str) and _FILE.fullmatch(name) is not None


def is_folder(name: object) -> bool:
    """Return whether `name` is a folder within another, of plain names."""
    return isinstance(name, str) and len(name) < 500 and all(_PART.fullmatch(part) for part in name.split("/"))


def folder_of(test_id: object) -> str:
    """Return the folder of a test's recordings, below the one that has all of the tests."""
    if isinstance(test_id, str) and test_id:
        folder = test_id.partition("::")[0].rpartition("/")[0].removeprefix(_BASE)
        name = f"{folder}/{_LEAF}" if folder else _LEAF
        if is_folder(name):
            return name
    return _COMMON


def file_of(data: Mapping[str, Any]) -> str:
    """Return the name of the file for a recording, as llama-stack computes it."""
    request, test_id = data["request"], data.get("test_id")
    if "tool_name" in request:
        return f"{_sha({name: request.get(name) for name in ('provider', 'tool_name', 'kwargs')})}.json"
    if "payload" in request:
        method, payload = str(request.get("method", "")).upper(), _round(request["payload"])
        return f"{_sha({'test_id': test_id, 'url': request.get('url'), 'method': method, 'payload': payload})}.json"
    if "body" not in request:
        return f"{_sha(request)}.json"
    url = urlsplit(str(request.get("url", "")))
    body = _round(request["body"])
    if "bedrock" in url.netloc and isinstance(body, dict):
        body.pop("stream_options", None)
    method = str(request.get("method", "")).upper()
    hashed: dict[str, Any] = {"method": method, "endpoint": url.path, "body": body}
    if url.path not in _MODELS:
        hashed["test_id"] = test_id
    name = _sha(hashed)
    models = _model_names(data) if request.get("endpoint") in _MODELS else None
    if models is None:
        return f"{name}.json"
    return f"models-{name}-{hashlib.sha256('|'.join(sorted(set(models))).encode()).hexdigest()[:8]}.json"


def _model_names(data: Mapping[str, Any]) -> list[str] | None:
    try:
        body, name = data["response"]["body"], "id"
        if isinstance(body, dict):
            body, name = body["__data__"]["models"], "model"
        return [str(item.get("__data__", item)[name]) for item in body]
    except (KeyError, TypeError, AttributeError):
        return None  # an exception, say


def _round(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _round(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_round(item) for item in value]
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, str):
        return _DECIMAL.sub(lambda match: f"{float(match.group(0)):.5f}", value)
    return value


def _sha(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
