"""What tools return, as JSON or bytes, and back: into the class that the program names, never one that a file names."""

from __future__ import annotations

import base64
import builtins
import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, get_args, get_origin

from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

from nbreplay.errors import RecordedToolError, RecordingFormatError, ToolError

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]

__all__ = ["UNKNOWN", "Codec", "arguments_of", "equal", "item_of"]

UNKNOWN: Any = object()
"""In place of a type: nothing is annotated."""
_JSON = (str, int, float, bool, type(None))
_BUILTIN = {
    name: kind for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, Exception)
}


class Codec:
    """Turns what a tool returns or raises into JSON, and that back.

    Parameters
    ----------
    kind : type
        What the tool returns, as it is annotated, or `UNKNOWN`.
    raises : iterable of exception classes
        Those that may come back as themselves, besides the built-in ones.
    name : str
        The tool's, for messages.
    fallback : type, optional
        What else it may return, where a result is not of `kind`; `UNKNOWN` for plain data. Nothing, if not given.
    shapes : mapping of str to type, optional
        More classes that a result may be of, by the names that they have in files.

    Raises
    ------
    ToolError
        Where no values of `kind` can be kept.
    """

    def __init__(
        self,
        kind: Any,
        raises: tuple[type[Exception], ...],
        name: str,
        *,
        fallback: Any = None,
        shapes: Mapping[str, Any] | None = None,
    ) -> None:
        self.kind, self.raises = kind, raises
        self._name, self._raised = name, {error.__name__: error for error in raises}
        self._frame = _is_frame(kind)
        self._shapes = {tag: (shape, TypeAdapter(shape)) for tag, shape in (shapes or {}).items()}
        self._adapters: dict[str, TypeAdapter[Any] | None] = {"value": self._adapter(kind)}
        self._loose = fallback is not None
        if self._loose:
            self._adapters["plain"] = self._adapter(fallback)

    def _adapter(self, kind: Any) -> TypeAdapter[Any] | None:
        if kind is UNKNOWN or _is_frame(kind) or kind is Any:
            return None
        try:
            return TypeAdapter(kind)
        except Exception as error:  # pydantic has several for types that it does not know
            raise ToolError(
                f"nbreplay cannot keep what the tool {self._name} returns ({kind!r}): {type(error).__name__}. "
                "Name another type with returns=, such as a dataclass, a pydantic model or dict"
            ) from error

    def dump(self, value: Any) -> dict[str, Any]:
        """Return a result as JSON data.

        Raises
        ------
        ToolError
            Where it would not come back as it is; the message says what to do.
        """
        if isinstance(value, bytes):
            return {"bytes": base64.b64encode(value).decode("ascii")}
        if _is_frame(type(value)):
            return self._proved({"frame": _frame_data(value)}, value)
        refused = None
        for tag, one, bare in self._ways(type(value)):
            try:
                return self._proved(self._dumped(tag, one, value, bare), value)
            except ToolError as error:
                refused = refused or error
        assert refused is not None
        raise refused

    def _ways(self, kind: type) -> Iterator[tuple[str, TypeAdapter[Any] | None, bool]]:
        for tag, (shape, shaped) in self._shapes.items():
            if kind is shape:
                # As it came, with what is not set left out; what a program made itself may need all of it.
                yield tag, shaped, True
                yield tag, shaped, False
                return
        for tag, adapter in self._adapters.items():
            yield tag, adapter, False

    def _dumped(self, tag: str, adapter: TypeAdapter[Any] | None, value: Any, bare: bool) -> dict[str, Any]:
        try:
            if adapter is not None:
                data = adapter.dump_python(
                    value, mode="json", warnings="error", by_alias=bare or None, exclude_unset=bare
                )
                return {tag: data}
            json.dumps(value, allow_nan=False)
        except (ValueError, TypeError) as error:
            raise self._refused(value, str(error)) from error
        return {tag: value}

    def _proved(self, made: dict[str, Any], value: Any) -> dict[str, Any]:
        """Return what was made of a value if the value comes back out of it."""
        try:
            again = self.load(json.loads(json.dumps(made, allow_nan=False)))
        except (ValueError, TypeError, RecordingFormatError) as error:
            raise self._refused(value, f"{type(error).__name__}: {error}") from error
        if not equal(again, value):
            raise self._refused(value, "it would come back as something else")
        return made

    def _refused(self, value: Any, why: str) -> ToolError:
        return ToolError(
            f"nbreplay cannot keep what the tool {self._name} returned, a {type(value).__name__}: {why}. "
            "Annotate what it returns, or name the type with @nbreplay.tool(returns=...)"
        )

    def load(self, data: Any) -> Any:
        """Return the result that JSON data stands for; raise the exception that it stands for.

        Raises
        ------
        RecordingFormatError
            Where the data is none that `dump` gives for this tool.
        """
        if not isinstance(data, dict) or len(data) != 1:
            raise RecordingFormatError(f"the result of the tool {self._name} is not as it should be")
        ((tag, value),) = data.items()
        try:
            if tag in self._adapters:
                adapter = self._adapters[tag]
                return value if adapter is None else adapter.validate_json(json.dumps(value))
            if tag in self._shapes:
                return self._shapes[tag][1].validate_json(json.dumps(value))
            if tag == "bytes":
                return base64.b64decode(value, validate=True)
            if tag == "frame":
                return _frame(value)
        except Exception as error:  # whatever is in the file, and whatever a class of the program's makes of it
            raise RecordingFormatError(
                f"what the tool {self._name} returned when it was recorded is not what it returns now: {error}"
            ) from error
        if tag == "exception":
            raise self._exception(value)
        raise RecordingFormatError(f"the result of the tool {self._name} is of a kind {tag!r} that is not known")

    def dump_exception(self, error: Exception) -> dict[str, Any]:
        """Return an exception as JSON data."""
        arguments = [value for value in error.args if type(value) in _JSON]
        exact = len(arguments) == len(error.args)
        kept = arguments if exact else [str(error)]
        made = {"type": type(error).__name__, "args": kept, "text": str(error), "repr": repr(error)}
        base = next((kind.__name__ for kind in type(error).__mro__ if self._raised.get(kind.__name__) is kind), None)
        # What a framework looks out for is an error of its own, whatever subclass of it was raised.
        if base is not None and base != made["type"]:
            made["base"] = base
        return {"exception": made}

    def _exception(self, data: Any) -> Exception:
        if not isinstance(data, dict) or not isinstance(data.get("type"), str):
            raise RecordingFormatError(f"an exception of the tool {self._name} is not as it should be")
        name, text, arguments = data["type"], str(data.get("text", "")), data.get("args")
        kind = self._raised.get(name) or _BUILTIN.get(name) or self._raised.get(str(data.get("base", "")))
        if kind is not None and isinstance(arguments, list) and all(type(value) in _JSON for value in arguments):
            try:
                made: Exception = kind(*arguments)
                return made
            except Exception:  # it wants other arguments than it keeps
                pass
        return RecordedToolError(name, text, str(data.get("repr", "")))


def arguments_of(given: Mapping[str, Any], tool: str) -> dict[str, Any]:
    """Return a tool's arguments as JSON data, to be keyed.

    Raises
    ------
    ToolError
        Where one has no form that tells its value.
    """
    made = {}
    for name, value in given.items():
        try:
            made[name] = to_jsonable_python(value, bytes_mode="base64", inf_nan_mode="strings")
        except ValueError:
            raise ToolError(
                f"the argument {name!r} of the tool {tool}, a {type(value).__name__}, cannot be written as JSON, "
                f"by which its calls are told apart. Leave it out with @tool(ignore=({name!r},)), or pass data"
            ) from None
    return made


def equal(one: Any, other: Any) -> bool:
    """Tell whether two results are the same, of one type; frames are compared by their content."""
    if type(one) is not type(other):
        return False
    if _is_frame(type(one)):
        return bool(one.equals(other)) and list(one.dtypes) == list(other.dtypes) and one.index.equals(other.index)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(equal(one[name], other[name]) for name in one)
    return bool(one == other)


def _is_frame(kind: Any) -> bool:
    return (
        getattr(kind, "__name__", "") == "DataFrame"
        and str(getattr(kind, "__module__", "")).partition(".")[0] == "pandas"
    )


def _frame_data(frame: pd.DataFrame) -> dict[str, Any]:
    columns = []
    for position, name in enumerate(frame.columns):
        column = frame.iloc[:, position]
        kind = str(column.dtype)
        if kind.startswith(("datetime64", "timedelta64")):
            values = [None if value != value else int(value) for value in column.astype("int64").where(column.notna())]
        else:
            values = [None if item is None or item != item else item for item in column.tolist()]
        columns.append({"name": name, "dtype": kind, "values": values})
    index = frame.index
    plain = type(index).__name__ == "RangeIndex" and index.start == 0 and index.step == 1
    return {"rows": len(frame), "columns": columns, "index": None if plain else index.tolist(), "named": index.name}


def _frame(data: Any) -> Any:
    import pandas as pd

    columns = [pd.Series(item["values"], dtype=_dtype(item["dtype"])) for item in data["columns"]]
    made = pd.concat(columns, axis=1) if columns else pd.DataFrame(index=range(int(data["rows"])))
    made.columns = pd.Index([item["name"] for item in data["columns"]])
    if data["index"] is not None:
        made.index = pd.Index(data["index"], name=data["named"])
    elif data["named"] is not None:
        made.index.name = data["named"]
    return made


# No more than what pandas calls its own: some names stand for types of any size, or for files of time zones.
_DTYPES = re.compile(
    r"(?:u?int|U?Int|float|Float)\d*|bool|boolean|object|str|string(?:\[\w+\])?"
    r"|(?:datetime64|timedelta64)\[\w+(?:, (?!dateutil)[\w+:-]+(?:/[\w+-]+)*)?\]"
)


def _dtype(name: Any) -> str:
    if not isinstance(name, str) or not _DTYPES.fullmatch(name):
        raise ValueError(f"a column of a type {name!r}")
    return name


def item_of(kind: Any) -> Any:
    """Return what a generator's annotation says that it yields, or `UNKNOWN`."""
    arguments = get_args(kind)
    return arguments[0] if get_origin(kind) is not None and arguments else UNKNOWN
