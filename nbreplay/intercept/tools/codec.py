"""Results of tools as JSON or bytes, and back: as the class that the program names, never one that a file names."""

from __future__ import annotations

import base64
import builtins
import contextlib
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

from nbreplay.core.recording.json_text import encode_json
from nbreplay.errors import RecordedToolError, RecordingFormatError, ToolError

if TYPE_CHECKING:
    import pandas as pd


class _Unknown:
    def __repr__(self) -> str:
        return "<as annotated>"  # the default of `tool`, as its signature shows it


UNKNOWN: Any = _Unknown()
"""Stands for a type where nothing is annotated."""

_SCALARS = (str, int, float, bool, type(None))
_BUILTIN_ERRORS = {
    name: kind for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, Exception)
}
# Pandas' own types alone: some names stand for types of any size, or for files of time zones.
_DTYPES = re.compile(
    r"(?:u?int|U?Int|float|Float)\d*|bool|boolean|object|str|string(?:\[\w+\])?"
    r"|(?:datetime64|timedelta64)\[\w+(?:, (?!dateutil)[\w+:-]+(?:/[\w+-]+)*)?\]"
)


class Codec:
    """Turns what a tool returns or raises into JSON, and back.

    `name` is the tool's, for messages. `kind` is the type of its results, or `UNKNOWN`; raise `ToolError` if its values
    have no JSON form. Results of another type are handled as of the type `fallback`; if that is None, they are refused.
    Exceptions in `raises` are raised as themselves, as built-in ones are. `shapes` are other classes of results, each
    with its name in recordings.
    """

    def __init__(
        self,
        name: str,
        kind: Any,
        raises: tuple[type[Exception], ...],
        fallback: Any = None,
        shapes: tuple[tuple[str, Any], ...] = (),
    ) -> None:
        self.kind, self.raises, self._name = kind, raises, name
        self._errors = {error.__name__: error for error in raises}
        self._tags = {shape: tag for tag, shape in shapes}
        self._adapters = {"value": self._adapter(kind), **{tag: TypeAdapter(shape) for tag, shape in shapes}}
        if fallback is not None:
            self._adapters["plain"] = self._adapter(fallback)

    def _adapter(self, kind: Any) -> TypeAdapter[Any] | None:
        if kind is UNKNOWN or _is_frame(kind) or kind is Any:
            return None
        try:
            return TypeAdapter(kind)
        except Exception as error:  # pydantic raises several for types that it does not know
            raise ToolError(
                f"nbreplay cannot record the tool {self._name}: its return type {kind!r} has no JSON form "
                f"({type(error).__name__}). Name another type with returns=, such as a dataclass, a pydantic model or "
                "dict"
            ) from error

    def dump(self, value: Any) -> bytes:
        """Return a result as JSON. Raise `ToolError` if a replay would return something else."""
        if isinstance(value, bytes):
            return encode_json({"bytes": base64.b64encode(value).decode("ascii")}).encode()
        if _is_frame(type(value)):
            return self._verify({"frame": _dump_frame(value)}, value)
        if (tag := self._tags.get(type(value))) is not None:
            # First without unset fields, as it was received; one that a program made itself may need them all.
            forms = [(tag, True), (tag, False)]
        else:
            forms = [(tag, False) for tag in ("value", "plain") if tag in self._adapters]
        errors = []
        for tag, as_received in forms:
            try:
                return self._verify({tag: self._dump_value(self._adapters[tag], value, as_received)}, value)
            except ToolError as error:
                errors.append(error)
        raise errors[0]

    def _dump_value(self, adapter: TypeAdapter[Any] | None, value: Any, as_received: bool) -> Any:
        try:
            if adapter is not None:
                return adapter.dump_python(
                    value, mode="json", warnings="error", by_alias=as_received or None, exclude_unset=as_received
                )
            json.dumps(value, allow_nan=False)
        except (ValueError, TypeError) as error:
            raise self._refusal(value, str(error)) from error
        return value

    def _verify(self, data: dict[str, Any], value: Any) -> bytes:
        """Return the JSON of a value if loading it gives an equal value."""
        try:
            text = encode_json(data).encode()
            loaded = self.load(text)
        except (ValueError, TypeError, RecordingFormatError) as error:
            raise self._refusal(value, f"{type(error).__name__}: {error}") from error
        if not _equal(loaded, value):
            raise self._refusal(value, "a replay would return something else")
        return text

    def _refusal(self, value: Any, reason: str) -> ToolError:
        return ToolError(
            f"nbreplay cannot record the result of the tool {self._name} (type {type(value).__name__}): {reason}. "
            "Annotate its return type, or name it with @nbreplay.tool(returns=...)"
        )

    def load(self, text: bytes) -> object:
        """Return the result that JSON stands for, or raise the exception that it stands for.

        Raise `RecordingFormatError` if `dump` and `dump_exception` never return such JSON for this tool.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RecordingFormatError(f"the recorded result of a tool is not JSON ({error})") from None
        if not isinstance(data, dict) or len(data) != 1:
            raise RecordingFormatError(f"the recorded result of the tool {self._name} must have exactly one field")
        ((tag, value),) = data.items()
        try:
            if tag in self._adapters:
                adapter = self._adapters[tag]
                return value if adapter is None else adapter.validate_json(json.dumps(value))
            if tag == "bytes":
                return base64.b64decode(value, validate=True)
            if tag == "frame":
                return _load_frame(value)
        except Exception as error:  # from the data, or from a class of the program's
            raise RecordingFormatError(
                f"the recorded result of the tool {self._name} does not fit its return type: {error}"
            ) from error
        if tag == "exception":
            raise self._load_exception(value)
        raise RecordingFormatError(f"the recorded result of the tool {self._name} is of an unknown kind {tag!r}")

    def dump_exception(self, error: Exception) -> bytes:
        """Return an exception as JSON."""
        exact = all(type(value) in _SCALARS for value in error.args)
        data = {
            "type": type(error).__name__,
            "args": list(error.args) if exact else [str(error)],
            "text": str(error),
            "repr": repr(error),
        }
        base = next((kind.__name__ for kind in type(error).__mro__ if self._errors.get(kind.__name__) is kind), None)
        # A framework handles its own errors by class, so a subclass of one is raised as that.
        if base is not None and base != data["type"]:
            data["base"] = base
        try:
            return encode_json({"exception": data}).encode()
        except ValueError:  # NaN, or half of a surrogate pair, as in the name of a file
            return json.dumps({"exception": data}).encode()

    def _load_exception(self, data: Any) -> Exception:
        if not isinstance(data, dict) or not isinstance(data.get("type"), str):
            raise RecordingFormatError(f"the recorded exception of the tool {self._name} has no type")
        name, arguments = data["type"], data.get("args")
        kind = self._errors.get(name) or _BUILTIN_ERRORS.get(name) or self._errors.get(str(data.get("base", "")))
        if kind is not None and isinstance(arguments, list) and all(type(value) in _SCALARS for value in arguments):
            with contextlib.suppress(Exception):  # its parameters are not its `args`
                return kind(*arguments)
        return RecordedToolError(name, str(data.get("text", "")), str(data.get("repr", "")))


def dump_arguments(arguments: Mapping[str, Any], tool: str) -> dict[str, Any]:
    """Return a tool's arguments as JSON data, for the key. Raise `ToolError` if one has no JSON form."""
    data = {}
    for name, value in arguments.items():
        try:
            data[name] = to_jsonable_python(value, bytes_mode="base64", inf_nan_mode="strings")
        except ValueError:
            raise ToolError(
                f"the argument {name!r} of the tool {tool} (type {type(value).__name__}) has no JSON form, which the "
                f"key of a call needs. Leave it out with @tool(ignore=({name!r},)), or pass plain data"
            ) from None
    return data


def _equal(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if _is_frame(type(one)):
        return bool(one.equals(other)) and list(one.dtypes) == list(other.dtypes) and one.index.equals(other.index)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(_equal(one[name], other[name]) for name in one)
    return bool(one == other)


def _is_frame(kind: Any) -> bool:
    module = str(getattr(kind, "__module__", ""))
    return getattr(kind, "__name__", "") == "DataFrame" and module.partition(".")[0] == "pandas"


def _dump_frame(frame: pd.DataFrame) -> dict[str, Any]:
    columns = []
    for position, name in enumerate(frame.columns):
        column = frame.iloc[:, position]
        dtype = str(column.dtype)
        if dtype.startswith(("datetime64", "timedelta64")):
            values = [None if value != value else int(value) for value in column.astype("int64").where(column.notna())]
        else:
            values = [None if item is None or item != item else item for item in column.tolist()]
        columns.append({"name": name, "dtype": dtype, "values": values})
    index = frame.index
    plain = type(index).__name__ == "RangeIndex" and index.start == 0 and index.step == 1
    return {"rows": len(frame), "columns": columns, "index": None if plain else index.tolist(), "named": index.name}


def _load_frame(data: Any) -> pd.DataFrame:
    import pandas as pd

    columns = []
    for column in data["columns"]:
        if not isinstance(column["dtype"], str) or not _DTYPES.fullmatch(column["dtype"]):
            raise ValueError(f"unknown column type {column['dtype']!r}")
        columns.append(pd.Series(column["values"], dtype=column["dtype"]))
    frame = pd.concat(columns, axis=1) if columns else pd.DataFrame(index=range(int(data["rows"])))
    frame.columns = pd.Index([column["name"] for column in data["columns"]])
    if data["index"] is not None:
        frame.index = pd.Index(data["index"], name=data["named"])
    elif data["named"] is not None:
        frame.index.name = data["named"]
    return frame
