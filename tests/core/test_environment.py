"""What is made of the environment is as it is now, however seldom it is read."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from nbreplay.core import environment
from nbreplay.core.environment import Known

# In a process of its own: what watches cannot be taken back.
WATCHED = """
import os
import nbreplay
from nbreplay.core import environment
from nbreplay.core.config import forced_mode
from nbreplay.core.secrets.redact import environment_secrets
from nbreplay.intercept.network import guard

guard.install()
reads = []
other = environment.Known(lambda: reads.append(1) or os.environ.get("OTHER"), "OTHER".__eq__)
for _ in range(3):
    assert forced_mode() is None and environment_secrets() == () and other() is None
assert len(reads) == 1, "read once while nothing changes"
os.environ["NBREPLAY_MODE"] = "replay"
assert forced_mode().value == "replay"
os.environ.update(MY_API_KEY="a value that is secret", OTHER="1")
assert environment_secrets() == ("a value that is secret",) and other() == "1"
del os.environ["NBREPLAY_MODE"]
os.environ.pop("MY_API_KEY")
assert forced_mode() is None and environment_secrets() == ()
count = len(reads)
os.environ["SOMETHING"] = "else"
os.unsetenv("SOMETHING")
assert other() == "1" and len(reads) == count, "what does not matter changes nothing"
os.environ["OTHER"] = "2"
assert other() == other() == "2" and len(reads) == count + 1
os.putenv("OTHER", "3")
assert other() == other() == "2" and len(reads) == count + 3, "a change that does not come is waited for"
print("as it is")
"""


def test_a_change_is_seen_at_once_and_nothing_is_read_twice_without_one() -> None:
    around = {name: value for name, value in os.environ.items() if not name.endswith(("_KEY", "_TOKEN", "_SECRET"))}
    done = subprocess.run([sys.executable, "-c", WATCHED], env=around, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("as it is\n", "")


def test_a_value_that_was_read_while_it_changed_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_watched", True)
    monkeypatch.setattr(environment, "_all", [])
    reads: list[int] = []

    def read() -> int:
        reads.append(1)
        if len(reads) == 1:
            environment.changing(b"NAME", b"new")  # as another thread does, between what is read and what is kept
        return len(reads)

    known = Known(read, "NAME".__eq__)
    assert [known(), known(), known()] == [1, 2, 3], "told of, and not made yet"
    monkeypatch.setenv("NAME", "new")
    assert [known(), known()] == [4, 4]
    environment.changing("NAME")
    assert [known(), known()] == [5, 6]
    monkeypatch.delenv("NAME")
    assert [known(), known()] == [7, 7]
    environment.refresh()
    assert known() == 8


def test_it_is_read_every_time_where_nobody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_watched", False)
    monkeypatch.setattr(environment, "_all", [])
    reads: list[int] = []
    known = Known(lambda: reads.append(1) or len(reads), "NAME".__eq__)
    assert [known(), known()] == [1, 2]
