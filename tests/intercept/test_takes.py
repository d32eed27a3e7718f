"""Which answer a request gets: order, repetition, failures and ids, through the real SDK and without a notebook."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import anyio
import openai
import pytest

import nbreplay as nr
from tests.clients import call, chat, gathered_chats, outcomes, recordings, said, sdk, takes, wait
from tests.provider import Provider

ROOT = Path(__file__).resolve().parents[2]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def answers(store: Path) -> list[Any]:
    """Return status and text of the takes of the only recording of a store, in file order."""
    found = []
    for take in takes(store):
        value = json.loads(take.body.data())
        found.append(value["choices"][0]["message"]["content"] if take.status == 200 else take.status)
    return found


def test_identical_requests_have_answers_in_their_order(flavour: str, provider: Provider, store: Path) -> None:
    with nr.session(store, mode="record"):
        live = [call(flavour, provider.url, chat()) for _ in range(3)]
    assert live == [f"answer {n} to: hello" for n in (1, 2, 3)]
    with nr.session(store, mode="replay") as session:
        assert [call(flavour, provider.url, chat()) for _ in range(3)] == live
        with pytest.raises(nr.RecordingMissing, match=r"recorded 3 times.*asked a 4th time"):
            call(flavour, provider.url, chat())
    assert outcomes(session) == ["replayed"] * 3 + ["missing"]
    assert provider.hits == 3


def test_every_session_starts_with_the_first_answer(provider: Provider, store: Path) -> None:
    with nr.session(store, mode="record"):
        live = [call("sync", provider.url, chat()) for _ in range(2)]
    for _ in range(2):
        with nr.session(store, mode="replay"):
            assert [call("sync", provider.url, chat()) for _ in range(2)] == live


def test_calls_at_once_are_not_permuted(provider: Provider, store: Path) -> None:
    """The first to start is the last to be answered; each caller gets its own answer again all the same."""
    model = "test/delays=300,200,100"
    with nr.session(store, mode="record") as session:
        live = asyncio.run(gathered_chats(provider.url, 3, model))
    assert sorted(live) == [f"answer {n} to: hello" for n in (1, 2, 3)]
    assert outcomes(session) == ["recorded"] * 3
    kept = dict(zip([take.task for take in takes(store)], answers(store), strict=True))
    assert [kept[task] for task in range(3)] == live
    with nr.session(store, mode="replay"):
        assert asyncio.run(gathered_chats(provider.url, 3, model)) == live
    assert provider.hits == 3


@pytest.mark.parametrize("recorded", [[0, 1, 2], [2, 0, 1]], ids=["recorded-in-order", "recorded-out-of-order"])
@pytest.mark.parametrize("replayed", [[0, 1, 2], [2, 0, 1], [1, 2, 0]], ids=str)
def test_calls_at_once_are_not_permuted_by_who_asks_first(
    recorded: list[int], replayed: list[int], provider: Provider, store: Path
) -> None:
    """A client's first requests leave in the order in which threads look the platform up: in any."""

    async def asked(order: list[int]) -> list[list[str]]:
        turns = {who: asyncio.Event() for who in order}

        async def ask(who: int) -> list[str]:
            await turns[who].wait()
            made = []
            for _ in range(2):
                made.append(await chat()(client))
                following = order.index(who) + 1
                if following < len(order):
                    turns[order[following]].set()
            return made

        async with sdk("async", provider.url) as client:
            turns[order[0]].set()
            return await asyncio.gather(*map(ask, range(3)))

    with nr.session(store, mode="record"):
        live = asyncio.run(asked(recorded))
    assert len({answer for own in live for answer in own}) == 6
    with nr.session(store, mode="replay"):
        assert asyncio.run(asked(replayed)) == live


@pytest.mark.full
def test_the_first_calls_of_a_process_are_not_permuted(provider: Provider, store: Path) -> None:
    """Its first lookup of the platform is slow: in every second process some other call left first."""
    code = """
import asyncio, json, sys
import nbreplay as nr
from tests.clients import gathered_chats
with nr.session(sys.argv[2], mode=sys.argv[3]):
    print(json.dumps(asyncio.run(gathered_chats(sys.argv[1], 12))))
"""

    def run(mode: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", code, provider.url, str(store), mode],
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        answers = json.loads(done.stdout)
        assert isinstance(answers, list)
        return answers

    live = run("record")
    assert len(set(live)) == 12
    assert [run("replay") for _ in range(4)] == [live] * 4


def test_record_replaces_what_it_recorded_before(flavour: str, provider: Provider, store: Path) -> None:
    with nr.session(store, mode="record"):
        for _ in range(3):
            call(flavour, provider.url, chat())
        call(flavour, provider.url, chat("another question"))
    with nr.session(store, mode="record"):
        again = [call(flavour, provider.url, chat()) for _ in range(2)]
    assert again == ["answer 5 to: hello", "answer 6 to: hello"]
    by_text = {recording.request["body"]["messages"][0]["content"]: recording for recording in recordings(store)}
    assert len(by_text["another question"].takes) == 1, "what was not asked again stays"
    assert len(by_text["hello"].takes) == 2
    with nr.session(store, mode="replay"):
        assert [call(flavour, provider.url, chat()) for _ in range(2)] == again


def test_auto_adds_what_is_missing(flavour: str, provider: Provider, store: Path) -> None:
    with nr.session(store, mode="record"):
        first = call(flavour, provider.url, chat())
    with nr.session(store, mode="auto") as session:
        texts = [call(flavour, provider.url, chat()) for _ in range(3)]
    assert outcomes(session) == ["replayed", "recorded", "recorded"]
    assert texts == [first, "answer 2 to: hello", "answer 3 to: hello"]
    assert answers(store) == texts
    with nr.session(store, mode="replay"):
        assert [call(flavour, provider.url, chat()) for _ in range(3)] == texts
    assert provider.hits == 3


def test_off_neither_records_nor_replays(flavour: str, provider: Provider, store: Path) -> None:
    with nr.session(store, mode="record"):
        call(flavour, provider.url, chat())
    before = takes(store)
    with nr.session(store, mode="off") as session:
        assert call(flavour, provider.url, chat()) == "answer 2 to: hello"
    assert outcomes(session) == ["live"]
    assert takes(store) == before


@pytest.fixture
def awake(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Have every sleep noted, of which none may be a back-off."""
    asked: list[float] = []
    for module in (time, anyio, asyncio):
        real = module.sleep

        def sleep(seconds: float, *rest: Any, real: Any = real) -> Any:
            asked.append(seconds)
            return real(0, *rest)

        monkeypatch.setattr(module, "sleep", sleep)
    return asked


def failing(flavour: str, url: str, model: str) -> openai.APIError:
    with pytest.raises(openai.APIError) as caught:
        call(flavour, url, chat(model=model))
    return caught.value


def test_429_then_200_replays_through_the_retry_of_the_sdk(flavour: str, store: Path, request: Any) -> None:
    model = "test/status=429,200"
    with Provider() as provider, nr.session(store, mode="record") as session:
        assert isinstance(failing(flavour, provider.url, model), openai.RateLimitError)
        live = call(flavour, provider.url, chat(model=model))
    assert outcomes(session) == ["recorded"] * 2
    assert answers(store) == [429, live]
    slept = request.getfixturevalue("awake")
    with nr.session(store, mode="replay") as again:
        assert call(flavour, provider.url, chat(model=model), max_retries=2) == live
    assert [item.take.status for item in again.interactions if item.take] == [429, 200]
    assert outcomes(again) == ["replayed"] * 2
    assert [seconds for seconds in slept if seconds > 0.01] == [], "the server's retry-after of 7 s is not waited for"


def test_retries_are_recorded_one_by_one(flavour: str, provider: Provider, store: Path, awake: list[float]) -> None:
    model = "test/status=500,503,200"
    with nr.session(store, mode="record") as session:
        live = call(flavour, provider.url, chat(model=model), max_retries=2)
    assert outcomes(session) == ["recorded"] * 3
    assert answers(store) == [500, 503, live]
    awake.clear()
    with nr.session(store, mode="replay") as again:
        assert call(flavour, provider.url, chat(model=model), max_retries=2) == live
    assert outcomes(again) == ["replayed"] * 3
    assert [seconds for seconds in awake if seconds > 0.01] == []


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (404, openai.NotFoundError),
        (409, openai.ConflictError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_failures_replay_as_the_error_of_the_sdk(
    status: int, kind: type[openai.APIStatusError], stream: bool, flavour: str, store: Path
) -> None:
    def failure(url: str) -> openai.APIStatusError:
        with pytest.raises(kind) as caught:
            call(flavour, url, chat(model=f"test/status={status}", stream=stream))
        return caught.value

    with Provider() as provider, nr.session(store, mode="record"):
        live = failure(provider.url)
    with nr.session(store, mode="replay") as session:
        replayed = failure(provider.url)
    assert outcomes(session) == ["replayed"]
    assert (replayed.status_code, replayed.body, str(replayed)) == (live.status_code, live.body, str(live))
    assert (replayed.request_id, replayed.response.content) == (live.request_id, live.response.content)
    assert live.body
    assert live.request_id


def test_a_server_that_is_not_there_replays_as_such(flavour: str, store: Path) -> None:
    with Provider() as provider:
        url = provider.url
    with nr.session(store, mode="record") as session, pytest.raises(openai.APIConnectionError) as live:
        call(flavour, url, chat())
    assert outcomes(session) == ["recorded"]
    with nr.session(store, mode="replay") as again, pytest.raises(openai.APIConnectionError) as replayed:
        call(flavour, url, chat())
    assert outcomes(again) == ["replayed"]
    assert type(replayed.value) is type(live.value)
    assert type(replayed.value.__cause__) is type(live.value.__cause__)
    assert str(replayed.value.__cause__) == str(live.value.__cause__)


def test_a_server_that_is_not_there_does_not_displace_a_good_take(flavour: str, store: Path) -> None:
    with Provider() as provider, nr.session(store, mode="record"):
        live = call(flavour, provider.url, chat())
    with nr.session(store, mode="record"), pytest.raises(openai.APIConnectionError):
        call(flavour, provider.url, chat())
    with nr.session(store, mode="auto"), pytest.raises(openai.APIConnectionError):
        assert call(flavour, provider.url, chat()) == live
        call(flavour, provider.url, chat())
    assert answers(store) == [live]


@pytest.mark.parametrize("status", [401, 403, 408, 409, 429, 500, 503])
def test_a_failure_does_not_displace_a_good_take(status: int, flavour: str, provider: Provider, store: Path) -> None:
    model = f"test/status=200,{status}"
    with nr.session(store, mode="record"):
        good = call(flavour, provider.url, chat(model=model))
    before = [recording.text() for recording in recordings(store)]
    with nr.session(store, mode="record") as session:
        assert failing(flavour, provider.url, model).status_code == status  # type: ignore[attr-defined]
    assert [recording.text() for recording in recordings(store)] == before
    assert [bool(item.note) for item in session.interactions] == [True], "and it is said"
    with nr.session(store, mode="replay"):
        assert call(flavour, provider.url, chat(model=model)) == good


def test_failures_go_in_front_of_the_good_take_that_follows_them(flavour: str, provider: Provider, store: Path) -> None:
    model = "test/status=200,429,500,200"
    with nr.session(store, mode="record"):
        call(flavour, provider.url, chat(model=model))
    with nr.session(store, mode="record"):
        failing(flavour, provider.url, model)
        failing(flavour, provider.url, model)
        good = call(flavour, provider.url, chat(model=model))
    assert answers(store) == [429, 500, good]
    with nr.session(store, mode="replay") as session:
        assert call(flavour, provider.url, chat(model=model), max_retries=2) == good
    assert outcomes(session) == ["replayed"] * 3


def test_a_failure_in_front_of_several_good_takes_is_kept_once(flavour: str, provider: Provider, store: Path) -> None:
    model = "test/status=200,429,200,200"
    with nr.session(store, mode="record"):
        call(flavour, provider.url, chat(model=model))
    with nr.session(store, mode="record"):
        failing(flavour, provider.url, model)
        first, second = (call(flavour, provider.url, chat(model=model)) for _ in range(2))
    assert first != second
    assert answers(store) == [429, first, second]
    with nr.session(store, mode="replay") as session:
        assert [call(flavour, provider.url, chat(model=model), max_retries=1) for _ in range(2)] == [first, second]
    assert outcomes(session) == ["replayed"] * 3


def test_auto_keeps_no_failure(flavour: str, provider: Provider, store: Path) -> None:
    model = "test/status=500,429,200"
    with nr.session(store, mode="auto") as session:
        failing(flavour, provider.url, model)
        failing(flavour, provider.url, model)
        assert not recordings(store)
        good = call(flavour, provider.url, chat(model=model))
    assert outcomes(session) == ["live", "live", "recorded"]
    assert answers(store) == [good]


def test_a_lasting_failure_is_kept_by_auto(flavour: str, provider: Provider, store: Path) -> None:
    model = "test/status=404"
    with nr.session(store, mode="auto"):
        failing(flavour, provider.url, model)
    with nr.session(store, mode="auto") as session:
        failing(flavour, provider.url, model)
    assert outcomes(session) == ["replayed"]
    assert provider.hits == 1


async def tool_steps(client: Any, steps: int = 3) -> list[Any]:
    """Run an agent's loop, whose later requests carry the ids of the tool calls in the answers before."""
    messages: list[Any] = said("What is the weather?")
    seen = []
    for step in range(steps):
        answer = await wait(
            client.chat.completions.create(model="test", messages=messages, tools=[TOOL], tool_choice="required")
        )
        (made,) = answer.choices[0].message.tool_calls
        seen.append((answer.id, made.id))
        arguments = {"name": made.function.name, "arguments": made.function.arguments}
        messages = [
            *messages,
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": made.id, "type": "function", "function": arguments}],
            },
            {"role": "tool", "tool_call_id": made.id, "content": f"sunny {step}"},
        ]
    return seen


async def response_steps(client: Any, steps: int = 3) -> list[Any]:
    """Run a conversation that the server holds: each request names the answer before."""
    seen: list[str] = []
    for step in range(steps):
        more = {"previous_response_id": seen[-1]} if seen else {}
        seen.append((await wait(client.responses.create(model="test", input=f"step {step}", **more))).id)
    return seen


async def streamed_response_steps(client: Any, steps: int = 3) -> list[Any]:
    seen: list[str] = []
    for step in range(steps):
        more = {"previous_response_id": seen[-1]} if seen else {}
        manager = client.responses.stream(model="test", input=f"step {step}", **more)
        if hasattr(manager, "__aenter__"):
            async with manager as stream:
                seen.append((await stream.get_final_response()).id)
        else:
            with manager as stream:
                seen.append(stream.get_final_response().id)
    return seen


async def file_steps(client: Any, steps: int = 3) -> list[Any]:
    """Upload a file, look at it (its id in the path), and ask about it (its id in the body)."""
    file = await wait(client.files.create(file=("a.txt", b"content"), purpose="user_data"))
    if steps == 1:
        return [file.id]
    seen = await wait(client.files.retrieve(file.id))
    content = [{"type": "input_file", "file_id": file.id}, {"type": "input_text", "text": "What is it?"}]
    answer = await wait(client.responses.create(model="test", input=[{"role": "user", "content": content}]))
    return [file.id, seen.id, answer.id]


@pytest.mark.parametrize("steps", [tool_steps, response_steps, streamed_response_steps, file_steps])
def test_recording_the_first_step_anew_leaves_the_others(
    steps: Any, flavour: str, provider: Provider, store: Path
) -> None:
    with nr.session(store, mode="record") as session:
        first = call(flavour, provider.url, steps)
    assert len({item.key for item in session.interactions}) == 3
    with nr.session(store, mode="record"):
        (anew,) = call(flavour, provider.url, lambda client: steps(client, 1))
    assert anew != first[0]
    hits = provider.hits
    with nr.session(store, mode="replay") as again:
        replayed = call(flavour, provider.url, steps)
    assert outcomes(again) == ["replayed"] * 3
    assert provider.hits == hits
    assert replayed[0] == anew, "replayed bytes keep the ids that they were recorded with"
    assert replayed[2] == first[2]
    assert [item.key for item in again.interactions] == [item.key for item in session.interactions]


def test_a_take_with_the_ids_that_were_asked_goes_first(provider: Provider, store: Path) -> None:
    """Two conversations that differ in their ids alone share their requests; each gets its own answers."""
    with nr.session(store, mode="record"):
        one, two = [call("sync", provider.url, tool_steps) for _ in range(2)]
    assert one != two
    with nr.session(store, mode="replay"):
        assert [call("sync", provider.url, tool_steps) for _ in range(2)] == [one, two]

    def second_step(made: str) -> str:
        function = {"name": "get_weather", "arguments": '{"city":"Tokyo"}'}
        messages = [
            *said("What is the weather?"),
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": made, "type": "function", "function": function}],
            },
            {"role": "tool", "tool_call_id": made, "content": "sunny 0"},
        ]
        with sdk("sync", provider.url) as client:
            return str(
                client.chat.completions.create(model="test", messages=messages, tools=[TOOL], tool_choice="required").id
            )

    with nr.session(store, mode="replay"):
        assert second_step(two[0][1]) == two[1][0], "though it is the second in the file"
        assert second_step(one[0][1]) == one[1][0]


def test_an_id_that_nobody_issued_stays_as_it_is(provider: Provider, store: Path) -> None:
    def asked(identity: str) -> Any:
        with sdk("sync", provider.url) as client:
            return client.responses.create(model="test", input="on", previous_response_id=identity).id

    with nr.session(store, mode="record"):
        asked("resp_from_elsewhere_1")
    with nr.session(store, mode="replay"), pytest.raises(nr.RecordingMissing):
        asked("resp_from_elsewhere_2")
