"""Pictures of what a notebook shows: ``python -m tests.browser.pictures FOLDER [NAME…]``; wants the extra `browser`.

JupyterLab runs a notebook with a cell per row of `ROWS`, in replay, and each cell becomes ``NAME-light.png`` and
``NAME-dark.png``, and ``NAME-phone.png`` where the row says so. To add one, add a row.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import nbformat
from playwright.sync_api import Browser, Error, Locator, sync_playwright

from tests.browser.conftest import ROOT, chromium, served
from tests.browser.page import Opened

__all__ = ["ROWS", "Row", "main"]


class Row(NamedTuple):
    """A cell that becomes a picture."""

    name: str
    source: str
    act: Callable[[Locator], None] | None = None  # what a reader does in the cell before the picture is taken
    phone: bool = False


def _unfold(cell: Locator) -> None:
    cell.locator("details").evaluate_all("found => found.forEach((fold) => { fold.open = true; })")


def _scrub(cell: Locator) -> None:
    """Show the first answer half played."""
    scrub = "slider => { slider.value = slider.max / 2; slider.dispatchEvent(new Event('input')); }"
    cell.locator(".nbr-play input[type=range]").first.evaluate(scrub)


def _search(cell: Locator) -> None:
    """Look for a word in an explorer, and choose the second match."""
    cell.get_by_role("searchbox").fill("tokyo")
    cell.get_by_role("searchbox").press("Enter")
    cell.get_by_role("listbox").press("ArrowDown")
    cell.page.wait_for_timeout(500)


SETUP = '''
%load_ext nbreplay
%replay on
import json
import os

import nbreplay as nr
from openai import BadRequestError, OpenAI

client = OpenAI()
lib = nr.load("../recordings")


@nr.tool
def get_weather(city: str) -> str:
    """Tell the temperature in a city."""
    return f"It is 18 degrees Celsius in {city}."


def ask(text, **settings):
    messages = [{"role": "user", "content": text}]
    given = {"model": "smollm2-135m", "messages": messages, "temperature": 0, **settings}
    return client.chat.completions.create(**given)
'''

# A server like OpenAI's realtime, and a client that talks to it.
WEBSOCKET = """%%replay record --view stream
import base64, json, threading, time
from websockets.sync.client import connect
from websockets.sync.server import serve

CALL = {"id": "i1", "type": "function_call", "name": "get_weather", "call_id": "c1"}
SAID = [("response.output_item.added", {"item": CALL}),
        ("response.function_call_arguments.delta", {"item_id": "i1", "call_id": "c1", "delta": '{"city": "Tokyo"}'}),
        ("response.done", {"response": {"status": "completed", "usage": {"input_tokens": 80, "output_tokens": 12}}})]
WORDS = "It is <b>18 degrees</b> and clear in Tokyo , a good evening for a walk .".split()
SAID_ALOUD = [(f"response.output_audio{kind}.delta", {"item_id": "i2", "delta": delta}) for word in WORDS
              for kind, delta in (("_transcript", word + " "), ("", base64.b64encode(bytes(9600)).decode()))]


def answer(connection):
    connection.send(json.dumps({"type": "session.created", "session": {"model": "gpt-realtime"}}))
    for number, message in enumerate(message for message in connection if "response.create" in message):
        for kind, fields in (SAID_ALOUD + SAID[-1:] if number else SAID):
            time.sleep(0.03)
            connection.send(json.dumps({"type": kind, **fields}))


server = serve(answer, "127.0.0.1", 0)
threading.Thread(target=server.serve_forever, daemon=True).start()
with connect(f"ws://127.0.0.1:{server.socket.getsockname()[1]}/v1/realtime?model=gpt-realtime") as session:
    def send(kind, **fields):
        session.send(json.dumps({"type": kind, **fields}))

    send("session.update", session={"instructions": "Answer in one sentence."})
    content = [{"type": "input_text", "text": "How is the weather in Tokyo?"}]
    send("conversation.item.create", item={"type": "message", "role": "user", "content": content})
    send("response.create")
    while json.loads(session.recv())["type"] != "response.done": pass
    result = {"type": "function_call_output", "call_id": "c1", "output": "18 degrees, clear"}
    send("conversation.item.create", item=result)
    send("response.create")
    while json.loads(session.recv())["type"] != "response.done": pass
server.shutdown()
"""

ROWS = (
    Row(
        "badge",
        'reply = ask("What is the capital of France? Answer in one short sentence.", max_tokens=30)\n'
        "print(reply.choices[0].message.content)",
    ),
    Row("status", "%replay"),
    Row("words", "%replay help"),
    Row("lib", "lib"),
    Row("interactions", "lib.interactions"),
    Row("texts", 'lib.interactions[["model", "prompt", "answer"]]'),
    Row("messages", "lib.messages"),
    Row("chunks", "lib.chunks"),
    Row("tool_calls", "lib.tool_calls"),
    Row("explorer", "lib.show()", phone=True),
    Row("recordings", "%replay recordings", _search),
    Row("llm", "lib.interactions.llm"),
    Row("summary", 'lib.interactions.llm.summary("kind")'),
    Row(
        "session",
        'with nr.session("../recordings", mode="replay") as session:\n'
        '    ask("Write two sentences about the sea.", max_tokens=60, stream=True).close()\n'
        "session",
    ),
    Row("session_show", "session.show()"),
    Row("interaction", "session.interactions[0]"),
    Row(
        "stream",
        "%%replay --view stream\n"
        'for chunk in ask("Write three sentences about a lighthouse.", max_tokens=90, stream=True,\n'
        '                 stream_options={"include_usage": True}):\n'
        "    pass",
        _scrub,
        phone=True,
    ),
    Row("websocket", WEBSOCKET, _scrub, phone=True),
    Row("tool", '%%replay --view stream\nget_weather("Tokyo")', _unfold),
    Row(
        "error",
        "%%replay --view stream\n"
        "try:\n"
        '    client.chat.completions.create(model="smollm2-135m", top_logprobs=3,\n'
        '                                   messages=[{"role": "user", "content": "Hello"}])\n'
        "except BadRequestError as error:\n"
        "    print(error.status_code)",
    ),
    Row(
        "miss",
        '%%replay replay\nask("What is the capital of Frankonia? Answer in one short sentence.", max_tokens=30)',
    ),
    Row(
        "miss_caught",
        "%%replay replay\n"
        "try:\n"
        '    ask("What is the capital of Frankonia? Answer in one short sentence.", max_tokens=30)\n'
        "except BaseException:\n"
        '    print("caught")',
    ),
    Row("diff", "%replay diff"),
    Row("comparison", 'moons = lib.interactions[lib.interactions.kind == "chat"]\nnr.compare(moons[:3], moons[3:6])'),
    Row(
        "comparison_show",
        'with nr.session("../recordings") as moon:\n'
        '    for words in ("five", "fifteen"):\n'
        '        for chunk in ask(f"Describe the moon in {words} words.", max_tokens=40, stream=True):\n'
        "            pass\n"
        "nr.compare(*moon.interactions).show()",
        phone=True,
    ),
    Row("plot", "lib.interactions.llm.plot();"),
    Row("plot_timeline", "lib.interactions.llm.plot.timeline();"),
    Row("plot_gaps", 'lib.interactions.llm.plot.gaps(by="kind");'),
    Row("wrong_word", "%replay lst"),
)


def _write_notebook(path: Path, rows: Sequence[Row]) -> None:
    cells = [nbformat.v4.new_code_cell(SETUP)]
    # A cell that raises is not to stop those below it.
    cells += [nbformat.v4.new_code_cell(row.source, metadata={"tags": ["raises-exception"]}) for row in rows]
    for number, cell in enumerate(cells):
        cell.id = f"picture-{number}"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)


def _take(browser: Browser, address: str, rows: Sequence[Row], folder: Path, look: str) -> None:
    """Run the notebook at an address, and write the picture of each row."""
    phone = look == "phone"
    # What is out of sight is not drawn, so the page is tall. A narrow one has no menus to click.
    size = {"width": 1000, "height": 1000 + 900 * len(rows)}
    page = Opened(browser.new_page(viewport=size, device_scale_factor=1.5 if phone else 1), address).ready().run_all()
    if page.page.get_by_text("[ ]:", exact=True).count():  # on a busy machine a run may stop before its first cell
        page.run_all()
    if phone:
        page.page.set_viewport_size({"width": 390, "height": size["height"]})
    page.page.wait_for_timeout(1_000)  # widgets and the last outputs
    for row, cell in zip(rows, page.page.locator(".jp-CodeCell").all()[1:], strict=True):
        if row.act is not None:
            try:
                row.act(cell)
            except Error as error:
                print(f"{row.name}: {error}", file=sys.stderr)
        cell.scroll_into_view_if_needed()
        page.picture(folder / f"{row.name}-{look}.png", of=cell)
    for trouble in page.troubles:
        print(f"{look}: {trouble}", file=sys.stderr)
    page.page.close()


def main(arguments: list[str] | None = None) -> int:
    """Take the pictures."""
    parser = argparse.ArgumentParser(prog="python -m tests.browser.pictures", description="Pictures of a notebook.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help="the rows to take; all, if none is named")
    parser.add_argument("--look", choices=("light", "dark", "phone"), action="append", help="all three, if not given")
    given = parser.parse_args(arguments)
    rows = [row for row in ROWS if not given.names or row.name in given.names]
    if unknown := set(given.names).difference(row.name for row in rows):
        parser.error(f"no row is called {', '.join(sorted(unknown))}. There are {', '.join(row.name for row in ROWS)}")
    given.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        project = Path(name) / "project"
        for part in ("notebooks", "recordings"):
            shutil.copytree(ROOT / part, project / part)
        (project / "pyproject.toml").write_text("")
        browser = chromium(playwright)
        for look in given.look or ("light", "dark", "phone"):
            own = [row for row in rows if row.phone] if look == "phone" else rows
            if not own:
                continue
            _write_notebook(project / "notebooks" / "pictures.ipynb", own)
            (settings := Path(name) / look).mkdir()
            server = served("jupyterlab", project, settings, "Dark" if look == "dark" else "Light")
            # ``doc`` has no bars at the sides.
            _take(browser, f"{next(server)}/doc/tree/notebooks/pictures.ipynb", own, given.folder, look)
            server.close()
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
