"""No key is written, wherever it stood in a call or its answer; and whose key it was does not change a request."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

import nbreplay as nr
from tests.clients import call, chat, entered, items, outcomes, plain, recordings, said, sdk, takes, wait
from tests.provider import Provider

# Put together here, so that no scanner takes this file for a leak.
OPENAI = "sk-" + "proj-" + "Ab3dEf6hIj9lMn2pQr5tUv8x"
OPENAI_2 = "sk-" + "proj-" + "Zy9xWv6uTs3rQp0oNm7lKj4i"
ANTHROPIC = "sk-" + "ant-" + "api03-Qw3rTy6uIo9pAs2dFg5hJk8l"
GOOGLE = "AI" + "za" + "SyD3fG6hJ9kL2mN5pQ8rS1tU4vW7xY0zA"
GITHUB = "gh" + "p_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
AWS = "AK" + "IA" + "IOSFODNN7ABCDEFG"
PLAIN = "a-token-" + "that-looks-like-words"
ODD = "p@ss/" + 'word+with=odd&signs%"é'
KEYS = {
    "openai": OPENAI,
    "anthropic": ANTHROPIC,
    "google": GOOGLE,
    "github": GITHUB,
    "aws": AWS,
}


def forms(secret: str) -> set[bytes]:
    """Return all the ways in which a secret may be written into a file."""
    texts = {
        secret,
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        json.dumps(json.dumps(secret))[3:-3],
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
    }
    return {text.encode() for text in texts} | {base64.b64encode(secret.encode()).rstrip(b"=")}


def assert_clean(store: Path, *secrets: str) -> None:
    """Look through every byte of a store, the names of its files included."""
    paths = [path for path in store.rglob("*") if path.is_file()]
    assert recordings(store), "there is something to look through"
    for secret in secrets:
        for form in forms(secret):
            for path in paths:
                assert form not in path.read_bytes(), (path.name, secret)
                assert form not in str(path).encode(), (path.name, secret)


def recorded(store: Path, flavour: str, url: str, operation: Any, *given: Any, **options: Any) -> Any:
    """Return what `operation` gives while it is recorded, having seen that a replay finds it again."""
    with nr.session(store, mode="record"):
        live = call(flavour, url, operation, *given, **options)
    with nr.session(store, mode="replay") as session:
        call(flavour, url, operation, *given, **options)
    assert set(outcomes(session)) == {"replayed"}
    with nr.session(store, mode="auto") as session:
        call(flavour, url, operation, *given, **options)
    assert set(outcomes(session)) == {"replayed"}
    return live


async def echo_stream(client: Any) -> str:
    made = await wait(client.chat.completions.create(model="test/echo-key", messages=said("hi"), stream=True))
    return "".join([chunk.choices[0].delta.content or "" async for chunk in items(made)])


@pytest.mark.parametrize("secret", [OPENAI, PLAIN, ANTHROPIC])
@pytest.mark.parametrize("operation", [chat(model="test/echo-key"), echo_stream])
def test_the_key_of_the_client(operation: Any, secret: str, flavour: str, provider: Provider, store: Path) -> None:
    """It goes in the Authorization header, and comes back in the answer."""
    live = recorded(store, flavour, provider.url, operation, api_key=secret)
    assert secret in live, "the caller has it all"
    assert_clean(store, secret)
    (take,) = takes(store)
    assert take.redacted >= 1


@pytest.mark.parametrize("header", ["x-api-key", "api-key", "x-goog-api-key", "Authorization", "Cookie"])
def test_keys_in_headers(header: str, flavour: str, provider: Provider, store: Path) -> None:
    async def operation(client: Any) -> Any:
        answer = await wait(
            client.post(
                "/chat/completions",
                json={"model": "test/echo-key", "messages": said("hi")},
                headers={header: PLAIN},
            )
        )
        return answer.text

    recorded(store, flavour, provider.url, operation, plain)
    assert_clean(store, PLAIN, "secret-cookie=abc")


def test_a_name_and_password_in_the_address(flavour: str, provider: Provider, store: Path) -> None:
    url = provider.url.replace("http://", "http://someone:" + PLAIN + "@")

    async def operation(client: Any) -> Any:
        await wait(client.post("/chat/completions", json={"model": "test/echo-key", "messages": said("hi")}))

    recorded(store, flavour, url, operation, plain)
    token = base64.b64encode(f"someone:{PLAIN}".encode()).decode()
    assert_clean(store, PLAIN, token)


@pytest.mark.parametrize("name", ["key", "api_key", "access_token", "sig"])
@pytest.mark.parametrize("secret", [GOOGLE, PLAIN, "zq9x!"], ids=["pattern", "plain", "short"])
def test_keys_in_the_query(name: str, secret: str, flavour: str, provider: Provider, store: Path) -> None:
    async def operation(client: Any) -> None:
        asked = {"model": "test", "messages": said("hi")}
        await wait(client.get("/nothing-here", params={name: secret, "page": "1"}))
        await wait(client.post("/chat/completions", params={name: secret}, json=asked))

    recorded(store, flavour, provider.url, operation, plain)
    assert_clean(store, secret)


@pytest.mark.parametrize("secret", [GOOGLE, PLAIN], ids=["pattern", "plain"])
def test_keys_of_the_query_in_the_answer(secret: str, flavour: str, provider: Provider, store: Path) -> None:
    """As in the address of the next page."""

    async def operation(client: Any) -> Any:
        return (await wait(client.get("/echo", params={"api_key": secret, "page": "1"}))).text

    assert secret in recorded(store, flavour, provider.url, operation, plain)
    assert_clean(store, secret)


async def in_a_message(c: Any, secret: str) -> None:
    asked = {"model": "test", "messages": said(f"use {secret} to log in"), "metadata": {"secret": secret}}
    await wait(c.post("/chat/completions", json=asked))


async def in_a_stream(c: Any, secret: str) -> None:
    asked = {"model": "test", "messages": said(f"use {secret} to log in"), "stream": True}
    await wait(c.post("/chat/completions", json=asked))


async def in_json_in_json(c: Any, secret: str) -> None:
    await wait(c.post("/echo", json={"arguments": json.dumps({"password": secret})}))
    await wait(c.post("/echo", json={"arguments": json.dumps({"password": secret}, ensure_ascii=False)}))


async def in_json_in_json_that_is_answered(c: Any, secret: str) -> None:
    text = json.dumps({"password": secret}, ensure_ascii=False)
    await wait(c.post("/chat/completions", json={"model": "test", "messages": said(text)}))


async def in_a_query(c: Any, secret: str) -> None:
    await wait(c.post("/chat/completions", params={"q": secret}, json={"model": "test", "messages": said("hello")}))


async def in_a_query_that_is_answered(c: Any, secret: str) -> None:
    await wait(c.get("/echo", params={"q": secret}))


async def in_a_path(c: Any, secret: str) -> None:
    await wait(c.get(f"/nothing-here/{quote(secret, safe='')}/more"))


async def in_a_form(c: Any, secret: str) -> None:
    await wait(c.post("/echo", data={"q": secret}))


async def in_text(c: Any, secret: str) -> None:
    await wait(c.post("/echo", content=f"plain text with {secret}"))


PLACES = [
    *(in_a_message, in_a_stream, in_json_in_json, in_json_in_json_that_is_answered, in_a_query),
    *(in_a_query_that_is_answered, in_a_path, in_a_form, in_text),
]


@pytest.mark.parametrize("secret", [PLAIN, ODD], ids=["plain", "odd"])
@pytest.mark.parametrize("place", PLACES)
def test_values_of_the_environment(
    place: Any, secret: str, provider: Provider, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known by the variable's name alone; an odd one is written in other letters in each of these places."""
    monkeypatch.setenv("MY_SERVICE_TOKEN", secret)
    recorded(store, "sync", provider.url, lambda client: place(client, secret), plain)
    assert_clean(store, secret)


@pytest.mark.parametrize("name", ["MY_TOKEN", "DATABASE_PASSWORD", "SOME_API_KEY", "CLIENT_SECRET", "AWS_ACCESS_KEY"])
def test_names_of_secret_variables(
    name: str, flavour: str, provider: Provider, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, PLAIN)
    recorded(store, flavour, provider.url, chat(f"use {PLAIN} to log in"))
    assert_clean(store, PLAIN)


def messages_with(secret: str) -> list[Any]:
    arguments = json.dumps({"header": f"Bearer {secret}", "key": secret})
    return [
        {"role": "system", "content": f"The key is {secret}."},
        {"role": "user", "content": [{"type": "text", "text": f"Log in with {secret}"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "login", "arguments": arguments}}],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": f"logged in with {secret}, token={secret}"},
        {"role": "user", "content": f"Again, {secret}"},
    ]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", KEYS)
def test_keys_in_messages_and_arguments(name: str, stream: bool, flavour: str, provider: Provider, store: Path) -> None:
    secret = KEYS[name]

    async def operation(client: Any) -> str:
        made = await wait(client.chat.completions.create(model="test", messages=messages_with(secret), stream=stream))
        if not stream:
            return str(made.choices[0].message.content)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in items(made)])

    live = recorded(store, flavour, provider.url, operation)
    assert secret in live
    assert_clean(store, secret)
    (recording,) = recordings(store)
    assert "[secret:1]" in json.dumps(recording.request)


@pytest.mark.parametrize(
    ("one", "other"),
    [(OPENAI, OPENAI_2), (OPENAI, ANTHROPIC), (GITHUB, GITHUB[:-4] + "zzzz"), (AWS, AWS[:-4] + "QQQQ")],
)
def test_whose_key_it_was_does_not_matter(one: str, other: str, provider: Provider, store: Path) -> None:
    def asked(secret: str) -> Any:
        with sdk("sync", provider.url, api_key=secret) as client:
            return client.chat.completions.create(model="test", messages=messages_with(secret)).id

    with nr.session(store, mode="record") as session:
        live = asked(one)
    with nr.session(store, mode="replay") as again:
        assert asked(other) == live
    assert session.interactions[0].key == again.interactions[0].key


def test_whose_environment_it_was_does_not_matter(
    provider: Provider, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(secret: str) -> Any:
        monkeypatch.setenv("MY_SERVICE_TOKEN", secret)
        with sdk("sync", provider.url) as client:
            return client.chat.completions.create(model="test", messages=messages_with(secret)).id

    monkeypatch.setenv("MY_SERVICE_TOKEN", PLAIN)
    with nr.session(store, mode="record"):
        live = asked(PLAIN)
    monkeypatch.setenv("MY_SERVICE_TOKEN", PLAIN[::-1])
    with nr.session(store, mode="replay"):
        assert asked(PLAIN[::-1]) == live
    assert_clean(store, PLAIN)


def test_the_token_of_the_call_in_its_own_body(flavour: str, provider: Provider, store: Path) -> None:
    """A token that looks like nothing is known by the header that it is in, in every mode alike."""
    recorded(store, flavour, provider.url, chat(f"my token is {PLAIN}"), api_key=PLAIN)
    assert_clean(store, PLAIN)
    assert len(takes(store)) == 1


def test_two_keys_are_told_apart(provider: Provider, store: Path) -> None:
    with nr.session(store, mode="record") as session:
        call("sync", provider.url, chat(f"{OPENAI} {GITHUB} {OPENAI}"))
        call("sync", provider.url, chat(f"{OPENAI} {OPENAI} {GITHUB}"))
    assert len({item.key for item in session.interactions}) == 2
    assert_clean(store, OPENAI, GITHUB)


def test_a_key_that_is_spread_over_many_chunks(flavour: str, provider: Provider, store: Path) -> None:
    """As models send it: a few letters at a time. Joining the recorded pieces must not give the key either."""
    secret = OPENAI
    schema = {"type": "object", "properties": {"key": {"const": secret}}}
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}

    async def operation(client: Any) -> str:
        made = await wait(
            client.chat.completions.create(model="test", messages=said("hi"), response_format=form, stream=True)
        )
        return "".join([chunk.choices[0].delta.content or "" async for chunk in items(made)])

    live = recorded(store, flavour, provider.url, operation)
    assert secret in live
    assert_clean(store, secret)
    with nr.session(store, mode="replay"):
        replayed = call(flavour, provider.url, operation)
    assert secret not in replayed
    assert "[secret:" in replayed


def joined(node: Any, into: dict[tuple[Any, ...], str], path: tuple[Any, ...] = ()) -> None:
    """Join the texts of events, those of one place and one item with each other."""
    if isinstance(node, dict):
        index = node.get("index", node.get("output_index"))
        for name, item in node.items():
            joined(item, into, (*path, index, name))
    elif isinstance(node, list):
        for item in node:
            joined(item, into, path)
    elif isinstance(node, str):
        into[path] = into.get(path, "") + node


FORM = {"type": "object", "properties": {"key": {"const": OPENAI}, "other": {"const": GITHUB}}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "n", "schema": FORM}}
FUNCTION = {"type": "function", "function": {"name": "login", "parameters": FORM}}
SPREAD = {
    "chat": ("/chat/completions", {"messages": said("hi"), "response_format": SCHEMA}),
    "choices": ("/chat/completions", {"messages": said("hi"), "response_format": SCHEMA, "n": 2}),
    "arguments": ("/chat/completions", {"messages": said("hi"), "tools": [FUNCTION], "tool_choice": "required"}),
    "response": ("/responses", {"input": "hi", "text": {"format": {"type": "json_schema", "schema": FORM}}}),
    "message": ("/messages", {"messages": said("hi"), "response_format": SCHEMA}),
    "ollama": ("/api/chat", {"messages": said("hi"), "response_format": SCHEMA}),
}


@pytest.mark.parametrize("style", ["", "spaced", "ascii", "crlf"])
@pytest.mark.parametrize("kind", SPREAD)
def test_keys_that_are_spread_in_streams_of_every_kind(kind: str, style: str, provider: Provider, store: Path) -> None:
    path, body = SPREAD[kind]

    async def operation(client: Any) -> bytes:
        answer = await wait(client.post(path, json={"model": f"test/{style}", "stream": True, **body}))
        return bytes(answer.content)

    def texts(data: bytes) -> str:
        into: dict[tuple[Any, ...], str] = {}
        for line in data.decode().splitlines():
            text = line.removeprefix("data:").strip()
            if text.startswith("{"):
                joined(json.loads(text), into)
        return "\n".join(into.values())

    live = recorded(store, "sync", provider.url, operation, plain)
    assert OPENAI in texts(live)
    assert GITHUB in texts(live)
    assert_clean(store, OPENAI, GITHUB)
    with nr.session(store, mode="replay"):
        replayed = texts(call("sync", provider.url, operation, plain))
    assert OPENAI not in replayed
    assert GITHUB not in replayed


def test_values_of_the_environment_that_are_spread_over_two_choices(
    provider: Provider, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their pieces come by turns, so that the value stands nowhere in the order of arrival."""
    monkeypatch.setenv("MY_SERVICE_TOKEN", PLAIN)
    form = {"type": "object", "properties": {"key": {"const": PLAIN}}}
    schema = {"type": "json_schema", "json_schema": {"name": "n", "schema": form}}

    async def operation(client: Any) -> list[str]:
        messages, texts = said("hi"), ["", ""]
        for chunk in client.chat.completions.create(
            model="test", messages=messages, response_format=schema, stream=True, n=2
        ):
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
        return texts

    live = recorded(store, "sync", provider.url, operation)
    assert all(PLAIN in text for text in live)
    with nr.session(store, mode="replay"):
        replayed = call("sync", provider.url, operation)
    assert not any(PLAIN in text for text in replayed)


def test_a_form_with_a_file(flavour: str, provider: Provider, store: Path) -> None:
    """Small and large, text and not; in a field, and in the name of the file."""
    small, large = f"key: {OPENAI}\n".encode(), f"key: {OPENAI}\n".encode() * 500
    binary = b"\x00\xff" + OPENAI.encode() + b"\xfe"

    async def operation(client: Any) -> None:
        for name, content in (("a.txt", small), ("b.txt", large), ("c.bin", binary), (f"{GITHUB}.txt", b"content")):
            await wait(client.files.create(file=(name, content), purpose="assistants"))
        await wait(client.audio.transcriptions.create(model="test", file=("a.wav", binary), prompt=f"it is {AWS}"))

    recorded(store, flavour, provider.url, operation)
    assert_clean(store, OPENAI, GITHUB, AWS)


@pytest.mark.parametrize("kind", ["application/octet-stream", "image/png", "text/plain; charset=latin-1", ""])
def test_binary_requests_and_answers(kind: str, flavour: str, provider: Provider, store: Path) -> None:
    content = b"\x89PNG\x00\xff" + OPENAI.encode() + b"\x00\xfe" + GITHUB.encode()
    provider.kept["/leak"] = content, kind, {}

    async def operation(client: Any) -> Any:
        await wait(client.post("/echo", content=content))
        return (await wait(client.get("/leak"))).content

    assert recorded(store, flavour, provider.url, operation, plain) == content
    assert_clean(store, OPENAI, GITHUB)


def test_large_answers(provider: Provider, store: Path) -> None:
    """Which lie in a file of their own."""
    content = json.dumps({"filling": "x" * (2 << 20), "key": OPENAI}).encode()
    provider.kept["/leak"] = content, "application/json", {}

    async def operation(client: Any) -> Any:
        return (await wait(client.get("/leak"))).content

    assert recorded(store, "sync", provider.url, operation, plain) == content
    assert any(path.name.startswith("blob-") for path in store.iterdir())
    assert_clean(store, OPENAI)


@pytest.mark.parametrize("coding", ["", "gzip"])
def test_answers_of_every_kind(coding: str, flavour: str, provider: Provider, store: Path) -> None:
    import gzip

    texts = {
        "/json": (json.dumps({"api_key": OPENAI, GITHUB: {"nested": json.dumps({"key": AWS})}}), "application/json"),
        "/text": (f"AWS {AWS} and {GITHUB}", "text/plain"),
        "/html": (f"<a href='https://x.example/?key={GOOGLE}'>", "text/html"),
        "/lines": (f'{{"a": "{OPENAI}"}}\n{{"b": "{GITHUB}"}}\n', "application/x-ndjson"),
        "/events": (f'data: {{"a": "{OPENAI}"}}\n\nevent: {GITHUB}\ndata: {AWS}\n\n', "text/event-stream"),
    }
    for path, (text, kind) in texts.items():
        data = gzip.compress(text.encode()) if coding else text.encode()
        provider.kept[path] = data, kind, {"content-encoding": coding} if coding else {}

    async def operation(client: Any) -> Any:
        return [(await wait(client.get(path))).text for path in texts]

    assert recorded(store, flavour, provider.url, operation, plain) == [text for text, _ in texts.values()]
    assert_clean(store, OPENAI, GITHUB, AWS, GOOGLE)


def test_headers_of_the_answer(flavour: str, provider: Provider, store: Path) -> None:
    location = f"https://storage.example/file?X-Amz-Signature={PLAIN}&token={GITHUB}"
    provider.kept["/moved"] = b"moved", "text/plain", {"location": location, "x-request-id": OPENAI, "x-other": AWS}

    async def operation(client: Any) -> Any:
        return (await wait(client.get("/moved"))).headers["location"]

    assert recorded(store, flavour, provider.url, operation, plain) == location
    assert_clean(store, PLAIN, GITHUB, OPENAI, AWS)


def test_failures(flavour: str, provider: Provider, store: Path) -> None:
    """A server that says which key it did not take; a connection that fails for an address with a key."""

    async def operation(client: Any) -> None:
        asked = {"model": "test/status=401", "messages": said(f"key {OPENAI}")}
        await wait(client.post("/chat/completions", json=asked))

    recorded(store, flavour, provider.url, operation, plain)
    assert_clean(store, OPENAI)


def test_a_stream_that_was_cut(flavour: str, provider: Provider, store: Path) -> None:
    async def operation(client: Any) -> None:
        asked = {"model": "test/drop=9+words=30+echo-key", "stream": True, "messages": said(f"key {OPENAI} there")}
        try:
            async with entered(client.stream("POST", "/chat/completions", json=asked)) as answer:
                async for _ in items(answer.iter_bytes() if flavour == "sync" else answer.aiter_bytes()):
                    pass
        except Exception:
            return

    with nr.session(store, mode="record"):
        call(flavour, provider.url, operation, plain)
    assert takes(store)[0].reason == "dropped"
    assert_clean(store, OPENAI)


def test_what_is_said_about_a_miss(provider: Provider, store: Path) -> None:
    """It goes into notebooks and logs of CI."""
    with nr.session(store, mode="record"):
        call("sync", provider.url, chat(f"use {OPENAI} please", temperature=0.5))

    async def by_query(client: Any) -> Any:
        return await wait(client.get(f"/echo/{GITHUB}", params={"key": PLAIN}))

    with nr.session(store, mode="replay") as session:
        with pytest.raises(nr.RecordingMissing):
            call("sync", provider.url, chat(f"use {OPENAI} please", temperature=0.75), api_key=PLAIN)
        with pytest.raises(nr.RecordingMissing):
            call("sync", provider.url, by_query, plain)
    for item in session.interactions:
        for secret in (OPENAI, PLAIN, GITHUB):
            assert secret not in item.note
            assert secret not in repr(item.request)


def test_words_that_look_a_little_like_keys_stay(provider: Provider, store: Path) -> None:
    text = "a risk-free sk-learn task, the token count, ghp, AKIA, a password, key=value, sk-1, and basic auth"
    with nr.session(store, mode="record"):
        live = call("sync", provider.url, chat(text))
    with nr.session(store, mode="replay"):
        assert call("sync", provider.url, chat(text)) == live
    assert text in live
    assert takes(store)[0].redacted == 0
