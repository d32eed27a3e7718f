"""What cards tell: tracks and times, the loop of an agent, and the same as text, Markdown and HTML."""

from __future__ import annotations

import json
import re
import sys
from argparse import Namespace
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbreplay.core.log import Interaction
from nbreplay.core.recording.body import Json, Text
from nbreplay.core.recording.stream import Chunk, Events
from nbreplay.core.request.request import Request
from nbreplay.notebook.card import Card, Track, make_cards
from nbreplay.notebook.escape import clip, escape, fence, format_seconds, one_line, plain
from nbreplay.notebook.pairs import Rest, lines_bundle, make_pair, pair_bundle, pair_head, rest_bundle
from nbreplay.notebook.render import MANY, bundle, heading, place_in, render, render_calls, sparkline
from nbreplay.notebook.status import badge, overview
from tests.core.making import call, chat, request, take
from tests.providers.test_answer import chunk

HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e[x](javascript:1)"


def streamed(*deltas: dict[str, Any], gaps: tuple[int, ...] = (), **more: Any) -> Interaction:
    """A streamed chat whose chunks bring these deltas."""
    gaps = gaps or tuple(10 for _ in deltas)
    chunks = tuple(Chunk(gap, chunk(delta)) for gap, delta in zip(gaps, deltas, strict=True))
    return Interaction(request(chat()), take(Events(chunks), **more), "replayed", host="api.openai.com")


def asked(text: str = "", calls: tuple[tuple[str, str, str], ...] = (), messages: Any = None) -> Interaction:
    """A plain chat: what was asked, and its answer with text and tool calls (id, name, arguments)."""
    made = [{"id": own, "type": "function", "function": {"name": n, "arguments": a}} for own, n, a in calls]
    answer = {"model": "m", "choices": [{"index": 0, "message": {"content": text or None, "tool_calls": made}}]}
    body = {"model": "m", "messages": messages or [{"role": "user", "content": "hello"}]}
    wanted = request(call(body))
    return Interaction(wanted, take(Json(answer), ids=wanted.ids), "replayed", host="h")


def tool(name: str, arguments: dict[str, Any], returned: str) -> Interaction:
    made = Request("tool", {"tool": name, "arguments": arguments}, "k1:" + "0" * 64)
    return Interaction(made, take(Json({"value": returned}), host="", elapsed_ms=120), "replayed")


def answered(own: str, name: str, arguments: str, result: str) -> list[dict[str, Any]]:
    """The messages of a request that brings a result back."""
    called = {"id": own, "type": "function", "function": {"name": name, "arguments": arguments}}
    return [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": own, "content": result},
    ]


def function(arguments: str, index: int = 0, **more: str) -> dict[str, Any]:
    known = {"id": more["id"], "type": "function"} if "id" in more else {}
    named = {"name": more["name"]} if "name" in more else {}
    return {"tool_calls": [{"index": index, **known, "function": {**named, "arguments": arguments}}]}


def test_a_card_knows_what_was_there_at_a_time() -> None:
    item = streamed(
        {"reasoning_content": "Let me "}, {"reasoning_content": "see."}, {"content": "To"}, {"content": "kyo"}
    )
    (card,) = make_cards([item])
    assert [(track.kind, track.text) for track in card.tracks] == [("reasoning", "Let me see."), ("text", "Tokyo")]
    assert card.until_ms == 40
    assert card.tracks_at(5) == []
    assert [track.text for track in card.tracks_at(30)] == ["Let me see.", "To"]
    assert card.tracks_at(40) == list(card.tracks)
    assert card.facts == ("done", "40 ms", "first token 10 ms")


def test_the_arguments_of_a_tool_stream_as_text_and_become_json() -> None:
    item = streamed(function("", id="c1", name="get_weather"), function('{"city":'), function(' "Tokyo"}'))
    (card,) = make_cards([item])
    (track,) = card.tracks_at(20)
    assert (track.name, track.text, track.format_arguments()) == ("get_weather", '{"city":', None)
    (track,) = card.tracks
    assert track.format_arguments() == '{\n  "city": "Tokyo"\n}'
    (broken,) = make_cards([streamed(function('{"city": ', id="c1", name="get_weather"))])
    shown = render(broken)
    for text in shown.values():
        assert "invalid JSON" in text
        assert "get_weather(" in text
    assert broken.state()["tracks"][0]["invalid"] is True


def test_numbers_and_names_stay_as_they_are_written() -> None:
    text = '{"a":1.10,"b":12345678901234567890,"a":1e5,"c":[],"d":{},"e":["x, {y}: \\"z\\""]}'
    shown = Track("tool_call", parts=[text]).format_arguments()
    assert shown is not None
    assert re.sub(r"\n\s*", "", shown).replace(": ", ":", 6) == text.replace("x, {y}:", "x, {y}:")
    assert "1.10" in shown
    assert "12345678901234567890" in shown
    assert shown.count('"a"') == 2


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner)))
def test_indented_json_is_the_same_json(value: Any) -> None:
    shown = Track("tool_call", parts=[json.dumps(value)]).format_arguments()
    assert shown is not None
    assert json.loads(shown) == value


@pytest.mark.parametrize("text", ["[NaN]", '{"a":"\\ud800"}'])
def test_arguments_that_only_python_reads_stay_as_they_came(text: str) -> None:
    assert Track("tool_call", parts=[text]).format_arguments() == text


def test_a_stream_without_times_says_so() -> None:
    (card,) = make_cards([streamed({"content": "x"}, extra={"timed": False})])
    assert card.entries == ()
    assert card.state()["untimed"] is True
    assert "0" not in "".join(card.facts)
    assert "no timings recorded" in render(card)["text/plain"]
    assert sparkline(card) == ""


@pytest.mark.parametrize(("count", "told"), [(1, "1 secret was removed"), (2, "2 secrets were removed")])
def test_every_rendering_of_a_redacted_answer_says_so(count: int, told: str) -> None:
    item = streamed({"content": "[secret:1]"}, redacted=count)
    (card,) = make_cards([item])
    for shown in (render(card), render(card, 5), render_calls([item, item]), bundle([card])):
        assert [kind for kind, text in shown.items() if told not in text] == []
    assert told in card.state()["foot"], "what the widget and an exported page show"


def test_an_answer_that_had_no_secret_says_nothing_of_secrets() -> None:
    (card,) = make_cards([streamed({"content": "x"})])
    assert "secret" not in json.dumps([render(card), card.state()])


def test_the_entries_of_a_card_come_back_from_its_state() -> None:
    """As the player reads them: lengths are those of UTF-16."""
    item = streamed({"content": "a"}, {}, {"reasoning_content": "😀b"}, {"content": "é😀"}, gaps=(3, 4, 5, 6))
    (card,) = make_cards([item])
    state = card.state()
    assert state["beats"] == "3+1 4 @1 5+3 @0 6+3"
    assert [track["text"] for track in state["tracks"]] == ["aé😀", "😀b"]


def test_a_long_stream_takes_few_bytes_a_chunk() -> None:
    (card,) = make_cards([streamed(*({"content": f" {n}"} for n in range(20_000)))])
    assert len(json.dumps(card.state(), ensure_ascii=False)) / 20_000 < 60


def test_the_loop_of_an_agent_is_a_tree() -> None:
    given_ = '{"city": "Tokyo"}'
    items = [
        asked(calls=(("c1", "get_weather", given_), ("c2", "get_time", "{}"))),
        tool("get_weather", {"city": "Tokyo", "unit": "C"}, "18 °C"),
        asked("It is 18 °C.", messages=answered("c1", "get_weather", given_, "18 °C")),
        asked("Something else."),
    ]
    made = make_cards(items)
    assert [card.depth for card in made] == [0, 1, 0], "the tool is told in the row of its call"
    weather, clock = made[0].tracks
    assert weather.result is not None
    assert (weather.result.text, weather.result.error, weather.result.took_s) == ("18 °C", "", 0.12)
    assert clock.result is None
    shown = bundle(made)
    assert "▸ get_weather" in shown["text/plain"]
    assert "ok · 0.12 s" in shown["text/plain"]
    assert "→ 18 °C" in shown["text/plain"]
    assert "\n  m · done" in shown["text/plain"], "the next request stands below"
    assert "margin-left:1.5em" in shown["text/html"]


def test_a_tool_that_no_model_asked_for_has_a_card_of_its_own() -> None:
    (card,) = make_cards([tool("get_weather", {"city": "Tokyo"}, "18 °C")])
    assert card.title == "get_weather"
    assert card.tracks[0].result is not None
    assert card.tracks[0].result.text == "18 °C"


@pytest.mark.parametrize("count", [1, 2, MANY, MANY + 1])
def test_several_calls_have_a_heading_and_many_a_summary(count: int) -> None:
    shown = render_calls([asked(f"answer {n}") for n in range(count)])
    assert sorted(shown) == ["text/html", "text/markdown", "text/plain"]
    for text in shown.values():
        assert (f"{count} calls" in text) is (count > 1)
        assert ("answer 0" in text) is (count <= MANY)
    assert shown["text/html"].count("<details style=") == (count if 1 < count <= MANY else 0)


def test_no_calls() -> None:
    assert render_calls([])["text/plain"] == "nbreplay: no calls yet"
    assert heading([]) == "0 calls"


def test_what_is_shown_tells_of_the_take_alone() -> None:
    """So that it is the same whether it has just been recorded or is replayed."""
    item = streamed({"content": "x"})
    recorded = Interaction(item.request, item.take, "recorded", served_s=3.0, host="localhost", store="elsewhere")
    assert render_calls([item]) == render_calls([recorded])
    assert make_cards([item])[0].state() == make_cards([recorded])[0].state()
    assert render_calls([recorded], outcomes=True)["text/plain"].startswith("REC  ")


def test_a_call_without_a_take_says_what_became_of_it() -> None:
    item = Interaction(request(chat()), None, "missing", note="no recorded answer", host="h")
    for text in render_calls([item]).values():
        assert "MISSING" in text
        assert "no recorded answer" in text


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add(tag)
        self.found |= {f"{tag} {name}" for name, _ in attrs}


@pytest.mark.parametrize("up_to", [None, 10])
def test_hostile_text_stays_text(up_to: int | None) -> None:
    item = streamed(
        {"content": HOSTILE, "reasoning_content": HOSTILE, "refusal": HOSTILE},
        function(HOSTILE, id=HOSTILE, name=HOSTILE),
        error={"type": HOSTILE, "message": HOSTILE},
    )
    (card,) = make_cards([item])
    shown = render(card, up_to, label="REPLAY")
    tags = _Tags()
    tags.feed(shown["text/html"])
    assert tags.found <= {
        "div",
        "div style",
        "b",
        "span",
        "span style",
        "details",
        "details style",
        "summary",
        "pre",
        "pre style",
        "span data-part",
        "details data-part",
        "div data-beats",
        "div data-foot",
    }
    for text in (*shown.values(), json.dumps(card.state(), ensure_ascii=False)):
        assert "\x1b" not in text
        assert "\u202e" not in text
    fences = [line for line in shown["text/markdown"].split("\n") if line.startswith("```")]
    assert len(fences) % 2 == 0
    outside, inside = [], False
    for line in shown["text/markdown"].split("\n"):
        if line.startswith("```"):
            inside = not inside
        elif not inside:
            outside.append(line)
    assert "javascript" not in "".join(outside)


def test_a_fence_is_longer_than_any_in_the_text() -> None:
    assert fence("```\nx\n````").startswith("`````text\n")


@given(st.text())
def test_plain_text_can_be_sent_and_hides_nothing(text: str) -> None:
    shown = plain(text)
    shown.encode("utf-8")
    assert plain(shown) == shown
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\u200e\u200f]", shown)
    assert "<" not in escape(text)


def test_small_words() -> None:
    assert [format_seconds(value) for value in (0, 0.0012, 0.34, 9.99, 1234)] == [
        "<1 ms",
        "1 ms",
        "0.34 s",
        "9.99 s",
        "1,234 s",
    ]
    assert clip("one word more", 10) == "one word… (13 characters)"
    assert clip("abc", 3) == "abc"
    assert one_line('{\n  "a": 1\n}') == '{ "a": 1 }'


def test_what_a_call_cost_is_estimated_and_kept_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    prices = pytest.importorskip("genai_prices", reason="genai-prices is not installed: pip install -e '.[prices]'")
    usage = {"model": "gpt-4o", "choices": [], "usage": {"prompt_tokens": 1000, "completion_tokens": 200}}
    item = Interaction(request(chat()), take(Json(usage)), "replayed", host="api.openai.com")
    wanted = prices.calc_price(prices.Usage(input_tokens=1000, output_tokens=200), "gpt-4o", provider_id="openai")
    (card,) = make_cards([item])
    assert card.cost == f"≈ ${float(wanted.total_price):.2g}"
    assert "$" not in json.dumps(make_cards([item])[0].state()) + "".join(render_calls([item]).values())
    local = Interaction(item.request, take(Json(usage), host="127.0.0.1"), "replayed")
    assert make_cards([local])[0].cost == "", "a model of one's own is nobody's"
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    assert card.cost == ""


def test_the_bars_show_when_chunks_came() -> None:
    (card,) = make_cards([streamed(*({"content": "x"} for _ in range(8)), gaps=(0, 0, 0, 0, 0, 0, 0, 100))])
    assert sparkline(card, 10) == "█        ▁".replace("▁", sparkline(card, 10)[-1])
    assert len(sparkline(card, 10)) == 10


def test_a_call_that_only_the_end_of_a_stream_names_has_no_track_for_its_result() -> None:
    calls = [
        {"type": "function_call", "id": f"fc_{own}", "call_id": own, "name": own, "arguments": "{}"} for own in "ab"
    ]
    events = (
        {"type": "response.output_item.added", "output_index": 0, "item": {**calls[0], "arguments": ""}},
        {"type": "response.function_call_arguments.delta", "item_id": "fc_a", "delta": "{}"},
        {"type": "response.completed", "response": {"status": "completed", "output": calls}},
    )
    first = Interaction(request(chat()), take(Events(tuple(Chunk(1, event) for event in events))), "replayed")
    second = asked("done", messages=[*answered("a", "a", "{}", "A"), *answered("b", "b", "{}", "B")])
    card, last = make_cards([first, second])
    assert [(track.name, track.result and track.result.text) for track in card.tracks] == [("a", "A")]
    assert (card.depth, last.depth) == (0, 1)


def test_a_card_of_what_is_not_an_answer() -> None:
    item = Interaction(request(chat()), take(Text("<html>gateway")), "replayed", host="h")
    (card,) = make_cards([item])
    assert card.tracks == ()
    assert isinstance(card, Card)


def test_all_kinds_of_a_stream_that_was_cut() -> None:
    events = Events.parse([(0.0, b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n: ping\n\n')], "sse", 0.0)
    item = Interaction(request(chat()), take(events, complete=False, reason="dropped"), "replayed", host="h")
    (card,) = make_cards([item])
    assert card.facts[0] == "connection lost"
    assert card.chunks == 2


@pytest.mark.parametrize(
    ("elapsed_ms", "status", "saved"), [(500, 200, "0.40 s"), (130, 200, ""), (500, 429, ""), (500, None, "")]
)
def test_a_replay_saves_the_time_of_an_answer_and_none_of_a_failure(
    elapsed_ms: int, status: int | None, saved: str
) -> None:
    answer = take(Json({}), elapsed_ms=elapsed_ms, status=status)
    item = Interaction(request(chat()), answer, "replayed", served_s=0.1, host="h")
    below, whole = badge([item], mode="replay", store="kept"), overview(None, [Namespace(interactions=[item])])
    assert below["text/plain"] == " · ".join(
        filter(None, ["nbreplay: 1 replayed", saved and f"{saved} saved", "replay, kept"])
    )
    assert (f"{saved} of waiting" in whole["text/plain"]) is bool(saved)
    assert "padding:6px" in below["text/html"], "the badge keeps a distance from what is above it"


def test_a_pair_has_the_words_that_differ_marked_in_every_rendering() -> None:
    calls = [asked("The 😀 sky is blue."), asked("The 😀 sky was blue.")]
    head, pair = pair_head(make_pair(calls, ("a", "b")), 2, 3)
    assert head == "2 of 3 · asked: hello"
    assert [card.title for card in pair] == ["a · m", "b · m"]
    assert [card.state()["tracks"][0]["marks"] for card in pair] == ["11+2", "11+3"], "as the player counts"
    shown = pair_bundle(head, pair)
    assert "The 😀 sky [-is-] blue." in shown["text/plain"]
    assert "The 😀 sky {+was+} blue." in shown["text/plain"]
    assert re.search("sky <del [^>]*>is</del> blue", shown["text/html"])
    assert re.search("sky <ins [^>]*>was</ins> blue", shown["text/html"])
    tools = [asked(calls=(("c1", "look", arguments),)) for arguments in ('{"x": 1}', '{"x": 2}')]
    _, pair = pair_head(make_pair(tools, ("", "")), 1, 1)
    assert re.search("<ins [^>]*>2</ins>", pair_bundle("", pair)["text/html"])
    assert "≠ look(x=2)" in pair_bundle("", pair)["text/plain"]
    nothing = make_pair([None, calls[1]], ("a", "b"))
    assert (nothing[0].title, nothing[1].tracks[0].marks) == ("nothing in a", ())


def test_a_pair_is_escaped() -> None:
    shown = pair_bundle(HOSTILE, make_pair([asked(HOSTILE), asked(HOSTILE + " x")], (HOSTILE, "b")))
    rest, lines = rest_bundle([Rest(HOSTILE, (HOSTILE,), 2)]), lines_bundle([HOSTILE, HOSTILE])
    for text in (*shown.values(), *rest.values(), *lines.values()):
        assert "\x1b" not in text
    for text in (shown["text/html"], rest["text/html"], lines["text/html"]):
        assert "<script>" not in text
    assert "javascript" not in re.sub("```text.*?```", "", shown["text/markdown"], flags=re.S)


def test_the_card_of_a_tool_shows_its_arguments_and_result_and_why_it_failed() -> None:
    item = tool("get_weather", {"city": "Tokyo", "days": 3}, "18 °C")
    (card,) = make_cards([item])
    state = card.state()["tracks"][0]
    assert (state["line"], state["ran"], state["result"]) == ('city="Tokyo", days=3', True, "18 °C")
    (hostile,) = make_cards([tool("f", {"\x1b]0;t\x07k\n": 1}, "")])
    assert hostile.state()["tracks"][0]["line"] == "\\u001b]0;t\\u0007k=1"
    shown = render(card)
    assert '▸ get_weather(city="Tokyo", days=3)\n    → 18 °C' in shown["text/plain"]
    assert '<details data-part="0" open>' in shown["text/html"]
    failure = take(Json({"exception": {"type": "ValueError", "text": "no such city"}}), host="", elapsed_ms=0)
    (card,) = make_cards([Interaction(item.request, failure, "replayed")])
    assert card.facts == ("failed", "<1 ms")
    assert card.error == "ValueError: no such city"
    (card,) = make_cards([Interaction(item.request, take(Json({"exception": {"type": 1, "text": None}})), "replayed")])
    assert card.error == "1", "a recording of a stranger"


def test_the_html_holds_what_plays_it() -> None:
    """The script is the same in each output, so that an output plays alone, and small."""
    text = HOSTILE + "\U0001f600 & '\"</div>"
    item = streamed({"content": text}, function('{"a": 1}', id="1", name="f"), {"content": text})
    page = bundle(make_cards([item]))["text/html"]
    (script,) = re.findall(r'<script type="text/javascript">(.*?)</script>', page)
    assert len(script) < 4_400
    assert page.endswith(f'<script type="text/javascript">{script}</script></div>')
    sizes = [len(plain(text).encode("utf-16-le")) // 2, 8]
    assert f' data-beats="10+{sizes[0]} @1 10+{sizes[1]} @0 10+{sizes[0]}"' in page
    assert f'<span data-part="0">{escape(text * 2)}</span>' in page
    assert '<details data-part="1"><summary>f(' in page


def test_what_cannot_be_played_has_no_script() -> None:
    for page in (bundle([]), bundle(make_cards([asked("hello")])), bundle(make_cards([asked("hello")] * (MANY + 1)))):
        assert "<script" not in page["text/html"]


def test_the_place_of_a_widget_is_that_of_its_cards_alone() -> None:
    """A copy of a notebook has the same cells, but what it shows may be older."""
    one, other = make_cards([streamed({"content": "one"})]), make_cards([streamed({"content": "other"})])
    places = [place_in(bundle(cards, owner="a")["text/html"]) for cards in (one, one, other)]
    assert places[0] == places[1] != places[2]
    assert place_in(bundle(one)["text/html"]) == ""
