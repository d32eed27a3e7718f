"""One kernel and one provider for all tests here; each test finds the kernel as new, in a folder of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.notebook.kernel import Kernel, started
from tests.provider import Spawned, spawn

_RESET = """
import gc, os, sys
shell = get_ipython()
if "nbreplay" in shell.extension_manager.loaded:
    shell.extension_manager.unload_extension("nbreplay")
if "nbreplay.intercept.keys" in sys.modules:
    sys.modules["nbreplay.intercept.keys"]._ever = False
shell.run_line_magic("reset", "-f")
import gc, os
gc.collect()
os.environ.pop("NBREPLAY_MODE", None)
os.chdir({folder!r})
"""

_CLIENT = """
import asyncio, json, os, threading
import openai
from openai import AsyncOpenAI, OpenAI

def said(text):
    return [{{"role": "user", "content": text}}]

def ask(text="hello", model="test", **more):
    client = OpenAI(base_url={url!r}, api_key="a-key-of-the-tests", max_retries=0)
    return client.chat.completions.create(model=model, messages=said(text), **more).choices[0].message.content

async def aask(text="hello", model="test", **more):
    client = AsyncOpenAI(base_url={url!r}, api_key="a-key-of-the-tests", max_retries=0)
    answer = await client.chat.completions.create(model=model, messages=said(text), **more)
    return answer.choices[0].message.content

def stream(text="hello", model="test"):
    client = OpenAI(base_url={url!r}, api_key="a-key-of-the-tests", max_retries=0)
    return client.chat.completions.create(model=model, messages=said(text), stream=True)

def text_of(stream):
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream)
"""


@pytest.fixture(scope="session")
def model() -> Iterator[Spawned]:
    """The provider that the kernel's cells ask."""
    with spawn() as made:
        yield made


@pytest.fixture(scope="session")
def _kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("NBREPLAY_")}
    clean = {name: value for name, value in clean.items() if not name.endswith(("_API_KEY", "_AUTH_TOKEN"))}
    with started(tmp_path_factory.mktemp("kernel"), clean) as made:
        yield made


@pytest.fixture
def bare(_kernel: Kernel, tmp_path: Path) -> Kernel:
    """The kernel, with nothing of nbreplay in it, in the test's own folder."""
    assert not _kernel.run(_RESET.format(folder=str(tmp_path / "work")), silent=True).ename
    return _kernel


@pytest.fixture
def kernel(bare: Kernel, model: Spawned) -> Kernel:
    """The kernel with nbreplay loaded and not switched on, and ``ask``, ``aask``, ``stream`` and ``text_of`` in it."""
    assert not bare.run(_CLIENT.format(url=model.url), silent=True).ename
    assert not bare.run("%load_ext nbreplay").ename
    return bare
