"""A date of today in a request or an output is masked on the day of the recording, since tomorrow it is another."""

from __future__ import annotations

import datetime
from pathlib import Path

import nbformat
import pytest

import nbreplay as nr
from nbreplay.core.variable_text import apply_masks
from nbreplay.testing.adoption.tomorrow import Calendar, answers_of, later_request_masks
from nbreplay.testing.result import Result
from tests.clients import http, said
from tests.provider import Provider

TODAY = datetime.date(2026, 11, 30)


@pytest.mark.parametrize(
    ("text", "later"),
    [
        ("Today is 2026-11-30.", "Today is 2027-01-09."),
        ("Today is November 30, 2026.", "Today is January 9, 2027."),
        ("30 Nov 2026, 30/11/2026, 30.11.2026, 20261130", "9 Jan 2027, 09/01/2027, 09.01.2027, 20270109"),
        ("2026-11-30T12:00 and 2026-11-29", "2027-01-09T12:00 and 2026-11-29"),
        ("order 120261130, Monday", "order 120261130, Monday"),
    ],
)
def test_a_text_on_a_later_day(text: str, later: str) -> None:
    assert Calendar(TODAY).later(text) == later
    assert Calendar(TODAY, constant=text).later(text) == text, "what is written in the notebook does not vary"


def test_the_masks_for_requests_of_today(tmp_path: Path) -> None:
    today = datetime.date.today()
    text = f"Today is {today}. The fair was on 2026-05-01."
    with Provider() as provider, nr.session(tmp_path / "store", mode="record"), http.Client() as client:
        body = {"model": "test", "messages": said(text)}
        client.post(f"{provider.url}/chat/completions", json=body)
    names = [path.name for path in (tmp_path / "store").glob("chat-*")]
    result = Result(tmp_path / "one.ipynb", used={str(tmp_path / "store"): names})
    (mask,) = later_request_masks(result, Calendar(today), ())
    assert apply_masks(text, [mask.pattern]) == "[masked]. The fair was on 2026-05-01."
    assert later_request_masks(result, Calendar(today), [mask]) == []
    assert str(today) in answers_of(result), "the provider repeats the question"
    assert "recorded_at" not in answers_of(result)


def test_outputs_on_a_later_day() -> None:
    outputs = [
        nbformat.v4.new_output("stream", name="stdout", text="on 2026-11-30\n"),
        nbformat.v4.new_output("display_data", data={"text/html": "<b>2026-11-30</b>", "image/png": "20261130"}),
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", outputs=outputs)])
    (cell,) = Calendar(TODAY).later_outputs(notebook).cells
    assert cell.outputs[0].text == "on 2027-01-09\n"
    assert cell.outputs[1].data == {"text/html": "<b>2027-01-09</b>", "image/png": "20261130"}
    assert notebook.cells[0].outputs[0].text == "on 2026-11-30\n"
