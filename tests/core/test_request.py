"""What a call is reduced to: where it goes, what its body is, and who asks."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from typing import Any

import pytest

from nbreplay.core.request.request import Call, request_of
from nbreplay.core.request.route import find_endpoint
from nbreplay.core.request.rules import Normaliser
from nbreplay.core.secrets.credentials import PLACEHOLDER
from nbreplay.core.secrets.redact import UNREDACTED, Redactor
from tests.core.making import LOCAL, OPENAI, call, chat, form, request

SECRET = "sk-" + "aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY"
OTHER = "sk-" + "zZ3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY"


def key(given: Call, **options: Any) -> str:
    return request(given, **options).key


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
        assert find_endpoint(prefix + path, with_model) == (kind, endpoint)


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
    assert find_endpoint(path, with_model) is None


def test_a_request_tells_its_model() -> None:
    assert request(chat()).model == "gpt-4o"
    assert request(call({}, path="/v1beta/models/gemini-2.5-pro:generateContent")).model == "gemini-2.5-pro"
    assert request(call({}, path="/hook")).model == ""


# Bodies that are no JSON.


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


# Who asks.


@pytest.mark.parametrize(
    ("agent", "sdk"),
    [
        ("OpenAI/Python 3.54.0", "openai 3.54.0"),
        ("AsyncOpenAI/Python 3.54.0", "openai 3.54.0"),
        ("AsyncAzureOpenAI/Python 2.1.0", "openai 2.1.0"),
        ("Anthropic/Python 2.0.1", "anthropic 2.0.1"),
        ("AsyncAnthropic/Python 2.0.1", "anthropic 2.0.1"),
        ("OpenAI/JS 6.1.0", "openai-js 6.1.0"),
        ("Anthropic/Go 1.2.3", "anthropic-go 1.2.3"),
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


@pytest.mark.parametrize(
    ("encoding", "data", "decoded"),
    [
        ("gzip", gzip.compress(b'{"n":1}', mtime=0), True),
        (" X-GZIP", gzip.compress(b'{"n":1}', mtime=0), True),
        ("deflate", zlib.compress(b'{"n":1}'), True),
        ("gzip, gzip", gzip.compress(gzip.compress(b'{"n":1}', mtime=0), mtime=0), False),
        ("gzip, identity", gzip.compress(b'{"n":1}', mtime=0), False),
        ("aws-chunked", b"\xff{}", False),
        ("br", b"[\xff", False),
        *[(encoding, b"", False) for encoding in ("gzip", "deflate", "br", "zstd")],
    ],
    ids=["gzip", "x-gzip", "deflate", "twice", "gzip and nothing", "unknown", "like JSON", *["empty"] * 4],
)
def test_recordings_with_encoded_bodies_are_found_again(encoding: str, data: bytes, decoded: bool) -> None:
    given = call(raw=data, headers=[(b"content-encoding", encoding.encode())])
    assert given.content == (b'{"n":1}' if decoded else data)


@pytest.mark.parametrize(("encoding", "module"), [("br", "brotli"), ("zstd", "backports.zstd")])
def test_encoded_bodies_that_are_cut_short_differ(encoding: str, module: str) -> None:
    library = pytest.importorskip(module, reason="pip install brotli backports.zstd")
    cut = [library.compress(text * 90)[:-3] for text in (b'{"n":1}', b'{"n":2}')]
    header = b"content-encoding", encoding.encode()
    one, other = (key(call(path="/x", raw=data, headers=[header])) for data in cut)
    assert one != other


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


def test_whose_claude_code_asks_and_in_which_session_does_not_count() -> None:
    device = "".join(f"{digit % 10}" for digit in range(64))
    for one in (
        '{{"device_id":"{0}","account_uuid":"","session_id":"e2f97004-f9af-4046-8077-{1}"}}',
        "user_{0}_account__session_e2f97004-f9af-4046-8077-{1}",
    ):
        made = [chat(metadata={"user_id": one.format(device, digit * 12)}) for digit in "ab"]
        assert key(made[0]) == key(made[1])
        assert request(made[0]).body["metadata"] == {"user_id": "[masked]"}
    for mine, yours in (("user_1", "user_2"), ('{"session_id":"1"}', '{"session_id":"2"}')):
        assert key(chat(metadata={"user_id": mine})) != key(chat(metadata={"user_id": yours}))
