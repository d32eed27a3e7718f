"""Audit of the files beside recordings: whether the content is that of the name, and the secrets in it."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator

from nbreplay.core.audit.findings import Finding, find_secrets, secret_finding
from nbreplay.core.recording.blob import blob_name
from nbreplay.core.secrets.containers import UnreadableContainer, is_container, parts_inside
from nbreplay.core.store.files import read_file

__all__ = ["RESTORE", "blob_findings"]

_PIECE, _OVERLAP = 1 << 22, 1 << 13  # bytes; how much of a file is looked through at once
_LARGEST = 256 << 20  # bytes; a larger container is not read into memory
RESTORE = "Restore it from version control, or remove it and record it again"


def blob_findings(path: str, shown: str) -> Iterator[Finding]:
    """Yield what is wrong with a blob."""
    digest, lines, head, tail, known = hashlib.sha256(), 1, b"", b"", set[str]()
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            yield Finding(shown, 1, "blob", message=f"it is not a regular file. {RESTORE}")
            return
        with open(path, "rb", buffering=0) as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
                head = head or piece[:8]
                # A secret may lie where two pieces meet.
                text = (tail + piece).decode("latin-1")
                for secret in find_secrets(text):
                    if secret.value not in known or secret.start >= len(tail):
                        known.add(secret.value)
                        yield secret_finding(shown, lines + text.count("\n", 0, secret.start), secret)
                kept = (tail + piece)[-_OVERLAP:]
                lines += text.count("\n", 0, len(text) - len(kept))
                tail = kept
        yield from _inside(path, head, shown)
    except OSError as error:
        yield Finding(shown, 1, "blob", message=f"it cannot be read: {error.strerror or error}. Make it readable")
        return
    if blob_name(digest) != os.path.basename(path):
        yield Finding(shown, 1, "blob", message=f"its content does not match the hash in its name. {RESTORE}")


def _inside(path: str, head: bytes, shown: str) -> Iterator[Finding]:
    """Yield the secrets in what a blob contains compressed, or a note where that cannot be read."""
    if not is_container(head):
        return
    try:
        if os.path.getsize(path) > _LARGEST:
            raise UnreadableContainer("it is too large to be looked into")
        for inner in parts_inside(read_file(path)[0]):
            for secret in find_secrets(inner.decode("latin-1")):
                yield secret_finding(shown, 1, secret, "in its compressed content")
    except UnreadableContainer as error:
        yield Finding(shown, 1, "unread", message=f"its compressed content is not checked: {error}")
