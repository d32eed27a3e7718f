"""What tokens cost by the list prices of the genai-prices package, where that is installed. An estimate, always."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["UNKNOWN", "Cost", "Price", "packaged"]

Cost = tuple[float | None, float | None]
"""What input and output cost, in dollars."""

Price = Callable[[Any, Any, Any, int, int, int], Cost]
"""From the model that was asked, the one that answered, the provider, and input, output and cached tokens to a cost."""

UNKNOWN: Cost = (None, None)

# What genai-prices calls some of OpenTelemetry's providers.
_PROVIDERS = {"azure.ai.openai": "azure", "mistral_ai": "mistral", "gcp.gemini": "google", "gcp.vertex_ai": "google"}


def packaged() -> Price | None:
    """Return the package's prices; None where it is not installed."""
    try:
        import genai_prices
    except ImportError:
        return None

    def price(model: Any, answered: Any, provider: Any, asked: int, told: int, cached: int) -> Cost:
        usage = genai_prices.Usage(input_tokens=asked, output_tokens=told, cache_read_tokens=cached)
        own = _PROVIDERS.get(provider, provider)
        for name in dict.fromkeys(name for name in (answered, model) if name):
            # A model of one's own is nobody's: without a provider there is no price.
            if own is not None:
                try:
                    made = genai_prices.calc_price(usage, name, provider_id=own)
                except (LookupError, ValueError):
                    continue
                return float(made.input_price), float(made.output_price)
        return UNKNOWN

    return price
