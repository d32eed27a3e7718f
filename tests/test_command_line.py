"""The words of the command line: help, errors of wrong usage and the page of the docs, as files that are compared.

``python -m tests.test_command_line`` writes them again, for a look at the difference.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from nbreplay.cli.main import GROUPS, main, make_parser
from nbreplay.formats.registry import FORMATS
from tests.testing.making import recorded

ROOT = Path(__file__).parent.parent
GOLDEN = Path(__file__).parent / "golden"
PAGE = ROOT / "docs" / "command-line.md"
COMMANDS = [name for names in GROUPS.values() for name in names]
WRONG = """

chekc
fly
--verison
run
run a.ipynb --mode recrod
run a.ipynb --mode
run a.ipynb --updat=1
run a.ipynb --retry
run a.ipynb --jsn
run a.ipynb -n 0
run a.ipynb -n many
run a.ipynb --timeout
run a.ipynb -z
run a.ipynb -p city
run a.ipynb --times 2 --mode record
run a.ipynb --keep-errors
run nowhere.ipynb
run a.ipny
trim
trim a.ipynb --update
adopt
adopt a.ipynb --mode record
ls a b
ls nowhere
ls --by modle
ls --sort age
show
show chat-0000
diff
diff chat-0000
diff nowhere other
check nowhere
check --fx
verify nowhere
verify --allow
badge
badge nowhere.ipynb
badge other.txt
badge a.ipynb --repo here
badge a.ipynb --site here
lite
lite a.ipynb
lite nowhere.ipynb --output site
lite a.ipynb --output other.txt
lite a.ipynb --output site --url here
import
import nowhere
import a.ipynb --format har
export
export out
export out --format parket
export out --format zip --store nowhere
"""


def run(command: str) -> str:
    """Return a command, what it prints on each stream, and its exit status."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status: object = main(shlex.split(command))
        except SystemExit as ended:
            status = ended.code
    text = f"$ nbreplay {command}".rstrip() + "\n" + out.getvalue() + err.getvalue()
    return f"{text}exit status: {status}\n"


def make_texts() -> Iterator[tuple[Path, str]]:
    """Yield each file with what it should contain. The working directory has one notebook and no store."""
    with mock.patch.dict(os.environ, {"COLUMNS": "80"}):
        for name in ("", *COMMANDS):
            yield GOLDEN / f"{name or 'nbreplay'}.txt", run(f"{name} --help".strip())
        yield GOLDEN / "wrong-usage.txt", "\n".join(run(line) for line in WRONG.strip("\n").split("\n"))
    page = PAGE.read_text(encoding="utf-8")
    for name, rows in {"commands": _command_rows(), "statuses": _status_rows()}.items():
        start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        page = page.partition(start)[0] + start + "\n".join(rows) + "\n" + end + page.partition(end)[2]
    yield PAGE, page


def _command_rows() -> Iterator[str]:
    yield "| command | what it does | options |\n|---|---|---|"
    parser = make_parser()
    for name in COMMANDS:
        command = parser.commands[name]
        usage = command.format_usage().removeprefix("usage: ").replace("[OPTIONS] ", "").strip()
        options = [action.option_strings[-1] for action in command._actions if action.option_strings]
        listed = " ".join(f"`{option}`" for option in options if option != "--help")
        yield f"| `{_cell(usage)}` | {_cell((command.description or '').partition('. ')[0].rstrip('.'))} | {listed} |"


def _status_rows() -> Iterator[str]:
    yield "| command | 0 | 1 | 3 |\n|---|---|---|---|"
    parser = make_parser()
    for name in COMMANDS:
        statuses = " ".join((parser.commands[name].epilog or "").partition("exit status: ")[2].split())
        texts = dict(re.findall(r"(\d) (.+?)(?:, (?=\d )|$)", statuses))
        assert texts["2"].startswith("wrong usage")
        yield f"| `{name}` | {texts['0']} | {texts['1']} | {texts.get('3', '')} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _prepare() -> None:
    Path("a.ipynb").write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    Path("other").mkdir()
    Path("other.txt").touch()
    Path("pyproject.toml").touch()


def test_help_and_errors_are_those_of_the_files() -> None:
    _prepare()
    texts = dict(make_texts())
    different = [path for path, text in texts.items() if path.read_text(encoding="utf-8") != text]
    for path in different:
        assert texts[path].splitlines() == path.read_text(encoding="utf-8").splitlines(), path
    assert not different
    assert {path.name for path in GOLDEN.iterdir()} == {path.name for path in texts} - {PAGE.name}


def test_every_command_is_in_a_group_with_a_description_an_example_and_its_defaults() -> None:
    parser = make_parser()
    assert sorted(parser.commands) == sorted(COMMANDS)
    for name, command in parser.commands.items():
        assert command.description, name
        assert re.search(r"examples?:\n  \$ nbreplay", command.epilog or ""), name
        assert all(len(line) <= 80 for line in (GOLDEN / f"{name}.txt").read_text(encoding="utf-8").splitlines()), name
        assert "exit status: 0 " in (command.epilog or ""), name
        for action in command._actions:
            assert action.help, (name, action.dest)
            if action.option_strings and action.default not in (None, False, [], "==SUPPRESS=="):
                assert f"(default: {action.default}" in action.help, (name, action.dest)


@pytest.mark.parametrize(("command", "can"), [("import", "endings"), ("export", "write")])
def test_the_formats_are_those_of_the_registry(command: str, can: str) -> None:
    (option,) = [one for one in make_parser().commands[command]._actions if one.dest == "format"]
    known = {name for name, form in FORMATS.items() if getattr(form, can)}
    assert set(option.choices or ()) == known | ({"parquet"} if command == "export" else set())


@pytest.mark.parametrize(
    "command",
    [
        "ls",
        "ls --by kind",
        "show {key}",
        "diff recordings recordings",
        "check recordings",
        "export --format zip out.zip",
        "import foreign",
        pytest.param("run a.ipynb", marks=pytest.mark.full),
        pytest.param("trim a.ipynb", marks=pytest.mark.full),
    ],
)
def test_json_is_all_that_a_program_reads(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    _prepare()
    recorded(Path("recordings"), "hello")
    (path,) = Path("recordings").glob("chat-*.json")
    (Path("recordings") / "chat-0000000000000000.json").write_text("{")
    Path("foreign").mkdir()
    Path("foreign/cassette.json").write_text('{"version": 1, "interactions": []}')
    main([*command.format(key=path.stem).split(), "--json"])
    printed = capsys.readouterr()
    assert isinstance(json.loads(printed.out), list | dict)
    assert all(line.startswith("nbreplay: ") for line in printed.err.splitlines())


COMPLETIONS = {
    "nbreplay ru": "run",
    "nbreplay run --up": "--update",
    "nbreplay run --mode rec": "record",
    "nbreplay run a": "a.ipynb",
    "nbreplay ls --by mod": "model",
    "nbreplay ls oth": "other",
    "nbreplay show ch": "chat-3f2a9c81d04be77a",
    "nbreplay completion z": "zsh",
}
_BASH = """
source ./script
complete_line() {
  read -ra COMP_WORDS <<< "$1"
  COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
  _shtab_nbreplay 2>/dev/null
  printf '%s\\n' "${COMPREPLY[*]}"
}
"""


@pytest.mark.parametrize("shell", ["bash", "fish", "zsh"])
def test_a_shell_completes_commands_options_notebooks_and_keys(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed. apt-get install {shell}")
    _prepare()
    Path("recordings").mkdir()
    Path("recordings/chat-3f2a9c81d04be77a.json").touch()
    Path("recordings/chat-$(touch evil)`touch evil`.json").touch()
    assert main(["completion", shell]) == 0
    Path("script").write_text(capsys.readouterr().out, encoding="utf-8")
    if shell == "zsh":  # it completes on a terminal only
        subprocess.run(["zsh", "-n", "script"], check=True)
        return
    lines = "".join(f"complete_line '{line}'\n" for line in COMPLETIONS)
    if shell == "fish":
        lines = "source ./script\n" + "".join(
            f"complete -C '{line}' | string split -f 1 \\t | head -1\n" for line in COMPLETIONS
        )
    done = subprocess.run([shell, "-c", (_BASH if shell == "bash" else "") + lines], capture_output=True, text=True)
    assert dict(zip(COMPLETIONS, done.stdout.splitlines(), strict=True)) == {
        line: word + "/" * (word == "other" and shell == "fish") for line, word in COMPLETIONS.items()
    }
    assert not Path("evil").exists()


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        _prepare()
        GOLDEN.mkdir(exist_ok=True)
        for path, text in make_texts():
            path.write_text(text, encoding="utf-8")
