"""Which credentials a call carries in its headers, so that they are taken out wherever they appear.

Any header that is not known to be harmless may carry one: services invent names for theirs.
"""

from __future__ import annotations

import base64
import binascii
import functools
import re

from nbreplay.core.secrets.values import looks_random

__all__ = ["header_credentials", "is_harmless_header"]

_CREDENTIAL_HEADERS = frozenset(
    (
        *("authorization", "proxy-authorization", "x-api-key", "api-key", "x-goog-api-key", "x-auth-token"),
        *("x-access-token", "x-amz-security-token", "x-subscription-token", "ocp-apim-subscription-key"),
    )
)
# What these carry is no secret, or is made up anew for each request.
_HARMLESS_HEADERS = frozenset(
    (
        *("baggage", "connection", "date", "expect", "forwarded", "from", "host", "idempotency-key", "last-event-id"),
        *("mcp-session-id", "openai-organization", "openai-project", "origin", "pragma", "prefer", "priority", "range"),
        *("referer", "request-id", "sentry-trace", "te", "traceparent", "tracestate", "transfer-encoding", "upgrade"),
        *("user-agent", "via", "x-amz-content-sha256", "x-amz-date", "x-amz-target", "x-amzn-trace-id", "x-b3-spanid"),
        *("x-b3-traceid", "x-client-request-id", "x-client-trace-id", "x-cloud-trace-context", "x-correlation-id"),
        *("x-goog-api-client", "x-goog-user-project", "x-idempotency-key", "x-request-id", "x-title", "x-trace-id"),
        *("amz-sdk-invocation-id", "amz-sdk-request", "cache-control", "depth", "x-goog-request-params"),
        "x-session-id",
    )
)
_HARMLESS_BEGINNINGS = (
    *("accept", "access-control-", "anthropic-", "content-", "if-", "mcp-", "sec-", "x-amzn-bedrock-", "x-stainless-"),
    *(
        "x-b3-",
        "x-datadog-",
        "x-forwarded-",
        "x-github-api-",
        "x-ms-client-",
        "x-ms-date",
        "x-ms-version",
        "langsmith-",
    ),
)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9\-]{1,30} +")


@functools.lru_cache(maxsize=512)
def is_harmless_header(name: str) -> bool:
    """Tell whether a request's header, named in lower case, never carries a credential."""
    return name in _HARMLESS_HEADERS or name.startswith(_HARMLESS_BEGINNINGS)


@functools.lru_cache(maxsize=512)
def header_credentials(name: str, value: str) -> tuple[str, ...]:
    """Return the secrets that a request's header carries, in every form in which an answer may repeat them.

    Parameters
    ----------
    name : str
        In lower case.
    value : str
    """
    if is_harmless_header(name):
        return ()
    if name == "cookie":
        return tuple(pair.partition("=")[2].strip() for pair in value.split(";"))
    secret = value[found.end() :].strip() if (found := _SCHEME.match(value)) else value.strip()
    if found and found.group().strip().lower() == "basic":
        return (secret, *_basic(secret))
    if name in _CREDENTIAL_HEADERS:
        return (value.rpartition(" ")[2], secret)
    return (secret,) if looks_random(secret) else ()


def _basic(text: str) -> tuple[str, ...]:
    """Return the name with its password, the password, and the name where it looks like a key of its own."""
    try:
        decoded = base64.b64decode(text, validate=True).decode("utf-8", "surrogateescape")
    except (binascii.Error, ValueError):
        return ()
    user, _, password = decoded.partition(":")
    return (decoded, *([password] if password else []), *([user] if looks_random(user) else []))
