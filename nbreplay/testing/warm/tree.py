"""The tree of warm processes: each has imported what all its notebooks import, and no module that one of them does not.

The processes of notebooks that import more are forked from it. Notebooks in different folders share the tree, unless
libraries would read something in a folder while they are imported.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path

from nbreplay.testing.warm.imports import imported_modules, is_read_by_imports
from nbreplay.testing.warm.process import WarmProcess

CAN_FORK = sys.platform == "linux" and hasattr(os, "pidfd_open")


@contextlib.asynccontextmanager
async def warm_processes(paths: Sequence[Path]) -> AsyncIterator[Mapping[Path, WarmProcess]]:
    """Give each notebook the process to fork its kernel from, if there are several and the system can fork.

    A path counts as often as it is there. The processes start when a kernel is wanted.
    """
    places: dict[Path | None, list[Path]] = defaultdict(list)  # by the folder that imports read, None for none
    for path in paths if CAN_FORK and len(paths) > 1 else ():
        places[path.parent if is_read_by_imports(path.parent) else None].append(path)
    warm: dict[Path, WarmProcess] = {}
    programs: list[WarmProcess] = []
    with tempfile.TemporaryDirectory(prefix="nbreplay-warm-", ignore_cleanup_errors=True) as empty:
        for folder, several in places.items():
            if len(several) > 1:
                program = WarmProcess((folder or Path(empty)).resolve(), users=len(several))
                programs.append(program)
                warm |= _grow(program, several)
        processes = {id(each): each for leaf in warm.values() for each in leaf.lineage()}
        try:
            yield warm
        finally:
            # Those that have been forked end before the programs, which wait for them.
            for process in sorted(processes.values(), key=lambda process: isinstance(process.parent, Path)):
                await process.close()


def _grow(program: WarmProcess, paths: list[Path]) -> dict[Path, WarmProcess]:
    """Return the process for each notebook, below a program."""
    numbers = Counter(paths)
    imports = {path: _modules(path) for path in numbers}
    # Those that most notebooks import come first, so that the processes that have only them serve many.
    counts = Counter(module for path, modules in imports.items() for module in modules for _ in range(numbers[path]))
    order = {module: place for place, (module, _) in enumerate(counts.most_common())}
    rows = [(path, sorted(modules, key=order.__getitem__)) for path, modules in imports.items()]
    return dict(_branches(program, rows, numbers))


def _modules(path: Path) -> list[str]:
    """Return the modules worth importing ahead. Those of the standard library cost little."""
    return [
        name for name in imported_modules(path) if name.partition(".")[0] not in sys.stdlib_module_names | {"nbreplay"}
    ]


def _branches(
    parent: WarmProcess, rows: list[tuple[Path, list[str]]], numbers: Mapping[Path, int]
) -> Iterator[tuple[Path, WarmProcess]]:
    """Yield each notebook with its process: one that has the modules with which all rows begin, or a child of it."""
    columns = zip(*(modules for _, modules in rows), strict=False)
    shared = [names[0] for names in itertools.takewhile(lambda names: len(set(names)) == 1, columns)]
    process = WarmProcess(parent, shared, sum(numbers[path] for path, _ in rows))
    children: dict[str, list[tuple[Path, list[str]]]] = defaultdict(list)
    for path, modules in rows:
        rest = modules[len(shared) :]
        children[rest[0] if rest else ""].append((path, rest))
    for module, some in children.items():
        if module and sum(numbers[path] for path, _ in some) > 1:
            yield from _branches(process, some, numbers)
        else:
            for path, _ in some:
                yield path, process
