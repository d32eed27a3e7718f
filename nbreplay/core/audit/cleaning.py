"""Cleaning a store: removing the secrets that are in its files already, with the keys and names that follow from that.

A cleaned request equals the one that a program which sends the secret again is reduced to, so that it finds its
recording.
"""

from __future__ import annotations

import contextlib
import heapq
import operator
import os
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from msgspec.structs import replace

from nbreplay.core.recording.blob import Blob
from nbreplay.core.recording.body import Json, Text
from nbreplay.core.recording.recording import Recording, file_name, parse
from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.stream_redactor import redact_stream
from nbreplay.core.recording.take import Take
from nbreplay.core.request.request import clean_part, key_of
from nbreplay.core.secrets.redact import Redactor
from nbreplay.core.store.files import BLOB, Writer, named_blobs, read_file
from nbreplay.core.store.store import Store
from nbreplay.errors import RecordingFormatError, StoreError

# The fields of a request in the order in which a call is reduced to one: secrets are numbered in it.
_ORDER = ("body", "arguments", "form", "parts", "text", "endpoint", "path", "query")


def last_number(text: str) -> int:
    """Return the highest number of the secrets that were removed from a text, or 0."""
    return max(map(int, re.findall(r"\[secret:(\d+)\]", text)), default=0)


def clean_store(store: Store, names: Collection[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Remove the secrets from those recordings and blobs of a store.

    Return by the name of each file that was rewritten the name that it has now, or ``""`` where it was removed, and by
    the name of each that was left as it is the reason. Raise `StoreError` where the store cannot be written.
    """
    if store.path.is_symlink():
        reason = f"{store.shown} is a link, and nothing is rewritten through it. Name the folder that it leads to"
        return {}, dict.fromkeys(names, reason)
    try:
        cleaning = _Cleaning(store)
        cleaning.clean(names)
    except OSError as error:
        why = error.strerror or error
        raise StoreError(f"{error.filename or store.shown} cannot be rewritten: {why}. Make it writable") from error
    return cleaning.files, cleaning.failures


class _Unfixed(Exception):
    """Why a file is left as it is."""


class _Cleaning:
    """Writes the clean files of one store."""

    def __init__(self, store: Store) -> None:
        self.store, self.root = store, store.identity
        self.writer = Writer(self.root, durable=False)
        self.files: dict[str, str] = {}
        self.failures: dict[str, str] = {}
        self.blobs: dict[str, tuple[Blob, int]] = {}  # by the name of the one with secrets, and their number

    def clean(self, names: Collection[str]) -> None:
        for name in sorted(filter(BLOB.fullmatch, names)):
            try:
                self.blobs[name] = self._clean_blob(name)
            except (RecordingFormatError, _Unfixed) as error:
                self.failures[name] = str(error)
        recordings = {name for name in names if not BLOB.fullmatch(name)}
        for name in self.store.names() if self.blobs else ():
            if not self.blobs.keys().isdisjoint(BLOB.findall(self._text(name))):
                recordings.add(name)
        for name in sorted(recordings):
            with self.writer.exclusive():
                try:
                    self._clean_recording(name)
                except _Unfixed as error:
                    self.failures[name] = str(error)
                except (RecordingFormatError, ValueError, RecursionError):  # the message may quote the secret
                    self.failures[name] = "the file cannot be read as a recording"
        with self.writer.exclusive():
            self._remove_blobs()

    def _text(self, name: str) -> str:
        """Return a recording as text; one that is not a regular file names nothing."""
        try:
            return read_file(self.root + name)[0].decode("utf-8", "replace")
        except RecordingFormatError:
            return ""

    def _clean_blob(self, name: str) -> tuple[Blob, int]:
        redactor = Redactor()
        data = read_file(self.root + name)[0]
        if Blob.of(data).name != name:
            raise _Unfixed("the content does not match the hash in the name")
        clean = redactor.data(data)
        if clean == data:
            raise _Unfixed("the secret is in compressed content. Remove the recording and record it again")
        return Blob.of(clean), redactor.count

    def _clean_recording(self, name: str) -> None:
        text = read_file(self.root + name)[0].decode("utf-8")
        old, last = parse(text), last_number(text)
        # Numbered anew, as a call is that sends the secret and repeats earlier placeholders.
        fields, key = clean_request(old.request, Redactor(again=True)), old.key
        # A request that was edited keeps its key: the finding stays.
        if fields != old.request and old.computed_key() == key:
            key = key_of(old.kind, fields)
        takes = tuple([self._clean_take(take, last) for take in old.takes])
        data = Recording(key, old.kind, fields, takes, extra=Redactor().value(old.extra)).data()
        clean = parse(data)
        target = name if key == old.key else file_name(old.kind, key)
        if target != name and os.path.lexists(self.root + target):
            data = self._merge(target, clean)
        for take in clean.takes:
            if isinstance(take.body, Blob):
                self._write_blob(take.body.name)
        self.writer.replace(target, data)
        if target != name:
            os.unlink(self.root + name)
        self.files[name] = target

    def _merge(self, target: str, clean: Recording) -> bytes:
        """Return the bytes of a recording that is there already, with the takes of another of the same request."""
        there = parse(read_file(self.root + target)[0])
        if there.key != clean.key or there.kind != clean.kind:
            raise _Unfixed(f"{target} contains another request. Move it away")
        new = [take for take in clean.takes if take not in there.takes]
        return there.with_takes(list(heapq.merge(there.takes, new, key=operator.attrgetter("recorded_at")))).data()

    def _write_blob(self, name: str) -> None:
        clean = next((blob for blob, _ in self.blobs.values() if blob.name == name), None)
        if clean is not None and not os.path.lexists(self.root + name):
            self.writer.replace(name, clean.data())

    def _remove_blobs(self) -> None:
        """Remove the files with secrets in them that no recording needs any more."""
        bodies, uploads = set[str](), set[str]()
        for name in self.store.names() if self.blobs else ():
            text = self._text(name)
            bodies |= set(BLOB.findall(text))
            uploads |= named_blobs(text)
        for name, (clean, _) in self.blobs.items():
            if name in bodies:
                self.failures[name] = "a recording that names it could not be rewritten"
                continue
            if name not in uploads and clean.name not in bodies:
                self._write_blob(clean.name)  # nothing names it, and nobody's file is lost
            # An upload is left out, as it is when it is recorded: its request names it by the digest of what is sent.
            self.files[name] = clean.name if os.path.lexists(self.root + clean.name) else ""
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.root + name)

    def _clean_take(self, take: Take, last: int) -> Take:
        redactor, body, count = Redactor(last=last), take.body, 0
        match body:
            case Blob():
                body, count = self.blobs.get(body.name, (body, 0))
            case Events():
                body = redact_stream(body, redactor)
            case Text():
                body = Text(redactor.text(body.text))
            case Json() if (value := redactor.value(body.value)) != body.value:
                body = Json(value, body.style, body.end)
        fields = clean_fields(take, redactor, lambda: Redactor(last=last))
        return replace(take, body=body, redacted=take.redacted + redactor.count + count, **fields)


def clean_request(fields: Mapping[str, Any], redactor: Redactor) -> dict[str, Any]:
    """Return a canonical request without secrets."""
    clean = dict(fields)
    for name in filter(fields.__contains__, _ORDER):
        match name, fields[name]:
            case "endpoint" | "path", str(url):
                clean[name] = redactor.url(url)
            case "form" | "query", list(pairs) if all(map(_is_pair, pairs)):
                clean[name] = redactor.pairs(pairs)
            case "parts", list(parts):
                clean[name] = [clean_part(part, redactor) if isinstance(part, dict) else part for part in parts]
            case _, value:
                clean[name] = redactor.value(value)
    return clean


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and [*map(type, value)] == [str, str]


def clean_fields(take: Take, answer: Redactor, other: Callable[[], Redactor]) -> dict[str, Any]:
    """Return the fields of a take that may contain secrets, but its body, without them.

    `answer` redacts the fields of the answer, whose secrets a take counts; `other` returns the redactor of another
    field, for each numbers its own secrets.
    """
    return {
        "headers": {name: _clean_url(value, answer) for name, value in take.headers.items()},
        "error": take.error and {name: _clean_url(text, answer) for name, text in take.error.items()},
        "url": _clean_url(take.url, other()),
        "sdk": other().text(take.sdk),
        "ids": tuple([other().text(each) for each in take.ids]),
        "extra": other().value(take.extra),
    }


def _clean_url(url: str, redactor: Redactor) -> str:
    """Return a URL without secrets; earlier placeholders stay as they are, as values of the query, too."""
    return "".join([redactor.url(part) for part in re.split(r"(\[secret:\d+\])", url)])
