"""Rules of what is compared, and what is masked before."""

from __future__ import annotations

import io
import re
import tracemalloc
import uuid
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from nbreplay.errors import OptionError
from nbreplay.testing.outputs.sanitise import Rules, mask_markup, mask_text, render_stream, rules_for

RULES = Rules()


def test_rules_have_defaults_and_read_a_table() -> None:
    assert Rules.of({}) == Rules((), (), False, 0.02, True)
    table = {"mask": r"\d+ ms", "ignore": ["image/*", "error"], "stderr": True, "tolerance": 1, "compare": False}
    assert Rules.of(table) == Rules((r"\d+ ms",), ("image/*", "error"), True, 1.0, False)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"masks": "x"}, "Unknown setting outputs.masks. The settings are compare, ignore, mask, stderr, tolerance"),
        ({"mask": ["("]}, r"outputs.mask: '(' is not a valid regular expression"),
        ({"mask": [""]}, "outputs.mask must be a string or a list of strings"),
        ({"mask": {"a": 1}}, "outputs.mask must be a string or a list of strings"),
        ({"ignore": "images"}, "outputs.ignore must be MIME types such as 'image/*', or stdout, stderr, error"),
        ({"ignore": [1]}, "outputs.ignore must be a string or a list of strings, not [1]"),
        ({"stderr": 1}, "outputs.stderr must be true or false, not 1"),
        ({"compare": "no"}, "outputs.compare must be true or false, not 'no'"),
        ({"tolerance": True}, "outputs.tolerance must be a number from 0 (equal pixels) to 1 (any), not True"),
        ({"tolerance": -0.1}, "not -0.1"),
        ({"tolerance": 2}, "not 2"),
        ({"tolerance": float("nan")}, "not nan"),
        ({"tolerance": "2 %"}, "not '2 %'"),
    ],
)
def test_a_table_that_says_what_cannot_be_is_refused(table: dict[str, Any], told: str) -> None:
    with pytest.raises(OptionError, match=re.escape(told)):
        Rules.of(table)


def test_a_project_has_rules(tmp_path: Path) -> None:
    assert rules_for(tmp_path) == Rules()
    file = tmp_path / "pyproject.toml"
    file.write_text("[tool.nbreplay.outputs]\nmask = '\\d+ s'\n", encoding="utf-8")
    (tmp_path / "notebooks").mkdir()
    assert rules_for(tmp_path / "notebooks") == Rules(mask=(r"\d+ s",))
    file.write_text("[tool.nbreplay.outputs]\ntolerence = 1\n", encoding="utf-8")
    with pytest.raises(OptionError, match=r"Unknown setting outputs\.tolerence") as error:
        rules_for(tmp_path / "notebooks")
    assert str(error.value).startswith(f"{file}, [tool.nbreplay.outputs]: ")


def test_what_is_ignored() -> None:
    rules = Rules(ignore=("image/*", "error"))
    kinds = ("image/png", "image/svg+xml", "IMAGE/GIF", "text/plain", "error", "stdout", "stderr")
    assert [kind for kind in kinds if rules.ignores(kind)] == [
        "image/png",
        "image/svg+xml",
        "IMAGE/GIF",
        "error",
        "stderr",
    ]
    assert not Rules(stderr=True).ignores("stderr")
    assert Rules(stderr=True, ignore=("stderr",)).ignores("stderr")


def test_addresses_of_objects_are_masked() -> None:
    # Alive at the same time, so that their addresses differ.
    for make in (object, lambda: lambda: 0, io.BytesIO, lambda: (item for item in "")):
        first, second = make(), make()
        assert repr(first) != repr(second)
        assert mask_text(repr(first), RULES) == mask_text(repr(second), RULES)
        assert "at [address]" in mask_text(repr(first), RULES)
    assert mask_text("0x7f3a12b4c5d0, 0x000001F3A2B4C5D0", RULES) == "[address], [address]"


@pytest.mark.parametrize("text", [hex(255), hex(3735928559), hex(10**12), "0x" + "7f" * 20, "look at 0xff"])
def test_numbers_are_no_addresses(text: str) -> None:
    assert mask_text(text, RULES) == text


def test_paths_of_cells_and_uuids_are_masked() -> None:
    for text in (
        "/tmp/ipykernel_123/456.py:1: UserWarning",
        "/var/folders/a_/x1/T/ipykernel_7/89.py:1: UserWarning",
        "C:\\Users\\me\\AppData\\Local\\Temp\\ipykernel_7\\89.py:1: UserWarning",
        "<ipython-input-3-0123456789ab>:1: UserWarning",
    ):
        assert mask_text(text, RULES) == "[cell].py:1: UserWarning"
    assert mask_text(str(uuid.uuid4()), RULES) == "[uuid]"
    assert mask_text(uuid.uuid4().hex, RULES) != "[uuid]", "it may be a digest"
    assert mask_text("/tmp/ipykernel/module.py", RULES) == "/tmp/ipykernel/module.py"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (
            "CPU times: user 2.28 ms, sys: 691 μs, total: 2.97 ms\nWall time: 36.2 ms\n",
            "CPU times: user 1min 3s, sys: 0 ns, total: 1min 3s\nWall time: 1h 6min 40s\n",
        ),
        (
            "3.88 ms ± 0 ns per loop (mean ± std. dev. of 1 run, 2 loops each)",
            "The slowest run took 5.88 times longer than the fastest. This could mean that an intermediate result is "
            "being cached.\n985 µs ± 1.2 ms per loop (mean ± std. dev. of 7 runs, 1,000 loops each)",
        ),
        (" 3/3 [00:00<00:00,  4.22it/s]", " 3/3 [01:04<00:00, 21.33s/it]"),
        (" 3/3 [00:00&lt;00:00,  4.22it/s]", " 3/3 [1:00:04&lt;00:02,  1.80it/s]"),
        (" 3/3 [00:00&lt;00:00,\u20072.67it/s]", " 3/3 [00:02&lt;00:00,\u2007\u20071.20s/it]"),
        ("7it [00:00, 4.22it/s, loss=0.1]", "7it [00:02, 1.2kit/s, loss=0.1]"),
        ("100%|███| 9.1k/9.1k [00:00<00:00, 3.1MB/s]", "100%|███| 9.1k/9.1k [00:01<?, ?B/s]"),
    ],
)
def test_times_of_ipython_and_tqdm_are_masked(first: str, second: str) -> None:
    assert mask_text(first, RULES) == mask_text(second, RULES)


@pytest.mark.parametrize(
    "text",
    [
        "Wall time: unknown",
        "user 3 ms",
        "2.97 ms",
        "Wall time: 3 apples",
        "[00:10, 3 people]",
        "3/3 [2:1, 3/4]",
        "5 ± 1 s",
    ],
)
def test_times_that_a_program_writes_are_compared(text: str) -> None:
    assert mask_text(text, RULES) == text


def test_values_beside_a_bar_of_tqdm_are_compared() -> None:
    assert mask_text("3/3 [00:00<00:00, 4.2it/s, loss=0.1]", RULES) == "3/3 [[time], loss=0.1]"
    assert mask_text("2/3 [00:00<00:00, 4.2it/s]", RULES) != mask_text("3/3 [00:00<00:00, 4.2it/s]", RULES)


def test_what_the_rules_mask() -> None:
    rules = Rules(mask=(r"\d+ ms", "[A-Z]{3}"))
    assert mask_text("12 ms at SFO", rules) == mask_text("7 ms at LAX", rules) == "[masked] at [masked]"
    assert mask_text("12 s", rules) == "12 s"


def styled(frame: pd.DataFrame) -> str:
    return frame.style.set_properties(color="red")._repr_html_()


def test_a_styled_frame_has_a_new_id_each_time() -> None:
    frame = pd.DataFrame({"a": [1, 2]})
    first, second = styled(frame), styled(frame)
    assert first != second
    assert mask_markup(first, RULES) == mask_markup(second, RULES)
    assert mask_markup(first, RULES) != mask_markup(styled(frame + 1), RULES)


def test_ids_of_markup_are_the_same_where_they_play_the_same_part() -> None:
    page = (
        '<svg><path id="{0}"/><path id="{1}"/><use xlink:href="#{0}"/><g clip-path="url(#{1})"/></svg><label for="{0}">'
    )
    first, second = page.format("a1", "b1"), page.format("zz", "yy")
    assert mask_markup(first, RULES) == mask_markup(second, RULES)
    crossed = page.replace("url(#{1})", "url(#{0})").format("a1", "b1")
    assert mask_markup(first, RULES) != mask_markup(crossed, RULES)
    style = '<style>#{0}.wide td {{}}</style><table id="{0}"></table><script>show("{0}")</script>'
    assert mask_markup(style.format("x-1"), RULES) == mask_markup(style.format("x-2"), RULES)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('<a href="#usage">', '<a href="#limits">'),
        ('<td data-id="1">', '<td data-id="2">'),
        ('<p id="a" class="a">x', '<p id="b" class="a">y'),
        ("<td>0123456789abcdef0123456789abcdef", "<td>1123456789abcdef0123456789abcdef"),
        ('<p style="color: #ff0000">', '<p style="color: #00ff00">'),
    ],
)
def test_what_is_no_id_of_the_markup_stays(one: str, other: str) -> None:
    assert mask_markup(one, RULES) != mask_markup(other, RULES)


def test_ids_that_are_made_of_uuids() -> None:
    page = "<div id='{0}' class='plotly-graph-div'></div><script>Plotly.newPlot('{0}', [{1}]); anim{2}.play()</script>"
    one, other = (page.format(uuid.uuid4(), 1, uuid.uuid4().hex) for _ in range(2))
    assert mask_markup(one, RULES) == mask_markup(other, RULES)
    assert mask_markup(one, RULES) != mask_markup(one.replace("[1]", "[2]"), RULES)


def test_ids_that_bokeh_counts() -> None:
    page = '<div data-root-id="p{0}"></div><script>Bokeh.embed({{"roots": {{"p{0}": {1}}}}})</script>'
    assert mask_markup(page.format(1001, 1), RULES) == mask_markup(page.format(1034, 1), RULES)
    assert mask_markup(page.format(1001, 1), RULES) != mask_markup(page.format(1001, 2), RULES)
    assert mask_markup('<p title="p1001">', RULES) != mask_markup('<p title="p1002">', RULES)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a\nb\n\n \n", "a\nb"),
        ("  a  \nb", "  a  \nb"),
        ("\r 10%\r 50%\r100%\n", "100%"),
        ("a long line\rshort", "shortg line"),
        ("a long line\r\x1b[Kshort\n", "short"),
        ("windows\r\nlines\r\n", "windows\nlines"),
        ("\x1b[1;31mred\x1b[0m and \x1b]8;;https://x.example\x1b\\a link\x1b]8;;\x1b\\", "red and a link"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]0;never ended, and this is text", "\x1b]0;never ended, and this is text"),
        ("", ""),
    ],
)
def test_what_a_stream_leaves(text: str, left: str) -> None:
    assert render_stream(text) == left


def test_a_progress_bar_leaves_its_end() -> None:
    bars = ["".join(f"\r{part:3d}%|{'#' * (part // 10):10}|" for part in parts) for parts in ((0, 30, 100), (0, 100))]
    assert render_stream(bars[0]) == render_stream(bars[1]) == "100%|##########|"


def test_a_large_text_is_masked_within_a_few_times_its_size() -> None:
    text = "/aaaaaaaa-" * 100_000 + "ipykernel_ <ipython-input- 0x okeh <svg"
    tracemalloc.start()
    try:
        assert mask_markup(text, RULES) == text
        assert tracemalloc.get_traced_memory()[1] < 40 * len(text)
    finally:
        tracemalloc.stop()


def test_a_warning_of_a_cell() -> None:
    shown = [warnings.formatwarning("old", UserWarning, f"/tmp/ipykernel_{pid}/{pid}3.py", 1) for pid in (17, 18)]
    assert shown[0] != shown[1]
    assert mask_text(shown[0], RULES) == mask_text(shown[1], RULES)
