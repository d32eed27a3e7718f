"""Notebooks as web pages whose cards play by themselves: ``jupyter nbconvert --to nbreplay NOTEBOOK``.

The page is whole in itself: nothing in it asks a server for anything. nbconvert is imported by itself, when it asks for
this exporter; nothing else here needs it.
"""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

from nbconvert.exporters.html import HTMLExporter

from nbreplay.notebook.escape import escape

__all__ = ["PageExporter"]

_STATIC = Path(__file__).parent / "static"
_STATE = "application/vnd.jupyter.widget-state+json"
_VIEW = "application/vnd.jupyter.widget-view+json"
_OURS = "nbreplay.notebook.widget.StreamView"
_MATHS = re.compile(r"\$|\\\(|\\\[|\\begin\{")


class PageExporter(HTMLExporter):
    """A page with the notebook's cards, to be opened from a disk or a mail as well as from a server.

    What of a notebook needs scripts from elsewhere keeps them, such as formulas and other widgets; without any of these
    no request leaves the page.
    """

    export_from_notebook = "Web page with cards (nbreplay)"

    def from_notebook_node(self, nb: Any, resources: Any = None, **given: Any) -> tuple[Any, dict[str, Any]]:
        """Return the page and the resources."""
        nb = copy.deepcopy(nb)
        widgets = nb.metadata.get("widgets", {}).get(_STATE, {}).get("state", {})
        ours = {
            own: widget["state"] for own, widget in widgets.items() if widget["state"].get("_anywidget_id") == _OURS
        }
        outputs = [output for cell in nb.cells for output in cell.get("outputs", ()) if "data" in output]
        for output in outputs:
            own = output["data"].get(_VIEW, {}).get("model_id")
            if own in ours:
                del output["data"][_VIEW]
                static = output["data"].get("text/html", "")
                output["data"]["text/html"] = f'<div data-nbreplay="{escape(own)}">{static}</div>'
        self._let_go(nb, widgets, ours)
        page, resources = super().from_notebook_node(nb, resources, **given)
        if not any("application/javascript" in output["data"] for output in outputs):
            page = _without(page, self.require_js_url)
        if not any(_MATHS.search(cell.source) for cell in nb.cells if cell.cell_type == "markdown"):
            page = _without(page, self.mathjax_url)
        return (_with_cards(page, ours) if ours else page), resources

    @staticmethod
    def _let_go(nb: Any, widgets: dict[str, Any], ours: dict[str, Any]) -> None:
        """Leave out the state of our widgets: where there is no other, the page needs no manager of widgets."""
        for own, state in ours.items():
            widgets.pop(str(state.get("layout", "")).removeprefix("IPY_MODEL_"), None)
            del widgets[own]
        if not widgets:
            nb.metadata.pop("widgets", None)


def _without(page: str, url: str) -> str:
    return re.sub(rf'<script src="{re.escape(url)}">\s*</script>', "", page)


def _with_cards(page: str, ours: dict[str, Any]) -> str:
    """Return the page with what its cards show, and the script that shows it."""
    states = {
        own: {name: state.get(name) for name in ("head", "cards", "rows", "together")} for own, state in ours.items()
    }
    known = {"esm": (_STATIC / "stream.js").read_text("utf-8"), "css": (_STATIC / "stream.css").read_text("utf-8")}
    # What is in a recording must not end the element that it stands in.
    data = json.dumps({**known, "states": states}).replace("<", "\\u003c")
    script = (_STATIC / "page.js").read_text("utf-8")
    added = (
        f'<script type="application/json" id="nbreplay-cards">{data}</script><script type="module">{script}</script>'
    )
    before, end, after = page.rpartition("</body>")
    return f"{before}{added}{end}{after}" if end else page + added
