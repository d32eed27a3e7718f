"""Estimated costs of interactions: tokens times list prices, or times a table of one's own.

The column `cost_usd` is computed when a frame is asked for, and never stored: prices change.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from nbreplay.analysis.columns import COST
from nbreplay.analysis.pandas import np, pd
from nbreplay.errors import OptionError
from nbreplay.prices import UNKNOWN, Cost, Price, PriceTable, packaged_prices

PRICED = ("kind", "model", "response_model", "provider", "input_tokens", "output_tokens", "cached_tokens")
"""The columns that the cost of an interaction depends on."""

_MILLION = 1_000_000


def with_costs(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame with the column that is not stored: `cost_usd` of interactions."""
    if name != "interactions":
        return frame
    counted = frame.provider.notna() & frame.input_tokens.notna()
    price = packaged_prices() if counted.any() else None  # importing it costs as much as reading 1,000 recordings
    frame = frame.copy(deep=False)
    costs = pd.Series(pd.NA, index=frame.index, dtype="Float64") if price is None else sum(price_rows(frame, price))
    frame.insert(frame.columns.get_loc("ttft_s") + 1, COST.name, costs)
    return frame


def estimate_costs(
    frame: pd.DataFrame, prices: PriceTable | pd.DataFrame | None
) -> tuple[pd.Series[float], pd.Series[float]]:
    """Return the costs of input and output of each interaction, in dollars; NA where tokens or price are unknown."""
    price = packaged_prices() if prices is None else _price_table(prices)
    if price is None:
        raise OptionError(
            "cost needs prices. Pass a table, cost({'gpt-4o': {'input': 2.5, 'output': 10}}), or install one: "
            "pip install 'nbreplay[prices]'"
        )
    return price_rows(frame, price)


def price_rows(frame: pd.DataFrame, price: Price) -> tuple[pd.Series[float], pd.Series[float]]:
    """Return the costs of input and output of each interaction, as `estimate_costs` does, at a price."""
    out = frame.output_tokens.mask((frame.kind == "embedding") & frame.output_tokens.isna(), 0)  # it has none
    # Of a websocket's tokens some may be audio, which costs more.
    counted = (frame.input_tokens.notna() & out.notna() & (frame.kind != "websocket").fillna(True)).to_numpy()
    tokens = np.zeros((3, len(frame)), dtype=np.int64)
    for row, column in zip(tokens, (frame.input_tokens, out, frame.cached_tokens), strict=True):
        row[:] = column.fillna(0)
    tokens[2] = np.minimum(tokens[0], tokens[2])
    costs = np.full((2, len(frame)), np.nan)
    columns = [frame[name][counted] for name in PRICED[1:4]]
    codes = np.zeros(int(counted.sum()), dtype=np.int64)  # equal where the names are
    for column in columns:
        part, different = pd.factorize(column)
        codes = codes * (len(different) + 1) + part + 1
    _, firsts, groups = np.unique(codes, return_index=True, return_inverse=True)
    for number, first in enumerate(firsts):
        model, answering, provider = (None if pd.isna(name := column.iloc[first]) else name for column in columns)
        places = np.flatnonzero(counted)[groups == number]
        costs[:, places] = _price_alike(price, (model, answering, provider), tokens[:, places])
    into, out = (pd.Series(pd.array(side, dtype="Float64"), index=frame.index) for side in costs)
    return into, out


def _price_alike(price: Price, name: tuple[Any, Any, Any], tokens: np.ndarray) -> np.ndarray:
    """Return the costs of input and output, by row, of interactions of one model.

    A price that is the same for all tokens is looked up once, which saves 60 µs a row: it is, where the largest numbers
    cost what a single token costs times these. Otherwise it has tiers, and is looked up for each row.
    """

    def costs_of(row: Iterable[int]) -> np.ndarray:
        return np.array(price(*name, *map(int, row)), dtype=float)  # None becomes nan

    one, other, cached = costs_of((1, 0, 0)), costs_of((0, 1, 0)), costs_of((1, 0, 1))
    rates = (np.array([one, other, cached - one]).T * _MILLION).round(9)
    costs: np.ndarray = rates @ tokens / _MILLION
    most = tokens.max(axis=1)
    if np.allclose(costs_of(most), rates @ most / _MILLION, rtol=1e-9, atol=0, equal_nan=True):
        return costs
    return np.array([costs_of(row) for row in tokens.T]).T


def _price_table(prices: PriceTable | pd.DataFrame) -> Price:
    rows = prices.to_dict("index") if isinstance(prices, pd.DataFrame) else prices
    if not isinstance(rows, Mapping):
        raise OptionError(f"prices must be a dict or a DataFrame by model, not {type(prices).__name__}")
    table = {model: _price_row(model, row) for model, row in rows.items()}

    def price(model: Any, answering: Any, _: Any, into: int, out: int, cached: int) -> Cost:
        row = table.get(model) or table.get(answering)
        if row is None:
            return UNKNOWN
        per_input, per_output, per_cached = row
        return ((into - cached) * per_input + cached * per_cached) / _MILLION, out * per_output / _MILLION

    return price


def _price_row(model: Any, row: Any) -> tuple[float, float, float]:
    named = row
    if isinstance(row, tuple | list) and len(row) in (2, 3):
        named = dict(zip(("input", "output", "cached"), row, strict=False))
    if isinstance(named, Mapping) and not {*named} - {"input", "output", "cached"} and "input" in named:
        cached = named.get("cached")
        cached = named["input"] if cached is None or cached != cached else cached
        numbers = named["input"], named.get("output", 0.0), cached
        if all(isinstance(one, int | float) and math.isfinite(one) and one >= 0 for one in numbers):
            return numbers
    raise OptionError(
        f"the price of {model!r} is {row!r}. Pass {{'input': 2.5, 'output': 10}}, in dollars per million tokens, "
        "and 'cached' where cached input is cheaper"
    )
