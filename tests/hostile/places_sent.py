"""Places of what is sent: headers, addresses and bodies."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import quote

import requests

from tests.clients import said
from tests.hostile.places import Call, Carried, Scene, batched, one_line, place

# what is sent: headers, address


def bearer(scheme: str) -> Call:
    def call(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
        for item in carried:
            yield scene.post(f"/key/{item.id}", headers={"authorization": f"{scheme} {item.text}"}, json={"model": "m"})

    return call


place("header authorization bearer", named=True, fits=one_line)(bearer("Bearer"))
place("header authorization of another scheme", named=True, fits=one_line)(bearer("Acme"))


@place("request header that nobody knows", named=True, fits=one_line)
def unknown_header(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    for items in batched(carried, 40):
        sent = {f"x-acme-{number}": item.text for number, item in enumerate(items)}
        yield requests.post(scene.url + "/unknown", headers=sent, json={"model": "m"}, timeout=20).text


@place("basic authentication", named=True, fits=one_line)
def basic(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    for item in carried:
        yield scene.post(f"/basic/{item.id}", auth=("someone", item.text), json={"model": "m"})


@place("cookie of the request", named=True, fits=lambda text: one_line(text) and not set(text) & set(';,"'))
def cookie(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    for item in carried:
        yield scene.post(f"/cookie/{item.id}", headers={"cookie": f"session={item.text}"}, json={"model": "m"})


@place("query by name", named=True)
def query(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    for item in carried:
        yield scene.get(f"{scene.url}/query", params={"api_key": item.text, "page": "1"}).text


@place("query in prose")
def query_prose(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    for item in carried:
        yield scene.get(f"{scene.url}/query", params={"q": item.prose}).text


@place("path", fits=one_line)
def path(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    for item in carried:
        yield scene.get(f"{scene.url}/bots/{quote(item.text, safe='')}/messages").text


# what is sent: bodies


@place("JSON by name", named=True)
def json_named(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    yield scene.post("/json", json={"accounts": [{"api_key": item.text} for item in carried]})


@place("message of a chat")
def message(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    turns = [turn for item in carried for turn in said(item.prose)]
    yield scene.post("/v1/chat/completions", json={"model": "m", "messages": turns})


@place("name of a member of JSON")
def json_name(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    yield scene.post("/names", json={item.text: 1 for item in carried})


@place("JSON in JSON", named=True)
def json_in_json(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    called = [{"function": {"name": "f", "arguments": json.dumps({"password": item.text})}} for item in carried]
    turns = [{"role": "assistant", "tool_calls": called}]
    yield scene.post("/v1/chat/completions", json={"model": "m", "messages": turns})


@place("form by name", named=True)
def form(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    yield requests.post(scene.url + "/form", [("client_secret", item.text) for item in carried], timeout=20).text


def multipart(scene: Scene, parts: Iterable[tuple[str, str | None, bytes]]) -> str:
    boundary, lines = "b" * 30, []
    for name, file, data in parts:
        more = f'; filename="{file}"' if file else ""
        head = f'--{boundary}\r\ncontent-disposition: form-data; name="{name}"{more}\r\n\r\n'
        lines.append(head.encode() + data + b"\r\n")
    body = b"".join(lines) + f"--{boundary}--\r\n".encode()
    return scene.post("/files", content=body, headers={"content-type": f"multipart/form-data; boundary={boundary}"})


@place("text part of a form by name", named=True)
def part(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    yield multipart(scene, (("api_key", None, item.text.encode()) for item in carried))


@place("text part of a form in prose")
def part_prose(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    yield multipart(scene, (("comment", None, item.prose.encode()) for item in carried))


@place("name of a part", fits=lambda text: one_line(text) and '"' not in text)
def part_name(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    yield multipart(scene, ((item.text, None, b"yes") for item in carried))


@place("name of a file", fits=lambda text: one_line(text) and '"' not in text)
def file_name(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    yield multipart(scene, (("file", item.text, b"yes") for item in carried))


def env_file(carried: Sequence[Carried]) -> str:
    return "".join(f"{item.kind.name}={item.text}\n" for item in carried)


@place("text file", named=True)
def text_file(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    yield scene.post("/files", files={"file": (".env", env_file(carried).encode())})


@place("small text files", named=True)
def small_files(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    yield scene.post("/files", files=[("files", (f"{item.id}.env", env_file([item]).encode())) for item in carried])


@place("gzip of JSON", named=True)
def gzipped(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    body = gzip.compress(json.dumps([{"api_key": item.text} for item in carried]).encode(), mtime=0)
    yield scene.post("/gzip", content=body, headers={"content-encoding": "gzip", "content-type": "application/json"})


def packed(**members: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)
    return made.getvalue()


@place("zip that is sent", named=True)
def zip_sent(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    yield scene.post("/files", files={"file": ("project.zip", packed(**{"project/.env": env_file(carried)}))})


@place("zip as the body", named=True)
def zip_body(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    body = packed(**{"project/.env": env_file(carried)})
    yield scene.post("/upload", content=body, headers={"content-type": "application/zip"})


@place("docx that is sent")
def docx(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    text = "".join(f"<w:p><w:t>{item.prose}</w:t></w:p>" for item in carried)
    document = packed(**{"word/document.xml": f"<w:document>{text}</w:document>"})
    yield scene.post("/files", files={"file": ("letter.docx", document)})


@place("notebook that is sent", named=True)
def ipynb(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    cells = [{"cell_type": "code", "source": [f"api_key = {item.text!r}\n"], "outputs": []} for item in carried]
    notebook = json.dumps({"cells": cells, "nbformat": 4, "nbformat_minor": 5, "metadata": {}})
    yield scene.post("/files", files={"file": ("notes.ipynb", notebook.encode())})
