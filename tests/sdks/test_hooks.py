"""Each library that is installed still has the private hooks that nbreplay uses, with the signatures it expects.

A release that changes one fails here first, with its name and version.
"""

from __future__ import annotations

import functools
import importlib.metadata
import inspect
import platform
import subprocess
import sys
from operator import attrgetter
from pathlib import Path

import pytest

from nbreplay.intercept import patching, registry
from tests.clients import http

SELF_URL = ("self", "url")
MAKE_REQUEST = (
    *("self", "conn", "method", "url", "body", "headers", "retries", "timeout", "chunked", "response_conn"),
    *("preload_content", "decode_content", "enforce_content_length"),
)
TOOL_RUN = (
    *("self", "tool_input", "verbose", "start_color", "color", "callbacks", "tags", "metadata", "run_name", "run_id"),
    *("config", "tool_call_id", "kwargs"),
)
CALL_TOOL = (
    *("self", "name", "arguments", "read_timeout_seconds", "progress_callback", "input_responses", "request_state"),
    *("meta", "allow_input_required", "allow_claimed"),
)
_MCP_1 = importlib.util.find_spec("mcp") and importlib.metadata.version("mcp").startswith("1.")
_MCP = (
    [
        ("ClientSession.call_tool", ("self", "name", "arguments", "read_timeout_seconds", "progress_callback", "meta")),
        ("ClientSession.initialize", ("self",)),
        ("types.InitializeResult", None),
        ("types.ErrorData", None),
    ]
    if _MCP_1
    else [
        ("ClientSession.call_tool", CALL_TOOL),
        ("ClientSession.initialize", None),
        ("ClientSession.server_info", None),
        ("MCPError", ("code", "message", "data")),
        ("types.InputRequiredResult", None),
    ]
)


def _is_before(library: str, *version: int) -> bool:
    if importlib.util.find_spec(library) is None:
        return False
    return tuple(int(part) for part in importlib.metadata.version(library).split(".")[:2]) < version


# (library, what is hooked or built on, its parameters; None where only its being there matters)
CONTRACT: list[tuple[str, str, tuple[str, ...] | None]] = [
    ("threading", "Thread.start", ("self",)),
    ("concurrent.futures.thread", "_WorkItem.__init__", None),  # Python 3.14 has other parameters
    ("concurrent.futures.thread", "_WorkItem.run", None),
    *(
        (name, *entry)
        for name in ("httpx", "httpx2")
        for entry in (
            ("Client._transport_for_url", SELF_URL),
            ("AsyncClient._transport_for_url", SELF_URL),
            ("HTTPTransport.handle_request", ("self", "request")),
            ("AsyncHTTPTransport.handle_async_request", ("self", "request")),
            ("MockTransport", None),
            ("WSGITransport", None),
            ("ASGITransport", None),
            ("SyncByteStream", None),
            ("AsyncByteStream", None),
            ("DecodingError", None),
        )
    ),
    ("aiohttp", "BaseConnector.connect", ("self", "req", "traces", "timeout")),
    ("aiohttp", "ClientResponse.start", ("self", "connection")),
    ("aiohttp", "client_proto.ResponseHandler.data_received", ("self", "data")),
    ("aiohttp", "StreamReader.feed_data", None),
    ("aiohttp", "StreamReader.set_exception", None),
    ("aiohttp", "StreamReader._wait", ("self", "func_name")),
    ("aiohttp", "connector.Connection", ("connector", "key", "protocol", "loop")),
    ("urllib3", "connectionpool.HTTPConnectionPool._make_request", MAKE_REQUEST),
    ("urllib3", "connectionpool.HTTPSConnectionPool._prepare_proxy", ("self", "conn")),
    ("urllib3", "util.retry.time.sleep", None),
    ("urllib3", "response.BaseHTTPResponse._decode", None),
    ("urllib3", "response.BaseHTTPResponse._init_decoder", None),
    ("urllib3", "response.HTTPResponse.CONTENT_DECODERS", None),
    ("botocore.endpoint", "time.sleep", None),
    ("http.client", "HTTPConnection._send_output", ("self", "message_body", "encode_chunked")),
    ("http.client", "HTTPConnection.send", ("self", "data")),
    ("http.client", "HTTPConnection.getresponse", ("self",)),
    ("agents.tool", "_FailureHandlingFunctionToolInvoker.__call__", ("self", "ctx", "input")),
    ("agents.tool", "_invoke_function_tool_with_metadata", ("function_tool", "context", "arguments")),
    ("agents.tool", "FunctionTool._is_agent_tool", None),
    ("agents.tool", "FunctionTool._tool_origin", None),
    ("agents.tool", "FunctionTool.qualified_name", None),
    ("agents.tool", "UserError", None),
    ("agents.tool", "ModelBehaviorError", None),
    ("agents.tool", "ToolOutputText", None),
    ("agents.tool", "ToolOutputImage", None),
    ("agents.tool", "ToolOutputFileContent", None),
    (
        "agents.run_internal.tool_execution",
        "_invoke_function_tool_with_metadata",
        ("function_tool", "context", "arguments"),
    ),
    ("langchain_core.tools.base", "BaseTool.run", TOOL_RUN),
    ("langchain_core.tools.base", "BaseTool.arun", TOOL_RUN),
    ("langchain_core.tools.base", "BaseTool._arun", ("self", "args", "kwargs")),
    ("langchain_core.tools.base", "BaseTool._filter_injected_args", ("self", "tool_input")),
    ("langchain_core.tools.base", "_get_runnable_config_param", ("func",)),
    ("langchain_core.tools.base", "ToolException", None),
    ("langchain_core.tools.base", "ToolMessage", None),
    *(("mcp.client.session", *entry) for entry in (*_MCP, ("types.CallToolResult", None))),
    ("mcp.client.stdio", "_create_platform_compatible_process", None),
    ("mcp.client.streamable_http", "StreamableHTTPTransport.__init__", None),
    *(
        (
            f"pydantic_ai.toolsets.{name}",
            f"{name.title()}Toolset.call_tool",
            ("self", "name", "tool_args", "ctx", "tool"),
        )
        for name in ("combined", "function", "wrapper")
    ),
    ("pydantic_ai.messages", "BinaryContent.narrow_type", ("bc",)),
    *(
        ("pydantic_ai.messages", name, None)
        for name in ("ToolReturn", "BinaryImage", "ImageUrl", "DocumentUrl", "AudioUrl", "VideoUrl")
    ),
    ("pydantic_ai.exceptions", "ModelRetry", None),
    ("pydantic_ai.exceptions", "ToolFailed", None),
    ("pydantic_ai.exceptions", "ApprovalRequired", ("metadata",)),
    ("pydantic_ai.exceptions", "CallDeferred", None),
    ("_posixsubprocess", "fork_exec", None),
    ("subprocess", "_fork_exec", None),
    *(("os", name, None) for name in ("execv", "execve", "posix_spawn", "posix_spawnp", "system")),
    ("multiprocessing.pool", "worker", None),
    ("multiprocessing.popen_forkserver", "Popen._launch", ("self", "process_obj")),
    ("ptyprocess.ptyprocess", "PtyProcess.spawn", None),
    ("socket", "getnameinfo", None),
    *((name, "__name__", None) for name in registry.UNHOOKED),
    ("curl_cffi.curl", "Curl.perform", ("self", "clear_headers", "clear_resolve")),
    ("curl_cffi.curl", "CurlInfo.EFFECTIVE_URL", None),
    ("curl_cffi.aio", "AsyncCurl.add_handle", ("self", "curl")),
    *(
        ("gevent.resolver", f"AbstractResolver.{name}", None)
        for name in ("getaddrinfo", "gethostbyaddr", "gethostbyname", "gethostbyname_ex", "getnameinfo")
    ),
    ("grpc._channel", "Channel.subscribe", ("self", "callback", "try_to_connect")),
    *(
        ("grpc._channel", f"_{kind}MultiCallable", None)
        for kind in ("SingleThreadedUnaryStream", "StreamStream", "StreamUnary", "UnaryStream", "UnaryUnary")
    ),
    ("grpc.aio._channel", "Channel.channel_ready", ("self",)),
    ("grpc.aio._channel", "UnaryUnaryMultiCallable.__call__", None),
    *(
        ("duckdb", f"{owner}{name}", None)
        for owner in ("", "DuckDBPyConnection.")
        for name in ("execute", "query", "read_csv", "read_json", "read_parquet", "sql")
    ),
    *(("polars", f"read_{kind}", None) for kind in ("csv", "delta", "ipc", "ndjson", "parquet")),
    *(("polars", f"scan_{kind}", None) for kind in ("csv", "delta", "iceberg", "ipc", "ndjson", "parquet")),
    *(("httpx_ws._api", f"{kind}.__init__", None) for kind in ("WebSocketSession", "AsyncWebSocketSession")),
    ("pyodide", "__version__", None),  # what is hooked is the browser's: see tests/pyodide
    ("pyarrow.fs", "_ensure_filesystem", None),
    ("pyarrow.fs", "_resolve_filesystem_and_path", None),
    ("pyarrow.orc", "_resolve_filesystem_and_path", None),
    ("pyarrow.parquet.core", "_ensure_filesystem", None),
    ("pyarrow.parquet.core", "_resolve_filesystem_and_path", None),
    ("pycurl", "Curl.perform", None),
    ("pycurl", "CurlMulti.add_handle", None),
    ("pycurl", "EFFECTIVE_URL", None),
    ("uvloop", "Loop.create_connection", None),
    ("uvloop", "Loop.create_datagram_endpoint", None),
    ("uvloop", "Loop.subprocess_exec", None),
    ("zmq.sugar.socket", "Socket.connect", ("self", "addr")),
    (
        "websockets.asyncio.client",
        "connect.create_connection" if _is_before("websockets", 17, 0) else "connect.open_tcp_connection",
        ("self",),
    ),
    ("websockets.client", "ClientProtocol.process_response", ("self", "response")),
    ("websockets.client", "ClientProtocol.receive_eof", ("self",)),
    ("websockets.client", "ClientProtocol.recv_frame", ("self", "frame")),
    ("websockets.client", "ClientProtocol.send_frame", ("self", "frame")),
    ("websockets.client", "ClientProtocol.send_request", ("self", "request")),
    ("websockets.legacy.client", "parse_uri", ("uri",)),
    ("websockets.sync.client", "connect", None)
    if _is_before("websockets", 17, 1)
    else ("websockets.sync.client", "reconnect.open_connection", ("self", "deadline")),
]


@functools.cache  # reads the metadata of all that is installed
def version_of(library: str) -> str:
    if library == "http.client":
        return f"Python {platform.python_version()}"
    root = library.partition(".")[0]
    if root in sys.stdlib_module_names:
        return platform.python_version()
    return importlib.metadata.version(importlib.metadata.packages_distributions()[root][0])


def complaints(library: str) -> list[str]:
    """Say what is not as expected in a library."""
    module, found = pytest.importorskip(library, reason=f"{library} is not installed: pip install -e '.[sdks]'"), []
    for _, path, expected in (entry for entry in CONTRACT if entry[0] == library):
        try:
            parameters = attrgetter(path)(module)
        except AttributeError:
            found.append(f"{library} {version_of(library)}: {path} is gone")
            continue
        if expected is not None and tuple(inspect.signature(parameters).parameters) != expected:
            told = f"has the parameters {inspect.signature(parameters)}"
            found.append(f"{library} {version_of(library)}: {path} {told}")
    return found


@pytest.mark.full(quick=4)
@pytest.mark.parametrize("library", dict.fromkeys(entry[0] for entry in CONTRACT))
def test_the_library_has_what_is_hooked(library: str) -> None:
    assert complaints(library) == []


@pytest.mark.parametrize("library", sorted(registry.LIBRARIES))
def test_the_interceptor_takes_the_library(library: str) -> None:
    module = pytest.importorskip(library, reason=f"{library} is not installed: pip install -e '.[sdks]'")
    patching.hook(registry.LIBRARIES[library], module)()


def test_every_library_that_is_hooked_has_a_contract() -> None:
    assert registry.LIBRARIES.keys() <= {library for library, _, _ in CONTRACT}


def test_a_library_that_has_changed_is_named_with_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(http.AsyncClient, "_transport_for_url")
    monkeypatch.setattr(http.Client, "_transport_for_url", http.Client.build_request)
    name = f"{http.__name__} {http.__version__}"
    assert complaints(http.__name__) == [
        f"{name}: Client._transport_for_url has the parameters {inspect.signature(http.Client.build_request)}",
        f"{name}: AsyncClient._transport_for_url is gone",
    ]


@pytest.mark.parametrize("library", ["agents", "langchain_core.tools.base", "mcp", "pydantic_ai"])
def test_a_library_that_is_imported_under_a_session_is_hooked(library: str, tmp_path: Path) -> None:
    pytest.importorskip(library, reason=f"{library} is not installed: pip install -e '.[sdks]'")
    program = f"""
import sys
import nbreplay as nr
from nbreplay.intercept import patching, registry
with nr.session({str(tmp_path)!r}, mode="replay"):
    import {library}
    assert not patching.problems(), patching.problems()
    named = [name for name in registry.LIBRARIES if name.partition(".")[0] == {library.partition(".")[0]!r}]
    assert [name for name in named if name in patching._undo], named
    assert all(name in patching._undo for name in named if name in sys.modules), named
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2], timeout=120)
