"""Failures that may pass, in runs of notebooks: what is said of one that ``auto`` did not keep, and how to keep it."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest

from nbreplay.cli.main import main
from nbreplay.testing.notebook_file import read_notebook
from tests.provider import Provider
from tests.testing.making import notebook

CLIENT = """import openai
client = openai.OpenAI(base_url={url!r}, max_retries={retries}, api_key='k')
def ask(model, text):
    messages = [{{'role': 'user', 'content': text}}]
    return client.chat.completions.create(model=model, messages=messages).choices[0].message.content"""
DENIED = """try:
    ask('test/status=401', 'who am I?')
except openai.AuthenticationError as error:
    print('denied', error.status_code)"""


def denied(folder: Path, provider: Provider, *tags: str) -> Path:
    """A notebook that shows a refusal on purpose."""
    return notebook(
        folder / "one.ipynb", CLIENT.format(url=provider.url, retries=0), "ask('test', 'hi')", DENIED, tags=tags
    )


@pytest.mark.full
def test_a_refusal_that_a_notebook_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The run says that it is not kept, and how to keep it; the miss says so too; kept, it replays."""
    with Provider() as provider:
        path = denied(tmp_path, provider)
        assert main(["run", str(path), "--mode", "auto"]) == 0
        assert (
            f"ok    {path}\n      cell 3 (try:): auto did not keep the failure of a chat test/status=401 call: "
            "401 Unauthorized. A replay misses it. To keep it, pass --keep-errors (to pytest: --nbreplay-keep-errors), "
            "or tag the cell nbreplay-keep-errors\n"
        ) in capsys.readouterr().out
        assert main(["run", str(path)]) == 1
        output = capsys.readouterr().out
        assert "when it was last asked live, it failed: 401 Unauthorized. auto does not keep failures" in output
        assert f"nbreplay run {path} --mode auto --update --keep-errors, which keeps the failure" in output
        assert main(["run", str(path), "--mode", "auto", "--update"]) == 1, "its replay is tried at once"
        capsys.readouterr()
        assert main(["run", str(path), "--mode", "auto", "--update", "--keep-errors"]) == 0
        assert "did not keep" not in capsys.readouterr().out
    assert read_notebook(path).cells[2].outputs[0].text == "denied 401\n"
    assert main(["run", str(path)]) == 0


@pytest.mark.full
def test_the_tag_keeps_the_failures_of_its_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Provider() as provider:
        path = denied(tmp_path, provider, "nbreplay-keep-errors")
        made = read_notebook(path)
        made.cells.append(nbformat.v4.new_code_cell(DENIED.replace("who am I", "and now"), id="untagged"))
        nbformat.write(made, path)
        assert main(["run", str(path), "--mode", "auto", "--json"]) == 0
        (row,) = json.loads(capsys.readouterr().out)
        assert [call["lost"] for call in row["calls"]] == ["", "", "401 Unauthorized"]
        (note,) = row["notes"]
        assert note.startswith("cell 4 (try:): auto did not keep")


@pytest.mark.full
def test_a_magic_that_records_keeps_them_in_a_run_in_auto(tmp_path: Path) -> None:
    with Provider() as provider:
        path = denied(tmp_path, provider)
        made = read_notebook(path)
        made.cells[2].source = f"%%replay record\n{DENIED}"
        nbformat.write(made, path)
        assert main(["run", str(path), "--mode", "auto", "--update"]) == 0
    assert main(["run", str(path)]) == 0


@pytest.mark.full(quick=1)
@pytest.mark.parametrize("keeps", [False, True])
def test_a_limit_that_a_retry_overcomes(tmp_path: Path, capsys: pytest.CaptureFixture[str], keeps: bool) -> None:
    """Without the failure a replay answers at once, and that is what is stored."""
    asks = (
        "while True:\n    try:\n        answer = ask('test/status=429,200', 'hi')\n        break\n"
        "    except openai.RateLimitError:\n        print('again')\nprint(answer)"
    )
    with Provider() as provider:
        path = notebook(tmp_path / "one.ipynb", CLIENT.format(url=provider.url, retries=0), asks)
        assert main(["run", str(path), "--mode", "auto", "--update", *(["--keep-errors"] if keeps else [])]) == 0
    output = capsys.readouterr().out
    assert ("429 Too Many Requests. A replay answers at once, as the retry did." in output) is not keeps
    assert ("again" in read_notebook(path).cells[1].outputs[0].text) is keeps
    assert main(["run", str(path)]) == 0
