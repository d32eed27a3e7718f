"""The session of a test function, and what it missed."""

from __future__ import annotations

import contextlib
import sysconfig
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from nbreplay.core import log as logs
from nbreplay.core.config import Mode, is_url, mode_of_run
from nbreplay.errors import NetworkBlocked, OptionError, RecordingMissing
from nbreplay.intercept.registry import open_session
from nbreplay.testing.report import told as lines
from nbreplay.testing.result import Failure

__all__ = ["Watch", "shorten"]

_OPTIONS = ("store", "mode", "speed", "ignore", "mask", "only", "allow", "allow_children")


class Watch:
    """The session of a test function, and every call that is logged while it is on, in whatever session.

    Parameters
    ----------
    item : pytest.Item
        Its markers say how; it is looked for recordings from its folder.
    mode : str or None
        What the command line says, which goes before the marker.

    Raises
    ------
    OptionError
    StoreError
    """

    def __init__(self, item: pytest.Item, mode: str | None) -> None:
        given = _marked(item)
        forced = mode_of_run(mode, "--nbreplay-mode")
        given["mode"] = (forced or Mode.of(given.get("mode") or Mode.REPLAY)).value
        if item.config.getoption("nbreplay_allow_children"):
            given["allow_children"] = True
        store = given.pop("store", None)
        folder = item.path.parent
        if store is not None and not is_url(store):
            store = folder / Path(store).expanduser()
        self.session = open_session(store, folder=folder, **given)
        self._before: dict[logs.Log, int] = {}
        self._made: list[logs.Log] = []
        self._told: set[str] = set()
        self._stack = contextlib.ExitStack()

    def start(self) -> None:
        """Switch the session on."""
        self._before = {log: len(log) for log in logs.all_logs()}
        self._made = self._stack.enter_context(logs.collect_logs())
        try:
            self._stack.enter_context(self.session)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Switch the session off."""
        self._stack.close()

    @property
    def calls(self) -> list[logs.Interaction]:
        """What was called during the test."""
        every = {**self._before, **dict.fromkeys(self._made, 0)}
        return [item for log, place in every.items() for item in log.since(place)]

    @property
    def used(self) -> dict[str, list[str]]:
        """The stores that were asked, and the names of the recordings that were asked for."""
        return {self.session.store.name: []} | logs.used_recordings([*self._before, *self._made])

    @property
    def uncovered(self) -> list[tuple[str, str]]:
        """What its replay did not cover."""
        return logs.find_uncovered([self.session.log, *self._made])

    def failures(self, told: str = "") -> str:
        """Return what has gone wrong since this was asked last, whatever has become of its exceptions.

        Parameters
        ----------
        told : str
            What is shown anyway.
        """
        found = [f"{item.outcome}: {item.note}" for item in self.calls if item.outcome in logs.FAILURES]
        new = [text for text in dict.fromkeys(found) if text not in self._told]
        self._told.update(new)
        return "\n".join(lines(Failure(text) for text in new if text.partition(": ")[2] not in told))


def _marked(item: pytest.Item) -> dict[str, Any]:
    """Return what the markers of a test say, the closest before others."""
    given: dict[str, Any] = {}
    for marker in item.iter_markers("nbreplay"):
        unknown = [repr(value) for value in marker.args] + [name for name in marker.kwargs if name not in _OPTIONS]
        if unknown:
            raise OptionError(
                f"the marker nbreplay takes {', '.join(f'{name}=' for name in _OPTIONS)}, and not {unknown[0]}"
            )
        given = {**marker.kwargs, **given}
    return given


def shorten(excinfo: pytest.ExceptionInfo[BaseException]) -> None:
    """Leave of a miss's traceback the user's own lines: the libraries between say nothing of it."""
    if not isinstance(excinfo.value, (RecordingMissing, NetworkBlocked)):
        return
    inside = (*sysconfig.get_paths().values(), str(Path(__file__).parents[1]))
    own: TracebackType | None = None
    for frame, line in reversed(list(traceback.walk_tb(excinfo.tb))):
        if not frame.f_code.co_filename.startswith(inside):
            own = TracebackType(own, frame, frame.f_lasti, line)
    if own is not None:
        # Linked anew, not filtered: pytest cuts what stands before the test, and follows the links from there.
        excinfo.traceback = type(excinfo.traceback)(own)
