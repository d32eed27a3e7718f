"""What goes into a site, where it goes, and what is refused."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import nbformat
import pytest

from nbreplay.cli.main import main
from nbreplay.core.config import default_store, project
from nbreplay.errors import NbreplayError, OptionError
from nbreplay.lite.contents import Contents
from tests.testing.making import recorded

SECRET = "sk-proj-" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"


def write(path: str, *cells: str, language: str = "python") -> Path:
    """Write a notebook."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata["language_info"] = {"name": language}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return Path(path)


@pytest.fixture
def book() -> Path:
    """A notebook with a store beside its folder."""
    recorded(Path("recordings"), "hello")
    return write("notebooks/a.ipynb", "%load_ext nbreplay\n%replay on")


def copied(contents: Contents) -> set[str]:
    """Check the contents and copy them; return the paths of the files."""
    contents.check()
    contents.copy(Path("copy"))
    return {path.relative_to("copy").as_posix() for path in Path("copy").rglob("*") if path.is_file()}


def test_notebooks_and_the_members_of_their_store_keep_their_places(book: Path) -> None:
    (name,) = [path.name for path in Path("recordings").glob("*.json")]
    for other in ("recordings/notes.txt", "recordings/.env", "notebooks/private.csv"):
        Path(other).write_text("not for others")
    contents = Contents([book])
    assert copied(contents) == {"notebooks/a.ipynb", f"recordings/{name}"}
    assert Path("copy/recordings", name).read_bytes() == Path("recordings", name).read_bytes()


def test_files_that_a_notebook_names_and_modules_that_it_imports_come_along() -> None:
    recorded(Path("recordings"), "hello")
    recorded(Path("notebooks/other"), "hello")
    book = write(
        "notebooks/a.ipynb", "import helper, os\nopen('data/table.csv')", "%replay on other", "# ../.env x.txt"
    )
    for name in ("notebooks/data/table.csv", "notebooks/deeper.py", ".env", "outside.txt", "notebooks/unnamed.csv"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("1,2")
    Path("notebooks/helper.py").write_text("import deeper, requests")
    contents = Contents([book])
    files = copied(contents)
    assert {name for name in files if not name.endswith(".json")} == {
        *("notebooks/a.ipynb", "notebooks/data/table.csv", "notebooks/helper.py", "notebooks/deeper.py")
    }
    assert {os.path.dirname(name) for name in files if name.endswith(".json")} == {"recordings", "notebooks/other"}
    assert contents.modules == {"os": "a.ipynb", "requests": "helper.py"}


@pytest.mark.parametrize("zipped", [False, True], ids=["folder", "zip"])
def test_a_store_elsewhere_comes_to_the_root_and_is_found_there(zipped: bool, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    recorded(elsewhere, "hello")
    (name,) = [path.name for path in elsewhere.glob("*.json")]
    if zipped:
        with zipfile.ZipFile(tmp_path / "elsewhere.zip", "w") as archive:
            archive.write(elsewhere / name, name)
        elsewhere = tmp_path / "elsewhere.zip"
    Path("pyproject.toml").write_text(
        f'[project]\nname = "mine"\n[tool.nbreplay]\nstore = {str(elsewhere)!r}\nmask = ["x"]'
    )
    contents = Contents([write("notebooks/a.ipynb", "%replay on")])
    assert copied(contents) == {"notebooks/a.ipynb", f"recordings/{name}", "pyproject.toml"}
    assert "mine" not in Path("copy/pyproject.toml").read_text()
    assert project("copy/notebooks").options.mask == ("x",)
    assert Path(default_store("copy/notebooks")).resolve() == Path("copy/recordings").resolve()


def test_a_secret_in_a_notebook_a_recording_or_a_file_is_refused(book: Path) -> None:
    (recording,) = Path("recordings").glob("*.json")
    write("notebooks/b.ipynb", f"key = '{SECRET}'")
    Path("notebooks/keys.txt").write_text(f"key {SECRET}")
    write("notebooks/c.ipynb", "open('keys.txt')")
    for name, file in {"b": "notebooks/b.ipynb:", "c": "notebooks/keys.txt:1:"}.items():
        with pytest.raises(NbreplayError, match="no site was made: 1 secret would be published") as caught:
            Contents([Path(f"notebooks/{name}.ipynb")]).check()
        assert file in str(caught.value)
        assert SECRET not in str(caught.value)
    recording.write_text(recording.read_text().replace("hello", SECRET))
    with pytest.raises(NbreplayError, match=f"recordings/{recording.name}:"):
        Contents([book]).check()


def test_a_recording_that_leads_out_of_its_store_is_refused(book: Path, tmp_path: Path) -> None:
    (recording,) = Path("recordings").glob("*.json")
    shutil.move(recording, tmp_path / "private.json")
    recording.symlink_to(tmp_path / "private.json")
    with pytest.raises(NbreplayError, match="not a regular file"):
        Contents([book]).check()


def test_a_notebook_without_recordings_or_in_another_language_is_refused() -> None:
    with pytest.raises(OptionError, match=r"a.ipynb has no recordings: recordings is empty. Record them: nbreplay run"):
        Contents([write("a.ipynb", "1")])
    recorded(Path("recordings"), "hello")
    with pytest.raises(OptionError, match=r"b.ipynb is a notebook in julia, and the site has a kernel for Python"):
        Contents([write("b.ipynb", "1", language="julia")])


def test_a_folder_with_other_files_is_not_replaced(book: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("site").mkdir()
    Path("site/thesis.tex").write_text("mine")
    assert main(["lite", str(book), "--output", "site"]) == 2
    assert "site is not empty, and not a site of nbreplay lite. Name a new folder" in capsys.readouterr().err
    assert Path("site/thesis.tex").read_text() == "mine"


def test_what_must_be_installed_is_named(
    book: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "jupyterlite_core", None)
    monkeypatch.setitem(__import__("sys").modules, "jupyter_server", None)
    assert main(["lite", str(book), "--output", "site"]) == 2
    assert "is not installed. pip install 'nbreplay[lite]'" in capsys.readouterr().err
    assert not Path("site").exists()


def test_frames_are_known_to_be_needed(book: Path) -> None:
    recorded(Path("recordings"), "hello")
    loads = write("notebooks/b.ipynb", "import nbreplay as nr\nlib = nr.load('../recordings')")
    assert Contents([book, loads]).needs_frames == ["b.ipynb"]
