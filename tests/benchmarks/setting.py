"""What the benchmarks measure with: answers as OpenAI sends them, stores full of them, clients."""

from __future__ import annotations

import itertools
import json
import random
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import openai

from nbreplay.core.recording.body import plain_body
from nbreplay.core.recording.recording import Recording, file_name
from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.take import Take
from nbreplay.core.request.request import key_of

__all__ = [
    "JSON", "LIBRARY", "SSE", "Body", "Call", "Memory", "answers", "ask", "client", "events", "floor", "plain", "read",
    "write_plain", "write_streams",
]  # fmt: skip

LIBRARY: ModuleType = sys.modules[
    next(kind.__module__.partition(".")[0] for kind in openai.DefaultHttpxClient.__mro__ if kind.__name__ == "Client")
]
"""httpx or httpx2, whichever this openai uses."""

HOST, MODEL = "api.openai.com", "gpt-4o"
JSON = {
    "content-type": "application/json", "x-request-id": "req_9c1f3b7e2a6d4850b1c3e5f708192a3b",
    "openai-processing-ms": "412", "x-ratelimit-limit-requests": "10000", "x-ratelimit-limit-tokens": "2000000",
    "x-ratelimit-remaining-requests": "9999", "x-ratelimit-remaining-tokens": "1999987",
    "x-ratelimit-reset-requests": "6ms", "x-ratelimit-reset-tokens": "0s",
}  # fmt: skip
SSE = JSON | {"content-type": "text/event-stream; charset=utf-8"}
_TEXT = """
The harbour was quiet that morning, because the fishing boats had left before dawn and would not be back until the
tide turned. Along the quay, three old men were mending nets; they worked slowly, talked about the weather, and
agreed that it was unseasonably warm for November. A woman in a yellow coat asked them whether the ferry to the
islands was still running. "Twice a day," said the oldest, without looking up, "unless the wind comes round to the
north-east, in which case nobody goes anywhere." She thanked him, bought a coffee at the kiosk, and sat down on a
bollard to wait. It wasn't long before she heard the engine: a low, irregular thudding that echoed off the
warehouses, and then the white hull itself, rounding the breakwater with gulls wheeling noisily behind it.
"""
_TOKENS = re.findall(r" ?\w{1,9}|[^\w]", " ".join(_TEXT.split()))
Body = Callable[[], None]
Call = Callable[[openai.OpenAI, int], None]
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def plain(number: int) -> bytes:
    """Return a whole chat completion, some 1.1 KB of JSON."""
    start = number * 7 % len(_TOKENS)
    text = "".join([*_TOKENS[start:], *_TOKENS][:60]).strip()
    details = dict.fromkeys(("reasoning", "audio", "accepted_prediction", "rejected_prediction"), 0)
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
    value = {
        "id": f"chatcmpl-B{number:028d}", "object": "chat.completion", "created": 1_763_841_350 + number,
        "model": "gpt-4o-2024-08-06",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 21, "completion_tokens": 60, "total_tokens": 81,
                  "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
                  "completion_tokens_details": {f"{name}_tokens": number for name, number in details.items()}},
        "service_tier": "default", "system_fingerprint": "fp_a288987b44",
    }  # fmt: skip
    return json.dumps(value, separators=(",", ":")).encode()


def events(number: int, chunks: int) -> list[bytes]:
    """Return a streamed chat completion, an item an event, padded to like lengths by ``obfuscation`` as OpenAI does."""
    dice = random.Random(number)
    words = itertools.islice(itertools.cycle(_TOKENS), number * 7 % len(_TOKENS), None)
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": "", "refusal": None}]
    deltas += [{"content": token} for token in itertools.islice(words, chunks - 2)]
    made = []
    for delta in [*deltas, {}]:
        length = min(16, max(1, 15 - len(delta.get("content", "")) + dice.randint(-1, 1)))
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None if delta else "stop"}
        value = {
            "id": f"chatcmpl-B{number:028d}", "object": "chat.completion.chunk", "created": 1_763_841_350 + number,
            "model": "gpt-4o-2024-08-06", "service_tier": "default", "system_fingerprint": "fp_a288987b44",
            "choices": [choice], "usage": None, "obfuscation": "".join(dice.choices(_LETTERS, k=length)),
        }  # fmt: skip
        made.append(b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n")
    return [*made, b"data: [DONE]\n\n"]


def _prompt(number: int) -> list[dict[str, str]]:
    start = number % len(_TOKENS)
    return [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": f"Question {number}: go on from here:{''.join(_TOKENS[start : start + 12])}"},
    ]


def ask(sdk: openai.OpenAI, number: int) -> None:
    """Make the plain call `number`."""
    sdk.chat.completions.create(model=MODEL, messages=_prompt(number))  # type: ignore[arg-type]


def read(sdk: openai.OpenAI, number: int) -> None:
    """Make the streamed call `number` and read it to its end."""
    for _ in sdk.chat.completions.create(model=MODEL, messages=_prompt(number), stream=True):  # type: ignore[arg-type]
        pass


def _write(folder: Path, number: int, body: Any, headers: dict[str, str], elapsed_ms: int | None, **more: bool) -> None:
    asked = {"messages": _prompt(number), "model": MODEL, **more}
    fields = {"method": "POST", "endpoint": "chat/completions", "body": asked}
    key = key_of("chat", fields)
    take = Take(
        "2026-11-22T20:15:50.000Z", HOST, "/v1/chat/completions", "openai 3.54.0", body=body,
        headers=headers, elapsed_ms=elapsed_ms,
    )  # fmt: skip
    text = Recording(key, "chat", fields, (take,)).text()
    (folder / file_name("chat", key)).write_text(text, "utf-8", newline="\n")


def write_plain(folder: Path, number: int) -> Path:
    """Fill a store with that many plain recordings."""
    folder.mkdir(parents=True)
    for index in range(number):
        _write(folder, index, plain_body(plain(index), "application/json"), JSON, 700)
    return folder


def write_streams(folder: Path, number: int, chunks: int) -> Path:
    """Fill a store with that many recorded streams."""
    folder.mkdir(parents=True)
    for index in range(number):
        pieces = [(0.3 + 0.012 * at, event) for at, event in enumerate(events(index, chunks))]
        _write(folder, index, Events.parse(pieces, "sse", 0.0), SSE, None, stream=True)
    return folder


class _Pieces(LIBRARY.SyncByteStream):  # type: ignore[misc,name-defined]
    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces


class Memory(LIBRARY.BaseTransport):  # type: ignore[misc,name-defined]
    """Answers out of memory, piece by piece as a network does; no kind of transport that nbreplay knows and skips."""

    def __init__(self, headers: dict[str, str], pieces: list[bytes]) -> None:
        self._headers, self._all = headers, pieces

    def handle_request(self, request: Any) -> Any:
        request.read()
        return LIBRARY.Response(200, headers=self._headers, stream=_Pieces(self._all))


def client(transport: Any = None) -> openai.OpenAI:
    """Return a client over `transport`, or over the library's ordinary one."""
    http = openai.DefaultHttpxClient(**({} if transport is None else {"transport": transport}))
    url = f"https://{HOST}/v1"
    return openai.OpenAI(api_key="sk-benchmarks-of-no-account-0", base_url=url, http_client=http, max_retries=0)


def floor(headers: dict[str, str], bodies: Iterable[bytes]) -> openai.OpenAI:
    """Return a client over the library's own MockTransport, which answers with `bodies` over and over."""
    turns = itertools.cycle(bodies)
    return client(LIBRARY.MockTransport(lambda _: LIBRARY.Response(200, headers=headers, content=next(turns))))


def answers(call: Call, sdk: openai.OpenAI, numbers: Iterable[int]) -> Body:
    """Return what makes the calls `numbers`, one after the other."""
    wanted = list(numbers)

    def body() -> None:
        for number in wanted:
            call(sdk, number)

    return body
