"""The word diff: which words differ, and what of two texts is equal."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbreplay.notebook.word_diff import changed_spans, fold_equal, split_at


def marked(a: str, b: str) -> tuple[str, str]:
    """Both texts, with the words that differ in brackets."""
    spans = changed_spans(a, b)
    one, other = ([*split_at(text, found)] for text, found in zip((a, b), spans, strict=True))
    return tuple("".join(f"[{piece}]" if differs else piece for piece, differs in side) for side in (one, other))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("a", "b", "wanted"),
    [
        ("", "", ("", "")),
        ("the same", "the same", ("the same", "the same")),
        ("only  white\tspace", "only white space", ("only  white\tspace", "only white space")),
        ("", "all new", ("", "[all new]")),
        ("It is a bright day.", "It is an old day!", ("It is [a bright] day[.]", "It is [an old] day[!]")),
        ("A. It is here. C.", "A. It was here. C. D.", ("A. It [is] here. C.", "A. It [was] here. C. [D.]")),
    ],
)
def test_the_words_that_differ(a: str, b: str, wanted: tuple[str, str]) -> None:
    assert marked(a, b) == wanted


@given(st.lists(st.sampled_from(["a", "b", ".", "\n", "é", "😀", "word"])), st.lists(st.sampled_from(["a", "b", "."])))
def test_no_text_is_lost_and_what_is_not_marked_is_equal(one: list[str], other: list[str]) -> None:
    a, b = " ".join(one), " ".join(other)
    sides = [split_at(text, found) for text, found in zip((a, b), changed_spans(a, b), strict=True)]
    assert ["".join(piece for piece, _ in side) for side in sides] == [a, b]
    kept = ["".join(piece for piece, differs in side if not differs).split() for side in sides]
    assert "".join(kept[0]) == "".join(kept[1])


def test_a_long_text_is_compared_in_pieces() -> None:
    """Ten thousand words without an end of a sentence differ as a whole."""
    words = random.Random(1).choices(["sun", "moon", "star"], k=10_000)
    (whole,), _ = changed_spans(" ".join(words), " ".join([*words[1:], "end"]))
    assert whole == (0, len(" ".join(words)))
    sentences = [f"Number {number} is here." for number in range(3_000)]
    a, b = " ".join(sentences), " ".join(sentences).replace("Number 7 is", "Number 7 was")
    assert [b[low:high] for low, high in changed_spans(a, b)[1]] == ["was"]


def test_what_is_equal_and_far_from_a_difference_is_folded() -> None:
    a = "start " * 100 + "one " + "end " * 100
    pieces = split_at(a, changed_spans(a, a.replace("one", "two"))[0])
    folded = fold_equal(pieces, lambda text: f"<{len(text.split())}>")
    text = "".join(piece for piece, _ in folded)
    assert text.startswith("<")
    assert text.rstrip().endswith(">")
    assert "start one end" in text
    assert len(text) < 200
    assert fold_equal([("equal " * 100, False)], str) == [("equal " * 100, False)]
