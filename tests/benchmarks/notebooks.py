"""How fast notebooks run as tests: ``python -m tests.benchmarks.notebooks [--rounds N] [--numbers 10 40]``.

Wants the extra `bench`. Whole processes of pytest, its start, real kernels and the comparison of outputs included, each
over the same notebooks: copies of the quickstart, whose calls are replayed, with outputs stored. The rounds of the
plugins alternate; the figures are medians of wall time, and ratios to nbreplay's in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

__all__ = ["main"]

_HERE = Path(__file__).parents[2]
_PLUGINS = {
    "nbreplay": ("--nbreplay",),
    "nbmake": ("--nbmake",),
    "nbval": ("--nbval",),
}
# What nbreplay should at least gain, for so many notebooks.
_TARGETS = {("nbmake", 10): 3.5, ("nbval", 10): 2.5, ("nbmake", 40): 8.0}


def main(arguments: list[str] | None = None) -> int:
    """Measure, and print what came of it; the exit status says only whether every notebook passed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.notebooks", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--numbers", type=int, nargs="+", default=[10, 40], metavar="N", help="of notebooks")
    parser.add_argument("--plugins", nargs="+", choices=[*_PLUGINS], default=[*_PLUGINS])
    parser.add_argument("--notebook", type=Path, default=_HERE / "notebooks" / "01_quickstart.ipynb")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    given = parser.parse_args(arguments)
    figures: dict[str, dict[str, float]] = {}
    passed = True
    for number in given.numbers:
        with tempfile.TemporaryDirectory() as name:
            folder = _made(Path(name), given.notebook, number)
            seconds: dict[str, list[float]] = {plugin: [] for plugin in given.plugins}
            for _ in range(given.rounds):
                for plugin in given.plugins:
                    took, status = _timed(folder, _PLUGINS[plugin])
                    seconds[plugin].append(took)
                    passed &= status == 0
        medians = {plugin: statistics.median(every) for plugin, every in seconds.items()}
        figures[str(number)] = medians
        print(f"{number} notebooks, median of {given.rounds}")
        for plugin, median in medians.items():
            ratio = median / medians.get("nbreplay", median)
            target = _TARGETS.get((plugin, number))
            met = "" if target is None else f"   ≥ {target:g}  {'yes' if ratio >= target else 'no'}"
            print(f"  {plugin:10} {median:8.2f} s   {ratio:6.2f} x{met}")
    if not passed:
        print("not every notebook has passed under every plugin")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    return 0 if passed else 1


def _made(folder: Path, notebook: Path, number: int) -> Path:
    """Return a folder with so many copies of a notebook, and the recordings that it needs."""
    shutil.copytree(_HERE / "recordings", folder / "recordings", ignore=shutil.ignore_patterns(".nbreplay"))
    (folder / "pyproject.toml").write_text("[tool.nbreplay]\nview = 'off'\n", "utf-8")
    made = json.loads(notebook.read_text("utf-8"))
    for cell in made["cells"]:
        # nbval would find what tells of the run, which is not stored, to be a difference.
        if "".join(cell["source"]).startswith("%"):
            cell["metadata"]["tags"] = [*cell["metadata"].get("tags", ()), "nbval-ignore-output"]
    copies = folder / "notebooks"
    copies.mkdir()
    for place in range(number):
        (copies / f"{place:03}.ipynb").write_text(json.dumps(made), "utf-8")
    return copies


def _timed(folder: Path, options: tuple[str, ...]) -> tuple[float, int]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, str(folder)]
    environment = {**os.environ, "NBREPLAY_MODE": "replay", "PYTHONPATH": str(_HERE)}
    started = time.perf_counter()
    done = subprocess.run(command, cwd=folder.parent, env=environment, capture_output=True, text=True, check=False)
    took = time.perf_counter() - started
    if done.returncode:
        print(done.stdout[-2000:], done.stderr[-500:], file=sys.stderr)
    return took, done.returncode


if __name__ == "__main__":
    sys.exit(main())
