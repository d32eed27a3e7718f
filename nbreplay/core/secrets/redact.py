"""Taking secrets out of texts and values. Knows nothing of requests or files.

A secret becomes ``[secret:N]``, N counting the distinct secrets of one document in order of
appearance, so that the key of a request does not depend on whose key was in it. What secrets look like is in
`nbreplay.core.secrets.rules`; which names and values are suspicious in `nbreplay.core.secrets.values`.
"""

from __future__ import annotations

import base64
import bisect
import codecs
import functools
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple
from urllib.parse import quote, quote_plus, unquote, unquote_plus

from nbreplay.core.secrets.patterns import finder
from nbreplay.core.secrets.rules import NAMED_VALUE, RULES, Rule
from nbreplay.core.secrets.values import is_placeholder, is_secret_named, looks_random

__all__ = ["PLACEHOLDER", "UNREDACTED", "Match", "Redactor", "environment_secrets", "query_secrets", "redact_url"]

PLACEHOLDER = "nbreplay-placeholder-no-api-key-is-set"
"""What stands in for an API key that is not set. Never sent; redacted like a real one."""

_NAMED = re.compile(r"API_?KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|ACCESS_?KEY|PRIVATE_?KEY|_KEY$|_PAT$", re.I)
_HARMLESS = re.compile(r"TOKENIZERS?_|MAX_?TOKENS?|_FILE$|_PATH$|_DIR$", re.I)
_DUMMIES = frozenset(
    (
        *("not-needed", "not-required", "no-key-required", "no-api-key", "required", "optional", "placeholder"),
        *("changeme", "password", "disabled", "undefined", "anonymous", "localhost", "lm-studio"),
    )
)
# Passwords of documentation, as in postgres://user:pass@host.
_DUMMY_PASSWORDS = frozenset(
    (
        *("pass", "passwd", "password", "pwd", "secret", "user", "username", "admin", "root", "test", "guest", "tiger"),
        *("postgres", "mysql", "mypassword", "mypass", "passw0rd", "token", "key", "apikey", "api_key", "pat", "port"),
        *("foo", "bar", "baz", "secretpassword", "yourpassword", "my_password"),
    )
)
_QUERY = re.compile(
    r"(?i)([?&;](?:key|api[-_]?key|apikey|access[-_]?token|auth|token|sig|signature|password|secret|"
    r"client[-_]secret|x-amz-(?:signature|credential|security-token)|x-goog-(?:signature|credential))=)([^&;#\s]+)"
)
_QUERY_NAMES = re.compile(_QUERY.pattern.removeprefix("(?i)([?&;]").partition("=)")[0], re.I)
_SEGMENT = re.compile(r"[^/?&=#\[\]]+")
# A value that was redacted before, as a replayed answer gives it: in a request it is numbered anew, like the real one.
_REDACTED = Rule("redacted", ("[secret:",), r"\[secret:\d{1,6}\]", anywhere=True)


class Match(NamedTuple):
    """A secret in a text.

    Attributes
    ----------
    start, end : int
        Where the secret is.
    rule : str
        The id of the rule that found it; ``environment`` and ``credential`` are values that are known to be secret,
        ``named-value`` is a value that looks random beside a name such as ``api_key``.
    begin : int
        Where what shows it begins, such as that name.
    """

    start: int
    end: int
    rule: str
    begin: int


@functools.lru_cache(maxsize=1024)
def _names_secret(name: str) -> bool:
    return _NAMED.search(name) is not None and _HARMLESS.search(name) is None


@functools.lru_cache(maxsize=256)
def _telling(value: str) -> bool:
    # Ordinary words and paths are no secrets: taking them out would only spoil texts.
    return len(value) >= 8 and value.lower() not in _DUMMIES and not os.path.exists(value)


def environment_secrets() -> tuple[str, ...]:
    """Return the values of the environment variables whose names say that they are secret, longer ones first."""
    values = {os.environ.get(name, "").strip() for name in os.environ if _names_secret(name)}
    return tuple(sorted(filter(_telling, values), key=lambda value: (-len(value), value)))


class _Literals(NamedTuple):
    """Values that are known to be secret, in every form in which they are written.

    Attributes
    ----------
    forms : tuple of (str, str)
        Each form with the rule that its matches name, longer ones first.
    escaped : bool
        Whether one has signs that JSON escapes: in JSON within JSON, no form of it is seen.
    """

    forms: tuple[tuple[str, str], ...]
    escaped: bool


@functools.lru_cache(maxsize=128)
def _literals(environment: tuple[str, ...], credentials: tuple[str, ...]) -> _Literals:
    rules = dict.fromkeys((form for value in environment for form in _forms(value)), "environment")
    for value in credentials:
        if _telling(value):
            for form in _forms(value):
                rules.setdefault(form, "credential")
    rules[PLACEHOLDER] = "placeholder"
    forms = tuple(sorted(rules.items(), key=lambda item: -len(item[0])))
    return _Literals(forms, any("\\" in form for form in rules))


def _forms(value: str) -> list[str]:
    """Return `value` as it is, and as it stands inside JSON text, in URLs and in base64."""
    forms = [value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]]
    forms += [quote(value, safe=""), quote(value), quote_plus(value)]
    data = value.encode("utf-8", "surrogateescape")
    if len(data) >= 12:
        # What stands before it moves it within the base64; the letters at both ends depend on its neighbours.
        for shift in range(3):
            text = base64.b64encode(bytes(shift) + data).decode("ascii").rstrip("=")
            text = text[-(-8 * shift // 6) : len(text) - ((shift + len(data)) % 3 > 0)]
            forms += [text, text.translate(_URL_SAFE)]
    return list(dict.fromkeys(forms))


_URL_SAFE = str.maketrans("+/", "-_")


def query_secrets(target: str) -> list[str]:
    """Return what stands in a query under the name of a credential, as it stands there and as it is meant."""
    return [
        form
        for match in _QUERY.finditer(target)
        for form in dict.fromkeys([match.group(2), unquote_plus(match.group(2))])
    ]


@functools.cache
def _hints(first: int = 0, last: int = len(RULES)) -> Callable[[str], bool]:
    """Return what tells whether a text has a hint of some of the rules: nearly all texts have none."""
    hints = [re.escape(hint) for rule in RULES[first:last] if not rule.gate for hint in rule.hints]
    return finder("|".join(hints))


# One by one: an expression of all these together is too large to be searched for fast.
@functools.cache
def _gates() -> dict[Rule, Callable[[str], bool]]:
    return {rule: finder(rule.gate) for rule in RULES if rule.gate}


@functools.cache
def _names() -> Callable[[str], bool]:
    return finder(NAMED_VALUE)


_GROUP = 12  # rules; asking for each alone takes longer than searching


def _likely_rules(text: str) -> Iterator[Rule]:
    """Yield the rules of which a text may have a match."""
    for rule, has_gate in _gates().items():
        if has_gate(text):
            yield rule
    for first in range(0, len(RULES), _GROUP) if _hints()(text) else ():
        if _hints(first, first + _GROUP)(text):
            for rule in RULES[first : first + _GROUP]:
                if not rule.gate and any(hint in text for hint in rule.hints):
                    yield rule


_WIDE = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_NEEDLESS_ESCAPE = re.compile(r"\\{1,8}(?:/|u00(?P<code>[2-7][0-9A-Fa-f]))")


@functools.cache
def _escapes() -> Callable[[str], bool]:
    """Return what tells whether a text escapes characters that JSON need not escape, as PHP does with ``\\/``."""
    return finder(r"\\(?:/|u00[2-7])")


def _unescaped(text: str) -> tuple[str, Callable[[int], int]]:
    """Return a text without such escapes, and what leads from a place in it to the one in `text`."""
    parts, starts, places, done, size = list[str](), [0], [0], 0, 0
    for match in _NEEDLESS_ESCAPE.finditer(text):
        code = match.group("code")
        parts += [text[done : match.start()], chr(int(code, 16)) if code else "/"]
        size += match.start() - done
        done = match.end()
        starts += [size, size + 1]
        places += [match.start(), done]
        size += 1
    parts.append(text[done:])

    def place(at: int) -> int:
        piece = bisect.bisect_right(starts, at) - 1
        return places[piece] + at - starts[piece]

    return "".join(parts), place


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


class Redactor:
    """Takes the secrets out of the texts of one document.

    Parameters
    ----------
    extra : iterable of str
        Values known to be secret here, such as the token of this very request.
    again : bool
        Count ``[secret:N]`` itself as a secret: in a request it stands for one that a replayed answer gave.

    Attributes
    ----------
    count : int
        How many were taken out so far.
    """

    __slots__ = ("_again", "_literals", "_numbers", "count")

    def __init__(self, extra: Iterable[str] = (), *, again: bool = False) -> None:
        self._literals = _literals(environment_secrets(), tuple(extra))
        self._numbers: dict[str, int] = {}
        self._again = again
        self.count = 0

    @property
    def secrets(self) -> list[str]:
        """The distinct secrets that were taken out, in the order of their numbers."""
        return list(self._numbers)

    def finds(self, text: str) -> bool:
        """Tell whether there is a secret in `text`."""
        return self._may_hold(text) and bool(self.matches(text))

    def _may_hold(self, text: str) -> bool:
        if (self._again and "[secret:" in text) or _escapes()(text):
            return True
        if _hints()(text) or _names()(text) or any(form in text for form, _ in self._literals.forms):
            return True
        return any(has_gate(text) for has_gate in _gates().values())

    def matches(self, text: str) -> list[Match]:
        """Return the secrets in `text`, in order; those that overlap are one."""
        merged: list[Match] = []
        for match in sorted(self._search(text), key=lambda match: (match.start, -match.end)) if text else ():
            if merged and match.start < merged[-1].end:
                last = merged[-1]
                merged[-1] = Match(last.start, max(last.end, match.end), last.rule, min(last.begin, match.begin))
            else:
                merged.append(match)
        return merged

    def _search(self, text: str) -> Iterator[Match]:
        yield from self._search_plain(text)
        if _escapes()(text):
            plain, place = _unescaped(text)
            for match in self._search_plain(plain):
                yield Match(place(match.start), place(match.end), match.rule, place(match.begin))

    def _search_plain(self, text: str) -> Iterator[Match]:
        for form, known_as in self._literals.forms:
            at = text.find(form)
            while at >= 0:
                yield Match(at, at + len(form), known_as, at)
                at = text.find(form, at + len(form))
        if self._again:
            yield from _anywhere(text, _REDACTED)
        for rule in _likely_rules(text):
            yield from (_anywhere if rule.anywhere else _at_hints)(text, rule)
        if _names()(text):
            yield from _named_values(text)

    def text(self, text: str) -> str:
        """Return `text` without its secrets."""
        matches = self.matches(text) if self._may_hold(text) else ()
        if not matches:
            return text
        parts, done = list[str](), 0
        for match in matches:
            parts += [text[done : match.start], self._number(text[match.start : match.end])]
            done = match.end
        return "".join([*parts, text[done:]])

    def spans(self, text: str) -> list[tuple[int, int, str]]:
        """Return where secrets begin and end in `text`, and what stands instead."""
        matches = self.matches(text) if self._may_hold(text) else ()
        return [(match.start, match.end, self._number(text[match.start : match.end])) for match in matches]

    def before(self, text: str, place: int) -> int:
        """Return the last place in `text`, up to `place`, that is in the middle of no secret."""
        for match in reversed(self.matches(text)) if self._may_hold(text) else ():
            if match.begin < place < match.end:
                place = match.begin  # which may be inside the one before
        return place

    def data(self, data: bytes) -> bytes:
        """Return `data` without its secrets; bytes that are no text stay as they are."""
        text = data.decode("latin-1")
        found = self.text(text)
        if found is not text:
            return found.encode("latin-1")
        encoding = _WIDE.get(data[:2])
        if encoding and len(data) % 2 == 0:
            wide = data.decode(encoding, "surrogatepass")
            clean = self.text(wide)
            return data if clean is wide else clean.encode(encoding, "surrogatepass")
        return data

    def url(self, url: str) -> str:
        """Return `url` without secrets, keys in its query included."""
        whole = self.text(_QUERY.sub(lambda match: match.group(1) + self._number(match.group(2)), url))
        if not (self._may_hold(whole) or "%" in whole or "+" in whole):
            return whole
        path, mark, query = whole.partition("?")
        # A slash before a key keeps it from being seen, for the sake of base64; in a path it is but a separator.
        path = _SEGMENT.sub(lambda match: self._decoded(match.group(), unquote, quote), path)
        return path + mark + _SEGMENT.sub(lambda match: self._decoded(match.group(), unquote_plus, quote_plus), query)

    def _decoded(self, text: str, decode: Callable[[str], str], encode: Callable[..., str]) -> str:
        """Return a part of a URL, looked through as what it means; as it is, where there is no secret in it."""
        meant = decode(text)
        clean = self.text(meant)
        return text if clean == meant else encode(clean, safe="[]:", errors="surrogatepass")

    def pairs(self, pairs: Iterable[tuple[str, str]]) -> list[list[str]]:
        """Return the fields of a query or a form without their secrets; a name such as ``key`` is enough there."""
        return [
            [
                self.text(name),
                self._number(value) if value and _QUERY_NAMES.fullmatch(name) else self.member(name, value),
            ]
            for name, value in pairs
        ]

    def member(self, name: str, value: str) -> str:
        """Return the text of a member, a field or a header without its secrets; its name may tell that it is one."""
        clean = self.text(value)
        if clean is value and is_secret_named(name, value):
            return self._number(value)
        return clean

    def value(self, node: Any) -> Any:
        """Return JSON data with the secrets taken out of every string and every name."""
        if isinstance(node, str):
            return self.text(node)
        if isinstance(node, list):
            return [self.value(item) for item in node]
        if isinstance(node, dict):
            # Numbered in the order of the names, so that fields sent in another order give the same request.
            # As environments and headers are listed: {"name": "API_KEY", "value": "…"}
            called = node.get("name", node.get("key")) if "value" in node else None
            names = {"value": called} if isinstance(called, str) else {}
            done = {name: (self.text(name), self._member(names.get(name, name), node[name])) for name in sorted(node)}
            return dict(done[name] for name in node)
        return node

    def placeholder(self, secret: str) -> str:
        """Return what stands instead of a value that is always taken out, such as a cookie's: it is not counted."""
        return f"[secret:{self._numbers.setdefault(secret, len(self._numbers) + 1)}]"

    def _member(self, name: str, value: Any) -> Any:
        return self.member(name, value) if isinstance(value, str) else self.value(value)

    def json(self, node: Any, data: bytes) -> Any:
        """Return JSON data, which came as `data`, without its secrets; most has none, and is not gone through."""
        text = data.decode("utf-8")
        return self.value(node) if self._may_hold(text) or (self._literals.escaped and "\\" in text) else node

    def _number(self, secret: str) -> str:
        self.count += 1
        return self.placeholder(secret)


def _at_hints(text: str, rule: Rule) -> Iterator[Match]:
    """Yield the matches of a rule that begins with a hint, at the beginning of a word."""
    match_at = _compiled(rule.pattern).match
    for hint in rule.hints:
        at = text.find(hint)
        while at >= 0:
            found = match_at(text, at) if _begins_word(text, at, hint) else None
            if found is None:
                at = text.find(hint, at + 1)
                continue
            start, end = found.span("secret") if "secret" in found.re.groupindex else found.span()
            secret = text[start + len(hint) if start == at else start : end]
            named_alike = start > at and text[at + len(hint) : start - 1] == secret  # as in ftp://me:me@host
            if _is_secret(rule, secret) and not named_alike:
                yield Match(start, end, rule.id, at)
            at = text.find(hint, max(found.end(), at + 1))


def _anywhere(text: str, rule: Rule) -> Iterator[Match]:
    for found in _compiled(rule.pattern).finditer(text):
        start, end = found.span("secret") if "secret" in found.re.groupindex else found.span()
        if rule is _REDACTED or _is_secret(rule, text[start:end]):
            yield Match(start, end, rule.id, found.start())


def _is_secret(rule: Rule, secret: str) -> bool:
    if rule.id == "url-password":
        return secret.lower() not in _DUMMY_PASSWORDS and not is_placeholder(secret)
    return looks_random(secret, most_words=0.65) if rule.random else not is_placeholder(secret[:300])


def _begins_word(text: str, at: int, hint: str) -> bool:
    """Tell whether a word may begin at a place: in the middle of base64 or of a longer word, nothing is a key."""
    if at == 0 or not hint[0].isalnum():
        return True
    before = text[at - 1]
    if not ((before.isascii() and before.isalnum()) or before in "_-+/"):
        return before != "=" or _HASH.search(text, max(0, at - 7), at) is None
    if before in "+/":  # base64 has these two, and none of the signs of most hints
        return not hint.isalnum() or not _is_base64(text[at - 2 : at - 1])
    if before == "_" and text[at - 2 : at - 1] == "_":  # bold in Markdown
        return True
    if before in "bfnrt" and text[at - 2 : at - 1] == "\\":
        return True
    return _ESCAPE.fullmatch(text[max(at - 6, 0) : at]) is not None


def _is_base64(character: str) -> bool:
    return character.isascii() and (character.isalnum() or character in "+/") and character != ""


_ESCAPE = re.compile(r".*(?:\\u[0-9A-Fa-f]{4}|%[0-9A-Fa-f]{2})", re.S)
_HASH = re.compile(r"sha\d{3}=\Z")  # as packages list their files
_FIRST_LETTERS = "(?=[KkTtSsPpCcAaDd_])"  # of the names: looked at first, since this runs over long texts
_NAME_BEFORE = re.compile(r"[A-Za-z0-9_.\-]*\Z")


def _named_values(text: str) -> Iterator[Match]:
    """Yield values that look random and stand beside a name that says that they are secret."""
    for found in _compiled(_FIRST_LETTERS + NAMED_VALUE).finditer(text):
        start, end = found.span("secret")
        secret = text[start:end].rstrip(".:!?*")
        before = _NAME_BEFORE.search(text, max(0, found.start() - 40), found.start())
        begin = before.start() if before else found.start()
        if is_secret_named(text[begin : found.end("rest")], secret):
            yield Match(start, start + len(secret), "named-value", begin)


class _Unredacted(Redactor):
    """Finds no secret anywhere."""

    __slots__ = ()

    def __init__(self) -> None:
        self.count = 0

    def finds(self, text: str) -> bool:  # noqa: ARG002
        return False

    def text(self, text: str) -> str:
        return text

    def value(self, node: Any) -> Any:
        return node

    def url(self, url: str) -> str:
        return url

    def pairs(self, pairs: Iterable[tuple[str, str]]) -> list[list[str]]:
        return [[name, value] for name, value in pairs]

    def member(self, name: str, value: str) -> str:  # noqa: ARG002
        return value

    def json(self, node: Any, data: bytes) -> Any:  # noqa: ARG002
        return node


UNREDACTED: Redactor = _Unredacted()


def redact_url(url: str) -> str:
    """Return `url` without the secrets in it."""
    return Redactor().url(url)
