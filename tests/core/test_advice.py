"""A miss advises options that work when they are pasted, and never to ignore what is asked."""

from __future__ import annotations

import ast
import re
import shlex
import textwrap
import tomllib
from pathlib import Path
from typing import Any

import pytest

from nbreplay.core.advice import Place, advise
from nbreplay.core.cell import Cell
from nbreplay.core.config import Mode, Options
from nbreplay.core.explain import explain
from nbreplay.core.nearest import differences
from nbreplay.core.request.request import Call
from nbreplay.core.secrets.credentials import PLACEHOLDER
from nbreplay.core.store.store import Store
from nbreplay.intercept.registry import open_session
from tests.core.making import call, chat, missed, record, replayed, request, session

GEMINI = {"path": "/v1beta/models/gemini-2.5-pro:generateContent", "host": "generativelanguage.googleapis.com"}


def gemini(text: str) -> Call:
    return call({"contents": [{"role": "user", "parts": [{"text": text}]}]}, **GEMINI)


def response(text: str) -> Call:
    return call({"model": "m", "input": text}, path="/v1/responses")


def tool(**arguments: Any) -> Call:
    return Call("TOOL", "", "", "", b"", tool=("search", arguments))


def picture(data: str) -> Call:
    return chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": data}}]}])


def advice(one: Call, two: Call) -> str:
    fields = request(one).fields
    found = advise(fields, request(two), differences(fields, request(two).fields), Options(Mode.REPLAY))
    return found.reason if found else ""


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (chat("Tokyo?"), chat("Kyoto?")),
        (gemini("Tokyo?"), gemini("Kyoto?")),
        (response("a"), response("b")),
        (chat(instructions="a"), chat(instructions="b")),
        (chat(system="a"), chat(system="b")),
        (chat(system=[{"type": "text", "text": "a"}]), chat(system=[{"type": "text", "text": "b"}])),
        (chat(), chat(system="a")),
        (call({"prompt": "a"}, path="/v1/completions"), call({"prompt": "b"}, path="/v1/completions")),
        (call({"inputText": "a"}, path="/model/titan/invoke"), call({"inputText": "b"}, path="/model/titan/invoke")),
        (call({"input": ["a"]}, path="/v1/embeddings"), call({"input": ["b"]}, path="/v1/embeddings")),
        (call({"query": "a"}, path="/search"), call({"query": "b"}, path="/search")),
        (call({"q": "what is new in Tokyo"}, path="/search"), call({"q": "what is new in Kyoto"}, path="/search")),
        (picture("data:image/png;base64,aaaa"), picture("data:image/png;base64,bbbb")),
        (tool(city="Tokyo"), tool(city="Kyoto")),
        (tool(question="how is the weather", n=1), tool(question="how are the stocks", n=1)),
        (chat(), chat(model="gpt-4o-mini")),
        (chat(), chat(stream=True)),
        (chat(), chat(tools=[{"type": "function"}])),
    ],
)
def test_what_is_asked_is_never_to_be_ignored(one: Call, two: Call) -> None:
    assert advice(one, two) == ""


@pytest.mark.parametrize(
    ("one", "two", "reason"),
    [
        (gemini("On 2026-01-31?"), gemini("On 2026-02-01?"), "only a date differs"),
        (tool(city="Tokyo", units="C"), tool(city="Tokyo", units="F"), "if units does not matter"),
        (chat(user="ann"), chat(user="bob"), "if user does not matter"),
        (
            chat(metadata={"title": "one of many"}),
            chat(metadata={"title": "two of many"}),
            "if metadata.title does not",
        ),
        (
            chat("On 2026-01-31?", seed=1),
            chat("On 2026-02-01?", seed=2),
            "only a date and seed differ; if seed does not",
        ),
        (chat("At 10:15 on 2026-01-31"), chat("At 10:20 on 2026-02-01"), "only a date and a time differ"),
        (
            chat("2026-01-31", user="run-3f2a9c1d"),
            chat("2026-02-01", user="run-4f2a9c1d"),
            "only a random id and a date differ",
        ),
    ],
)
def test_what_varies_is_masked_and_what_may_not_matter_is_ignored(one: Call, two: Call, reason: str) -> None:
    assert advice(one, two).startswith(reason)


ONE, TWO = (
    chat("'Today' is 2026-01-31. Run 0x7f12ab34cd56", seed=1),
    chat("'Today' is 2026-02-01. Run 0x7f00ab34cd00", seed=2),
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that masks and ignores something already."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "pyproject.toml"
    file.write_text("[tool.nbreplay]\nmask = [\"it's\"]\nignore = ['user']\n")
    return file


def explained(place: Place, given: Options) -> str:
    return explain(request(TWO), TWO, Store("recordings"), Cell(None, 1, "x"), given, place=place).text


def test_the_lines_for_pyproject_work_when_they_are_pasted(project: Path) -> None:
    record(open_session("recordings", mode="record"), ONE, {"n": 1})
    text = explained(Place.PROJECT, open_session("recordings", mode="replay").options)
    assert f"if seed does not matter: set in {project}, and that recording answers\n" in text
    lines = textwrap.dedent(text.partition("that recording answers\n")[2])
    assert lines.startswith('[tool.nbreplay]\nmask = ["it\'s", ')
    assert "ignore = ['user', 'seed']" in lines
    assert len(tomllib.loads(lines)["tool"]["nbreplay"]["mask"]) == 3
    project.write_text(lines)
    assert replayed(open_session("recordings", mode="replay"), TWO) == {"n": 1}


def test_the_magic_keeps_the_options_of_the_one_before_it(project: Path) -> None:
    record(open_session("recordings", mode="record"), ONE, {"n": 1})
    text = explained(Place.MAGIC, open_session("recordings", mode="replay", mask=["in \\w+"]).options)
    line = re.search("%replay replay (.*) makes that recording answer", text)
    assert line
    words = shlex.split(line[1])
    given = {
        name: [b for a, b in zip(words[::2], words[1::2], strict=True) if a == f"--{name}"]
        for name in ("mask", "ignore")
    }
    assert given["mask"][0] == "in \\w+"
    assert "it's" not in given["mask"]  # of pyproject.toml, and counts besides
    assert replayed(open_session("recordings", mode="replay", **given), TWO) == {"n": 1}


def test_the_arguments_keep_those_that_the_session_has(project: Path) -> None:
    record(open_session("recordings", mode="record"), ONE, {"n": 1})
    text = explained(Place.PYTHON, open_session("recordings", mode="replay", ignore=["top_p"]).options)
    option = re.search(r"nbreplay\.session\(\.\.\., (.*)\) makes that recording answer", text)
    assert option
    arguments = ast.parse(f"f({option[1]})", mode="eval").body
    assert isinstance(arguments, ast.Call)
    given = {item.arg: ast.literal_eval(item.value) for item in arguments.keywords if item.arg}
    assert given["ignore"] == ["top_p", "seed"]
    assert replayed(open_session("recordings", mode="replay", **given), TWO) == {"n": 1}


def test_without_a_key_auto_explains_what_replay_would(store: Path) -> None:
    record(session(store), chat("Today is 2026-01-31."), {"n": 1})
    headers = [(b"Authorization", f"Bearer {PLACEHOLDER}".encode())]
    made = session(store, "auto")
    text = str(missed(made, chat("Today is 2026-02-01.", headers=headers)))
    assert made.last_miss
    assert made.last_miss.differences
    for part in ("no API key is set", "nearest", "2026-01-31", "set the key", "only a date differs", "mask="):
        assert part in text
    # Where a recording has answered already, none is nearer.
    replayed(made, chat("Today is 2026-01-31.", headers=headers))
    assert "nearest" not in str(missed(made, chat("Today is 2026-01-31.", headers=headers)))
    assert "no embedding recording in this store" in str(
        missed(made, call({"model": "m", "input": "x"}, path="/v1/embeddings", headers=headers))
    )
