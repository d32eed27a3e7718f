"""Cleaning of a store: secrets that are in its files already are removed, and keys and names follow.

A cleaned request is the one that a program which sends the secret again is reduced to, so that it finds its recording.
"""

from __future__ import annotations

import contextlib
import heapq
import operator
import os
import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from msgspec.structs import replace

from nbreplay.core.recording.blob import Blob
from nbreplay.core.recording.body import Json, Text
from nbreplay.core.recording.recording import Recording, file_name, parse
from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.stream_redactor import redact_stream
from nbreplay.core.recording.take import Body, Take
from nbreplay.core.request.key import key_of
from nbreplay.core.request.request import clean_part
from nbreplay.core.secrets.placeholders import clean_pairs, clean_url, numbered, set_apart, set_back
from nbreplay.core.secrets.redact import Redactor
from nbreplay.core.store.files import BLOB, Writer, read_file
from nbreplay.core.store.store import Store
from nbreplay.errors import RecordingFormatError, StoreError

__all__ = ["Cleaned", "clean_fields", "clean_request", "clean_store", "fits_key", "named_blobs"]

_DIGEST = re.compile(r"sha256:([0-9a-f]{32})[0-9a-f]{32} \d+ bytes")


class Cleaned(NamedTuple):
    """What was done to a store.

    Attributes
    ----------
    files : dict of str to str
        From the name of a file that was rewritten to the name that it has now; ``""`` where it was removed.
    failures : dict of str to str
        From the name of a file that was left as it is to the reason.
    """

    files: dict[str, str]
    failures: dict[str, str]


def fits_key(recording: Recording) -> bool:
    """Tell whether the key of a recording is the hash of its kind and request.

    Raises
    ------
    RecordingFormatError
        Where the request cannot be read.
    """
    try:
        return key_of(recording.kind, recording.request) == recording.key
    except (ValueError, RecursionError) as error:
        raise RecordingFormatError(f"the hash of its request cannot be computed ({type(error).__name__})") from None


def named_blobs(text: str) -> set[str]:
    """Return the files beside it that the text of a recording names: bodies of answers, and uploads by their digest."""
    return {*BLOB.findall(text), *(f"blob-{digest}.bin" for digest in _DIGEST.findall(text))}


def clean_store(store: Store, names: Collection[str]) -> Cleaned:
    """Remove the secrets from recordings and blobs of a store.

    Parameters
    ----------
    store : Store
    names : collection of str
        The files that contain secrets.

    Raises
    ------
    StoreError
        Where the store cannot be written.
    """
    if store.path.is_symlink():
        reason = f"{store.shown} is a link, and nothing is rewritten through it. Name the folder that it leads to"
        return Cleaned({}, dict.fromkeys(names, reason))
    try:
        return _Cleaning(store).clean(names)
    except OSError as error:
        why = error.strerror or error
        raise StoreError(f"{error.filename or store.shown} cannot be rewritten: {why}. Make it writable") from error


class _Unfixed(Exception):
    """Why a file is left as it is."""


class _Cleaning:
    """Writes the clean files of one store."""

    def __init__(self, store: Store) -> None:
        self.store, self.root = store, store.identity
        self.writer = Writer(self.root, durable=False)
        self.done = Cleaned({}, {})

    def clean(self, names: Collection[str]) -> Cleaned:
        blobs: dict[str, tuple[Blob, int]] = {}
        for name in sorted(filter(BLOB.fullmatch, names)):
            clean = self._clean_blob(name)
            if clean is not None:
                blobs[name] = clean
        recordings = {name for name in names if not BLOB.fullmatch(name)}
        for name in self.store.names() if blobs else ():
            if not blobs.keys().isdisjoint(BLOB.findall(self._text(name))):
                recordings.add(name)
        for name in sorted(recordings):
            with self.writer.exclusive():
                try:
                    self._clean_recording(name, blobs)
                except _Unfixed as error:
                    self.done.failures[name] = str(error)
                except (RecordingFormatError, ValueError, RecursionError):  # the message may quote the secret
                    self.done.failures[name] = "the file cannot be read as a recording"
        with self.writer.exclusive():
            self._remove_blobs(blobs)
        return self.done

    def _text(self, name: str) -> str:
        """Return a recording as text; one that is not a regular file names nothing."""
        try:
            return read_file(self.root + name)[0].decode("utf-8", "replace")
        except RecordingFormatError:
            return ""

    def _clean_blob(self, name: str) -> tuple[Blob, int] | None:
        """Return a blob without its secrets, and how many there were; None where it stays as it is."""
        redactor = Redactor()
        try:
            data = read_file(self.root + name)[0]
        except RecordingFormatError as error:
            self.done.failures[name] = str(error)
            return None
        if Blob.of(data).name != name:
            self.done.failures[name] = "its content does not match the hash in its name"
            return None
        clean = redactor.data(data)
        if clean == data:
            self.done.failures[name] = "the secret is in compressed content. Remove the recording and record it again"
            return None
        return Blob.of(clean), redactor.count

    def _clean_recording(self, name: str, blobs: Mapping[str, tuple[Blob, int]]) -> None:
        text = read_file(self.root + name)[0].decode("utf-8")
        apart, highest = set_apart(text)
        plain, old = parse(text), parse(apart)
        fields = clean_request(old.request)
        key = old.key
        if fields != old.request:
            fields = numbered(fields)
            # A request that was edited keeps its key: the finding stays.
            key = key_of(old.kind, fields) if fits_key(plain) else key
        else:
            fields = dict(plain.request)
        texts = [set_back(_clean_take(take, blobs).text(), highest).encode("utf-8") for take in old.takes]
        extra = Redactor().value(plain.extra)
        data = Recording(key, old.kind, fields, old.takes, tuple(texts), extra).data()
        made = parse(data)
        target = name if key == old.key else file_name(old.kind, key)
        if target != name and os.path.lexists(self.root + target):
            data = self._merged(target, made)
        for take in made.takes:
            if isinstance(take.body, Blob):
                self._write_blob(take.body.name, blobs)
        self.writer.replace(target, data)
        if target != name:
            os.unlink(self.root + name)
        self.done.files[name] = target

    def _merged(self, target: str, made: Recording) -> bytes:
        """Return the bytes of a recording that is there already, with the takes of another of the same request."""
        there = parse(read_file(self.root + target)[0])
        if there.key != made.key or there.kind != made.kind:
            raise _Unfixed(f"{target} contains another request. Move it away")
        new = [take for take in made.takes if take not in there.takes]
        return there.with_takes(list(heapq.merge(there.takes, new, key=operator.attrgetter("recorded_at")))).data()

    def _write_blob(self, name: str, blobs: Mapping[str, tuple[Blob, int]]) -> None:
        made = next((blob for blob, _ in blobs.values() if blob.name == name), None)
        if made is not None and made.content is not None and not os.path.lexists(self.root + name):
            self.writer.replace(name, made.content)

    def _remove_blobs(self, blobs: Mapping[str, tuple[Blob, int]]) -> None:
        """Remove the files with secrets in them that no recording needs any more."""
        bodies, uploads = set[str](), set[str]()
        for name in self.store.names() if blobs else ():
            text = self._text(name)
            bodies |= set(BLOB.findall(text))
            uploads |= named_blobs(text)
        for name, (made, _) in blobs.items():
            if name in bodies:
                self.done.failures[name] = "a recording that names it could not be rewritten"
                continue
            if name not in uploads and made.name not in bodies:
                self._write_blob(made.name, blobs)  # nothing names it, and nobody's file is lost
            # An upload is left out, as it is when it is recorded: its request names it by the digest of what is sent.
            self.done.files[name] = made.name if os.path.lexists(self.root + made.name) else ""
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.root + name)


def clean_request(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a canonical request without secrets, in the order in which a call is reduced to one."""
    redactor, made = Redactor(), dict(fields)
    for name in ("body", "arguments", "form", "parts", "text", "endpoint", "path", "query"):
        if name not in made:
            continue
        value = made[name]
        if name in ("endpoint", "path") and isinstance(value, str):
            made[name] = clean_url(value, redactor)
        elif name in ("form", "query"):
            made[name] = clean_pairs(value, redactor)
        elif name == "parts" and isinstance(value, list):
            made[name] = [clean_part(part, redactor) if isinstance(part, dict) else part for part in value]
        else:
            made[name] = redactor.value(value)
    return made


def clean_fields(take: Take, redactor: Redactor) -> dict[str, Any]:
    """Return the fields of a take that may contain secrets, but its body, without them; those of an answer counted."""
    return {
        "headers": {name: clean_url(value, redactor) for name, value in take.headers.items()},
        "error": take.error and {name: clean_url(text, redactor) for name, text in take.error.items()},
        "url": clean_url(take.url, Redactor()),
        "sdk": Redactor().text(take.sdk),
        "ids": tuple(map(Redactor().text, take.ids)),
        "extra": Redactor().value(take.extra),
    }


def _clean_take(take: Take, blobs: Mapping[str, tuple[Blob, int]]) -> Take:
    redactor = Redactor()
    body, more = _clean_body(take.body, redactor, blobs)
    fields = clean_fields(take, redactor)
    return replace(take, body=body, redacted=take.redacted + redactor.count + more, **fields)


def _clean_body(body: Body, redactor: Redactor, blobs: Mapping[str, tuple[Blob, int]]) -> tuple[Body, int]:
    if isinstance(body, Blob):
        return blobs.get(body.name, (body, 0))
    if isinstance(body, Events):
        return redact_stream(body, redactor), 0
    if isinstance(body, Text):
        return Text(redactor.text(body.text)), 0
    value = redactor.value(body.value)
    return (body if value == body.value else Json(value, body.style, body.end)), 0
