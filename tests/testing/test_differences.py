"""Differences as text: brief, exact where something changes, and safe to print."""

from __future__ import annotations

import pytest

from nbreplay.testing.outputs.diff import Difference, diff_lines, format_difference, make_difference, one_sided_lines

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\r\u202egnp.exe"


def test_a_difference_is_shown_with_its_cell() -> None:
    found = make_difference(3, "\n  print(answer)\nmore()", ["  [stdout]", "- 42", "+ 43"])
    assert found == Difference(3, "print(answer)", ("  [stdout]", "- 42", "+ 43"))
    assert format_difference(found, colour=False) == "cell 3 (print(answer)):\n      [stdout]\n    - 42\n    + 43"
    assert format_difference(found, colour=True).split("\n")[1:] == [
        "      [stdout]",
        "    \x1b[31m- 42\x1b[0m",
        "    \x1b[32m+ 43\x1b[0m",
    ]
    assert format_difference(make_difference(1, "", []), colour=False) == "cell 1:"


@pytest.mark.parametrize(
    "made", [make_difference(1, HOSTILE, [f"- {HOSTILE}"]), Difference(1, HOSTILE, (f"- {HOSTILE}",))]
)
def test_no_terminal_obeys_what_is_shown(made: Difference) -> None:
    text = format_difference(made, colour=False)
    assert text.replace("\n", "").isprintable()
    assert "\\u001b]0;owned\\u0007" in text
    coloured = format_difference(made, colour=True)
    assert coloured.count("\x1b") == 2
    assert coloured.replace("\x1b[31m", "").replace("\x1b[0m", "") == text


def test_a_line_stays_one() -> None:
    made = make_difference(1, "x", ["  [text/a\n- b]"])
    assert made.lines == ("  [text/a\\u000a- b]",)
    assert format_difference(Difference(1, "x\ny", ("- a\nb",)), colour=False).count("\n") == 1


def test_a_diff_has_some_lines_around_what_changes() -> None:
    old = [f"line {number}" for number in range(20)]
    new = [*old[:10], "changed", *old[11:]]
    assert diff_lines(old, new) == [
        "  … 8 lines the same",
        "  line 8",
        "  line 9",
        "- line 10",
        "+ changed",
        "  line 11",
        "  line 12",
        "  … 7 lines the same",
    ]


def test_two_changes_far_apart() -> None:
    old = [f"line {number}" for number in range(20)]
    new = ["first", *old[1:19], "last"]
    found = diff_lines(old, new)
    assert [line for line in found if line[0] != " "] == ["- line 0", "+ first", "- line 19", "+ last"]
    assert "  … 14 lines the same" in found


def test_lines_that_come_and_go() -> None:
    assert diff_lines(["a", "b", "c"], ["a", "c"]) == ["  a", "- b", "  c"]
    assert diff_lines([], ["a"]) == ["+ a"]
    assert diff_lines(["a"], ["a", "a"]) == ["  a", "+ a"]
    assert diff_lines(["a", "x", "b", "y"], ["b", "a", "x"]) == ["+ b", "  a", "  x", "- b", "- y"]


def test_a_long_text_with_one_other_line_is_told_briefly() -> None:
    old = [f"{number:07d} some words" for number in range(60_000)]
    new = [*old[:30_000], "another", *old[30_001:]]
    assert len(diff_lines(old, new)) == 8
    assert "- 0030000 some words" in diff_lines(old, new)


def test_texts_that_have_nothing_in_common_are_cut_on_both_sides() -> None:
    for count in (500, 600, 2000, 30_000):
        found = diff_lines([f"old {number}" for number in range(500)], [f"new {number}" for number in range(count)])
        assert len(found) <= 31
        assert "- old 0" in found
        assert "+ new 0" in found
        assert " more line" in found[-1]


def test_a_long_line_is_shown_where_it_changes() -> None:
    old = "x" * 1_000_000
    new = old[:600_000] + "y" + old[600_001:]
    removed, added = diff_lines([old], [new])
    assert len(removed) < 220
    assert removed.startswith("- …xxx")
    assert "y" in added
    assert added.endswith("(1,000,000 characters)")


def test_spaces_at_the_end_of_a_line_are_seen() -> None:
    assert diff_lines(["a"], ["a  "]) == ["- a", "+ a··"]
    assert diff_lines(["a" * 200], ["a" * 200 + " "])[1].endswith("a·")


def test_an_output_that_one_side_has() -> None:
    assert one_sided_lines("-", ["a", "b"]) == ["- a", "- b"]
    found = one_sided_lines("+", ["a"] * 100)
    assert len(found) == 31
    assert found[-1] == "  … 70 more lines"
