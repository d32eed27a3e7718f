"""A request, reduced to the fields that identify it, and its key: the hash of their canonical text.

Knows the shape of calls (JSON, forms, multipart, text, binary) and nothing of who sends them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from nbreplay.core.recording.body import decompress
from nbreplay.core.recording.json_text import JsonValue, dicts, is_deep, parse_json
from nbreplay.core.recording.take import RpcId
from nbreplay.core.request.jsonrpc import without_id
from nbreplay.core.request.multipart import digest, part_identities
from nbreplay.core.request.route import find_endpoint
from nbreplay.core.request.rules import Normaliser, replace_ids
from nbreplay.core.secrets.credentials import header_credentials, query_secrets, variables_in
from nbreplay.core.secrets.redact import UNREDACTED, Redactor

Headers = Sequence[tuple[bytes, bytes]]

SUBSCRIBES = "subscriptions/listen"
"""The method of MCP whose answer is a stream that ends when its caller leaves."""


class Call(msgspec.Struct, eq=False, gc=False):
    """One outgoing HTTP call, in the neutral terms that every interceptor can give."""

    method: str
    host: str  # with its port, unless that is the scheme's own
    target: str  # path and query, as they go over the wire
    named_type: str  # the content type, where it is not to be taken from the headers
    body: bytes
    headers: Headers = ()  # only looked at for secrets and for the name of the SDK, never stored
    library: str = ""  # the HTTP library that makes the call, with its version
    tool: tuple[str, dict[str, Any]] | None = None  # name and arguments of a tool's call, which does not go over HTTP
    origin: str = ""  # the module and name of that tool's code
    origins: tuple[str, ...] = ()  # those of all tools of its name, in the order of their first calls
    credentials: tuple[str, ...] | None = None  # the values of `tokens`, once they have been looked for
    note: str = ""  # a remark for the log
    is_websocket: bool = False  # whether it opens a websocket

    def __repr__(self) -> str:  # without the target, which may hold a key
        return f"<Call {self.method} {self.host}>"

    def header(self, name: bytes) -> str:
        """Return the value of a header, named in lower case, or ``""``."""
        values = (value for other, value in self.headers if other.lower() == name)
        return next(values, b"").decode("latin-1")

    @property
    def content_type(self) -> str:
        """The type of the body, or ``""``."""
        return self.named_type or self.header(b"content-type")

    @property
    def content(self) -> bytes:
        """The body without its content encoding, where that can be undone."""
        encoding = self.header(b"content-encoding")
        # Recordings are keyed by a body in several encodings, or one that begins like JSON, as it was sent.
        return self.body if "," in encoding or self.body[:1] in (b"{", b"[") else decompress(self.body, encoding)

    @property
    def tokens(self) -> tuple[str, ...]:
        """The credentials that the call carries in its headers and its query."""
        if self.credentials is None:
            secrets = query_secrets(self.target) if "?" in self.target else []
            for name, value in self.headers:
                secrets += header_credentials(name.decode("latin-1").lower(), value.decode("latin-1"))
            self.credentials = tuple(secrets)
        return self.credentials

    def variables(self) -> list[str]:
        """Return the environment variables that hold secrets which the call carries."""
        arguments = json.dumps(self.tool[1], default=str).encode() if self.tool else b""
        places = (self.target.encode("utf-8", "surrogateescape"), *(value for _, value in self.headers))
        return variables_in(b"\n".join((*places, self.content, arguments)))

    @property
    def sdk(self) -> str:
        """The SDK that makes the call, such as ``openai 3.54.0``, else the HTTP library."""
        agent = self.header(b"user-agent")
        match = _AGENT.match(agent)
        if match and not _LIBRARY.match(agent):
            language = f"-{match[2]}" if match[2] else ""
            return f"{match[1]}{language}".lower() + f" {match[3]}"
        return self.library or agent

    @property
    def speaks_mcp(self) -> bool:
        """Whether an MCP client makes it, after the first one of a session."""
        return any(name.lower() in _MCP_HEADERS for name, _ in self.headers)

    @property
    def listens(self) -> bool:
        """Whether it opens an MCP server's stream of its own messages."""
        return self.method == "GET" and self.speaks_mcp


_MCP_HEADERS = frozenset([b"mcp-session-id", b"mcp-protocol-version"])
_AGENT = re.compile(r"(?:Async|Sync)?(?:Azure)?([A-Za-z][\w-]*?)/(?:Python |(Go|JS|Java|Ruby) )?v?(\d[\w.]*)")
_LIBRARY = re.compile(r"(?i)(?:python|mozilla|aiohttp|httpx|urllib|okhttp|curl)")


class Request(msgspec.Struct, frozen=True, gc=False):
    """What identifies one call."""

    kind: str  # ``chat``, ``response``, ``embedding``, ``http``, ``tool``, …
    fields: Mapping[str, Any]  # the canonical request, as a recording stores it under ``request``
    key: str  # ``k1:`` and the SHA-256 of kind and fields
    ids: tuple[str, ...] = ()  # the ids that were replaced, verbatim, in the order of their replacements
    rpc_id: RpcId | None = None  # the id of a JSON-RPC request; it is not a part of `fields`

    @property
    def body(self) -> JsonValue:
        """The JSON body or the tool's arguments; None where there is neither."""
        body: JsonValue = self.fields.get("body", self.fields.get("arguments"))
        return body

    @property
    def model(self) -> str:
        """The model or the tool asked, or ``""``."""
        if self.kind == "tool":
            return str(self.fields.get("tool", ""))
        body = self.body
        if isinstance(body, dict) and isinstance(body.get("model"), str):
            return str(body["model"])
        if self.kind == "websocket":
            named = (pair[1] for pair in self.fields.get("query", ()) if len(pair) == 2 and pair[0] == "model")
            return str(next(named, ""))
        match = re.match(r"models?/([^/:]+)", str(self.fields.get("endpoint", "")))
        return match.group(1) if match else ""

    @property
    def rpc_method(self) -> str:
        """The method of a JSON-RPC request, or ``""``."""
        body = self.body
        return str(body.get("method", "")) if self.rpc_id is not None and isinstance(body, dict) else ""


PROMPTS = ("messages", "input", "contents", "content", "prompt", "query", "texts", "requests", "documents")
"""The fields of a body that hold what is asked; of several, the first one counts most."""


def last_user_text(fields: Mapping[str, Any]) -> str:
    """Return the last thing that a user says in a canonical request, or ``""``."""
    body = fields.get("body", fields.get("arguments"))
    prompts = [body[name] for name in PROMPTS if name in body] if isinstance(body, dict) else []
    return next(filter(None, map(_last_text, prompts)), "")


def _last_text(prompts: Any) -> str:
    items = prompts if isinstance(prompts, list) else [prompts]
    return next(filter(None, map(_user_text, reversed(items))), "")


def _user_text(item: Any) -> str:
    """Return the text of a message, of an item of the responses API, or of a text by itself, where a user says it."""
    if not isinstance(item, dict):
        return item if isinstance(item, str) else ""
    kind = item.get("type", "message")
    if "role" not in item and kind != "message":
        return text_of([item]) if kind in ("text", "input_text") else ""
    item = item["content"] if isinstance(item.get("content"), dict) else item  # Gemini's, of embeddings
    return text_of(item.get("content", item.get("parts"))) if item.get("role", "user") == "user" else ""


def text_of(content: Any) -> str:
    """Return the text of a message's content: a text, or a list of parts."""
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in dicts(content) if isinstance(part.get("text"), str))


def request_of(call: Call, normaliser: Normaliser, issued: Mapping[str, str], redactor: Redactor) -> Request:
    """Reduce `call` to the fields that identify it.

    `issued` are the ids that answers of this session brought, each with the key of the request that issued it. With
    `UNREDACTED`, secrets stay in: the result only tells whether a recording has just this.
    """
    if call.tool is not None:
        fields = apply_rules({"tool": call.tool[0], "arguments": redactor.value(call.tool[1])}, normaliser)
        return Request("tool", fields, key_of("tool", fields))
    path, _, query = call.target.partition("?")
    # What a body holds goes before what it is called: urllib calls every body a form.
    data = call.content
    parsed = _json(data, redactor) if data[:1] in (b"{", b"[") else None
    name, body, plain = parsed or _body(data, call.content_type, redactor)
    rpc_id, model = None, None
    if type(body) is dict:
        if "jsonrpc" in body:
            body, rpc_id = without_id(body)
        model = body.get("model")
    endpoint = None if call.is_websocket else find_endpoint(path, type(model) is str)
    fields = {"method": call.method}
    ids: list[str] = []
    if endpoint:
        kind, fields["endpoint"] = endpoint[0], _with_issued(redactor.url(endpoint[1]), issued, ids)
    else:
        # ``[secret:N]`` out of a replayed answer, as a recorded request has it.
        path = _PLACEHOLDER.sub(r"[secret:\1]", path) if "secret" in path else path
        kind = "websocket" if call.is_websocket else "http"
        fields["host"], fields["path"] = call.host, _with_issued(redactor.url(path), issued, ids)
    if query and (not endpoint or call.method == "GET"):
        fields["query"] = redactor.pairs(parse_qsl(query, keep_blank_values=True))
    if name:
        if normaliser.rules:
            body = normaliser.apply(body)
        fields[name] = replace_ids(body, data, issued, ids) if name == "body" else body
    return Request(kind, fields, key_of(kind, fields, plain=plain), tuple(ids), rpc_id)


def without_numbers(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a canonical request that does not tell which of its secrets are the same.

    They are counted by what is written: one key in two variables, or in two forms, may be two keys in another run.
    """
    text = json.dumps(fields)
    same: dict[str, Any] = json.loads(_NUMBERED.sub("[secret]", text))
    return same


_NUMBERED = re.compile(r"\[secret:\d{1,6}\]")
_PLACEHOLDER = re.compile(r"(?i)(?:\[|%5B)secret(?::|%3A)(\d+)(?:\]|%5D)")


def apply_rules(fields: Mapping[str, Any], normaliser: Normaliser) -> dict[str, Any]:
    """Return a canonical request with the rules applied to its body."""
    places = ("body", "arguments", "form", "parts", "text") if normaliser.rules else ()
    return {name: normaliser.apply(value) if name in places else value for name, value in fields.items()}


def _with_issued(path: str, issued: Mapping[str, str], ids: list[str]) -> str:
    """Return a path in which ids stand as the keys of the requests that issued them."""
    if not issued:
        return path
    steps = path.split("/")
    ids += [step for step in steps if step in issued]
    return "/".join("@" + issued[step] if step in issued else step for step in steps)


def _body(data: bytes, content_type: str, redactor: Redactor) -> tuple[str, Any, bool]:
    """Return the name under which a body is stored, the body without its secrets, and whether it is plain JSON."""
    if not data:
        return "", None, False
    if content_type.startswith("multipart/"):
        return "parts", [clean_part(identity, redactor) for identity in part_identities(data, content_type)], False
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return "digest", digest(data), False
    if content_type.startswith("application/x-www-form-urlencoded"):
        return "form", redactor.pairs(parse_qsl(text, keep_blank_values=True)), False
    parsed = _json(data, redactor) if "json" in content_type and data[0] not in b"{[" else None
    return parsed or ("text", redactor.text(text), False)


def clean_part(identity: dict[str, Any], redactor: Redactor) -> dict[str, Any]:
    """Return the identity of a part of a form, without secrets. Its name may tell that its text is one."""
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
    if is_deep(value, data):
        return None
    return "body", value if redactor is UNREDACTED else redactor.json(value, data), plain


ALGORITHM = "k1"
_encode = json.JSONEncoder(separators=(",", ":"), sort_keys=True).encode
_encode_plain = msgspec.json.Encoder(order="sorted").encode


def _plain_number(text: str) -> float:
    value = float(text)
    if value and not 1e-4 <= abs(value) < 1e16:
        raise ValueError(text)
    return value


read_plain: Callable[[bytes], Any] = msgspec.json.Decoder(float_hook=_plain_number).decode
"""Reads JSON data whose numbers msgspec writes as `json` does; raises MsgspecError or RecursionError for any other."""


def canonical(kind: str, fields: Mapping[str, Any]) -> bytes:
    """Return the text whose hash is the key: sorted names, no white space, ASCII."""
    return _encode([kind, fields]).encode("ascii")


def key_of(kind: str, fields: Mapping[str, Any], *, plain: bool = False) -> str:
    """Return the key of a canonical request.

    `plain` tells that its JSON comes from `read_plain`: then msgspec writes the text, in a quarter of the time.
    """
    text = None
    if plain:
        with contextlib.suppress(UnicodeEncodeError):  # half of a surrogate pair, in a path
            text = _encode_plain((kind, fields))
    if text is None or not text.isascii() or b"\x7f" in text:  # `json` escapes what is not ASCII, and DEL
        text = canonical(kind, fields)
    return f"{ALGORITHM}:{hashlib.sha256(text).hexdigest()}"
