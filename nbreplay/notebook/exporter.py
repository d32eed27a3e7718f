"""Notebooks as web pages whose cards play by themselves: ``jupyter nbconvert --to nbreplay NOTEBOOK``.

The page is self-contained: it sends no requests. Only this module imports nbconvert, which imports it as an exporter.
"""

from __future__ import annotations

import copy
import json
import re
from typing import Any

from nbconvert.exporters.html import HTMLExporter

from nbreplay.notebook.escape import escape
from nbreplay.notebook.explorer import ExplorerView
from nbreplay.notebook.render import read_static
from nbreplay.notebook.widget import VIEW, StreamView

_STATE = "application/vnd.jupyter.widget-state+json"
_KIND = "_anywidget_id"
_KINDS = {f"{kind.__module__}.{kind.__qualname__}": kind for kind in (StreamView, ExplorerView)}
_MATHS = re.compile(r"\$|\\\(|\\\[|\\begin\{")


class PageExporter(HTMLExporter):
    """A page with the notebook's cards, to be opened from a disk or a mail as well as from a server.

    Formulas and other widgets keep the scripts that they load from elsewhere.
    """

    export_from_notebook = "Web page with cards (nbreplay)"

    def from_notebook_node(self, nb: Any, resources: Any = None, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Return the page and the resources."""
        nb = copy.deepcopy(nb)
        outputs = [output for cell in nb.cells for output in cell.get("outputs", ()) if "data" in output]
        views = _pop_views(nb)
        for output in outputs:
            model_id = output["data"].get(VIEW, {}).get("model_id")
            if model_id in views:  # as older versions stored cards
                del output["data"][VIEW]
                static = output["data"].get("text/html", "")
                output["data"]["text/html"] = f'<div data-nbreplay="{escape(model_id)}">{static}</div>'
        views = {state.get("place") or model_id: state for model_id, state in views.items()}
        page, resources = super().from_notebook_node(nb, resources, **kwargs)
        if not any("application/javascript" in output["data"] for output in outputs):
            page = _remove_script(page, self.require_js_url)
        if not any(_MATHS.search(cell.source) for cell in nb.cells if cell.cell_type == "markdown"):
            page = _remove_script(page, self.mathjax_url)
        return (_add_cards(page, views) if views else page), resources


def _pop_views(nb: Any) -> dict[str, Any]:
    """Remove the states of nbreplay's widgets and return them. A page without others needs no widget manager."""
    widgets = nb.metadata.get("widgets", {}).get(_STATE, {}).get("state", {})
    states = {name: widget["state"] for name, widget in widgets.items()}
    views = {name: state for name, state in states.items() if state.get(_KIND) in _KINDS}
    for name, state in views.items():
        widgets.pop(str(state.get("layout", "")).removeprefix("IPY_MODEL_"), None)
        del widgets[name]
    if not widgets:
        nb.metadata.pop("widgets", None)
    return views


def _remove_script(page: str, url: str) -> str:
    return re.sub(rf'<script src="{re.escape(url)}">\s*</script>', "", page)


def _add_cards(page: str, views: dict[str, Any]) -> str:
    """Return the page with the data of its cards, and the script that shows them."""
    names = {state[_KIND] for state in views.values()}
    kinds = {name: kind for name, kind in _KINDS.items() if name in names}
    scripts = {name: kind._esm for name, kind in kinds.items()}
    css = "\n".join(kind._css for kind in kinds.values())
    states = {
        model_id: {name: state.get(name) for name in (*_KINDS[state[_KIND]].class_own_traits(sync=True), _KIND)}
        for model_id, state in views.items()
    }
    # Nothing in a recording may end the element that it stands in.
    data = json.dumps({"scripts": scripts, "css": css, "states": states}).replace("<", "\\u003c")
    cards = f'<script type="application/json" id="nbreplay-cards">{data}</script>'
    added = f'{cards}<script type="module">{read_static("page.js")}</script>'
    before, end, after = page.rpartition("</body>")
    return f"{before}{added}{end}{after}" if end else page + added
