"""The table of the libraries that are hooked. A child process reads it at its start, so that it imports nothing."""

UNHOOKED = (
    *("MySQLdb", "confluent_kafka", "hf_xet", "obstore", "primp", "psycopg.pq", "psycopg2", "pycares", "pymssql"),
    *("pyodbc", "rnet"),
)
"""Libraries that open connections in compiled code that cannot be replaced: under replay they are reported."""

LIBRARIES = {
    # HTTP
    "aiohttp": "http.aiohttp",
    "botocore.endpoint": "http.urllib3:install_botocore",
    "http.client": "http.http_client",
    "httpx": "http.httpx",
    "httpx2": "http.httpx",
    "httpx_ws._api": "http.httpx_websocket",
    "urllib3": "http.urllib3",
    "websockets.asyncio.client": "http.websockets",
    "websockets.client": "http.websockets:install_protocol",
    "websockets.legacy.client": "http.websockets:install_legacy",
    "websockets.sync.client": "http.websockets:install_sync",
    # Tools
    "agents.run_internal.tool_execution": "tools.openai_agents:install_runner",
    "agents.tool": "tools.openai_agents",
    "langchain_core.tools.base": "tools.langchain",
    "mcp.client.session": "tools.mcp",
    "mcp.client.stdio": "tools.mcp:install_stdio",
    "mcp.client.streamable_http": "tools.mcp:install_http",
    "pydantic_ai.toolsets.combined": "tools.pydantic_ai:install_combined",
    "pydantic_ai.toolsets.function": "tools.pydantic_ai",
    "pydantic_ai.toolsets.wrapper": "tools.pydantic_ai:install_wrapper",
    # Threads, which are numbered, and pools
    "concurrent.futures.thread": "threads:install_pool",
    "multiprocessing.pool": "threads:install_workers",
    "threading": "threads",
    # Connections that are only refused
    "curl_cffi.aio": "network.libraries",
    "curl_cffi.curl": "network.libraries",
    "duckdb": "network.libraries",
    "gevent.resolver": "network.libraries",
    "grpc._channel": "network.libraries",
    "grpc.aio._channel": "network.libraries",
    "polars": "network.libraries",
    "pyodide": "network.libraries:install_pyodide",
    "pyarrow.fs": "network.libraries:install_pyarrow",
    "pyarrow.orc": "network.libraries",
    "pyarrow.parquet.core": "network.libraries",
    "pycurl": "network.libraries:install_pycurl",
    "socket": "network.guard:install_socket",
    "uvloop": "network.libraries:install_uvloop",
    "zmq.sugar.socket": "network.libraries",
    **dict.fromkeys(UNHOOKED, "network.libraries"),
    # Child processes
    "_posixsubprocess": "processes.starts",
    "multiprocessing.popen_forkserver": "network.libraries",
    "os": "processes.starts:install_os",
    "ptyprocess.ptyprocess": "processes.starts:install_ptyprocess",
    "subprocess": "processes.starts",
}
"""The libraries that are hooked, one a row: the module that is patched once it is imported, and its interceptor.

The interceptor is a module of this package, with its function where that is not ``install``; see `patching.hook`.
"""
