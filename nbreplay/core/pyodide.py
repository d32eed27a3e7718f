"""Pyodide: Python in a page of a browser, as JupyterLite has it. What differs there is here; imports no other module.

It lacks sockets, threads and child processes. JavaScript makes the requests, and the kernel awaits its cells.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable
from typing import Any

IS_PYODIDE = sys.platform == "emscripten"

# The packages that install others. They go on under replay, as `pip` does elsewhere.
_INSTALLERS = ("micropip", "piplite")

# Calls `check` with the whole address of each request. What has no host, such as data:, is not a request. Files and
# input() go through two paths of JupyterLite's own page, which its service worker answers.
_GUARD = r"""
(check) => {
  const page = globalThis, undo = [];
  const checkAddress = (input) => {
    let url;
    try { url = new URL(input?.url ?? input, page.location?.href); } catch { return; }
    const isOwn = url.origin === page.location?.origin && /\/api\/(drive|stdin\/kernel)$/.test(url.pathname);
    if (url.host && !isOwn) check(url.href);
  };
  const guard = (owner, name, place = 0) => {
    const before = owner?.[name], isOwn = owner && Object.hasOwn(owner, name);
    if (typeof before !== "function") return;
    const after = owner[name] = new Proxy(before, {
      apply(f, self, args) { checkAddress(args[place]); return Reflect.apply(f, self, args); },
      construct(f, args, kind) { checkAddress(args[place]); return Reflect.construct(f, args, kind); },
    });
    undo.push(() => { if (owner[name] === after) { if (isOwn) owner[name] = before; else delete owner[name]; } });
  };
  for (const name of ["fetch", "EventSource", "WebSocket", "WebTransport", "importScripts"]) guard(page, name);
  guard(page.XMLHttpRequest?.prototype, "open", 1);
  guard(page.navigator, "sendBeacon");
  return () => undo.forEach((each) => each());
}
"""

# Synchronously, so as text: a page may not ask for bytes so, though a worker may.
_FETCH = r"""
(url) => {
  const request = new XMLHttpRequest();
  request.open("GET", url, false);
  request.overrideMimeType("text/plain; charset=x-user-defined");
  request.send();
  const bytes = Uint8Array.from(request.responseText, (character) => character.charCodeAt(0) & 255);
  return [request.status, request.statusText, request.responseURL, bytes];
}
"""


def _run_js(code: str) -> Any:
    return importlib.import_module("pyodide.code").run_js(code)


def fetch(url: str) -> tuple[int, str, str, bytes]:
    """Return the status, its reason, the last address after redirections, and the body of what is at an address.

    Raise OSError if a page cannot read it: nothing answers, or the server does not let other sites read it.
    """
    try:
        status, reason, last, body = _run_js(_FETCH)(url)
    except importlib.import_module("pyodide.ffi").JsException:
        text = "nothing answers, or the server does not let pages of other sites read it (CORS)"
        raise OSError(text) from None
    return status, reason, last, body.to_bytes()


def guard_requests(check: Callable[[str], None]) -> Callable[[], None]:
    """Have `check` called with the address of each request that Python's code makes; return a function that undoes it.

    What the page asks for by itself goes on, such as the packages that a cell imports.
    """
    ffi, js = map(importlib.import_module, ("pyodide.ffi", "js"))

    def check_caller(url: str) -> None:
        frame = sys._getframe().f_back
        if frame is None or _is_installing(frame):
            return
        try:
            check(url)
        except BaseException as error:
            _raise_quietly(error)
            raise

    proxy = ffi.create_proxy(check_caller)
    names = ("fetch", "EventSource", "WebSocket", "WebTransport")
    before = {name: getattr(js, name) for name in names if hasattr(js, name)}
    undo = _run_js(_GUARD)(proxy)
    after = {name: getattr(js, name) for name in before}
    _rename(before, after)

    def restore() -> None:
        undo()
        _rename(after, before)
        proxy.destroy()

    return restore


def _raise_quietly(error: BaseException) -> None:
    """Keep Pyodide from printing an error that Python raises, through JavaScript, where Python has called it."""
    before = sys.excepthook

    def hook(kind: Any, value: Any, traceback: Any) -> None:
        sys.excepthook = before
        if value is not error:
            before(kind, value, traceback)

    sys.excepthook = hook


def _is_installing(frame: Any) -> bool:
    while frame is not None:
        if str(frame.f_globals.get("__name__")).partition(".")[0] in _INSTALLERS:
            return True
        frame = frame.f_back
    return False


def _rename(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Replace functions where modules have imported them by name, as `pyodide.http` and notebooks do."""
    numbers = {value.js_id: after[name] for name, value in before.items()}
    kind: Any = type(next(iter(before.values()), None))
    for module in [*sys.modules.values()]:
        for name, value in [*getattr(module, "__dict__", {}).items()]:
            if isinstance(value, kind) and (new := numbers.get(value.js_id)) is not None:
                setattr(module, name, new)


def hide_warnings() -> None:
    """Hide httpx2's warning on each client of openai's: that a browser limits the number of connections itself."""
    text = r"The following transport option\(s\) are not supported on Emscripten and will be ignored: limits\. "
    warnings.filterwarnings("ignore", text, UserWarning)


def _restore(owner: Any, name: str, replacement: Any) -> None:
    """Have an object use the method of its class again, unless somebody else has replaced it since."""
    if vars(owner).get(name) is replacement:
        delattr(owner, name)


def call_after_cells(shell: Any, end: Callable[[Any], None]) -> Callable[[], None]:
    """Have `end` called with the result of each cell, this one included; return a function that undoes it.

    The kernel awaits `run_cell_async`, which does not trigger ``post_run_cell``. `end` may be called twice for a cell.
    """
    before = shell.run_cell_async

    async def run_cell_async(*args: Any, **options: Any) -> Any:
        result = None
        try:
            result = await before(*args, **options)
            return result
        finally:
            end(result)

    def store_output(*args: Any) -> None:  # the last that is called for this cell
        _restore(history, "store_output", store_output)
        history.store_output(*args)
        end(shell.last_execution_result)

    history = shell.history_manager
    history.store_output, shell.run_cell_async = store_output, run_cell_async

    def undo() -> None:
        _restore(history, "store_output", store_output)
        _restore(shell, "run_cell_async", run_cell_async)

    return undo
