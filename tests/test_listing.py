"""``nbreplay ls``: its lines in a pipe, its table on a terminal, filters, order and totals."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from rich.cells import cell_len

from nbreplay.cli.main import main
from nbreplay.cli.table import Column, clip_cells, fit
from nbreplay.core.recording.take import CellRef, Take
from nbreplay.core.store.store import Store
from tests.analysis.making import put, streamed
from tests.terminals import EVIL, UNSAFE, on_terminal


def ask(text: str, model: str = "gpt-4o-mini") -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}]}


def answer(text: str, into: int = 10, out: int = 5) -> dict[str, Any]:
    usage = {"prompt_tokens": into, "completion_tokens": out}
    return {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}], "usage": usage}


def keep(store: Store, notebook: str, asked: dict[str, Any], answer: Any, **more: Any) -> None:
    """Write a take that a notebook made."""

    def name_notebook(takes: list[Take]) -> list[Take]:
        return [*takes[:-1], replace(takes[-1], cell=CellRef(None, "s", notebook))]

    key = put(store, asked, answer, **more)
    store.write(more.get("kind", "chat"), key, {}, name_notebook)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Four recordings of several kinds, made by two notebooks."""
    monkeypatch.chdir(tmp_path)
    store = Store("recordings")
    first, second = "notebooks/01_weather.ipynb", "notebooks/02_tools.ipynb"
    keep(store, first, ask("How is the weather in Tokyo?"), answer("Warm and clear."), at=1)
    keep(store, second, ask("How is the weather in Tokyo?"), answer("Cold."), at=2)
    stream = streamed({"choices": [{"delta": {"content": "Wa"}}]}, {"choices": [{"delta": {"content": "rmer"}}]})
    keep(store, second, ask("Weather " * 100, "claude-sonnet-4-5"), stream, at=3)
    keep(store, second, ask("Too much"), {"error": {"type": "rate_limit"}}, at=4, status=429)
    keep(store, second, {"tool": "get_weather", "arguments": {"city": "Tokyo"}}, {"return": 18}, kind="tool", at=5)
    return store


def fields(out: str) -> list[list[str]]:
    return [line.split("\t") for line in out.splitlines()]


def test_a_pipe_gets_a_line_per_recording_with_all_that_is_asked(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ls"]) == 0
    rows = fields(capsys.readouterr().out)
    assert {len(row) for row in rows} == {11}
    assert {row[0] for row in rows} == set(store.names())
    assert [row[10] for row in rows[:4]] == [
        "How is the weather in Tokyo?",
        ("Weather " * 100).strip(),
        "Too much",
        'get_weather(city="Tokyo")',
    ]
    name = rows[0][0]
    both = "notebooks/01_weather.ipynb, notebooks/02_tools.ipynb"
    assert rows[0][1:10] == ["chat", "gpt-4o-mini", "2", "", "20", "10", str(store.size(name)), rows[0][8], both]
    assert rows[2][4] == "429 Too Many Requests"
    assert rows[3][1:3] == ["tool", ""]
    assert [row[8] for row in rows] == sorted(row[8] for row in rows), "the newest is the last"


def test_rows_of_json_hold_the_data_of_the_columns(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", "--json", "--kind", "tool"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["tool"], row["arguments"], row["model"], row["asked"]) == ("get_weather", {"city": "Tokyo"}, "", "")
    assert row["notebooks"] == ["notebooks/02_tools.ipynb"]
    assert row["bytes"] == store.size(row["file"])
    assert row["input_tokens"] is None


FILTERED = {
    "--notebook 01": ["How"],
    "--notebook *TOOLS.ipynb": ["How", "Too", "Weather", "get_weather(city"],
    "--model claude": ["Weather"],
    "--model c*4": ["Weather"],
    "--model gpt-4o": ["How", "Too"],
    "--kind tool": ["get_weather(city"],
    "--failed": ["Too"],
    "--text tokyo": ["How", "get_weather(city"],
    "--text warmer": ["Weather"],
    "--text cold --notebook 02": ["How"],
}
SORTED = {
    "--sort size --reverse": ["Weather", "How", "Too"],
    "--sort takes": ["Weather", "Too", "How"],
    "--sort model": ["Weather", "Too", "How"],
    "--sort tokens": ["Weather", "Too", "How"],
    "--reverse": ["Too", "Weather", "How"],
}


def test_recordings_are_filtered_and_sorted(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    def found(*options: str) -> list[str]:
        assert main(["ls", *options]) == 0
        return [row[10].replace("=", " ").split()[0] for row in fields(capsys.readouterr().out)]

    assert {options: sorted(found(*options.split())) for options in FILTERED} == FILTERED
    shown = ["--kind", "chat", "--notebook", "notebooks"]
    assert {options: found(*options.split(), *shown) for options in SORTED} == SORTED
    assert main(["ls", "--model", "gpt-4?"]) == 0
    out, err = capsys.readouterr()
    assert (out, err) == ("", "no recordings of 4 fit\n"), "a file of the lines has none that is not one"


@pytest.mark.parametrize("columns", [60, 80, 120, 200])
def test_a_terminal_gets_a_table_that_fits_and_totals(
    columns: int, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, out = on_terminal(monkeypatch, columns, "ls")
    lines = out.splitlines()
    assert status == 0
    assert len(lines) == (8 if columns == 60 else 7)
    assert max(map(cell_len, lines)) <= columns
    assert lines[0].split()[0] == "recording"
    assert store.names("tool")[0].partition("-")[2][:8] in lines[4]
    assert "get_weather(" in lines[4]
    assert "…" in lines[2]
    assert re.search("failed: Too|429", lines[3])
    assert " ".join(lines[6:]).startswith("4 recordings · 5 takes · 20 → 10 tokens · ")
    if columns == 200:
        assert "notebooks/01_weather.ipynb,…" in lines[1]


def test_nothing_of_a_recording_is_obeyed(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(store, EVIL, ask(EVIL, EVIL), answer(EVIL), at=6)
    main(["ls", "--text", "red"])
    piped = capsys.readouterr().out
    assert piped.count("\t") == 10
    for out in (
        piped,
        *(on_terminal(monkeypatch, 400, "ls", *more)[1] for more in ([], ["--by", "model"], ["--json"])),
    ):
        assert not set(out.replace("\t", "")) & UNSAFE
        assert "\\u001b[31mred" in out
        assert "[bold]" in out


def test_colours_are_for_terminals_that_want_them(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    _, plain = on_terminal(monkeypatch, 100, "ls", "--kind", "tool")
    _, colourful = on_terminal(monkeypatch, 100, "ls", "--kind", "tool", colours=True)
    assert "\x1b[" not in plain
    assert "\x1b[36mtool-" in colourful


def test_what_all_recordings_have_in_common_is_told_once_where_columns_are_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "one")
    for number in range(3):
        keep(store, "a/b.ipynb", ask(f"A question of some length, number {number}"), answer("x"))
    _, wide = on_terminal(monkeypatch, 140, "ls", str(store.path))
    assert wide.count("gpt-4o-mini") == wide.count("a/b.ipynb") == 3
    _, narrow = on_terminal(monkeypatch, 80, "ls", str(store.path))
    assert narrow.count("gpt-4o-mini") + narrow.count("a/b.ipynb") < 6
    assert narrow.count("of some length, number 2") == 1
    assert narrow.splitlines()[-1].startswith("all: notebook a/b.ipynb")


def test_groups(store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["ls", "--by", "notebook", "--json"]) == 0
    rows = {row.pop("notebook"): row for row in json.loads(capsys.readouterr().out)}
    assert rows["notebooks/01_weather.ipynb"]["takes"] == 1
    assert rows["notebooks/02_tools.ipynb"] | {"bytes": 0, "recorded_at": ""} == {
        "recordings": 4,
        "takes": 4,
        "bytes": 0,
        "input_tokens": 10,
        "output_tokens": 5,
        "recorded_at": "",
    }
    assert main(["ls", "--by", "model"]) == 0
    rows_by_model = fields(capsys.readouterr().out)
    assert [row[:3] for row in rows_by_model] == [
        ["claude-sonnet-4-5", "1", "1"],
        ["gpt-4o-mini", "2", "3"],
        ["(no model)", "1", "1"],
    ]
    _, out = on_terminal(monkeypatch, 80, "ls", "--by", "tool")
    assert [line.split()[0] for line in out.splitlines()[:3]] == ["tool", "get_weather", "(no"]
    assert "\n4 recordings · 5 takes" in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("space", [10, 40, 80])
def test_columns_of_text_share_what_the_others_leave(space: int) -> None:
    columns = [Column("a"), Column("b", weight=1), Column("c", weight=3)]
    rows = [("1234567", "x" * 100, "y" * 100), ("1", "東京" * 40, "")]
    widths = fit(columns, rows, space)
    assert widths[0] == 7
    if space > 20:
        assert space - 2 <= sum(widths) + 4 <= space
        assert widths[2] == pytest.approx(3 * widths[1], abs=3)
    assert fit(columns, [("1", "x", "y" * 20)], 80) == [1, 1, 20]


def test_a_text_that_is_too_long_ends_with_a_word() -> None:
    texts = {
        "Begin a story": "Begin a…",
        "notebooks/01.ipynb": "notebooks/…",
        "Begin a": "Begin a",
        "東京東京東京": "東京東京東…",
    }
    assert {text: clip_cells(text, 11) for text in texts} == texts
