"""Recording: a request and its takes, and the file that holds them, from text to values and back.

Knows the format and no folder; `nbreplay.core.store.store` reads and writes the files.
"""

from __future__ import annotations

import contextlib
import json
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeGuard

import msgspec

from nbreplay.core.recording.blob import Blob
from nbreplay.core.recording.body import Json
from nbreplay.core.recording.json_text import TOO_DEEP, has_long_number, is_too_deep, may_be_unreadable, parse_stored
from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.take import StoredTake, Take, dumps
from nbreplay.core.request.request import ALGORITHM, key_of, read_plain
from nbreplay.core.words import count_of
from nbreplay.errors import RecordingFormatError

FORMAT = 1


class Recording(msgspec.Struct, frozen=True, eq=False, gc=False):
    """One file: a request and its takes.

    Attributes
    ----------
    key, kind : str
    source : mapping or msgspec.Raw
        The canonical request, or the text of it in a file; `key` is the hash of
        it and of `kind`. The text is parsed when the request is wanted; a replay
        does without.
    takes : tuple of Take
    texts : tuple of bytes
        What each take is in the file, so that adding one encodes only that one.
    extra : mapping
        Fields of later versions: kept, not understood.
    verified : bool
        Whether `verify` has found it sound.

    Examples
    --------
    >>> import nbreplay as nr
    >>> store = nr.Store("recordings")
    >>> recording = store.read(store.names("embedding")[0])
    >>> recording.kind, recording.request["body"]["model"]
    ('embedding', 'text-embedding-3-small')
    >>> [take.body.value["usage"]["total_tokens"] for take in recording.takes]
    [3]
    """

    key: str
    kind: str
    source: Mapping[str, Any] | msgspec.Raw
    takes: tuple[Take, ...] = ()
    texts: tuple[bytes, ...] = ()
    extra: Mapping[str, Any] = {}
    verified: bool = False

    def __repr__(self) -> str:
        return f"Recording({self.kind!r}, {self.key!r}, {count_of(len(self.takes), 'take')})"

    @property
    def request(self) -> Mapping[str, Any]:
        """The canonical request.

        Raises
        ------
        RecordingFormatError
            Where it is nested too deeply to be read.
        """
        if isinstance(self.source, msgspec.Raw):
            msgspec.structs.force_setattr(self, "source", parse_stored(self.source))
        return self.source  # type: ignore[return-value]

    def verify(self) -> None:
        """Check that the key is the hash of the request, and that everything can be read.

        Raises
        ------
        RecordingFormatError
        """
        if self.verified:
            return
        algorithm = self.key.partition(":")[0]
        if algorithm != ALGORITHM:
            why = f"unknown key algorithm {algorithm[:20]!r}: this nbreplay knows {ALGORITHM!r}"
            raise RecordingFormatError(f"{why}. Install a newer nbreplay")
        key = self.computed_key()
        if key != self.key:
            why = f"the key {self.key[:80]!r} does not match its request, whose key is {key!r}"
            raise RecordingFormatError(f"{why}. One of the two was edited")
        for number, take in enumerate(self.takes, 1):
            body = take.body
            if type(body) is Json and type(body.source) is msgspec.Raw and has_long_number(body.source):
                _decode(number, body)
            if take.standing and not (self.kind == "http" and isinstance(body, Events)):
                raise RecordingFormatError(f"take {number} stays open, as only a stream of MCP may")
        msgspec.structs.force_setattr(self, "verified", True)

    def check(self) -> None:
        """Check that the request and the JSON answers can be read, which `parse` leaves as the texts that they are.

        Raises
        ------
        RecordingFormatError
        """
        if type(self.source) is msgspec.Raw and may_be_unreadable(self.source):
            _ = self.request
        for number, take in enumerate(self.takes, 1):
            body = take.body
            if type(body) is Json and type(body.source) is msgspec.Raw and may_be_unreadable(body.source):
                _decode(number, body)

    def computed_key(self) -> str:
        """Return the key of the request, which is `key` unless one of the two was edited.

        Raises
        ------
        RecordingFormatError
            If the request cannot be read.
        """
        if isinstance(self.source, msgspec.Raw):
            # At a third of the cost of the general way, which any other request goes.
            with contextlib.suppress(msgspec.MsgspecError, RecursionError):
                value = read_plain(data := bytes(self.source))
                if not is_too_deep(value, data):
                    return key_of(self.kind, value, plain=True)
        try:
            return key_of(self.kind, self.request)
        except (ValueError, RecursionError) as error:
            raise RecordingFormatError(f"the request has no key ({error})") from None

    def __eq__(self, other: object) -> bool:
        if type(other) is not Recording:
            return NotImplemented
        compared = operator.attrgetter("key", "kind", "request", "takes", "extra")
        return bool(compared(self) == compared(other))

    def with_takes(self, takes: Sequence[Take]) -> Recording:
        """Return the recording with other takes; those that it has already are not encoded again."""
        own = dict(zip(map(id, self.takes), self.texts, strict=False))
        texts = tuple([own.get(id(take)) or take.text().encode("utf-8") for take in takes])
        return msgspec.structs.replace(self, takes=tuple(takes), texts=texts)

    def text(self) -> str:
        """Return the content of the file."""
        return self.data().decode("utf-8")

    def data(self) -> bytes:
        """Return the bytes of the file."""
        stored = len(self.texts) == len(self.takes)
        texts = self.texts if stored else [take.text().encode("utf-8") for take in self.takes]
        extra = "".join(f"  {dumps({name: value})[1:-1]},\n" for name, value in self.extra.items())
        head = (
            f'{{\n  "nbreplay": {FORMAT},\n  "key": {dumps(self.key)},\n  "kind": {dumps(self.kind)},\n'
            f'  "request": {_request_text(self.request)},\n{extra}  "takes": [\n'
        )
        return b"".join((head.encode("utf-8"), b",\n".join(texts), b"\n  ]\n}\n"))


def file_name(kind: str, key: str) -> str:
    """Return the name of the file for a key: ``chat-3f2a9c81d04be77a.json``."""
    return f"{kind}-{key.partition(':')[2][:16]}.json"


def _request_text(request: Mapping[str, Any]) -> str:
    """One line per message, so that a diff of two recordings reads like a conversation."""
    long = [name for name in ("body", "arguments", "parts") if name in request]
    short = {name: value for name, value in request.items() if name not in long}
    lines = [dumps(short)[1:-1]] if short else []
    for name in long:
        value = request[name]
        if isinstance(value, dict):
            flat = {key: item for key, item in value.items() if not _is_rows(item)}
            inner = [dumps(flat)[1:-1]] if flat else []
            inner += [f"{dumps(key)}: {_rows(item, 8)}" for key, item in value.items() if _is_rows(item)]
            text = "{" + ",\n      ".join(inner) + "}"
        else:
            text = _rows(value, 6) if _is_rows(value) else dumps(value)
        lines.append(f"{dumps(name)}: {text}")
    return "{" + ",\n    ".join(lines) + "}"


def _is_rows(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _rows(items: list[Any], indent: int) -> str:
    pad = "\n" + " " * indent
    return "[" + ",".join(pad + dumps(item) for item in items) + pad[:-2] + "]"


class _File(msgspec.Struct, forbid_unknown_fields=True):
    """A recording as it stands in a file that has no other fields."""

    nbreplay: int
    key: str
    kind: str
    request: msgspec.Raw
    takes: list[StoredTake]


_decode_file = msgspec.json.Decoder(_File).decode
_FILE_FIELDS, _TAKE_FIELDS = frozenset(_File.__struct_fields__), frozenset(StoredTake.__struct_fields__)


def parse(text: str | bytes, folder: str = "") -> Recording:
    """Read a recording from the content of its file.

    `folder` is where the file lies, with a separator at its end; without it what lies beside the file is not read.
    Raise OSError if that cannot be read, UnsafeRecordingError if it is a file that may not be named, and
    RecordingFormatError if the text is not a recording; the message says what is wrong and names no file.
    """
    with contextlib.suppress(RecordingFormatError, msgspec.MsgspecError, ValueError, RecursionError):
        file = _decode_file(text)
        if isinstance(text, bytes) and not text.isascii():
            text.decode("utf-8")  # msgspec has not looked into what is read later
        _check_names(file.kind, file.key)
        if file.nbreplay == FORMAT and memoryview(file.request)[0] == 0x7B:  # the first sign of an object
            return Recording(file.key, file.kind, file.request, tuple(take.take(folder) for take in file.takes))
    return _parse_unusual(text, folder)


def _parse_unusual(text: str | bytes, folder: str) -> Recording:
    """Read a recording with fields of later versions or of foreign recorders; its errors name the field."""
    data, is_odd = _parse_data(text)
    kind, key, request = _head_of(data)
    if not isinstance(data.get("takes"), list):
        raise RecordingFormatError("the field 'takes' is not a list")
    takes = []
    for number, fields in enumerate(data["takes"], 1):
        try:
            takes.append(_parse_take(fields, folder))
            if is_odd:
                check_texts(takes[-1])
        except RecordingFormatError as error:
            raise type(error)(f"take {number}: {error}") from None
        except msgspec.ValidationError as error:
            reason, _, path = str(error).partition(" - at `$.")
            raise RecordingFormatError(f"take {number}: invalid `{path or '`'}: {reason.lower()[:200]}") from None
        except (RecursionError, ValueError) as error:  # such as a number that is too large to be compared
            raise RecordingFormatError(f"take {number} cannot be read ({error})") from None
    extra = {name: value for name, value in data.items() if name not in _FILE_FIELDS}
    if is_too_deep([request, extra]):
        raise RecordingFormatError(TOO_DEEP)
    return Recording(key, kind, request, tuple(takes), (), extra)


def _parse_take(fields: Any, folder: str) -> Take:
    if not isinstance(fields, dict):
        raise RecordingFormatError(f"not an object but {str(fields)[:80]}")
    extra = {name: value for name, value in fields.items() if name not in _TAKE_FIELDS}
    body = {"value": fields["json"]} if "json" in fields else {}
    if is_too_deep([extra, *body.values()]):
        raise RecordingFormatError(TOO_DEEP)
    stored = {name: value for name, value in fields.items() if name not in extra and name != "json"}
    return msgspec.convert(stored, StoredTake).take(folder, extra, **body)


def _decode(number: int, body: Json) -> None:
    try:
        _ = body.value
    except RecordingFormatError as error:
        raise RecordingFormatError(f"take {number}: {error}") from None


def check_texts(take: Take) -> None:
    """Raise RecordingFormatError if a text that is not UTF-8 stands for no bytes, as half of a surrogate pair does."""
    texts: dict[str, Iterable[str]] = {
        "host, url, sdk or time": (take.host, take.url, take.sdk, take.recorded_at),
        "headers": (*take.headers, *take.headers.values()),
        "ids": (*take.ids, str(take.rpc_id)),
        "error": (*(take.error or {}), *(take.error or {}).values()),
        "cell": () if take.cell is None else (take.cell.id or "", take.cell.source, take.cell.notebook or ""),
    }
    for name, values in texts.items():
        try:
            "".join(values).encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            raise RecordingFormatError(f"the {name} cannot be written ({error})") from None
    if not isinstance(take.body, Blob):
        take.body.data()


def _parse_data(text: str | bytes) -> tuple[Any, bool]:
    """Return the data of a file, and whether not every parser reads it, as with half of a surrogate pair."""
    with contextlib.suppress(msgspec.MsgspecError, ValueError, RecursionError):
        return msgspec.json.decode(text), False
    try:
        return json.loads(text), True
    except RecursionError:
        raise RecordingFormatError(TOO_DEEP) from None
    except UnicodeDecodeError:
        raise
    except ValueError as error:
        raise RecordingFormatError(f"invalid JSON ({error})") from None


def _head_of(data: Any) -> tuple[str, str, dict[str, Any]]:
    """Return kind, key and request of a recording."""
    if not isinstance(data, dict) or "nbreplay" not in data:
        raise RecordingFormatError("not a recording of nbreplay: the field 'nbreplay' is missing")
    version = data["nbreplay"]
    if type(version) is not int or version < 1:
        raise RecordingFormatError(f"unknown format version {str(version)[:40]!r}")
    if version > FORMAT:
        why = f"unknown format version {str(version)[:40]}: this nbreplay reads up to {FORMAT}"
        raise RecordingFormatError(f"{why}. Install a newer nbreplay")
    kind, key, request = data.get("kind"), data.get("key"), data.get("request")
    if type(kind) is not str or type(key) is not str or type(request) is not dict:
        raise RecordingFormatError("the field 'key', 'kind' or 'request' is missing or invalid")
    _check_names(kind, key)
    return kind, key, request


def _check_names(kind: str, key: str) -> None:
    # Both are shown, and make up the names of files.
    if not (kind.isascii() and kind.isalpha()):
        raise RecordingFormatError(f"the kind {kind[:40]!r} is not a word")
    if not (key.isascii() and key.isprintable()):
        raise RecordingFormatError(f"the key {key[:80]!r} is not printable ASCII")


def parse_head(text: str) -> tuple[str, str, dict[str, Any]]:
    """Read kind, key and request only, without the takes, which may be long. Raise RecordingFormatError as `parse`."""
    start = text.find('\n  "takes": [')
    if start > 0:
        head = text[:start].rstrip().rstrip(",") + "}"
        with contextlib.suppress(ValueError, RecursionError):
            kind, key, request = _head_of(json.loads(head))
            if is_too_deep(request, head.encode("utf-8", "surrogatepass")):
                raise RecordingFormatError(TOO_DEEP)
            return kind, key, request
    recording = parse(text)
    return recording.kind, recording.key, dict(recording.request)
