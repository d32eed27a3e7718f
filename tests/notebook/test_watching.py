"""``--view stream`` in a real kernel: what widgets are told, what stays, and that a view costs no cell anything."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from nbreplay.core.config import Mode
from nbreplay.core.log import Interaction
from nbreplay.notebook.card import Card, make_cards
from nbreplay.notebook.display import TerminalScreen
from nbreplay.notebook.render import place_in
from nbreplay.testing.result import Result
from nbreplay.testing.runner import run
from tests.notebook.conftest import CLIENT
from tests.notebook.kernel import Kernel, Ran
from tests.provider import Provider, Spawned
from tests.testing.making import notebook


def final(ran: Ran) -> dict[str, Any]:
    """The last state that a widget of the cell was given."""
    state: dict[str, Any] = {}
    for kind, content in ran.comms:
        if (kind == "comm_open" and "cards" in content["data"]["state"]) or (
            kind == "comm_msg" and content["data"].get("method") == "update"
        ):
            state.update(content["data"]["state"])
    return state


def ids(ran: Ran) -> list[str]:
    return [place for data, _ in ran.displays if (place := place_in(data.get("text/html", "")))]


def models(ran: Ran) -> list[str]:
    """The ids of the widgets that show cards."""
    opened = [content for kind, content in ran.comms if kind == "comm_open"]
    return [content["comm_id"] for content in opened if "cards" in content["data"]["state"]]


def test_what_streams_is_told_while_it_comes(kernel: Kernel) -> None:
    kernel.run("%replay record kept --view stream")
    ran = kernel.run("print(text_of(stream(model='test/words=40+gap=20')))")
    (first, *_), last = ran.messages, ran.messages[-1]
    assert first["do"] == "more"
    assert [card["busy"] for card in first["cards"].values()] == [True]
    come = [told for message in ran.messages if message["do"] == "more" for told in message["growth"].values()]
    text = ""
    for told in come:
        text = (
            "".join(part for _, part in told["texts"]) if told["again"] else text + "".join(p for _, p in told["texts"])
        )
        assert ran.stdout.startswith(text)
    assert len(come) > 2
    assert last["do"] == "words"
    assert last["words"] == ["REC"]
    assert "test" in last["said"]
    (card,) = final(ran)["cards"]
    assert card["tracks"][0]["text"] == ran.stdout.strip("\n")
    assert ran.views[0].startswith("test/words=40+gap=20 · done")
    assert len(ids(ran)) == 1


VOICE = """
import json, threading, time
from websockets.sync.client import connect
from websockets.sync.server import serve

def answer(connection):
    for message in connection:
        for number in range(8):
            time.sleep(0.05)
            connection.send(json.dumps({"type": "response.output_text.delta", "item_id": "i", "delta": f"{number} "}))

def talk(port):
    with connect(f"ws://127.0.0.1:{port}/v1/realtime") as connection:
        message = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Count <b>up</b>"}]}
        connection.send(json.dumps({"type": "conversation.item.create", "item": message}))
        return "".join(json.loads(connection.recv())["delta"] for _ in range(8))

server = serve(answer, "127.0.0.1", 0)
port = server.socket.getsockname()[1]
threading.Thread(target=server.serve_forever, daemon=True).start()
"""


def test_a_websocket_is_told_in_both_directions_while_it_goes_on(kernel: Kernel) -> None:
    kernel.run(VOICE)
    kernel.run("%replay record kept --view stream")
    ran = kernel.run("print(talk(port))")
    come = [told for message in ran.messages if message["do"] == "more" for told in message["growth"].values()]
    assert len(come) > 2
    assert [track[0] for track in come[-1]["tracks"]] == ["user", "text"]
    kernel.run("server.shutdown()\n%replay replay kept --view stream")
    again = kernel.run("print(talk(port))")
    assert again.stdout == ran.stdout
    for one in (ran, again):
        (card,) = final(one)["cards"]
        said = [(track["kind"], track["text"]) for track in card["tracks"]]
        assert said == [("user", "Count <b>up</b>"), ("text", ran.stdout.strip("\n"))]
        assert all(track["when"] for track in card["tracks"])
        assert card["beats"]


def test_a_replay_tells_the_same_as_the_recording(kernel: Kernel) -> None:
    kernel.run("%replay record kept --view stream")
    code = "print(text_of(stream(model='test/words=9')))\nask('one')"
    recorded = kernel.run(code, "a-cell")
    kernel.run("%replay replay kept --view stream")
    replayed = kernel.run(code, "a-cell")
    assert recorded.displays[0] == replayed.displays[0]
    assert json.dumps(final(recorded)["cards"]) == json.dumps(final(replayed)["cards"])
    assert ids(recorded) == ids(replayed)
    assert [message["words"] for message in (recorded.messages[-1], replayed.messages[-1])] == [
        ["REC"] * 2,
        ["REPLAY"] * 2,
    ]


def test_a_view_that_is_drawn_late_is_told_the_words_again(kernel: Kernel) -> None:
    kernel.run("%replay record kept --view stream")
    ran = kernel.run("ask()")
    (view,) = models(ran)
    assert kernel.comm(view, {"method": "custom", "content": {"do": "ready"}}).messages == [ran.messages[-1]]
    assert kernel.comm(view, {"method": "custom", "content": {"do": "else"}}).messages == []


def test_a_cell_that_is_run_again_takes_its_view_away(kernel: Kernel) -> None:
    kernel.run("%replay record kept --view stream")
    first, second, other = kernel.run("ask()", "one"), kernel.run("ask()", "one"), kernel.run("ask()", "two")
    assert models(first) == models(second) != models(other)
    assert [kind for kind, _ in second.comms].count("comm_close") == 2, "the view, and its layout"
    assert "comm_close" not in [kind for kind, _ in other.comms]
    both = models(kernel.run("ask()\n%replay last", "one"))
    assert len(set(both)) == 2


def test_the_view_stands_where_the_first_call_was_made(kernel: Kernel) -> None:
    """Whether it is recorded or replayed: what the cell displays keeps its order."""
    kernel.run("%replay record kept --view stream")
    code = "from IPython.display import display\ndisplay('before'); ask(); display('after')"
    recorded = kernel.run(code)
    kernel.run("%replay replay kept --view stream")
    for ran in (recorded, kernel.run(code)):
        assert [data["text/plain"].split(" ")[0] for data, _ in ran.displays][:3] == ["'before'", "test", "'after'"]


def test_replays_at_a_pace_are_played_by_the_view(kernel: Kernel) -> None:
    kernel.run("%replay record kept --view stream\ntext_of(stream(model='test/words=9+gap=50'))")
    kernel.run("text_of(stream(model='test/words=9+gap=50'))")
    ran = kernel.run("%%replay replay --speed 1\ntext_of(stream(model='test/words=9+gap=50'))")
    played = [card for message in ran.messages for card in message.get("cards", {}).values()]
    assert [film["play"] for film in played[:1]] == [1.0]
    assert "play" not in json.dumps(final(ran)["cards"])


def test_calls_at_once_have_a_card_each(kernel: Kernel) -> None:
    kernel.run("%replay record kept --view stream")
    ran = kernel.run("await asyncio.gather(*(aask(f'{n}') for n in range(5)))")
    assert len(final(ran)["cards"]) == 5
    assert final(ran)["head"].startswith("5 calls")
    many = kernel.run("for n in range(21): ask(f'{n}')")
    assert final(many)["cards"] == []
    assert final(many)["rows"][0][:2] == ["test", 21]


def test_calls_of_simultaneous_tasks_are_shown_in_the_order_of_the_tasks(kernel: Kernel) -> None:
    kernel.run("%replay record kept --view stream")
    kernel.run("async def late(n):\n    await asyncio.sleep(0.1 * (2 - n))\n    return await aask(f'{n}')")
    ran = kernel.run("await asyncio.gather(*(late(n) for n in range(3)))")
    assert [card["asked"] for card in final(ran)["cards"]] == ["0", "1", "2"]
    assert final(kernel.run("%replay last"))["cards"] == final(ran)["cards"]


def test_calls_of_threads_are_shown_too(kernel: Kernel) -> None:
    kernel.run("%replay record kept --view stream")
    started = "threads = [threading.Thread(target=ask) for _ in range(2)]\nfor thread in threads: thread.start()"
    ran = kernel.run(f"{started}\nfor thread in threads: thread.join()")
    assert len(final(ran)["cards"]) == 2


def test_a_miss_is_shown(kernel: Kernel) -> None:
    kernel.run("%replay replay kept --view stream")
    ran = kernel.run("ask('not there')")
    assert ran.ename == "RecordingMissing"
    assert final(ran)["cards"][0]["word"] == "MISSING"


def test_compare_stands_side_by_side(kernel: Kernel) -> None:
    kernel.run("%replay record kept\nimport nbreplay\nask('one'); ask('two')")
    asked = "with nbreplay.session('kept') as session: ask('one'); ask('two')"
    ran = kernel.run(f"{asked}\nnbreplay.compare(*session.interactions).show()")
    state = final(ran)
    assert state["together"] is True
    assert len(state["cards"]) == 2


KEEP = """
import sys
import nbreplay.notebook.display as l, nbreplay.notebook.widget as w
kept = {name: vars(w.StreamView).get(name) for name in ("send", "__init__", "put")}
kept_cards, kept_feed = l.make_cards, l._OpenCall._feed
"""
MEND = """
sys.modules["nbreplay.notebook.widget"] = w
l.make_cards, l._OpenCall._feed = kept_cards, kept_feed
for name, value in kept.items():
    if value is not None:
        setattr(w.StreamView, name, value)
    elif name in vars(w.StreamView):
        delattr(w.StreamView, name)
"""
BREAK = {
    "a comm that is gone": "w.StreamView.send = lambda *a, **k: 1 / 0",
    "a widget that cannot be made": "w.StreamView.__init__ = lambda *a, **k: 1 / 0",
    "a view that was closed": "w.StreamView.put = lambda self, made: (self.close(), self.comm.send({}))",
    "an exception while rendering": "import nbreplay.notebook.display as l\nl.make_cards = lambda *a: 1 / 0",
    "an exception while following": "import nbreplay.notebook.display as l\nl._OpenCall._feed = lambda self: 1 / 0",
    "no widgets at all": "import sys\nsys.modules['nbreplay.notebook.widget'] = None",
}


@pytest.mark.full(quick=2)
@pytest.mark.parametrize("how", BREAK)
def test_a_view_that_fails_is_logged_once_and_the_call_goes_on(how: str, kernel: Kernel) -> None:
    kernel.run("%replay record kept --view stream")
    assert not kernel.run(KEEP).ename
    assert not kernel.run(BREAK[how]).ename
    try:
        ran = kernel.run("print(text_of(stream(model='test/words=30+gap=20')))")
    finally:
        assert not kernel.run(MEND).ename
    assert not ran.ename
    assert "answer" in ran.stdout
    assert ran.stderr.count("a view failed") == 1
    assert ran.status[0].startswith("nbreplay: 1 recorded")
    assert any("test/words=30+gap=20 · done" in data["text/plain"] for data, _ in ran.displays), "as text and HTML"
    assert kernel.run("ask()").views, "the next cell has its view again"


def outputs(result: Result) -> str:
    assert result.passed, result.errors
    kept = [cell.outputs for cell in result.notebook.cells]
    return json.dumps([kept, result.notebook.metadata.get("widgets")], sort_keys=True)


@pytest.mark.full
def test_a_notebook_keeps_the_same_whether_it_is_recorded_or_replayed(tmp_path: Path) -> None:
    with Provider() as provider:
        path = notebook(
            tmp_path / "nb" / "one.ipynb",
            CLIENT.format(url=provider.url),
            "%load_ext nbreplay\n%replay on --view stream",
            "print('before')\nprint(text_of(stream(model='test/words=30+gap=5')))",
            "ask('one'); ask('two')",
            "%replay last",
            "await asyncio.gather(*(aask(f'{n}') for n in range(3)));",
        )
        recorded = run(path, mode=Mode.RECORD)
    replayed = run(path)
    assert replayed.count("replayed") == 6
    assert outputs(recorded) == outputs(replayed) == outputs(run(path))
    kept = outputs(replayed)
    assert kept.count(" data-beats=") == 1
    assert "widget" not in kept, "nothing that JupyterLab does not store is needed"


def test_in_a_terminal_it_is_text(model: Spawned) -> None:
    from tests.notebook.test_terminal import ipython

    Path("client.py").write_text(CLIENT.format(url=model.url).strip())
    typed = (
        "from client import *\n%load_ext nbreplay\n%replay record kept --view stream\ntext_of(stream())\n%replay last\n"
    )
    done = ipython(typed)
    assert done.stdout.count("REC  test · done") == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_in_a_terminal_text_grows_below_what_is_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Card, "cost", "≈ $1")
    page = io.StringIO()
    screen = TerminalScreen(Console(file=page, force_terminal=True, width=80, color_system=None))
    screen.open()
    tracks = [["text", 0, ""], ["tool_call", 0, "look"]]
    busy = {"a": {"title": "m", "busy": True}}
    come = {"again": True, "tracks": tracks, "texts": [(0, "To")], "chunks": 1, "at": 5}
    screen.update({"order": ["a"], "cards": busy, "growth": {"a": come}})
    screen.update(
        {"order": ["a"], "cards": {}, "growth": {"a": {**come, "again": False, "texts": [(0, "kyo"), (1, "{}")]}}}
    )
    screen.close(make_cards([Interaction(None, None, "missing", host="h")]))
    grown = page.getvalue()
    assert grown.index("To\n") < grown.index("Tokyo")
    assert "▸ look {}" in grown
    assert "\x1b[2K" in grown, "what was under way is taken away again"
    assert "MISSING · ≈ $1  h" in capsys.readouterr().out
