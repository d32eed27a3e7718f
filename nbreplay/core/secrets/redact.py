"""Taking secrets out of texts and values. Knows neither requests nor files.

A secret becomes ``[secret:N]``, N counting the distinct secrets of one document in order of appearance, so that the key
of a request does not depend on whose key was in it. The patterns of secrets are in `nbreplay.core.secrets.rules`, the
judgement of single names and values in `nbreplay.core.secrets.credentials`.
"""

from __future__ import annotations

import bisect
import codecs
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote, quote_plus, unquote, unquote_plus

from pydantic_core import SchemaValidator, core_schema

from nbreplay.core.secrets.credentials import (
    PLACEHOLDER,
    PLACEHOLDER_PATTERN,
    QUERY,
    QUERY_NAME,
    environment_secrets,
    is_secret_named,
    literals,
)
from nbreplay.core.secrets.rules import NAMED_VALUE, RULES, Rule

_T = TypeVar("_T")
_SEGMENT = re.compile(r"[^/?&=#\[\]]+")
# A value that was redacted before, as a replayed answer gives it: in a request it is numbered anew, like the real one.
_REDACTED = re.compile(r"\[secret:\d{1,6}\]")
_WIDE = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_NEEDLESS_ESCAPE = re.compile(r"\\{1,8}(?:/|u00(?P<code>[2-7][0-9A-Fa-f]))")
_ESCAPE = re.compile(r"(?:\\u[0-9A-Fa-f]{4}|%[0-9A-Fa-f]{2})\Z")
_HASH = re.compile(r"sha\d{3}=\Z")  # as packages list their files
_FIRST_LETTERS = "(?=[KkTtSsPpCcAaDd_])"  # of the names: looked at first, since this runs over long texts
_NAME_BEFORE = re.compile(r"[A-Za-z0-9_.\-]*\Z")


def _finder(pattern: str) -> Callable[[str], bool]:
    """Return a function that tells whether a text has a pattern, searched by Rust's regular expressions.

    They search a text once for any number of words, where Python's take one look for each: 0.5 ms against 70 ms for all
    hints in 100 KB. pydantic brings them; they know no lookaround, and do not say where the match is.
    """
    search: Callable[[str], bool] | None = None

    def finds(text: str) -> bool:
        nonlocal search
        if search is None:  # not while the package is imported
            schema = core_schema.str_schema(pattern=pattern, regex_engine="rust-regex")
            search = SchemaValidator(schema).isinstance_python
        # Half of a surrogate pair would make it no text to Rust, in which nothing is found.
        return search(text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8"))

    return finds


def _hint_finder(rules: Sequence[Rule]) -> Callable[[str], bool]:
    return _finder("|".join(re.escape(hint) for rule in rules for hint in rule.hints))


# A gate each: an expression of all these together is too large to be searched for fast.
_GATED = [(rule, _finder(rule.gate)) for rule in RULES if rule.gate]
_UNGATED = [rule for rule in RULES if not rule.gate]
_GROUPS = [(_hint_finder(_UNGATED[n : n + 12]), _UNGATED[n : n + 12]) for n in range(0, len(_UNGATED), 12)]
_has_hint = _hint_finder(_UNGATED)
_has_names = _finder(NAMED_VALUE)
_has_escapes = _finder(r"\\(?:/|u00[2-7])")  # of what JSON need not escape, as PHP does with ``\/``


class Match(NamedTuple):
    """A secret in a text."""

    start: int
    end: int
    # The id of the rule that found it, ``environment`` or ``credential`` for values that are known to be secret, or
    # ``named-value`` for one that looks random beside a name such as ``api_key``.
    rule: str
    begin: int  # the start of the context that shows it, such as that name


class Redactor:
    """Takes the secrets out of the texts of one document.

    `extra` are values known to be secret here, such as the token of this very request. With `again`, ``[secret:N]``
    counts as a secret itself: in a request it stands for one that a replayed answer gave. The numbers begin after
    `last`, so that they differ from those that a document has already.
    """

    __slots__ = ("_again", "_last", "_literals", "_numbers", "count")

    def __init__(self, extra: Iterable[str] = (), *, again: bool = False, last: int = 0) -> None:
        self._literals = literals(environment_secrets(), tuple(extra))
        self._numbers: dict[str, int] = {}
        self._again, self._last = again, last
        self.count = 0  # how many were taken out so far

    @property
    def secrets(self) -> list[str]:
        """The distinct secrets that were taken out, in the order of their numbers."""
        return list(self._numbers)

    def finds(self, text: str) -> bool:
        """Tell whether there is a secret in `text`."""
        return bool(self.matches(text))

    def matches(self, text: str) -> list[Match]:
        """Return the secrets in `text`, in order; those that overlap are one."""
        matches, merged = list(self._search(text)), list[Match]()
        if _has_escapes(text):
            plain, place = _unescape(text)
            for start, end, rule, begin in self._search(plain):
                matches.append(Match(place(start), place(end), rule, place(begin)))
        for match in sorted(matches, key=lambda match: (match.start, -match.end)):
            if merged and match.start < merged[-1].end:
                last = merged.pop()
                match = Match(last.start, max(last.end, match.end), last.rule, min(last.begin, match.begin))
            merged.append(match)
        return merged

    def _may_hold(self, text: str) -> bool:
        """Tell whether a search is worth while: nearly all texts have no hint of any rule.

        The searches in Rust take 0.5 ms for 100 KB without a hint, and going through all rules 70 ms.
        """
        return (
            (self._again and "[secret:" in text)
            or _has_escapes(text)
            or _has_hint(text)
            or _has_names(text)
            or any(form in text for form, _ in self._literals)
            or any(has_gate(text) for _, has_gate in _GATED)
        )

    def _search(self, text: str) -> Iterator[Match]:
        for form, rule_id in self._literals:
            pattern = PLACEHOLDER_PATTERN if form == PLACEHOLDER else re.escape(form)
            for match in re.finditer(pattern, text) if form in text else ():
                yield Match(*match.span(), rule_id, match.start())
        for match in _REDACTED.finditer(text) if self._again else ():
            yield Match(*match.span(), "redacted", match.start())
        rules = [rule for rule, has_gate in _GATED if has_gate(text)]
        for has_group, group in _GROUPS if _has_hint(text) else ():
            if has_group(text):  # ten times faster than to ask for each rule
                rules += [rule for rule in group if any(hint in text for hint in rule.hints)]
        for rule in rules:
            yield from (_match_anywhere if rule.anywhere else _match_at_hints)(text, rule)
        if _has_names(text):
            yield from _match_named_values(text)

    def text(self, text: str) -> str:
        """Return `text` without its secrets."""
        return self.pieces([text])[0] if self._may_hold(text) else text

    def pieces(self, texts: Sequence[str]) -> list[str]:
        """Return texts that follow each other without their secrets, of which one may reach over several texts.

        ``[secret:N]`` stands where it begins, and the rest of it is left out of the texts that follow.
        """
        whole = "".join(texts)
        spans = [(start, end, self._number(whole[start:end])) for start, end, *_ in self.matches(whole)]
        if not spans:
            return list(texts)
        clean, end = list[str](), 0
        for text in texts:
            start, end = end, end + len(text)
            parts, done = list[str](), start
            for first, last, replacement in spans:
                if first < end and last > start:
                    parts += [whole[done:first], replacement if first >= start else ""]
                    done = min(last, end)
            clean.append("".join([*parts, whole[done:end]]))
        return clean

    def before(self, text: str, place: int) -> int:
        """Return the last place in `text`, up to `place`, that is not inside a secret."""
        for match in reversed(self.matches(text)):
            if match.begin < place < match.end:
                place = match.begin  # which may be inside the one before
        return place

    def data(self, data: bytes) -> bytes:
        """Return `data` without its secrets; bytes that are not text stay as they are."""
        wide = _WIDE.get(data[:2]) if len(data) % 2 == 0 else None
        for encoding in filter(None, ("latin-1", wide)):
            text = data.decode(encoding, "surrogatepass")
            if (clean := self.text(text)) is not text:
                return clean.encode(encoding, "surrogatepass")
        return data

    def url(self, url: str) -> str:
        """Return `url` without secrets, keys in its query included."""
        whole = self.text(QUERY.sub(lambda match: match.group(1) + self._number(match.group(2)), url))
        if not (self._may_hold(whole) or "%" in whole or "+" in whole):
            return whole
        path, mark, query = whole.partition("?")
        # A slash before a key keeps it from being seen, for the sake of base64; in a path it is but a separator.
        return self._redact_parts(path, unquote, quote) + mark + self._redact_parts(query, unquote_plus, quote_plus)

    def _redact_parts(self, text: str, decode: Callable[[str], str], encode: Callable[..., str]) -> str:
        """Return a path or a query without the secrets in the meaning of its parts."""

        def redact(match: re.Match[str]) -> str:
            meant = decode(match.group())
            clean = self.text(meant)
            return match.group() if clean == meant else encode(clean, safe="[]:", errors="surrogatepass")

        return _SEGMENT.sub(redact, text)

    def pairs(self, pairs: Iterable[tuple[str, str]]) -> list[list[str]]:
        """Return the fields of a query or a form without their secrets; a name such as ``key`` is enough there."""
        return [
            [self.text(name), self._number(text) if text and QUERY_NAME.fullmatch(name) else self.member(name, text)]
            for name, text in pairs
        ]

    def member(self, name: str, value: str) -> str:
        """Return the text of a member, a field or a header without its secrets; its name may tell that it is one."""
        clean = self.text(value)
        if clean is value and is_secret_named(name, value):
            return self._number(value)
        return clean

    def value(self, node: _T) -> _T:
        """Return JSON data with the secrets taken out of every string and every name."""
        clean: _T = self._value(node)
        return clean

    def _value(self, node: Any, name: str = "") -> Any:
        if isinstance(node, str):
            return self.member(name, node)
        if isinstance(node, list):
            return [self._value(item) for item in node]
        if isinstance(node, dict):
            # Numbered in the order of the names, so that fields sent in another order give the same request.
            # As environments and headers are listed: {"name": "API_KEY", "value": "…"}
            label = node.get("name", node.get("key")) if "value" in node else None
            names = {"value": label} if isinstance(label, str) else {}
            clean = {name: (self.text(name), self._value(node[name], names.get(name, name))) for name in sorted(node)}
            return dict(clean[name] for name in node)
        return node

    def json(self, node: _T, data: bytes) -> _T:
        """Return JSON data, which came as `data`, without its secrets; most has none, and is not gone through."""
        text = data.decode("utf-8")
        # In JSON within JSON, no form of a value is seen that has characters which JSON escapes.
        hidden = "\\" in text and any("\\" in form for form, _ in self._literals)
        return self.value(node) if hidden or self._may_hold(text) else node

    def placeholder(self, secret: str) -> str:
        """Return the replacement of a value that is always taken out, such as a cookie's: it is not counted."""
        return f"[secret:{self._numbers.setdefault(secret, self._last + len(self._numbers) + 1)}]"

    def _number(self, secret: str) -> str:
        self.count += 1
        return self.placeholder(secret)


class _Unredacted(Redactor):
    """Finds no secrets."""

    __slots__ = ()

    def __init__(self) -> None:
        self._literals, self.count = (), 0

    def _may_hold(self, text: str) -> bool:  # noqa: ARG002
        return False

    def _number(self, secret: str) -> str:
        return secret

    def url(self, url: str) -> str:
        return url

    def value(self, node: _T) -> _T:
        return node


UNREDACTED: Redactor = _Unredacted()


def _unescape(text: str) -> tuple[str, Callable[[int], int]]:
    """Return a text without needless escapes, and a function from a place in it to the one in `text`."""
    ends, shifts = list[int](), [0]

    def unescape(escape: re.Match[str]) -> str:
        shifts.append(shifts[-1] + len(escape.group()) - 1)
        ends.append(escape.end() - shifts[-1])
        return chr(int(escape["code"] or "2f", 16))

    return _NEEDLESS_ESCAPE.sub(unescape, text), lambda at: at + shifts[bisect.bisect_right(ends, at)]


def _match_at_hints(text: str, rule: Rule) -> Iterator[Match]:
    """Yield the matches of a rule that begins with a hint, at the beginning of a word."""
    match_at = re.compile(rule.pattern).match
    for hint in rule.hints:
        done = 0
        while (at := text.find(hint, done)) >= 0:
            match = match_at(text, at) if _begins_word(text, at, hint) else None
            done = match.end() if match else at + 1
            if match:
                start, end = match.span(match.lastgroup or 0)
                secret = text[start + len(hint) if start == at else start : end]
                named_alike = start > at and text[at + len(hint) : start - 1] == secret  # as in ftp://me:me@host
                if rule.accepts(secret) and not named_alike:
                    yield Match(start, end, rule.id, at)


def _match_anywhere(text: str, rule: Rule) -> Iterator[Match]:
    for match in re.finditer(rule.pattern, text):
        start, end = match.span(match.lastgroup or 0)
        if rule.accepts(text[start:end]):
            yield Match(start, end, rule.id, match.start())


def _begins_word(text: str, at: int, hint: str) -> bool:
    """Tell whether a word may begin at a place: a hint inside base64 or a longer word is not a key."""
    if at == 0 or not hint[0].isalnum():
        return True
    before, earlier = text[at - 1], text[at - 2 : at - 1]
    if not re.match(r"[A-Za-z0-9_\-+/]", before):
        return before != "=" or _HASH.search(text, max(0, at - 7), at) is None
    if before in "+/":  # base64 has these two, and none of the other characters of most hints
        return not (hint.isalnum() and re.match("[A-Za-z0-9+/]", earlier))
    if (before == "_" and earlier == "_") or (before in "bfnrt" and earlier == "\\"):  # bold in Markdown, a line end
        return True
    return _ESCAPE.search(text, max(0, at - 6), at) is not None


def _match_named_values(text: str) -> Iterator[Match]:
    """Yield values that look random and stand beside a name that says that they are secret."""
    for match in re.compile(_FIRST_LETTERS + NAMED_VALUE).finditer(text):
        start, end = match.span("secret")
        secret = text[start:end].rstrip(".:!?*")
        before = _NAME_BEFORE.search(text, max(0, match.start() - 40), match.start())
        begin = before.start() if before else match.start()
        if is_secret_named(text[begin : match.end("rest")], secret):
            yield Match(start, start + len(secret), "named-value", begin)
