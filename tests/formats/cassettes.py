"""Real cassettes of pydantic-ai, read by PyYAML alone and compared with what the imported store replays.

``python -m tests.formats.cassettes [FOLDER]`` prints the figures.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

import nbreplay as nr
from nbreplay.core.recording.recording import Recording
from nbreplay.core.request.rules import verbatim
from nbreplay.core.store.store import Store
from nbreplay.formats import registry
from nbreplay.formats.importer import ImportCounts
from tests.clients import http

FOLDER = Path(__file__).parents[2].parent / "shared" / "cassettes-pydantic-ai"
_OWN = ("content-length", "host", "connection", "accept-encoding", "transfer-encoding")  # headers that the client sets


@dataclass
class Figures:
    """What was read, and how much of it came back the same."""

    counts: ImportCounts
    files: int = 0
    interactions: int = 0  # without websocket sessions
    messages: int = 0  # of websockets, with those that end a session
    http: int = 0
    distinct: int = 0
    with_body: int = 0
    equal: int = 0
    empty: int = 0
    seconds: float = 0.0
    differences: list[str] = field(default_factory=list)

    def text(self) -> str:
        http_of = f"{self.interactions} interactions in {self.files} files, {self.http} of them HTTP"
        messages = f"{self.messages} messages of websockets"
        return "\n".join(
            [
                f"read by PyYAML:         {http_of} ({self.distinct} distinct requests, ids and all); {messages}",
                f"imported:               {self.counts.text('added')}; {self.counts.recordings} recordings",
                f"replayed and equal:     {self.equal} of {self.http} (method, host, path, request, status, answer)",
                f"empty where a body is:  {self.empty} of {self.with_body}",
                f"time to import:         {self.seconds:.1f} s",
                *self.differences,
            ]
        )


def measure(folder: Path = FOLDER) -> Figures:
    """Import the cassettes of a folder, replay every HTTP call of them in order, and compare."""
    with tempfile.TemporaryDirectory() as temporary:
        started = time.perf_counter()
        counts = registry.import_files(folder, Store(f"{temporary}/store"))
        figures = Figures(counts, seconds=time.perf_counter() - started)
        stored = {
            recording.key: recording
            for _, recording in Store(f"{temporary}/store").recordings()
            if isinstance(recording, Recording)
        }
        requests: Counter[str] = Counter()
        with nr.session(f"{temporary}/store", mode="replay") as session, http.Client(trust_env=False) as client:
            for path in sorted(folder.rglob("*.yaml")):
                figures.files += 1
                cassette = yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
                for number, item in enumerate(cassette["interactions"], 1):
                    if item.get("kind") in ("message", "close") or "direction" in item:
                        figures.messages += 1
                        continue
                    figures.interactions += 1
                    if "request" not in item:
                        continue
                    figures.http += 1
                    asked = item["request"]
                    requests[repr((asked["method"], asked["uri"], _data(asked)))] += 1
                    wrong = _compare(item, client, session, stored, figures)
                    figures.equal += not wrong
                    if wrong:
                        figures.differences.append(f"{path.relative_to(folder)}, interaction {number}: {wrong}")
        figures.distinct = len(requests)
    return figures


def _compare(item: dict[str, Any], client: Any, session: Any, stored: dict[str, Recording], figures: Figures) -> str:
    """Return in what the replayed call differs from the cassette; ``""`` where it is equal."""
    asked, answered = item["request"], item["response"]
    try:
        response = client.request(asked["method"], asked["uri"], content=_data(asked), headers=_sent(asked))
    except nr.RecordingMissing as error:
        return f"missing: {str(error)[:200]}"
    call = session.interactions[-1]
    take, recording = call.take, stored[call.request.key]
    parts = urlsplit(asked["uri"])
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    if (recording.request["method"], take.host, take.url) != (asked["method"].upper(), parts.netloc, target):
        return "method, host or path"
    sent = asked.get("parsed_body") if "parsed_body" in asked else _as_json(_data(asked))
    if sent is not None and verbatim(recording.request.get("body"), take.ids) != sent:
        return "request"
    if response.status_code != answered["status"]["code"]:
        return "status"
    expected = _data(answered)
    figures.with_body += bool(expected)
    figures.empty += bool(expected) and not response.content
    same = response.json() == answered["parsed_body"] if "parsed_body" in answered else response.content == expected
    return "" if same else "answer"


def _data(side: dict[str, Any]) -> bytes:
    if "parsed_body" in side:
        return json.dumps(side["parsed_body"]).encode()
    body = side["body"]
    body = body.get("string", b"") if isinstance(body, dict) else body
    return body.encode() if isinstance(body, str) else body or b""


def _as_json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None


def _sent(asked: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (name, value.decode() if isinstance(value, bytes) else value)
        for name, values in asked["headers"].items()
        for value in values
        if name.lower() not in _OWN
    ]


if __name__ == "__main__":
    print(measure(*map(Path, sys.argv[1:])).text())
