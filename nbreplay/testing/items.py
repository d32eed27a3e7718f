"""A notebook as a test of pytest's: one file, one item, whose id is the path."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from nbreplay.testing.runner import Result

__all__ = ["NotebookFile", "NotebookItem"]


class NotebookFile(pytest.File):
    """Collects the one item that a notebook is."""

    def collect(self) -> Iterator[NotebookItem]:
        """Yield the notebook."""
        yield NotebookItem.from_parent(self, name=self.path.name, nodeid=self.nodeid)


class NotebookItem(pytest.Item):
    """Runs a notebook as ``nbreplay run`` does, and fails with what that says.

    Attributes
    ----------
    result : Result or None
        What became of it.
    updated : bool
        Whether new outputs were stored in its file.
    """

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.result: Result | None = None
        self.updated = False

    def runtest(self) -> None:
        """Run the notebook in a kernel of its own."""
        from nbreplay.core.config import Mode, mode_of_run
        from nbreplay.errors import NbreplayError
        from nbreplay.testing.report import told
        from nbreplay.testing.runner import run, update

        option = self.config.getoption
        with warnings.catch_warnings():
            # Those are of the libraries that talk to the kernel. The notebook's own arise in the kernel.
            warnings.simplefilter("ignore")
            try:
                mode = mode_of_run(option("nbreplay_mode"), "--nbreplay-mode") or Mode.REPLAY
                self.result = run(self.path, mode=mode, timeout=option("nbreplay_timeout"))
                self.updated = bool(option("nbreplay_update")) and update(self.result)
                errors = self.result.errors
            except NbreplayError as error:
                errors = [str(error)]
        if errors:
            pytest.fail("\n".join(told(errors)), pytrace=False)

    def reportinfo(self) -> tuple[Any, int | None, str]:
        """Return what stands above the report. The path alone pytest would take for a dotted name."""
        return self.path, None, f"notebook {self.nodeid}"
