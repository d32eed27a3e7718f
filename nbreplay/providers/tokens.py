"""How many tokens an answer says it took, under whatever names its provider counts them."""

from __future__ import annotations

from typing import Any

__all__ = ["TOKENS", "count"]

TOKENS = {
    "input": (
        *("prompt_tokens", "input_tokens", "promptTokenCount", "prompt_eval_count", "inputTokens"),
        *("total_input_tokens", "billed_units.input_tokens", "tokens.input_tokens"),
    ),
    "output": (
        *("completion_tokens", "output_tokens", "candidatesTokenCount", "eval_count", "outputTokens"),
        *("total_output_tokens", "billed_units.output_tokens", "tokens.output_tokens"),
    ),
    "cached": (
        *("prompt_cache_hit_tokens", "cache_read_input_tokens", "cachedContentTokenCount", "cacheReadInputTokens"),
        *("total_cached_tokens", "prompt_tokens_details.cached_tokens", "input_tokens_details.cached_tokens"),
    ),
    "reasoning": (
        *("thoughtsTokenCount", "total_thought_tokens"),
        *("completion_tokens_details.reasoning_tokens", "output_tokens_details.reasoning_tokens"),
    ),
}
"""What is counted, and the names that it has; a dot leads into an object."""

_COUNTS = {path: kind for kind, paths in TOKENS.items() for path in paths}
_FLAT = {path: kind for path, kind in _COUNTS.items() if "." not in path}
_NESTED = {path.partition(".")[0] for path in _COUNTS if "." in path}
_LARGEST = 2**63  # what a column of integers cannot hold is no count


def count(usage: Any, tokens: dict[str, int]) -> None:
    """Put the counts that an object holds into `tokens`, by the names in `TOKENS`; leave it where there are none."""
    if not isinstance(usage, dict):
        return
    for name, number in usage.items():
        kind = _FLAT.get(name)
        if kind is not None:
            if type(number) is int and 0 <= number < _LARGEST:
                tokens[kind] = number
        elif name in _NESTED and isinstance(number, dict):
            for inner, counted in number.items():
                kind = _COUNTS.get(f"{name}.{inner}")
                if kind is not None and type(counted) is int and 0 <= counted < _LARGEST:
                    tokens[kind] = counted
