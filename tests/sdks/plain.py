"""The cells that every plain HTTP library has: what each does with one request, and how its answer is taken apart."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from tests.sdks.harness import Sdk, Stage

__all__ = ["PATHS", "Fetch", "add"]

Fetch = Callable[..., Awaitable[Any]]
"""An async function of (client, method, url) and what is sent, which returns all there is to an answer."""

PATHS = {
    "get-json": "/plain/json",
    "get-text": "/plain/text",
    "get-binary": "/plain/binary",
    "get-gzip": "/plain/gzip",
    "get-deflate": "/plain/deflate",
    "redirection": "/plain/elsewhere",
    "error-404": "/plain/missing",
}


def add(sdk: Sdk, fetch: Fetch) -> None:
    """Add the cells of single answers to a library's.

    Parameters
    ----------
    sdk : Sdk
    fetch : Fetch
        It takes ``json``, ``form`` and ``file`` (a name and bytes).
    """
    for kind, path in PATHS.items():
        sdk.cell(_getting(fetch, path), kind=kind)

    @sdk.cell
    async def post_json(c: Any, stage: Stage) -> Any:
        sent = {"text": "h\u00e9llo \u6f22\u5b57", "list": [1, 2.5, None]}
        return await fetch(c, "POST", f"{stage.url}/plain/sent", json=sent)

    @sdk.cell
    async def post_form(c: Any, stage: Stage) -> Any:
        return await fetch(c, "POST", f"{stage.url}/plain/sent", form={"name": "a b&c", "text": "h\u00e9llo"})

    @sdk.cell
    async def file_upload(c: Any, stage: Stage) -> Any:
        return await fetch(c, "POST", f"{stage.url}/plain/sent", file=("a.bin", bytes(range(256)) * 100))

    @sdk.cell
    async def delete(c: Any, stage: Stage) -> Any:
        return await fetch(c, "DELETE", f"{stage.url}/plain/sent")


def _getting(fetch: Fetch, path: str) -> Any:
    async def get(c: Any, stage: Stage) -> Any:
        # the same again: two takes, which come back in their order
        first = await fetch(c, "GET", f"{stage.url}{path}?a=1&b=%20")
        return first, await fetch(c, "GET", f"{stage.url}{path}?a=1&b=%20")

    return get
