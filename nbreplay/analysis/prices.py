"""Prices of tokens: the user's own table, or that of the genai-prices package. What they give is an estimate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd  # type: ignore[import-untyped]

from nbreplay.errors import OptionError
from nbreplay.prices import UNKNOWN, Cost, Price, packaged_prices

__all__ = ["costs"]

_MILLION = 1_000_000


def costs(frame: pd.DataFrame, prices: Mapping[str, Any] | pd.DataFrame | None) -> tuple[pd.Series, pd.Series]:
    """Return what input and output of each interaction cost, in dollars; NA where tokens or price are not known.

    Raises
    ------
    OptionError
        Where `prices` is no such table, or there is none and the package is not installed.
    """
    price = _packaged() if prices is None else _own(prices)
    names = ("kind", "model", "response_model", "provider", "input_tokens", "output_tokens", "cached_tokens")
    lists = [frame[name].astype(object).where(frame[name].notna(), None) for name in names]
    found = []
    for kind, model, answered, provider, asked, told, cached in zip(*lists, strict=True):
        if kind == "embedding" and told is None:  # nothing comes out of it
            told = 0
        known = asked is not None and told is not None
        found.append(price(model, answered, provider, asked, told, min(cached or 0, asked)) if known else UNKNOWN)
    spent, paid = (pd.Series([one[place] for one in found], index=frame.index, dtype="Float64") for place in (0, 1))
    return spent, paid


def _own(prices: Mapping[str, Any] | pd.DataFrame) -> Price:
    given = prices.to_dict("index") if isinstance(prices, pd.DataFrame) else prices
    if not isinstance(given, Mapping):
        raise OptionError(f"prices are a dict or a DataFrame by model, not a {type(prices).__name__}")
    table = {model: _row(model, price) for model, price in given.items()}

    def price(model: Any, answered: Any, _: Any, asked: int, told: int, cached: int) -> Cost:
        row = table.get(model) or table.get(answered)
        if row is None:
            return UNKNOWN
        into, out, known = row
        return ((asked - cached) * into + cached * known) / _MILLION, told * out / _MILLION

    return price


def _row(model: Any, given: Any) -> tuple[float, float, float]:
    if isinstance(given, tuple | list) and len(given) in (2, 3):
        given = dict(zip(("input", "output", "cached"), given, strict=False))
    if isinstance(given, Mapping) and not {*given} - {"input", "output", "cached"} and "input" in given:
        into, out = given["input"], given.get("output", 0.0)
        cached = given.get("cached")
        cached = into if cached is None or cached != cached else cached
        row = (into, out, cached)
        if all(isinstance(one, int | float) and math.isfinite(one) and one >= 0 for one in row):
            return row
    raise OptionError(
        f"the price of {model!r} is {given!r}: say {{'input': 2.5, 'output': 10}}, in dollars per million tokens, "
        "and 'cached' where cached input is cheaper"
    )


def _packaged() -> Price:
    found = packaged_prices()
    if found is None:
        raise OptionError(
            "cost needs prices: give a table, cost({'gpt-4o': {'input': 2.5, 'output': 10}}), or "
            "pip install 'nbreplay[prices]' for a package of them"
        )
    return found
