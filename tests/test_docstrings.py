"""The docstrings of public names: each has an example that runs, and fits a terminal of 80 columns."""

from __future__ import annotations

import doctest
import inspect
import json
from pathlib import Path
from typing import Any

import pytest

import nbreplay as nr
from nbreplay.notebook.directive import HELP
from tests.clients import http
from tests.test_promises import ATTRIBUTES

NAMES = [name for name in nr.__all__ if not name.startswith(("__", "load_ipython", "unload_ipython"))]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def answer(request: Any) -> Any:
    """Answer as OpenAI does."""
    body = json.loads(request.read())
    if request.url.path.endswith("embeddings"):
        usage = {"prompt_tokens": 3, "total_tokens": 3}
        return http.Response(200, json={"data": [{"index": 0, "embedding": [0.5]}], "model": "e", "usage": usage})
    text = "16 °C and rain." if TODAY != "recordings" else "18 °C and clear."
    if body["model"] == "o3":
        text = "No idea."
    usage = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}
    head = {"id": "chatcmpl-1", "created": 1, "model": body["model"]}
    if body.get("stream"):
        deltas = [{"role": "assistant", "content": "Tokyo"}, {"content": " is"}, {"content": " clear."}]
        chunks = [
            {**head, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": one}]} for one in deltas
        ]
        text = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
        return http.Response(200, headers={"content-type": "text/event-stream"}, content=text.encode())
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return http.Response(200, json={**head, "object": "chat.completion", "choices": [choice], "usage": usage})


TODAY = "recordings"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the stores that the examples name."""
    global TODAY
    folder = tmp_path_factory.mktemp("docstrings")
    question = [{"role": "user", "content": "Weather in Tokyo?"}]
    for TODAY in ("recordings-october", "recordings"):
        transport = nr.transport(folder / TODAY, "record", inner=http.MockTransport(answer))
        with http.Client(transport=transport, base_url="https://api.openai.com/v1/") as client:
            for more in ({"model": "gpt-4o"}, {"model": "o3"}, {"model": "gpt-4o", "stream": True}):
                client.post("chat/completions", json={"messages": question, **more}).raise_for_status()
            if TODAY == "recordings":
                client.post("embeddings", json={"model": "text-embedding-3-small", "input": "Tokyo"})
    damaged = folder / "recordings-damaged"
    damaged.mkdir()
    (damaged / "chat-0000000000000000.json").write_text("{", encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_the_examples_of_a_public_name_run(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    value = getattr(nr, name)
    text = inspect.getdoc(value) or ""
    assert len(text.splitlines()[0]) < 80
    assert [line for line in text.splitlines() if len(line) > 79] == []
    finder, runner = doctest.DocTestFinder(recurse=False), doctest.DocTestRunner(optionflags=FLAGS)
    (test,) = finder.find(value, name, globs={})
    assert test.examples, "an example is missing"
    lines: list[str] = []
    runner.run(test, out=lines.append)
    assert runner.failures == 0, "".join(lines)


def test_the_help_of_the_package_and_of_the_magic_fits_a_terminal() -> None:
    for text in (nr.__doc__ or "", HELP):
        assert [line for line in text.splitlines() if len(line) > 79] == []


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_what_a_public_class_has_is_described_in_80_columns(name: str) -> None:
    for member in ATTRIBUTES[name].split():
        value = inspect.getattr_static(getattr(nr, name), member, None)
        if callable(value) or isinstance(value, property):
            text = inspect.getdoc(value)
            assert text, member
            assert [line for line in text.splitlines() if len(line) > 79] == []
