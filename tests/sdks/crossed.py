"""Recordings made under one major version of openai, to be replayed under the other: ``python -m tests.sdks.crossed``.

That records them anew under the version that is installed, from the tests' own server.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
from pydantic import BaseModel

import nbreplay as nr
from tests.provider import spawn

__all__ = ["FOLDER", "MAJOR", "OPERATIONS", "client", "said"]

FOLDER = Path(__file__).parent / "crossed"
MAJOR = int(openai.__version__.partition(".")[0])
HELLO: Any = [{"role": "user", "content": "hello"}]
TOOLS: Any = [
    {
        "type": "function",
        "function": {"name": "f", "parameters": {"type": "object", "properties": {"x": {"type": "string"}}}},
    }
]


class City(BaseModel):
    name: str


def said(value: Any) -> Any:
    """Return what an answer said, as JSON; what another version adds of its own is left out."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True, warnings=False)
    return value.hex() if isinstance(value, bytes) else value


def _errors(sdk: openai.OpenAI) -> list[Any]:
    found = []
    for status in (400, 404, 429):
        try:
            sdk.chat.completions.create(model=f"test/status={status}", messages=HELLO)
        except openai.APIStatusError as error:
            found.append([type(error).__name__, error.status_code, error.body])
    return found


def _streamed(sdk: openai.OpenAI) -> list[Any]:
    with sdk.chat.completions.stream(model="test/words=4", messages=HELLO) as stream:
        texts = [event.delta for event in stream if event.type == "content.delta"]
        return [*texts, stream.get_final_completion().choices[0].message.content]


OPERATIONS: dict[str, Callable[[openai.OpenAI], Any]] = {
    "chat": lambda sdk: said(sdk.chat.completions.create(model="test", messages=HELLO)),
    "chat tools": lambda sdk: said(sdk.chat.completions.create(model="test", messages=HELLO, tools=TOOLS)),
    "chat stream": lambda sdk: [
        said(chunk) for chunk in sdk.chat.completions.create(model="test/words=6", messages=HELLO, stream=True)
    ],
    "chat.stream()": _streamed,
    "chat.parse()": lambda sdk: said(
        sdk.chat.completions.parse(model="test", messages=HELLO, response_format=City).choices[0].message.parsed
    ),
    "responses": lambda sdk: said(sdk.responses.create(model="test", input="hello")),
    "responses stream": lambda sdk: [
        said(event) for event in sdk.responses.create(model="test/words=4", input="hello", stream=True)
    ],
    "embeddings": lambda sdk: said(sdk.embeddings.create(model="test", input=["a", "b"])),
    "models": lambda sdk: [said(model) for model in sdk.models.list()],
    "images": lambda sdk: said(sdk.images.generate(model="test", prompt="a cat")),
    "speech": lambda sdk: said(sdk.audio.speech.create(model="test", voice="alloy", input="hello").content),
    "files": lambda sdk: said(sdk.files.create(file=("a.jsonl", b"{}"), purpose="batch")),
    "errors": _errors,
}
"""What is asked, by name; each returns what was said, as JSON."""


def client(url: str) -> openai.OpenAI:
    """Return a client that tries once."""
    return openai.OpenAI(base_url=url, api_key="a-key-of-the-tests", max_retries=0)


def main() -> None:
    """Record every operation under the installed version."""
    folder = FOLDER / f"by-openai-{MAJOR}"
    shutil.rmtree(folder, ignore_errors=True)
    with spawn() as server, client(server.url) as sdk, nr.session(folder, mode="record"):
        given = {name: operation(sdk) for name, operation in OPERATIONS.items()}
    shutil.rmtree(folder / ".nbreplay", ignore_errors=True)
    (folder / "said.txt").write_text(json.dumps(given, indent=1, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main()
