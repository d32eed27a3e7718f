"""Stores with secrets in them, and a way to check them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest

from nbreplay.cli.main import main
from nbreplay.core.recording.blob import Blob
from nbreplay.core.recording.body import Json
from nbreplay.core.recording.recording import Recording, file_name
from nbreplay.core.recording.stream import Chunk, Events
from nbreplay.core.recording.take import Take
from nbreplay.core.request.request import Call, request_of
from nbreplay.core.request.rules import Normaliser
from nbreplay.core.secrets.redact import UNREDACTED
from tests.core.making import chat, take

ROOT = Path(__file__).parents[2]
# Put together here, so that scanners of secrets have nothing to say about this file.
KEY = "sk-" + "proj-" + "a1B2c3D4e5F6g7H8i9J0" * 2
OTHER = "gh" + "p_" + "Z9y8X7w6V5u4T3s2R1q0P9o8N7m6L5k4J3i2"
PEM = "-----BEGIN " + "PRIVATE KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\n-----END " + "PRIVATE KEY-----\n"


def put(store: Path, asked: Call, *takes: Take) -> Path:
    """Write a recording as a version would have that knew of no secrets."""
    made = request_of(asked, Normaliser(), {}, UNREDACTED)
    return write(store, Recording(made.key, made.kind, made.fields, takes))


def write(store: Path, recording: Recording, name: str = "") -> Path:
    store.mkdir(exist_ok=True)
    path = store / (name or file_name(recording.kind, recording.key))
    path.write_bytes(recording.data())
    return path


def said(text: str, *, at: int = 0, **more: Any) -> Take:
    """A take whose answer is `text`."""
    return take(Json({"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]}), at=at, **more)


def streamed(*pieces: str, **more: Any) -> Take:
    """A take whose answer comes in pieces, one a chunk."""
    chunks = [Chunk(5, {"choices": [{"index": 0, "delta": {"content": piece}}]}) for piece in pieces]
    return take(Events((*chunks, Chunk(5, "[DONE]"))), **more)


class Checked:
    """One run of the command."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: object) -> None:
        given = [str(argument) for argument in arguments]
        self.status = main(["check", *given])
        told = capsys.readouterr()
        self.out, self.err = told.out, told.err
        self.findings: list[dict[str, Any]] = json.loads(self.out) if "--json" in given else []

    def kinds(self) -> list[str]:
        return [finding["kind"] for finding in self.findings]


class Check:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> Checked:
        made = Checked(self._capsys, *arguments)
        for secret in (KEY, OTHER):
            for text in (made.out, made.err):
                assert secret[:12] not in text, "so much of a secret is never shown"
        return made


def write_notebook(path: Path, *outputs: dict[str, Any], source: str = "1", **metadata: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cell = nbformat.v4.new_code_cell(source, id="cell-0", outputs=[nbformat.from_dict(one) for one in outputs])
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=metadata), path)
    return path


def printed(text: str) -> dict[str, Any]:
    return {"output_type": "stream", "name": "stdout", "text": text}


def with_blob(store: Path, data: bytes, asked: Call | None = None) -> tuple[Path, Path]:
    """Return a recording whose answer is a file beside it, and that file."""
    blob = Blob.of(data)
    path = put(store, asked or chat(), take(blob, headers={"content-type": "text/plain"}))
    (store / blob.name).write_bytes(data)
    return path, store / blob.name
