"""botocore, whose calls urllib3 makes: here is only that it does not wait before it makes a replayed one again."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from nbreplay.intercept import patching
from nbreplay.intercept.http.urllib3 import replayed

__all__ = ["install"]


def install(library: Any) -> patching.Undo:
    """Hook into `botocore.endpoint`; return what undoes it.

    Raises
    ------
    AttributeError
        Where it no longer waits by its `time`.
    """
    return patching.put((library, "time", _Clock(library.time)))


class _Clock:
    """The module `time`, but for the sleep before a replayed call is made again.

    How long that is, is drawn by lot: there is nothing in an answer that could make it short.
    """

    def __init__(self, real: ModuleType) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def sleep(self, seconds: float) -> None:
        if not replayed():
            self._real.sleep(seconds)
