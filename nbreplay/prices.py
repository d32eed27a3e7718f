"""Estimated costs of tokens, by the list prices of the genai-prices package where it is installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Cost = tuple[float | None, float | None]
"""The costs of input and output, in dollars."""

Price = Callable[[Any, Any, Any, int, int, int], Cost]
"""From the model, the one that answered, the provider, and input, output and cached tokens to their cost."""

PriceTable = Mapping[str, Mapping[str, float] | Sequence[float]]
"""By model, dollars per million tokens: ``{"gpt-4o": {"input": 2.5, "output": 10}}`` or ``{"gpt-4o": (2.5, 10)}``."""

UNKNOWN: Cost = (None, None)

# OpenTelemetry's names of providers to those of genai-prices.
_PROVIDERS = {"azure.ai.openai": "azure", "mistral_ai": "mistral", "gcp.gemini": "google", "gcp.vertex_ai": "google"}


def packaged_prices() -> Price | None:
    """Return the package's prices; None where it is not installed."""
    try:
        import genai_prices
    except ImportError:
        return None

    def price(model: Any, response_model: Any, provider: Any, into: int, out: int, cached: int) -> Cost:
        usage = genai_prices.Usage(input_tokens=into, output_tokens=out, cache_read_tokens=cached)
        if provider is None:
            return UNKNOWN  # a model of one's own may have the name of a priced one
        for name in dict.fromkeys(name for name in (response_model, model) if name):
            try:
                cost = genai_prices.calc_price(usage, name, provider_id=_PROVIDERS.get(provider, provider))
            except (LookupError, ValueError):
                continue
            return float(cost.input_price), float(cost.output_price)
        return UNKNOWN

    return price
