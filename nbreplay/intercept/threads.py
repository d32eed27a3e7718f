"""Threads and pools of threads: each thread and each work item is numbered where it is made.

By its number each gets its own of several answers to one question again, whichever thread asks first.
"""

from __future__ import annotations

import functools
import threading
from types import ModuleType
from typing import Any

from nbreplay.core.session import current_session
from nbreplay.core.strand import current_branch, pending_work, set_branch
from nbreplay.errors import RecordingMissing
from nbreplay.intercept.patching import Undo, put

_BRANCH = "_nbreplay_branch"


def install(library: ModuleType) -> Undo:
    """Hook into `threading`."""
    thread = library.Thread
    before_start = thread.start

    @functools.wraps(before_start)
    def start(self: Any) -> None:
        # A pool's own threads run no code of a program but that of their work items.
        if (session := current_session()) is not None:
            target = getattr(self, "_target", None) or type(self)
            if not _is_of_pool(target):
                set_branch(self, session.run.branches.number(target, getattr(self, "_args", None) or ()))
        before_start(self)

    return put((thread, "start", start))


def _is_of_pool(target: Any) -> bool:
    """Tell whether a thread is one of a pool's own, such as those that watch the processes of `multiprocessing`."""
    module, name = getattr(target, "__module__", ""), getattr(target, "__name__", "")
    return module == "concurrent.futures.thread" or (module == "multiprocessing.pool" and name.startswith("_handle_"))


def install_workers(library: Any) -> Undo:
    """Hook into `multiprocessing.pool`, whose workers pass on an `Exception` only.

    A miss would end the worker, and leave whoever waits for its result waiting for ever.
    """
    library.Exception = (Exception, RecordingMissing)  # what ``except Exception`` means in that module

    def undo() -> None:
        del library.Exception

    return undo


def install_pool(library: ModuleType) -> Undo:
    """Hook into `concurrent.futures.thread`, and so into `asyncio.to_thread`."""
    item = library._WorkItem
    before_init, before_run = item.__init__, item.run

    @functools.wraps(before_init)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        before_init(self, *args, **kwargs)
        if (session := current_session()) is not None:
            # Python 3.14 has function and arguments in one tuple.
            function, arguments = self.task[:2] if hasattr(self, "task") else (self.fn, self.args)
            vars(self)[_BRANCH] = session.run.branches.number(function, arguments)
            pending_work.add(self)

    @functools.wraps(before_run)
    def run(self: Any, *args: Any) -> None:
        branch = vars(self).get(_BRANCH)
        if branch is None:
            before_run(self, *args)
            return
        thread, outer = threading.current_thread(), current_branch()
        set_branch(thread, branch)
        try:
            before_run(self, *args)
        finally:
            set_branch(thread, outer)
            pending_work.discard(self)

    return put((item, "__init__", init), (item, "run", run))
