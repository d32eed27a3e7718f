"""Each block of code in README and in the pages of the site does what the page says, or says why it is not run."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
import yaml
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient

from tests.docs.blocks import PARSED, PRELUDE, PROSE, ROOT, RUN, Block, blocks, pages
from tests.provider import Provider

BLOCKS = [block for page in pages() for block in blocks(page)]
CODE = [block for block in BLOCKS if block.language not in PROSE]
RUNNING = [page for page in pages() if any(block.language in RUN and not block.not_run for block in blocks(page))]
EXTRAS = set(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"])

PIP = """#!/bin/sh
# Stands for pip: every package is there already.
exit 0
"""


def code_of(block: Block) -> str:
    """The block as a cell of IPython."""
    if block.language in ("python", "ipython"):
        return block.text
    if block.language == "pycon":
        return "\n".join(line[4:] for line in block.text.splitlines() if line[:4].strip() in (">>>", "..."))
    return "%%bash\nset -euo pipefail\n" + shell(block)


def shell(block: Block) -> str:
    """The commands of a block: of a console, those behind a prompt, with the lines that go on with them."""
    if block.language != "console":
        return block.text
    lines: list[str] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            lines.append(line[2:])
        elif lines and lines[-1].endswith("\\"):
            lines.append(line)
    return "\n".join(lines)


@pytest.mark.parametrize("block", CODE, ids=str)
def test_a_block_can_be_read(block: Block) -> None:
    if block.language in ("sh", "bash", "console"):
        subprocess.run(["bash", "-n"], input=shell(block), text=True, check=True, timeout=60)
    elif block.language in ("python", "ipython", "pycon"):
        text = TransformerManager().transform_cell(code_of(block))
        compile(text, str(block), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    elif block.language in PARSED:
        {"toml": tomllib.loads, "yaml": yaml.safe_load, "json": json.loads}[block.language](block.text)
    else:
        assert block.not_run, f"nothing runs {block.language}. Say why before the block: <!-- not run: why -->"


def test_an_extra_that_a_page_names_exists() -> None:
    for page in pages():
        for names in re.findall(r"(?:nbreplay|\.)\[([a-z0-9, -]+)\]", page.read_text("utf-8")):
            assert {name.strip() for name in names.split(",")} <= EXTRAS, f"{page.name}: [{names}]"


@pytest.fixture
def project(tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with recordings, notebooks in ``notebooks``, ``examples`` and ``docs``, a key, and an API."""
    folder = tmp_path / "project"
    shutil.copytree(ROOT / "recordings", folder / "recordings", ignore=shutil.ignore_patterns(".nbreplay"))
    shutil.copytree(folder / "recordings", folder / "recordings-october")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    for name in ("examples", "docs"):
        (folder / name).mkdir()
        shutil.copy(ROOT / "notebooks" / "01_quickstart.ipynb", folder / name / "chat.ipynb")
    shutil.copy(ROOT / "notebooks" / "01_quickstart.ipynb", folder / "my_notebook.ipynb")
    (folder / "pyproject.toml").write_text("[tool.nbreplay]\n")
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("pip", "uv"):
        (programs / name).write_text(PIP)
        (programs / name).chmod(0o755)
    paths = (str(programs), os.path.dirname(sys.executable), os.environ["PATH"])
    monkeypatch.setenv("PATH", os.pathsep.join(paths))
    for name, value in {"AUTHOR": "A Reader", "COMMITTER": "A Reader"}.items():
        monkeypatch.setenv(f"GIT_{name}_NAME", value)
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "reader@example.org")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True, timeout=60)
    subprocess.run(["git", "add", "-A"], cwd=folder, check=True, timeout=60)
    subprocess.run(["git", "commit", "-qm", "x"], cwd=folder, check=True, timeout=60)
    monkeypatch.setenv("OPENAI_BASE_URL", provider.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-reader")
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", raising=False)
    return folder


@pytest.mark.full
@pytest.mark.parametrize("page", RUNNING, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_blocks_of_a_page_run(page: Path, project: Path) -> None:
    running = [block for block in blocks(page) if block.language in RUN and not block.not_run]
    running.insert(0, Block(page, 0, "python", PRELUDE))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code_of(block)) for block in running])
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(project)}}, allow_errors=True
    )
    client.execute()
    failed = list(failures(running, notebook))
    assert not failed, "\n\n".join(failed)


def failures(running: list[Block], notebook: nbformat.NotebookNode) -> Iterator[str]:
    """Each block that failed, with what it wrote."""
    for block, cell in zip(running, notebook.cells, strict=True):
        errors = [output for output in cell.outputs if output.output_type == "error"]
        if errors:
            written = "".join(output.text for output in cell.outputs if output.output_type == "stream")
            yield f"{block}\n{block.text}{written}\n{errors[0].ename}: {errors[0].evalue}"
