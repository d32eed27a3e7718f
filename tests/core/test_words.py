"""Words: counts, units and outcomes are written alike wherever they are shown."""

from __future__ import annotations

import pytest

from nbreplay.core.words import FAILURES, count_of, format_counts, format_failure, format_outcome, shorten, suggest


@pytest.mark.parametrize(("number", "text"), [(0, "0 calls"), (1, "1 call"), (2, "2 calls"), (1_000, "1,000 calls")])
def test_a_number_agrees_with_its_noun(number: int, text: str) -> None:
    assert count_of(number, "call") == text


def test_the_summary_of_a_run() -> None:
    assert format_counts({}) == "0 replayed, 0 recorded, 0 missing"
    assert format_counts({"replayed": 1_200, "missing": 1}, 2) == "1,200 replayed, 0 recorded, 1 missing, 2 unused"
    text = format_counts({"live": 1, "blocked": 2, "unsaved": 3}, 4)
    assert text.startswith("0 replayed, 0 recorded, 0 missing, 4 unused; 1 answered live, not recorded; ")
    assert text.endswith("; 3 answered live, not saved; 2 blocked")


def test_an_outcome_says_its_reasons_once() -> None:
    reasons = ["429 Too Many Requests", "", "429 Too Many Requests", "APIError"]
    assert format_outcome("live", 4, reasons) == "4 answered live, not recorded: 429 Too Many Requests, APIError"
    assert format_outcome("replayed", 1, [""]) == "1 replayed"


def test_a_failure_says_what_went_wrong() -> None:
    assert [format_failure(outcome, "why") for outcome in FAILURES] == ["why", "answer not saved: why", "why"]


@pytest.mark.parametrize(
    ("text", "size", "short"),
    [
        ("The sky is blue", 15, "The sky is blue"),
        ("The sky is blue", 14, "The sky is…"),
        ("The sky is blue", 11, "The sky is…"),
        ("The sky is blue", 10, "The sky…"),
        ("https://example.com/a b", 12, "https://exa…"),
        ("see https://example.com/a", 12, "see https:/…"),
        ("", 5, ""),
    ],
)
def test_a_text_ends_with_a_word(text: str, size: int, short: str) -> None:
    assert shorten(text, size) == short
    assert len(short) <= size


def test_a_word_that_is_close_is_suggested() -> None:
    assert suggest("reocrd", ["record", "replay"]) == " Did you mean record?"
    assert suggest("sideways", ["record", "replay"]) == ""
