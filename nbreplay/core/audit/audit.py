"""Audit of a store: whether its files can be read and are what their names and keys say, and the secrets in them."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

from nbreplay.core.audit.blobs import RESTORE, blob_findings
from nbreplay.core.audit.cleaning import clean_fields, clean_request, fits_key, named_blobs
from nbreplay.core.audit.findings import Finding, Secret, find_secrets, leaves, line_of, secret_finding, unescape
from nbreplay.core.recording.blob import Blob
from nbreplay.core.recording.recording import Recording, file_name, parse
from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.stream_redactor import remove_spread_secrets
from nbreplay.core.secrets.redact import Redactor
from nbreplay.core.store.files import BLOB, read_file
from nbreplay.core.store.store import Store
from nbreplay.errors import RecordingFormatError

__all__ = ["Audited", "audit"]

_ESCAPE = re.compile(r"\\u00([2-7][0-9a-fA-F])|\\([/\\\"])")


_Found = tuple[int, Secret, str]
"""The line of a secret, the secret, and words for where it is."""


class Audited(NamedTuple):
    """What an audit has looked at and found.

    Attributes
    ----------
    findings : list of Finding
    recordings, blobs : int
    """

    findings: list[Finding]
    recordings: int
    blobs: int


def audit(store: Store, only: Collection[str] | None = None, progress: Callable[[], object] = lambda: None) -> Audited:
    """Check the files of a store.

    Parameters
    ----------
    store : Store
    only : collection of str, optional
        The names of the recordings and blobs to check, with the blobs that these recordings name; else all.
    progress : callable
        Called after each recording.

    Raises
    ------
    StoreError
        Where the folder cannot be read.
    """
    root, shown = store.identity, store.shown
    present = set(store.blob_names())
    names = sorted(store.names() if only is None else (name for name in only if not BLOB.fullmatch(name)))
    findings: list[Finding] = []
    named: set[str] = set()
    for name in names:
        found = _Recording(root, name, os.path.join(shown, name))
        findings += found.findings()
        named |= found.named
        progress()
    blobs = sorted(present if only is None else {*named & present, *filter(BLOB.fullmatch, only)})
    for name in blobs:
        findings += blob_findings(os.path.join(root, name), os.path.join(shown, name))
    if only is None:
        findings += [
            Finding(os.path.join(shown, name), 1, "unused", message="no recording names this file. It can be removed")
            for name in sorted(present - named)
        ]
    return Audited(findings, len(names), len(blobs))


def _read(path: str, root: str) -> bytes:
    """Return the bytes of a file, which must be a regular one in the store.

    Raises
    ------
    OSError, RecordingFormatError
    """
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        if os.path.dirname(os.path.realpath(path)) != os.path.realpath(root):
            raise RecordingFormatError("it is a link out of the store. Put the file itself there")
        found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise RecordingFormatError("it is not a regular file. Remove it")
    return read_file(path)[0]


class _Recording:
    """One recording under audit."""

    def __init__(self, root: str, name: str, shown: str) -> None:
        self.root, self.name, self.shown = root, name, shown
        self.named: set[str] = set()
        self.text = ""

    def findings(self) -> list[Finding]:
        """Return what is wrong with it."""
        try:
            data = _read(os.path.join(self.root, self.name), self.root)
        except OSError as error:
            return [self._finding("format", f"it cannot be read: {error.strerror or error}. Make it readable")]
        except RecordingFormatError as error:
            return [self._finding("format", str(error))]
        self.text = data.decode("utf-8", "replace")
        self.named = named_blobs(self.text)
        secrets = self._plain_secrets()
        recording, fits, reason = None, True, ""
        try:
            recording = parse(data)
            fits = fits_key(recording)
            secrets += self._hidden_secrets(recording, {unescape(secret.value) for _, secret, _ in secrets})
        except UnicodeDecodeError as error:
            reason = f"it is not UTF-8 ({error.reason})"
        except RecordingFormatError as error:
            reason = str(error)
        except RecursionError:
            reason = "it is nested too deeply"
        except ValueError:  # such as a number of many thousand digits
            reason = "it has a value that cannot be read"
        found = [secret_finding(self.shown, line, secret, place) for line, secret, place in secrets]
        if recording is None or reason:
            return [self._unreadable(reason, [secret.value for _, secret, _ in secrets]), *found]
        if not fits:
            why = f"the key is not the hash of kind and request: one of them was edited. {RESTORE}"
            found.append(self._finding("key", why, self._line(("key",))))
        elif self.name != file_name(recording.kind, recording.key):
            wanted = file_name(recording.kind, recording.key)
            found.append(self._finding("name", f"replay looks for this recording in {wanted}. Rename it to that"))
        return [*found, *self._blobs(recording)]

    def _finding(self, kind: str, message: str, line: int = 1) -> Finding:
        return Finding(self.shown, line, kind, message=message)

    def _unreadable(self, reason: str, secrets: list[str]) -> Finding:
        for value in secrets:  # the message may quote the file
            at = reason.find(value[:6])
            reason = reason if at < 0 else reason[:at] + "…"
        line = 1
        try:
            json.loads(self.text)
        except json.JSONDecodeError as error:
            line = error.lineno
        except (ValueError, RecursionError):
            pass
        foreign = "has no field 'nbreplay'" in reason
        remedy = "nbreplay import reads the recordings of other tools" if foreign else RESTORE
        return self._finding("format", f"{reason}. {remedy}", line)

    def _line(self, path: tuple[str | int, ...]) -> int:
        """Return the line of the first string at or below a path."""
        for leaf in leaves(self.text):
            if leaf.path[: len(path)] == path:
                return line_of(self.text, leaf.start)
        return 1

    def _blobs(self, recording: Recording) -> Iterator[Finding]:
        for place, take in enumerate(recording.takes):
            if isinstance(take.body, Blob):
                path, line = os.path.join(self.root, take.body.name), ("takes", place, "blob")
                try:
                    size = os.stat(path).st_size
                except OSError:
                    yield self._finding("blob", f"{take.body.name} is missing. {RESTORE}", self._line(line))
                    continue
                if size != take.body.size:
                    why = f"{take.body.name} has {size} bytes, and the recording says {take.body.size}. {RESTORE}"
                    yield self._finding("blob", why, self._line(line))

    def _plain_secrets(self) -> list[_Found]:
        """Return the secrets as they stand in the file."""
        return [(line_of(self.text, secret.start), secret, "") for secret in find_secrets(self.text)]

    def _hidden_secrets(self, recording: Recording, known: set[str]) -> list[_Found]:
        """Return the secrets that only show when the file is read as a replay does, without those that are known."""
        found = []
        for line, secret, place in (*self._escaped(), *self._cleaned(recording), *self._spread(recording)):
            if not secret.value or not any(secret.value in value for value in known):
                known.add(secret.value)
                found.append((line, secret, place))
        return found

    def _escaped(self) -> Iterator[_Found]:
        # Most files have no escapes but those of quotes and line ends, which no secret has.
        if any(escape in self.text for escape in ("\\u00", "\\/", "\\\\")):
            plain = _ESCAPE.sub(lambda match: match[2] or chr(int(match[1], 16)), self.text)
            for leaf in leaves(self.text) if Redactor().finds(plain) else ():
                for secret in find_secrets(leaf.text):
                    yield line_of(self.text, leaf.start), secret, ""

    def _cleaned(self, recording: Recording) -> Iterator[_Found]:
        """Yield what cleaning would remove from the fields around a body: there a name may tell what a value is."""
        before: dict[str, Any] = {"request": recording.request, "takes": []}
        after: dict[str, Any] = {"request": clean_request(recording.request), "takes": []}
        for take in recording.takes:
            clean = clean_fields(take, Redactor())
            old = {name: getattr(take, name) for name in clean}
            # Fields of later versions stand beside the others.
            before["takes"].append({**old.pop("extra"), **old})
            after["takes"].append({**clean.pop("extra"), **clean})
        for path, old_text, new_text in _changes(before, after, ()):
            start = _common(old_text, new_text)
            end = len(old_text) - _common(old_text[start:][::-1], new_text[start:][::-1])
            value = old_text[start:end]
            rule = next((secret.rule for secret in find_secrets(value)), "named-value")
            yield self._line(path), Secret(start, end, rule, value), ""

    def _spread(self, recording: Recording) -> Iterator[_Found]:
        """Yield the secrets that a model wrote a few letters at a time, each at the chunk where it begins."""
        for place, take in enumerate(recording.takes):
            if not isinstance(take.body, Events):
                continue
            redactor = _Noting()
            try:
                clean = remove_spread_secrets(take.body, redactor)
            except RecordingFormatError:
                yield self._line(("takes", place)), Secret(0, 0, "secret", ""), "spread over several chunks"
                continue
            for secret, replacement in redactor.noted if clean is not None else ():
                chunk = _chunk_with(replacement.encode(), take.body.parts(), clean or [])
                yield self._line(("takes", place, "chunks", chunk)), secret, "spread over several chunks"


class _Noting(Redactor):
    """Keeps the secrets that it has removed, each with what stands instead."""

    __slots__ = ("noted",)

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[tuple[Secret, str]] = []

    def spans(self, text: str) -> list[tuple[int, int, str]]:
        found = super().spans(text)
        self.noted += zip(find_secrets(text), (replacement for _, _, replacement in found), strict=False)
        return found


def _chunk_with(replacement: bytes, before: list[bytes], after: list[bytes]) -> int:
    pairs = enumerate(zip(before, after, strict=False))
    return next((place for place, (old, new) in pairs if new.count(replacement) > old.count(replacement)), 0)


def _changes(before: Any, after: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
    """Yield the strings that differ in two JSON values of one structure, and where they are."""
    if isinstance(before, Mapping):
        for (old, inner), (new, clean) in zip(before.items(), after.items(), strict=True):
            yield from _changes(old, new, (*path, old))
            yield from _changes(inner, clean, (*path, old))
    elif isinstance(before, list | tuple):
        for place, (inner, clean) in enumerate(zip(before, after, strict=True)):
            yield from _changes(inner, clean, (*path, place))
    elif isinstance(before, str) and before != after:
        yield path, before, after


def _common(one: str, other: str) -> int:
    """Return how many characters two texts begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))
