"""The accessor `.llm`: every figure against what plain Python makes of the same rows."""

from __future__ import annotations

import pickle
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import nbreplay
from nbreplay.analysis import columns
from nbreplay.analysis.costs import price_rows
from nbreplay.analysis.groups import require_columns
from nbreplay.analysis.library import Library
from tests.analysis.making import lib, streamed

OWN = Path(__file__).parents[2] / "recordings"


def asked(model: str, text: str = "Hi", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def said(text: str = "Hello", **usage: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": {"content": text}}], "usage": usage}


def chunk(text: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}}]}


@pytest.fixture
def some(tmp_path: Path) -> Library:
    usage = {"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 4}}
    return lib(
        tmp_path,
        (asked("slow", stream=True), streamed(chunk("a"), chunk("b"), usage, gap=2.0)),
        (asked("fast", stream=True), streamed(chunk("a"), chunk("b"), usage, gap=0.1)),
        (asked("fast"), said(prompt_tokens=1_000_000, completion_tokens=500_000)),
        (asked("fast", "again"), {"error": {"type": "overloaded", "message": "no"}}, {"status": 529}),
    )


def test_a_summary_counts_what_plain_python_counts() -> None:
    real = nbreplay.load(OWN)
    rows = [row._asdict() for row in real.interactions.itertuples()]
    by_model: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        name = "(no model)" if row["kind"] == "websocket" else row["model"]
        by_model["(tools)" if row["kind"] == "tool" else name].append(row)
    made = real.interactions.llm.summary()
    assert set(made.index) == set(by_model)
    for model, group in by_model.items():
        row = made.loc[model]
        assert row.interactions == len(group)
        assert row.failed == sum(one["error_type"] is not None and not pd.isna(one["error_type"]) for one in group)
        assert row.cut_short == sum(one["complete"] is False for one in group)
        tokens = [one["input_tokens"] for one in group if one["input_tokens"] is not pd.NA]
        assert (row.input_tokens is pd.NA) if not tokens else (row.input_tokens == sum(tokens))
        times = [one["duration_s"] for one in group if one["duration_s"] is not pd.NA]
        assert row.duration_s_median == pytest.approx(statistics.median(times))
    assert real.interactions.llm.summary(by=None).interactions.tolist() == [len(rows)]
    assert set(real.interactions.llm.summary(by=["kind", "model"]).index.names) == {"kind", "model"}


def test_what_has_no_model_is_a_group_with_a_name(tmp_path: Path) -> None:
    tool = ({"tool": "look", "arguments": {}}, {"result": 1}, {"kind": "tool", "host": ""})
    calls = lib(
        tmp_path, (asked("m"), said()), (asked("m", "x"), said()), ({"messages": []}, said()), tool
    ).interactions
    assert calls.llm.summary().interactions.to_dict() == {"m": 2, "(no model)": 1, "(tools)": 1}
    assert calls.llm.summary(["kind", "model"]).interactions.to_dict() == {
        ("chat", "m"): 2,
        ("chat", "(no model)"): 1,
        ("tool", "(tools)"): 1,
    }
    assert calls.llm.summary("temperature").interactions.to_dict() == {"(no temperature)": 4}


def test_groups_are_whatever_pandas_groups_by(tmp_path: Path) -> None:
    calls = lib(tmp_path, *((asked("m", str(number)), said(prompt_tokens=number)) for number in range(4))).interactions
    times = ["2026-12-03", "2026-09-05", None, "2026-09-30"]
    calls = calls.assign(recorded_at=pd.to_datetime(times, utc=True, format="%Y-%m-%d"), recorder=[1, 1, 2, 2])
    summary = calls.llm.summary(pd.Grouper(key="recorded_at", freq="MS"))
    assert {str(month)[:7]: count for month, count in summary.interactions.items()} == {
        "2026-09": 2,
        "2026-12": 1,
        "(no rec": 1,
    }
    never = calls.assign(recorded_at=calls.recorded_at.where(calls.recorder > 2))
    month = pd.Grouper(key="recorded_at", freq="MS")
    assert never.llm.summary(month).interactions.to_dict() == {"(no recorded_at)": 4}
    assert calls.llm.summary(lambda calls: calls.input_tokens > 1).interactions.to_dict() == {True: 2, False: 2}
    assert calls.llm.summary(calls.recorder.rename("who")).index.name == "who"
    assert calls.llm.summary(["kind", calls.recorder]).interactions.to_dict() == {("chat", 1): 2, ("chat", 2): 2}
    assert len(calls.llm.summary("interaction")) == 4
    sorted_calls = calls.sort_values("input_tokens", ascending=False)
    aligned = sorted_calls.llm.summary(calls.recorder).input_tokens
    assert aligned.to_dict() == calls.llm.summary("recorder").input_tokens.to_dict(), "by the index, as pandas does"
    numbers = calls.llm.summary(pd.Grouper(key="input_tokens"))
    assert len(numbers) == 4
    for bad in (7, [1, 2], lambda _: 1):
        with pytest.raises(nbreplay.OptionError, match="a value for each of the 4 rows"):
            calls.llm.summary(bad)


@pytest.mark.filterwarnings("ignore:The behavior of DataFrame concatenation")  # pandas 2.2, of a column that is all NA
def test_parts_and_sums_of_frames_are_frames(some: Library, tmp_path: Path) -> None:
    calls = some.interactions
    other = lib(tmp_path / "other", (asked("fast"), said())).interactions
    both = pd.concat([calls, other])
    assert both.llm.summary().interactions.to_dict() == {"fast": 4, "slow": 1}
    assert pd.concat([calls, calls]).llm.gaps().gaps.to_dict() == calls.llm.gaps().gaps.to_dict()
    assert calls.head(2).llm.summary().interactions.sum() == 2
    assert calls.reset_index().query("stream").llm.gaps("stream").streams.to_dict() == {True: 2}
    assert calls.reset_index(drop=True).llm.summary("kind").interactions.to_dict() == {"chat": 4}
    assert some.chunks.llm.gaps(lambda chunks: chunks.kind).gaps.to_dict() == {"text": 2, "usage": 2}
    assert calls.llm.gaps(calls.stream).gaps.to_dict() == {True: 4}
    with pytest.raises(nbreplay.OptionError, match=r"lost its link to the recordings\. Use \.llm of lib\.chunks"):
        both.llm.gaps()


def test_first_tokens_gaps_and_throughput(some: Library) -> None:
    llm = some.interactions.llm
    assert llm.ttft()["median"].to_dict() == {"slow": 2.0, "fast": 0.1}
    assert llm.ttft().interactions.to_dict() == {"slow": 1, "fast": 1}
    gaps = llm.gaps()
    # Two pauses a stream: the wait for the first chunk is none.
    assert gaps[["streams", "gaps", "stalls"]].to_dict("index") == {
        "slow": {"streams": 1, "gaps": 2, "stalls": 2},
        "fast": {"streams": 1, "gaps": 2, "stalls": 0},
    }
    assert gaps.stalled_s.to_dict() == {"slow": 4.0, "fast": 0.0}
    assert gaps["median"].to_dict() == pytest.approx({"slow": 2.0, "fast": 0.1})
    assert llm.gaps(stall=0.05).stalls.to_dict() == {"slow": 2, "fast": 2}
    assert list(some.interactions.query("model == 'fast'").llm.gaps().index) == ["fast"]
    assert some.chunks.llm.gaps(by=None).gaps.tolist() == [4]
    # Both frames have a kind: that of what is asked.
    assert llm.gaps(by="kind").gaps.to_dict() == {"chat": 4}
    assert llm.gaps(by=["kind", "model"]).index.names == ["kind", "model"]
    assert some.chunks.llm.gaps(by="kind").gaps.to_dict() == {"text": 2, "usage": 2}
    assert some.chunks.llm.gaps().gaps.to_dict() == {"slow": 2, "fast": 2}
    speed = llm.throughput()
    assert speed.tokens_per_s["slow"] == pytest.approx(4 / 6)
    assert speed.after_first_token_per_s.to_dict() == pytest.approx({"slow": 4 / 4, "fast": 4 / 0.2})


def test_costs_are_tokens_times_the_table(some: Library) -> None:
    llm = some.interactions.llm
    made = llm.cost({"fast": {"input": 2.5, "output": 10}})
    assert made.priced.to_dict() == {"fast": 2, "slow": 0}
    assert made.usd_estimate["fast"] == pytest.approx(2.5 + 5 + 10 * 2.5e-6 + 4 * 1e-5)
    assert made.usd_estimate["slow"] is pd.NA
    table = pd.DataFrame({"input": [2.5], "output": [10.0]}, index=["fast"])
    assert llm.cost(table).equals(made)
    assert llm.cost({"fast": (2.5, 10)}).equals(made)


def test_cached_tokens_and_embeddings_have_prices_of_their_own(tmp_path: Path) -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 60}}
    vectors = {"data": [{"embedding": [0.1]}], "usage": {"prompt_tokens": 50}}
    made = lib(
        tmp_path,
        (asked("m"), said(**usage)),
        ({"model": "e", "input": "x"}, vectors, {"kind": "embedding", "endpoint": "embeddings"}),
        (asked("m", "no output told"), said(prompt_tokens=5)),
    ).interactions.llm.cost({"m": (1e6, 0, 1e5), "e": {"input": 1e6}})
    assert made.input_usd_estimate.to_dict() == pytest.approx({"m": 40 + 6, "e": 50})
    assert made.priced.to_dict() == {"m": 1, "e": 1}


@pytest.mark.parametrize("bad", [7, {"m": 3}, {"m": {"in": 1}}, {"m": (1, -1)}, {"m": (1, float("nan"))}])
def test_what_is_no_price_is_refused(some: Library, bad: Any) -> None:
    with pytest.raises(nbreplay.OptionError, match="price"):
        some.interactions.llm.cost(bad)


def test_list_prices_come_from_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prices = pytest.importorskip("genai_prices", reason="genai-prices is not installed: pip install -e '.[prices]'")
    made = lib(tmp_path, (asked("gpt-4o"), said(prompt_tokens=1000, completion_tokens=10)))
    expected = prices.calc_price(prices.Usage(input_tokens=1000, output_tokens=10), "gpt-4o", provider_id="openai")
    assert made.interactions.llm.cost().usd_estimate["gpt-4o"] == pytest.approx(float(expected.total_price))
    own = lib(tmp_path / "own", (asked("gpt-4o"), said(prompt_tokens=1, completion_tokens=1), {"host": "127.0.0.1:1"}))
    assert own.interactions.llm.cost().usd_estimate.isna().all()
    assert made.interactions.cost_usd.tolist() == pytest.approx([float(expected.total_price)])
    assert own.interactions.cost_usd.isna().all()
    monkeypatch.setitem(__import__("sys").modules, "genai_prices", None)
    with pytest.raises(nbreplay.OptionError, match="Pass a table"):
        made.interactions.llm.cost()
    without = nbreplay.load(tmp_path).interactions.cost_usd
    assert (str(without.dtype), without.isna().all()) == ("Float64", True)


@pytest.mark.parametrize("largest", [100_000, 300_000])
def test_a_price_is_looked_up_once_unless_it_has_tiers(largest: int) -> None:
    calls = []

    def price(model: Any, _: Any, __: Any, into: int, out: int, cached: int) -> tuple[float | None, float | None]:
        calls.append(into)
        rate = 2.5 if into <= 200_000 else 5.0
        return (None, None) if model == "unknown" else (((into - cached) * rate + cached) / 1e6, out * rate / 1e6)

    models, into = ["m"] * 50 + ["unknown"] * 2, [*range(1, 50), largest, 1, 2]
    names = {"kind": "chat", "model": models, "response_model": None, "provider": "openai"}
    tokens = pd.DataFrame({"input_tokens": into, "output_tokens": 7, "cached_tokens": None}, dtype="Int64")
    frame = pd.DataFrame(names).join(tokens)
    frame.loc[0, "cached_tokens"] = 3  # more than were sent, as some count
    sides = price_rows(frame, price)
    assert len(calls) == 8 + (50 if largest > 200_000 else 0)
    expected = [price("m", None, None, one, 7, 1 if number == 0 else 0) for number, one in enumerate(into[:50])]
    assert [side.tolist()[:50] for side in sides] == [pytest.approx(costs) for costs in zip(*expected, strict=True)]
    assert all(side[50:].isna().all() for side in sides)


def test_tools_succeed_fail_and_stay_unanswered(tmp_path: Path) -> None:
    def call(own: str, arguments: str) -> dict[str, Any]:
        return {"id": own, "type": "function", "function": {"name": "look", "arguments": arguments}}

    calls = [call("c1", '{"x": 1}'), call("c2", '{"x"'), call("c3", '{"x": 3}')]
    first = {"choices": [{"index": 0, "message": {"content": None, "tool_calls": calls}}]}
    history = [{"role": "assistant", "tool_calls": calls}, {"role": "tool", "tool_call_id": "c1", "content": "fine"}]
    raised = {"exception": {"type": "KeyError", "message": "3"}}
    tool = ({"tool": "look", "arguments": {"x": 3}}, raised, {"kind": "tool", "host": ""})
    made = lib(tmp_path, (asked("m"), first), ({"model": "m", "messages": history}, said()), tool)
    row = made.tool_calls.llm.tool_success().loc["look"]
    counts = row[["calls", "answered", "succeeded", "failed", "invalid_arguments"]]
    assert list(counts) == [3, 2, 1, 1, 1]
    assert row.success == 0.5
    assert made.interactions.llm.tool_success(by="model").calls.to_dict() == {"m": 3}


def test_names_of_open_telemetry(some: Library) -> None:
    made = some.interactions.llm.otel()
    assert made["gen_ai.request.model"].tolist() == some.interactions.model.tolist()
    assert set(made["gen_ai.operation.name"]) == {"chat"}
    assert "nbreplay.prompt_key" in made
    assert len(made.columns) == len(some.interactions.columns)
    ours = {column.name for declared in columns.FRAMES.values() for column in declared}
    assert columns.OTEL.keys() <= ours
    assert "gen_ai.tool.name" in some.tool_calls.llm.otel()


def test_a_frame_that_is_none_of_ours_is_told_so(some: Library) -> None:
    with pytest.raises(nbreplay.OptionError, match=r"no column ttft_s\. Use lib\.interactions, or rows of it"):
        some.interactions.drop(columns="ttft_s").llm.summary()
    with pytest.raises(nbreplay.OptionError, match=r"no columns gap_s, chunk\. Use lib\.chunks"):
        require_columns(some.interactions, "gap_s", "chunk")
    again = pickle.loads(pickle.dumps(some.interactions))
    assert again.equals(some.interactions)
    assert len(again.llm.summary()) == 2
    with pytest.raises(nbreplay.OptionError, match=r"Use \.llm of lib\.chunks"):
        again.llm.gaps()
    for wrong, remedy in (("provder", "Did you mean provider"), ("outcome", r"session have it: nbreplay\.load")):
        with pytest.raises(nbreplay.OptionError, match=f"no column '{wrong}' to group by. .*{remedy}"):
            some.interactions.llm.summary(by=wrong)


def test_no_rows_are_no_rows(tmp_path: Path) -> None:
    llm = nbreplay.load(tmp_path).interactions.llm
    for made in (llm.summary(), llm.ttft(), llm.gaps(), llm.throughput(), llm.cost({}), llm.tool_success()):
        assert made.empty
    assert llm.otel().empty
