"""Notebooks that print as answers of concurrent calls come: the same in every replay, in cold and in warm kernels."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbreplay.core.config import Mode
from nbreplay.testing.result import RunOptions
from nbreplay.testing.runner import run, run_all, update
from tests.provider import Provider
from tests.testing.making import notebook

CLIENT = """
import asyncio, concurrent.futures, openai
delays = 500, 100, 700, 300
def question(number, text={name!r}):
    return {{"model": f"test/delay={{delays[number]}}", "messages": [{{"role": "user", "content": text}}]}}
client = openai.AsyncOpenAI(base_url={url!r}, api_key="k")
"""
TASKS = """
async def ask(number):
    answer = await client.chat.completions.create(**question(number))
    print(number, answer.choices[0].message.content)
await asyncio.gather(*map(ask, range(4)));
"""
THREADS = """
def ask(number):
    with openai.OpenAI(base_url=client.base_url, api_key="k") as own:
        return number, own.chat.completions.create(**question(number)).choices[0].message.content
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    for future in concurrent.futures.as_completed([pool.submit(ask, number) for number in range(4)]):
        print(*future.result())
"""
BUSY = """
def burn(number):
    answer = ask(number)
    sum(range(2_000_000))
    print(*answer)
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    list(pool.map(burn, range(4)))
"""


@pytest.mark.full
def test_a_notebook_prints_the_same_in_every_replay(tmp_path: Path) -> None:
    options = RunOptions(timeout=300)
    with Provider() as provider:
        paths = [
            notebook(
                tmp_path / f"{name}.ipynb",
                CLIENT.format(url=provider.url, name=name).strip(),
                *(source.strip() for source in (TASKS, THREADS, BUSY)),
            )
            for name in ("one", "two")
        ]
        for path in paths:
            result = run(path, options, mode=Mode.RECORD, update=True)
            update(result)
            assert result.passed, result.errors
    for _ in range(3):
        assert [result.errors for result in run_all(paths, options)] == [[]] * 2, "in warm kernels"
    assert run(paths[0], options).errors == []
