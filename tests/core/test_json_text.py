"""Encoders made once write what `json.dumps` writes."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbreplay.core.recording.json_text import encoder
from tests.core.making import json_values

WAYS = [
    {"separators": separators, "ascii_only": ascii_only, "sort_keys": sort_keys, "indent": indent}
    for separators, ascii_only, sort_keys, indent in itertools.product(
        [(",", ":"), (", ", ": ")], [True, False], [True, False], [None, 2]
    )
]


def _dumped(value: Any, ascii_only: bool, **how: Any) -> str:
    return json.dumps(value, ensure_ascii=ascii_only, **how)


@given(json_values | st.floats(), st.sampled_from(WAYS))
def test_an_encoder_writes_what_json_writes(value: Any, how: dict[str, Any]) -> None:
    assert encoder(**how)(value) == _dumped(value, **how)


@pytest.mark.parametrize("how", WAYS)
def test_an_encoder_without_the_compiled_one_does_so_too(how: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("json.encoder.c_make_encoder", None)
    for value in ("é\x7f", [1, {"b": 1.5, "a": None}], {}):
        assert encoder(**how)(value) == _dumped(value, **how)


@pytest.mark.parametrize("value", [float("nan"), [float("inf")]])
def test_what_is_no_json_is_refused_where_that_is_asked_for(value: Any) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        encoder(allow_nan=False)(value)
    assert encoder()(value) == json.dumps(value)


def test_what_is_no_data_is_refused() -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        encoder()({"a": object()})
