"""llama-stack's recordings: where real ones are, and small ones made up."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest

from nbreplay.core.recording.recording import Recording
from nbreplay.core.recording.take import Take
from nbreplay.core.request.request import Request
from nbreplay.errors import RecordingFormatError
from nbreplay.formats import registry

SHARED = Path(__file__).parents[2].parent / "shared"
REAL = SHARED / "recordings-llama-stack"

COMPLETION = "openai.types.chat.chat_completion.ChatCompletion"
CHUNK = "openai.types.chat.chat_completion_chunk.ChatCompletionChunk"
TEST = "tests/integration/agents/test_agents.py::test_one[a]"


def real_files() -> list[Path]:
    """The real recordings; the test is skipped where there are none."""
    if not REAL.is_dir():
        pytest.skip(f"there are no recordings of llama-stack's at {REAL}")
    return [*sorted(REAL.rglob("*.json")), *SHARED.glob("seed-recording.json")]


def chat(text: str = "Hi", *, test: str | None = TEST, answer: str = "Hello", **more: Any) -> dict[str, Any]:
    """A recording of a chat."""
    body: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": text}]}
    data = {
        "id": "rec-1",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": answer}}],
    }
    return method(body, {"body": {"__type__": COMPLETION, "__data__": data}, "is_streaming": False}, test=test, **more)


def method(
    body: dict[str, Any],
    response: dict[str, Any],
    *,
    endpoint: str = "/v1/chat/completions",
    url: str = "https://api.openai.com/v1",
    test: str | None = TEST,
    **more: Any,
) -> dict[str, Any]:
    """A recording of a method of an SDK."""
    request = {"method": "POST", "url": url + endpoint, "headers": {}, "body": body, "endpoint": endpoint}
    request |= {"model": body.get("model", ""), **more}
    return {"test_id": test, "request": request, "response": response, "id_normalization_mapping": {}}


def written(folder: Path, *recordings: dict[str, Any] | str) -> Path:
    """Write recordings, or whatever text, into a folder; return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(recordings):
        text = data if isinstance(data, str) else json.dumps(data, indent=2)
        (folder / f"{number:012x}.json").write_text(text, encoding="utf-8")
    return folder


def load(source: Path) -> list[Recording | RecordingFormatError]:
    """An error for each file that is not imported in full, then the recordings that all of them make up."""
    files = list(registry.read_files(source))
    by_key: dict[str, tuple[Request, list[Take]]] = {}
    for _, contents in files:
        for request, take in contents.takes:
            by_key.setdefault(request.key, (request, []))[1].append(take)
    recordings = [Recording(one.key, one.kind, one.fields).with_takes(all_of) for one, all_of in by_key.values()]
    return [*filter(None, (contents.problem(path) for path, contents in files)), *recordings]


def loaded(source: Path) -> list[Recording]:
    """Recordings that were read, all of them without an error."""
    found = load(source)
    assert not [item for item in found if isinstance(item, RecordingFormatError)]
    return [item for item in found if isinstance(item, Recording)]


@functools.cache
def real() -> list[Recording]:
    """The real recordings, read once."""
    real_files()
    return loaded(REAL)


def takes(source: Path) -> list[Take]:
    return [take for recording in loaded(source) for take in recording.takes]
