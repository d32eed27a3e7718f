"""Any web service: text, binary, compressed, forms, redirections, events."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from typing import Any

from tests.sdks.asked import HOLD, SSE, Answer, Asked, Route, events

__all__ = ["ROUTES"]


def data(asked: Asked) -> Answer:
    """JSON, as it was asked for: spaced, with letters that are not ASCII and a float that is long."""
    told = {"number": asked.number, "text": "h\u00e9llo \u6f22\u5b57", "float": 0.12345678901234568}
    return Answer(json.dumps(told, indent=1, ensure_ascii=False).encode())


def text(asked: Asked) -> Answer:
    """Text in another encoding."""
    return Answer(f"h\u00e9llo {asked.number}\r\n".encode("latin-1"), "text/plain; charset=iso-8859-1")


def table(asked: Asked) -> Answer:
    """Comma-separated values."""
    rows = "".join(f"{asked.number},row {row},{row / 7}\n" for row in range(5))
    return Answer(f"number,name,value\n{rows}".encode(), "text/csv")


def binary(asked: Asked) -> Answer:
    """Bytes of every value, piece by piece."""
    return Answer(iter([b"%d " % asked.number, bytes(range(256)), b"\x00\xff" * 500]), "application/octet-stream")


def packed(asked: Asked) -> Answer:
    """JSON, compressed."""
    told = json.dumps({"number": asked.number, "text": "\u6f22\u5b57" * 50}).encode()
    encoding = asked.groups[0]
    return Answer(
        gzip.compress(told) if encoding == "gzip" else zlib.compress(told), headers={"content-encoding": encoding}
    )


def packed_events(asked: Asked) -> Answer:
    """Events, compressed one by one."""
    packer = zlib.compressobj(wbits=31)

    def pieces() -> Iterator[bytes]:
        for event in _events(asked):
            yield event if event == HOLD else packer.compress(event) + packer.flush(zlib.Z_SYNC_FLUSH)
        yield packer.flush()

    return Answer(pieces(), SSE, {"content-encoding": "gzip"})


def sent(asked: Asked) -> Answer:
    """What was sent: JSON, or a form's fields."""
    fields = {name: _readable(value) for name, value in asked.body.items()}
    return Answer({"number": asked.number, "method": asked.method, "sent": fields})


def _readable(value: Any) -> Any:
    return [value[0], len(value[1])] if isinstance(value, tuple) else value


def elsewhere(asked: Asked) -> Answer:
    """It is somewhere else."""
    return Answer(b"", "text/plain", {"location": "/plain/json"}, status=302)


def missing(asked: Asked) -> Answer:
    """There is nothing."""
    return Answer(f"nothing here {asked.number}".encode(), "text/plain", status=404)


def nothing(asked: Asked) -> Answer:
    """Done, and nothing to tell."""
    return Answer(b"", "text/plain", {"x-request-id": f"req_of_{asked.number}"}, status=204)


def stream(asked: Asked) -> Answer:
    """Events."""
    return Answer(_events(asked), SSE)


def _events(asked: Asked) -> Iterator[bytes]:
    pairs: list[Any] = [("tick", {"number": asked.number, "tick": tick}) for tick in range(4)]
    return events([pairs[0], HOLD, *pairs[1:]])


ROUTES: list[Route] = [
    ("GET", re.compile(r"/plain/json"), data),
    ("GET", re.compile(r"/plain/text"), text),
    ("GET", re.compile(r"/plain/table.csv"), table),
    ("GET", re.compile(r"/plain/binary"), binary),
    ("GET", re.compile(r"/plain/(gzip|deflate)"), packed),
    ("GET", re.compile(r"/plain/gzip-events"), packed_events),
    ("GET", re.compile(r"/plain/elsewhere"), elsewhere),
    ("GET", re.compile(r"/plain/missing"), missing),
    ("GET", re.compile(r"/plain/events"), stream),
    ("POST", re.compile(r"/plain/sent"), sent),
    ("PUT", re.compile(r"/plain/sent"), sent),
    ("DELETE", re.compile(r"/plain/sent"), nothing),
]
