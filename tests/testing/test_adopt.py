"""Adopting a folder of notebooks: a row for each, one set of changes, and nothing to do the second time."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from nbreplay.cli.main import main
from tests.provider import Provider
from tests.testing.making import notebook

CHAT = """import openai
client = openai.OpenAI(max_retries=0)
def ask(text, model="test"):
    messages = [{"role": "user", "content": text}]
    return client.chat.completions.create(model=model, messages=messages).choices[0].message.content"""
"""A notebook's first cell, as foreign authors write it: no key, no address, nothing of nbreplay."""

# So many digits that no two runs take the same time.
TIMED = """import time
start = time.perf_counter()
print(ask('hello'))
print(f'Took {time.perf_counter() - start:.9f} seconds')"""
CACHED = """import json, os
if not os.path.exists("cache.json"):
    json.dump(ask("to cache"), open("cache.json", "w"))
print(json.load(open("cache.json")))"""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provider: Provider) -> Path:
    """A repository whose maintainer has keys, as the working directory."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("OPENAI_BASE_URL", provider.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-proj-Zk3uQ9vLr8TnXw2BfG7hJs5d")
    return folder


def git(folder: Path, *arguments: str) -> str:
    names = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    return subprocess.run(["git", *names, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def commit(folder: Path) -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "all")


def adopt(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    """Adopt notebooks; return the exit status, and what is printed as JSON."""
    capsys.readouterr()
    status = main(["adopt", "--json", "--timeout", "60", *arguments])
    return status, json.loads(capsys.readouterr().out)


def rows(document: dict[str, Any]) -> dict[str, tuple[bool, list[str]]]:
    """Whether each notebook replays, and its statuses."""
    return {
        Path(row["notebook"]).stem: (row["ok"], [finding["status"] for finding in row["statuses"]])
        for row in document["notebooks"]
    }


@pytest.mark.full
def test_a_folder_is_adopted_once(
    repository: Path, provider: Provider, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEAM", "blue")
    folder = repository / "nbs"
    notebook(folder / "cached.ipynb", CHAT, CACHED)
    notebook(folder / "limited.ipynb", CHAT, "ask('hello', 'test/status=429')")
    notebook(folder / "plain.ipynb", CHAT, "print(ask('plain'))", "import os\nos.environ['OPENAI_API_KEY']")
    notebook(folder / "team.ipynb", CHAT, "import os\nask(f\"hello {os.environ['TEAM']}\")")
    notebook(folder / "timed.ipynb", CHAT, TIMED)
    commit(repository)

    status, found = adopt(capsys, "nbs", "--yes")
    assert status == 1
    assert rows(found) == {
        "cached": (True, ["writes files it later reads"]),
        "limited": (False, ["failed while recording"]),
        "plain": (True, ["prints a key"]),
        "team": (False, ["needs a variable"]),
        "timed": (True, ["needs a mask"]),
    }
    details = {Path(row["notebook"]).stem: row["statuses"][0]["details"] for row in found["notebooks"]}
    assert details["cached"] == ["cache.json"]
    assert "429" in details["limited"][0]
    assert details["team"] == ["TEAM"]
    assert r"Took \d+\.\d+ seconds" in details["timed"][0]
    assert found["written"]
    changed = {line[3:] for line in git(repository, "status", "--porcelain", "-uall").splitlines()}
    recordings = {name for name in changed if name.startswith("nbs/recordings/")}
    assert changed - recordings == {
        *("pyproject.toml", ".github/workflows/notebooks.yml"),
        *("nbs/cached.ipynb", "nbs/plain.ipynb", "nbs/timed.ipynb"),
    }
    assert "sk-proj" not in (folder / "plain.ipynb").read_text()
    commit(repository)

    hits = provider.hits
    status, found = adopt(capsys, "nbs")
    assert (status, provider.hits) == (1, hits + 1), "the call that failed is tried again, and nothing else"
    assert rows(found) == {
        "cached": (True, []),
        "limited": (False, ["failed while recording"]),
        "plain": (True, ["prints a key"]),
        "team": (False, ["needs a variable"]),
        "timed": (True, []),
    }
    assert found["changes"] == []
    (changed_line,) = git(repository, "status", "--porcelain").splitlines()
    assert '"status": 429' in (repository / changed_line[3:]).read_text()
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.delenv("OPENAI_BASE_URL")
    assert main(["run", "nbs/cached.ipynb", "nbs/plain.ipynb", "nbs/timed.ipynb"]) == 0, "and where no key is set"


@pytest.mark.full(quick=["input"])
@pytest.mark.parametrize(
    ("sources", "statuses", "detail", "passes"),
    [
        ((CHAT, "!ssh -p 9 127.0.0.1", "ask('x')"), ["starts a child process"], "ssh", False),
        (("%pip install --quiet openai", CHAT, "ask('x')"), ["installs packages"], "cell 1: pip install", True),
        ((CHAT, "city = input('City: ')\nask(city)"), ["asks for input"], "city", False),
        (("1 + 1",), ["makes no call"], "nothing to record", True),
        (("import missing_module",), ["failed while recording"], "No module named 'missing_module'", False),
        ((CHAT, "ask('x')", "import os\nos.urandom(1)[0] % 97, 'a b c'.split()[os.urandom(1)[0] % 3]"), None, "", True),
        ((CHAT, "print(ask('x'))\nraise ValueError('a bug')"), ["failed while recording"], "ValueError: a bug", False),
    ],
    ids=["child", "pip", "input", "no call", "module", "random", "bug"],
)
def test_a_status(
    repository: Path,
    capsys: pytest.CaptureFixture[str],
    sources: tuple[str, ...],
    statuses: list[str] | None,
    detail: str,
    passes: bool,
) -> None:
    path = notebook(repository / "one.ipynb", *sources)
    before = path.read_bytes()
    status, found = adopt(capsys, "one.ipynb")
    (row,) = found["notebooks"]
    names = [finding["status"] for finding in row["statuses"]]
    if statuses is None:
        assert set(names) <= {"needs a mask", "outputs differ although nothing varies"}
    else:
        assert names == statuses
        assert detail in row["statuses"][0]["details"][0]
        assert row["statuses"][0]["remedy"]
    assert row["ok"] is passes
    assert status == 1, "nothing is written without --yes"
    assert path.read_bytes() == before
    assert not (repository / "pyproject.toml").exists()


@pytest.mark.full
def test_a_notebook_in_another_language_is_left_alone(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kernel = {"name": "ir", "display_name": "R", "language": "R"}
    notebook(repository / "one.ipynb", "print(1)", kernelspec=kernel)
    status, found = adopt(capsys, "one.ipynb", "--yes")
    assert (status, rows(found)) == (1, {"one": (False, ["needs another language"])})
    assert found["changes"] == []


@pytest.mark.full
def test_an_adoption_goes_on_where_it_was_interrupted(
    repository: Path, provider: Provider, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was recorded is not recorded again, though nothing was written; a notebook that was edited is."""
    for name in "abc":
        model = "test/hold" if name == "b" else "test"
        notebook(repository / f"{name}.ipynb", CHAT, f"print(ask('{name}', '{model}'))")
    command = [sys.executable, "-m", "nbreplay", "adopt", "."]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        while provider.hits < 2:
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        assert process.stderr is not None
        assert "nbreplay: interrupted. Run adopt again to go on" in process.stderr.read()
    provider.ack()
    notebook(repository / "b.ipynb", CHAT, "print(ask('b'))")
    status, found = adopt(capsys, ".")
    assert (status, provider.hits) == (1, 4)
    assert [row["recorded"] for row in found["notebooks"]] == [0, 1, 1]
    notebook(repository / "a.ipynb", CHAT, "print(ask('another'))")
    status, found = adopt(capsys, ".", "--yes")
    assert (status, provider.hits) == (0, 5)
    for recording in (repository / "recordings").glob("chat-*"):
        recording.unlink()
    status, found = adopt(capsys, ".", "--yes")
    assert provider.hits == 8, "recordings that are gone are recorded again"


@pytest.mark.full
def test_dates_and_times_in_requests_are_masked_on_the_day(
    repository: Path, provider: Provider, capsys: pytest.CaptureFixture[str]
) -> None:
    """A date that two runs on one day share is proposed, too, since it is another one tomorrow."""
    dated = "import datetime\nprint(ask(f'Today is {datetime.date.today()}. Who won?'))\ndatetime.date.today().year * 0"
    notebook(repository / "dated.ipynb", CHAT, dated, "print(f'Run on {datetime.date.today():%d.%m.%Y}')")
    named = "import uuid\nask(f'Request {uuid.uuid4()}: tea or coffee?')"
    notebook(repository / "named.ipynb", CHAT, named)
    status, found = adopt(capsys, ".", "--yes")
    assert (status, provider.hits) == (0, 2)
    assert rows(found) == {"dated": (True, ["needs a mask"]), "named": (True, ["needs a mask"])}
    settings = tomllib.loads((repository / "pyproject.toml").read_text())["tool"]["nbreplay"]
    assert len(settings["mask"]) == 2
    assert any(re.fullmatch(mask, "Today is 2031-01-02") for mask in settings["mask"])
    assert [bool(re.search(mask, "Run on 02.01.2031")) for mask in settings["outputs"]["mask"]] == [True]
    assert main(["run", "."]) == 0


@pytest.mark.full
def test_an_answer_that_is_passed_is_passed_in_the_workflow(
    repository: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository / "requirements.txt").write_text("openai\n")
    notebook(repository / "one.ipynb", "%pip install --quiet openai", CHAT, "city = input('City: ')\nprint(ask(city))")
    notebook(repository / ".ipynb_checkpoints" / "one-checkpoint.ipynb", "not a notebook of theirs")
    status, found = adopt(capsys, "one.ipynb", "--yes", "-p", "city=New York", "-p", "api_key=secret-123-abc")
    assert (status, rows(found)) == (0, {"one": (True, ["asks for input", "installs packages"])})
    workflow = yaml.safe_load((repository / ".github" / "workflows" / "notebooks.yml").read_text())
    *_, install, run = (step["run"] for step in workflow["jobs"]["replay"]["steps"] if "run" in step)
    assert install == "pip install nbreplay -r requirements.txt"
    assert run == "nbreplay run --skip-installs -p 'city=New York' ."
    monkeypatch.delenv("OPENAI_API_KEY")
    assert main(shlex.split(run)[1:]) == 0


@pytest.mark.full
def test_files_that_git_ignores_are_not_there_in_a_replay(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """CI has no such file: neither the cache of an earlier run, nor data."""
    (repository / ".gitignore").write_text("cache.json\n*.csv\n__pycache__/\n")
    (repository / "cache.json").write_text('"an old answer"')
    (repository / "data.csv").write_text("1,2")
    notebook(repository / "cached.ipynb", CHAT, CACHED)
    notebook(repository / "data.ipynb", CHAT, "ask(open('data.csv').read())")
    _, found = adopt(capsys, ".")
    assert rows(found) == {
        "cached": (False, ["needs files that git ignores"]),
        "data": (False, ["needs files that git ignores"]),
    }
    assert found["notebooks"][1]["statuses"][0]["details"] == ["data.csv"]


@pytest.mark.full
def test_a_file_of_another_notebook_is_named(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notebook(repository / "a.ipynb", CHAT, "open('answer.txt', 'w').write(ask('a'))")
    notebook(repository / "b.ipynb", CHAT, "ask(open('answer.txt').read())")
    _, found = adopt(capsys, "a.ipynb", "b.ipynb")
    assert rows(found) == {"a": (True, []), "b": (False, ["reads files of another notebook"])}
    assert found["notebooks"][1]["statuses"][0]["details"] == ["answer.txt"]
    assert not (repository / "answer.txt").exists()


@pytest.mark.full
def test_the_path_of_a_project_is_masked_for_every_clone(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook(repository / "one.ipynb", CHAT, "import os\nprint(os.getcwd())", "ask(f'What is in {os.getcwd()}?')")
    commit(repository)
    status, document = adopt(capsys, ".", "--yes")
    assert (status, rows(document)) == (0, {"one": (True, ["needs a mask"])})
    assert main(["run", "."]) == 0
    clone = tmp_path / "somewhere" / "else" / repository.name
    clone.parent.mkdir(parents=True)
    repository.rename(clone)
    monkeypatch.chdir(clone)
    assert main(["run", "."]) == 0


def test_adopt_cannot_be_told_to_replay_only(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook(repository / "one.ipynb", "1")
    monkeypatch.setenv("NBREPLAY_MODE", "replay")
    assert main(["adopt", "one.ipynb"]) == 2
    monkeypatch.delenv("NBREPLAY_MODE")
    assert main(["adopt", "elsewhere"]) == 2
