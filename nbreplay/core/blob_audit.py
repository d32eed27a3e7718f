"""Audit of the files beside recordings: whether the content is that of the name, and the secrets in it."""

from __future__ import annotations

import gzip
import hashlib
import os
import stat
import zipfile
from collections.abc import Iterator

from nbreplay.core.blob import blob_name
from nbreplay.core.findings import Finding, find_secrets, secret_finding

__all__ = ["RESTORE", "blob_findings"]

_PIECE, _OVERLAP = 1 << 22, 1 << 13  # bytes; how much of a file is looked through at once
_UNPACKED = 64 << 20  # bytes; how much is looked through of what it contains compressed
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
                head = head or piece[:4]
                # A secret may lie where two pieces meet.
                text = (tail + piece).decode("latin-1")
                for secret in find_secrets(text):
                    if secret.value not in known or secret.start >= len(tail):
                        known.add(secret.value)
                        yield secret_finding(shown, lines + text.count("\n", 0, secret.start), secret)
                kept = (tail + piece)[-_OVERLAP:]
                lines += text.count("\n", 0, len(text) - len(kept))
                tail = kept
        for name, inner in _contents(path, head):
            for secret in find_secrets(inner.decode("latin-1")):
                yield secret_finding(shown, 1, secret, f"in {name}")
    except OSError as error:
        yield Finding(shown, 1, "blob", message=f"it cannot be read: {error.strerror or error}. Make it readable")
        return
    if blob_name(digest) != os.path.basename(path):
        yield Finding(shown, 1, "blob", message=f"its content does not match the hash in its name. {RESTORE}")


def _contents(path: str, head: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield what a zip or gzip file contains, as much of it as is looked through."""
    left = _UNPACKED
    try:
        if head[:2] == b"\x1f\x8b":
            with gzip.open(path) as file:
                yield "its compressed content", file.read(left)
        elif head == b"PK\x03\x04":
            with zipfile.ZipFile(path) as zipped:
                for member in zipped.infolist():
                    with zipped.open(member) as inner:
                        data = inner.read(left)
                    left -= len(data)
                    yield f"its file {member.filename}", data
                    if left <= 0:
                        return
    except Exception:  # a stranger's file may be wrong in any way
        return  # it only looks like one
