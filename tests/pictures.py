"""Pictures of the command line: ``python -m tests.pictures FOLDER [NAME…]``.

Each command of `PICTURES` runs in a real terminal of 80 and of 120 columns, in a folder with a store and notebooks, and
what it prints is written as SVG, on a light and on a dark background. It is for looking at, not a test.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import shlex
import shutil
import struct
import sys
import tempfile
import termios
from collections.abc import Callable, Sequence
from pathlib import Path

import nbformat
from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME, SVG_EXPORT_THEME
from rich.text import Text

import nbreplay as nr
from nbreplay.core.store.store import Store
from nbreplay.formats.registry import import_files
from tests.clients import http, said
from tests.provider import Provider
from tests.testing.making import ASK, notebook, recorded

__all__ = ["PICTURES", "Screen", "run_in_terminal"]

ROOT = Path(__file__).parent.parent
HELP = ["run", "adopt", "trim", "ls", "show", "diff", "check", "verify", "import", "export"]

PICTURES: dict[str, str] = {
    "start": "nbreplay",
    **{f"help-{name}": f"nbreplay {name} --help" for name in HELP},
    # recordings
    "ls": "nbreplay ls",
    "ls-by": "nbreplay ls --by notebook",
    "ls-by-model": "nbreplay ls --by model",
    "ls-text": "nbreplay ls --text tokyo --sort size",
    "ls-zip": "nbreplay ls recordings.zip",
    "show": "nbreplay show {chat}",
    "show-raw": "nbreplay show {chat} --raw",
    "show-tool": "nbreplay show {tool}",
    "show-embedding": "nbreplay show embedding",
    "show-websocket": "nbreplay show {voice} --store voice",
    "show-several": "nbreplay show tool",
    "diff": "nbreplay diff {chat} {other}",
    "diff-stores": "nbreplay diff recordings other",
    "diff-notebooks": "nbreplay diff good.ipynb differs.ipynb",
    "verify": "nbreplay verify live --allow 127.0.0.1 --yes",
    "verify-dry": "nbreplay verify live --allow 127.0.0.1 --dry-run",
    "verify-nothing": "nbreplay verify",
    # notebooks
    "run": "nbreplay run good.ipynb",
    "run-failure": "nbreplay run good.ipynb differs.ipynb missing.ipynb error.ipynb",
    "run-mask": "nbreplay run masks.ipynb",
    "trim": "nbreplay trim good.ipynb",
    "check": "nbreplay check recordings good.ipynb",
    "check-secret": "nbreplay check leak.ipynb",
    "adopt": "nbreplay adopt plain.ipynb",
    # exchange
    "import": "nbreplay import cassettes --store imported",
    "import-websockets": "nbreplay import voice.yaml --store heard",
    "import-nothing": "nbreplay import good.ipynb",
    "export": "nbreplay export --format zip out.zip",
    # wrong usage
    "wrong-command": "nbreplay chekc",
    "wrong-option": "nbreplay run good.ipynb --updat --jsn",
    "wrong-choice": "nbreplay run good.ipynb --mode recrod",
    "wrong-missing": "nbreplay show",
    "wrong-store": "nbreplay ls nowhere",
    "wrong-key": "nbreplay show chat-zzz",
    "wrong-format": "nbreplay export --format parket out",
    "completion": "nbreplay completion tcsh",
    "wrong-file": "nbreplay run godo.ipynb",
    "wrong-notebook": "nbreplay run nowhere.ipynb",
}
"""Commands by the name of their picture. ``{chat}``, ``{other}`` and ``{tool}`` are recordings of the store."""

TOKEN = re.compile(r"\x1b\[(?P<n>[\d;?]*)(?P<code>[A-Za-z])|\r|(?P<newline>\n)|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")


class Screen:
    """The lines of a terminal, after what programs such as a progress bar have erased."""

    def __init__(self, output: str) -> None:
        self.lines, self.row = [""], 0
        place = 0
        for match in TOKEN.finditer(output):
            self.lines[self.row] += output[place : match.start()]
            place = match.end()
            if match["newline"]:
                self.row += 1
                if self.row == len(self.lines):
                    self.lines.append("")
            elif match["code"] == "m":
                self.lines[self.row] += match.group()
            elif match["code"] == "K":
                self.lines[self.row] = ""
            elif match["code"] == "A":
                self.row = max(0, self.row - int(match["n"] or 1))
        self.lines[self.row] += output[place:]

    @property
    def text(self) -> str:
        """What is on it, with its colours."""
        return "\n".join(self.lines).strip("\n")


def run_in_terminal(
    command: Sequence[str], columns: int, folder: Path, meanwhile: Callable[[int], object] = lambda _: None
) -> tuple[str, int]:
    """Run a command in a terminal; return what it printed, as it was sent, and its exit status.

    `meanwhile` gets the terminal, to type something.
    """
    child, terminal = pty.fork()
    if not child:
        os.chdir(folder)
        os.environ.update({"TERM": "xterm-256color", "COLORTERM": "truecolor"})
        for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "JPY_PARENT_PID"):
            os.environ.pop(name, None)
        os.read(0, 1)  # until it has its size
        os.execvp(command[0], command)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    os.write(terminal, b"\n\n")  # the second one answers a question
    meanwhile(terminal)
    output = b""
    with contextlib.suppress(OSError):  # Linux raises one at the end
        while data := os.read(terminal, 65536):
            output += data
    os.close(terminal)
    _, status = os.waitpid(child, 0)
    return output.decode(errors="replace").removeprefix("\r\n"), os.waitstatus_to_exitcode(status)


def fill(folder: Path, provider: Provider) -> dict[str, str]:
    """Put the stores and the notebooks into a folder; return the names of the recordings."""
    shutil.copytree(ROOT / "recordings", folder / "recordings", ignore=shutil.ignore_patterns(".nbreplay"))
    shutil.make_archive(str(folder / "recordings"), "zip", folder / "recordings")
    recorded(folder / "recordings", "hello", "Which city is the capital of Japan?")
    recorded(folder / "other", "hello", "and another")
    with nr.session(folder / "live", mode="record"), http.Client() as client:
        for text in ("hello", "What is the capital of Japan?"):
            client.post(f"{provider.url}/chat/completions", json={"model": "test", "messages": said(text)})
    (folder / "pyproject.toml").write_text("")
    first = {"output_type": "stream", "name": "stdout"}
    notebook(folder / "good.ipynb", ASK, "print(len(ask()))")
    differs = notebook(folder / "differs.ipynb", ASK, "answer = ask()\nprint('The model says:')\nprint(answer)")
    masks = notebook(folder / "masks.ipynb", ASK, "import datetime\nprint(ask())\nprint(datetime.datetime.now())")
    for path, text in (
        (differs, "The model says:\nHello there!\n"),
        (masks, "answer 1 to: hello\n2026-11-01 12:00:00.5\n"),
    ):
        add_output(path, {**first, "text": text})
    notebook(folder / "missing.ipynb", ASK, "print(ask('Which city is the capital of France?'))")
    notebook(folder / "error.ipynb", ASK, "text = ask()\nprint(text.uper())")
    notebook(folder / "leak.ipynb", 'key = "sk-proj-' + "Ab3dEf6hIj9kLm2nOp5qRs8tUv1wXy4z" * 2 + '"')
    (folder / "cassettes").mkdir()
    (folder / "cassettes" / "broken.yaml").write_text("interactions: [{}]")
    notebook(folder / "plain.ipynb", "import time\nprint(time.time())")
    shutil.copy(ROOT / "tests" / "formats" / "websockets.yaml", folder / "voice.yaml")
    import_files(folder / "voice.yaml", Store(folder / "voice"))
    voice = min(path.stem for path in (folder / "voice").glob("websocket-*.json"))
    names = sorted(path.name for path in (folder / "recordings").glob("*.json"))
    chats = [name.removesuffix(".json") for name in names if name.startswith("chat")]
    tool = next(name.removesuffix(".json") for name in names if name.startswith("tool"))
    return {"chat": chats[0], "other": chats[1], "tool": tool, "voice": voice}


def add_output(path: Path, output: dict[str, str]) -> None:
    """Store an output of the last cell of a notebook."""
    node = nbformat.read(path, 4)
    node.cells[-1].outputs = [nbformat.from_dict(output)]
    nbformat.write(node, path)


def draw(command: str, output: str, columns: int, path: Path) -> None:
    """Write a light and a dark picture of a command and its output."""
    for name, theme in (("light", DEFAULT_TERMINAL_THEME), ("dark", SVG_EXPORT_THEME)):
        console = Console(width=columns, record=True, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115
        console.print(Text(f"$ {command}", "bold"))
        console.print(Text.from_ansi(output))
        title = f"{columns} columns"
        console.save_svg(str(path.with_name(f"{path.name}-{columns}-{name}.svg")), title=title, theme=theme)


def main(arguments: Sequence[str]) -> None:
    """Draw the pictures into a folder; of some names, those that begin with one."""
    target, *names = arguments
    Path(target).mkdir(parents=True, exist_ok=True)
    program = Path(sys.executable).with_name("nbreplay")
    for columns in (80, 120):
        with tempfile.TemporaryDirectory() as folder, Provider() as provider:
            recordings = fill(Path(folder), provider)
            for name, command in PICTURES.items():
                if names and not name.startswith(tuple(names)):
                    continue
                command = command.format(**recordings)
                words = [str(program) if word == "nbreplay" else word for word in shlex.split(command)]
                output, status = run_in_terminal(words, columns, Path(folder))
                print(f"{name:<16} {columns:>4} columns   exit status {status}")
                draw(command, Screen(output.replace("\r\n", "\n")).text, columns, Path(target) / name)


if __name__ == "__main__":
    main(sys.argv[1:])
