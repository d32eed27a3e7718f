"""What a run stores: outputs that a replay gives, without keys, and only where something has changed."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest

from nbreplay.cli.main import main
from nbreplay.testing.notebook_file import read_notebook, save_outputs
from tests.provider import Provider
from tests.testing.making import ASK, notebook

KEY = "sk-proj-" + "Ab3dEf6hIj9kLm2nOp5qRs8tUv1wXy4z" * 2


def outputs(path: Path) -> list[str]:
    """The outputs of each cell, as text."""
    return [json.dumps(cell.outputs, ensure_ascii=False) for cell in read_notebook(path).cells]


def edit(path: Path, index: int, source: str) -> None:
    """Change the source of a cell, and nothing else."""
    made = read_notebook(path)
    made.cells[index].source = source
    nbformat.write(made, path)


def test_the_outputs_of_a_replay_are_stored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A tool runs, and prints, only while it is recorded; the next replay passes all the same."""
    tool = "import nbreplay as nr\n@nr.tool\ndef double(x):\n    print('in the tool')\n    return 2 * x"
    warns = "import sys, tempfile\nprint(tempfile.mkdtemp(), file=sys.stderr)\nprint(double(2))\ndouble(3)"
    path = notebook(tmp_path / "one.ipynb", tool, warns)
    assert main(["run", str(path), "--mode", "record", "--update"]) == 0
    output = capsys.readouterr().out
    assert f"ok    {path} · outputs stored\n" in output
    assert "cell 2 (import sys, tempfile) displays something else when it is replayed." in output
    assert "nbreplay: 0 replayed, 2 recorded, 0 missing" in output
    assert "in the tool" not in outputs(path)[1]
    assert '"4\\n"' in outputs(path)[1]
    assert main(["run", str(path)]) == 0


def test_a_recording_that_does_not_replay_fails_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Provider() as provider:
        asks = "import os\nask(f'process {os.getpid()}', URL)"
        path = notebook(tmp_path / "one.ipynb", ASK, f"URL = {provider.url!r}\nask(url=URL)", asks)
        before = path.read_bytes()
        assert main(["run", str(path), "--mode", "record", "--update"]) == 1
    output = capsys.readouterr().out
    assert f"FAIL  {path}\n      cell 3 (import os): RecordingMissing: no recorded answer" in output
    assert "      recorded, but its replay failed. No outputs are stored. nbreplay adopt says what it needs\n" in output
    assert path.read_bytes() == before


@pytest.mark.full
def test_what_a_recording_leaves_on_the_disk_does_not_change_what_is_stored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The next run in this folder finds the cache. A clone of the project does not, and its replay passes."""
    cached = """from pathlib import Path
cache = Path("cache.db")
print("from the cache" if cache.exists() else "asked")
if not cache.exists():
    cache.write_text(ask("hello", URL))"""
    with Provider() as provider:
        path = notebook(tmp_path / "one.ipynb", ASK, f"URL = {provider.url!r}", cached)
        assert main(["run", str(path), "--mode", "record", "--update"]) == 0
    output = capsys.readouterr().out
    assert "asks something else where an earlier run has left cache.db" in output, output
    assert "asked" in outputs(path)[2]
    assert (tmp_path / "cache.db").exists(), "it may be wanted"
    (tmp_path / "cache.db").unlink()
    assert main(["run", str(path)]) == 0


def test_an_update_changes_the_edited_cell_only(tmp_path: Path) -> None:
    """Whatever else the notebook displays, such as addresses, a random id and an older key, stays byte for byte."""
    with Provider() as provider:
        path = notebook(
            tmp_path / "one.ipynb",
            ASK,
            f"URL = {provider.url!r}",
            "print(ask(url=URL))",
            "import uuid\nprint(uuid.uuid4())\nobject()",
            "import sys\nprint(object(), file=sys.stderr)\nraise ValueError(str(object()))",
            "ask('bye', URL)",
            tags=(),
        )
        made = read_notebook(path)
        made.cells[4].metadata["tags"] = ["raises-exception"]
        nbformat.write(made, path)
        assert main(["run", str(path), "--mode", "record", "--update"]) == 0
        names = {file.name: file.read_bytes() for file in (tmp_path / "recordings").glob("*.json")}
        edit(path, 5, "ask('bye, edited', URL)")
        before, edited = outputs(path), path.read_text().splitlines()
        assert main(["run", str(path), "--mode", "auto", "--update"]) == 0
    after = outputs(path)
    assert [number for number, (old, new) in enumerate(zip(before, after, strict=True)) if old != new] == [5]
    changed = [new for old, new in zip(edited, path.read_text().splitlines(), strict=True) if old != new]
    assert len(changed) == 1, "one line of the file"
    new = {file.name: file.read_bytes() for file in (tmp_path / "recordings").glob("*.json")}
    assert len(new) == len(names) + 1
    assert {name: new[name] for name in names} == names
    assert main(["run", str(path)]) == 0


@pytest.mark.full
def test_what_is_not_compared_is_stored_where_more_than_a_time_has_changed(tmp_path: Path) -> None:
    warns = "import sys, os, tempfile\nprint(f'warning: {tempfile.mkdtemp()}', file=sys.stderr)\nobject()"
    times = "import time\nprint(f'took {time.time() % 1:.5f} s')"
    path = notebook(tmp_path / "one.ipynb", warns, times, tags=("nbreplay-run",))
    assert main(["run", str(path), "--update"]) == 0
    first = outputs(path)
    assert main(["run", str(path), "--update"]) == 0
    assert outputs(path) == first
    edit(path, 0, "object()")
    edit(path, 1, "import time\nprint(f'Done in {time.time() % 1:.5f} s')")
    assert main(["run", str(path), "--update"]) == 0
    assert "warning" in first[0]
    assert "warning" not in outputs(path)[0], "stderr is not compared, but it is stored"
    assert "Done in" in outputs(path)[1]


@pytest.mark.full
def test_a_date_that_is_compared_is_stored_anew(tmp_path: Path) -> None:
    path = notebook(tmp_path / "one.ipynb", "print('on 2025-01-01')")
    assert main(["run", str(path), "--update"]) == 0
    edit(path, 0, "print('on 2026-02-02')")
    assert main(["run", str(path)]) == 1
    assert main(["run", str(path), "--update"]) == 0
    assert main(["run", str(path)]) == 0


def test_keys_that_a_cell_prints_are_masked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the environment, of a file and of an object, and in an error; the replay prints its placeholder."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    own = "gateway-9fG2kQ7w"
    path = notebook(
        tmp_path / "one.ipynb",
        ASK,
        "import os, openai\nprint('key:', os.environ['OPENAI_API_KEY'])\nopenai.OpenAI().api_key",
        "client = openai.OpenAI(base_url=URL)\nclient.chat.completions.create(model='test', "
        "messages=[{'role': 'user', 'content': 'hi'}]).choices[0].message.content",
        f"os.environ['GATEWAY_TOKEN'] = {own!r}\nos.environ['GATEWAY_TOKEN']",
        "raise ValueError('bad key ' + os.environ['OPENAI_API_KEY'])",
    )
    made = read_notebook(path)
    made.cells[4].metadata["tags"] = ["raises-exception"]
    with Provider() as provider:
        made.cells[0].source += f"\nURL = {provider.url!r}"
        nbformat.write(made, path)
        command = ["run", str(path), "--mode", "record", "--update", "--output", str(tmp_path / "out")]
        assert main(command) == 0
    output = capsys.readouterr().out
    assert "cell 2 (import os, openai) prints a key (environment). It is masked in what is stored\n" in output
    for file in (path, tmp_path / "out" / "one.ipynb"):
        assert KEY not in file.read_text()
        assert not any(own in text for text in outputs(file))
        assert outputs(file)[1].count("[secret:1]") == 2
    assert main(["run", str(path)]) == 0, "where the key is set"
    monkeypatch.delenv("OPENAI_API_KEY")
    capsys.readouterr()
    assert main(["run", str(path), "--json"]) == 0, "and where it is not"
    (row,) = json.loads(capsys.readouterr().out)
    assert {"cell": 2, "kind": "placeholder"} in row["printed_keys"]
    assert not any("cell 2" in note for note in row["notes"])


def test_a_key_in_the_error_of_a_failing_cell_is_masked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = notebook(tmp_path / "one.ipynb", f"raise ValueError('Incorrect API key provided: {KEY}')")
    assert main(["run", str(path)]) == 1
    assert "ValueError: Incorrect API key provided: [secret:1]\n" in capsys.readouterr().out


@pytest.mark.full
def test_a_key_in_a_stored_output_is_said_and_does_not_differ(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jupyter has saved it; the replay prints a placeholder in its place."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    path = notebook(tmp_path / "one.ipynb", "import openai\nprint('key', openai.OpenAI().api_key)")
    made = read_notebook(path)
    made.cells[0].outputs = [nbformat.v4.new_output("stream", text=f"key {KEY}\n")]
    nbformat.write(made, path)
    assert main(["run", str(path)]) == 0
    note = "the stored outputs of cell 1 (import openai) contain a key (sk-key). To mask it, pass --update"
    assert note in capsys.readouterr().out
    assert main(["run", str(path), "--update"]) == 0
    assert KEY not in path.read_text()
    assert read_notebook(path).cells[0].outputs[0].text == "key [secret:1]\n"


def test_outputs_of_cells_without_ids_are_stored_without_a_warning(tmp_path: Path) -> None:
    path = notebook(tmp_path / "old.ipynb", "1", minor=4)
    executed = read_notebook(path)
    executed.cells[0].outputs = [nbformat.v4.new_output("stream", text="x")]
    assert save_outputs(path, executed)
    assert "id" not in read_notebook(path).cells[0]
