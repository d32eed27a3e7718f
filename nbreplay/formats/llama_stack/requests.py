"""Requests of llama-stack's recordings: as the calls that went over the wire, and back.

There are four shapes: a method of an SDK with its arguments, a plain HTTP request, a tool, a file that was processed.
Fields that a call does not have are kept by name in `origin`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from nbreplay.core.recording.take import Take
from nbreplay.core.request.request import Call
from nbreplay.core.request.rules import verbatim
from nbreplay.errors import RecordingFormatError
from nbreplay.formats.importer import header_pairs
from nbreplay.formats.llama_stack import google_genai

Origin = dict[str, Any]

_NOT_SENT = ("extra_body", "extra_query", "extra_headers", "timeout")  # arguments of an SDK that are not in the body
_BY_GET = re.compile(r"/(?:models(?:/[^/]+)?|api/(?:ps|tags|version))$")  # by GET; llama-stack says POST of everything
_ADDED: Mapping[str, Mapping[str, Any]] = {
    "/v1/embeddings": {"encoding_format": "base64"},
    "/api/chat": {"tools": [], "stream": False},
    "/api/generate": {"stream": False},
}
"""Arguments that SDKs add by themselves."""

_VERSION = "_sdk_version"


def shape_of(request: Mapping[str, Any]) -> str:
    """Return which of the four shapes a request of llama-stack's has."""
    for shape, names in (
        ("tool", ("tool_name", "kwargs")),
        ("http", ("url", "payload")),
        ("method", ("url", "body")),
        ("file", ("api",)),
    ):
        if all(name in request for name in names):
            return shape
    raise RecordingFormatError(
        f"request: none of llama-stack's, with the fields {', '.join(map(repr, request)) or 'none'}"
    )


def call_of(request: Mapping[str, Any]) -> tuple[Call, Origin]:
    """Return the call that a request of llama-stack's stands for, and its fields that a call does not have."""
    shape = shape_of(request)
    if shape == "tool":
        return _tool(request["tool_name"], request["kwargs"], request)
    if shape == "file":
        return _tool(request["api"], _without(request, ("test_id", "provider", "api")), request)
    url, body = request["url"], request["payload" if shape == "http" else "body"]
    if not isinstance(url, str) or not isinstance(body, dict):
        raise RecordingFormatError("request: a url that is not text, or a body that is not an object")
    if shape == "http":
        return _call(str(request.get("method", "POST")).upper(), url, _path(url), body), {"url": url}
    return _method(url, body, request)


def _tool(name: Any, arguments: Any, request: Mapping[str, Any]) -> tuple[Call, Origin]:
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise RecordingFormatError("request: a tool whose name is not text, or whose arguments are not an object")
    origin = {"provider": request["provider"]} if "provider" in request else {}
    # As `nbreplay.tool` calls them.
    return Call("CALL", "", name, "", b"", (), "tool", (name, arguments)), origin


def _method(url: str, body: dict[str, Any], request: Mapping[str, Any]) -> tuple[Call, Origin]:
    endpoint = str(request.get("endpoint") or "")
    origin: Origin = {"url": url, "endpoint": endpoint}
    metadata = request.get("provider_metadata")
    metadata = dict(metadata) if isinstance(metadata, dict) else {}
    sdk = ""
    for name, value in metadata.items():
        if name.endswith(_VERSION) and isinstance(value, str) and " " not in value:
            sdk = f"{name.removesuffix(_VERSION)} {value}"
            break
    if sdk:
        del metadata[sdk.partition(" ")[0] + _VERSION]
    if metadata:
        origin["metadata"] = metadata
    if endpoint in google_genai.METHODS and url.startswith("vertexai:"):
        return _google(url, endpoint, body, origin)
    headers = request.get("headers")
    pairs = [(name, str(value)) for name, value in headers.items()] if isinstance(headers, dict) else []
    path, query = _path(url), body.get("extra_query")
    if "messages" in body and "prompt" not in body:
        # Once the recorder wrote this endpoint for what was chat.completions.create.
        path = re.sub(r"(?<!/chat)/completions$", "/chat/completions", path)
    if query and isinstance(query, dict):
        path += ("&" if "?" in path else "?") + urlencode(query, doseq=True)
    if _BY_GET.search(path.partition("?")[0]):
        if body:
            origin["arguments"] = body
        return _call("GET", url, path, None, pairs, sdk), origin
    return _call("POST", url, path, _body(endpoint, body, origin), pairs, sdk), origin


def _body(endpoint: str, body: dict[str, Any], origin: Origin) -> dict[str, Any]:
    """Return the body that an SDK sends for its arguments; the others go to `origin`."""
    ollama = endpoint.startswith("/api/")
    more = body.get("extra_body")
    more = more if isinstance(more, dict) else {}
    unsent = {
        name: value
        for name, value in body.items()
        if (name in _NOT_SENT and (name != "extra_body" or value != more)) or name in more or (ollama and value is None)
    }
    if "extra_body" in body and "extra_body" not in unsent:
        origin["extra_body"] = list(more)
    if unsent:
        origin["arguments"] = unsent
    sent = {name: value for name, value in body.items() if name not in _NOT_SENT and name not in unsent}
    added = {name: value for name, value in _ADDED.get(endpoint, {}).items() if name not in sent and name not in more}
    if added:
        origin["added"] = list(added)
    return {**sent, **more, **added}


def _google(url: str, endpoint: str, body: dict[str, Any], origin: Origin) -> tuple[Call, Origin]:
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise RecordingFormatError("request: no model")
    origin["model"] = model
    sent = google_genai.request_to_wire(body)
    if google_genai.request_from_wire(sent, model) != body:
        origin["as_it_was"] = True
        sent = _without(body, ("model",))
    name = model if "/" in model else f"models/{model}"
    path = f"/v1beta1/{name}:{google_genai.METHODS[endpoint]}"
    return _call("POST", url, path + ("?alt=sse" if endpoint.endswith("_stream") else ""), sent), origin


def _call(
    method: str,
    url: str,
    target: str,
    body: dict[str, Any] | None,
    headers: Iterable[tuple[str, str]] = (),
    library: str = "",
) -> Call:
    data = b"" if body is None else json.dumps(body).encode("ascii")
    kind = "" if body is None else "application/json"
    return Call(method, urlsplit(url).netloc.rpartition("@")[2], target, kind, data, header_pairs(headers), library)


def _path(url: str) -> str:
    """Return path and query as they went over the wire: llama-stack doubles the version that stands before them."""
    parts = urlsplit(url)
    path = re.sub(r"^(.*/v1)/v1/", r"\1/", "/" + parts.path.lstrip("/"))
    return f"{path}?{parts.query}" if parts.query else path


def _without(fields: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    left_out = frozenset(names)
    return {name: value for name, value in fields.items() if name not in left_out}


def request_of(shape: str, fields: Mapping[str, Any], take: Take, origin: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request as llama-stack writes it."""
    test_id = take.extra.get("scope")
    provider = {"provider": origin["provider"]} if "provider" in origin else {}
    if shape == "tool":
        return {"test_id": test_id, **provider, "tool_name": fields["tool"], "kwargs": fields["arguments"]}
    if shape == "file":
        return {"test_id": test_id, **provider, "api": fields["tool"], **fields["arguments"]}
    body = verbatim(fields.get("body", {}), take.ids)
    url = origin["url"]
    if shape == "http":
        return {"test_id": test_id, "url": url, "method": fields["method"], "payload": body}
    endpoint = origin["endpoint"]
    if "model" in origin:
        model = str(origin["model"])
        plain = origin.get("as_it_was")
        body = {"model": model, **body} if plain else google_genai.request_from_wire(body, model)
    else:
        body = _arguments(body, origin)
    request = {"method": "POST", "url": url, "headers": {}, "body": body, "endpoint": endpoint}
    request["model"] = body.get("model", "")
    name, _, version = take.sdk.partition(" ")
    metadata = {name + _VERSION: version} if version and name in ("openai", "ollama") else {}
    metadata |= origin.get("metadata", {})
    return {**request, "provider_metadata": metadata} if metadata else request


def _arguments(body: dict[str, Any], origin: Mapping[str, Any]) -> dict[str, Any]:
    extra = origin.get("extra_body")
    left_out = {*origin.get("added", ()), *(extra or ())}
    arguments = {name: value for name, value in body.items() if name not in left_out}
    if extra is not None:
        arguments["extra_body"] = {name: body[name] for name in extra if name in body}
    return {**arguments, **origin.get("arguments", {})}
