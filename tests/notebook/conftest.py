"""One kernel and one provider for all tests here; each test finds the kernel as new, in a folder of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.notebook.kernel import Kernel, started
from tests.provider import Spawned, spawn

_RESET = """
def reset(shell, folder):
    import os, sys
    if "nbreplay" in shell.extension_manager.loaded:
        shell.extension_manager.unload_extension("nbreplay")
    if "nbreplay" in sys.modules:
        from nbreplay.core import log
        from nbreplay.core.cell import current_run
        from nbreplay.core.session import active_sessions
        from nbreplay.intercept import placeholder_keys
        assert not active_sessions() and current_run() is None
        log._collections.clear()
        log._logs.clear()
        placeholder_keys._ever = False
    for configurable in (shell, *shell.configurables):
        configurable.config.pop("ReplayMagics", None)
    for name in set(shell.user_ns) - set(shell.user_ns_hidden):
        del shell.user_ns[name]
    shell.InteractiveTB.set_mode("Minimal")
    shell.Completer.use_jedi = False
    os.environ.pop("NBREPLAY_MODE", None)
    os.chdir(folder)

reset(get_ipython(), {folder!r})
import json, os
"""

CLIENT = """
import asyncio, functools, json, os, threading
import openai
from openai import AsyncOpenAI, OpenAI

def said(text):
    return [{{"role": "user", "content": text}}]

@functools.cache
def client():
    return OpenAI(base_url={url!r}, api_key="a-key-of-the-tests", max_retries=0)

def ask(text="hello", model="test", **more):
    return client().chat.completions.create(model=model, messages=said(text), **more).choices[0].message.content

async def aask(text="hello", model="test", **more):
    async with AsyncOpenAI(base_url={url!r}, api_key="a-key-of-the-tests", max_retries=0) as asking:
        answer = await asking.chat.completions.create(model=model, messages=said(text), **more)
    return answer.choices[0].message.content

def stream(text="hello", model="test"):
    return client().chat.completions.create(model=model, messages=said(text), stream=True)

def text_of(stream):
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream)
"""
"""What gives a kernel ``ask`` and its like."""


@pytest.fixture(scope="package")
def model() -> Iterator[Spawned]:
    """The provider that the kernel's cells ask."""
    with spawn() as made:
        yield made


@pytest.fixture(scope="package")  # replays of other tests would name it as a process that was there before
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
    assert not bare.run(CLIENT.format(url=model.url), silent=True).ename
    assert not bare.run("%load_ext nbreplay").ename
    return bare
