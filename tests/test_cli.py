"""The command line: what it prints, and with what status it ends."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import nbreplay as nr
from nbreplay.cli.main import main
from nbreplay.core.store.store import Store
from tests.clients import http, said
from tests.pictures import Screen, run_in_terminal
from tests.provider import Provider
from tests.testing.making import ASK, gone, notebook, recorded

SCRIPT = "import runpy; runpy.run_module('nbreplay', run_name='__main__')"


def nbreplay(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    command = [sys.executable, "-c", SCRIPT, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **more)


@pytest.fixture
def kept() -> Path:
    """The store that is found where none is named, with two recordings."""
    path = Path("recordings")
    recorded(path, "hello", "bye")
    return path


def name_of(store: Path, text: str) -> str:
    """The file of the recording of a question."""
    (name,) = [path.name for path in store.glob("chat-*") if f'"{text}"' in path.read_text(encoding="utf-8")]
    return name


def test_the_command_is_installed() -> None:
    command = shutil.which("nbreplay", path=str(Path(sys.executable).parent))
    assert command
    done = subprocess.run([command, "--version"], capture_output=True, text=True)
    assert done.stdout == f"nbreplay {nr.__version__}\n"
    assert done.returncode == 0


@pytest.mark.parametrize(
    "arguments",
    [[], ["fly"], ["run"], ["show"], ["diff", "one"], ["run", "x.ipynb", "-n", "0"], ["run", "x", "--mode", "off"]],
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: nbreplay" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["ls"], "store recordings does not exist. Name one"),
        (["ls", "nowhere"], "store nowhere does not exist"),
        (["show", "abc"], "store recordings does not exist"),
        (["diff", "abc", "def"], "store recordings does not exist"),
        (["run", "nowhere.ipynb"], "nowhere.ipynb does not exist"),
        (["run", "."], ". contains no notebook"),
    ],
)
def test_what_is_not_there(arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert why in told.err
    assert told.err.startswith("nbreplay: ")
    assert not told.out
    assert not Path("recordings").exists(), "looking makes nothing"


def test_a_store_that_is_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a-file").touch()
    assert main(["ls", "a-file"]) in (1, 2)
    assert "a-file is a file, and a store is a folder" in capsys.readouterr().err


def test_ls(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all(line.split("\t")[1:4] == ["chat", "test", "1"] for line in lines)
    assert {line.split()[0]: line.split()[-1] for line in lines} == {
        name_of(kept, text): text for text in ("hello", "bye")
    }
    assert main(["ls", str(kept), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["asked"] for row in rows} == {"hello", "bye"}
    assert all(row["key"].startswith("k1:") and row["takes"] == 1 and row["kind"] == "chat" for row in rows)


def test_ls_of_an_empty_store(capsys: pytest.CaptureFixture[str]) -> None:
    Path("recordings").mkdir()
    assert main(["ls"]) == 0
    assert capsys.readouterr() == ("", "no recordings\n")
    assert main(["ls", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_a_corrupt_file_is_named(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = name_of(kept, "hello")
    (kept / name).write_text("{")
    assert main(["ls"]) == 1
    told = capsys.readouterr()
    assert "bye" in told.out, "the others are listed"
    assert name in told.err
    for arguments in (["show", name], ["show", str(kept / name)], ["diff", name, name_of(kept, "bye")]):
        assert main(arguments) == 1
        told = capsys.readouterr()
        assert name in told.err
        assert not told.out
    (kept / name).write_bytes(b"\xff\xfe")
    for arguments in (["ls"], ["show", name], ["show", str(kept / name)]):
        assert main(arguments) == 1
        assert name in capsys.readouterr().err


def test_ls_into_a_program_that_stops_reading(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `nbreplay ls | head -1`."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    text = (kept / name_of(kept, "hello")).read_text(encoding="utf-8")
    value = json.loads(text)
    for command in (["ls"], ["show", value["key"], "--json"], ["--version"]):
        with subprocess.Popen(
            [sys.executable, "-c", SCRIPT, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            assert process.stderr.read() == b""
            assert process.wait(600) == 0


def test_show(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = name_of(kept, "hello")
    key = json.loads((kept / name).read_text(encoding="utf-8"))["key"]
    assert main(["show", key]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"{name}\n{key}\n")
    assert "\nuser\n  hello\n" in shown
    assert "take 1 of 1" in shown
    assert "answer 1 to: hello" in shown
    for way in (
        key[:12],
        key.removeprefix("k1:"),
        key.removeprefix("k1:")[:6],
        name,
        name.removesuffix(".json"),
        str(kept / name),
    ):
        assert main(["show", way]) == 0
        assert capsys.readouterr().out.splitlines()[1:] == shown.splitlines()[1:]
    assert main(["show", key, "--json"]) == 0
    assert capsys.readouterr().out == (kept / name).read_text(encoding="utf-8")


def test_show_what_is_not_there_or_not_clear(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "k1:0123456789"]) == 2
    told = capsys.readouterr().err
    assert "recording k1:0123456789 was not found in " in told
    assert "nbreplay ls lists the recordings" in told
    key = json.loads((kept / name_of(kept, "hello")).read_text(encoding="utf-8"))["key"]
    wrong = key[:-1] + ("0" if key[-1] != "0" else "1")
    assert main(["show", wrong]) == 2, "another key that begins alike"
    capsys.readouterr()
    assert main(["show", "chat-"]) == 2
    told = capsys.readouterr().err
    assert name_of(kept, "hello") in told
    assert name_of(kept, "bye") in told


def test_show_every_take_and_its_times(capsys: pytest.CaptureFixture[str]) -> None:
    body = {"model": "test", "messages": said("hello"), "stream": True}
    with Provider() as provider, nr.session("recordings", mode="record"), http.Client() as client:
        for _ in range(2):
            client.post(f"{provider.url}/chat/completions", json=body)
    assert main(["show", "chat-"]) == 0
    shown = capsys.readouterr().out
    assert shown.index("answer 1 to: hello") < shown.index("take 2 of 2") < shown.index("answer 2 to: hello")
    assert shown.count("first token") == 2


def test_diff(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hello, bye = name_of(kept, "hello"), name_of(kept, "bye")
    assert main(["diff", hello, hello]) == 0
    assert capsys.readouterr().out.endswith("the requests are the same\nthe answers are the same\n")
    assert main(["diff", hello, bye]) == 1
    out = capsys.readouterr().out
    assert "messages[0].content\n  a  [-hello-]\n  b  {+bye+}\n\nthe answers differ\n" in out
    assert main(["diff", hello, bye, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told == {"request": [{"path": "messages[0].content", "a": '"hello"', "b": '"bye"'}], "same_answers": False}


def test_diff_of_stores(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(kept, "other")
    assert main(["diff", str(kept), "other"]) == 0
    assert capsys.readouterr().out.endswith("2 same, 0 changed, 0 only in a, 0 only in b\n")
    recorded(Path("other"), "hello", "more")
    (kept / name_of(kept, "bye")).rename("bye.json")
    assert main(["diff", str(kept), "other"]) == 1
    text = capsys.readouterr().out
    assert f"changed    {name_of(kept, 'hello')}" in text
    assert f"only in b  {name_of(Path('other'), 'more')}" in text
    assert "\n0 same, 1 changed, 0 only in a, 2 only in b\n" in text
    assert main(["diff", str(kept), "other", "--json"]) == 1
    rows = json.loads(capsys.readouterr().out)
    assert rows["changed"] == [name_of(kept, "hello")]


def test_diff_of_stores_with_a_corrupt_file(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be read is not the same."""
    shutil.copytree(kept, "other")
    name = name_of(kept, "hello")
    for store in (kept, Path("other")):
        (store / name).write_text("{")
    assert main(["diff", str(kept), "other"]) == 1
    assert name in capsys.readouterr().err


EVIL = "\x1b[31mred\x1b]0;title\x07 \x08 \r over \u202egnirts \x9b2J"


def test_what_a_recording_says_is_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    store = Path("recordings")
    recorded(store, EVIL)
    (name,) = [path.name for path in store.glob("chat-*")]
    # The host, the model, the key of a member: whatever a stranger can write.
    text = (store / name).read_text(encoding="utf-8")
    value = json.loads(text)
    value["takes"][0]["host"] = value["takes"][0]["recorded_at"] = EVIL
    (store / name).write_text(json.dumps(value), encoding="utf-8")
    recorded(store, "hello")
    other = name_of(store, "hello")
    for arguments in (["ls"], ["show", name], ["diff", name, other]):
        main(arguments)
        told = capsys.readouterr()
        assert not set(told.out + told.err) & set("\x1b\x07\x08\r\u202e\x9b"), arguments
        assert "\\u001b[31mred" in told.out + told.err
    for arguments in (["ls", "--json"], ["show", name, "--json"], ["diff", name, other, "--json"]):
        main(arguments)
        told = capsys.readouterr()
        assert not set(told.out) & set("\x1b\x07\x08\r"), arguments
        json.loads(told.out)


def test_a_file_name_is_shown_and_not_obeyed(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (kept / "chat-\x1b[31m0123456789abcdef.json").write_text("{}")
    main(["ls"])
    told = capsys.readouterr()
    assert "\x1b" not in told.out + told.err
    main(["show", "\x1b[31m"])
    assert "\x1b" not in capsys.readouterr().err


def test_run(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    answers = recorded(tmp_path / "nb" / "recordings", "hello")
    good = notebook(tmp_path / "nb" / "good.ipynb", ASK, "ask()")
    bad = notebook(tmp_path / "nb" / "bad.ipynb", ASK, f"ask({EVIL!r})")
    assert main(["run", str(tmp_path / "nb"), "-n", "2", "--update"]) == 1
    told = capfd.readouterr()
    assert f"FAIL  {bad}\n      cell 2 (ask(" in told.out
    assert f"ok    {good} · outputs stored\n" in told.out
    assert "\n      cell 2 (ask(" in told.out
    assert "no recorded answer for this chat test call" in told.out
    assert told.out.endswith("1 of 2 notebooks failed\nnbreplay: 1 replayed, 0 recorded, 1 missing\n")
    assert "\x1b" not in told.out
    assert not told.err
    assert answers["hello"] in good.read_text()
    stored = bad.read_bytes(), good.read_bytes()
    assert main(["run", str(good), "--update", "--json"]) == 0
    (row,) = json.loads(capfd.readouterr().out)
    assert (row["notebook"], row["passed"], row["updated"]) == (str(good), True, False)
    assert row["counts"] == {"replayed": 1}
    assert row["calls"][0]["cell"] == "cell-1"
    assert (bad.read_bytes(), good.read_bytes()) == stored
    assert gone(tmp_path / "nb")


def test_run_records(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with Provider() as provider:
        path = notebook(Path("one.ipynb"), ASK, f"ask(url={provider.url!r})")
        monkeypatch.setenv("NBREPLAY_MODE", "auto")
        assert main(["run", "one.ipynb", "--update"]) == 0, "the environment's mode, where no other is given"
        assert "0 replayed, 1 recorded" in capsys.readouterr().out
        monkeypatch.delenv("NBREPLAY_MODE")
        assert main(["run", "one.ipynb", "--mode", "record"]) == 0
        assert "0 replayed, 1 recorded" in capsys.readouterr().out
        assert provider.hits == 2
    assert "answer 1 to: hello" in path.read_text()
    assert len(Store("recordings").names()) == 1


@pytest.mark.parametrize("environment", ["record", "auto", "off"])
def test_a_mode_that_contradicts_the_environment(
    environment: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = notebook(Path("one.ipynb"), ASK)
    monkeypatch.setenv("NBREPLAY_MODE", environment)
    assert main(["run", str(path), "--mode", "replay"]) == 2
    assert f"NBREPLAY_MODE is {environment}, and --mode is replay" in capsys.readouterr().err
    assert not Path("kernels").exists()


def test_a_mode_of_the_environment_that_does_not_exist(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook(Path("one.ipynb"), ASK)
    monkeypatch.setenv("NBREPLAY_MODE", "rplay")
    assert main(["run", "one.ipynb"]) == 2
    assert "NBREPLAY_MODE: unknown mode 'rplay'" in capsys.readouterr().err


def test_a_broken_notebook_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    Path("broken.ipynb").write_text("{")
    assert main(["run", "broken.ipynb"]) == 1
    told = capsys.readouterr().out
    assert "FAIL  broken.ipynb" in told
    assert "broken.ipynb as a notebook" in told
    assert main(["run", "broken.ipynb", "--json"]) == 1
    assert not json.loads(capsys.readouterr().out)[0]["passed"]


@pytest.mark.full
def test_a_run_that_is_interrupted_leaves_no_traceback(tmp_path: Path) -> None:
    notebook(tmp_path / "slow.ipynb", "import time\nopen('started', 'w').close()\ntime.sleep(60)")

    def interrupt(terminal: int) -> None:
        while not (tmp_path / "started").exists():
            time.sleep(0.05)
        os.write(terminal, b"\x03")

    command = [sys.executable, "-c", f"import signal; signal.signal(2, signal.default_int_handler); {SCRIPT}"]
    output, status = run_in_terminal([*command, "run", "slow.ipynb"], 80, tmp_path, meanwhile=interrupt)
    assert status == 130
    assert Screen(output.replace("\r\n", "\n")).text.endswith("nbreplay:\x1b[0m interrupted")
    assert "Traceback" not in output
