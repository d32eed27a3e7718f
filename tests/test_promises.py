"""What users' code, notebooks and recordings depend on: names, entry points, options, keys and the bytes of a file.

Everything is reached by the name that a user writes, never by the module that it is defined in.
"""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

import nbreplay as nr
from tests import reencode
from tests.clients import http

_project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PROJECT: dict[str, dict[str, str]] = {"console_scripts": _project["scripts"], **_project["entry-points"]}

NAMES = """
Chunk Comparison Interaction Library NbreplayError NetworkBlocked NotebookMismatch OptionError RecordedToolError
Recording RecordingFormatError RecordingIncomplete RecordingMissing Session Store StoreError Take ToolError Transport
UnsafeRecordingError __version__ compare load load_ipython_extension session tool transport unload_ipython_extension
"""

SIGNATURES = {
    "compare": "(a, b, *, on='key')",
    "load": "(source, *, strict=True, cache=True, engine='pandas')",
    "load_ipython_extension": "(shell)",
    "session": ("(store=None, mode=None, *, speed=None, ignore=(), mask=(), only=None, allow=(), allow_children=None)"),
    "tool": "(function=None, *, name='', returns=<as annotated>, raises=(), ignore=())",
    "transport": "(store=None, mode=None, *, speed=None, ignore=(), mask=(), only=None, inner=None)",
    "unload_ipython_extension": "(shell)",
}

# What a class has at least; the errors have what `EXCEPTIONS` says.
ATTRIBUTES = {
    "Chunk": "data event gap_ms raw",
    "Comparison": "changed counts frame libraries on show sides",
    "Interaction": "cell host key note outcome request served_s store take",
    "Library": "chunks frame interactions messages row to_parquet tool_calls unread",
    "Recording": "key kind request takes text",
    "Session": "interactions mode options show start stop store",
    "Store": "find names path read recordings",
    "Take": (
        "body cell complete duration_s elapsed_ms error headers host http_version ids reason reason_phrase "
        "recorded_at redacted sdk status url"
    ),
    "Transport": "aclose close handle_async_request handle_request session",
}

EXCEPTIONS = {
    "NbreplayError": (Exception,),
    "NetworkBlocked": (nr.NbreplayError, OSError),
    "NotebookMismatch": (nr.NbreplayError,),
    "OptionError": (nr.NbreplayError, ValueError),
    "RecordedToolError": (nr.NbreplayError,),
    "RecordingFormatError": (nr.NbreplayError,),
    "RecordingIncomplete": (nr.RecordingMissing,),
    "RecordingMissing": (BaseException,),
    "StoreError": (nr.NbreplayError,),
    "ToolError": (nr.NbreplayError, TypeError),
    "UnsafeRecordingError": (nr.RecordingFormatError,),
}

COMMANDS = {
    "adopt": (
        "--allow-children --fast-sleep --isolated --json --kernel --parameter --skip-installs --timeout --yes -n -p"
    ),
    "badge": "--branch --format --json --repo --site",
    "check": "--fix --json",
    "completion": "",
    "diff": "--json --store",
    "export": "--format --json --store",
    "import": "--format --json --store --url",
    "lite": "--json --offline --output --pyodide --url",
    "ls": "--by --failed --json --kind --model --notebook --reverse --sort --text",
    "run": (
        "--allow-children --fast-sleep --isolated --json --keep-errors --keep-going --kernel --mode --no-compare "
        "--output --parameter --skip-installs --timeout --times --update -n -p"
    ),
    "serve": "--allow --ignore --mask --mode --only --port --speed --to",
    "show": "--full --json --raw --store",
    "trim": "--allow-children --fast-sleep --isolated --json --kernel --skip-installs --timeout --yes -n",
    "verify": "--allow --dry-run --json --update --yes",
}

MAGIC_OPTIONS = "--allow --allow-children --ignore --mask --only --speed --view"
MAGIC_TRAITS = "allow allow_children ignore mask only speed store view"

PYTEST_OPTIONS = """
--nbreplay --nbreplay-allow-children --nbreplay-cells --nbreplay-fast-sleep --nbreplay-isolated
--nbreplay-keep-errors --nbreplay-kernel --nbreplay-mode --nbreplay-n --nbreplay-no-compare
--nbreplay-skip-installs --nbreplay-timeout --nbreplay-trim --nbreplay-update
"""

COLUMNS = {
    "interactions": """
        recorded_at notebook kind model tool prompt answer input_tokens output_tokens duration_s ttft_s cost_usd
        status error_type finish_reason complete stream n_messages n_tools n_tool_calls n_chunks output_chars ttfc_s
        cached_tokens reasoning_tokens temperature max_tokens response_model provider host sdk origin key prompt_key
        answer_key cell file
    """,
    "messages": "interaction message role direction content_type n_tool_calls tool_call_id chars content",
    "chunks": "interaction chunk t_s gap_s kind text chars tool_index",
    "tool_calls": """
        interaction call name arguments result duration_s answered error_type arguments_valid first_s last_s
        tool_call_id result_interaction tool_interaction
    """,
    "unread": "file reason",
}

OPENAI = "https://api.openai.com/v1/"
HELLO = [{"role": "user", "content": "Weather in Tokyo?"}]
CHAT = {"model": "gpt-4o", "messages": HELLO}
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}


def _with_result(identity: str) -> dict[str, Any]:
    function = {"name": "get_weather", "arguments": '{"city":"Tokyo"}'}
    called = {"role": "assistant", "tool_calls": [{"id": identity, "type": "function", "function": function}]}
    return {**CHAT, "messages": [*HELLO, called, {"role": "tool", "tool_call_id": identity, "content": "18 °C"}]}


def _post(url: str, body: Any = None, **more: Any) -> dict[str, Any]:
    return {"method": "POST", "url": url, **({} if body is None else {"json": body}), **more}


REQUESTS: dict[str, dict[str, Any]] = {
    "a chat": _post(f"{OPENAI}chat/completions", CHAT),
    "a streamed chat": _post(f"{OPENAI}chat/completions", {**CHAT, "stream": True, "temperature": 0.1}),
    "a chat with a tool": _post(f"{OPENAI}chat/completions", {**CHAT, "tools": [WEATHER]}),
    "a chat with a tool's result": _post(f"{OPENAI}chat/completions", _with_result("call_7Yd0aB3kQ")),
    "several scripts": _post(f"{OPENAI}chat/completions", {"model": "m", "messages": ["é 漢字 🙂 \u2028 \x00"]}),
    "numbers": _post(f"{OPENAI}chat/completions", {"model": "m", "messages": [1, 1.0, 1e-7, 2**63, 1e22, True, None]}),
    "a secret": _post(
        f"{OPENAI}chat/completions", {**CHAT, "user": "sk-proj-" + "Ab3dEf6hIj9kLm2nOp5qRs8tUv1wXy4z" * 2}
    ),
    "an embedding": _post(f"{OPENAI}embeddings", {"model": "text-embedding-3-small", "input": ["a", "b"]}),
    "a response": _post(f"{OPENAI}responses", {"model": "gpt-4o", "input": "hello", "stream": True}),
    "a response after another": _post(
        f"{OPENAI}responses", {"model": "gpt-4o", "input": "more", "previous_response_id": "resp_68a1f0c2d3e4"}
    ),
    "a message": _post(
        "https://api.anthropic.com/v1/messages", {"model": "claude", "max_tokens": 9, "messages": HELLO}
    ),
    "Gemini": _post(
        "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse",
        {"contents": [{"parts": [{"text": "hello"}]}]},
    ),
    "Bedrock": _post(
        "https://bedrock-runtime.us-east-1.amazonaws.com/model/anthropic.claude-v2/converse-stream",
        {"messages": [{"role": "user", "content": [{"text": "hello"}]}]},
    ),
    "Ollama": _post("http://localhost:11434/api/chat", {"model": "llama3", "messages": HELLO}),
    "a form with a file": _post(
        f"{OPENAI}audio/transcriptions",
        data={"model": "whisper-1"},
        files={"file": ("a.wav", b"RIFF\x00\x01", "audio/wav")},
    ),
    "a form": _post("https://example.com/form", data={"b": "2", "a": "1 ü"}),
    "bytes": _post("https://example.com/upload", content=bytes(range(256)), headers={"content-type": "image/png"}),
    "MCP": _post(
        "https://mcp.example.com/mcp",
        {"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": "add", "arguments": {"a": 1, "b": 2}}},
    ),
    "a GET with a query": {"method": "GET", "url": "https://example.com/search?q=a+b&page=2&q=c%20d"},
    "a GET": {"method": "GET", "url": "https://example.com/models"},
    "a DELETE": {"method": "DELETE", "url": f"{OPENAI}files/file-abc123"},
}

KEYS = {
    "a chat": "k1:abf3e3bd3f052bf43c5295bde1a1ea3d76a23421afddf8d32f142f339c68707e",
    "a streamed chat": "k1:ade5f1e2c9d8413bddb00480e933867da4ee3af798b14c41a5f3a8cdeabac72b",
    "a chat with a tool": "k1:efd735663e5a44fdfca547851438a239beb8db23357f3d32d69bdb1b076f730a",
    "a chat with a tool's result": "k1:5c9d24429bbc1b49c3a05b92372fb0d166f571f6542fb1f823660b90e21808d2",
    "several scripts": "k1:9e965ef59295e85365d33629e7938733187a7535ffb94726b585a5438a7cd5c0",
    "numbers": "k1:9907f9430d20abf164c66d75de299d863a24390a67a1ca7b421f595fec6eed86",
    "a secret": "k1:fe4995b7cf3ae97ac23320560d31ae0e29631d28067e9a9a626e076ece0b8e8c",
    "an embedding": "k1:6e0b6d1be17aff02e9f0e4b04abd9155aa74aec293888f2d2179402f3c06ea40",
    "a response": "k1:6205eab7898a296434aa0f80b386a4a8c50dbb7ca6a1783b3a51575de105b90b",
    "a response after another": "k1:95d12317329929f98ff2133f10f7a65b48357b695997dbf41fb04e847a0b1aec",
    "a message": "k1:813bdfd4c82c6d7a18fc8566cc50b7207ec40881bb8fd54dc615d650f343fa3a",
    "Gemini": "k1:bbfbffdacb8bd46735396895202b0203f8e1c53b0bad40fc983f9bc36343a74b",
    "Bedrock": "k1:8a6d0a07357876363349cac90fb1cd28ad38d7be59ebd104047c06303e1679c6",
    "Ollama": "k1:eb5b0d4ac906e5913e342621013a5903f80a5ba207116736a1b019e43bf5dda0",
    "a form with a file": "k1:174af2e72c18bac6b2faf549072b0fecb61aab7d829623fedfd0e0e7a97a74f7",
    "a form": "k1:671898e0c45bf56dba6397910cdaad866ab6c3579fd63192abd8ad68570e84a6",
    "bytes": "k1:2dd928002cd2ad5e0f592cabc6e8b55026020c8d24ead28e098e5f3b24367308",
    "MCP": "k1:efef7b418bcfd5a1bfadd5536a6af7e999226eac304b5a6fb5b064e50c9b9a8c",
    "a GET with a query": "k1:433afdd3cbcc50a2da50aacedee9e10f33ace15113f8f075385112d8f07c8fee",
    "a GET": "k1:eb88edaed39408a32f881ff8d52ef58767f57cc05fc35b9f438529d13c16ba0d",
    "a DELETE": "k1:8ae2eb3d28cd9ce005a99293b6eed5e9b2b44d46a50c3e7d61d39dd1d0ab3bd0",
}

MASKED = "k1:20f2c6691ef4b26340331c1d53a079b06e5dcd7a9a2ba3232b4a29c55d73caad"
LS_JSON = (
    "arguments asked bytes failure file hosts input_tokens key kind model notebooks output_tokens recorded_at request "
    "takes tool"
)
SHOW_JSON = "key kind nbreplay request takes"
OTEL = """
nbreplay.file nbreplay.key nbreplay.prompt_key gen_ai.operation.name nbreplay.origin gen_ai.provider.name
server.address nbreplay.sdk gen_ai.request.model gen_ai.response.model gen_ai.request.stream nbreplay.complete
http.response.status_code gen_ai.response.finish_reasons error.type gen_ai.request.temperature
gen_ai.request.max_tokens gen_ai.usage.input_tokens gen_ai.usage.output_tokens gen_ai.usage.cache_read.input_tokens
gen_ai.usage.reasoning.output_tokens nbreplay.n_messages nbreplay.n_tools nbreplay.n_chunks nbreplay.n_tool_calls
nbreplay.output_chars nbreplay.duration_s gen_ai.response.time_to_first_chunk nbreplay.ttft_s nbreplay.recorded_at
nbreplay.cell nbreplay.notebook nbreplay.answer_key
"""

STREAM = [
    b'data: {"id":"c-1","model":"gpt-4o-2024","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n',
    b": ping\r\n\r\n",
    b'data: {"id":"c-1","model":"gpt-4o-2024","choices":[{"index":0,"delta":{"content":"18 \xc2\xb0C"}}]}\n\n',
    b'event: end\ndata: {"model":"gpt-4o-2024","id":"c-1"}\n\n',
    b"data: [DONE]\n\n",
]
PICTURE = b"\x89PNG\x00" * 10
BLOB = "blob-1441ac6b6572cdf791cde346ec7b50c1.bin"

TAKE = """{"recorded_at": "2026-01-01T00:00:00.000Z", "host": "%s", "url": "%s", "sdk": "tests 1.0",
     "cell": null, "ids": [],
     """
FILES = {
    "chat-abf3e3bd3f052bf4.json": """{
  "nbreplay": 1,
  "key": "k1:abf3e3bd3f052bf43c5295bde1a1ea3d76a23421afddf8d32f142f339c68707e",
  "kind": "chat",
  "request": {"method": "POST", "endpoint": "chat/completions",
    "body": {"model": "gpt-4o",
      "messages": [
        {"role": "user", "content": "Weather in Tokyo?"}
      ]}},
  "takes": [
    """
    + TAKE % ("api.openai.com", "/v1/chat/completions")
    + """"status": 429, "headers": {"content-type": "application/json", "retry-after": "7"}, "complete": true, \
"sized": false, "elapsed_ms": 0,
     "json": {"error": "x"}}
  ]
}
""",
    "chat-ade5f1e2c9d8413b.json": """{
  "nbreplay": 1,
  "key": "k1:ade5f1e2c9d8413bddb00480e933867da4ee3af798b14c41a5f3a8cdeabac72b",
  "kind": "chat",
  "request": {"method": "POST", "endpoint": "chat/completions",
    "body": {"model": "gpt-4o", "stream": true, "temperature": 0.1,
      "messages": [
        {"role": "user", "content": "Weather in Tokyo?"}
      ]}},
  "takes": [
    """
    + TAKE % ("api.openai.com", "/v1/chat/completions")
    + """"status": 200, "headers": {"content-type": "text/event-stream", "x-request-id": "req_1"}, "complete": true,
     "fields": ["id", "model", "choices"],
     "common": {"id": "c-1", "model": "gpt-4o-2024"},
     "chunks": [
      [0,{"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}],
      [0,null,null,": ping\\r\\n\\r\\n"],
      [0,{"choices":[{"index":0,"delta":{"content":"18 °C"}}]}],
      [0,"{\\"model\\":\\"gpt-4o-2024\\",\\"id\\":\\"c-1\\"}","end"],
      [0,"[DONE]"]
     ]}
  ]
}
""",
    "http-eb88edaed39408a3.json": """{
  "nbreplay": 1,
  "key": "k1:eb88edaed39408a32f881ff8d52ef58767f57cc05fc35b9f438529d13c16ba0d",
  "kind": "http",
  "request": {"method": "GET", "host": "example.com", "path": "/models"},
  "takes": [
    """
    + TAKE % ("example.com", "/models")
    + f""""status": 200, "headers": {{"content-type": "image/png"}}, "complete": true, "sized": false, "elapsed_ms": 0,
     "blob": "{BLOB}",
     "size": 50}}
  ]
}}
""",
}


def answer(request: Any) -> Any:
    """Answer three of the requests: with a picture, a stream and a refusal."""
    if request.method == "GET":
        return http.Response(200, headers={"content-type": "image/png"}, stream=http.ByteStream(PICTURE))
    if json.loads(request.read()).get("stream"):
        kept = {"content-type": "text/event-stream", "x-request-id": "req_1"}
        return http.Response(200, headers={**kept, "server": "tests"}, stream=http.ByteStream(b"".join(STREAM)))
    headers = {"content-type": "application/json", "retry-after": "7"}
    return http.Response(429, headers=headers, stream=http.ByteStream(b'{"error":"x"}'))


def exchange(transport: Any) -> list[tuple[int, bytes]]:
    """Send the three requests; return what is answered."""
    with http.Client(transport=transport) as client:
        answers = [client.request(**REQUESTS[name]) for name in ("a streamed chat", "a chat", "a GET")]
    return [(answer.status_code, answer.content) for answer in answers]


def steadied(text: str) -> str:
    """Replace what is different on every run: times and the library's version."""
    text = re.sub(r'"recorded_at": "[^"]+"', '"recorded_at": "2026-01-01T00:00:00.000Z"', text)
    text = re.sub(r'"sdk": "[^"]+"', '"sdk": "tests 1.0"', text)
    return re.sub(r"(?m)^      \[\d+,", "      [0,", re.sub(r'"elapsed_ms": \d+', '"elapsed_ms": 0', text))


def options_of(text: str) -> list[str]:
    """The options that a help text names, sorted."""
    return sorted(set(re.findall(r"(?<![\w-])--?[a-z](?:[a-z-]*[a-z])?(?![\w])", text)) - {"-h", "--help"})


def entry_point(group: str, name: str) -> EntryPoint:
    """An entry point of the project: what is installed may be older."""
    return EntryPoint(name, PROJECT[group][name], group)


def parameters(function: Any) -> str:
    """A function's signature without its annotations."""
    signature = inspect.signature(function)
    bare = [each.replace(annotation=inspect.Parameter.empty) for each in signature.parameters.values()]
    return re.sub(" at 0x[0-9a-f]+", "", str(inspect.Signature(bare)))


def test_the_public_names() -> None:
    assert nr.__all__ == NAMES.split()
    assert re.fullmatch(r"\d+\.\d+\.\d+", nr.__version__)


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_public_function_takes_what_it_took(name: str) -> None:
    assert parameters(getattr(nr, name)) == SIGNATURES[name]


def test_every_public_name_is_pinned() -> None:
    assert sorted([*SIGNATURES, *ATTRIBUTES, *EXCEPTIONS, "__version__"]) == NAMES.split()


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_an_error_is_what_it_was(name: str) -> None:
    error = getattr(nr, name)
    assert error.__name__ == name
    for parent in EXCEPTIONS[name]:
        assert issubclass(error, parent)
    missing = name in ("RecordingMissing", "RecordingIncomplete")
    assert issubclass(error, Exception) is not missing


def test_public_classes_have_the_attributes_that_they_had(store: Path) -> None:
    transport = nr.transport(store, "auto", inner=http.MockTransport(answer))
    exchange(transport)
    interaction = transport.session.interactions[0]
    opened = nr.Store(store)
    recording = opened.read("chat-ade5f1e2c9d8413b.json")
    assert recording is not None
    found = {
        "Chunk": nr.Chunk(3, {"a": 1}, None, None),
        "Comparison": nr.compare(store, store),
        "Interaction": interaction,
        "Library": nr.load(store),
        "Recording": recording,
        "Session": transport.session,
        "Store": opened,
        "Take": interaction.take,
        "Transport": transport,
    }
    for name, value in found.items():
        assert type(value).__name__ == name
        assert isinstance(value, getattr(nr, name))
        assert [each for each in ATTRIBUTES[name].split() if not hasattr(value, each)] == []
    assert nr.Chunk(3, "x") == (3, "x", None, None)


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_has_the_key_that_it_had(name: str, store: Path) -> None:
    transport = nr.transport(store, "replay")
    with http.Client(transport=transport) as client, pytest.raises(nr.RecordingMissing) as caught:
        client.request(**REQUESTS[name])
    (interaction,) = transport.session.interactions
    assert interaction.key == KEYS[name]
    assert KEYS[name] in str(caught.value)


def test_the_keys_of_tools_and_of_requests_that_are_normalised(store: Path) -> None:
    @nr.tool
    def get_weather(city: str, *, unit: str = "C") -> str:
        return city

    with nr.session(store, "replay") as session:
        for more in ({}, {"unit": "F"}):
            with pytest.raises(nr.RecordingMissing):
                get_weather("Tokyo", **more)
    assert [interaction.key for interaction in session.interactions] == [
        "k1:76706e179451868a4868984e0ef2f08854153f719e8d514e23f52875cfa549a5",
        "k1:624687b923e970203465efe8966b8c838237e5723e5bf93d253dd3c297f152fa",
    ]
    transport = nr.transport(store, "replay", ignore=["temperature"], mask=["in [A-Z][a-z]+"])
    with http.Client(transport=transport) as client, pytest.raises(nr.RecordingMissing):
        client.request(**REQUESTS["a streamed chat"])
    assert transport.session.interactions[0].key == MASKED


def test_a_tool_call_and_its_result_have_one_key_whatever_their_id(store: Path) -> None:
    transport = nr.transport(store, "replay")
    with http.Client(transport=transport) as client, pytest.raises(nr.RecordingMissing):
        client.request(**_post(f"{OPENAI}chat/completions", _with_result("call_9zX1yW2vU")))
    assert transport.session.interactions[0].key == KEYS["a chat with a tool's result"]


def test_a_recording_has_the_bytes_that_it_had(store: Path) -> None:
    transport = nr.transport(store, "record", inner=http.MockTransport(answer))
    assert exchange(transport) == [(200, b"".join(STREAM)), (429, b'{"error":"x"}'), (200, PICTURE)]
    names = {path.name for path in store.iterdir()}
    assert names == {*FILES, BLOB, ".nbreplay"}
    assert {path.name for path in (store / ".nbreplay").iterdir()} == {".gitignore", "lock"}
    for name, text in FILES.items():
        assert steadied((store / name).read_text(encoding="utf-8")) == text
    assert (store / BLOB).read_bytes() == PICTURE


def test_recordings_that_lie_in_a_store_are_read_and_replayed(store: Path) -> None:
    store.mkdir()
    for name, text in FILES.items():
        (store / name).write_bytes(text.encode())
    (store / BLOB).write_bytes(PICTURE)
    opened = nr.Store(store)
    assert sorted(opened.names()) == sorted(FILES)
    for name, recording in opened.recordings():
        assert isinstance(recording, nr.Recording)
        assert recording.text() == FILES[name]
        assert recording.key.startswith("k1:")
        again = nr.Recording(recording.key, recording.kind, dict(recording.request), recording.takes)
        assert again.text() == FILES[name]
    transport = nr.transport(store, "replay")
    assert exchange(transport) == [(200, b"".join(STREAM)), (429, b'{"error":"x"}'), (200, PICTURE)]
    assert [interaction.outcome for interaction in transport.session.interactions] == ["replayed"] * 3


# How many recordings there are, and the digest of the lines that `python -m tests.reencode` prints of them.
ENCODED = {
    "tests/sdks/crossed/by-openai-2": (15, "a34ec2e1d324d2e306d8ebbe"),
    "tests/sdks/crossed/by-openai-3": (15, "655e123446609ad2ce55f3bc"),
    "recordings-llama-stack": (225, "0952d281ee268363881c72a5"),
    "cassettes-pydantic-ai": (326, "4972b143f352ab4a25a0b978"),
    "seed-recording.json": (1, "1e7770b63f691c32cec1faaa"),
}


@pytest.mark.full(quick=2)
@pytest.mark.parametrize("name", ENCODED)
def test_recordings_are_imported_encoded_replayed_and_recorded_as_they_were(name: str) -> None:
    lines = sorted(reencode.recordings(reencode.ROOT, name))
    if not lines:
        pytest.skip("the recordings of other tools are not here")
    assert (len(lines), reencode.digest("\n".join(lines).encode())) == ENCODED[name]


def test_every_recording_of_the_project_is_encoded_as_it_stands_in_its_file() -> None:
    lines = [line.split(" ") for line in reencode.recordings(reencode.ROOT, "recordings")]
    assert lines
    assert [name for name, _, file, again, _, _ in lines if again != file] == []


@pytest.mark.parametrize(
    ("group", "name", "wanted"),
    [
        ("console_scripts", "nbreplay", None),
        ("nbconvert.exporters", "nbreplay", None),
        ("jupyter_client.kernel_provisioners", "nbreplay-docs", None),
        ("jupyter_client.kernel_provisioners", "nbreplay-warm", None),
        ("pytest11", "nbreplay", "nbreplay.testing.plugin"),
    ],
)
def test_an_entry_point_can_be_loaded(group: str, name: str, wanted: str | None) -> None:
    point = entry_point(group, name)
    assert point.load()
    assert point.value == (wanted or point.value)


def test_there_are_no_other_entry_points() -> None:
    assert sorted((group, name) for group, names in PROJECT.items() for name in names) == [
        ("console_scripts", "nbreplay"),
        ("jupyter_client.kernel_provisioners", "nbreplay-docs"),
        ("jupyter_client.kernel_provisioners", "nbreplay-warm"),
        ("nbconvert.exporters", "nbreplay"),
        ("pytest11", "nbreplay"),
    ]


@pytest.mark.parametrize("way", ["module", "script"])
def test_the_command_line_starts(way: str) -> None:
    module, _, function = entry_point("console_scripts", "nbreplay").value.partition(":")
    script = f"import sys; from {module} import {function}; sys.exit({function}())"  # as an installer writes it
    command = ["-m", "nbreplay"] if way == "module" else ["-c", script]
    done = subprocess.run([sys.executable, *command, "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"nbreplay {nr.__version__}\n", "")


def help_of(*arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        entry_point("console_scripts", "nbreplay").load()([*arguments, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(capsys=capsys)
    assert sorted(re.findall(r"(?m)^  ([a-z]+) ", text)) == sorted(COMMANDS)
    assert options_of(text) == ["--version"]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_options_of_a_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = help_of(command, capsys=capsys).partition("\noptions:\n")[2].partition("\n\n")[0]
    assert options_of(options) == COMMANDS[command].split()


def test_what_a_command_prints_as_json(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exchange(nr.transport(store, "record", inner=http.MockTransport(answer)))
    main = entry_point("console_scripts", "nbreplay").load()
    assert main(["ls", "--json", str(store)]) == 0
    assert {" ".join(sorted(row)) for row in json.loads(capsys.readouterr().out)} == {LS_JSON}
    assert main(["show", "--json", "--store", str(store), "chat-ade5f1e2c9d8413b"]) == 0
    assert " ".join(sorted(json.loads(capsys.readouterr().out))) == SHOW_JSON


def test_the_magics_and_their_options(monkeypatch: pytest.MonkeyPatch) -> None:
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    nr.load_ipython_extension(shell)
    try:
        assert shell.find_line_magic("replay")
        assert shell.find_cell_magic("replay")
        magics = shell.magics_manager.registry["ReplayMagics"]
        assert options_of(magics.replay.__doc__ or "") == MAGIC_OPTIONS.split()
        assert " ".join(sorted(magics.trait_names(config=True))) == MAGIC_TRAITS
        for mode in ("on", "auto", "record", "replay", "live", "record-if-missing", "off"):
            shell.run_line_magic("replay", f"{mode} recordings")
    finally:
        nr.unload_ipython_extension(shell)
    assert shell.find_line_magic("replay") is None


def test_the_options_of_pytest() -> None:
    parser = pytest.Parser(_ispytest=True)
    plugin = entry_point("pytest11", "nbreplay").load()
    plugin.pytest_addoption(parser)
    (group,) = [group for group in parser._groups if group.name == "nbreplay"]
    assert sorted(name for option in group.options for name in option.names()) == PYTEST_OPTIONS.split()
    assert plugin.replay


def test_the_plugin_can_be_named_with_p_and_brings_a_marker_and_a_fixture() -> None:
    Path("test_it.py").write_text(
        "import pytest\n"
        "@pytest.mark.nbreplay(mode='replay', store='r', ignore=[], mask=[], allow=[], allow_children=False, speed=1)\n"
        "def test_it(replay):\n    assert replay.interactions == []\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "nbreplay.testing.plugin", "--strict-markers", "test_it.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_saved_notebooks_find_their_widget() -> None:
    from nbreplay.notebook.widget import StreamView

    assert (StreamView.__module__, StreamView.__qualname__) == ("nbreplay.notebook.widget", "StreamView")
    synchronised = set(StreamView().trait_names(sync=True))
    assert {"_anywidget_id", "_css", "_esm", "cards", "head", "rows", "together"} <= synchronised
    assert StreamView()._anywidget_id == "nbreplay.notebook.widget.StreamView"


def test_the_frames_have_the_columns_that_they_had(store: Path) -> None:
    transport = nr.transport(store, "record", inner=http.MockTransport(answer))
    exchange(transport)
    library = nr.load(store)
    for name, columns in COLUMNS.items():
        assert list(getattr(library, name).columns) == columns.split(), name
    assert library.interactions.index.name == "interaction"
    assert {"outcome", "served_s"} <= set(nr.load(transport.session).interactions.columns)
    metrics = [name for name in dir(library.interactions.llm) if not name.startswith("_")]
    assert {"cost", "gaps", "otel", "plot", "summary", "throughput", "tool_success", "ttft"} <= set(metrics)
    assert set(OTEL.split()) <= set(library.interactions.llm.otel().columns)
    comparison = nr.compare(store, store)
    assert comparison.counts == {"same": 3, "changed": 0, "only in a": 0, "only in b": 0}
    assert len(comparison.changed) == 0
