"""Audit of a store: files that cannot be read or do not match their names and keys, and the secrets in them."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple
from urllib.parse import unquote_plus

import msgspec

from nbreplay.core.audit.cleaning import clean_fields, clean_request
from nbreplay.core.recording.blob import Blob, blob_name
from nbreplay.core.recording.recording import Recording, file_name, parse
from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.stream_redactor import remove_spread_secrets
from nbreplay.core.recording.websocket import blobs_of
from nbreplay.core.secrets.containers import UnreadableContainer, is_container, parts_inside
from nbreplay.core.secrets.redact import Redactor
from nbreplay.core.store.files import BLOB, VARIABLES, named_blobs, open_regular, read_file
from nbreplay.core.store.store import Store, is_variable
from nbreplay.errors import RecordingFormatError, UnsafeRecordingError

_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]', re.S)
_ESCAPE = re.compile(r"\\u00([2-7][0-9a-fA-F])|\\([/\\\"])")
_PIECE, _OVERLAP = 1 << 22, 1 << 13  # bytes; how much of a file is searched at once
_LARGEST = 256 << 20  # bytes; a larger container is not read into memory
_LONG, _SHOWN = 20, 4  # characters; of a shorter secret nothing is shown, of a longer one so many
_RESTORE = "Restore it from version control, or remove it and record it again"


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong with a file."""

    file: str
    line: int  # from 1
    kind: str  # ``secret``, ``format``, ``key``, ``name``, ``blob``, or ``unused`` and ``unread``, which are only notes
    rule: str = ""  # the rule that found a secret; ``""`` for other kinds
    shown: str = ""  # the beginning of a secret and its length; ``""`` where even that would tell too much
    message: str = ""
    fixed: bool = False  # whether ``--fix`` has removed it

    @property
    def is_note(self) -> bool:
        """Whether it does not fail the check."""
        return self.kind in ("unused", "unread")


class Secret(NamedTuple):
    """A secret in a text, which begins at `start`; its value is never to be printed."""

    start: int
    rule: str
    value: str
    place: str = ""  # words for where in the file it is, such as ``in the source of cell 3``

    def finding(self, file: str, line: int) -> Finding:
        """Return the finding for this secret."""
        size = len(self.value)
        shown = f"{self.value[:_SHOWN]}… ({size} characters)" if size >= _LONG else ""
        message = " ".join(filter(None, (self.rule, self.place))) + (f": {shown}" if shown else "")
        return Finding(file, line, "secret", self.rule, shown, message)


def find_secrets(text: str) -> list[Secret]:
    """Return the secrets in `text`, in order."""
    return [
        Secret(match.start, match.rule, text[match.start : match.end])
        for match in Redactor().matches(text)
        if match.rule != "placeholder"
    ]


def line_of(text: str, place: int) -> int:
    """Return the number of the line, from 1, that a character is on."""
    return text.count("\n", 0, place) + 1


class Leaf(NamedTuple):
    """A string in a JSON text."""

    path: tuple[str | int, ...]  # the names and indexes that lead to it
    start: int  # the place of its first quote in the JSON text
    text: str
    is_name: bool  # whether it is the name of a member and not a value


def leaves(text: str) -> Iterator[Leaf]:
    """Yield the strings of a JSON text with their places. The text must be valid JSON."""
    path: list[str | int] = []
    name_next = [False]  # of each bracket that is open, whether a name comes next
    for match in _TOKEN.finditer(text):
        token = match.group()
        if token in "{[":
            name_next.append(token == "{")
            path.append("" if token == "{" else 0)
        elif token in "}]":
            name_next.pop()
            path.pop()
        elif token == ":":
            name_next[-1] = False
        elif token == ",":
            last = path[-1]
            if isinstance(last, int):
                path[-1] = last + 1
            else:
                name_next[-1] = True
        else:
            value = json.loads(token, strict=False)
            if name_next[-1]:
                path[-1] = value
            yield Leaf(tuple(path), match.start(), value, name_next[-1])


def unescape(value: str) -> str:
    """Return the text that a piece of a JSON string stands for; itself where it is not one."""
    try:
        return str(json.loads(f'"{value}"', strict=False)) if "\\" in value else value
    except ValueError:
        return value


def unreadable(error: Exception) -> str:
    """Return why a file cannot be opened, or does not hold what it should, without quoting it."""
    match error:
        case UnicodeDecodeError():
            return f"not UTF-8 ({error.reason})"
        case json.JSONDecodeError():
            return f"not JSON ({error.msg})"
        case RecursionError():
            return "nested too deeply"
        case OSError():
            return f"cannot be read: {error.strerror or error}. Make it readable"
        case UnsafeRecordingError():
            return "not a regular file. Put the file itself there, or remove it"
    return "a value cannot be read"  # such as a number of many thousand digits


def audit(store: Store, only: Collection[str] | None, progress: Callable[[], object]) -> tuple[list[Finding], int, int]:
    """Check the files of a store; return the findings, and the number of recordings and of blobs.

    `only` are the names of the recordings and blobs to check, with the blobs that these recordings name; else it is all
    of them. `progress` is called after each recording. Raise `StoreError` where the store cannot be read.
    """
    root, shown = store.identity, store.shown
    present = set(store.blob_names())
    names = sorted(store.names() if only is None else (name for name in only if not BLOB.fullmatch(name)))
    findings: list[Finding] = []
    named: set[str] = set()
    for name in names:
        recording = _Recording(root, name, os.path.join(shown, name))
        findings += recording.findings()
        named |= recording.named
        progress()
    blobs = sorted(present if only is None else {*named & present, *filter(BLOB.fullmatch, only)})
    for name in blobs:
        findings += _blob_findings(os.path.join(root, name), os.path.join(shown, name))
    for name in sorted(present - named) if only is None else ():
        message = "no recording names this file. It can be removed"
        findings.append(Finding(os.path.join(shown, name), 1, "unused", message=message))
    return [*findings, *(_variable_findings(store) if only is None else ())], len(names), len(blobs)


def _variable_findings(store: Store) -> Iterator[Finding]:
    """Yield the lines that are not names of variables in the file that holds such names."""
    shown = os.path.join(store.shown, VARIABLES)
    try:
        text = read_file(store.identity + VARIABLES)[0].decode("utf-8")
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError, UnsafeRecordingError) as error:
        yield Finding(shown, 1, "format", message=unreadable(error))
        return
    for number, line in enumerate(text.splitlines(), 1):
        if not is_variable(line):
            yield Finding(shown, number, "format", message="not the name of a secret variable. Remove the line")


class _Recording:
    """One recording under audit."""

    def __init__(self, root: str, name: str, shown: str) -> None:
        self.root, self.name, self.shown = root, name, shown
        self.named: set[str] = set()
        self.text = ""

    def findings(self) -> Iterator[Finding]:
        try:
            data = read_file(os.path.join(self.root, self.name))[0]
        except (OSError, UnsafeRecordingError) as error:
            yield self._finding("format", unreadable(error))
            return
        self.text = data.decode("utf-8", "replace")
        self.named = named_blobs(self.text)
        secrets, recording = find_secrets(self.text), None
        try:
            recording = parse(data)
            blobs = [blobs_of(take) for take in recording.takes]
            matches = recording.computed_key() == recording.key
            secrets += self._hidden_secrets(recording, {unescape(secret.value) for secret in secrets})
        except (RecordingFormatError, ValueError, RecursionError) as error:
            yield self._invalid(data, error, secrets)
            recording = None
        yield from (secret.finding(self.shown, line_of(self.text, secret.start)) for secret in secrets)
        if recording is None:
            return
        wanted = file_name(recording.kind, recording.key)
        if not matches:
            why = f"the key is not the hash of kind and request: one of them was edited. {_RESTORE}"
            yield self._finding("key", why, self._start(("key",)))
        elif self.name != wanted:
            yield self._finding("name", f"replay looks for this recording in {wanted}. Rename it to that")
        yield from self._missing_blobs(recording, blobs)

    def _finding(self, kind: str, message: str, start: int = 0) -> Finding:
        return Finding(self.shown, line_of(self.text, start), kind, message=message)

    def _invalid(self, data: bytes, error: Exception, secrets: list[Secret]) -> Finding:
        reason = str(error) if isinstance(error, RecordingFormatError) else unreadable(error)
        for secret in secrets:  # the message may quote the file
            at = reason.find(secret.value[:6])
            reason = reason if at < 0 else reason[:at] + "…"
        start, remedy = 0, _RESTORE
        try:
            document = json.loads(data)
            if not isinstance(document, dict) or "nbreplay" not in document:
                remedy = "nbreplay import reads the recordings of other tools"
        except json.JSONDecodeError as problem:
            start = problem.pos
        except (ValueError, RecursionError):
            pass
        return self._finding("format", f"{reason}. {remedy}", start)

    def _start(self, path: tuple[str | int, ...]) -> int:
        """Return the place of the first string at or below a path."""
        return next((leaf.start for leaf in leaves(self.text) if leaf.path[: len(path)] == path), 0)

    def _missing_blobs(self, recording: Recording, blobs: list[list[Blob]]) -> Iterator[Finding]:
        for index, blob in ((index, blob) for index, some in enumerate(blobs) for blob in some):
            try:
                there = os.stat(os.path.join(self.root, blob.name)).st_size
                why = f"{blob.name} has {there} bytes, and the recording says {blob.size}" if there != blob.size else ""
            except OSError:
                why = f"{blob.name} is missing"
            if why:
                place = "blob" if isinstance(recording.takes[index].body, Blob) else "chunks"
                yield self._finding("blob", f"{why}. {_RESTORE}", self._start(("takes", index, place)))

    def _hidden_secrets(self, recording: Recording, values: set[str]) -> Iterator[Secret]:
        """Yield the secrets that only show when the file is read as a replay does, without those that are known."""
        for secret in (*self._escaped_secrets(), *self._in_fields(recording), *self._across_chunks(recording)):
            if not secret.value or not any(secret.value in value for value in values):
                values.add(secret.value)
                yield secret

    def _escaped_secrets(self) -> Iterator[Secret]:
        # Most files have no escapes but those of quotes and line ends, which no secret has.
        if any(escape in self.text for escape in ("\\u00", "\\/", "\\\\")):
            plain = _ESCAPE.sub(lambda match: match[2] or chr(int(match[1], 16)), self.text)
            for leaf in leaves(self.text) if Redactor().finds(plain) else ():
                yield from (secret._replace(start=leaf.start) for secret in find_secrets(leaf.text))

    def _in_fields(self, recording: Recording) -> Iterator[Secret]:
        """Yield what cleaning would remove from the fields around a body: there a name may show that a value is one."""
        redactor = Redactor(again=True)
        clean_request(recording.request, redactor)
        for take in recording.takes:
            clean_fields(take, redactor, lambda: redactor)
        for value in redactor.secrets:
            if not value.startswith("[secret:"):  # a placeholder of an earlier one
                holds = (leaf for leaf in leaves(self.text) if value in leaf.text or value in unquote_plus(leaf.text))
                yield _secret(value, next((leaf.start for leaf in holds), 0))

    def _across_chunks(self, recording: Recording) -> Iterator[Secret]:
        """Yield the secrets that a model wrote a few letters at a time, each at the chunk where it begins."""
        place = "spread over several chunks"
        for index, take in enumerate(recording.takes):
            if not isinstance(take.body, Events):
                continue
            redactor = Redactor()
            try:
                after = remove_spread_secrets(take.body, redactor)
            except RecordingFormatError:
                yield Secret(self._start(("takes", index)), "secret", "", place)
                continue
            for value in redactor.secrets if after is not None else ():
                replacement = redactor.placeholder(value).encode()
                pairs = enumerate(zip(take.body.parts(), after or [], strict=False))
                chunk = next((n for n, (old, new) in pairs if new.count(replacement) > old.count(replacement)), 0)
                yield _secret(value, self._start(("takes", index, "chunks", chunk)), place)


def _secret(value: str, start: int, place: str = "") -> Secret:
    rule = next((secret.rule for secret in find_secrets(value)), "named-value")
    return Secret(start, rule, value, place)


def _blob_findings(path: str, shown: str) -> Iterator[Finding]:
    digest, line, head, tail, values = hashlib.sha256(), 1, b"", b"", set[str]()
    try:
        with os.fdopen(open_regular(path), "rb", buffering=0) as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
                head = head or piece[:8]
                # A secret may lie where two pieces meet.
                window = tail + piece
                text = window.decode("latin-1")
                for secret in find_secrets(text):
                    if secret.value not in values or secret.start >= len(tail):
                        values.add(secret.value)
                        yield secret.finding(shown, line + text.count("\n", 0, secret.start))
                tail = window[-_OVERLAP:]
                line += window.count(b"\n", 0, len(window) - len(tail))
        if is_container(head):
            yield from _container_findings(path, shown)
    except (OSError, UnsafeRecordingError) as error:
        yield Finding(shown, 1, "blob", message=unreadable(error))
        return
    if blob_name(digest) != os.path.basename(path):
        yield Finding(shown, 1, "blob", message=f"the content does not match the hash in the name. {_RESTORE}")


def _container_findings(path: str, shown: str) -> Iterator[Finding]:
    """Yield the secrets in the compressed content of a blob, or a note where that cannot be read."""
    try:
        if os.path.getsize(path) > _LARGEST:
            raise UnreadableContainer(f"larger than {_LARGEST >> 20} MB")
        for part in parts_inside(read_file(path)[0]):
            for secret in find_secrets(part.decode("latin-1")):
                yield secret._replace(place="in its compressed content").finding(shown, 1)
    except UnreadableContainer as error:
        yield Finding(shown, 1, "unread", message=f"the compressed content is not checked: {error}")
