"""What a call cost, in words: an estimate, told to who looks on and kept nowhere, since prices change."""

from __future__ import annotations

from nbreplay.core.log import Interaction
from nbreplay.notebook.card import Film
from nbreplay.prices import packaged_prices
from nbreplay.providers.names import provider_of

__all__ = ["estimate"]


def estimate(item: Interaction, film: Film) -> str:
    """Return such as ``≈ $0.0004``; ``""`` where tokens or prices are not known, or nobody's prices are installed.

    Parameters
    ----------
    item : Interaction
    film : Film
        Of the same call.
    """
    take, (into, out) = item.take, film.tokens
    provider = provider_of(take.host) if take is not None and take.host else None
    if provider is None or into is None or out is None:
        return ""
    price = packaged_prices()
    if price is None:
        return ""
    asked = item.request.model if item.request is not None else None
    spent = price(asked, film.title, provider, into, out, 0)
    return "" if None in spent else f"≈ ${sum(part or 0.0 for part in spent):.2g}"
