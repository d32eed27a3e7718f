"""A place of a call where a secret may stand, and the scene in which the call is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.clients import http
from tests.hostile.mirror import Answer, Mirror
from tests.hostile.secret_kinds import KINDS, Kind


@dataclass(frozen=True, slots=True)
class Carried:
    """A secret on its way: its kind, the text that has it, and the part that must not be written."""

    kind: Kind
    text: str
    secret: str

    @property
    def id(self) -> str:
        return self.kind.id

    @property
    def prose(self) -> str:
        return f"My key is {self.text}, please use it."


@dataclass(frozen=True, slots=True)
class Scene:
    """Where the calls of a place are made."""

    mirror: Mirror
    store: Path
    out: Path
    set_variable: Callable[[str, str], None]
    client: Any = field(default_factory=lambda: http.Client(verify=False))

    @property
    def url(self) -> str:
        return self.mirror.url

    def post(self, path: str, **body: Any) -> str:
        """Send a request, and return the text of its answer."""
        return str(self.client.post(self.url + path, **body).text)

    def get(self, url: str, **more: Any) -> Any:
        """Return the answer of an address."""
        return self.client.get(url, **more)

    def give(self, path: str, body: bytes | list[bytes], kind: str = "application/json", **more: Any) -> str:
        """Let the server answer this at a path, and return the address."""
        self.mirror.answers[path] = Answer(body, kind, **more)
        return self.url + path


Call = Callable[[Scene, Sequence[Carried]], "Iterator[str | bytes]"]


@dataclass(frozen=True, slots=True)
class Place:
    """A place of a call.

    Attributes
    ----------
    name : str
    call : callable
        Makes the calls, and yields what came of them.
    named : bool
        Whether the place says that the value is a secret; elsewhere only kinds of a shape of their own are sent.
    fits : callable
        Which texts can stand there at all.
    recorded : bool
        Whether there is a recording afterwards: what cannot be redacted is not kept, and the session says so.
    after : callable, optional
        What is done with the recordings afterwards: it writes below the second folder of the scene, or yields.
    """

    name: str
    call: Call
    named: bool
    fits: Callable[[str], bool]
    recorded: bool = True
    after: Call | None = None

    def carried(self) -> list[Carried]:
        """Return what is sent there, another example than in any other place."""
        drawn = ((kind, kind.example(Random(f"{kind.id} {self.name}"))) for kind in KINDS if self.named or kind.shaped)
        return [Carried(kind, text, kind.secret(text)) for kind, text in drawn if self.fits(text)]


PLACES: list[Place] = []


def place(
    name: str,
    *,
    named: bool = False,
    fits: Callable[[str], bool] = lambda _: True,
    recorded: bool = True,
    after: Call | None = None,
) -> Callable[[Call], Call]:
    def add(call: Call) -> Call:
        PLACES.append(Place(name, call, named, fits, recorded, after))
        return call

    return add


def one_line(text: str) -> bool:
    return "\n" not in text


def batched(items: Sequence[Carried], size: int) -> Iterator[Sequence[Carried]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
