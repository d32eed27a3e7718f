"""A bounded run of the fuzzer; ``python -m tests.hostile.fuzz --seconds 3600`` is the long one."""

from __future__ import annotations

import time

import pytest

from tests.hostile.fuzz import TARGETS, Failure, Random, run

_CASES = 1500


@pytest.mark.parametrize("seconds", [1, pytest.param(5, marks=pytest.mark.full)])
@pytest.mark.parametrize("target", TARGETS)
def test_only_declared_errors_come_of_what_strangers_write(target: str, seconds: int) -> None:
    until = time.monotonic() + seconds  # where a machine is slow, fewer cases are run
    for seed in range(_CASES):
        run(target, seed)
        if time.monotonic() > until:
            break


def test_a_failure_says_how_to_make_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(random: Random, note: object) -> None:
        assert callable(note)
        note(random.random())
        raise UnicodeError("as it is")

    monkeypatch.setitem(TARGETS, "stream", fail)
    with pytest.raises(Failure) as one:
        run("stream", 7)
    with pytest.raises(Failure) as other:
        run("stream", 7)
    text = str(one.value)
    assert text.startswith("python -m tests.hostile.fuzz --only stream --seed 7\n0.")
    assert "UnicodeError: as it is" in text
    assert text.splitlines()[1] == str(other.value).splitlines()[1]
