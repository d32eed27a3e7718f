"""Rules for comparing outputs, and masking of text that differs from run to run."""

from __future__ import annotations

import fnmatch
import functools
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from nbreplay.core.config import parse_flag, parse_strings, project
from nbreplay.core.secrets.credentials import PLACEHOLDER, PLACEHOLDER_PATTERN
from nbreplay.errors import OptionError

_STREAMS = ("stdout", "stderr", "error")


class Rules(msgspec.Struct, frozen=True):
    """Rules for equal outputs: the table ``[tool.nbreplay.outputs]``."""

    mask: tuple[str, ...] = ()  # regular expressions; text that matches is not compared
    # Not compared: MIME types such as ``image/png`` or ``image/*``, ``stdout``, ``stderr`` and ``error``.
    ignore: tuple[str, ...] = ()
    stderr: bool = False  # whether stderr is compared; warnings and progress bars change with versions
    # Allowed difference of images, from 0 to 1; see `nbreplay.testing.outputs.images.compare_images`.
    tolerance: float = 0.02
    compare: bool = True  # whether outputs are compared, unless the tags of a cell say otherwise

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> Rules:
        """Return the rules of a table in pyproject.toml; raise `OptionError` for an unknown or invalid setting."""
        for name in table:
            if name not in _PARSERS:
                raise OptionError(f"Unknown setting outputs.{name}. The settings are {', '.join(sorted(_PARSERS))}")
        return cls(**{name: _PARSERS[name](f"outputs.{name}", value) for name, value in table.items()})

    def ignores(self, kind: str) -> bool:
        """Return whether a MIME type, a stream or ``error`` is not compared."""
        if kind == "stderr" and not self.stderr:
            return True
        return any(fnmatch.fnmatchcase(kind.lower(), pattern.lower()) for pattern in self.ignore)


def rules_for(folder: str | os.PathLike[str]) -> Rules:
    """Return the rules of the project that `folder` is in; raise `OptionError` for an invalid setting."""
    settings = project(folder)
    try:
        return Rules.of(settings.outputs)
    except OptionError as error:
        raise OptionError(f"{settings.file}, [tool.nbreplay.outputs]: {error}") from None


def _parse_masks(name: str, value: Any) -> tuple[str, ...]:
    masks = parse_strings(name, value)
    for mask in masks:
        try:
            re.compile(mask)
        except re.error as error:
            raise OptionError(
                f"{name}: {mask!r} is not a valid regular expression: {error}. "
                "Use single quotes in TOML, which keep backslashes"
            ) from None
    return masks


def _parse_kinds(name: str, value: Any) -> tuple[str, ...]:
    kinds = parse_strings(name, value)
    for kind in kinds:
        if kind not in _STREAMS and not re.fullmatch(r"[\w.*+-]+/[\w.*+-]+", kind):
            raise OptionError(f"{name} must be MIME types such as 'image/*', or {', '.join(_STREAMS)}, not {kind!r}")
    return kinds


def _parse_share(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise OptionError(f"{name} must be a number from 0 (equal pixels) to 1 (any), not {value!r}")
    return float(value)


_PARSERS: dict[str, Callable[[str, Any], Any]] = {
    "mask": _parse_masks,
    "ignore": _parse_kinds,
    "stderr": parse_flag,
    "tolerance": _parse_share,
    "compare": parse_flag,
}

_TIME = r"(?<![\w.+])(?:\d+(?:d|h|min) )*[\d.e+]+ ?(?:[nuµμm]?s|min|h|d)"  # as IPython writes it
_CLOCK = r"\d+:\d\d(?::\d\d)?"

# A part of the text that a match contains, which is faster to look for, the pattern, and what replaces a match.
_VARIABLE_TEXT: tuple[tuple[str, str, str], ...] = (
    (  # Without "at", only numbers that look like addresses count: hex(1234) is a result.
        "0x",
        r"(\bat )0x[0-9a-fA-F]{6,16}(?![0-9a-fA-F])|\b0x(?:(?:7f|5[56])[0-9a-f]{10}|0000[0-9A-F]{12})(?![0-9a-fA-F])",
        r"\1[address]",
    ),
    ("ipykernel_", r"(?:[A-Za-z]:)?(?:[/\\][\w.+~-]{1,64}){0,8}[/\\]ipykernel_\d+[/\\]\d+\.py", "[cell].py"),
    ("<ipython-input-", r"<ipython-input-\d+-[0-9a-f]{12}>", "[cell].py"),
    ("[secret:", r"\[secret:\d{1,6}\]", "[secret]"),
    (PLACEHOLDER, PLACEHOLDER_PATTERN, "[secret]"),
    ("-", r"(?<![0-9a-fA-F])[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}(?![0-9a-fA-F])", "[uuid]"),
    ("Wall time: ", rf"(?m)^(?:CPU times: user {_TIME}, sys: {_TIME}, total|Wall time): {_TIME}", "[time]"),
    ("The slowest run took ", r"(?m)^The slowest run took [\d.]+ times longer than the fastest\..*\n", ""),
    (
        " per loop (mean ",
        rf"{_TIME} ± {_TIME} per loop \(mean ± std\. dev\. of \d+ runs?, [\d,]+ loops? each\)",
        "[time]",
    ),
    (  # The bars of tqdm, without the values that a program adds to them. In a widget, they have figure spaces.
        "[",
        rf"(?<=\[){_CLOCK}(?:(?:<|&lt;)(?:{_CLOCK}|\?))?,\s*[\d.?]+[kMG]?(?:[^\s\],]{{1,20}}/s|s/[^\s\],]{{1,20}})",
        "[time]",
    ),
)


def mask_text(text: str, rules: Rules) -> str:
    """Mask what the rules match, addresses, UUIDs, paths of kernel cells, and the times of IPython and tqdm."""
    for mask in rules.mask:
        text = re.sub(mask, "[masked]", text)
    for part, pattern, replacement in _VARIABLE_TEXT:
        if part in text:
            text = re.sub(pattern, replacement, text)
    return text


_METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)
_STYLER = re.compile(r"\bT_[0-9a-f]{5,32}(?![0-9a-zA-Z])")
# uuid4().hex as part of a name. On its own it may be a digest.
_HEX = re.compile(r"(?<=[g-zG-Z_-])[0-9a-f]{32}(?![0-9a-zA-Z])")
_CARDS = '<div class="tex2jax_ignore mathjax_ignore" data-nbreplay="'
# The name of the place of a widget, and the script, which changes with versions of nbreplay.
_PLAYER = re.compile(rf'({_CARDS})\w*(".*)<script type="text/javascript">.*?</script>', re.DOTALL)
_BOKEH = re.compile(r"""(["'])p\d{4,}\1""")
_DECLARED = re.compile(r"""(?<![\w-])id\s*=\s*(?:"([^"<>]+)"|'([^'<>]+)')""")
_REFERRED = re.compile(
    r"""((?<![\w-])(?:id|for|list|aria-\w+)\s*=\s*["'])([^"'<>]+)(?=["'])"""
    r"""|(\#)([\w:.-]+)"""
    r"""|([(,]\s*["'])([\w:.-]+)(?=["'])"""
)


def mask_markup(text: str, rules: Rules) -> str:
    """Mask HTML, SVG or a script. The ids that it declares become numbers, in order."""
    text = mask_text(_PLAYER.sub(r"\1\2", text) if _CARDS in text else text, rules)
    if "<svg" in text:
        text = _METADATA.sub("<metadata/>", text, count=1)
    text = _HEX.sub("[uuid]", _STYLER.sub("T_[id]", text))
    if "okeh" in text:
        text = _BOKEH.sub('"[id]"', text)
    numbers: dict[str, str] = {}
    for match in _DECLARED.finditer(text):
        numbers.setdefault(match[1] or match[2], f"[id {len(numbers) + 1}]")
    return _REFERRED.sub(functools.partial(_replace_id, numbers), text) if numbers else text


def _replace_id(numbers: dict[str, str], match: re.Match[str]) -> str:
    before, name = (group for group in match.groups() if group is not None)
    if name in numbers:
        return before + numbers[name]
    # A selector such as "#name.part" continues after the id.
    head = re.split("[:.]", name, maxsplit=1)[0]
    return before + numbers[head] + name[len(head) :] if head in numbers else match[0]


_ESCAPE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[()][0-9A-Z]|\x1b[=>78M]")
_ERASED = re.compile(r"\x1b\[[02]?K")


def render_stream(text: str) -> str:
    """Render a stream like a terminal: carriage returns overwrite. Colours and trailing blanks are removed."""
    text = "\n".join(_apply_carriage_returns(line) if "\r" in line else line for line in text.split("\n"))
    return _ESCAPE.sub("", text).rstrip()


def _apply_carriage_returns(line: str) -> str:
    visible = ""
    for part in line.split("\r"):
        rest = "" if _ERASED.search(part) else visible
        part = _ESCAPE.sub("", part)
        visible = part + rest[len(part) :]
    return visible
