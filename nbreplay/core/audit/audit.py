"""Audit of a store: files that cannot be read or do not match their names and keys, and the secrets in them."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple
from urllib.parse import unquote_plus

from nbreplay.core.audit.cleaning import clean_fields, clean_request, named_blobs
from nbreplay.core.audit.findings import Finding, Secret, find_secrets, leaves, line_of, secret_finding, unescape
from nbreplay.core.recording.blob import Blob, blob_name
from nbreplay.core.recording.recording import Recording, file_name, parse
from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.stream_redactor import remove_spread_secrets
from nbreplay.core.secrets.containers import UnreadableContainer, is_container, parts_inside
from nbreplay.core.secrets.redact import Redactor
from nbreplay.core.store.files import BLOB, read_file
from nbreplay.core.store.folder import open_regular
from nbreplay.core.store.store import Store
from nbreplay.errors import RecordingFormatError, UnsafeRecordingError

_ESCAPE = re.compile(r"\\u00([2-7][0-9a-fA-F])|\\([/\\\"])")
_PIECE, _OVERLAP = 1 << 22, 1 << 13  # bytes; how much of a file is searched at once
_LARGEST = 256 << 20  # bytes; a larger container is not read into memory
_RESTORE = "Restore it from version control, or remove it and record it again"
_IRREGULAR = "not a regular file. Put the file itself there, or remove it"

_Found = tuple[int, Secret, str]
"""The line of a secret, the secret, and words for where it is."""


class Audited(NamedTuple):
    """The findings of an audit, and the number of recordings and blobs that were checked."""

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
    if only is None:
        findings += [
            Finding(os.path.join(shown, name), 1, "unused", message="no recording names this file. It can be removed")
            for name in sorted(present - named)
        ]
    return Audited(findings, len(names), len(blobs))


class _Recording:
    """One recording under audit."""

    def __init__(self, root: str, name: str, shown: str) -> None:
        self.root, self.name, self.shown = root, name, shown
        self.named: set[str] = set()
        self.text = ""

    def findings(self) -> list[Finding]:
        try:
            data = read_file(os.path.join(self.root, self.name))[0]
        except UnsafeRecordingError:
            return [self._finding("format", _IRREGULAR)]
        except OSError as error:
            return [self._finding("format", f"cannot be read: {error.strerror or error}. Make it readable")]
        self.text = data.decode("utf-8", "replace")
        self.named = named_blobs(self.text)
        secrets = [(line_of(self.text, secret.start), secret, "") for secret in find_secrets(self.text)]
        recording, matches, reason = None, True, ""
        try:
            recording = parse(data)
            matches = recording.computed_key() == recording.key
            secrets += self._hidden_secrets(recording, {unescape(secret.value) for _, secret, _ in secrets})
        except UnicodeDecodeError as error:
            reason = f"not UTF-8 ({error.reason})"
        except RecordingFormatError as error:
            reason = str(error)
        except RecursionError:
            reason = "nested too deeply"
        except ValueError:  # such as a number of many thousand digits
            reason = "a value cannot be read"
        findings = [secret_finding(self.shown, line, secret, place) for line, secret, place in secrets]
        if recording is None or reason:
            return [self._unreadable(reason, [secret.value for _, secret, _ in secrets]), *findings]
        if not matches:
            why = f"the key is not the hash of kind and request: one of them was edited. {_RESTORE}"
            findings.append(self._finding("key", why, self._line(("key",))))
        elif self.name != file_name(recording.kind, recording.key):
            wanted = file_name(recording.kind, recording.key)
            findings.append(self._finding("name", f"replay looks for this recording in {wanted}. Rename it to that"))
        return [*findings, *self._missing_blobs(recording)]

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
        foreign = "the field 'nbreplay' is missing" in reason
        remedy = "nbreplay import reads the recordings of other tools" if foreign else _RESTORE
        return self._finding("format", f"{reason}. {remedy}", line)

    def _line(self, path: tuple[str | int, ...]) -> int:
        """Return the line of the first string at or below a path."""
        for leaf in leaves(self.text):
            if leaf.path[: len(path)] == path:
                return line_of(self.text, leaf.start)
        return 1

    def _missing_blobs(self, recording: Recording) -> Iterator[Finding]:
        for index, take in enumerate(recording.takes):
            if isinstance(take.body, Blob):
                name, wanted = take.body.name, take.body.size
                try:
                    size = os.stat(os.path.join(self.root, name)).st_size
                except OSError:
                    why = f"{name} is missing. {_RESTORE}"
                else:
                    why = f"{name} has {size} bytes, and the recording says {wanted}. {_RESTORE}"
                    if size == wanted:
                        continue
                yield self._finding("blob", why, self._line(("takes", index, "blob")))

    def _hidden_secrets(self, recording: Recording, values: set[str]) -> list[_Found]:
        """Return the secrets that only show when the file is read as a replay does, without those that are known."""
        hidden = []
        for line, secret, place in (
            *self._escaped_secrets(),
            *self._in_fields(recording),
            *self._across_chunks(recording),
        ):
            if not secret.value or not any(secret.value in value for value in values):
                values.add(secret.value)
                hidden.append((line, secret, place))
        return hidden

    def _escaped_secrets(self) -> Iterator[_Found]:
        # Most files have no escapes but those of quotes and line ends, which no secret has.
        if any(escape in self.text for escape in ("\\u00", "\\/", "\\\\")):
            plain = _ESCAPE.sub(lambda match: match[2] or chr(int(match[1], 16)), self.text)
            for leaf in leaves(self.text) if Redactor().finds(plain) else ():
                for secret in find_secrets(leaf.text):
                    yield line_of(self.text, leaf.start), secret, ""

    def _in_fields(self, recording: Recording) -> Iterator[_Found]:
        """Yield what cleaning would remove from the fields around a body: there a name may show that a value is one."""
        redactor = Redactor(again=True)
        clean_request(recording.request, redactor)
        for take in recording.takes:
            clean_fields(take, redactor, lambda: redactor)
        for value in redactor.secrets:
            if value.startswith("[secret:"):  # a placeholder of an earlier one
                continue
            holds = (leaf for leaf in leaves(self.text) if value in leaf.text or value in unquote_plus(leaf.text))
            leaf = next(holds, None)
            yield line_of(self.text, leaf.start) if leaf else 1, _secret(value), ""

    def _across_chunks(self, recording: Recording) -> Iterator[_Found]:
        """Yield the secrets that a model wrote a few letters at a time, each at the chunk where it begins."""
        where = "spread over several chunks"
        for index, take in enumerate(recording.takes):
            if not isinstance(take.body, Events):
                continue
            redactor = Redactor()
            try:
                after = remove_spread_secrets(take.body, redactor)
            except RecordingFormatError:
                yield self._line(("takes", index)), Secret(0, "secret", ""), where
                continue
            for value in redactor.secrets if after is not None else ():
                replacement = redactor.placeholder(value).encode()
                pairs = enumerate(zip(take.body.parts(), after or [], strict=False))
                chunk = next((n for n, (old, new) in pairs if new.count(replacement) > old.count(replacement)), 0)
                yield self._line(("takes", index, "chunks", chunk)), _secret(value), where


def _secret(value: str) -> Secret:
    return Secret(0, next((secret.rule for secret in find_secrets(value)), "named-value"), value)


def _blob_findings(path: str, shown: str) -> Iterator[Finding]:
    digest, line, head, tail, values = hashlib.sha256(), 1, b"", b"", set[str]()
    try:
        with os.fdopen(open_regular(path), "rb", buffering=0) as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
                head = head or piece[:8]
                # A secret may lie where two pieces meet.
                text = (tail + piece).decode("latin-1")
                for secret in find_secrets(text):
                    if secret.value not in values or secret.start >= len(tail):
                        values.add(secret.value)
                        yield secret_finding(shown, line + text.count("\n", 0, secret.start), secret)
                rest = (tail + piece)[-_OVERLAP:]
                line += text.count("\n", 0, len(text) - len(rest))
                tail = rest
        if is_container(head):
            yield from _container_findings(path, shown)
    except UnsafeRecordingError:
        yield Finding(shown, 1, "blob", message=_IRREGULAR)
        return
    except OSError as error:
        yield Finding(shown, 1, "blob", message=f"cannot be read: {error.strerror or error}. Make it readable")
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
                yield secret_finding(shown, 1, secret, "in its compressed content")
    except UnreadableContainer as error:
        yield Finding(shown, 1, "unread", message=f"the compressed content is not checked: {error}")
