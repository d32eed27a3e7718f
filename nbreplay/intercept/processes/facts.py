"""What one process of a session learns and all must know: its secrets, and the ids that answers have issued.

A key that was typed in, or came in an answer, must not reach a recording by another process that repeats it. A request
that names an id must have the same key whichever process was given that id. So each process appends what it learns to a
file of the channel, and reads what others have learned before it looks a call up.

The file is encrypted. Its key is in the memory and the environment of these processes only, as API keys are. Hashes of
the secrets would not need a key, but every text would have to be hashed at every place, for every length and form.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Iterable

import msgspec

_NONCE, _TAG = 16, 16  # bytes


class Fact(msgspec.Struct, frozen=True, array_like=True):
    """A secret, or an id and the key of the request that has issued it.

    `session` is 0 for a secret of the whole process, such as the value of an environment variable.
    """

    session: int
    value: str
    key: str = ""


class Facts:
    """The facts of one channel, in a file that all of its processes append to."""

    def __init__(self, folder: str, key: bytes) -> None:
        self._path, self._key = os.path.join(folder, "facts"), key
        self._offset = 0
        self._known: set[Fact] = set()

    def append(self, facts: Iterable[Fact]) -> None:
        """Append those that are not there yet, as far as this process knows. Raise OSError if that is impossible."""
        new = [fact for fact in dict.fromkeys(facts) if fact not in self._known]
        if not new or not self._key:
            return
        data = b"".join(self._encrypt(json.dumps(msgspec.to_builtins(fact)).encode()) for fact in new)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, data)
        finally:
            os.close(descriptor)
        self._known.update(new)

    def read(self) -> list[Fact]:
        """Return the facts that others have added since the last time."""
        try:
            if os.stat(self._path).st_size == self._offset:
                return []
            with open(self._path, "rb") as file:
                file.seek(self._offset)
                data = file.read()
        except OSError:  # none yet
            return []
        data = data[: data.rfind(b"\n") + 1]
        self._offset += len(data)
        new = [fact for line in data.splitlines() if (fact := self._decrypt(line)) and fact not in self._known]
        self._known.update(new)
        return new

    def _encrypt(self, data: bytes) -> bytes:
        nonce = os.urandom(_NONCE)
        hidden = self._mix(nonce, data)
        return (nonce + self._tag(nonce + hidden) + hidden).hex().encode() + b"\n"

    def _decrypt(self, line: bytes) -> Fact | None:
        try:
            data = bytes.fromhex(line.decode())
            nonce, tag, hidden = data[:_NONCE], data[_NONCE : _NONCE + _TAG], data[_NONCE + _TAG :]
            if not hmac.compare_digest(tag, self._tag(nonce + hidden)):
                return None
            return msgspec.convert(json.loads(self._mix(nonce, hidden)), Fact)
        except (ValueError, msgspec.ValidationError):
            return None

    def _mix(self, nonce: bytes, data: bytes) -> bytes:
        """Encrypt or decrypt: each nonce gives bytes of its own, which nobody can tell without the key."""
        stream = hashlib.shake_256(self._key + nonce).digest(len(data))
        return bytes(a ^ b for a, b in zip(data, stream, strict=True))

    def _tag(self, data: bytes) -> bytes:
        return hashlib.blake2b(data, key=self._key, digest_size=_TAG).digest()
