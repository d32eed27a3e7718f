"""Small notebooks, and recordings for what they ask."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nbformat

import nbreplay as nr
from tests.clients import http, said
from tests.provider import Provider

__all__ = ["ASK", "DEAD", "gone", "notebook", "recorded"]

DEAD = "http://127.0.0.1:1/v1"
"""Where nobody listens."""

ASK = f"""import os, {http.__name__} as http
with open("kernels", "a") as file:
    print(os.getpid(), file=file)
def ask(text="hello", url={DEAD!r}):
    body = {{"model": "test", "messages": [{{"role": "user", "content": text}}]}}
    answer = http.post(f"{{url}}/chat/completions", json=body, headers={{"authorization": "Bearer k"}})
    return answer.json()["choices"][0]["message"]["content"]"""
"""A notebook's first cell; it notes the kernel's process, and gives it ``ask``."""


def notebook(path: Path, *sources: str, tags: tuple[str, ...] = (), minor: int = 5, **metadata: Any) -> Path:
    """Write a notebook with these cells; the last one is tagged."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [nbformat.v4.new_code_cell(source, id=f"cell-{number}") for number, source in enumerate(sources)]
    if tags:
        cells[-1].metadata["tags"] = list(tags)
    if minor < 5:
        for cell in cells:
            del cell["id"]
    made = nbformat.v4.new_notebook(metadata=metadata)
    made.cells, made.nbformat_minor = cells, minor
    nbformat.write(made, path)
    return path


def recorded(store: Path, *texts: str) -> dict[str, str]:
    """Record the answers to these questions, and return them; the provider is gone afterwards."""
    answers = {}
    with Provider() as provider, nr.session(store, mode="record"), http.Client() as client:
        for text in texts:
            body = {"model": "test", "messages": said(text)}
            answer = client.post(f"{provider.url}/chat/completions", json=body)
            answers[text] = answer.json()["choices"][0]["message"]["content"]
    return answers


def gone(folder: Path) -> bool:
    """Whether the kernels that ran in `folder` have ended, of which there was at least one."""
    for line in (folder / "kernels").read_text().split():
        try:
            os.kill(int(line), 0)
        except ProcessLookupError:
            continue
        return False
    return True
