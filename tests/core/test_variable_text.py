"""Masks are proposed for what varies by itself, and for nothing else."""

from __future__ import annotations

import random
import re
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbreplay.core.variable_text import KINDS, apply_masks, propose_masks, replace_variable

NUMBERS = True


@pytest.mark.parametrize(
    ("before", "after", "patterns"),
    [
        ("Took 0.53 s", "Took 1.2 s", [r"Took \d+\.\d+ s\b"]),
        ("It took 3.2 minutes", "It took 4 minutes", [r"took \d+(?:\.\d+)? minutes\b"]),
        ("Finished in 9.99s", "Finished in 10s", [r"\d+(?:\.\d+)?s\b"]),
        ("waited 12 seconds", "waited 13 seconds", [r"waited \d+ seconds\b"]),
        ("elapsed: 0.512345", "elapsed: 0.6123", [r"elapsed: \d+\.\d+"]),
        ("latency_ms=12.5", "latency_ms=13.5", [r"latency_ms=\d+\.\d+"]),
        ("{'duration': 0.5}", "{'duration': 0.52}", [r"duration': \d+\.\d+"]),
        ("57.3 tok/s", "61 tok/s", [r"\d+(?:\.\d+)? tok/s\b"]),
        ("12.31it/s", "9.80it/s", [r"\d+\.\d+it/s\b"]),
        ("41.5 tokens per second", "39.2 tokens per second", [r"\d+\.\d+ tokens per second\b"]),
        ("took 1718034063 took 2026-10-28", "took 1718034064 took 2026-10-29", [r"took \d{4}-\d\d-\d\d", r"took \d+"]),
        ("born 2024-01-02, today 2026-11-30", "born 2024-01-02, today 2026-12-01", [r"today \d{4}-\d\d-\d\d"]),
        ("Today is Monday, 30 November 2026.", "Today is Tuesday, 1 December 2026.", None),
        ("November 30, 2026", "December 1, 2026", None),
        ("Mon Nov 30 14:46:46 UTC 2026", "Tue Dec  1 04:46:46 UTC 2026", None),
        ("Mon, 30 Nov 2026 14:46:46 GMT", "Tue, 01 Dec 2026 04:46:46 GMT", None),
        ("2026-11-30T14:46:46.123Z", "2026-12-01T04:46:46+01:00", None),
        ("11/30/2026", "12/1/2026", None),
        ("saved 20261130_144646.json", "saved 20261201_040000.json", None),
        ("at 10:15", "at 11:30", [r"at \d\d:\d\d"]),
        ("at 2:46 PM", "at 10:15 AM", None),
        ("0:00:01.234567", "0:00:02.1", None),
        ("at 1763841350", "at 1763841999", [r"\b1\d{9}(?:\d{3})?\b"]),
        ("time.time() = 1763841350.123", "time.time() = 1763841999.5", None),
        (" 45%|████▌     | 45/100 [00:03<00:04, 12.31it/s]", " 50%|█████| 5/10 [00:01<00:00, 1.3it/s]", None),
        ("in /tmp/tmpab12cd34/x.txt", "in /tmp/tmpzz12cd3f/x.txt", [r"/tmp/[\w.-]+"]),
        ("/var/folders/a1/T/tmpab12cd34", "/var/folders/a1/T/tmpzz12cd3f", [r"[/\\]tmp\w{4,}"]),
        ("/Users/ann/x/y.py:3", "/Users/bob/src/x/y.py:3", None),
        (r"C:\Users\ann\x.py", r"C:\Users\bob\y\x.py", None),
        ("127.0.0.1:40211, pid 12", "127.0.0.1:50211, pid 99", [r"127\.0\.0\.1:\d+", r"pid \d+"]),
        ("<A object at 0x7f12ab34cd56>", "<A object at 0x7f00ab34cd00>", None),
        ("id 0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0", "id 1f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f1", None),
        ("chatcmpl-AbC123xyzDEF99", "chatcmpl-QbC423xyzDEF00", [r"chatcmpl-\w{12,64}"]),
        ("run-3f2a9c1d", "run-4f2a9c1d", ["run-[0-9a-f]{8,15}"]),
        ("a 0f1e2d3c4b5a6978", "a 1f1e2d3c4b5a6979", None),
    ],
)
def test_what_varies_by_itself_is_masked_narrowly(before: str, after: str, patterns: list[str] | None) -> None:
    masks = propose_masks([before], [after])
    assert masks
    assert patterns in (None, [mask.pattern for mask in masks])
    assert apply_masks(before, [mask.pattern for mask in masks]) == apply_masks(after, [mask.pattern for mask in masks])
    assert all(mask.before in before and mask.after in after for mask in masks)


@pytest.mark.parametrize(
    ("before", "after", "pattern"),
    [
        ("Request 5", "Request 7", r"Request \d+"),
        ("accuracy: 45%", "accuracy: 46.5%", r"accuracy: \d+(?:\.\d+)?%"),
        ("used 12.3 MB", "used 13 MB", r"used \d+(?:\.\d+)? MB\b"),
        ("5 rows", "17 rows", r"\d+ rows"),
    ],
)
def test_numbers_are_masked_only_if_equal_runs_differ_and_with_their_words(
    before: str, after: str, pattern: str
) -> None:
    assert propose_masks([before], [after]) == ()
    assert [mask.pattern for mask in propose_masks([before], [after], numbers=NUMBERS)] == [pattern]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Tokyo", "Kyoto"),
        ("0 1 2", "0 1 3"),
        ("took 0.5 s: Tokyo", "took 0.6 s: Kyoto"),
        ("took 0.5 s", "took 0.5 s and 0.6 s"),
        ("task 1 done\ntask 2 done", "task 2 done\ntask 1 done"),
        ("task 1: a\ntask 2: b", "task 2: a\ntask 1: b"),
        ("same", "same"),
        ("x" * 300_000 + " 0.5 s", "x" * 300_000 + " 0.6 s"),
    ],
)
def test_nothing_is_proposed_where_no_mask_is_right(before: str, after: str) -> None:
    assert propose_masks([before], [after], numbers=NUMBERS) == ()


def test_texts_that_are_equal_tell_what_a_mask_must_leave_alone() -> None:
    assert [mask.pattern for mask in propose_masks(["5.5 s"], ["6.5 s"])] == [r"\d+\.\d+ s\b"]
    masks = propose_masks(["limit 5.5 s", "run 5.5 s"], ["limit 5.5 s", "run 6.5 s"])
    assert [mask.pattern for mask in masks] == [r"run \d+\.\d+ s\b"]
    assert propose_masks(["a", "b"], ["a"]) == ()


def _date(chance: random.Random) -> str:
    return f"2026-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}"


SLOTS = {
    "date": _date,
    "seconds": lambda chance: f"{chance.uniform(0, 100):.2f} s",
    "rate": lambda chance: f"{chance.uniform(0, 100):.1f}it/s",
    "uuid": lambda chance: str(uuid.UUID(int=chance.getrandbits(128))),
    "clock": lambda chance: f"{chance.randint(0, 23):02}:{chance.randint(0, 59):02}:{chance.randint(0, 59):02}",
    "path": lambda chance: "/tmp/tmp" + "".join(chance.choices("abcdefgh0123456789_", k=8)),
    "epoch": lambda chance: str(chance.randint(1_700_000_000, 1_800_000_000)),
    "address": lambda chance: f"0x7f{chance.randrange(16**10):010x}",
}
WORDS = st.sampled_from(["run", "the answer", "Tokyo", "took", "12", "= 3.5", "in", "(a, b)", "日本", "\n", "7%"])


@settings(max_examples=50)
@given(st.lists(WORDS | st.sampled_from([f"<{name}>" for name in SLOTS]), max_size=12), st.integers(), st.integers())
def test_masks_make_texts_equal_that_differ_only_in_what_varies(parts: list[str], one: int, other: int) -> None:
    def fill(seed: int) -> str:
        chance = random.Random(seed)
        return " ".join(SLOTS[part[1:-1]](chance) if part[1:-1] in SLOTS else part for part in parts)

    before, after = fill(one), fill(other)
    patterns = [mask.pattern for mask in propose_masks([before], [after])]
    assert bool(patterns) == (sorted(before.split("\n")) != sorted(after.split("\n")))
    if patterns:
        assert apply_masks(before, patterns) == apply_masks(after, patterns)
    # Words and plain numbers are the same whichever masks were proposed.
    plain = "answer 12 of 345: 0.5, 7 % of 1,000 words"
    assert apply_masks(plain, patterns) == plain


@settings(max_examples=30)
@given(st.text(max_size=60), st.text(max_size=60), st.booleans())
def test_masks_of_any_texts_are_patterns_that_make_them_equal(before: str, after: str, numbers: bool) -> None:
    if masks := propose_masks([before], [after], numbers=numbers):
        patterns = [mask.pattern for mask in masks]
        assert apply_masks(before, patterns) == apply_masks(after, patterns)
        assert apply_masks("0 12 345", patterns) == "0 12 345"


def test_signs_stand_for_what_varies() -> None:
    assert replace_variable("on 2026-11-30 it took 0.5 s, 3 times") == "on [date] it [duration], 3 times"
    assert replace_variable("3 times, 5%", numbers=True) == "[number] times, [percentage]"


def test_no_pattern_captures_and_none_takes_long_on_hostile_text() -> None:
    for kind in KINDS:
        assert re.compile(kind.pattern).groups == 0
        assert re.compile(kind.mask).groups == 0
    for text in ("1%|" * 9_000, "/a" * 9_000, "1." * 9_000, "a1B" * 9_000, "-" * 9_000, "took " * 9_000):
        propose_masks([text], [text + "1"], numbers=NUMBERS)
