"""A request, reduced to what identifies it, and the key made of that.

Knows the shape of calls (JSON, forms, multipart, text, binary) and nothing of who sends them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import parse_qsl

import msgspec

from nbreplay.core.recording.body import decompress
from nbreplay.core.recording.json_text import SHALLOW, is_deep, parse_json
from nbreplay.core.recording.take import RpcId
from nbreplay.core.request.ids import replace_ids
from nbreplay.core.request.jsonrpc import without_id
from nbreplay.core.request.key import key_of, read_plain
from nbreplay.core.request.multipart import digest, parts
from nbreplay.core.request.route import Route, find_endpoint, route_of
from nbreplay.core.request.rules import Normaliser
from nbreplay.core.secrets.credentials import header_credentials, query_secrets
from nbreplay.core.secrets.redact import UNREDACTED, Redactor

__all__ = ["Call", "Request", "clean_part", "dicts", "last_user_text", "normalised", "request_of", "text_of"]


Headers = Sequence[tuple[bytes, bytes]]


class HasRaw(Protocol):
    """What has headers in its ``raw``."""

    @property
    def raw(self) -> Headers: ...


class Call(msgspec.Struct, eq=False, gc=False):
    """One outgoing HTTP call, in the neutral terms that every interceptor can give.

    Attributes
    ----------
    method : str
    host : str
        The host, with its port where that is not the scheme's own.
    target : str
        Path and query, as they go over the wire.
    named_type : str
        The content type, where it is not to be taken from the headers.
    body : bytes
    held : sequence of (bytes, bytes), or object
        The request's headers, or what has them as its ``raw``, as httpx's headers have. Only looked at for secrets and
        for the name of the SDK, which a replay does not ask for; never stored.
    library : str
        The HTTP library that makes the call, with its version.
    tool : (str, dict), optional
        Name and arguments, where it is no HTTP call but one of a tool.
    route : Route, optional
        Where it goes, once that has been looked up.
    note : str
        What there is to say of it where it is logged.
    """

    method: str
    host: str
    target: str
    named_type: str
    body: bytes
    held: Headers | HasRaw = ()
    library: str = ""
    tool: tuple[str, dict[str, Any]] | None = None
    told: tuple[tuple[str, ...], str] | None = None
    route: Route | None = None
    note: str = ""

    def __repr__(self) -> str:
        # Nothing that may hold a key, whoever prints it.
        return f"<Call {self.method} {self.host}>"

    @property
    def headers(self) -> Headers:
        """The headers of the request."""
        held = self.held
        if not isinstance(held, Sequence):
            self.held = held = held.raw
        return held

    @property
    def content_type(self) -> str:
        """The type of the body, or ``""``."""
        if not self.named_type:
            found = (value for name, value in self.headers if name.lower() == b"content-type")
            self.named_type = next(found, b"").decode("latin-1")
        return self.named_type

    @property
    def tokens(self) -> tuple[str, ...]:
        """The credentials that the call carries in its headers and its query."""
        return self._looked_through()[0]

    def knows(self, secrets: tuple[str, ...]) -> None:
        """Count values that were found to be secret before among the credentials of the call."""
        tokens, agent = self._looked_through()
        if secrets:
            self.told = tuple(dict.fromkeys((*tokens, *secrets))), agent

    @property
    def sdk(self) -> str:
        """The SDK that makes the call, such as ``openai 3.54.0``, else the HTTP library."""
        agent = self._looked_through()[1]
        match = _AGENT.match(agent)
        if match and not _LIBRARY.match(agent):
            return f"{match.group(1).lower()} {match.group(2)}"
        return self.library or agent

    def _looked_through(self) -> tuple[tuple[str, ...], str]:
        """Return the credentials and the name of who asks; once through the headers takes long enough."""
        if self.told is not None:
            return self.told
        found, agent = query_secrets(self.target) if "?" in self.target else [], ""
        for raw, value in self.headers:
            name = _header_names.get(raw)
            if name is None:
                name = _header_names[raw] = raw.decode("latin-1").lower()
            if name == "user-agent":
                agent = value.decode("latin-1")
            elif name not in _USUAL:
                found += header_credentials(name, value.decode("latin-1"))
        self.told = tuple(found), agent
        return self.told

    @property
    def content(self) -> bytes:
        """The body as it is meant: without its content encoding, where that can be undone."""
        body = self.body
        if not body or body[:1] in (b"{", b"["):
            return body
        encoding = next((value for name, value in self.headers if name.lower() == b"content-encoding"), b"")
        return decompress(body, encoding.decode("latin-1")) if encoding else body


# What every client sends, and is no secret: not looked at again and again.
_USUAL = frozenset(("host", "accept", "accept-encoding", "connection", "content-type", "content-length"))
_header_names: dict[bytes, str] = {}
_AGENT = re.compile(r"(?:Async|Sync)?(?:Azure)?([A-Za-z][\w-]*?)/(?:Python )?v?(\d[\w.]*)")
_LIBRARY = re.compile(r"(?i)(?:python|mozilla|aiohttp|httpx|urllib|okhttp|curl)")


class Request(msgspec.Struct, frozen=True, gc=False):
    """What identifies one call.

    Attributes
    ----------
    kind : str
        ``chat``, ``response``, ``embedding``, ``http``, ``tool``, …
    fields : mapping
        The canonical request, as a recording stores it under ``request``.
    key : str
        ``k1:`` and the SHA-256 of kind and fields.
    ids : tuple of str
        The ids that were replaced, verbatim, in the order of their replacements.
    rpc_id : int, str or None
        The id of a JSON-RPC request, which is no part of it.
    """

    kind: str
    fields: Mapping[str, Any]
    key: str
    ids: tuple[str, ...] = ()
    rpc_id: RpcId | None = None

    @property
    def body(self) -> Any:
        """The JSON body or the tool's arguments; None where there is neither."""
        return self.fields.get("body", self.fields.get("arguments"))

    @property
    def model(self) -> str:
        """The model or the tool asked, or ``""``."""
        if self.kind == "tool":
            return str(self.fields.get("tool", ""))
        body = self.body
        if isinstance(body, dict) and isinstance(body.get("model"), str):
            return str(body["model"])
        match = re.match(r"models?/([^/:]+)", str(self.fields.get("endpoint", "")))
        return match.group(1) if match else ""


def last_user_text(fields: Mapping[str, Any]) -> str:
    """Return the last thing that a user says in a canonical request, or ``""``."""
    body = fields.get("body", fields.get("arguments"))
    if not isinstance(body, dict):
        return ""
    for name in ("messages", "input", "contents"):
        messages = body.get(name)
        if isinstance(messages, str):
            return messages
        for message in reversed(dicts(messages)):
            if message.get("role", "user") == "user":
                text = text_of(message.get("content", message.get("parts")))
                if text:
                    return text
    prompt = body.get("prompt")
    return prompt if isinstance(prompt, str) else ""


def text_of(content: Any) -> str:
    """Return the text of a message's content: a text, or a list of parts."""
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in dicts(content) if isinstance(part.get("text"), str))


def dicts(value: Any) -> list[dict[str, Any]]:
    """Return the objects in a list; of anything else, none."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def request_of(call: Call, normaliser: Normaliser, issued: Mapping[str, str], redactor: Redactor) -> Request:
    """Reduce `call` to what identifies it.

    Parameters
    ----------
    call : Call
    normaliser : Normaliser
        The session's ``--ignore`` and ``--mask``.
    issued : mapping of str to str
        Ids that answers of this session brought, each with the key of the request that issued it.
    redactor : Redactor
        `UNREDACTED` leaves secrets in. What comes of it is good for looking whether a recording has just this, and for
        no more.
    """
    if call.tool is not None:
        made = normalised({"tool": call.tool[0], "arguments": redactor.value(call.tool[1])}, normaliser)
        return Request("tool", made, key_of("tool", made))
    route = call.route or route_of(call.host, call.target)
    # What it holds goes before what it is called: urllib calls every body a form.
    data = call.content
    read = _json(data, redactor) if data[:1] in (b"{", b"[") else None
    name, body, plain = read or _body(data, call.content_type, redactor)
    rpc_id, model = None, None
    if type(body) is dict:
        if "jsonrpc" in body:
            body, rpc_id = without_id(body)
        model = body.get("model")
    known = find_endpoint(route.path, type(model) is str)
    fields: dict[str, Any] = {"method": call.method}
    if known:
        kind, fields["endpoint"] = known[0], redactor.url(known[1])
    else:
        kind, fields["host"], fields["path"] = "http", call.host, redactor.url(_with_plain_placeholders(route.path))
    if route.query and (not known or call.method == "GET"):
        fields["query"] = redactor.pairs(parse_qsl(route.query, keep_blank_values=True))
    ids: list[str] = []
    if issued:
        place = "endpoint" if known else "path"
        fields[place] = _issued_in_path(fields[place], issued, ids)
    if name:
        if normaliser.rules:
            body = _ruled(body, normaliser)
        fields[name] = replace_ids(body, data, issued, ids) if name == "body" else body
    return Request(kind, fields, key_of(kind, fields, plain=plain), tuple(ids), rpc_id)


def _with_plain_placeholders(path: str) -> str:
    """Return a path in which ``[secret:N]``, out of a replayed answer, stands as a recorded request has it."""
    return _PLACEHOLDER.sub(r"[secret:\1]", path) if "secret" in path else path


_PLACEHOLDER = re.compile(r"(?i)(?:\[|%5B)secret(?::|%3A)(\d+)(?:\]|%5D)")


def normalised(fields: Mapping[str, Any], normaliser: Normaliser) -> dict[str, Any]:
    """Return a canonical request without what is ignored and masked in its body."""
    made = dict(fields)
    for name in ("body", "arguments", "form", "parts", "text") if normaliser.rules else ():
        if name in made:
            made[name] = _ruled(made[name], normaliser)
    return made


def _ruled(value: Any, normaliser: Normaliser) -> Any:
    return normaliser.mask_text(value) if isinstance(value, str) else normaliser.apply(value)


def _issued_in_path(path: str, issued: Mapping[str, str], ids: list[str]) -> str:
    parts = path.split("/")
    for index, part in enumerate(parts):
        if part in issued:
            ids.append(part)
            parts[index] = "@" + issued[part]
    return "/".join(parts)


def _body(data: bytes, content_type: str, redactor: Redactor) -> tuple[str, Any, bool]:
    """Return the name under which a body is stored, the body without its secrets, and whether it is plain JSON."""
    if not data:
        return "", None, False
    if content_type.startswith("multipart/"):
        return "parts", [clean_part(part.identity, redactor) for part in parts(data, content_type)], False
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return "digest", digest(data), False
    if content_type.startswith("application/x-www-form-urlencoded"):
        return "form", redactor.pairs(parse_qsl(text, keep_blank_values=True)), False
    made = _json(data, redactor) if "json" in content_type and data[0] not in b"{[" else None
    return made or ("text", redactor.text(text), False)


def clean_part(identity: dict[str, Any], redactor: Redactor) -> dict[str, Any]:
    """Return what identifies a part of a form, without secrets: its name may tell that its text is one."""
    clean: dict[str, Any] = redactor.value(identity)
    if "text" in clean and clean["text"] == identity["text"]:
        clean["text"] = redactor.member(str(identity.get("name", "")), identity["text"])
    return clean


def _json(data: bytes, redactor: Redactor) -> tuple[str, Any, bool] | None:
    plain = True
    try:
        value = read_plain(data)
    except (msgspec.MsgspecError, RecursionError):
        plain = False
        try:
            value = parse_json(data)  # one with NaN or Infinity is keyed as the text that it is
        except (ValueError, RecursionError):
            return None
    if len(data) > SHALLOW and is_deep(value, data):
        return None
    return "body", value if redactor is UNREDACTED else redactor.json(value, data), plain
