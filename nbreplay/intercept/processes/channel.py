"""The channel between a process and its children: a private folder with the state of its session, reports and claims.

The state says which session is on now, since workers of a pool live longer than sessions and cells. Reports are lines
that children append, each call at once, since many of them close all their files, and workers are killed. A claim is a
file that one process alone can create. No source of a cell and no body is written, and secrets only as
`nbreplay.intercept.processes.facts` does it.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator

import msgspec

from nbreplay.core.cell import Slot
from nbreplay.core.config import Options
from nbreplay.core.recording.blob import Blob
from nbreplay.core.recording.take import Take
from nbreplay.core.variable_text import Proposal
from nbreplay.errors import NbreplayError
from nbreplay.intercept.processes.facts import Facts

VARIABLE = "NBREPLAY_CHILD"
"""The environment variable that switches a Python process on. An empty one leaves it and its children alone."""


class RunState(msgspec.Struct, frozen=True):
    """The run of a cell, or of a session outside any."""

    number: int
    started: str
    keeps_errors: bool
    cell: tuple[str | None, int | None, str | None, str] | None  # its id, number, notebook and digest


class State(msgspec.Struct, frozen=True):
    """The session that is on."""

    session: int
    run: RunState
    options: Options
    folder: str  # of the store
    name: str
    shown: str
    durable: bool
    keeps_errors: bool
    place: str


class Report(msgspec.Struct, frozen=True, array_like=True):
    """A call of a child, as far as it is known now; or another event, of which `outcome` has the kind."""

    session: int
    run: int
    process: str
    number: str  # of the process and the call
    outcome: str
    kind: str = ""
    key: str = ""
    model: str = ""
    take: str = ""
    note: str = ""
    store: str = ""
    host: str = ""
    served_s: float | None = None
    masks: tuple[Proposal, ...] = ()


class Channel:
    """The folder of one process, whose number is `owner`, and the key of what is hidden there."""

    def __init__(self, folder: str, key: bytes) -> None:
        self.folder, self.owner, self.key = folder, os.getpid(), key
        self.facts = Facts(folder, key)
        self._state, self._reports = os.path.join(folder, "state"), os.path.join(folder, "reports")
        self._offset = 0
        self._last = 0

    @classmethod
    def make(cls) -> Channel:
        """Make a folder that only its user can read."""
        return cls(tempfile.mkdtemp(prefix="nbreplay-children-"), os.urandom(32))

    def remove(self) -> None:
        """Remove the folder, in the process that has made it."""
        if self.owner == os.getpid():
            shutil.rmtree(self.folder, ignore_errors=True)

    def write_state(self, state: State | None) -> int:
        """Write the state, in one step for every reader, and return its stamp."""
        path = f"{self._state}.{threading.get_ident()}"  # several threads may write
        if not os.path.isdir(self.folder):  # some systems remove temporary files that are old
            os.mkdir(self.folder, 0o700)
            self._offset = 0
            self.facts = Facts(self.folder, self.key)
        with open(path, "wb") as file:
            file.write(_encode(state))
        # Another stamp each time, also where the clock of the file system is slow.
        self._last = stamp = max(self._last + 1, time.time_ns())
        os.utime(path, ns=(stamp, stamp))
        os.replace(path, self._state)
        return self.stamp()

    def stamp(self) -> int:
        """Return a number that changes with the state; 0 where the process has ended."""
        try:
            return os.stat(self._state).st_mtime_ns
        except OSError:
            return 0

    def read_state(self) -> State | None:
        """Return the state, or None if no session is on."""
        with open(self._state, "rb") as file:
            return msgspec.convert(json.loads(file.read()), State | None)

    def append(self, report: Report) -> None:
        """Append a report; a child that cannot says so."""
        try:
            descriptor = os.open(self._reports, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(descriptor, _encode(report) + b"\n")
            finally:
                os.close(descriptor)
        except OSError as error:
            if os.path.isdir(self.folder):  # otherwise the parent has ended
                print(f"nbreplay cannot report a call to the parent process: {error}", file=sys.stderr)

    def read_reports(self) -> Iterator[Report | None]:
        """Yield the new reports, and None for one that cannot be read."""
        try:
            if os.stat(self._reports).st_size == self._offset:
                return
            with open(self._reports, "rb") as file:
                file.seek(self._offset)
                data = file.read()
        except OSError:
            return
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            try:
                yield msgspec.convert(json.loads(line), Report)
            except (ValueError, msgspec.ValidationError):
                yield None

    def claims(self, run: int) -> FileClaims:
        """Return the claims of a run."""
        return FileClaims(os.path.join(self.folder, f"claims-{run}"))


class FileClaims:
    """The claims of one run, each of them a file."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        with contextlib.suppress(OSError):
            os.mkdir(folder, 0o700)

    def claim(self, slot: Slot, take: Take, copies: int, *, replaying: bool) -> bool:
        """Claim a take, of which the recording has so many `copies`; return False if other processes have them all."""
        for path in self._paths(slot, take, copies, replaying):
            try:
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            except FileExistsError:
                continue
            except OSError:  # the run is over
                return True
            return True
        return False

    def release(self, slot: Slot, take: Take, copies: int, *, replaying: bool) -> None:
        """Give a claimed take back."""
        for path in reversed(self._paths(slot, take, copies, replaying)):
            with contextlib.suppress(OSError):
                os.remove(path)
                return

    def _paths(self, slot: Slot, take: Take, copies: int, replaying: bool) -> list[str]:
        name = f"{slot}{replaying}{take_id(take)}".encode()
        digests = [hashlib.blake2b(b"%s%d" % (name, number), digest_size=12) for number in range(copies)]
        return [os.path.join(self._folder, digest.hexdigest()) for digest in digests]

    def remove(self) -> None:
        """Remove the claims, since the run is over."""
        shutil.rmtree(self._folder, ignore_errors=True)


def take_id(take: Take) -> str:
    """Return a text that tells a take from others of its recording, unless they are copies."""
    fields = [getattr(take, name) for name in Take.__struct_fields__ if name != "body"]
    digest = hashlib.blake2b(repr(fields).encode("utf-8", "backslashreplace"), digest_size=12)
    with contextlib.suppress(NbreplayError):  # a body that cannot be read is refused when it is given
        digest.update(take.body.name.encode() if isinstance(take.body, Blob) else take.body.data())
    return digest.hexdigest()


def _encode(value: State | Report | None) -> bytes:
    # Paths and prompts may have lone surrogates, which msgspec neither writes nor reads.
    return json.dumps(msgspec.to_builtins(value)).encode()


def encode_variable(channel: Channel, strand: str = "") -> str:
    """Return the value of `VARIABLE` for a child."""
    return json.dumps({"folder": channel.folder, "key": channel.key.hex(), "strand": strand})


def decode_variable(text: str) -> tuple[Channel, str]:
    """Return the channel and the strand of a value of `VARIABLE`; raise ValueError if it is another one's."""
    value = json.loads(text)
    if not (isinstance(value, dict) and isinstance(value.get("folder"), str)):
        raise ValueError(f"{VARIABLE} is not set by nbreplay")
    return Channel(value["folder"], bytes.fromhex(str(value.get("key", "")))), str(value.get("strand", ""))


_counter = itertools.count(1)


def next_number() -> int:
    """Return a number for a session or a run that no other one of this process has."""
    return next(_counter)
