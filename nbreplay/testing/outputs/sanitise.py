"""Rules for comparing outputs, and masking of text that differs from run to run."""

from __future__ import annotations

import fnmatch
import functools
import os
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from nbreplay.core.config import parse_flag, parse_strings, project
from nbreplay.errors import OptionError

_STREAMS = ("stdout", "stderr", "error")


class Rules(msgspec.Struct, frozen=True):
    """Rules for equal outputs: the table ``[tool.nbreplay.outputs]``."""

    mask: tuple[str, ...] = ()  # Regular expressions. Text that matches is not compared.
    # Not compared: MIME types such as ``image/png`` or ``image/*``, ``stdout``, ``stderr`` and ``error``.
    ignore: tuple[str, ...] = ()
    stderr: bool = False  # Whether stderr is compared. Warnings and progress bars change with versions.
    # Allowed difference of images, from 0 to 1; see `nbreplay.testing.outputs.images.compare_images`.
    tolerance: float = 0.02
    compare: bool = True  # whether outputs are compared, unless the tags of a cell say otherwise

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> Rules:
        """Return the rules of a table in pyproject.toml.

        Raises
        ------
        OptionError
            If a setting is unknown or has an invalid value; the message names it.
        """
        for name in table:
            if name not in _NAMES:
                raise OptionError(f"Unknown setting outputs.{name}. The settings are {', '.join(sorted(_NAMES))}")
        rules = cls()
        return cls(
            mask=tuple(_pattern(text) for text in parse_strings("outputs.mask", table.get("mask", rules.mask))),
            ignore=tuple(_kind(text) for text in parse_strings("outputs.ignore", table.get("ignore", rules.ignore))),
            stderr=parse_flag("outputs.stderr", table.get("stderr", rules.stderr)),
            tolerance=_share(table.get("tolerance", rules.tolerance)),
            compare=parse_flag("outputs.compare", table.get("compare", rules.compare)),
        )

    def ignores(self, kind: str) -> bool:
        """Return whether a MIME type, a stream or ``error`` is not compared."""
        if kind == "stderr" and not self.stderr:
            return True
        return any(fnmatch.fnmatchcase(kind.lower(), pattern.lower()) for pattern in self.ignore)


_NAMES = frozenset(Rules.__struct_fields__)


def rules_for(folder: str | os.PathLike[str]) -> Rules:
    """Return the rules of the project that `folder` is in.

    Raises
    ------
    OptionError
        If its pyproject.toml has an invalid setting; the message names the file.
    """
    settings = project(folder)
    try:
        return Rules.of(settings.outputs)
    except OptionError as error:
        raise OptionError(f"{settings.file}, [tool.nbreplay.outputs]: {error}") from None


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise OptionError(
            f"outputs.mask: {text!r} is not a valid regular expression: {error}. "
            "Use single quotes in TOML, which keep backslashes"
        ) from None
    return text


def _kind(text: str) -> str:
    if text not in _STREAMS and not re.fullmatch(r"[\w.*+-]+/[\w.*+-]+", text):
        raise OptionError(
            f"outputs.ignore must be MIME types such as 'image/*', or {', '.join(_STREAMS)}, not {text!r}"
        )
    return text


def _share(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise OptionError(f"outputs.tolerance must be a number from 0 (equal pixels) to 1 (any), not {value!r}")
    return float(value)


# Without "at", only numbers that look like addresses count: hex(1234) is a result.
_ADDRESS = re.compile(
    r"\bat 0x[0-9a-fA-F]{6,16}(?![0-9a-fA-F])"
    r"|\b0x(?:(?:7f|5[56])[0-9a-f]{10}|0000[0-9A-F]{12})(?![0-9a-fA-F])"
)
_UUID = re.compile(r"(?<![0-9a-fA-F])[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}(?![0-9a-fA-F])")
_CELL_FILE = re.compile(r"(?:[A-Za-z]:)?(?:[/\\][\w.+~-]{1,64}){0,8}[/\\]ipykernel_\d+[/\\]\d+\.py")
_INPUT = re.compile(r"<ipython-input-\d+-[0-9a-f]{12}>")


@functools.lru_cache(maxsize=8)
def _patterns(masks: tuple[str, ...]) -> list[re.Pattern[str]]:
    return [re.compile(mask) for mask in masks]


def mask_text(text: str, rules: Rules) -> str:
    """Mask what the rules match, and addresses, UUIDs and paths of kernel cells."""
    for pattern in _patterns(rules.mask):
        text = pattern.sub("[masked]", text)
    if "0x" in text:
        text = _ADDRESS.sub(lambda found: "at [address]" if found[0].startswith("at") else "[address]", text)
    if "ipykernel_" in text:
        text = _CELL_FILE.sub("[cell].py", text)
    if "<ipython-input-" in text:
        text = _INPUT.sub("[cell].py", text)
    return _UUID.sub("[uuid]", text) if "-" in text else text


_METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)
_STYLER = re.compile(r"\bT_[0-9a-f]{5,32}(?![0-9a-zA-Z])")
# uuid4().hex as part of a name. On its own it may be a digest.
_HEX = re.compile(r"(?<=[g-zG-Z_-])[0-9a-f]{32}(?![0-9a-zA-Z])")
_BOKEH = re.compile(r"""(["'])p\d{4,}\1""")
_DECLARED = re.compile(r"""(?<![\w-])id\s*=\s*(?:"([^"<>]+)"|'([^'<>]+)')""")
_REFERRED = re.compile(
    r"""((?<![\w-])(?:id|for|list|aria-\w+)\s*=\s*["'])([^"'<>]+)(?=["'])"""
    r"""|(\#)([\w:.-]+)"""
    r"""|([(,]\s*["'])([\w:.-]+)(?=["'])"""
)


def mask_markup(text: str, rules: Rules) -> str:
    """Mask HTML, SVG or a script. The ids that it declares become numbers, in order."""
    text = mask_text(text, rules)
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
    before, name = next((match[place], match[place + 1]) for place in (1, 3, 5) if match[place] is not None)
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
