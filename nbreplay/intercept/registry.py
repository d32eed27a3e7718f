"""The table of the libraries that are hooked; switches hooks, the network guard and placeholder keys on and off.

They are on while a session is. Hooks stay while a client may exist that was built with a placeholder key, which must
never be sent.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable
from typing import Any

from nbreplay.core.config import Mode, Options, default_store, project
from nbreplay.core.log import Log
from nbreplay.core.session import Session, active_sessions, on_change
from nbreplay.core.store.store import Store
from nbreplay.intercept import patching, placeholder_keys
from nbreplay.intercept.network import children, guard

__all__ = ["LIBRARIES", "UNHOOKED", "open_session", "session", "undo"]

UNHOOKED = ("MySQLdb", "confluent_kafka", "primp", "psycopg.pq", "psycopg2", "pycares", "pymssql", "pyodbc", "rnet")
"""Libraries that open connections in compiled code that cannot be replaced: under replay they are reported."""

LIBRARIES = {
    # HTTP
    "aiohttp": "http.aiohttp",
    "botocore.endpoint": "http.urllib3:install_botocore",
    "http.client": "http.http_client",
    "httpx": "http.httpx",
    "httpx2": "http.httpx",
    "urllib3": "http.urllib3",
    "websockets.asyncio.client": "http.websockets",
    "websockets.client": "http.websockets:install_protocol",
    "websockets.sync.client": "http.websockets",
    # Tools
    "agents.run_internal.tool_execution": "tools.openai_agents:install_runner",
    "agents.tool": "tools.openai_agents",
    "langchain_core.tools.base": "tools.langchain",
    "mcp.client.session": "tools.mcp",
    "mcp.client.streamable_http": "tools.mcp:install_http",
    "pydantic_ai.toolsets.combined": "tools.pydantic_ai:install_combined",
    "pydantic_ai.toolsets.function": "tools.pydantic_ai",
    "pydantic_ai.toolsets.wrapper": "tools.pydantic_ai:install_wrapper",
    # Connections that are only refused
    "curl_cffi.aio": "network.libraries",
    "curl_cffi.curl": "network.libraries",
    "gevent.resolver": "network.libraries",
    "grpc._channel": "network.libraries",
    "grpc.aio._channel": "network.libraries",
    "pycurl": "network.libraries:install_pycurl",
    "socket": "network.guard:install_numeric",
    "uvloop": "network.libraries:install_uvloop",
    "zmq.sugar.socket": "network.libraries",
    **dict.fromkeys(UNHOOKED, "network.libraries"),
    # Child processes
    "_posixsubprocess": "network.libraries",
    "multiprocessing.popen_forkserver": "network.libraries",
    "ptyprocess.ptyprocess": "network.libraries",
}
"""The libraries that are hooked, one a row: the module that is patched once it is imported, and its interceptor.

The interceptor is a module of this package, with its function where that is not ``install``; see `patching.hook`.
"""

_replaying: weakref.WeakSet[Session] = weakref.WeakSet()


def session(
    store: str | os.PathLike[str] | None = None,
    mode: str | None = None,
    *,
    speed: float | None = None,
    ignore: Iterable[str] = (),
    mask: Iterable[str] = (),
    only: Iterable[str] | None = None,
    allow: Iterable[str] = (),
    allow_children: bool | None = None,
) -> Session:
    """Return a session, to be used with ``with`` or ``async with``.

    Parameters
    ----------
    store : path, optional
        The folder of recordings; or a ``.zip`` of one, or its https address, which are only replayed. Where none
        is named: ``NBREPLAY_STORE``, else the project's, else the nearest folder ``recordings``, else a new one.
    mode : {"auto", "replay", "record", "off"}, optional
        ``auto`` (the default) replays what is recorded and records what is missing. ``NBREPLAY_MODE`` overrides it.
    speed : float, optional
        Replays at the recorded pace times `speed`; at once, if not given.
    ignore : iterable of str
        Fields of the request's body to leave out of its key, such as ``metadata.run_id``.
    mask : iterable of str
        Regular expressions; what they match in the request does not count.
    only : iterable of str, optional
        The hosts to record and replay; all, if not given.
    allow : iterable of str
        ``HOST`` or ``HOST:PORT`` that ``replay`` lets through, live; or the path of a Unix socket.
    allow_children : bool, optional
        Whether ``replay`` lets child processes start that are known network clients (``curl``, ``node``, ``ssh``, a
        Python that imports a hooked library). What they send is neither replayed nor refused.

    Returns
    -------
    Session

    Raises
    ------
    OptionError
        For an unknown mode or an option of the wrong type.
    StoreError
        Where the store is neither a folder nor a zip that can be read.
    """
    return open_session(
        store, mode=mode, speed=speed, ignore=ignore, mask=mask, only=only, allow=allow, allow_children=allow_children
    )


def open_session(
    store: str | os.PathLike[str] | None, *, log: Log | None = None, folder: str | os.PathLike[str] = ".", **given: Any
) -> Session:
    """Return a session as `session` does, on top of the options of the project that `folder` is in."""
    defaults = project(folder)
    options = defaults.options
    for name in ("ignore", "mask", "allow"):
        extra = Options.of(**{name: given.get(name)})
        given[name] = tuple(dict.fromkeys([*getattr(options, name), *getattr(extra, name)]))
    path = store if store is not None else default_store(folder, defaults)
    return Session(Store(path, durable=defaults.durable), options.with_(**given), log=log)


def undo() -> None:
    """Undo every hook, and remove the placeholder keys."""
    placeholder_keys.withdraw()
    patching.remove()


def _follow_sessions() -> None:
    sessions = active_sessions()
    if sessions or placeholder_keys.was_placed():
        patching.install(LIBRARIES)
    else:
        patching.remove()
    if any(session.mode in (Mode.REPLAY, Mode.AUTO) for session in sessions):
        placeholder_keys.place()
    else:
        placeholder_keys.withdraw()
    if sessions:
        guard.install()
    session = guard.replay_session()
    if session is not None and session not in _replaying:
        _replaying.add(session)
        guard.name_existing(session)
        children.name_existing()


on_change(_follow_sessions)
