"""Values that are known to be secret: those of environment variables, of a request's headers and of queries.

Any header that is not known to be harmless may carry a credential: services invent names for theirs.
"""

from __future__ import annotations

import base64
import binascii
import functools
import json
import os
import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus, unquote_plus

from nbreplay.core.secrets.values import looks_random, words

PLACEHOLDER = "nbreplay-placeholder-no-api-key-is-set"
"""Stands in for an API key that is not set. Never sent; redacted like a real one."""

_VARIABLE = re.compile(r"API_?KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|ACCESS_?KEY|PRIVATE_?KEY|_KEY$|_PAT$", re.I)
_HARMLESS_VARIABLE = re.compile(r"TOKENIZERS?_|MAX_?TOKENS?|_FILE$|_PATH$|_DIR$", re.I)
_DUMMIES = words(
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

_CREDENTIAL_HEADERS = words(
    "authorization proxy-authorization x-api-key api-key x-goog-api-key x-auth-token x-access-token "
    "x-amz-security-token x-subscription-token ocp-apim-subscription-key"
)
# These hold nothing secret, or a value that is made up anew for each request.
_HARMLESS_HEADERS = words(
    "amz-sdk-invocation-id amz-sdk-request baggage cache-control connection date depth expect forwarded from host "
    "idempotency-key last-event-id mcp-session-id openai-organization openai-project origin pragma prefer priority "
    "range referer request-id sentry-trace te traceparent tracestate transfer-encoding upgrade user-agent via "
    "x-amz-content-sha256 x-amz-date x-amz-target x-amzn-trace-id x-b3-spanid x-b3-traceid x-client-request-id "
    "x-client-trace-id x-cloud-trace-context x-correlation-id x-goog-api-client x-goog-request-params "
    "x-goog-user-project x-idempotency-key x-request-id x-session-id x-title x-trace-id"
)
_HARMLESS_BEGINNINGS = tuple(
    words(
        "accept access-control- anthropic- content- if- langsmith- mcp- sec- x-amzn-bedrock- x-b3- x-datadog- "
        "x-forwarded- x-github-api- x-ms-client- x-ms-date x-ms-version x-stainless-"
    )
)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9\-]{1,30} +")
_URL_SAFE = str.maketrans("+/", "-_")


@functools.lru_cache(maxsize=1024)
def _is_secret_variable(name: str) -> bool:
    return _VARIABLE.search(name) is not None and _HARMLESS_VARIABLE.search(name) is None


@functools.lru_cache(maxsize=256)
def _is_distinctive(value: str) -> bool:
    # Ordinary words and paths are not secrets: removing them would only spoil texts.
    return len(value) >= 8 and value.lower() not in _DUMMIES and not os.path.exists(value)


def environment_secrets() -> tuple[str, ...]:
    """Return the values of the environment variables whose names say that they are secret, longer ones first."""
    values = {os.environ.get(name, "").strip() for name in os.environ if _is_secret_variable(name)}
    return tuple(sorted(filter(_is_distinctive, values), key=lambda value: (-len(value), value)))


def has_placeholder(target: str, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Tell whether a call carries the placeholder of a key, given its path with the query, and its headers."""
    return PLACEHOLDER in target or any(PLACEHOLDER.encode() in value for _, value in headers)


def query_secrets(target: str) -> list[str]:
    """Return the credentials in a query, as they are written there and as they are meant."""
    return [
        form
        for match in QUERY.finditer(target)
        for form in dict.fromkeys([match.group(2), unquote_plus(match.group(2))])
    ]


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
    """Return every form of the values of environment variables and of a call's credentials, longer ones first.

    Each is a pair of the form and the id of the rule that its matches name.
    """
    rules = dict.fromkeys((form for value in environment for form in _forms(value)), "environment")
    for value in filter(_is_distinctive, credentials):
        for form in _forms(value):
            rules.setdefault(form, "credential")
    rules[PLACEHOLDER] = "placeholder"
    return tuple(sorted(rules.items(), key=lambda item: -len(item[0])))


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
