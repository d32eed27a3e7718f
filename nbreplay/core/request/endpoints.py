"""Which calls are inference calls: the endpoints that providers share, and the kind each is.

A recognised call is identified by the path from its endpoint on, whatever host or gateway stands
before it. Anything else is plain HTTP, identified by its host too.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

__all__ = ["KINDS", "Kinds", "Route", "route_of"]

# (kind, pattern of the endpoint, must the request carry a model?). The first that fits wins. Names that any web
# service may use ("messages", "responses") count only with a model in the body.
_TABLE: tuple[tuple[str, str, bool], ...] = (
    ("chat", r"chat/completions(?:/[^/]+)?", False),
    ("completion", r"completions", True),
    ("embedding", r"embeddings", True),
    ("response", r"responses", True),
    ("response", r"responses/[^/]+(?:/(?:cancel|input_items|compact))?", False),
    ("message", r"messages(?:/count_tokens)?", True),
    ("message", r"messages/batches(?:/[^/]+){0,2}", False),
    ("image", r"images/(?:generations|edits|variations)", False),
    ("audio", r"audio/(?:speech|transcriptions|translations)", False),
    ("moderation", r"moderations", False),
    ("rerank", r"rerank", True),
    ("generate", r"models/[^/]+:(?:streamG|g)enerateContent", False),
    ("embedding", r"models/[^/]+:(?:embedContent|batchEmbedContents)", False),
    ("count", r"models/[^/]+:countTokens", False),
    ("converse", r"model/[^/]+/(?:converse|converse-stream|invoke|invoke-with-response-stream)", False),
    ("chat", r"api/chat", True),
    ("completion", r"api/generate", True),
    ("embedding", r"api/(?:embed|embeddings)", True),
    ("model", r"api/(?:tags|ps|version)", False),
    ("chat", r"v[12]/chat", True),
    ("embedding", r"v[12]/embed", True),
    ("model", r"(?<=v1/|v2/|v3/|v4/|ta/|ai/)models(?:/[^/:]+)*", False),
    ("file", r"(?<=v1/|v2/|v3/|v4/|ta/|ai/)(?:files|uploads|batches|vector_stores|conversations)(?:/[^/]+)*", False),
)
KINDS: tuple[str, ...] = tuple(sorted({kind for kind, _, _ in _TABLE} | {"http", "tool"}))
"""Every kind of recording there is."""


# (the host's end, the path's end): openai-agents' traces, wherever they go, LangSmith's, and litellm's price list.
_BACKGROUND = (
    ("", "/traces/ingest"),
    ("smith.langchain.com", ""),
    ("raw.githubusercontent.com", "/model_prices_and_context_window.json"),
)


class Kinds(dict[bool, tuple[str, str] | None]):
    """Kind and endpoint of a path, None where it is no inference call; by whether a JSON body names a model.

    Parameters
    ----------
    path : str
        The path of the URL, with its leading slash and without its query.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def __missing__(self, with_model: bool) -> tuple[str, str] | None:
        self[with_model] = made = _recognised(self._path, with_model)
        return made


def _recognised(path: str, with_model: bool) -> tuple[str, str] | None:
    for kind, pattern, needs_model in _TABLE:
        if needs_model and not with_model:
            continue
        # Compiled when first needed: most are never, and all of them would slow every import down.
        match = re.search(rf"(?:^|/)({pattern})/?$", path)
        if match:
            return kind, match.group(1)
    return None


class Route(NamedTuple):
    """Where a call goes.

    Attributes
    ----------
    path, query : str
    background : bool
        Whether a library asks there on its own account: nothing that a notebook exchanges, and it does without.
    kinds : Kinds
    """

    path: str
    query: str
    background: bool
    kinds: Kinds


@functools.lru_cache(maxsize=1024)
def route_of(host: str, target: str) -> Route:
    """Return where a call to `host` goes, given the path and the query of its URL."""
    path, _, query = target.partition("?")
    background = any(path.endswith(end) and host.endswith(owner) for owner, end in _BACKGROUND)
    return Route(path, query, background, Kinds(path))
