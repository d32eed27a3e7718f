"""The benchmark of notebooks in folders reads what the commands print, and counts every process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.folders import find_failures

HERE = Path(__file__).parents[2]


def test_failures_are_found_in_both_reports() -> None:
    assert find_failures("ok    a/good.ipynb\nFAIL  a/bad.ipynb · outputs stored\n      cell 2 (x): differs\n") == {
        "a/bad.ipynb"
    }
    assert find_failures("FAILED a/bad.ipynb::bad.ipynb\nERROR b/c.ipynb::\n1 failed") == {"a/bad.ipynb", "b/c.ipynb"}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, processes whose parent has ended are not counted")
def test_the_time_of_a_process_that_outlives_its_parent_is_counted() -> None:
    busy = "import time\nwhile time.process_time() < 0.5: pass"
    start = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {busy!r}])"
    # In a process of its own, since it waits for all children.
    script = f"""import sys; from pathlib import Path; from tests.benchmarks.folders import Side, measure
print(measure(Side((sys.executable, "-c", {start!r}), Path(), {{}}), Path())[0].cpu)"""
    done = subprocess.run([sys.executable, "-c", script], cwd=HERE, capture_output=True, text=True, check=True)
    assert float(done.stdout) > 0.4
