"""Which names and values are secret: those of environment variables, headers and queries, and what only looks like it.

Any header that is not known to be harmless may carry a credential: services invent names for theirs.
"""

from __future__ import annotations

import base64
import binascii
import functools
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable
from urllib.parse import quote, quote_plus, unquote_plus


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# The words of a name, such as api and key of apiKey, API_KEY and api-key.
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_SECRET_WORDS = _words(
    "token secret password passwd passphrase pwd credential credentials authorization authtoken apikey dsn"
)
# "key" says little by itself: only these before it make it a secret one.
_KINDS_OF_KEY = _words(
    "api access secret private signing encryption encrypt master account auth service subscription license client "
    "consumer app application write admin server deploy shared session storage webhook jwt hmac ssh rest"
)
_WHOLE_NAMES = frozenset({"auth", "connectionstring", "connstr"})
# With these words the value is not the secret itself: a token's price, the next page, a public key.
_HARMLESS_WORDS = _words(
    "max min num count next page pages previous prev continuation cursor sync public primary foreign cache cached sort "
    "partition prompt completion input output total reasoning bos eos pad unk sep cls mask special stop idempotency "
    "usage limit per price cost tokenizer tokenizers tokens fingerprint thumbprint ice change action"
)
_HARMLESS_LAST_WORDS = _words(
    "id ids type types name names length size file path dir folder url uri endpoint expires expiry ttl index pos "
    "position algorithm alg format version scheme required hint help label title description prefix regex pattern "
    "env var variable field header param parameter class method store ring pair vault manager provider "
    "used last changed at age policy"
)

# The pairs of letters that English words and identifiers are mostly made of. They are three quarters of the pairs in
# words, and a fifth of those in random letters.
_COMMON_PAIRS = _words(
    "ab ac ad ag ai al am an ap ar as at ba be bl ca ce ch ck cl co cr ct da de di do ea ec ed ee ef el em en ep er "
    "es et ex fi fo ge ha he ho ia ib ic id ie if ig il im in io ip ir is it iv ke la le li ll lo lt ly ma me mi mo "
    "mp na nc nd ne ng ni no ns nt oc od ol om on op or os ot ou ow pa pe pi pl po pr pt py ra rc re ri rm ro rr rs "
    "rt sc se sh si so sp ss st su ta te th ti to tr ts tt tu ty ul um un ur us ut va ve yp"
)
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.I)
_HEX = re.compile(r"[0-9a-f]{16,}|[0-9A-F]{16,}")
_EXPRESSION = re.compile(r"://|\.\w+\.[a-z]|::|\w\(|^[.~$%@#]|^\w+\.(?:py|js|ts|json|ya?ml|toml|txt|md|html?)\b")
_PLACEHOLDER = re.compile(
    r"(?i)example|your[_-]|placeholder|change[_-]?me|dummy|redacted|insert|replace|x{5}|\*\*\*|\.\.\.|…|<|\[secret:"
    r"|1234567890a|123456789abc|abcdefghij|(?P<same>[^A])(?P=same){7}|(?-i:A{12})"
)
# The signature of the token that jwt.io, and so most documentation, shows.
_DOCUMENTED = "SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c"
DUMMY_PASSWORDS = _words(
    "pass passwd password pwd secret user username admin root test guest tiger postgres mysql mypassword mypass "
    "passw0rd token key apikey api_key pat port foo bar baz secretpassword yourpassword my_password"
)
"""Passwords of documentation, as in ``postgres://user:pass@host``."""
_PASSWORD = re.compile("(?i)pass|pwd")


@functools.lru_cache(maxsize=2048)
def is_secret_name(name: str) -> bool:
    """Tell whether what has this name usually holds a secret: ``api_key``, ``X-Api-Key``, ``db.password``."""
    parts: list[str] = [word.lower() for word in _WORD.findall(name)]
    while parts and parts[-1].isdigit():
        parts.pop()
    if not 0 < len(parts) <= 8 or parts[-1] in _HARMLESS_LAST_WORDS or not _HARMLESS_WORDS.isdisjoint(parts):
        return False
    if "".join(parts) in _WHOLE_NAMES or "".join(parts[-2:]) in _WHOLE_NAMES:
        return True
    if parts[-2:] == ["request", "token"]:  # made up for each request, so that it is not done twice
        return False
    if not _SECRET_WORDS.isdisjoint(parts):
        return True
    if parts[-1] in ("key", "pat") and len(parts) > 1:
        return parts[-1] == "pat" or parts[-2] in _KINDS_OF_KEY or name.isupper()
    return parts[-1].endswith(("apikey", "accesskey", "secretkey", "authtoken", "accesstoken"))


def is_secret_named(name: str, value: str) -> bool:
    """Tell whether a value beside a name is a secret: the name says so, and the value looks random."""
    # People choose passwords, so that these may be shorter.
    return is_secret_name(name) and looks_random(value, 8 if _PASSWORD.search(name) else 12)


def is_placeholder(value: str) -> bool:
    """Tell whether a value stands for a secret in documentation, such as ``sk-XXXX`` or ``YOUR_TOKEN``."""
    return _PLACEHOLDER.search(value) is not None or value.endswith(_DOCUMENTED)


def looks_random(value: str, shortest: int = 12, most_words: float = 0.5) -> bool:
    """Tell whether a value looks as if a machine had drawn it, rather than a person had written it.

    It must have `shortest` characters, and may be like words up to `most_words`, from 0 to 1.
    """
    if len(value) < shortest or value.isdigit() or is_placeholder(value):
        return False
    if _UUID.fullmatch(value):
        return True
    if _HEX.fullmatch(value):
        return len(set(value)) >= 6 and not value.isalpha()
    if _EXPRESSION.search(value) or _TIME.match(value):
        return False
    size = len(value)
    if size < 20 and not any(map(str.isdigit, value)):
        if size < 14 and (value.islower() or value.isupper()):
            return False
        most_words = min(most_words, 0.35)
    bits = -sum(count / size * math.log2(count / size) for count in Counter(value).values())  # for each character
    pairs = re.findall(r"(?=([A-Za-z0-9]{2}))", value)
    common = sum(pair.lower() in _COMMON_PAIRS for pair in pairs)
    return bits >= min(3.0, math.log2(size) - 0.8) and (len(pairs) < 3 or common / len(pairs) < most_words)


PLACEHOLDER = "nbreplay-placeholder-no-api-key-is-set"
"""Stands in for an API key that is not set. Never sent; redacted like a real one."""

PLACEHOLDER_PATTERN = rf"(?:hf_)?{PLACEHOLDER}(?:-(?P<variable>[A-Z][A-Z0-9_]{{0,80}}))?"
"""The whole of a placeholder: with the variable that it is in, and with what an SDK tells its keys apart by."""


def placeholder_for(name: str, prefix: str = "") -> str:
    """Return the placeholder of a variable, which differs from that of any other, as real keys do."""
    return f"{prefix}{PLACEHOLDER}-{name}" if re.fullmatch("[A-Z][A-Z0-9_]*", name) else f"{prefix}{PLACEHOLDER}"


_VARIABLE = re.compile(r"API_?KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|ACCESS_?KEY|PRIVATE_?KEY|_KEY$|_PAT$", re.I)
_HARMLESS_VARIABLE = re.compile(r"TOKENIZERS?_|MAX_?TOKENS?|_FILE$|_PATH$|_DIR$", re.I)
_DUMMIES = _words(
    "not-needed not-required no-key-required no-api-key required optional placeholder changeme password disabled "
    "undefined anonymous localhost lm-studio"
)
_QUERY_NAMES = (
    r"key|api[-_]?key|apikey|access[-_]?token|auth|token|sig|signature|password|secret|client[-_]secret|"
    r"x-amz-(?:signature|credential|security-token)|x-goog-(?:signature|credential)"
)
QUERY_NAME = re.compile(_QUERY_NAMES, re.I)
"""The names of credentials in a query or a form."""
QUERY = re.compile(rf"([?&;](?:{_QUERY_NAMES})=)([^&;#\s]+)", re.I)
"""A credential in a query, after its name."""

_CREDENTIAL_HEADERS = _words(
    "authorization proxy-authorization x-api-key api-key x-goog-api-key x-auth-token x-access-token "
    "x-amz-security-token x-subscription-token ocp-apim-subscription-key"
)
# These hold nothing secret, or a value that is made up anew for each request.
_HARMLESS_HEADERS = _words(
    "amz-sdk-invocation-id amz-sdk-request baggage cache-control connection date depth expect forwarded from host "
    "idempotency-key last-event-id mcp-session-id openai-organization openai-project origin pragma prefer priority "
    "range referer request-id sentry-trace te traceparent tracestate transfer-encoding upgrade user-agent via "
    "x-amz-content-sha256 x-amz-date x-amz-target x-amzn-trace-id x-b3-spanid x-b3-traceid x-client-request-id "
    "x-client-trace-id x-cloud-trace-context x-correlation-id x-goog-api-client x-goog-request-params "
    "x-goog-user-project x-idempotency-key x-request-id x-session-id x-title x-trace-id"
)
_HARMLESS_BEGINNINGS = tuple(
    _words(
        "accept access-control- anthropic- content- if- langsmith- mcp- sec- x-amzn-bedrock- x-b3- x-datadog- "
        "x-forwarded- x-github-api- x-ms-client- x-ms-date x-ms-version x-stainless-"
    )
)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9\-]{1,30} +")
_URL_SAFE = str.maketrans("+/", "-_")


@functools.lru_cache(maxsize=1024)
def is_secret_variable(name: str) -> bool:
    """Tell whether an environment variable of this name usually holds a secret."""
    return _VARIABLE.search(name) is not None and _HARMLESS_VARIABLE.search(name) is None


@functools.lru_cache(maxsize=256)
def _is_distinctive(value: str) -> bool:
    # Ordinary words and paths are not secrets: removing them would only spoil texts.
    if len(value) < 8 or value.lower() in _DUMMIES or PLACEHOLDER in value:
        return False
    return not os.path.exists(value)


def _secret_variables() -> dict[str, str]:
    """Return the environment variables whose names say that they are secret, with their values."""
    return {name: os.environ.get(name, "").strip() for name in os.environ if is_secret_variable(name)}


def environment_secrets() -> tuple[str, ...]:
    """Return the values of the environment variables whose names say that they are secret, longer ones first."""
    values = _learned.union(_secret_variables().values())
    return tuple(sorted(filter(_is_distinctive, values), key=lambda value: (-len(value), value)))


_learned: set[str] = set()


def learn_secret(value: str) -> None:
    """Treat a value as secret from now on, such as one that a program has asked a person for."""
    _learned.add(value.strip())


def variables_in(data: bytes) -> list[str]:
    """Return the environment variables that hold secrets which are in `data`, in whatever form."""
    return sorted(
        name
        for name, value in _secret_variables().items()
        if _is_distinctive(value) and any(form.encode("utf-8", "surrogateescape") in data for form in _forms(value))
    )


def has_placeholder(target: str, headers: Iterable[tuple[bytes, bytes]], body: bytes = b"") -> bool:
    """Tell whether a call carries the placeholder of a key, given its path with the query, its headers and its body."""
    head = b"\n".join((target.encode("utf-8", "surrogateescape"), *(value for _, value in headers)))
    return any(form in head or form in body for form in _placeholder_forms())


def placeholder_variables(target: str, headers: Iterable[tuple[bytes, bytes]], body: bytes = b"") -> list[str]:
    """Return the variables whose placeholders a call carries, unless these are encoded."""
    places = (target, *(value.decode("latin-1") for _, value in headers), body.decode("latin-1"))
    names = (match["variable"] for place in places for match in re.finditer(PLACEHOLDER_PATTERN, place))
    return list(dict.fromkeys(filter(None, names)))


def query_secrets(target: str) -> list[str]:
    """Return the credentials in a query, as they are written there and as they are meant."""
    return [form for match in QUERY.finditer(target) for form in dict.fromkeys([match[2], unquote_plus(match[2])])]


@functools.lru_cache(maxsize=512)
def header_credentials(name: str, value: str) -> tuple[str, ...]:
    """Return the secrets of a request's header, named in lower case, in every form that an answer may repeat."""
    if name in _HARMLESS_HEADERS or name.startswith(_HARMLESS_BEGINNINGS):
        return ()
    if name == "cookie":
        return tuple(pair.partition("=")[2].strip() for pair in value.split(";"))
    scheme = _SCHEME.match(value)
    secret = (value[scheme.end() :] if scheme else value).strip()
    if scheme and scheme.group().strip().lower() == "basic":
        return (secret, *_basic_credentials(secret))
    if name in _CREDENTIAL_HEADERS:
        return (value.rpartition(" ")[2], secret)
    return (secret,) if looks_random(secret) else ()


def _basic_credentials(text: str) -> tuple[str, ...]:
    """Return the name with its password, the password, and the name where it looks like a key of its own."""
    try:
        decoded = base64.b64decode(text, validate=True).decode("utf-8", "surrogateescape")
    except (binascii.Error, ValueError):
        return ()
    user, _, password = decoded.partition(":")
    return (decoded, *([password] if password else []), *([user] if looks_random(user) else []))


@functools.lru_cache(maxsize=128)
def literals(environment: tuple[str, ...], credentials: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Return every form of these values, longer ones first, each with the id of the rule that its matches name."""
    rules = dict.fromkeys((form for value in environment for form in _forms(value)), "environment")
    forms = (form for value in filter(_is_distinctive, credentials) for form in _forms(value))
    rules = {**dict.fromkeys(forms, "credential"), **rules, PLACEHOLDER: "placeholder"}
    return tuple(sorted(rules.items(), key=lambda item: -len(item[0])))


@functools.cache
def _placeholder_forms() -> list[bytes]:
    return [form.encode() for form in _forms(PLACEHOLDER)]


@functools.lru_cache(maxsize=256)
def _forms(value: str) -> list[str]:
    """Return `value` as it is, and as it is written inside JSON text, in URLs and in base64."""
    forms = [value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]]
    forms += [quote(value, safe=""), quote(value), quote_plus(value)]
    data = value.encode("utf-8", "surrogateescape")
    if len(data) >= 12:
        # The bytes before it shift it within the base64; the letters at both ends depend on its neighbours.
        for shift in range(3):
            text = base64.b64encode(bytes(shift) + data).decode("ascii").rstrip("=")
            text = text[-(-8 * shift // 6) : len(text) - ((shift + len(data)) % 3 > 0)]
            forms += [text, text.translate(_URL_SAFE)]
    return list(dict.fromkeys(forms))
