"""Recording: a request and its takes, and the file that holds them, from text to values and back.

Knows the format and no folder; `nbreplay.core.store` reads and writes the files.
"""

from __future__ import annotations

import itertools
import json
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from nbreplay.core.frozen import identity
from nbreplay.core.take import NOTHING, Stored, Take, dumps
from nbreplay.core.wire import read
from nbreplay.errors import RecordingFormatError

__all__ = ["FORMAT", "Recording", "file_name", "parse", "parse_head"]

FORMAT = 1


class Recording(msgspec.Struct, frozen=True, eq=False, gc=False):
    """One file: a request and its takes.

    Attributes
    ----------
    key, kind : str
    asked : mapping or msgspec.Raw
        The canonical request; `key` is the hash of it and of `kind`. Also as the text of it in a file, which is read
        when somebody wants it: a replay does not.
    takes : tuple of Take
    texts : tuple of bytes
        What each take is in the file, so that adding one encodes only that one.
    head : bytes
        What comes before the takes in the file, where that is known.
    extra : mapping
        Fields of later versions: kept, not understood.
    """

    key: str
    kind: str
    asked: Mapping[str, Any] | msgspec.Raw
    takes: tuple[Take, ...] = ()
    texts: tuple[bytes, ...] = ()
    extra: Mapping[str, Any] = {}
    head: bytes = b""

    @property
    def request(self) -> Mapping[str, Any]:
        """The canonical request.

        Raises
        ------
        RecordingFormatError
            Where it is nested too deeply to be read.
        """
        if isinstance(self.asked, msgspec.Raw):
            msgspec.structs.force_setattr(self, "asked", read(self.asked))
        return self.asked  # type: ignore[return-value]

    def __eq__(self, other: object) -> bool:
        if type(other) is not Recording:
            return NotImplemented
        told = operator.attrgetter("key", "kind", "request", "takes", "extra")
        return bool(told(self) == told(other))

    def with_takes(self, takes: Sequence[Take]) -> Recording:
        """Return the recording with other takes; those that it has already are not encoded again."""
        known = dict(zip(map(identity, self.takes), self.texts, strict=False))
        texts = tuple([known.get(identity(take)) or take.text().encode("utf-8") for take in takes])
        head = self.head or self._head()
        return msgspec.structs.replace(self, takes=tuple(takes), texts=texts, head=head)

    def text(self) -> str:
        """Return the content of the file."""
        return self.data().decode("utf-8")

    def data(self) -> bytes:
        """Return the bytes of the file."""
        known = len(self.texts) == len(self.takes)
        texts = list(self.texts) if known else [take.text().encode("utf-8") for take in self.takes]
        texts = texts or [b""]
        # Joined once: there may be megabytes of takes.
        texts[0] = (self.head or self._head()) + texts[0]
        texts[-1] += b"\n  ]\n}\n"
        return b",\n".join(texts)

    def _head(self) -> bytes:
        extra = "".join(f"  {dumps({name: value})[1:-1]},\n" for name, value in self.extra.items())
        text = (
            f'{{\n  "nbreplay": {FORMAT},\n  "key": {dumps(self.key)},\n  "kind": {dumps(self.kind)},\n'
            f'  "request": {_request_text(self.request)},\n{extra}  "takes": [\n'
        )
        return text.encode("utf-8")


def file_name(kind: str, key: str) -> str:
    """Return the name of the file for a key: ``chat-3f2a9c81d04be77a.json``."""
    return f"{kind}-{key.partition(':')[2][:16]}.json"


def _request_text(request: Mapping[str, Any]) -> str:
    """One line a message, so that a diff of two recordings reads like a conversation."""
    short = {name: value for name, value in request.items() if name not in ("body", "arguments", "parts")}
    lines = [dumps(short)[1:-1]] if short else []
    for name in ("body", "arguments", "parts"):
        if name not in request:
            continue
        value = request[name]
        if isinstance(value, dict):
            flat = {key: item for key, item in value.items() if not _is_rows(item)}
            inner = [dumps(flat)[1:-1]] if flat else []
            inner += [f"{dumps(key)}: {_rows(item, 8)}" for key, item in value.items() if _is_rows(item)]
            separator = ",\n      "
            lines.append(f"{dumps(name)}: {{{separator.join(inner)}}}")
        else:
            lines.append(f"{dumps(name)}: {_rows(value, 6) if _is_rows(value) else dumps(value)}")
    return "{" + ",\n    ".join(lines) + "}"


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _rows(items: list[Any], indent: int) -> str:
    pad = "\n" + " " * indent
    return "[" + ",".join(pad + dumps(item) for item in items) + pad[:-2] + "]"


def parse(text: str | bytes, folder: str = "") -> Recording:
    """Read a recording from the content of its file.

    Parameters
    ----------
    text : str or bytes
    folder : str
        Where the file lies, with a separator at its end; without it what lies beside the file is not read.

    Raises
    ------
    OSError
        Where a file beside it cannot be read.
    RecordingFormatError
        Where it is no recording; the message says what is wrong and names no file.
    UnsafeRecordingError
        Where it names what it may not.
    """
    try:
        file = _read(text)
        if isinstance(text, bytes) and not text.isascii():
            text.decode("utf-8")  # msgspec has not looked into what is read later
        if file.nbreplay == FORMAT and memoryview(file.request)[0] == 0x7B:  # an object's first sign
            takes = tuple(map(Stored.take, file.takes, itertools.repeat(folder)))
            return Recording(file.key, file.kind, file.request, takes, (), NOTHING)
    except (RecordingFormatError, msgspec.MsgspecError, ValueError, RecursionError):
        pass
    return _parsed(_loaded(text), folder)


class _File(msgspec.Struct, forbid_unknown_fields=True):
    """A recording as it stands in a file, where it holds nothing that is not known."""

    nbreplay: int
    key: str
    kind: str
    request: msgspec.Raw
    takes: list[Stored]


_read = msgspec.json.Decoder(_File).decode
_TOP, _TAKE = frozenset(_File.__struct_fields__), frozenset(Stored.__struct_fields__)


def _parsed(data: Any, folder: str) -> Recording:
    """Read a recording that holds what later versions or foreign recorders add, or say what is wrong with it."""
    kind, key, request = _head(data)
    takes = data.get("takes")
    if not isinstance(takes, list):
        raise RecordingFormatError("it has no list of 'takes'")
    made = []
    for index, take in enumerate(takes):
        try:
            more = _beyond(take, _TAKE)
            known = {name: value for name, value in take.items() if name not in more and name != "json"}
            body = {"value": take["json"]} if "json" in take else {}
            made.append(msgspec.convert(known, Stored).take(folder, more, **body))
        except RecordingFormatError as error:
            raise type(error)(f"take {index + 1}: {error}") from None
        except AttributeError:
            raise RecordingFormatError(f"take {index + 1} is no object, but {str(take)[:80]}") from None
        except msgspec.ValidationError as error:
            wanted, _, where = str(error).partition(" - at `$.")
            raise RecordingFormatError(f"take {index + 1}: its `{where or '`'} is wrong: {wanted.lower()}") from None
    return Recording(key, kind, request, tuple(made), (), _beyond(data, _TOP))


def _beyond(data: dict[str, Any], known: frozenset[str]) -> dict[str, Any]:
    return {} if data.keys() <= known else {name: value for name, value in data.items() if name not in known}


def _loaded(text: str | bytes) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass  # it may still hold what is refused there, such as half of a surrogate pair
    try:
        return json.loads(text)
    except RecursionError:
        raise RecordingFormatError("it is nested too deeply") from None
    except UnicodeDecodeError:
        raise
    except ValueError as error:
        raise RecordingFormatError(f"it is not JSON ({error})") from None


def _head(data: Any) -> tuple[str, str, dict[str, Any]]:
    if not isinstance(data, dict) or "nbreplay" not in data:
        raise RecordingFormatError("it is no recording of nbreplay's: it has no field 'nbreplay'")
    version = data["nbreplay"]
    if type(version) is not int or version < 1:
        raise RecordingFormatError(f"its format {version!r} is none that there ever was")
    if version > FORMAT:
        raise RecordingFormatError(
            f"it has format {version} and this nbreplay reads up to {FORMAT}: install a newer nbreplay"
        )
    kind, key, request = data.get("kind"), data.get("key"), data.get("request")
    if type(kind) is not str or type(key) is not str or type(request) is not dict:
        raise RecordingFormatError("it lacks 'key', 'kind' or 'request'")
    return kind, key, request


def parse_head(text: str) -> tuple[str, str, dict[str, Any]]:
    """Read kind, key and request only, without the takes, which may be long.

    Raises
    ------
    RecordingFormatError
    """
    start = text.find('\n  "takes": [')
    if start > 0:
        try:
            return _head(json.loads(text[:start].rstrip().rstrip(",") + "}"))
        except (ValueError, RecursionError):
            pass
    recording = parse(text)
    return recording.kind, recording.key, dict(recording.request)
