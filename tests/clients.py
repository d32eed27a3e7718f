"""The SDKs that are installed, and one way to write a test for their sync and their async clients.

An operation is an ``async def`` of a client. It uses `wait`, `items` and `entered`, which take what is sync as
well as what is async; `call` runs it to its end with a client of the flavour asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
from pydantic import BaseModel

from nbreplay.core.recording.recording import Recording
from nbreplay.core.recording.take import Take
from nbreplay.core.store.store import Store

http: Any = importlib.import_module("httpx2" if int(openai.__version__.partition(".")[0]) >= 3 else "httpx")
"""The HTTP library that the installed openai uses."""

KEY = "a-key-of-the-tests"

Operation = Callable[[Any], Awaitable[Any]]


def sdk(flavour: str, url: str, **options: Any) -> Any:
    """Return an OpenAI client, over what it would make itself but for certificates: loading them takes longest."""
    kind, inner = (
        (openai.OpenAI, openai.DefaultHttpxClient)
        if flavour == "sync"
        else (openai.AsyncOpenAI, openai.DefaultAsyncHttpxClient)
    )
    if "http_client" not in options:
        options["http_client"] = inner(verify=False)
    return kind(**{"base_url": url, "api_key": KEY, "max_retries": 0, **options})


def plain(flavour: str, url: str, **options: Any) -> Any:
    """Return a client of the HTTP library itself."""
    return (http.Client if flavour == "sync" else http.AsyncClient)(base_url=url, verify=False, **options)


async def wait(value: Any) -> Any:
    """Return `value`, or what it comes to if it is to be awaited."""
    return await value if inspect.isawaitable(value) else value


async def items(iterable: Any) -> AsyncIterator[Any]:
    """Iterate over what is sync or async."""
    if hasattr(iterable, "__aiter__"):
        async for item in iterable:
            yield item
    else:
        for item in iterable:
            yield item


@asynccontextmanager
async def entered(manager: Any) -> AsyncIterator[Any]:
    """Enter a context manager that is sync or async."""
    if hasattr(manager, "__aenter__"):
        async with manager as value:
            yield value
    else:
        with manager as value:
            yield value


def finish(flavour: str, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end; one that uses sync clients only needs no event loop."""
    if flavour == "async":
        return asyncio.run(coroutine)
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("a sync client has nothing to wait for")


def call(flavour: str, url: str, operation: Operation, made: Callable[..., Any] = sdk, **options: Any) -> Any:
    """Run `operation` with a new client of this flavour, and close the client."""

    async def whole() -> Any:
        async with entered(made(flavour, url, **options)) as client:
            return await operation(client)

    return finish(flavour, whole())


def said(text: str) -> list[dict[str, str]]:
    """Return the messages of a conversation that starts with `text`."""
    return [{"role": "user", "content": text}]


def chat(text: str = "hello", model: str = "test", **options: Any) -> Operation:
    """Return the operation of one chat, which gives the answer's text."""

    async def operation(client: Any) -> Any:
        answer = await wait(client.chat.completions.create(model=model, messages=said(text), **options))
        return answer.choices[0].message.content

    return operation


async def gathered_chats(url: str, number: int, model: str = "test") -> list[Any]:
    """Ask the same question `number` times at once; the answers in the order of asking, errors among them."""
    async with sdk("async", url) as client:
        return await asyncio.gather(*[chat(model=model)(client) for _ in range(number)], return_exceptions=True)


def dumped(value: Any) -> Any:
    """Return all that a value of an SDK holds, as plain data."""
    if isinstance(value, BaseModel):
        return {
            "class": type(value).__name__,
            "fields": value.model_dump(warnings=False),
            "set": sorted(value.model_fields_set),
            "request": getattr(value, "_request_id", None),
        }
    if isinstance(value, dict):
        return {name: dumped(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [dumped(item) for item in value]
    return value


def recordings(store: Path) -> list[Recording]:
    """Return every recording of a store, all of which must be readable."""
    found = [recording for _, recording in Store(store).recordings()]
    for recording in found:
        assert isinstance(recording, Recording), recording
    return found  # type: ignore[return-value]


def takes(store: Path) -> list[Take]:
    """Return the takes of the only recording of a store."""
    (recording,) = recordings(store)
    return list(recording.takes)


def outcomes(session: Any) -> list[str]:
    """Return what became of the calls of a session."""
    return [item.outcome for item in session.interactions]


def in_threads(ask: Callable[[Any], Any], items: Iterable[Any]) -> None:
    """Call a function with each item, in a thread of its own."""
    threads = [threading.Thread(target=ask, args=(item,)) for item in items]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)


@contextlib.contextmanager
def ctrl_c(after: float = 0.1) -> Iterator[None]:
    """Interrupt this thread, as Ctrl-C does; again, should it have been about to wait when the first signal came."""
    over, own = threading.Event(), threading.get_ident()

    def interrupt() -> None:
        while not over.wait(after):
            signal.pthread_kill(own, signal.SIGINT)

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
