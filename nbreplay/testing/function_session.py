"""The session of a test function, and the calls that it missed."""

from __future__ import annotations

import contextlib
import sysconfig
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from nbreplay.core import log as logs
from nbreplay.core.advice import Place
from nbreplay.core.config import Mode, is_url, mode_of_run
from nbreplay.core.words import FAILURES, format_failure
from nbreplay.errors import NetworkBlocked, OptionError, RecordingMissing
from nbreplay.intercept.registry import open_session
from nbreplay.testing.result import Failure, format_failures

_OPTIONS = ("store", "mode", "speed", "ignore", "mask", "only", "allow", "allow_children")


class FunctionSession:
    """The open session of a test function. It also collects the calls that other sessions log until `stop`.

    The markers of the test set the options, and `mode`, from the command line, overrides theirs. Recordings are looked
    up from the test's folder. Raises `OptionError` or `StoreError`.
    """

    updated = False  # no notebook is stored

    def __init__(self, item: pytest.Item, mode: str | None) -> None:
        options = _marker_options(item)
        forced = mode_of_run(mode, "--nbreplay-mode")
        options["mode"] = (forced or Mode.of(options.get("mode") or Mode.REPLAY)).value
        if item.config.getoption("nbreplay_allow_children"):
            options["allow_children"] = True
        store, self.folder = options.pop("store", None), item.path.parent
        if store is not None and not is_url(store):
            store = self.folder / Path(store).expanduser()
        self.session = open_session(store, folder=self.folder, **options)
        self.session.keeps_errors = item.config.getoption("nbreplay_keep_errors")
        self.session.place = Place.PROJECT
        self._before = {log: len(log) for log in logs.all_logs()}
        self._reported: set[str] = set()
        with contextlib.ExitStack() as stack:
            self._new_logs = stack.enter_context(logs.collect_logs())
            stack.enter_context(self.session)
            self.stop = stack.pop_all().close

    @property
    def calls(self) -> list[logs.Interaction]:
        """The calls that were made during the test."""
        every = {**self._before, **dict.fromkeys(self._new_logs, 0)}
        return [item for log, place in every.items() for item in log.since(place)]

    @property
    def notes(self) -> list[str]:
        """Sentences to report that are not failures: which failures ``auto`` did not keep."""
        return [f"{call.note}. To keep it, pass --nbreplay-keep-errors" for call in self.calls if call.lost]

    @property
    def used(self) -> dict[str, list[str]]:
        """Names of the recordings that were used, by store."""
        return {self.session.store.name: []} | logs.used_recordings([*self._before, *self._new_logs])

    @property
    def uncovered(self) -> list[tuple[str, str]]:
        """Kind and name of each thing that replay did not cover."""
        return logs.find_uncovered([self.session.log, *self._new_logs])

    def new_failures(self, report: str = "") -> str:
        """Return the failures since the last call, even if their exceptions were caught, except those in `report`."""
        failed = {format_failure(item.outcome, item.note): item for item in self.calls if item.outcome in FAILURES}
        new = [text for text in failed if text not in self._reported]
        self._reported.update(new)
        failures = (Failure(text) for text in new if failed[text].note not in report)
        return "\n".join(format_failures(failures, self.folder))


def _marker_options(item: pytest.Item) -> dict[str, Any]:
    """Return the options of a test's markers. The closest marker wins."""
    options: dict[str, Any] = {}
    for marker in item.iter_markers("nbreplay"):
        unknown = [*map(repr, marker.args), *(name for name in marker.kwargs if name not in _OPTIONS)]
        if unknown:
            names = ", ".join(f"{name}=" for name in _OPTIONS)
            raise OptionError(f"The marker nbreplay does not take {unknown[0]}. Its options are {names}")
        options = {**marker.kwargs, **options}
    return options


def shorten(excinfo: pytest.ExceptionInfo[BaseException]) -> None:
    """Reduce the traceback of a miss to the user's own lines."""
    if not isinstance(excinfo.value, (RecordingMissing, NetworkBlocked)):
        return
    inside = (*sysconfig.get_paths().values(), str(Path(__file__).parents[1]))
    own: TracebackType | None = None
    for frame, line in reversed(list(traceback.walk_tb(excinfo.tb))):
        if not frame.f_code.co_filename.startswith(inside):
            own = TracebackType(own, frame, frame.f_lasti, line)
    if own is not None:
        # The entries are linked anew: pytest follows the links from the test on, so a filtered list would not do.
        excinfo.traceback = type(excinfo.traceback)(own)
