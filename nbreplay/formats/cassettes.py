"""VCR cassettes as plain data: YAML by a safe loader, JSON, TOML; within bounds."""

from __future__ import annotations

import importlib
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from nbreplay.errors import RecordingFormatError, UnsafeRecordingError
from nbreplay.formats.foreign_files import load_json, read_text, refused

__all__ = ["ENDINGS", "cassette_of"]

ENDINGS = (".yaml", ".yml", ".json", ".toml")
_MOST = 5_000_000  # values; YAML lets a short file stand for any number of them
_CHARACTERS = 64  # as many in a text count as one value more
_DEEPEST = 200


def cassette_of(path: Path) -> dict[str, Any]:
    """Return a cassette.

    Raises
    ------
    RecordingFormatError, UnsafeRecordingError
        Where the file is not a cassette; the message names it and the remedy.
    """
    text = read_text(path)
    # cassetter writes YAML into any file that is not TOML; JSON is nearly always YAML, too, and read faster as JSON.
    if path.suffix == ".toml":
        data = _toml(path, text)
        _measure(path, data, {}, 0)
    elif text.lstrip()[:1] in ("{", "["):
        data = load_json(path, text)
    else:
        data = _yaml(path, text)
    if isinstance(data, list) and data and isinstance(data[0], dict) and "request" in data[0]:
        raise refused(
            path, "it was written by vcrpy before 1.0: run vcrpy's own migration (python -m vcr.migration) on it first"
        )
    if not isinstance(data, dict) or not isinstance(data.get("interactions"), list):
        raise refused(path, "it has no list of 'interactions', so it is not a VCR cassette")
    version = data.get("version", 1)
    if version != 1 or isinstance(version, bool):
        raise refused(path, f"unknown cassette version {version!r} (1 is known)")
    if not all(isinstance(item, dict) for item in data["interactions"]):
        raise refused(path, "one of its interactions is not a mapping")
    return data


def _toml(path: Path, text: str) -> Any:
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise refused(path, "it is nested too deeply") from None
    except ValueError as error:
        raise refused(path, f"it is not TOML ({error})") from None


def _yaml(path: Path, text: str) -> Any:
    try:
        yaml: Any = importlib.import_module("yaml")
    except ImportError:
        raise RecordingFormatError(
            f"{path} cannot be imported: it is YAML, and PyYAML is not installed: pip install 'nbreplay[vcr]'"
        ) from None
    try:
        if "<<" in text and any(map(_merges, yaml.parse(text))):
            raise refused(path, "it merges mappings into others, which no cassette does", UnsafeRecordingError)
        data = yaml.load(text, _loader())
    except RecursionError:
        raise refused(path, "it is nested too deeply") from None
    except yaml.constructor.ConstructorError as error:
        raise refused(path, f"it is not plain data ({error.problem or error})", UnsafeRecordingError) from None
    except (yaml.YAMLError, ValueError) as error:
        raise refused(path, f"it is not YAML ({' '.join(str(error).split())[:200]})") from None
    _measure(path, data, {}, 0)
    return data


@cache
def _loader() -> Any:
    """Return PyYAML's safe loader, made to refuse a mapping that has a key twice: the first value would be lost.

    The one in Python: the faster one in C dies of deep nesting.
    """
    yaml: Any = importlib.import_module("yaml")

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            made = super().construct_mapping(node, deep)
            if len(made) < len(node.value):
                raise yaml.YAMLError(f"the mapping in line {node.start_mark.line + 1} has a key twice")
            return made

    return Loader


def _merges(event: Any) -> bool:
    return getattr(event, "value", "") == "<<" and not event.style


def _measure(path: Path, node: Any, known: dict[int, int], depth: int) -> int:
    """Return how many values there are, those that an alias repeats counted each time."""
    if isinstance(node, str | bytes):
        return 1 + len(node) // _CHARACTERS
    if not isinstance(node, dict | list | tuple | set):
        return 1
    if id(node) in known:
        size = known[id(node)]
    else:
        if depth > _DEEPEST:
            # A mapping that contains itself by an alias is deep without end.
            raise refused(path, "it is nested too deeply", UnsafeRecordingError)
        inner = (*node, *node.values()) if isinstance(node, dict) else node
        size = 1 + sum(_measure(path, item, known, depth + 1) for item in inner)
        known[id(node)] = size
    if size > _MOST:
        raise refused(path, f"its aliases expand to more than {_MOST} values", UnsafeRecordingError)
    return size
