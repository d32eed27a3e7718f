"""Text that varies by itself, such as dates and durations, and the masks that make two texts equal."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec


class Kind(msgspec.Struct, frozen=True):
    """A kind of text that varies."""

    name: str
    pattern: str  # without groups that capture
    mask: str = ""  # the mask to propose, if it is not the pattern
    shape: bool = False  # whether it is numbers and signs, so that the mask is better made of an example
    words: bool = False  # whether text like it often does not vary, so that the mask has the words before it
    result: bool = False  # whether programs compute it, too, so that only equal runs tell that it varies
    digits: bool = False  # whether it is digits alone, as some numbers are

    @property
    def sign(self) -> str:
        """What stands for it in a text, such as ``[date]``."""
        return f"[{self.name.partition(' ')[2]}]"


class Proposal(msgspec.Struct, frozen=True):
    """A mask, and an example of what it matches in each of two texts."""

    name: str  # such as ``a date``
    pattern: str
    before: str
    after: str


_MONTH = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*"
_DAY = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*"
_DIGITS = r"20\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
_CLOCK = r"\d{1,2}:\d\d(?::\d\d)?(?:[.,]\d+)?(?: ?[AP]M\b)?"
_FLOAT = r"(?<![\w.])\d+(?:[.,]\d+)*(?:e-?\d+)?"
_LABEL = r"\b(?i:elapsed|took|duration|latency|runtime|seconds|time)(?:_?m?s)?[\"')]?(?: ?[:=] ?| )"
_UNIT = r"(?:[mµμun]?s|sec\w*|min|minutes?|hours?|milliseconds?)\b"
_MIXED = "(?=[A-Za-z]{0,40}[0-9])(?=[a-z0-9]{0,40}[A-Z])(?=[A-Z0-9]{0,40}[a-z])"

# At one place the first kind that matches counts: the more exact stand first.
KINDS = (
    Kind("a uuid", r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"),
    Kind("a date", rf"\d{{4}}-\d\d-\d\d[T ]{_CLOCK}(?:Z| UTC|[+-]\d\d:?\d\d)?", shape=True, words=True),
    Kind("a date", rf"{_DAY},? {_MONTH} +\d{{1,2}} {_CLOCK}(?: [A-Z]{{3,4}})? \d{{4}}", shape=True, words=True),
    Kind("a date", rf"(?:{_DAY},? )?\d{{1,2}} {_MONTH},? \d{{4}}(?: {_CLOCK} GMT)?", shape=True, words=True),
    Kind("a date", rf"(?:{_DAY},? )?{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?,? \d{{4}}", shape=True, words=True),
    Kind("a date", r"\d{4}[-/]\d\d[-/]\d\d", shape=True, words=True),
    Kind("a date", r"\b\d{1,2}[./]\d{1,2}[./]20\d\d\b", shape=True, words=True),
    Kind("a date", rf"(?<!\d){_DIGITS}[T_-]?\d{{6}}(?!\d)", digits=True),
    Kind("a date", rf"(?<!\d){_DIGITS}(?!\d)", words=True, digits=True),
    Kind("a month", rf"\b{_MONTH} 20\d\d\b", words=True),
    Kind("a weekday", r"\b(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day\b", words=True),
    Kind("a progress bar", r"\d+%\|.{0,200}?\[.{0,80}?\]"),
    Kind("a time", rf"(?<![\w.:]){_CLOCK}(?![\w:])", shape=True, words=True),
    Kind("a rate", rf"{_FLOAT} ?[kMG]?(?:\w{{1,9}}(?:/| per )(?:s|sec|second|min)|s/\w{{1,9}})\b", shape=True),
    Kind("a duration", rf"{_FLOAT} ?{_UNIT}", shape=True),
    Kind("a duration", rf"{_LABEL}\d+(?:\.\d+)?(?:e-?\d+)?(?: ?{_UNIT}|(?![\w:/.-]*\d))", shape=True),
    Kind("a timestamp", r"\b1\d{9}\.\d+", digits=True),
    Kind("a timestamp", r"\b1\d{9}(?:\d{3})?\b", digits=True),
    Kind("a timestamp", r"\b1\d{15}(?:\d{3})?\b", digits=True),
    Kind("a memory address", r"\b0x[0-9a-fA-F]{6,16}\b"),
    Kind("a temporary path", r"/tmp/[\w.-]+"),
    Kind("a temporary path", r"[/\\]tmp\w{4,}"),
    Kind("a path", r"/(?:home|Users|root|usr|opt|mnt|content)/[\w./+~@-]+"),
    Kind("a path", r"\b[A-Z]:\\[\w.\\+~@-]+"),
    Kind("a port", r"127\.0\.0\.1:\d+"),
    Kind("a port", r"localhost:\d+"),
    Kind("a port", r"\b(?i:port)[ :=]{1,3}\d+", shape=True),
    Kind("a process id", r"\b(?i:pid|process id)[\"']?[ :=]{1,3}\d+", shape=True),
    Kind("an IP address", r"\b\d{1,3}(?:\.\d{1,3}){3}\b"),
    Kind("a random id", r"(?<![\w.])(?=\d*[a-f])[0-9a-f]{16,64}\b"),
    Kind("a random id", r"\b(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{8,15}\b", "[0-9a-f]{8,15}", words=True),
    Kind("a random id", r"\b[0-9A-HJKMNP-TV-Z]{26}\b"),
    Kind("a random id", rf"\b{_MIXED}\w{{12,64}}\b", r"\w{12,64}", words=True),
    Kind("a percentage", rf"{_FLOAT} ?%", shape=True, words=True, result=True),
    Kind("a size", rf"{_FLOAT} ?(?:[kKMGT]i?)?B\b", shape=True, words=True, result=True),
    Kind("a number", _FLOAT, shape=True, words=True, result=True),
)

_LONGEST = 200_000  # characters; a longer text is not searched
# The words before and after a match on its line. Quotes and tags stay out: they may belong to a notation of the text.
_WORDS_BEFORE = r"(?:[^\W\d_][\w'-]{0,30}[ \t]{0,3}[:=,(|#-]{0,2}[ \t]{0,3}(?:\d{1,9}[ :.)-]{1,3})?){1,3}$"
_WORDS_AFTER = r"[ \t]{0,3}[:=,)|-]{0,2}[ \t]{0,3}[^\W\d_][\w'-]{0,30}"
# The parts of a match that vary. A number of two digits beside one of these signs is padded with a zero.
_PARTS = (
    r"(?P<padded>(?<=[-:/T])\d\d(?!\d)|(?<!\d)\d\d(?=[-:]))|(?P<year>(?<![.\w])\d{4}(?![.\w]))"
    rf"|\d+|[AP]M\b|{_MONTH}|{_DAY}"
)


class _Match(msgspec.Struct, frozen=True):
    """A place of a text that may vary."""

    kind: Kind
    text: str
    before: str  # the words before it
    after: str  # the words after it


def replace_variable(text: str, *, numbers: bool = False) -> str:
    """Return a text with signs in place of what varies by itself, and of numbers, sizes and percentages if told so."""
    return _pattern(numbers).sub(lambda match: _kind_of(match).sign, text)


def propose_masks(before: Sequence[str], after: Sequence[str], *, numbers: bool = False) -> tuple[Proposal, ...]:
    r"""Return the narrowest masks that make the texts of two runs equal; an empty tuple if no masks do.

    Parameters
    ----------
    before, after : sequences of str
        Texts in the same order, also those that are equal: they tell what does not vary.
    numbers : bool
        Whether numbers, sizes and percentages vary, too. Only two runs that should be equal tell this. They are only
        masked together with the words beside them, as ``Request \d+``.
    """
    pairs = list(zip(before, after, strict=False))
    if len(before) != len(after) or max(map(len, (*before, *after)), default=0) > _LONGEST or _is_reordered(pairs):
        return ()
    matches = _pair(pairs, numbers)
    if matches is None and numbers:  # a number may look like a date in one of the texts
        matches = _pair(pairs, numbers, digits=False)
    if matches is None:
        return ()
    differing = [(one, other) for one, other in matches if one.text != other.text]
    if len(differing) > 1 and Counter(one.text for one, _ in differing) == Counter(two.text for _, two in differing):
        return ()  # the same values in another order
    same = [one.text for one, other in matches if one.text == other.text]
    for are_narrow in (True, False):
        proposals = dict[str, Proposal]()
        for old, new in differing:
            if pattern := _mask_for(old, new, same, are_narrow):
                proposals.setdefault(pattern, Proposal(old.kind.name, pattern, old.text, new.text))
        # The longer stand first: what `took \d+` matches may be the beginning of what another one matches.
        patterns = sorted(proposals, key=len, reverse=True)
        if _are_equal(pairs, patterns):
            return tuple(map(proposals.__getitem__, _without_needless(pairs, patterns)))
    return ()


def apply_masks(text: str, patterns: Iterable[str]) -> str:
    """Return a text with a sign in place of what the masks match, one mask after the other."""
    for pattern in patterns:
        text = re.sub(pattern, "[masked]", text)
    return text


def _are_equal(pairs: Sequence[tuple[str, str]], patterns: Iterable[str]) -> bool:
    return all(one == other or apply_masks(one, patterns) == apply_masks(other, patterns) for one, other in pairs)


def _without_needless(pairs: Sequence[tuple[str, str]], patterns: list[str]) -> list[str]:
    for pattern in reversed(patterns):
        if _are_equal(pairs, rest := [other for other in patterns if other != pattern]):
            patterns = rest
    return patterns


@functools.cache
def _pattern(numbers: bool, digits: bool = True) -> re.Pattern[str]:
    rows = [
        (place, kind)
        for place, kind in enumerate(KINDS)
        if (numbers or not kind.result) and (digits or not kind.digits)
    ]
    return re.compile("|".join(f"(?P<kind_{place}>{kind.pattern})" for place, kind in rows))


def _kind_of(match: re.Match[str]) -> Kind:
    return KINDS[int((match.lastgroup or "")[5:])]


def _pair(pairs: Iterable[tuple[str, str]], numbers: bool, digits: bool = True) -> list[tuple[_Match, _Match]] | None:
    """Return what may vary in two texts, side by side; None if they differ elsewhere, too."""
    matches: list[tuple[_Match, _Match]] = []
    for pair in pairs:
        (one, first), (other, second) = (_find(text, _pattern(numbers, digits)) for text in pair)
        if one != other:
            return None
        matches += zip(first, second, strict=True)
    return matches


def _find(text: str, pattern: re.Pattern[str]) -> tuple[list[str], list[_Match]]:
    """Return the parts of a text that do not vary, each with the sign of what follows, and what does."""
    parts, matches, end = list[str](), list[_Match](), 0
    for match in pattern.finditer(text):
        kind, same = _kind_of(match), text[end : match.start()]
        parts.append(same + kind.sign)
        words = re.search(_WORDS_BEFORE, same[-80:].rpartition("\n")[2])
        following = re.match(_WORDS_AFTER, text[match.end() : match.end() + 80])
        matches.append(_Match(kind, match[0], words[0] if words else "", following[0] if following else ""))
        end = match.end()
    return [*parts, text[end:]], matches


def _mask_for(one: _Match, other: _Match, same: Sequence[str], is_narrow: bool) -> str:
    """Return the mask for a place that differs, with the words beside it if it would mask what does not vary."""
    kind, shapes = one.kind, (_shape(one.text), _shape(other.text))
    pattern = kind.mask or kind.pattern
    if kind.shape and shapes[0] == shapes[1]:
        pattern = shapes[0]
    elif kind.shape and (rounded := _with_decimals(shapes[0])) == _with_decimals(shapes[1]):
        pattern = rounded
    elif kind != other.kind:
        pattern = f"(?:{pattern}|{other.kind.mask or other.kind.pattern})"
    # Whole seconds are as often a setting as a measurement.
    needs_words = kind.words or (kind.name == "a duration" and re.match(r"\\d\+ ?\w", pattern))
    if is_narrow and (needs_words or any(re.fullmatch(pattern, text) for text in same)):
        if one.before:
            return _generalise(one.before) + pattern
        if one.after:
            return pattern + _generalise(one.after)
    return "" if kind.result or kind.mask else pattern


def _with_decimals(shape: str) -> str:
    """Return a pattern in which each number may have decimals, since a round number is often written without."""
    return re.sub(r"\\d\+(?:\\\.\\d\+)?", lambda _: r"\d+(?:\.\d+)?", shape)


def _shape(text: str) -> str:
    """Return a pattern for texts like this one, in which other numbers, months and weekdays may stand."""
    pattern, end = "", 0
    for match in re.finditer(_PARTS, text):
        pattern += _escape(text[end : match.start()])
        if match["padded"]:
            pattern += r"\d\d"
        elif match["year"]:
            pattern += r"\d{4}"
        else:
            pattern += r"\d+" if match[0].isdecimal() else "[AP]M" if match[0] in ("AM", "PM") else "[A-Z][a-z]+"
        end = match.end()
    rest = _escape(text[end:])
    return pattern + rest + (r"\b" if rest[-1:].isalpha() else "")


def _generalise(words: str) -> str:
    return re.sub(r"\d+", r"\\d+", _escape(words))


def _escape(text: str) -> str:
    return re.escape(text).replace(r"\ ", " ").replace(r"\-", "-")


def _is_reordered(pairs: Sequence[tuple[str, str]]) -> bool:
    """Tell whether the same lines come in another order, which no mask may hide."""
    one, other = (Counter(line for pair in pairs for line in pair[side].split("\n")) for side in (0, 1))
    return one == other and any(first != second for first, second in pairs)
