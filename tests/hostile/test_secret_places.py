"""No secret reaches the disk, wherever in a call it stood: every kind of the corpus in every place.

A call carries many kinds, each in a field of its own. What is searched is every byte below the folder of
recordings, unpacked, and what a replay gives.
"""

from __future__ import annotations

import base64
import gzip
import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
import pytest

import nbreplay as nr
from nbreplay.analysis import frame_cache
from nbreplay.core.store.store import Store
from nbreplay.formats import registry, zip_export
from nbreplay.formats.llama_stack import recordings
from nbreplay.notebook.render import render_calls
from tests.clients import outcomes
from tests.hostile.haystack import contents, forms
from tests.hostile.mirror import Mirror
from tests.hostile.places import PLACES, Carried, Place, Scene, batched, one_line, place
from tests.hostile.places_answered import (
    chat_answer,
    content_stream,
    json_answer,
    stream_content,
    tool_arguments,
    tool_result,
)
from tests.hostile.places_sent import json_named, message, packed
from tests.hostile.secret_kinds import KINDS
from tests.notebook.kernel import started

EXPECTED_LEFT: dict[str, frozenset[str]] = {}
"""What still reaches the disk: place and kinds, each of which the documentation names."""


def both(scene: Scene, carried: Sequence[Carried]) -> Iterator[str | bytes]:
    """Record a chat, a stream, a tool and a JSON answer."""
    for call in (json_answer, tool_arguments):
        yield from call(scene, carried)
    shaped = [item for item in carried if item.kind.shaped]
    for call in (chat_answer, tool_result, message):
        yield from call(scene, shaped)
    scene.mirror.answers.pop("/v1/chat/completions")


def load(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frame_cache, "YOUNG_NS", 0)  # frames of recordings as young as these are not kept
        library = nr.load(scene.store)
        for frame in (library.interactions, library.messages, library.chunks, library.tool_calls):
            yield frame.to_csv()
    assert len(list(scene.store.rglob("*.parquet"))) == 4


def export_parquet(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    nr.load(scene.store).to_parquet(scene.out / "frames")
    yield ""


def export_zip(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    zip_export.export(Store(scene.store), scene.out / "store.zip")
    yield ""


def export_llama_stack(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    recordings.export(Store(scene.store), scene.out / "llama")
    yield ""


for _name, _after in {
    "frames and their cache": load,
    "export as parquet": export_parquet,
    "export as zip": export_zip,
    "export as llama-stack": export_llama_stack,
}.items():
    place(_name, named=True, after=_after)(both)


@dataclass
class Left:
    """What was left on the disk, and of how many."""

    pairs: int = 0
    found: dict[str, frozenset[str]] = field(default_factory=dict)


LEFT = Left()


def left_in(data: bytes, carried: Sequence[Carried]) -> frozenset[str]:
    """Return the kinds that stand in `data`, whole or by half."""

    def stands(secret: str) -> bool:
        middle = len(secret) // 2
        parts = (secret[:middle], secret[middle:]) if middle >= 16 else (secret,)
        return any(form in data for part in parts for form in forms(part))

    return frozenset(item.id for item in carried if stands(item.secret))


def note(name: str, carried: Sequence[Carried], left: frozenset[str]) -> None:
    """Count what is left, and say it; it must be what the documentation names."""
    LEFT.pairs += len(carried)
    LEFT.found[name] = left
    print(f"\n{name}: {len(left)} of {len(carried)} kinds left: {', '.join(sorted(left)) or 'none'}")
    assert left == EXPECTED_LEFT.get(name, frozenset())


def run(item: Place, scene: Scene, carried: Sequence[Carried]) -> bytes:
    """Record and replay; return what is on the disk, what the replay gave and what its cards show."""
    with warnings.catch_warnings(action="ignore"), nr.session(scene.store, mode="record") as session:
        assert list(item.call(scene, carried)), "there are calls"
    if not item.recorded:
        assert {(entry.outcome, "secret" in entry.note) for entry in session.interactions} == {("unsaved", True)}
        return contents(scene.store)
    with nr.session(scene.store, mode="replay") as session:
        replayed = list(item.call(scene, carried))
    assert set(outcomes(session)) == {"replayed"}
    shown = [json.dumps(render_calls([interaction])) for interaction in session.interactions[:40]]
    after = list(item.after(scene, carried)) if item.after else []
    texts = [text if isinstance(text, bytes) else text.encode() for text in (*replayed, *shown, *after)]
    return b"\n".join([contents(scene.store), contents(scene.out), *texts])


@pytest.fixture
def scene(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    (tmp_path / "out").mkdir()
    with Mirror() as mirror:
        made = Scene(mirror, store, tmp_path / "out", monkeypatch.setenv)
        with made.client:
            yield made


@pytest.mark.full(quick=10)
@pytest.mark.parametrize("item", PLACES, ids=lambda item: item.name)
def test_no_secret_is_written(item: Place, scene: Scene) -> None:
    carried = item.carried()
    note(item.name, carried, left_in(run(item, scene, carried), carried))


def test_no_secret_of_a_cassette_is_written(scene: Scene) -> None:
    """Cassettes of VCR hold what was sent and answered as it was."""
    carried = Place("cassette of VCR", json_named, True, one_line).carried()
    answer = {"status": {"code": 200, "message": "OK"}, "headers": {"content-type": ["application/json"]}}
    interactions = []
    for number, items in enumerate(batched(carried, 20)):
        keys = [{"api_key": item.text} for item in items]
        headers = {
            "content-type": ["application/json"],
            **{f"x-acme-{each}": [item.text] for each, item in enumerate(items)},
        }
        query = "&".join(f"token={quote(item.text, safe='')}" for item in items)
        request = {"method": "POST", "uri": f"https://api.acme.example/keys/{number}?{query}", "headers": headers}
        said_back = {"keys": keys, "message": " ".join(item.prose for item in items)}
        interactions.append(
            {
                "request": {**request, "body": json.dumps(keys)},
                "response": {**answer, "body": {"string": json.dumps(said_back)}},
            }
        )
    source = scene.out.parent / "cassettes"
    source.mkdir()
    (source / "keys.yaml").write_text(json.dumps({"version": 1, "interactions": interactions}), encoding="utf-8")
    counts = registry.import_files(source, Store(scene.store))
    assert counts.written == len(interactions)
    note("cassette of VCR", carried, left_in(contents(scene.store), carried))


def test_the_search_sees_a_secret_however_it_is_packed(tmp_path: Path) -> None:
    secret = KINDS[0].draw()
    written = {
        "plain.json": json.dumps({"a": json.dumps({"b": secret})}).encode(),
        "coded.json": json.dumps({"data": base64.b64encode(f"a {secret}".encode()).decode()}).encode(),
        "coded-zip.json": json.dumps({"data": base64.b64encode(packed(inner=secret)).decode()}).encode(),
        "body.gz": gzip.compress(secret.encode()),
        "store.zip": packed(**{"recordings/a.json": json.dumps([quote(secret, safe="")])}),
    }
    for name, data in written.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_bytes(data)
        assert any(form in contents(folder) for form in forms(secret)), name
    (tmp_path / "names" / secret).mkdir(parents=True)
    assert secret.encode() in contents(tmp_path / "names")
    pytest.importorskip("pyarrow", reason="the rest is of Parquet: pip install -e '.[parquet]'")
    pd.DataFrame({"text": [f"it is {secret}"]}).to_parquet(tmp_path / "names" / "frame.parquet", compression="zstd")
    (tmp_path / "names" / secret).rmdir()
    assert secret.encode() in contents(tmp_path / "names")


WATCHED = """
import openai
client = openai.OpenAI(base_url={url!r}, api_key="a-key-of-the-tests", max_retries=0)
for _ in client.chat.completions.create(model="m", messages=[{{"role": "user", "content": "hi"}}], stream=True):
    pass
client.chat.completions.create(model="m", messages=[{{"role": "user", "content": "plain"}}])
"""


def test_no_secret_is_in_a_card_or_the_state_of_a_widget(scene: Scene, tmp_path: Path) -> None:
    """The displays of a kernel and the states of its widgets are what is saved in a notebook."""
    shaped = Place("card and widget of a notebook", stream_content, False, lambda _: True).carried()
    scene.give("/v1/chat/completions", [*content_stream(shaped), b"data: [DONE]\n\n"], "text/event-stream")
    with started(tmp_path / "work") as kernel:
        assert not kernel.run("%load_ext nbreplay").ename
        kernel.run("%replay record kept --view stream")
        ran = kernel.run(WATCHED.format(url=f"{scene.url}/v1"), "a-cell")
    kept = [content for kind, content in ran.comms if kind == "comm_open" or content["data"].get("method") == "update"]
    assert kept
    told = json.dumps([ran.displays, kept, ran.stdout, ran.stderr, ran.result])
    data = b"\n".join([told.encode(), "".join(strings(kept)).encode(), contents(tmp_path / "work" / "kept")])
    note("card and widget of a notebook", shaped, left_in(data, shaped))


def strings(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    for item in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from strings(item)


def test_hardly_anything_is_left() -> None:
    """After all the places above: of the kinds of a shape of their own, or with a name beside them."""
    left = sum(map(len, LEFT.found.values()))
    print(f"\n{left} of {LEFT.pairs} kinds in {len(LEFT.found)} places left")
    assert len(PLACES) + 1 >= 34
    assert left <= 0.02 * LEFT.pairs
