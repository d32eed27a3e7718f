"""Recordings where pandas and numpy are not installed, as on a page of a browser, or only later."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_RECORDINGS = Path(__file__).parents[2] / "recordings"
_CODE = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("numpy", "pandas", "pyarrow"):
            raise ModuleNotFoundError(name=name)

absent = Absent()
sys.meta_path.insert(0, absent)
import importlib.util
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: find_spec(name, *rest) if absent not in sys.meta_path else None

import nbreplay as nr
lib = nr.load(sys.argv[1])
print(lib)
print(lib._repr_mimebundle_())
one, other = (lib.row(name).call for name in ("chat-19e73183#1", "chat-8e52cb3b#1"))
nr.compare(one, other).show()
print(nr.compare(lib, lib).counts)
try:
    lib.interactions
except ModuleNotFoundError as error:
    print(error)
assert "pandas" not in sys.modules

sys.meta_path.remove(absent)
print(lib.interactions.llm.summary(by=None).interactions.iloc[0] == len(lib))
print(nr.compare(lib.interactions, lib.interactions).counts)
"""


def test_recordings_are_loaded_and_compared_without_pandas_and_frames_come_with_it() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _CODE, str(_RECORDINGS)], capture_output=True, text=True, encoding="utf-8", timeout=300
    )
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert lines[0].startswith("Library(")
    assert lines[1] == str({"text/plain": lines[0]})
    assert "Paris" in ran.stdout
    remedy = "In JupyterLite, run a cell with: import pandas. A site that was made with --offline has none"
    assert f"pandas is not installed, and frames need it. {remedy}" in lines
    counts = [line for line in lines if line.startswith("{'changed'")]
    assert len(counts) == 2
    assert counts[0] == counts[1], "with pandas, answers are paired alike"
    assert "'changed': 0" in counts[0]
    assert lines[-2] == "True"
