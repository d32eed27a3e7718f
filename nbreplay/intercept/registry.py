"""Switches hooks, the network guard and placeholder keys on and off, and opens sessions.

They are on while a session is. Hooks stay while a client may exist that was built with a placeholder key, which must
never be sent.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable
from typing import Any

from nbreplay.core.config import Mode, ModeName, Options, default_store, project
from nbreplay.core.log import Log
from nbreplay.core.session import Session, active_sessions, on_change
from nbreplay.core.store.store import Store
from nbreplay.intercept import patching, placeholder_keys
from nbreplay.intercept.libraries import LIBRARIES, UNHOOKED
from nbreplay.intercept.network import guard
from nbreplay.intercept.processes import child, children, starts, workers
from nbreplay.intercept.processes.parent import parent

__all__ = ["LIBRARIES", "UNHOOKED", "open_session", "session", "undo"]

_replaying: weakref.WeakSet[Session] = weakref.WeakSet()


def session(
    store: str | os.PathLike[str] | None = None,
    mode: ModeName | None = None,
    *,
    speed: float | None = None,
    ignore: Iterable[str] = (),
    mask: Iterable[str] = (),
    only: Iterable[str] | None = None,
    allow: Iterable[str] = (),
    allow_children: bool | None = None,
) -> Session:
    """Return a session, to be used with ``with`` or ``async with``.

    While it is on, every call of a supported client is looked up in a store:
    replayed, recorded or refused, as the mode says.

    Parameters
    ----------
    store : path, optional
        The folder of recordings; or a ``.zip`` of one, or its https address,
        which are only replayed. If none is named: ``NBREPLAY_STORE``, else the
        project's, else the nearest folder ``recordings``, else a new one.
    mode : {"auto", "replay", "record", "off"}, optional
        ``auto`` (the default) replays what is recorded and records what is
        missing, ``replay`` sends nothing, ``record`` records everything anew,
        ``off`` does neither. ``NBREPLAY_MODE`` overrides it. Other names are
        ``on`` and ``record-if-missing`` for ``auto``, and ``live`` for ``off``.
    speed : float, optional
        Replay at the recorded pace times `speed`; at once, if not given.
    ignore : iterable of str
        Fields of the request's body to leave out of its key, such as
        ``metadata.run_id``.
    mask : iterable of str
        Regular expressions; what they match in the request does not count.
    only : iterable of str, optional
        The hosts to record and replay; all, if not given.
    allow : iterable of str
        ``HOST`` or ``HOST:PORT`` that ``replay`` lets through, live; or the path
        of a Unix socket.
    allow_children : bool, optional
        Whether ``replay`` lets child processes start that are known network
        clients (``curl``, ``node``, ``ssh``, a Python that imports a hooked
        library). What they send is neither replayed nor refused.

    Returns
    -------
    Session

    Raises
    ------
    OptionError
        For an unknown mode or an option of the wrong type.
    StoreError
        If the store is neither a folder nor a zip that can be read.

    Examples
    --------
    >>> import nbreplay as nr
    >>> from openai import OpenAI
    >>> question = [{"role": "user", "content": "Weather in Tokyo?"}]
    >>> with nr.session("recordings", mode="replay") as s:
    ...     answer = OpenAI().chat.completions.create(
    ...         model="gpt-4o", messages=question
    ...     )
    >>> answer.choices[0].message.content
    '18 °C and clear.'
    >>> s.interactions[0].outcome
    'replayed'
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
        patching.install(LIBRARIES | placeholder_keys.LIBRARIES)
    else:
        patching.remove()
    playing = [session for session in sessions if session.mode in (Mode.REPLAY, Mode.AUTO)]
    if playing:
        recorded = {name for session in playing for name in session.store.variables()}
        placeholder_keys.place(recorded, replaying=sessions[-1].mode is Mode.REPLAY)
    else:
        placeholder_keys.withdraw()
    if sessions:
        guard.install()
    for ended in _replaying - weakref.WeakSet(sessions):
        guard.name_opened(ended)
        _replaying.discard(ended)
    parent.publish()
    workers.note_workers(bool(sessions))
    session = guard.replay_session()
    if session is not None and session not in _replaying:
        _replaying.add(session)
        guard.name_existing(session)
        children.name_existing()


on_change(_follow_sessions)
starts.on_start(child.give_variable)
starts.on_start(children.find_variables)
