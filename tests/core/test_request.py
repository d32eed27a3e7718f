"""What identifies a request, and what does not: keys, endpoints, ids, --ignore and --mask."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from nbreplay.core.request.endpoints import KINDS, route_of
from nbreplay.core.request.key import canonical, key_of, read_plain
from nbreplay.core.request.request import Call, request_of
from nbreplay.core.request.rules import Normaliser
from nbreplay.core.secrets.redact import PLACEHOLDER, UNREDACTED, Redactor
from nbreplay.errors import OptionError
from tests.core.making import LOCAL, OPENAI, call, chat, json_values, request

SECRET = "sk-" + "aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY"
OTHER = "sk-" + "zZ3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY"


def key(given: Call, **options: Any) -> str:
    return request(given, **options).key


# The key.


def test_a_key_is_the_hash_of_the_canonical_request_and_will_stay_so() -> None:
    given = call({"model": "gpt-4o", "messages": [{"role": "user", "content": "Grüße"}], "temperature": 0.0})
    made = request(given)
    text = (
        '["chat",{"body":{"messages":[{"content":"Gr\\u00fc\\u00dfe","role":"user"}],"model":"gpt-4o","temperature":0.0},'
        '"endpoint":"chat/completions","method":"POST"}]'
    )
    assert canonical(made.kind, made.fields) == text.encode()
    assert made.key == "k1:" + hashlib.sha256(text.encode()).hexdigest()
    # Whoever changes what is keyed orphans every recording there is: then the prefix has to change, too.
    assert made.key == "k1:08ac56228caac2785160478e9905efc0772bba4b49b2437760937115b28db116"


def shuffled(node: Any) -> Any:
    if isinstance(node, dict):
        return {name: shuffled(node[name]) for name in reversed(list(node))}
    return [shuffled(item) for item in node] if isinstance(node, list) else node


@given(st.dictionaries(st.text(), json_values | st.floats(allow_nan=False, allow_infinity=False), max_size=5))
def test_the_canonical_text_is_that_of_the_standard_library(body: dict[str, Any]) -> None:
    text = json.dumps(["chat", {"body": body}], sort_keys=True, separators=(",", ":"))
    assert canonical("chat", {"body": body}).decode() == text


@given(st.dictionaries(st.text(), json_values, max_size=5))
def test_the_order_of_names_and_the_spelling_of_json_do_not_matter(body: dict[str, Any]) -> None:
    spellings = [
        json.dumps(body),
        json.dumps(body, indent=1, ensure_ascii=False),
        json.dumps(shuffled(body), separators=(",", ":")),
    ]
    assert len({key(call(raw=text.encode())) for text in spellings}) == 1


@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_what_is_stored_is_all_that_a_key_needs(body: dict[str, Any]) -> None:
    for given_ in (call(body), call(body, path="/hook?a=1&a=2")):
        made = request(given_)
        assert key_of(made.kind, json.loads(json.dumps(made.fields))) == made.key


@given(json_values, st.text())
@example([1e16, 1e-5, 0.0001, -0.0, 1.5e300, 5e-324, 123456789012345680.0, 9999999999999998.0, 2**70], "")
@example({"a": "\x7f\x00\u2028\U0001f642/"}, "")
@example("\x7f", "")
@example("a", "\ud800")
@example({"b": {"\x00": 1, '"': 2, "B": 3}, "B": None}, "")
def test_the_fast_way_to_make_a_key_makes_the_same(value: Any, path: str) -> None:
    fields = {"method": "POST", "path": path, "body": value}
    try:
        fields["body"] = read_plain(json.dumps(value).encode())
    except msgspec.MsgspecError:
        return
    assert key_of("http", fields, plain=True) == key_of("http", fields)
    assert key_of("http", fields) == "k1:" + hashlib.sha256(canonical("http", fields)).hexdigest()


@pytest.mark.parametrize("number", ["1e16", "-1.5E+300", "0.00001", "9.9e-5", "1e999", "NaN"])
def test_a_number_that_is_not_written_alike_everywhere_is_keyed_the_slow_way(number: str) -> None:
    with pytest.raises(msgspec.MsgspecError):
        read_plain(f'[{{"seed": {number}}}]'.encode())


def test_the_fast_way_is_taken_for_what_is_sent_to_models(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {text: key(call({"messages": [{"role": "user", "content": text}], "top_p": 0.1})) for text in ("Hi", "Hé")}
    monkeypatch.setattr("nbreplay.core.request.key.canonical", lambda *_: b"the slow way")
    made = {text: key(call({"messages": [{"role": "user", "content": text}], "top_p": 0.1})) for text in wanted}
    assert made["Hi"] == wanted["Hi"]
    assert made["Hé"] != wanted["Hé"]


@pytest.mark.parametrize("length", [0, 1000, 1010, 1023, 1024, 5000])
def test_a_key_is_the_hash_whatever_the_length(length: int) -> None:
    fields = {"body": "x" * length}
    assert key_of("chat", fields) == "k1:" + hashlib.sha256(canonical("chat", fields)).hexdigest()


def leaves(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    found = False
    for name, item in inner:
        found = True
        yield from leaves(item, (*path, name))
    if not found:
        yield path


@given(st.dictionaries(st.text(), json_values, min_size=1, max_size=4), json_values, st.data())
def test_every_leaf_matters(body: dict[str, Any], value: Any, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(list(leaves(body))))
    other = copy.deepcopy(body)
    node = other
    for step in path[:-1]:
        node = node[step]
    # As JSON: 1, 1.0 and true are equal to Python, and three requests.
    assume(json.dumps(node[path[-1]]) != json.dumps(value))
    node[path[-1]] = value
    assert key(call(body)) != key(call(other))


def test_nothing_is_rounded_and_no_white_space_folded() -> None:
    bodies: list[dict[str, Any]] = [{"temperature": 0.7}, {"temperature": 0.70000001}, {"temperature": "0.7"}]
    bodies += [{"n": 1}, {"n": 1.0}, {"n": True}, {"n": "1"}, {"n": None}, {}, {"n": []}, {"n": {}}, {"n": ""}]
    texts = ("a b", "a  b", "a\tb", "a b ", " a b", "a\nb", "A b", "a\u00a0b", "e\u0301", "\u00e9")
    keys = {key(call({"model": "m", **body})) for body in bodies} | {key(chat(text)) for text in texts}
    assert len(keys) == len(bodies) + len(texts)


def test_the_order_of_a_list_matters() -> None:
    assert key(call({"stop": ["a", "b"]})) != key(call({"stop": ["b", "a"]}))


# Where a request goes.


def test_inference_calls_are_the_same_whatever_stands_before_their_endpoint() -> None:
    places = [
        (OPENAI, "/v1/chat/completions"),
        (LOCAL, "/v1/chat/completions"),
        (LOCAL, "/chat/completions"),
        ("openrouter.ai", "/api/v1/chat/completions"),
        ("gateway.example.com", "/team/a/v1/openai/chat/completions"),
        ("x.openai.azure.com", "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"),
    ]
    assert len({key(chat(host=host, path=path)) for host, path in places}) == 1


def test_other_http_is_identified_by_method_host_path_query_and_body() -> None:
    calls = [
        call(host="a.example.com", path="/x", method="GET"),
        call(host="b.example.com", path="/x", method="GET"),
        call(host="b.example.com:8443", path="/x", method="GET"),
        call(host="a.example.com", path="/y", method="GET"),
        call(host="a.example.com", path="/x/", method="GET"),
        call(host="a.example.com", path="/x?a=1", method="GET"),
        call(host="a.example.com", path="/x?a=2", method="GET"),
        call(host="a.example.com", path="/x?a=", method="GET"),
        call(host="a.example.com", path="/x?b=", method="GET"),
        call(host="a.example.com", path="/x?a=1&a=2", method="GET"),
        call(host="a.example.com", path="/x?a=2&a=1", method="GET"),
        call(host="a.example.com", path="/x", method="HEAD"),
        call(host="a.example.com", path="/x", method="POST"),
        call({}, host="a.example.com", path="/x"),
        call(raw=b"{} ", kind="text/plain", host="a.example.com", path="/x"),
        call(raw=b"text", kind="text/plain", host="a.example.com", path="/x"),
        call(raw=b"\xff\xfe", kind="application/octet-stream", host="a.example.com", path="/x"),
        call(raw=b"\xff\xff", kind="application/octet-stream", host="a.example.com", path="/x"),
        call(raw=b"a=1&b=2", kind="application/x-www-form-urlencoded", host="a.example.com", path="/x"),
        call(raw=b"b=2&a=1", kind="application/x-www-form-urlencoded", host="a.example.com", path="/x"),
    ]
    keys = [key(each) for each in calls]
    assert len(set(keys)) == len(calls) - 1
    assert keys[13] == keys[14], "JSON is JSON, whatever its content type says"
    assert {request(each).kind for each in calls} == {"http"}


def test_the_query_of_a_list_counts() -> None:
    pages = [call(path=f"/v1/models{query}", method="GET") for query in ("", "?after=a", "?after=b")]
    assert len({key(page) for page in pages}) == 3
    assert request(pages[1]).fields["endpoint"] == "models"


@pytest.mark.parametrize(
    ("path", "with_model", "kind", "endpoint"),
    [
        ("/v1/chat/completions", True, "chat", "chat/completions"),
        ("/v1/chat/completions/", True, "chat", "chat/completions"),
        ("/v1/chat/completions/chatcmpl-1", False, "chat", "chat/completions/chatcmpl-1"),
        ("/v1/completions", True, "completion", "completions"),
        ("/v1/embeddings", True, "embedding", "embeddings"),
        ("/v1/responses", True, "response", "responses"),
        ("/v1/responses/resp_1", False, "response", "responses/resp_1"),
        ("/v1/responses/resp_1/input_items", False, "response", "responses/resp_1/input_items"),
        ("/v1/messages", True, "message", "messages"),
        ("/v1/messages/count_tokens", True, "message", "messages/count_tokens"),
        ("/v1/images/generations", True, "image", "images/generations"),
        ("/v1/audio/speech", True, "audio", "audio/speech"),
        ("/v1/audio/transcriptions", False, "audio", "audio/transcriptions"),
        ("/v1/moderations", True, "moderation", "moderations"),
        (
            "/v1beta/models/gemini-2.5-pro:streamGenerateContent",
            False,
            "generate",
            "models/gemini-2.5-pro:streamGenerateContent",
        ),
        ("/v1beta/models/gemini-2.5-pro:generateContent", False, "generate", "models/gemini-2.5-pro:generateContent"),
        (
            "/v1/projects/p/locations/l/publishers/google/models/g:generateContent",
            False,
            "generate",
            "models/g:generateContent",
        ),
        ("/v1beta/models/e:embedContent", False, "embedding", "models/e:embedContent"),
        ("/v1beta/models/g:countTokens", False, "count", "models/g:countTokens"),
        (
            "/model/anthropic.claude-v2%3A1/converse-stream",
            False,
            "converse",
            "model/anthropic.claude-v2%3A1/converse-stream",
        ),
        ("/model/ID/converse", False, "converse", "model/ID/converse"),
        ("/api/chat", True, "chat", "api/chat"),
        ("/api/generate", True, "completion", "api/generate"),
        ("/api/embed", True, "embedding", "api/embed"),
        ("/api/tags", False, "model", "api/tags"),
        ("/v2/chat", True, "chat", "v2/chat"),
        ("/v1/models", False, "model", "models"),
        ("/v1/models/gpt-4o", False, "model", "models/gpt-4o"),
        ("/v1/files", False, "file", "files"),
        ("/v1/vector_stores/vs_1/files", False, "file", "vector_stores/vs_1/files"),
    ],
)
def test_endpoints_are_recognised(path: str, with_model: bool, kind: str, endpoint: str) -> None:
    for prefix in ("", "/gateway/a-b"):
        assert route_of("", prefix + path).kinds[with_model] == (kind, endpoint)
    assert kind in KINDS


@pytest.mark.parametrize(
    ("path", "with_model"),
    [
        ("/", True),
        ("/messages", False),
        ("/responses", False),
        ("/completions", False),
        ("/embeddings", False),
        ("/api/chat", False),
        ("/my-chat/completions.html", True),
        ("/v1/messages/extra", True),
        ("/car/models", False),
        ("/files/data.csv", False),
        ("/v1/chat", False),
        ("/datasets/v1/models.csv", False),
        ("/xchat/completions", False),
        ("/v1/search", True),
    ],
)
def test_what_any_web_service_may_call_so_is_plain_http(path: str, with_model: bool) -> None:
    assert route_of("", path).kinds[with_model] is None


def test_tools_and_plain_http_are_kinds() -> None:
    assert {"http", "tool", "chat", "response", "message", "embedding"} <= set(KINDS)
    assert list(KINDS) == sorted(KINDS)


def test_a_request_tells_its_model() -> None:
    assert request(chat()).model == "gpt-4o"
    assert request(call({}, path="/v1beta/models/gemini-2.5-pro:generateContent")).model == "gemini-2.5-pro"
    assert request(call({}, path="/hook")).model == ""


# Bodies that are no JSON.


def form(boundary: str, *, content: bytes = b"\x00\x01\xff", name: str = "a.wav", model: str = "whisper-1") -> Call:
    body = (
        (
            f'--{boundary}\r\nContent-Disposition: form-data; name="model"\r\n\r\n{model}\r\n'
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
            "Content-Type: audio/wav\r\n\r\n"
        ).encode()
        + content
        + f"\r\n--{boundary}--\r\n".encode()
    )
    return call(raw=body, kind=f"multipart/form-data; boundary={boundary}", path="/v1/audio/transcriptions")


def test_a_form_is_keyed_by_its_parts_and_not_by_its_boundary() -> None:
    made = request(form("aaaaaaaa"))
    assert made.key == request(form("bbbbbbbb")).key
    assert [part["name"] for part in made.fields["parts"]] == ["model", "file"]
    assert made.fields["parts"][0]["text"] == "whisper-1"
    assert "aaaaaaaa" not in json.dumps(made.fields)
    others = [
        form("a" * 8, content=b"\x00\x02\xff"),
        form("a" * 8, name="b.wav"),
        form("a" * 8, model="other"),
        form("a" * 8, content=b"\xff" * 9000),
        form("a" * 8, content=b"a text"),
        form("a" * 8, content=b"\x00\x01\xff\r\n"),
    ]
    assert len({made.key} | {key(other) for other in others}) == 7


def test_a_long_part_of_a_form_is_stored_by_its_digest() -> None:
    made = request(form("a" * 8, content=b"a text " * 5000))
    assert made.fields["parts"][1]["digest"].startswith("sha256:")
    assert len(json.dumps(made.fields)) < 1000


def test_what_is_no_json_is_text_and_what_is_no_text_a_digest() -> None:
    assert request(call(raw=b'{"a": NaN}', path="/x")).fields["text"] == '{"a": NaN}'
    assert request(call(raw=b"{broken", path="/x")).fields["text"] == "{broken"
    digest = request(call(raw=b"\xff\x00", kind="application/octet-stream", path="/x")).fields["digest"]
    assert digest.startswith("sha256:" + hashlib.sha256(b"\xff\x00").hexdigest())


@pytest.mark.parametrize("depth", [400, 950, 20_000])
def test_a_deeply_nested_body_has_a_key(depth: int) -> None:
    deep = call(raw=('{"id":' * depth + json.dumps(SECRET) + "}" * depth).encode())
    made = request(deep, ignore=["a.b"], mask=["x"])
    assert made.key == request(deep, ignore=["a.b"], mask=["x"]).key
    assert SECRET not in json.dumps(made.fields)


# Secrets.


def test_no_secret_is_stored_and_no_key_depends_on_one() -> None:
    def calls(secret: str) -> list[Call]:
        return [
            chat(f"My key is\n{secret}.", user=secret),
            call({"a": {secret: [secret]}}, path=f"/hook?key={secret}&token={secret}"),
            call(raw=f"api_key={secret}&q=1".encode(), kind="application/x-www-form-urlencoded", path="/x"),
            call(raw=f"it is {secret}".encode(), kind="text/plain", path="/x"),
            call(host="h", path=f"/x?sig={secret}", method="GET"),
            form("a" * 8, model=secret),
        ]

    for one, other in zip(calls(SECRET), calls(OTHER), strict=True):
        assert SECRET not in json.dumps(request(one).fields)
        assert "[secret:1]" in json.dumps(request(one).fields)
        assert key(one) == key(other)


def test_headers_are_neither_stored_nor_keyed() -> None:
    made = request(chat(headers=[(b"Authorization", f"Bearer {SECRET}".encode()), (b"X-Custom", b"value")]))
    assert made == request(chat())


@pytest.mark.parametrize("header", [b"Authorization", b"x-api-key", b"api-key", b"X-Goog-Api-Key"])
def test_the_token_of_a_call_is_a_secret_in_its_body_too_however_it_looks(header: bytes) -> None:
    def asked(token: str) -> Any:
        value = f"Bearer {token}" if header == b"Authorization" else token
        given = chat(f"use {token}", headers=[(header, value.encode())])
        return request_of(given, Normaliser(), {}, Redactor(given.tokens))

    assert asked("a-plain-looking-token") == asked(PLACEHOLDER)
    assert "plain-looking" not in json.dumps(asked("a-plain-looking-token").fields)


@pytest.mark.parametrize("word", ["ollama", "EMPTY", "not-needed", "lm-studio"])
def test_a_word_that_stands_for_a_key_is_no_secret(word: str) -> None:
    given = call({"model": f"{word}/llama3", "messages": []}, headers=[(b"authorization", f"Bearer {word}".encode())])
    made = request_of(given, Normaliser(), {}, Redactor(given.tokens))
    assert made.model == f"{word}/llama3"
    assert made == request_of(given, Normaliser(), {}, UNREDACTED)


# Ids.


def agent(first: str, second: str, item: str = "fc_1") -> dict[str, dict[str, Any]]:
    """One turn of an agent that called two tools, in the shapes of the providers."""
    function = {"name": "f", "arguments": "{}"}
    return {
        "chat": {
            "model": "m",
            "messages": [
                {"role": "user", "content": "go"},
                {
                    "role": "assistant",
                    "tool_calls": [{"id": i, "type": "function", "function": function} for i in (first, second)],
                },
                {"role": "tool", "tool_call_id": first, "content": "1"},
                {"role": "tool", "tool_call_id": second, "content": "2"},
            ],
        },
        "message": {
            "model": "m",
            "messages": [
                {
                    "role": "assistant",
                    "content": [{"type": "tool_use", "id": i, "name": "f", "input": {}} for i in (first, second)],
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": i, "content": i == first} for i in (first, second)
                    ],
                },
            ],
        },
        "response": {
            "model": "m",
            "input": [
                {"role": "user", "content": "go"},
                {"type": "function_call", "id": item, "call_id": first, **function},
                {"type": "function_call", "call_id": second, **function},
                {"type": "function_call_output", "call_id": first, "output": "1"},
                {"type": "function_call_output", "call_id": second, "output": "2"},
            ],
        },
        "generate": {
            "contents": [
                {
                    "role": "model",
                    "parts": [{"functionCall": {"id": i, "name": "f", "args": {}}} for i in (first, second)],
                },
                {
                    "role": "user",
                    "parts": [{"functionResponse": {"id": i, "name": "f", "response": {}}} for i in (first, second)],
                },
            ],
        },
    }


PATHS = {
    "chat": "/v1/chat/completions",
    "message": "/v1/messages",
    "response": "/v1/responses",
    "generate": "/v1beta/models/g:generateContent",
}


@pytest.mark.parametrize("shape", PATHS)
def test_ids_of_tool_calls_are_numbered_so_that_recording_a_step_anew_orphans_none(shape: str) -> None:
    one = request(call(agent("call_a", "call_b")[shape], path=PATHS[shape]))
    two = request(call(agent("call_zz", "call_c", "fc_9")[shape], path=PATHS[shape]))
    assert one.kind == shape
    assert one.key == two.key
    assert {"call_a", "call_b"} <= set(one.ids)
    assert {"call_zz", "call_c"} <= set(two.ids)
    assert len(one.ids) == len(set(one.ids)) == len(two.ids)
    text = json.dumps(one.fields)
    assert "call_a" not in text
    assert '"@1"' in text
    assert '"@2"' in text
    # Each id is in the place that its number says.
    asked = request(call(shuffled(agent("call_a", "call_b")[shape]), path=PATHS[shape]))
    assert (asked.key, asked.ids) == (one.key, one.ids)


@pytest.mark.parametrize("shape", PATHS)
def test_which_result_belongs_to_which_call_matters(shape: str) -> None:
    straight = agent("call_a", "call_b")[shape]
    crossed = json.loads(json.dumps(straight))
    names = ("tool_call_id", "tool_use_id")
    results: list[dict[str, Any]] = []

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if any(name in node for name in names) or node.get("type") == "function_call_output" or "response" in node:
                results.append(node)
            for item in list(node.values()):
                walk(item)
        elif isinstance(node, list):
            for item in node:
                walk(item)

    walk(crossed)
    one, two = results[:2]
    name = next(name for name in (*names, "call_id", "id") if name in one)
    one[name], two[name] = two[name], one[name]
    assert key(call(straight, path=PATHS[shape])) != key(call(crossed, path=PATHS[shape]))


def test_an_id_that_stands_for_content_elsewhere_stays_unless_this_session_knows_who_issued_it() -> None:
    def asked(response: str, **issued: str) -> Any:
        return request(
            call({"model": "m", "input": "go on", "previous_response_id": response}, path="/v1/responses"), **issued
        )

    assert asked("resp_a").fields["body"]["previous_response_id"] == "resp_a"
    assert asked("resp_a").ids == ()
    assert asked("resp_a").key != asked("resp_b").key
    known = asked("resp_a", resp_a="k1:123", resp_b="k1:123", resp_c="k1:456")
    assert known.fields["body"]["previous_response_id"] == "@k1:123"
    assert known.ids == ("resp_a",)
    assert asked("resp_b", resp_b="k1:123").key == known.key
    assert asked("resp_c", resp_c="k1:456").key != known.key


@pytest.mark.parametrize(
    "body",
    [
        {"conversation": "conv_1"},
        {"conversation": {"id": "conv_1"}},
        {"tools": [{"type": "file_search", "vector_store_ids": ["conv_1"]}]},
        {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "conv_1"}}]}]},
        {"input": [{"type": "item_reference", "id": "conv_1"}]},
        {"container": "conv_1"},
        {"training_file_id": "conv_1"},
    ],
)
def test_every_place_of_an_issued_id_is_known(body: dict[str, Any]) -> None:
    made = request(call({"model": "m", **body}, path="/v1/responses"), conv_1="k1:9")
    assert "conv_1" not in json.dumps(made.fields)
    assert "@k1:9" in json.dumps(made.fields)
    assert made.ids == ("conv_1",)


def test_ids_in_a_path_are_known_too() -> None:
    for path in (
        "/v1/responses/resp_1",
        "/v1/vector_stores/resp_1/files",
        "/v1/files/resp_1/content",
        "/jobs/resp_1/log",
    ):
        made = request(call(path=path, method="GET"), resp_1="k1:9")
        assert "@k1:9" in made.fields.get("endpoint", made.fields.get("path"))
        assert made.ids == ("resp_1",)
        assert made.key == request(call(path=path.replace("resp_1", "resp_2"), method="GET"), resp_2="k1:9").key
        assert "resp_1" in json.dumps(request(call(path=path, method="GET")).fields)


def test_an_id_in_what_people_say_is_no_id() -> None:
    body = agent("call_a", "call_b")["chat"]
    body["messages"][0]["content"] = "call_a"
    made = request(call(body))
    assert made.fields["body"]["messages"][0]["content"] == "call_a"


def test_a_request_without_ids_has_none() -> None:
    assert request(chat()).ids == ()
    assert request(chat(user="u", metadata={"user_id": "42"})).fields["body"]["metadata"] == {"user_id": "42"}


# --ignore and --mask.


@pytest.mark.parametrize(
    ("path", "left"),
    [
        ("metadata", {"messages": [{"name": "a", "id": 1}, {"name": "b"}]}),
        ("metadata.run_id", {"metadata": {"user": "u"}, "messages": [{"name": "a", "id": 1}, {"name": "b"}]}),
        ("messages[0].name", {"metadata": {"run_id": 7, "user": "u"}, "messages": [{"id": 1}, {"name": "b"}]}),
        ("messages[-1].name", {"metadata": {"run_id": 7, "user": "u"}, "messages": [{"name": "a", "id": 1}, {}]}),
        ("messages.0.name", {"metadata": {"run_id": 7, "user": "u"}, "messages": [{"id": 1}, {"name": "b"}]}),
        ("messages[*].name", {"metadata": {"run_id": 7, "user": "u"}, "messages": [{"id": 1}, {}]}),
        ("messages[1]", {"metadata": {"run_id": 7, "user": "u"}, "messages": [{"name": "a", "id": 1}]}),
        ("messages[*]", {"metadata": {"run_id": 7, "user": "u"}, "messages": []}),
        ("*.run_id", {"metadata": {"user": "u"}, "messages": [{"name": "a", "id": 1}, {"name": "b"}]}),
    ],
)
def test_what_is_ignored_is_left_out(path: str, left: dict[str, Any]) -> None:
    body = {"metadata": {"run_id": 7, "user": "u"}, "messages": [{"name": "a", "id": 1}, {"name": "b"}]}
    before = copy.deepcopy(body)
    assert Normaliser([path]).apply(body) == left
    assert body == before


@pytest.mark.parametrize(
    "path",
    [
        "absent",
        "metadata.absent",
        "metadata.run_id.deeper",
        "messages[2]",
        "messages[7].name",
        "messages[-3].name",
        "messages.name",
        "messages[x]",
        "model[0]",
    ],
)
def test_ignoring_what_is_not_there_changes_nothing(path: str) -> None:
    body = {"model": "m", "metadata": {"run_id": 7}, "messages": [{"name": "a"}, {"name": "b"}]}
    assert Normaliser([path]).apply(body) == body


def test_ignored_fields_are_neither_keyed_nor_stored() -> None:
    one, two = chat(metadata={"run_id": "r1"}), chat(metadata={"run_id": "r2"})
    assert key(one) != key(two)
    assert key(one, ignore=["metadata.run_id"]) == key(two, ignore=["metadata.run_id"])
    assert "r1" not in json.dumps(request(one, ignore=["metadata.run_id"]).fields)


def test_what_a_mask_matches_is_neither_keyed_nor_stored() -> None:
    date = r"\d{4}-\d\d-\d\d"
    one, two = request(chat("Today is 2026-01-01."), mask=[date]), request(chat("Today is 2026-02-02."), mask=[date])
    assert one.key == two.key != key(chat("Today is not said."), mask=[date])
    assert one.fields["body"]["messages"][0]["content"] == "Today is [masked]."


def test_several_masks_are_each_a_regular_expression_of_its_own() -> None:
    masks = Normaliser(mask=["(?i)RUN", r"(a)b\1", r"(x)y\1"])
    assert masks.apply({"t": ["run aba xyx"], "n": 5, "run": None}) == {
        "t": ["[masked] [masked] [masked]"],
        "n": 5,
        "run": None,
    }


def test_masks_reach_bodies_of_every_shape() -> None:
    def shapes(run: str) -> list[Call]:
        return [
            chat(run),
            call([run], path="/x"),
            call(raw=run.encode(), kind="text/plain", path="/x"),
            call(raw=f"q={run}".encode(), kind="application/x-www-form-urlencoded", path="/x"),
            form("a" * 8, model=run),
        ]

    for one, two in zip(shapes("run-1"), shapes("run-2"), strict=True):
        assert key(one) != key(two)
        assert key(one, mask=[r"run-\d"]) == key(two, mask=[r"run-\d"])


@pytest.mark.parametrize(
    "options",
    [
        {"mask": ["("]},
        {"mask": [""]},
        {"mask": [7]},
        {"ignore": ["..."]},
        {"ignore": [""]},
        {"ignore": [None]},
        {"ignore": ["[]"]},
    ],
)
def test_options_that_are_none_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        Normaliser(**options)


def test_one_text_is_one_option() -> None:
    assert Normaliser("metadata.run_id", "run").ignore == ("metadata.run_id",)
    assert Normaliser("metadata.run_id", "run").mask == ("run",)
    assert not Normaliser().rules
    assert Normaliser(mask="x").rules


# Who asks.


@pytest.mark.parametrize(
    ("agent", "sdk"),
    [
        ("OpenAI/Python 3.54.0", "openai 3.54.0"),
        ("AsyncOpenAI/Python 3.54.0", "openai 3.54.0"),
        ("AsyncAzureOpenAI/Python 2.1.0", "openai 2.1.0"),
        ("Anthropic/Python 2.0.1", "anthropic 2.0.1"),
        ("AsyncAnthropic/Python 2.0.1", "anthropic 2.0.1"),
        ("google-genai-sdk/3.4.0 gl-python/3.11.7", "google-genai-sdk 3.4.0"),
        ("Boto3/1.44.5 md/Botocore#1.44.5", "boto3 1.44.5"),
        ("ollama-python/0.6.3 (x86_64 linux) Python/3.11", "ollama-python 0.6.3"),
        ("python-httpx/0.28", "tests 1.0"),
        ("Python/3.11 aiohttp/3.14.5", "tests 1.0"),
        ("Mozilla/5.0 (X11)", "tests 1.0"),
        ("", "tests 1.0"),
    ],
)
def test_a_call_names_its_sdk(agent: str, sdk: str) -> None:
    assert chat(headers=[(b"User-Agent", agent.encode())]).sdk == sdk


def test_a_body_that_is_json_is_keyed_as_json_whatever_it_is_called() -> None:
    body = {"model": "llama3", "messages": [{"role": "user", "content": "Hi & bye = fine"}]}
    for kind in ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x", ""):
        named = call(raw=json.dumps(body).encode(), kind=kind, path="/api/chat")
        assert request(named) == request(call(body, path="/api/chat")), kind
    form = request(call(raw=b"[a]=1&api_key=" + SECRET.encode(), kind="application/x-www-form-urlencoded", path="/x"))
    assert "form" in form.fields
    assert SECRET not in repr(form)


def test_a_call_hides_its_headers_from_whoever_prints_it() -> None:
    assert SECRET not in repr(chat(headers=[(b"Authorization", SECRET.encode())]))


def test_what_an_agent_library_makes_up_in_each_run_does_not_count() -> None:
    made = [chat(prompt_cache_key=f"agents-sdk:run:{digit * 32}") for digit in "ab"]
    assert key(made[0]) == key(made[1])
    assert request(made[0]).body["prompt_cache_key"] == "agents-sdk:run:[masked]"
    assert key(chat(prompt_cache_key="mine")) != key(chat(prompt_cache_key="yours"))
