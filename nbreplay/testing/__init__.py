"""Running notebooks as tests, and the flags of a run that the command line and pytest share.

Both programs import this at every start, so it imports nothing.
"""

from __future__ import annotations

FLAGS = {
    "allow_children": "let curl, node and other network clients start; replay does not cover them",
    "isolated": "run each notebook in a copy of its folder, so that it leaves no files behind",
    "fast_sleep": "shorten the sleeps of a cell that has replayed a call, such as those between the polls of a batch",
    "skip_installs": "leave out cells and lines that only install packages, such as %%pip; they are never compared",
}
"""The fields of `RunOptions` that are off or on, each with its help."""

KERNEL = "run all notebooks in this installed kernel (default: the one that a notebook names, else this Python)"
NUMBER = "number of notebooks that run at a time (default: twice the processors; 1 while recording)"
NO_COMPARE = "do not compare displayed outputs with stored outputs"


def option_name(flag: str, prefix: str = "--") -> str:
    """Return a flag as an option, such as ``--fast-sleep``."""
    return prefix + flag.replace("_", "-")
