"""Recording: a request and its takes, and the file that holds them, from text to values and back.

Knows the format and no folder; `nbreplay.core.store.store` reads and writes the files.
"""

from __future__ import annotations

import itertools
import json
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from nbreplay.core.recording.blob import Blob
from nbreplay.core.recording.body import Json
from nbreplay.core.recording.json_text import TOO_DEEP, has_long_number, is_too_deep, parse_stored
from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.take import NOTHING, Stored, Take, dumps
from nbreplay.core.request.key import ALGORITHM, key_of, read_plain
from nbreplay.errors import RecordingFormatError

__all__ = ["FORMAT", "Recording", "check_texts", "file_name", "parse", "parse_head"]

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
    verified : bool
        Whether `verify` has found it sound.
    """

    key: str
    kind: str
    asked: Mapping[str, Any] | msgspec.Raw
    takes: tuple[Take, ...] = ()
    texts: tuple[bytes, ...] = ()
    extra: Mapping[str, Any] = {}
    head: bytes = b""
    verified: bool = False

    @property
    def request(self) -> Mapping[str, Any]:
        """The canonical request.

        Raises
        ------
        RecordingFormatError
            Where it is nested too deeply to be read.
        """
        if isinstance(self.asked, msgspec.Raw):
            msgspec.structs.force_setattr(self, "asked", parse_stored(self.asked))
        return self.asked  # type: ignore[return-value]

    def verify(self) -> None:
        """See that the key is the hash of the request, and that what is replayed unread can be read.

        Raises
        ------
        RecordingFormatError
        """
        if self.verified:
            return
        algorithm, _, _ = self.key.partition(":")
        if algorithm != ALGORITHM:
            why = f"its key is of the algorithm {algorithm[:20]!r}, and this nbreplay knows {ALGORITHM!r}"
            raise RecordingFormatError(f"{why}: install a newer nbreplay")
        key = self.computed_key()
        if key != self.key:
            why = f"its key {self.key[:80]!r} does not match its request, whose key is {key!r}"
            raise RecordingFormatError(f"{why}: one of the two was edited")
        for index, take in enumerate(self.takes):
            body = take.body
            if type(body) is Json and type(body.source) is msgspec.Raw and has_long_number(body.source):
                _decode(index, body)
            if take.standing and not (self.kind == "http" and isinstance(body, Events)):
                raise RecordingFormatError(f"take {index + 1}: it stays open, which only a stream of MCP does")
        msgspec.structs.force_setattr(self, "verified", True)

    def decode(self) -> None:
        """Read what a replay leaves as the text that it is in the file: the request, and answers that are JSON.

        Raises
        ------
        RecordingFormatError
        """
        _ = self.request
        for index, take in enumerate(self.takes):
            if type(take.body) is Json:
                _decode(index, take.body)

    def computed_key(self) -> str:
        """Return the key of the request, which `key` is unless one of the two was edited.

        Raises
        ------
        RecordingFormatError
            Where the request cannot be read.
        """
        if isinstance(self.asked, msgspec.Raw):
            # At a third of the cost of the general way, which any other request goes.
            data = bytes(self.asked)
            try:
                value = read_plain(data)
            except (msgspec.MsgspecError, RecursionError):
                pass
            else:
                if not is_too_deep(value, data):
                    return key_of(self.kind, value, plain=True)
        try:
            return key_of(self.kind, self.request)
        except (ValueError, RecursionError) as error:
            raise RecordingFormatError(f"its request has no key ({error})") from None

    def __eq__(self, other: object) -> bool:
        if type(other) is not Recording:
            return NotImplemented
        told = operator.attrgetter("key", "kind", "request", "takes", "extra")
        return bool(told(self) == told(other))

    def with_takes(self, takes: Sequence[Take]) -> Recording:
        """Return the recording with other takes; those that it has already are not encoded again."""
        known = dict(zip(map(id, self.takes), self.texts, strict=False))
        texts = tuple([known.get(id(take)) or take.text().encode("utf-8") for take in takes])
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
        _check_head(file.kind, file.key)
        if file.nbreplay == FORMAT and memoryview(file.request)[0] == 0x7B:  # an object's first sign
            takes = tuple(map(Stored.take, file.takes, itertools.repeat(folder)))
            return Recording(file.key, file.kind, file.request, takes, (), NOTHING)
    except (RecordingFormatError, msgspec.MsgspecError, ValueError, RecursionError):
        pass
    data, odd = _loaded(text)
    return _parsed(data, folder, odd=odd)


class _File(msgspec.Struct, forbid_unknown_fields=True):
    """A recording as it stands in a file, where it holds nothing that is not known."""

    nbreplay: int
    key: str
    kind: str
    request: msgspec.Raw
    takes: list[Stored]


_read = msgspec.json.Decoder(_File).decode
_TOP, _TAKE = frozenset(_File.__struct_fields__), frozenset(Stored.__struct_fields__)


def _parsed(data: Any, folder: str, *, odd: bool) -> Recording:
    """Read a recording that holds what later versions or foreign recorders add, or say what is wrong with it."""
    kind, key, request = _head(data)
    takes = data.get("takes")
    if not isinstance(takes, list):
        raise RecordingFormatError("it has no list of 'takes'")
    made = []
    for index, take in enumerate(takes):
        if not isinstance(take, dict):
            raise RecordingFormatError(f"take {index + 1} is not an object but {str(take)[:80]}")
        try:
            more = _beyond(take, _TAKE)
            known = {name: value for name, value in take.items() if name not in more and name != "json"}
            body = {"value": take["json"]} if "json" in take else {}
            if is_too_deep([more, *body.values()]):
                raise RecordingFormatError(TOO_DEEP)
            made.append(msgspec.convert(known, Stored).take(folder, more, **body))
            if odd:
                check_texts(made[-1])
        except RecordingFormatError as error:
            raise type(error)(f"take {index + 1}: {error}") from None
        except msgspec.ValidationError as error:
            wanted, _, where = str(error).partition(" - at `$.")
            why = f"its `{where or '`'} is wrong: {wanted.lower()[:200]}"
            raise RecordingFormatError(f"take {index + 1}: {why}") from None
        except (RecursionError, ValueError) as error:  # such as a number that is too large to be compared
            raise RecordingFormatError(f"take {index + 1} cannot be read ({error})") from None
    extra = _beyond(data, _TOP)
    if is_too_deep([request, extra]):
        raise RecordingFormatError(TOO_DEEP)
    return Recording(key, kind, request, tuple(made), (), extra)


def _decode(index: int, body: Json) -> None:
    try:
        _ = body.value
    except RecordingFormatError as error:
        raise RecordingFormatError(f"take {index + 1}: {error}") from None


def check_texts(take: Take) -> None:
    """See that texts which are not UTF-8 stand for bytes: halves of surrogate pairs may, or may be anything.

    Raises
    ------
    RecordingFormatError
    """
    _check_text("its host, url, sdk or time", take.host, take.url, take.sdk, take.recorded_at)
    _check_text("its headers", *take.headers, *take.headers.values())
    _check_text("its ids", *take.ids, str(take.rpc_id))
    if take.error is not None:
        _check_text("its error", *take.error, *take.error.values())
    if take.cell is not None:
        _check_text("its cell", take.cell.id or "", take.cell.source)
    if not isinstance(take.body, Blob):
        take.body.data()


def _check_text(what: str, *texts: str) -> None:
    try:
        "".join(texts).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise RecordingFormatError(f"{what} cannot be written ({error})") from None


def _beyond(data: dict[str, Any], known: frozenset[str]) -> dict[str, Any]:
    return {} if data.keys() <= known else {name: value for name, value in data.items() if name not in known}


def _loaded(text: str | bytes) -> tuple[Any, bool]:
    """Return the data of a file, and whether some of it is not JSON to everybody, such as half of a surrogate pair."""
    try:
        return msgspec.json.decode(text), False
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass
    try:
        return json.loads(text), True
    except RecursionError:
        raise RecordingFormatError(TOO_DEEP) from None
    except UnicodeDecodeError:
        raise
    except ValueError as error:
        raise RecordingFormatError(f"it is not JSON ({error})") from None


def _head(data: Any) -> tuple[str, str, dict[str, Any]]:
    if not isinstance(data, dict) or "nbreplay" not in data:
        raise RecordingFormatError("it is not a recording of nbreplay: it has no field 'nbreplay'")
    version = data["nbreplay"]
    if type(version) is not int or version < 1:
        raise RecordingFormatError(f"unknown format version {str(version)[:40]!r}")
    if version > FORMAT:
        why = f"it has format version {str(version)[:40]} and this nbreplay reads up to {FORMAT}"
        raise RecordingFormatError(f"{why}: install a newer nbreplay")
    kind, key, request = data.get("kind"), data.get("key"), data.get("request")
    if type(kind) is not str or type(key) is not str or type(request) is not dict:
        raise RecordingFormatError("it lacks 'key', 'kind' or 'request'")
    _check_head(kind, key)
    return kind, key, request


def _check_head(kind: str, key: str) -> None:
    # Both are shown, and make up the names of files.
    if not (kind.isascii() and kind.isalpha()):
        raise RecordingFormatError(f"its kind {kind[:40]!r} is not a word")
    if not (key.isascii() and key.isprintable()):
        raise RecordingFormatError(f"its key {key[:80]!r} is not a key")


def parse_head(text: str) -> tuple[str, str, dict[str, Any]]:
    """Read kind, key and request only, without the takes, which may be long.

    Raises
    ------
    RecordingFormatError
    """
    start = text.find('\n  "takes": [')
    if start > 0:
        head = text[:start].rstrip().rstrip(",") + "}"
        try:
            kind, key, request = _head(json.loads(head))
            if is_too_deep(request, head.encode("utf-8", "surrogatepass")):
                raise RecordingFormatError(TOO_DEEP)
            return kind, key, request
        except (ValueError, RecursionError):
            pass
    recording = parse(text)
    return recording.kind, recording.key, dict(recording.request)
