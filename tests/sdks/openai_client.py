"""What the tests of openai's clients share: how a client is made, and what it is asked."""

from __future__ import annotations

from typing import Any

import openai
from pydantic import BaseModel

from tests.clients import said
from tests.sdks.harness import Sdk

__all__ = ["HELLO", "MAJOR", "PARAMETERS", "City", "sdk"]

HELLO = said("hello")
MAJOR = int(openai.__version__.partition(".")[0])
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}


class City(BaseModel):
    """What is to be answered, where something has to be."""

    name: str
    population: int


def sdk() -> Sdk:
    """Return the SDK, without cells."""
    return Sdk("openai", "openai", {"sync": _client(openai.OpenAI), "async": _client(openai.AsyncOpenAI)})


def _client(kind: type) -> Any:
    return lambda stage: kind(base_url=f"{stage.url}/v1", api_key="a-key-of-the-tests", max_retries=0)
