"""Modes, options, projects and where recordings lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from nbreplay.core.config import Mode, Options, Project, default_store, forced_mode, project
from nbreplay.errors import OptionError


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("off", Mode.OFF),
        ("live", Mode.OFF),
        ("record", Mode.RECORD),
        ("replay", Mode.REPLAY),
        ("auto", Mode.AUTO),
        ("on", Mode.AUTO),
        ("record-if-missing", Mode.AUTO),
        (Mode.RECORD, Mode.RECORD),
    ],
)
def test_modes_have_other_names(name: str | Mode, mode: Mode) -> None:
    assert Mode.of(name) is mode


@pytest.mark.parametrize("name", ["", "Replay", "none", None, 1, "record_if_missing"])
def test_a_mode_that_is_none_is_refused_and_those_there_are_named(name: Any) -> None:
    with pytest.raises(OptionError, match="record-if-missing") as error:
        Mode.of(name)
    assert isinstance(error.value, ValueError)


def test_the_environment_forces_a_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    assert forced_mode() is None
    monkeypatch.setenv("NBREPLAY_MODE", "")
    assert forced_mode() is None
    monkeypatch.setenv("NBREPLAY_MODE", "live")
    assert forced_mode() is Mode.OFF
    monkeypatch.setenv("NBREPLAY_MODE", "raplay")
    with pytest.raises(OptionError, match="NBREPLAY_MODE"):
        forced_mode()


def test_options_have_defaults_and_leave_what_is_not_given() -> None:
    assert Options.of() == Options(Mode.AUTO, None, (), (), (), ())
    made = Options.of(mode="replay", speed=2, only="api.openai.com", mask=["a", "b"])
    assert made == Options(Mode.REPLAY, 2.0, (), ("a", "b"), ("api.openai.com",), ())
    assert made.with_(mode=None, speed=None, ignore=None) == made
    assert made.with_(mode="off").mode is Mode.OFF
    assert made.mode is Mode.REPLAY


@pytest.mark.parametrize(
    ("speed", "kept"), [(1, 1.0), ("4", 4.0), (0.5, 0.5), (0, None), (float("inf"), None), ("inf", None)]
)
def test_speeds(speed: Any, kept: float | None) -> None:
    assert Options.of(speed=speed).speed == kept


@pytest.mark.parametrize(
    "given",
    [
        {"speed": -1},
        {"speed": "fast"},
        {"speed": float("nan")},
        {"speed": []},
        {"only": [1]},
        {"only": 7},
        {"allow": [""]},
        {"ignore": {"a": 1}.values()},
        {"mode": "x"},
        {"store": "x"},
        {"view": "badge"},
    ],
)
def test_options_that_are_none_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=next(iter(given))):
        Options.of(**given)


def write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "pyproject.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_project_has_defaults(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    write(
        tmp_path,
        '[tool.nbreplay]\nstore = "tapes"\nmode = "replay"\nmask = "x"\nignore = ["a.b"]\n'
        'durable = true\nview = "off"\n[tool.nbreplay.outputs]\ntolerance = 0.5\n',
    )
    found = project(inner)
    assert found.store == tmp_path / "tapes"
    assert (found.options.mode, found.options.mask, found.options.ignore) == (Mode.REPLAY, ("x",), ("a.b",))
    assert found.durable
    assert found.view == "off"
    assert found.outputs == {"tolerance": 0.5}
    assert found.file == tmp_path / "pyproject.toml"
    assert Project().outputs == {}


def test_the_nearest_project_counts_whether_or_not_it_speaks_of_us(tmp_path: Path) -> None:
    write(tmp_path, '[tool.nbreplay]\nmode = "replay"\n')
    write(tmp_path / "inner", "[project]\nname = 'x'\n")
    assert msgspec.structs.replace(project(tmp_path / "inner"), file=None) == Project()


@pytest.mark.parametrize(
    "text",
    [
        "[tool.nbreplay]\nmode = 'rewind'",
        "[tool.nbreplay]\nmoode = 'off'",
        "[tool.nbreplay]\nstore = 7",
        "[tool.nbreplay]\nspeed = 'x'",
        "[tool.nbreplay]\ndurable = 'no'",
        "[tool.nbreplay]\noutputs = 'compare'",
        "[tool.nbreplay",
        "[tool]\nnbreplay = 'off'",
        "[tool]\nnbreplay = ['off']",
    ],
)
def test_a_project_that_says_what_is_not_understood_is_named(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(OptionError) as error:
        project(tmp_path)
    assert str(path) in str(error.value)


def test_a_project_that_is_not_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_bytes(b"\xff")
    with pytest.raises(OptionError, match=r"pyproject\.toml"):
        project(tmp_path)


def test_where_recordings_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "repo" / "docs" / "notebooks"
    here.mkdir(parents=True)
    (tmp_path / "recordings").mkdir()
    (tmp_path / "repo" / ".git").mkdir()
    # Nothing within the repository: a new folder; what lies outside is somebody else's.
    assert default_store(here) == here / "recordings"
    (tmp_path / "repo" / "recordings").mkdir()
    assert default_store(here) == tmp_path / "repo" / "recordings"
    (tmp_path / "repo" / "docs" / "recordings").mkdir()
    assert default_store(here) == tmp_path / "repo" / "docs" / "recordings"
    (here / "recordings").write_text("a file")
    assert default_store(here) == tmp_path / "repo" / "docs" / "recordings"
    # A project stops the search, and what it says goes before what is there.
    write(tmp_path / "repo" / "docs", "[project]\n")
    assert default_store(here) == tmp_path / "repo" / "docs" / "recordings"
    (tmp_path / "repo" / "docs" / "recordings").rmdir()
    assert default_store(here) == here / "recordings"
    write(tmp_path / "repo" / "docs", "[tool.nbreplay]\nstore = '../tapes'\n")
    assert default_store(here).resolve() == tmp_path / "repo" / "tapes"
    # The environment goes before everything.
    monkeypatch.setenv("NBREPLAY_STORE", str(tmp_path / "named"))
    assert default_store(here) == tmp_path / "named"


def test_the_working_directory_is_where_the_search_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x" / "recordings").mkdir(parents=True)
    (tmp_path / "x" / "y").mkdir()
    monkeypatch.chdir(tmp_path / "x" / "y")
    assert default_store().resolve() == tmp_path / "x" / "recordings"
