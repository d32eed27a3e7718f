"""Switching interception on and off: hooks into HTTP libraries, the network guard, placeholder keys.

They are there while a session is. A hook stays while a client may be around that was built with a
placeholder key, which must never be sent.
"""

from __future__ import annotations

import importlib
import os
import weakref
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from nbreplay.core.config import Mode, Options, default_store, project
from nbreplay.core.session import Session, active_sessions, on_change
from nbreplay.core.store.store import Store
from nbreplay.intercept import patching, placeholder_keys
from nbreplay.intercept.children import processes
from nbreplay.intercept.network import guard

__all__ = ["UNHOOKED", "opened", "session", "undo"]


_begun: weakref.WeakSet[Session] = weakref.WeakSet()


def _by(interceptor: str, function: str = "install") -> patching.Hook:
    """Return the hook of an interceptor, which is imported only where its library is."""

    def hook(library: ModuleType) -> patching.Undo:
        undo: patching.Undo = getattr(importlib.import_module(f"nbreplay.intercept.{interceptor}"), function)(library)
        return undo

    return hook


UNHOOKED = ("MySQLdb", "confluent_kafka", "primp", "psycopg.pq", "psycopg2", "pycares", "pymssql", "pyodbc", "rnet")
"""Libraries that are named, since nothing of them can be replaced."""
_LIBRARIES = {
    **dict.fromkeys(UNHOOKED, _by("network.libraries", "install_unhooked")),
    "_posixsubprocess": _by("children.processes", "install_fork_exec"),
    "agents.run_internal.tool_execution": _by("tools.openai_agents", "install_runner"),
    "agents.tool": _by("tools.openai_agents"),
    "aiohttp": _by("http.aiohttp"),
    "botocore.endpoint": _by("http.botocore"),
    "curl_cffi.aio": _by("network.libraries"),
    "curl_cffi.curl": _by("network.libraries"),
    "gevent.resolver": _by("network.libraries"),
    "grpc._channel": _by("network.libraries"),
    "grpc.aio._channel": _by("network.libraries"),
    "http.client": _by("http.http_client"),
    "httpx": _by("http.httpx"),
    "httpx2": _by("http.httpx"),
    "langchain_core.tools.base": _by("tools.langchain"),
    "mcp.client.session": _by("tools.mcp"),
    "mcp.client.streamable_http": _by("tools.mcp", "install_http"),
    "multiprocessing.popen_forkserver": _by("children.processes", "install_forkserver"),
    "ptyprocess.ptyprocess": _by("children.processes", "install_ptyprocess"),
    "pycurl": _by("network.libraries", "install_pycurl"),
    "pydantic_ai.toolsets.combined": _by("tools.pydantic_ai", "install_combined"),
    "pydantic_ai.toolsets.function": _by("tools.pydantic_ai"),
    "pydantic_ai.toolsets.wrapper": _by("tools.pydantic_ai", "install_wrapper"),
    "socket": _by("network.sockets"),
    "urllib3": _by("http.urllib3"),
    "uvloop": _by("network.libraries", "install_uvloop"),
    "websockets.asyncio.client": _by("http.websockets"),
    "websockets.client": _by("http.websockets", "install_protocol"),
    "websockets.sync.client": _by("http.websockets"),
    "zmq.sugar.socket": _by("network.libraries"),
}


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
        Where the store is no folder, and no zip of one that can be had.
    """
    return opened(
        store,
        mode=mode,
        speed=speed,
        ignore=ignore,
        mask=mask,
        only=only,
        allow=allow,
        allow_children=allow_children,
    )


def opened(
    store: str | os.PathLike[str] | None, *, log: Any = None, folder: str | os.PathLike[str] = ".", **given: Any
) -> Session:
    """Return a session as `session` does, on top of what the project that `folder` is in says."""
    known = project(folder)
    options = known.options
    for name in ("ignore", "mask", "allow"):
        extra = Options.of(**{name: given.get(name)})
        given[name] = tuple(dict.fromkeys([*getattr(options, name), *getattr(extra, name)]))
    where = Store(store if store is not None else default_store(folder, known), durable=known.durable)
    return Session(where, options.with_(**given), log=log)


def _changed() -> None:
    sessions = active_sessions()
    if sessions or placeholder_keys.ever_placed():
        patching.install(_LIBRARIES)
    else:
        patching.remove()
    modes = [one.mode for one in sessions]
    if any(mode in (Mode.REPLAY, Mode.AUTO) for mode in modes):
        placeholder_keys.place()
    else:
        placeholder_keys.withdraw()
    if sessions:
        guard.install()
    session = guard.replay_session()
    if session is not None and session not in _begun:
        _begun.add(session)
        guard.name_existing(session)
        processes.name_existing()


def undo() -> None:
    """Take every hook back, placeholders or not."""
    placeholder_keys.withdraw()
    patching.remove()


on_change(_changed)
