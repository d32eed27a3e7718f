"""Secrets: what they look like, and taking them out of text. Knows nothing of requests or files.

A secret becomes ``[secret:N]``, N counting the distinct secrets of one document in order of
appearance, so that the key of a request does not depend on whose key was in it.
"""

from __future__ import annotations

import functools
import json
import os
import re
import threading
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, quote_plus, unquote_plus

from nbreplay.core.environment import Known
from nbreplay.core.patterns import finder

__all__ = ["PLACEHOLDER", "UNREDACTED", "Redactor", "environment_secrets", "query_secrets", "redact_url"]

PLACEHOLDER = "nbreplay-placeholder-no-api-key-is-set"
"""What stands in for an API key that is not set. Never sent; redacted like a real one."""

# A run that starts in the middle of a longer word is not a key: "risk-...", base64, hashes. The "n" of a line end
# that JSON has escaped is no part of the word. The first letters are looked at before: this runs over long texts.
_START = r"(?=[Acefghnprstxy])(?:(?<![A-Za-z0-9_\-+/])|(?<=\\[bfnrt])|(?<=\\u[0-9A-Fa-f]{4}))"
_KEYS = (
    # OpenAI, Anthropic, OpenRouter, DeepSeek: a run of letters and digits, or one with a digit. Not scikit-learn's HTML
    r"[sr]k-(?!(?:container|estimator)-id-)"
    r"(?:(?=[A-Za-z0-9_\-]*[0-9])[A-Za-z0-9_\-]{16,}|[A-Za-z0-9_\-]*[A-Za-z0-9]{20,}[A-Za-z0-9_\-]*)",
    # Stripe and others. With underscores between words it is a variable's name
    r"[sr]k_(?:(?:live|test|prod)_[A-Za-z0-9_\-]{8,}|[A-Za-z0-9]{20,})",
    r"AIza[A-Za-z0-9_\-]{30,}",
    r"ya29\.[A-Za-z0-9_\-]{20,}",
    r"gh[pousr]_[A-Za-z0-9]{16,}",
    r"github_pat_[A-Za-z0-9_]{20,}",
    r"glpat-[A-Za-z0-9_\-]{16,}",
    r"A(?:KIA|SIA|ROA|BIA|CCA)[A-Z0-9]{12,20}(?![A-Za-z0-9_\-])",
    r"xox[abeoprs]-[A-Za-z0-9\-]{10,}",
    r"(?:tvly-|pplx-|xai-|nvapi-|csk-)(?=[A-Za-z0-9_\-]*[0-9])[A-Za-z0-9_\-]{20,}",
    r"(?:hf_|gsk_|r8_|co_|fw_)(?=[A-Za-z]*[0-9])[A-Za-z0-9]{20,}",
    r"eyJ[A-Za-z0-9_\-]{10,}\.eyJ[A-Za-z0-9_\-]{10,}\.[A-Za-z0-9_\-]{10,}",
)
_PATTERNS = (
    _START + f"(?:{'|'.join(_KEYS)})",
    r"(?i:secret_?access_?key|secret_?key)[\"'\\]{0,4}\s*[:=]\s*[\"'\\]{0,4}(?P<aws>[A-Za-z0-9/+=]{40})(?![A-Za-z0-9/+=])",
    r"(?i:(?:\b|(?<=\\[bfnrt]))bearer\s+)(?P<bearer>[A-Za-z0-9_\-.=+/]{16,})",
    r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----.*?-----END [A-Z ]{0,30}PRIVATE KEY-----",
)
_NAMED = re.compile(r"API_?KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|ACCESS_?KEY|PRIVATE_?KEY|_KEY$|_PAT$", re.I)
# Every pattern needs one of these: texts without any, nearly all, are not searched further.
_HINTS = (
    *("sk-", "sk_", "rk-", "rk_", "AIza", "ya29.", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-"),
    *("AKIA", "ASIA", "AROA", "ABIA", "ACCA", "ecret", "ECRET", "xox", "earer", "EARER", "eyJ", "PRIVATE KEY"),
    *("hf_", "gsk_", "tvly-", "pplx-", "r8_", "xai-", "nvapi-", "co_", "fw_"),
)
_has_hint = finder("|".join(map(re.escape, _HINTS)))
_DUMMIES = frozenset(
    (
        *("not-needed", "not-required", "no-key-required", "no-api-key", "required", "optional", "placeholder"),
        *("changeme", "password", "disabled", "undefined", "anonymous", "localhost", "lm-studio"),
    )
)
_HARMLESS = re.compile(r"TOKENIZERS?_|MAX_?TOKENS?|_FILE$|_PATH$|_DIR$", re.I)
_QUERY = re.compile(
    r"(?i)([?&;](?:key|api[-_]?key|apikey|access[-_]?token|auth|token|sig|signature|password|secret|"
    r"client[-_]secret|x-amz-(?:signature|credential|security-token)|x-goog-(?:signature|credential))=)([^&;#\s]+)"
)

_SEGMENT = re.compile(r"[^/?&=#\[\]]+")

_Known = tuple[tuple[str, ...], re.Pattern[str], bool]
"""Every form of the known secrets, the pattern of all, and whether one of the forms has signs that JSON escapes."""

_compiled: dict[tuple[tuple[str, ...], tuple[str, ...]], _Known] = {}
_lock = threading.Lock()


@functools.lru_cache(maxsize=1024)
def _names_secret(name: str) -> bool:
    return _NAMED.search(name) is not None and _HARMLESS.search(name) is None


@functools.lru_cache(maxsize=256)
def _telling(value: str) -> bool:
    # Ordinary words and paths are no secrets: taking them out would only spoil texts.
    return len(value) >= 8 and value.lower() not in _DUMMIES and not os.path.exists(value)


def _secrets() -> tuple[str, ...]:
    values = {os.environ.get(name, "").strip() for name in os.environ if _names_secret(name)}
    return tuple(sorted(filter(_telling, values), key=lambda value: (-len(value), value)))


environment_secrets = Known(_secrets, _names_secret)
"""Returns the values of the environment variables whose names say that they are secret."""


def _compile(environment: tuple[str, ...], extra: tuple[str, ...]) -> _Known:
    more = [value for value in dict.fromkeys(extra) if value not in environment and _telling(value)]
    literals = (*(form for value in (*environment, *more) for form in _forms(value)), PLACEHOLDER)
    pattern = re.compile("|".join([*map(re.escape, literals), *_PATTERNS]), re.S)
    made = literals, pattern, any("\\" in literal for literal in literals)
    with _lock:
        if len(_compiled) > 64:
            _compiled.clear()
        _compiled[environment, extra] = made
    return made


def _forms(value: str) -> list[str]:
    """Return `value` as it is, and as it stands inside JSON text and in URLs."""
    forms = [value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]]
    return list(dict.fromkeys([*forms, quote(value, safe=""), quote(value), quote_plus(value)]))


def query_secrets(target: str) -> list[str]:
    """Return what stands in a query under the name of a credential, as it stands there and as it is meant."""
    return [
        form
        for match in _QUERY.finditer(target)
        for form in dict.fromkeys([match.group(2), unquote_plus(match.group(2))])
    ]


class Redactor:
    """Takes the secrets out of the texts of one document.

    Parameters
    ----------
    extra : iterable of str
        Values known to be secret here, such as the token of this very request.

    Attributes
    ----------
    count : int
        How many were taken out so far.
    odd : bool
        Whether a known secret has signs that JSON escapes: in JSON within JSON, `finds` does not see it.
    """

    __slots__ = ("_literals", "_pattern", "_seen", "count", "odd")

    def __init__(self, extra: Iterable[str] = ()) -> None:
        environment, given = environment_secrets(), tuple(extra)
        known = _compiled.get((environment, given)) or _compile(environment, given)
        self._literals, self._pattern, self.odd = known
        self._seen: dict[str, int] = {}
        self.count = 0

    def finds(self, text: str) -> bool:
        """Tell whether there is a secret in `text`."""
        return self._hinted(text) and self._pattern.search(text) is not None

    def _hinted(self, text: str) -> bool:
        return _has_hint(text) or any(literal in text for literal in self._literals)

    def text(self, text: str) -> str:
        """Return `text` without its secrets."""
        return self._pattern.sub(self._replace, text) if self.finds(text) else text

    def spans(self, text: str) -> list[tuple[int, int, str]]:
        """Return where secrets begin and end in `text`, and what stands instead."""
        return (
            [(match.start(), match.end(), self._replace(match)) for match in self._pattern.finditer(text)]
            if self.finds(text)
            else []
        )

    def before(self, text: str, place: int) -> int:
        """Return the last place in `text`, up to `place`, that is in the middle of no secret."""
        for match in self._pattern.finditer(text) if self.finds(text) else ():
            if match.start() < place < match.end():
                return match.start()
        return place

    def data(self, data: bytes) -> bytes:
        """Return `data` without its secrets; bytes that are no text stay as they are."""
        text = data.decode("latin-1")
        found = self.text(text)
        return data if found is text else found.encode("latin-1")

    def url(self, url: str) -> str:
        """Return `url` without secrets, keys in its query included."""
        whole = self.text(_QUERY.sub(self._replace_query, url))
        # A slash before a key keeps it from being seen, for the sake of base64; in a path it is but a separator.
        return _SEGMENT.sub(lambda match: self.text(match.group()), whole) if self._hinted(whole) else whole

    def value(self, node: Any) -> Any:
        """Return JSON data with the secrets taken out of every string and every name."""
        if isinstance(node, str):
            return self.text(node)
        if isinstance(node, list):
            return [self.value(item) for item in node]
        if isinstance(node, dict):
            # Numbered in the order of the names, so that fields sent in another order give the same request.
            done = {name: (self.text(name), self.value(node[name])) for name in sorted(node)}
            return dict(done[name] for name in node)
        return node

    def placeholder(self, secret: str) -> str:
        """Return what stands instead of a value that is always taken out, such as a cookie's: it is not counted."""
        return f"[secret:{self._seen.setdefault(secret, len(self._seen) + 1)}]"

    def json(self, node: Any, data: bytes) -> Any:
        """Return JSON data, which came as `data`, without its secrets; most has none, and is not gone through."""
        text = data.decode("utf-8")
        return self.value(node) if self.finds(text) or (self.odd and "\\" in text) else node

    def _number(self, secret: str) -> str:
        self.count += 1
        return self.placeholder(secret)

    def _replace(self, match: re.Match[str]) -> str:
        whole = match.group()
        for name in ("aws", "bearer"):
            part = match.group(name)
            if part is not None:
                start = match.start(name) - match.start()
                return whole[:start] + self._number(part) + whole[start + len(part) :]
        return self._number(whole)

    def _replace_query(self, match: re.Match[str]) -> str:
        return match.group(1) + self._number(match.group(2))


class _Unredacted(Redactor):
    """Finds no secret anywhere."""

    __slots__ = ()

    def __init__(self) -> None:
        self.count, self.odd = 0, False

    def finds(self, text: str) -> bool:  # noqa: ARG002
        return False

    def value(self, node: Any) -> Any:
        return node

    def url(self, url: str) -> str:
        return url


UNREDACTED: Redactor = _Unredacted()


def redact_url(url: str) -> str:
    """Return `url` without the secrets in it."""
    return Redactor().url(url)
