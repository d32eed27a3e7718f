"""Bodies of uploads: the parts of a form, and the bytes that a request names by their digest."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import re
from collections.abc import Iterator
from typing import Any

import msgspec

_TEXT = 4096  # bytes; a longer part of a form is keyed and stored by its digest
_BOUNDARY = re.compile(r'boundary="?([^";,]+)"?')
_PARAMETER = re.compile(r';\s*(\w+\*?)=(?:"((?:[^"\\]|\\.)*)"|([^;]*))')


class Part(msgspec.Struct, frozen=True):
    """One part of a form."""

    fields: dict[str, Any]  # ``name``, ``filename``, ``content_type``, and ``text`` if it is short and a text
    content: memoryview  # its bytes, which are not copied: an upload may be large

    @property
    def identity(self) -> dict[str, Any]:
        """The fields that identify it, and the ``digest`` of an upload."""
        return self.fields if "text" in self.fields else {**self.fields, "digest": digest(self.content)}


def digest(data: bytes | memoryview) -> str:
    """Return the text that stands for bytes in a request."""
    return f"sha256:{hashlib.sha256(data).hexdigest()} {len(data)} bytes"


def parts(data: bytes, content_type: str) -> list[Part]:
    """Return the parts of a form, without the boundary that was made up to separate them."""
    whole = memoryview(data)
    if not (match := _BOUNDARY.search(content_type)):
        return [Part({}, whole)]
    return [_part(data, whole, start, end) for start, end in _bounds(data, b"--" + match.group(1).encode("latin-1"))]


def uploads(data: bytes, content_type: str) -> list[memoryview]:
    """Return the bytes that a request names by their digest: parts of a form, or a body that is not text."""
    if content_type.startswith("multipart/"):
        return [part.content for part in parts(data, content_type) if "text" not in part.fields]
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return [memoryview(data)]
    return []


def _bounds(data: bytes, mark: bytes) -> Iterator[tuple[int, int]]:
    """Yield where each part starts and ends, its head included."""
    marks = (match.span() for match in re.finditer(rb"(?:\A|\r\n)" + re.escape(mark), data))
    for (_, start), (end, _) in itertools.pairwise([*marks, (len(data), 0)]):
        if data.startswith(b"--", start):
            return
        yield start, end


def _part(data: bytes, whole: memoryview, start: int, end: int) -> Part:
    middle = data.find(b"\r\n\r\n", start, end)
    head, content = (data[start:end], whole[end:end]) if middle < 0 else (data[start:middle], whole[middle + 4 : end])
    fields: dict[str, Any] = {}
    for line in head.decode("utf-8", "replace").split("\r\n"):
        header, _, value = line.partition(":")
        if header.lower() == "content-disposition":
            for name, quoted, bare in _PARAMETER.findall(value):
                fields[name] = quoted or bare
        elif header.lower() == "content-type":
            fields["content_type"] = value.strip()
    if len(content) <= _TEXT:
        with contextlib.suppress(UnicodeDecodeError):
            fields["text"] = bytes(content).decode("utf-8")
    return Part(fields, content)
