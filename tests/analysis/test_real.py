"""Every frame over real recordings, against what plain Python counts in their files."""

from __future__ import annotations

import functools
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import nbreplay
from nbreplay.analysis.library import Library
from tests.analysis import counting
from tests.analysis.counting import Counted
from tests.formats.making import REAL, real_files

OWN = Path(__file__).parents[2] / "recordings"


@functools.cache
def told(source: str) -> tuple[Library, dict[str, Counted]]:
    """The frames of a source and, by interaction, what its files hold."""
    if source == "llama-stack":
        real_files()
        lib = nbreplay.load(REAL)
        counted = {key: counting.llama_stack(Path(file)) for key, file in lib.interactions.file.items()}
    else:
        lib = nbreplay.load(OWN)
        takes = {str(path): counting.own(path) for path in OWN.glob("*.json")}
        counted = {key: next(takes[os.path.abspath(file)]) for key, file in lib.interactions.file.items()}
    return lib, counted


def outputs(lib: Library) -> pd.DataFrame:
    """The messages of models. Those of a websocket's server that is of no known service are not of a model."""
    return lib.messages[(lib.messages.direction == "output") & (lib.messages.role != "server")]


def joined(texts: Any) -> str:
    """The texts that there are, one after the other."""
    return "".join(texts.dropna())


SOURCES = pytest.mark.parametrize("source", ["own", "llama-stack"])


@SOURCES
def test_there_is_a_row_for_every_take(source: str) -> None:
    lib, _ = told(source)
    frame = lib.interactions
    assert frame.index.is_unique
    if source == "llama-stack":
        assert sorted(map(os.path.abspath, frame.file)) == sorted(str(path) for path in REAL.rglob("*.json"))
        assert len(frame) == 306
        assert set(frame.origin) == {"llama-stack"}
    else:
        assert Counter(map(os.path.abspath, frame.file)) == {
            str(path): len(list(counting.own(path))) for path in OWN.glob("*.json")
        }
        assert set(frame.origin) == {"nbreplay"}
    assert len(lib) == len(frame)
    assert lib.unread.empty


@SOURCES
def test_tokens_are_those_in_the_files(source: str) -> None:
    lib, counted = told(source)
    for name in ("input", "output"):
        column = lib.interactions[f"{name}_tokens"]
        given = {key: int(value) for key, value in column.dropna().items()}
        expected = {key: value.tokens[name] for key, value in counted.items() if value.tokens[name] is not None}
        assert given == expected
        assert column.sum() == sum(value or 0 for value in expected.values()) > 0


@SOURCES
def test_the_text_is_that_in_the_files(source: str) -> None:
    lib, counted = told(source)
    out = outputs(lib)
    said = out[out.content_type != "reasoning"].groupby("interaction", observed=True).content.agg(joined)
    assert {key: text for key, text in said.items() if text} == {k: v.text for k, v in counted.items() if v.text}
    thought = out[out.content_type == "reasoning"].set_index("interaction").content
    assert dict(thought.items()) == {key: value.reasoning for key, value in counted.items() if value.reasoning}
    assert lib.interactions.output_chars.sum() == sum(len(value.text) for value in counted.values()) > 0
    spoken = lib.chunks[lib.chunks.kind == "text"].groupby("interaction", observed=True).text.agg(joined)
    streamed = {key: value.text for key, value in counted.items() if value.chunks and value.text}
    assert {key: spoken.get(key) for key in streamed} == streamed


@SOURCES
def test_messages_are_those_in_the_files(source: str) -> None:
    lib, counted = told(source)
    given = lib.messages[(lib.messages.direction == "input") & (lib.messages.content_type != "reasoning")]
    found = {str(key): list(group.content.fillna("")) for key, group in given.groupby("interaction", observed=True)}
    assert found == {key: value.messages for key, value in counted.items() if value.messages}
    assert lib.interactions.n_messages.sum() == (lib.messages.direction == "input").sum()
    assert (lib.messages.chars == lib.messages.content.str.len().fillna(0)).all()


@SOURCES
def test_prompts_and_answers_are_texts_of_the_messages(source: str) -> None:
    lib, _ = told(source)
    frame, texts = lib.interactions[lib.interactions.kind != "tool"], lib.messages[lib.messages.chars > 0]
    prompts = texts[(texts.role == "user") & (texts.direction == "input") & (texts.content_type != "reasoning")]
    assert frame.prompt.dropna().to_dict() == prompts.groupby("interaction", observed=True).content.last().to_dict()
    out = outputs(lib)
    out = out[(out.chars > 0) & (out.content_type != "reasoning")]
    answers = out.groupby("interaction", observed=True).content.agg("\n".join)
    assert frame.answer.dropna().to_dict() == answers.to_dict()
    assert len(answers) > 10


@SOURCES
def test_tools_are_no_models(source: str) -> None:
    frame = told(source)[0].interactions
    tools = frame[frame.kind == "tool"]
    assert tools.model.isna().all()
    assert tools[["tool", "prompt", "answer"]].notna().all().all()
    assert all(isinstance(json.loads(arguments), dict) for arguments in tools.prompt)
    assert frame.tool[frame.kind != "tool"].isna().all()
    assert not set(tools.tool).intersection(frame.model.cat.categories)


def test_times_that_were_not_recorded_are_absent_from_every_figure() -> None:
    lib, _ = told("llama-stack")
    frames = (lib.interactions, lib.chunks, lib.tool_calls)
    times = [frame[name] for frame in frames for name in frame if name.endswith("_s")]
    assert len(times) == 8
    assert all(column.isna().all() for column in times)
    llm = lib.interactions.llm
    figures = llm.summary(None).filter(like="_s_")
    assert figures.shape == (1, 5)
    assert figures.isna().all(axis=None)
    assert llm.tool_success().duration_s_median.isna().all()
    assert len(llm.ttft()) == len(llm.gaps()) == len(llm.throughput()) == 0
    assert nbreplay.compare(lib, lib).frame[["duration_s_delta", "ttft_s_delta"]].isna().all(axis=None)


@SOURCES
def test_chunks_are_those_in_the_files(source: str) -> None:
    lib, counted = told(source)
    found = lib.chunks[lib.chunks.kind != "done"].groupby("interaction", observed=True).size()
    assert dict(found.items()) == {key: value.chunks for key, value in counted.items() if value.chunks}
    assert lib.interactions.n_chunks.sum() == len(lib.chunks) > 0
    if source == "llama-stack":
        assert lib.chunks.t_s.isna().all()
        assert lib.chunks.gap_s.isna().all()
        assert lib.interactions[["duration_s", "ttfc_s", "ttft_s"]].isna().all().all()
        assert lib.interactions.recorded_at.isna().all()
    else:
        sums = lib.chunks.groupby("interaction", observed=True).gap_s.sum()
        took = lib.interactions.duration_s[lib.interactions.n_chunks > 0]
        assert sums.round(6).to_dict() == took.astype(float).round(6).to_dict()


@SOURCES
def test_tool_calls_are_those_in_the_files(source: str) -> None:
    lib, counted = told(source)
    frame = lib.tool_calls
    found: dict[str, list[tuple[str, str]]] = {}
    for row in frame.itertuples():
        found.setdefault(row.interaction, []).append((row.name, row.arguments))
    expected = {
        key: [(name, arguments) for name, arguments, _ in value.calls.values()]
        for key, value in counted.items()
        if value.calls
    }
    assert found == expected
    assert lib.interactions.n_tool_calls.sum() == len(frame) > 0
    given = {row.tool_call_id for row in frame.itertuples() if isinstance(row.tool_call_id, str)}
    assert given == {own for value in counted.values() for *_, own in value.calls.values() if own}


def test_results_of_tools_are_found_in_later_requests() -> None:
    lib, _ = told("llama-stack")
    answered = lib.tool_calls.dropna(subset=["result_interaction"])
    assert len(answered) > 0
    for row in answered.itertuples():
        sent = lib.messages[lib.messages.interaction == row.result_interaction]
        assert row.result in set(sent[sent.role == "tool"].content)
        assert row.interaction != row.result_interaction
