"""Modes and options, and the defaults of ``[tool.nbreplay]``, ``NBREPLAY_MODE`` and ``NBREPLAY_STORE``."""

from __future__ import annotations

import enum
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from nbreplay.errors import OptionError

_LINE = 100
_URL = re.compile(r"(https?):/{1,2}(?=[^/])", re.IGNORECASE)


ModeName = Literal["auto", "replay", "record", "off", "on", "live", "record-if-missing"]
"""The names of the modes. ``on`` and ``record-if-missing`` are ``auto``, and ``live`` is ``off``."""


class Mode(enum.Enum):
    """The way in which a session answers a request."""

    OFF = "off"
    RECORD = "record"
    REPLAY = "replay"
    AUTO = "auto"

    @classmethod
    def of(cls, name: str | Mode) -> Mode:
        """Return the mode called `name`; raise `OptionError` for any other name."""
        try:
            return cls(_OTHER_NAMES.get(str(name), name))
        except ValueError:
            names = ", ".join([mode.value for mode in cls] + sorted(_OTHER_NAMES))
            raise OptionError(f"unknown mode {name!r}. The modes are {names}") from None


_OTHER_NAMES = {"live": "off", "on": "auto", "record-if-missing": "auto"}


def forced_mode() -> Mode | None:
    """Return the mode that ``NBREPLAY_MODE`` forces on everything, or None; raise `OptionError` for a wrong one."""
    name = os.environ.get("NBREPLAY_MODE")
    try:
        return Mode.of(name) if name else None
    except OptionError as error:
        raise OptionError(f"NBREPLAY_MODE: {error}") from None


def mode_of_run(name: str | None, option: str) -> Mode | None:
    """Return the mode that ``NBREPLAY_MODE`` or the command line forces on all that is run, or None.

    `name` is the value of `option`, such as ``--mode``; raise `OptionError` where the two contradict each other.
    """
    forced = forced_mode()
    mode = None if name is None else Mode.of(name)
    if forced is not None and mode not in (None, forced):
        raise OptionError(f"NBREPLAY_MODE is {forced.value}, and {option} is {name}. Remove one of them")
    return forced or mode


class Options(msgspec.Struct, frozen=True):
    """How a session treats requests."""

    mode: Mode = Mode.AUTO
    speed: float | None = None  # replays keep the recorded pace, divided by this; None replays at once
    ignore: tuple[str, ...] = ()  # see `nbreplay.core.request.rules.Normaliser`
    mask: tuple[str, ...] = ()
    only: tuple[str, ...] = ()  # hosts to record and replay; empty for all
    allow: tuple[str, ...] = ()  # ``HOST``, ``HOST:PORT`` or paths of Unix sockets that replay lets through, live
    allow_children: bool = False  # whether replay lets child processes start that are known network clients

    @classmethod
    def of(cls, **options: Any) -> Options:
        """Return options from a user's values; None stands for the default. Raise `OptionError` for a wrong one."""
        return cls().with_(**options)

    def with_(self, **options: Any) -> Options:
        """Return these options with others; None leaves one as it is. Raise `OptionError` for a wrong one."""
        if unknown := [name for name in options if name not in _PARSERS]:
            raise OptionError(f"unknown option {unknown[0]!r}. The options are {', '.join(sorted(_PARSERS))}")
        changes = {name: _PARSERS[name](name, value) for name, value in options.items() if value is not None}
        return msgspec.structs.replace(self, **changes)


def _parse_speed(name: str, value: Any) -> float | None:
    try:
        speed = float(value)
    except (TypeError, ValueError):
        speed = -1.0
    if not speed >= 0:
        raise OptionError(
            f"{name} must be a positive number such as 1 (as recorded) or 4 (four times as fast), not {value!r}"
        )
    return speed if 0 < speed < float("inf") else None  # 0 and infinity both mean: do not wait


def parse_flag(name: str, value: Any) -> bool:
    """Return a value that must be true or false; raise `OptionError` where it is not."""
    if not isinstance(value, bool):
        raise OptionError(f"{name} must be true or false, not {value!r}")
    return value


def parse_strings(name: str, value: Any) -> tuple[str, ...]:
    """Return the strings of a value, one or more and none empty; raise `OptionError` where it holds others."""
    strings = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str | Mapping) else (value,)
    if not all(isinstance(item, str) and item for item in strings):
        raise OptionError(f"{name} must be a string or a list of strings, not {value!r}")
    return strings


_PARSERS: dict[str, Callable[[str, Any], Any]] = {
    "mode": lambda _, value: Mode.of(value),
    "speed": _parse_speed,
    **dict.fromkeys(("ignore", "mask", "only", "allow"), parse_strings),
    "allow_children": parse_flag,
}


class Project(msgspec.Struct, frozen=True):
    """The defaults of ``[tool.nbreplay]``."""

    options: Options = Options()
    store: Path | str | None = None  # an address is a str, since a Path would change it
    durable: bool = False
    isolated: bool = False  # the defaults of options of ``nbreplay run``
    fast_sleep: bool = False
    skip_installs: bool = False
    view: str | None = None  # the default of ``--view``
    # The table ``[tool.nbreplay.outputs]``, unchecked: `nbreplay.testing.outputs.sanitise.Rules` reads it.
    outputs: Mapping[str, Any] = msgspec.field(default_factory=dict)
    file: Path | None = None  # the pyproject.toml


def project(folder: str | os.PathLike[str] = ".") -> Project:
    """Return the defaults of the project that `folder` is in; raise `OptionError` where its file has a wrong one."""
    for parent in _upwards(Path(folder)):
        path = parent / "pyproject.toml"
        if path.is_file():
            return _read_project(path)
    return Project()


_FLAGS = ("durable", "fast_sleep", "isolated", "skip_installs")


def _read_project(path: Path) -> Project:
    import tomllib

    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {}).get("nbreplay", {})
    except (OSError, ValueError) as error:
        raise OptionError(f"{path} cannot be read: {error}") from None
    settings = dict(table) if isinstance(table, dict) else {"nbreplay": table}
    store, view = settings.pop("store", None), settings.pop("view", None)
    outputs = settings.pop("outputs", {})
    try:
        if store is not None and not isinstance(store, str):
            raise OptionError(f"store must be a path, not {store!r}")
        if not isinstance(outputs, dict):
            raise OptionError(f"outputs must be a table, [tool.nbreplay.outputs], not {outputs!r}")
        flags = {name: parse_flag(name, settings.pop(name, False)) for name in _FLAGS}
        folder = store if is_url(store) else path.parent / store if store else None
        return Project(Options.of(**settings), folder, view=view, outputs=outputs, file=path, **flags)
    except OptionError as error:
        raise OptionError(f"{path}, [tool.nbreplay]: {error}") from None


def format_setting(name: str, values: Iterable[str]) -> str:
    """Return the line of pyproject.toml that sets a list of texts, or several lines if it would be long."""
    texts = list(map(_format_text, values))
    line = f"{name} = [{', '.join(texts)}]"
    return line if len(line) <= _LINE else "\n".join((f"{name} = [", *(f"    {text}," for text in texts), "]"))


def _format_text(text: str) -> str:
    # Single quotes keep backslashes, of which regular expressions have many.
    is_literal = text.isprintable() and "'" not in text
    return f"'{text}'" if is_literal else json.dumps(text).replace("\x7f", "\\u007f")


def default_store(folder: str | os.PathLike[str] = ".", defaults: Project | None = None) -> Path | str:
    """Return the store where none is named: the environment's, the project's, the nearest, or a new one."""
    if name := os.environ.get("NBREPLAY_STORE"):
        return name if is_url(name) else Path(name)
    defaults = defaults or project(folder)
    if defaults.store is not None:
        return defaults.store
    for parent in _upwards(Path(folder)):
        if (parent / "recordings").is_dir():
            return parent / "recordings"
        if (parent / "pyproject.toml").is_file() or (parent / ".git").exists():
            break
    return Path(folder) / "recordings"


def describe_project_file(folder: str | os.PathLike[str] = ".") -> str:
    """Return the pyproject.toml to write a setting into, as a message names it.

    A new one beside the notebook would hide a store above it from `default_store`.
    """
    defaults = project(folder)
    store = default_store(folder, defaults)
    neighbour = "the folder recordings" if isinstance(store, Path) and store.is_dir() else "the notebook"
    return str(defaults.file or f"a new pyproject.toml beside {neighbour}")


def is_url(store: object) -> bool:
    """Tell whether the name of a store is an address."""
    return isinstance(store, str | os.PathLike) and _URL.match(os.fspath(store)) is not None


def whole_url(store: str | os.PathLike[str]) -> str:
    """Return the address of a store with the double slash that a Path has reduced to one."""
    return _URL.sub(lambda match: f"{match[1].lower()}://", os.fspath(store), count=1)


def _upwards(folder: Path) -> list[Path]:
    folder = folder.resolve()
    return [folder, *folder.parents]
