"""Where a call goes: its host, and the endpoint that tells whether it is an inference call, and of which kind.

A recognised call is identified by the path from its endpoint on, whatever host or gateway stands before it. Anything
else is plain HTTP, identified by its host too.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Iterable

# (kind, pattern of the endpoint, must the request carry a model?). The first that fits wins. Names that any web
# service may use ("messages", "responses") count only with a model in the body.
_TABLE = (
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
# (the host's end, the path's end): openai-agents' traces, wherever they go, LangSmith's, and litellm's price list.
# A notebook exchanges nothing there, and runs without them.
_BACKGROUND = (
    ("", "/traces/ingest"),
    ("smith.langchain.com", ""),
    ("raw.githubusercontent.com", "/model_prices_and_context_window.json"),
)


@functools.lru_cache(maxsize=1024)
def is_background(host: str, target: str) -> bool:
    """Tell whether a library makes a call on its own account, given the host and the path and query of its URL."""
    path = target.partition("?")[0]
    return any(path.endswith(end) and host.endswith(owner) for owner, end in _BACKGROUND)


@functools.lru_cache(maxsize=1024)
def find_endpoint(path: str, with_model: bool) -> tuple[str, str] | None:
    """Return kind and endpoint of an inference call, None for any other call.

    `path` is that of the URL, without its query; `with_model` tells whether a JSON body names a model.
    """
    for kind, pattern, needs_model in _TABLE:
        # Compiled when first needed: most are never, and all of them would slow every import down.
        if (with_model or not needs_model) and (match := re.search(rf"(?:^|/)({pattern})/?$", path)):
            return kind, match.group(1)
    return None


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine by its very name or address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


@functools.lru_cache(maxsize=1024)
def is_private(host: str) -> bool:
    """Tell whether a host is this machine or one of a private network: a local model, a gateway."""
    name = bare_host(host).lower()
    if name in ("", "localhost") or name.endswith((".localhost", ".local", ".internal", ".lan")):
        return True
    try:
        return ipaddress.ip_address(name).is_private
    except ValueError:
        return "." not in name


def bare_host(host: str) -> str:
    """Return a host without its port and without brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host if host.count(":") > 1 else host.partition(":")[0]


def host_matches(host: str, patterns: Iterable[str]) -> bool:
    """Tell whether a host is one of ``HOST`` or ``HOST:PORT``; a name without a port stands for all of its ports."""
    name = bare_host(host)
    return any(pattern == host or pattern.strip("[]") == bare_host(pattern) == name for pattern in patterns)
