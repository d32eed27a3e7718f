"""Requests of llama-stack's recordings: as the calls that went over the wire, and back.

There are four shapes: a method of an SDK with its arguments, a plain HTTP request, a tool, a file that was processed; a
method of google-genai is one of its own. Fields that a call does not have are kept by name in `origin`.
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

# The fields by which a request is known to have a shape; the first that fits counts.
_SHAPES = {"tool": ("tool_name", "kwargs"), "http": ("url", "payload"), "method": ("url", "body"), "file": ("api",)}
_NOT_SENT = ("extra_body", "extra_query", "extra_headers", "timeout")  # arguments of an SDK that are not in the body
_BY_GET = re.compile(r"/(?:models(?:/[^/]+)?|api/(?:ps|tags|version))$")  # by GET; llama-stack says POST of everything
# Arguments that SDKs add by themselves.
_ADDED: Mapping[str, Mapping[str, Any]] = {
    "/v1/embeddings": {"encoding_format": "base64"},
    "/api/chat": {"tools": [], "stream": False},
    "/api/generate": {"stream": False},
}
_VERSION = "_sdk_version"


def call_of(request: Mapping[str, Any]) -> tuple[Call, dict[str, Any]]:
    """Return the call that a request of llama-stack's stands for, with its shape and the fields that a call lacks."""
    shape = next((shape for shape, names in _SHAPES.items() if all(name in request for name in names)), "")
    if not shape:
        fields = ", ".join(map(repr, request)) or "none"
        raise RecordingFormatError(f"request: none of llama-stack's, with the fields {fields}")
    if shape == "tool":
        call, origin = _tool(request["tool_name"], request["kwargs"], request)
    elif shape == "file":
        arguments = {name: value for name, value in request.items() if name not in ("test_id", "provider", "api")}
        call, origin = _tool(request["api"], arguments, request)
    else:
        url, body = request["url"], request["payload" if shape == "http" else "body"]
        if not isinstance(url, str) or not isinstance(body, dict):
            raise RecordingFormatError("request: a url that is not text, or a body that is not an object")
        if shape == "method":
            call, origin = _method(url, body, request)
        else:
            call = _call(str(request.get("method", "POST")).upper(), url, _path(url), body)
            origin = {"url": url}
    return call, {"shape": "google" if "model" in origin else shape, **origin}


def _tool(name: Any, arguments: Any, request: Mapping[str, Any]) -> tuple[Call, dict[str, Any]]:
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise RecordingFormatError("request: a tool whose name is not text, or whose arguments are not an object")
    origin = {"provider": request["provider"]} if "provider" in request else {}
    # As `nbreplay.tool` calls them.
    return Call("CALL", "", name, "", b"", (), "tool", (name, arguments)), origin


def _method(url: str, body: dict[str, Any], request: Mapping[str, Any]) -> tuple[Call, dict[str, Any]]:
    endpoint = str(request.get("endpoint") or "")
    origin: dict[str, Any] = {"url": url, "endpoint": endpoint}
    metadata = request.get("provider_metadata")
    metadata = dict(metadata) if isinstance(metadata, dict) else {}
    own = (name for name, value in metadata.items() if name.endswith(_VERSION) and isinstance(value, str))
    version = next((name for name in own if " " not in metadata[name]), None)
    sdk = f"{version.removesuffix(_VERSION)} {metadata.pop(version)}" if version else ""
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


def _body(endpoint: str, body: dict[str, Any], origin: dict[str, Any]) -> dict[str, Any]:
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


def _google(url: str, endpoint: str, body: dict[str, Any], origin: dict[str, Any]) -> tuple[Call, dict[str, Any]]:
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise RecordingFormatError("request: no model")
    origin["model"] = model
    sent = google_genai.request_to_wire(body)
    if google_genai.request_from_wire(sent, model) != body:
        origin["as_it_was"] = True
        sent = {name: value for name, value in body.items() if name != "model"}
    name = model if "/" in model else f"models/{model}"
    path = f"/v1beta1/{name}:{google_genai.METHODS[endpoint]}"
    return _call("POST", url, path + ("?alt=sse" if endpoint.endswith("_stream") else ""), sent), origin


def _call(
    method: str, url: str, target: str, body: Any, headers: Iterable[tuple[str, str]] = (), library: str = ""
) -> Call:
    data, kind = (b"", "") if body is None else (json.dumps(body).encode("ascii"), "application/json")
    return Call(method, urlsplit(url).netloc.rpartition("@")[2], target, kind, data, header_pairs(headers), library)


def _path(url: str) -> str:
    """Return path and query as they went over the wire: llama-stack doubles the version that stands before them."""
    parts = urlsplit(url)
    path = re.sub(r"^(.*/v1)/v1/", r"\1/", "/" + parts.path.lstrip("/"))
    return f"{path}?{parts.query}" if parts.query else path


def request_of(shape: str, fields: Mapping[str, Any], take: Take, origin: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request as llama-stack writes it."""
    test_id = take.extra.get("scope")
    provider = {"provider": origin["provider"]} if "provider" in origin else {}
    if shape == "tool":
        return {"test_id": test_id, **provider, "tool_name": fields["tool"], "kwargs": fields["arguments"]}
    if shape == "file":
        return {"test_id": test_id, **provider, "api": fields["tool"], **fields["arguments"]}
    body: Any = verbatim(fields.get("body", {}), take.ids)
    url = origin["url"]
    if shape == "http":
        return {"test_id": test_id, "url": url, "method": fields["method"], "payload": body}
    endpoint = origin["endpoint"]
    if "model" in origin:
        plain, model = origin.get("as_it_was"), str(origin["model"])
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
