"""What a project and its environment say: ``[tool.nbreplay]``, ``NBREPLAY_MODE``, ``NBREPLAY_STORE``, and Mode."""

from __future__ import annotations

import enum
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import field, fields, replace
from pathlib import Path
from typing import Any

from nbreplay.core.frozen import frozen
from nbreplay.errors import OptionError

__all__ = [
    "AUTO",
    "OFF",
    "RECORD",
    "REPLAY",
    "Mode",
    "Options",
    "Project",
    "default_store",
    "forced_mode",
    "is_url",
    "mode_of_run",
    "project",
    "whole_url",
]

_URL = re.compile(r"(https?):/{1,2}(?=[^/])", re.IGNORECASE)


class Mode(enum.Enum):
    """What a session does with a request."""

    OFF = "off"
    RECORD = "record"
    REPLAY = "replay"
    AUTO = "auto"

    @classmethod
    def of(cls, name: str | Mode) -> Mode:
        """Return the mode called `name`.

        Raises
        ------
        OptionError
        """
        if isinstance(name, Mode):
            return name
        try:
            return cls(_OTHER_NAMES.get(str(name), name))
        except ValueError:
            names = ", ".join([mode.value for mode in cls] + sorted(_OTHER_NAMES))
            raise OptionError(f"there is no mode {name!r}; the modes are {names}") from None


# To look one up in its class takes as long as to call a function, and a call to a model asks for it seven times.
OFF, RECORD, REPLAY, AUTO = Mode
_OTHER_NAMES = {"live": "off", "on": "auto", "record-if-missing": "auto"}


def forced_mode() -> Mode | None:
    """Return the mode that ``NBREPLAY_MODE`` forces on everything, or None.

    Raises
    ------
    OptionError
    """
    name = os.environ.get("NBREPLAY_MODE")
    try:
        return Mode.of(name) if name else None
    except OptionError as error:
        raise OptionError(f"NBREPLAY_MODE: {error}") from None


def mode_of_run(given: str | None, option: str) -> Mode | None:
    """Return the mode that the environment or the command line forces on all that is run, or None.

    Parameters
    ----------
    given : str or None
        What the command line says.
    option : str
        By which option.

    Raises
    ------
    OptionError
        Where the two contradict each other.
    """
    forced = forced_mode()
    asked = None if given is None else Mode.of(given)
    if forced is not None and asked not in (None, forced):
        raise OptionError(f"NBREPLAY_MODE is {forced.value}, and {option} says {given}: take one of them away")
    return forced or asked


@frozen
class Options:
    """How a session treats requests.

    Attributes
    ----------
    mode : Mode
    speed : float or None
        Replays keep the recorded pace, divided by this; None replays at once.
    ignore, mask : tuple of str
        See `nbreplay.core.request.rules.Normaliser`.
    only : tuple of str
        Hosts to record and replay; empty for all.
    allow : tuple of str
        ``HOST`` or ``HOST:PORT`` that replay lets through, live; or the path of a Unix socket.
    allow_children : bool
        Whether replay lets child processes start that are known network clients.
    """

    mode: Mode = Mode.AUTO
    speed: float | None = None
    ignore: tuple[str, ...] = ()
    mask: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    allow_children: bool = False

    @classmethod
    def of(cls, **given: Any) -> Options:
        """Return options from what a user gave, checked; None stands for what was not given.

        Raises
        ------
        OptionError
        """
        return Options().with_(**given)

    def with_(self, **given: Any) -> Options:
        """Return these options with others, checked; None leaves one as it is.

        Raises
        ------
        OptionError
        """
        changes: dict[str, Any] = {}
        for name, value in given.items():
            if name not in _NAMES:
                raise OptionError(f"there is no option {name!r}; the options are {', '.join(sorted(_NAMES))}")
            if value is None:
                continue
            if name == "mode":
                changes[name] = Mode.of(value)
            elif name == "speed":
                changes[name] = _speed(value)
            elif name == "allow_children":
                changes[name] = _flag(name, value)
            else:
                changes[name] = _names(name, value)
        return replace(self, **changes)


_NAMES = frozenset(item.name for item in fields(Options))


def _speed(value: Any) -> float | None:
    try:
        speed = float(value)
    except (TypeError, ValueError):
        speed = -1.0
    if not speed >= 0:
        raise OptionError(
            f"speed is a positive number such as 1 (as recorded) or 4 (four times as fast), not {value!r}"
        )
    # 0 and infinity both mean: do not wait.
    return speed if 0 < speed < float("inf") else None


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise OptionError(f"{name} is true or false, not {value!r}")
    return value


def _names(name: str, value: Any) -> tuple[str, ...]:
    names = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, Iterable) else (value,)
    if not all(isinstance(item, str) and item for item in names):
        raise OptionError(f"{name} takes a text or a list of texts, not {value!r}")
    return names


@frozen
class Project:
    """The defaults of ``[tool.nbreplay]``.

    Attributes
    ----------
    options : Options
    store : Path or str or None
        An address is a str, which it is no longer as a Path.
    durable : bool
    view : str or None
        The default of ``--view``.
    outputs : mapping
        The table ``[tool.nbreplay.outputs]`` as it is written, which `nbreplay.testing.outputs.sanitise.Rules` reads.
    file : Path or None
        Where all of this is said.
    """

    options: Options = Options()
    store: Path | str | None = None
    durable: bool = False
    view: str | None = None
    outputs: Mapping[str, Any] = field(default_factory=dict, hash=False)
    file: Path | None = field(default=None, compare=False)


def project(folder: str | os.PathLike[str] = ".") -> Project:
    """Return the defaults of the project that `folder` is in.

    Raises
    ------
    OptionError
        Where its pyproject.toml says something that nbreplay does not know; the message names the file.
    """
    for parent in _upwards(Path(folder)):
        path = parent / "pyproject.toml"
        if path.is_file():
            return _read_project(path)
    return Project()


def _read_project(path: Path) -> Project:
    import tomllib

    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {}).get("nbreplay", {})
    except (OSError, ValueError) as error:
        raise OptionError(f"{path} cannot be read: {error}") from None
    given = dict(table) if isinstance(table, dict) else {"nbreplay": table}
    store, durable, view = given.pop("store", None), given.pop("durable", False), given.pop("view", None)
    outputs = given.pop("outputs", {})
    try:
        if store is not None and not isinstance(store, str):
            raise OptionError(f"store is a path, not {store!r}")
        if not isinstance(durable, bool):
            raise OptionError(f"durable is true or false, not {durable!r}")
        if not isinstance(outputs, dict):
            raise OptionError(f"outputs is a table, [tool.nbreplay.outputs], not {outputs!r}")
        where = store if is_url(store) else path.parent / store if store else None
        return Project(Options.of(**given), where, durable, view, outputs, path)
    except OptionError as error:
        raise OptionError(f"{path}, [tool.nbreplay]: {error}") from None


def default_store(folder: str | os.PathLike[str] = ".", known: Project | None = None) -> Path | str:
    """Return the store where none is named: the environment's, the project's, the nearest, or a new one."""
    named = os.environ.get("NBREPLAY_STORE")
    if named:
        return named if is_url(named) else Path(named)
    known = known or project(folder)
    if known.store is not None:
        return known.store
    for parent in _upwards(Path(folder)):
        if (parent / "recordings").is_dir():
            return parent / "recordings"
        if (parent / "pyproject.toml").is_file() or (parent / ".git").exists():
            break
    return Path(folder) / "recordings"


def is_url(store: object) -> bool:
    """Tell whether a store is named by an address."""
    return isinstance(store, str | os.PathLike) and _URL.match(os.fspath(store)) is not None


def whole_url(store: str | os.PathLike[str]) -> str:
    """Return the address of a store, whose double slash a Path has made a single one."""
    return _URL.sub(lambda match: f"{match[1].lower()}://", os.fspath(store), count=1)


def _upwards(folder: Path) -> list[Path]:
    folder = folder.resolve()
    return [folder, *folder.parents]
