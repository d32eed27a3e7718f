"""The requests of a page and of its worker: `nbreplay.core.pyodide`, by Pyodide in a real browser."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.conftest import ROOT
from tests.pyodide.kernel import node_modules

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytest.importorskip("playwright", reason="pip install -e '.[browser]'")

pytestmark = pytest.mark.full

_START = """
import { loadPyodide } from "/pyodide/pyodide.mjs";
async function run() {
  const py = await loadPyodide({ indexURL: "/pyodide/" });
  py.FS.writeFile("own.py", await (await fetch("/own.py")).text());
  return await py.runPythonAsync(await (await fetch("/ask.py")).text());
}
const said = await run().catch(String);
"""
_FILES = {
    "worker.js": f"{_START}postMessage(said);",
    "page.js": f"{_START}globalThis.page = said;",
    "index.html": """<!doctype html><script>
      new Worker("/worker.js", { type: "module" }).onmessage = (message) => { globalThis.worker = message.data; };
      </script><script type="module" src="/page.js"></script>""",
    "ask.py": """
import hashlib, json, js, own
from js import fetch
from pyodide.code import run_js
from pyodide.http import open_url, pyfetch

origin, answers, checked = js.location.origin, {}, []
status, reason, last, body = own.fetch(f"{origin}/bytes")
fetched = [status, last == f"{origin}/bytes", hashlib.sha256(body).hexdigest(), own.fetch(f"{origin}/none")[0]]

class Refused(OSError):
    pass

def check(url):
    checked.append(url)
    raise Refused(url.replace(origin, "here"))

async def attempt(name, ask):
    try:
        answer = ask()
        answers[name] = "sent" if not hasattr(answer, "__await__") else "sent" if await answer else ""
    except Refused as error:
        answers[name] = str(error)

def open_request(url):
    js.XMLHttpRequest.new().open("POST", url, False)

undo = own.guard_requests(check)
await attempt("fetch", lambda: js.fetch("https://example.com/a?b"))
await attempt("fetch, which was imported before", lambda: fetch("/bytes"))
await attempt("pyfetch", lambda: pyfetch("/bytes"))
await attempt("open_url", lambda: open_url("/bytes"))
await attempt("XMLHttpRequest", lambda: open_request("https://example.com/api/drive"))
await attempt("WebSocket", lambda: js.WebSocket.new("wss://example.com/ws"))
await attempt("EventSource", lambda: js.EventSource.new("/events"))
await attempt("files", lambda: open_request(f"{origin}/lite/api/drive"))
await attempt("input()", lambda: open_request(f"{origin}/lite/api/stdin/kernel"))
before = len(checked)
later = "new Promise((resolve) => setTimeout(() => fetch('/bytes').then((answer) => resolve(answer.status)), 1))"
own_status = await run_js(later)
undo()
undone = (await js.fetch("/bytes")).status, (await fetch("/bytes")).status, (await pyfetch("/bytes")).status
json.dumps({"fetched": fetched, "answers": answers, "own": [own_status, len(checked) - before], "undone": undone})
""",
}
_ANSWERS = {
    "fetch": "https://example.com/a?b",
    "fetch, which was imported before": "here/bytes",
    "pyfetch": "here/bytes",
    "open_url": "here/bytes",
    "XMLHttpRequest": "https://example.com/api/drive",
    "WebSocket": "wss://example.com/ws",
    "EventSource": "here/events",
    "files": "sent",
    "input()": "sent",
}


class _Handler(http.server.SimpleHTTPRequestHandler):
    extensions_map = {".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript"} | {
        ".wasm": "application/wasm",
        "": "application/octet-stream",
    }

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """A page, its worker, Pyodide, and 70,000 bytes of every kind."""
    for name, text in _FILES.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "bytes").write_bytes(bytes(range(256)) * 274)
    (tmp_path / "own.py").symlink_to(ROOT / "nbreplay" / "core" / "pyodide.py")
    (tmp_path / "pyodide").symlink_to(node_modules() / "pyodide")
    handler = functools.partial(_Handler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_requests_of_python_are_fetched_and_refused_in_a_page_and_in_a_worker(site: str, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(f"{site}/index.html")
    digest = hashlib.sha256(bytes(range(256)) * 274).hexdigest()
    for place in ("page", "worker"):
        page.wait_for_function(f"globalThis.{place}", timeout=240_000)
        text = page.evaluate(f"globalThis.{place}")
        assert text.startswith("{"), text
        said = json.loads(text)
        assert said["fetched"] == [200, True, digest, 404], "bytes are not decoded"
        assert said["answers"] == _ANSWERS
        assert said["own"] == [200, 0], "what the page asks for by itself goes on"
        assert said["undone"] == [200, 200, 200]
    page.close()
