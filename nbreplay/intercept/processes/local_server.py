"""The server of a session's children that are not Python: it is started at the first of them.

Its addresses, and itself as a proxy, are put into the variables of these children alone. It needs the packages of the
extra ``serve``; without them known network clients are refused under replay.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import os
import threading
import weakref
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

from nbreplay.core.config import Mode
from nbreplay.core.secrets.credentials import PLACEHOLDER
from nbreplay.core.session import Session, active_sessions, on_change
from nbreplay.errors import NbreplayError
from nbreplay.intercept.processes.programs import Child

GIVEN = "NBREPLAY_GIVEN"
"""The variable that holds the others that were given to a child, each with the value that it had before."""

_NODE = Path(__file__).with_name("node.cjs")
# Programs are to send no more than they are asked for, and not to wait for what is refused.
_QUIET = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",  # telemetry, updates, a title for the session
    "npm_config_fetch_retries": "0",
    "npm_config_prefer_offline": "true",
    "npm_config_update_notifier": "false",
}

# Each with the process that it runs in: one that is forked from that has its addresses.
_servers: weakref.WeakKeyDictionary[Session, tuple[Any, int]] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


@functools.cache
def is_installed() -> bool:
    """Tell whether the packages of the server are installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("starlette", "uvicorn", "websockets"))


def has_server(session: Session, *, is_exec: bool = False) -> bool:
    """Tell whether a child of a session can call a server, which is started if there is none.

    A program that takes the place of this process, by `exec`, needs the server of another one.
    """
    with _lock:
        if session not in _servers and not is_exec and is_installed():
            try:
                _servers[session] = importlib.import_module("nbreplay.serve.local").start(session), os.getpid()
            except (ImportError, NbreplayError, OSError):
                return False
        return session in _servers and not (is_exec and _servers[session][1] == os.getpid())


def find_variables(
    session: Session, child: Child, environ: Mapping[str, str], *, is_exec: bool = False
) -> dict[str, str | None]:
    """Return the variables by which a child that is about to be started calls the server of a session."""
    if not has_server(session, is_exec=is_exec):
        return {}
    server, _ = _servers[session]
    given: dict[str, str | None] = {**server.environment(environ, session.run), **_QUIET}
    if session.mode in (Mode.REPLAY, Mode.AUTO):
        given |= importlib.import_module("nbreplay.serve.addresses").placeholders(environ)
    key = "ANTHROPIC_API_KEY"
    is_login = session.mode is Mode.AUTO and child.name.startswith("claude")
    if is_login and PLACEHOLDER in ({**environ, **given}.get(key) or ""):
        given[key] = None  # with a key set, claude ignores the login of its user
    setting = {"address": f"{server.address}/-/run/{server.name_run(session.run)}", "proxy": given["HTTP_PROXY"]}
    given["NBREPLAY_NODE"] = json.dumps({**setting, "replaying": session.mode is Mode.REPLAY})
    given["NODE_OPTIONS"] = f'{environ.get("NODE_OPTIONS", "")} --require="{_NODE.as_posix()}"'.strip()
    before = json.loads(environ.get(GIVEN, "{}"))
    given[GIVEN] = json.dumps({name: before.get(name, environ.get(name)) for name in given})
    return given


def withdraw(environ: MutableMapping[str, str]) -> None:
    """Put back the variables of a process that is itself on, and does not need the server of its parent."""
    for name, value in json.loads(environ.pop(GIVEN, "{}")).items():
        if value is None:
            environ.pop(name, None)
        else:
            environ[name] = value


def _stop_servers() -> None:
    """Stop the servers of sessions that have ended."""
    for session in [session for session in _servers if session not in active_sessions()]:
        server, process = _servers.pop(session)
        if process == os.getpid():
            server.stop()


on_change(_stop_servers)
