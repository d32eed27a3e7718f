"""What a call cost, in words: an estimate, told to who looks on and kept nowhere, since prices change."""

from __future__ import annotations

from nbreplay.core.fold import fold
from nbreplay.core.log import Interaction
from nbreplay.core.providers import provider_of
from nbreplay.prices import packaged

__all__ = ["estimate"]


def estimate(item: Interaction) -> str:
    """Return such as ``≈ $0.0004``; ``""`` where tokens or prices are not known, or nobody's prices are installed."""
    take = item.take
    provider = provider_of(take.host) if take is not None and take.host else None
    if take is None or provider is None:
        return ""
    answer = fold(take)
    if answer.input_tokens is None or answer.output_tokens is None:
        return ""
    price = packaged()
    if price is None:
        return ""
    asked = item.request.model if item.request is not None else None
    spent = price(asked, answer.model, provider, answer.input_tokens, answer.output_tokens, 0)
    return "" if None in spent else f"≈ ${sum(part or 0.0 for part in spent):.2g}"
