"""JSON text is written in each style as Python itself writes it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nbreplay.core.recording.json_text import STYLES, encode_json, is_written_as, parse_object
from tests.core.making import json_values

WAYS: dict[str, dict[str, Any]] = {
    "compact": {"separators": (",", ":")},
    "spaced": {},
    "indent": {"separators": (",", ": "), "indent": 2},
}


@given(json_values, st.sampled_from(sorted(STYLES)))
@example([1e16, 1e-5, 0.0001, -0.0, 1.5e300, 5e-324, 123456789012345680.0, 2**70], "compact")
@example({"a": "\x7f\x00\u2028\U0001f642/"}, "compact")
@example(["\ud800"], "compact")
@example({"a": ["-", "x-1e-5", "0.0000", "NaN"], "b": 1e-7}, "compact")
def test_a_style_is_written_as_json_itself_writes_it(value: Any, style: str) -> None:
    name, _, ascii_only = style.partition("-")
    wanted = json.dumps(value, ensure_ascii=bool(ascii_only), **WAYS[name])
    assert encode_json(value, style) == wanted
    assert is_written_as(value, wanted, style)
    assert not is_written_as(value, wanted + " ", style)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("value", [float("nan"), [float("inf")], {"a": [-float("inf")]}])
def test_a_number_that_json_does_not_have_is_not_written(value: Any, style: str) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode_json(value, style)
    assert not is_written_as(value, json.dumps(value), style)


@pytest.mark.parametrize("text", ["", None, "[1]", "{", "data", " [1]", "{" * 100_000])
def test_what_is_not_an_object_is_none(text: str | None) -> None:
    assert parse_object(text) is None


def test_an_object_may_hold_undecodable_bytes() -> None:
    assert parse_object(' {"a": "\udcff"}') == {"a": "\udcff"}
