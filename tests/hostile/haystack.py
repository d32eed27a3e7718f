"""All that a folder holds, unpacked, and whether a secret stands in it in any form in which it may be written."""

from __future__ import annotations

import base64
import binascii
import gzip
import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

__all__ = ["contents", "forms"]

_BASE64 = re.compile(rb"[A-Za-z0-9+/_\-]{40,}={0,2}")


def forms(secret: str) -> set[bytes]:
    """Return the ways in which a secret may be written into a file."""
    texts = {secret}
    for _ in range(3):  # in JSON, in a string of JSON in JSON, and once more
        texts |= {json.dumps(text)[1:-1] for text in texts}
    texts |= {quote(secret), quote(secret, safe=""), quote_plus(secret)}
    return {text.encode() for text in texts} | set(_base64_forms(secret.encode()))


def _base64_forms(secret: bytes) -> Iterator[bytes]:
    """Yield what is sure to stand in base64 of a text with the secret in it, wherever it begins."""
    for before, first in enumerate((0, 2, 3)):
        end = (before + len(secret)) % 3
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            coded = encode(b"\0" * before + secret).rstrip(b"=")
            yield coded[first : len(coded) - (1 if end else 0)]


def contents(folder: Path) -> bytes:
    """Return the names and the bytes of all files below a folder, with what is packed or encoded in them."""
    found: list[bytes] = []
    for path in sorted(folder.rglob("*")):
        found.append(str(path.relative_to(folder)).encode())
        if path.is_file():
            found.extend(_unpacked(path.read_bytes()))
    return b"\n".join(found)


def _unpacked(data: bytes, depth: int = 0) -> Iterator[bytes]:
    yield data
    if depth > 4:
        return
    if data[:4] == b"PAR1":
        import pyarrow.parquet as parquet

        yield repr(parquet.read_table(io.BytesIO(data)).to_pydict()).encode()
    elif data[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            for name in packed.namelist():
                yield name.encode()
                yield from _unpacked(packed.read(name), depth + 1)
    elif data[:2] == b"\x1f\x8b":
        yield from _unpacked(gzip.decompress(data), depth + 1)
    else:
        for match in _BASE64.finditer(data):
            yield from _decoded(match.group(), depth)


def _decoded(text: bytes, depth: int) -> Iterator[bytes]:
    """Yield what a run of base64 stands for; most such runs are words."""
    try:
        data = base64.b64decode(text.translate(bytes.maketrans(b"-_", b"+/")), validate=True)
        if data[:2] in (b"PK", b"\x1f\x8b"):
            yield from _unpacked(data, depth + 1)
    except (binascii.Error, zipfile.BadZipFile, zlib.error, OSError, EOFError):
        return
