"""What the tests of agent frameworks share: an openai client for each flavour of theirs.

Under such a framework everything is asynchronous: what it calls sync runs an event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import openai

from tests.sdks.harness import Stage

__all__ = ["asynchronous", "client", "with_loop"]


def client(stage: Stage, **options: Any) -> openai.AsyncOpenAI:
    """Return a client of the tests' server."""
    given = {"base_url": f"{stage.url}/v1", "api_key": "a-key-of-the-tests", "max_retries": 0, **options}
    return openai.AsyncOpenAI(**given)


@contextmanager
def with_loop(stage: Stage) -> Iterator[openai.AsyncOpenAI]:
    """Have a client, and an event loop that what is called sync can take: it would leave one of its own open."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    made = client(stage)
    try:
        yield made
    finally:
        loop.run_until_complete(made.close())
        asyncio.set_event_loop(None)
        loop.close()


def asynchronous() -> bool:
    """Tell whether this runs in an event loop, as a cell of the async flavour does."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
