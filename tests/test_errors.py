"""The errors: what derives from what, and what a notebook shows of a miss."""

from __future__ import annotations

import nbreplay as nr


def test_the_tree() -> None:
    assert issubclass(nr.NetworkBlocked, (nr.NbreplayError, OSError))
    assert issubclass(nr.UnsafeRecordingError, nr.RecordingFormatError)
    assert issubclass(nr.RecordingIncomplete, nr.RecordingMissing)
    assert not issubclass(nr.RecordingMissing, Exception), "no retry and no agent may eat it"


def test_a_miss_shows_the_lines_of_the_user_and_its_message() -> None:
    def ask() -> None:
        raise nr.RecordingMissing("no recorded answer")

    try:
        ask()
    except nr.RecordingMissing as error:
        shown = error._render_traceback_()
    assert any(line.endswith("ask()") for line in shown), "the line that called"
    assert shown[-1] == "RecordingMissing: no recorded answer"
