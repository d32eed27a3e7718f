"""Reads every recording there is, encodes it again, records its answers anew, and prints what comes of it.

``python -m tests.reencode`` prints a line per recording and one digest over all; ``--notebooks`` executes the project's
notebooks in replay and prints a line per cell. ``--out FILE`` writes the lines, and ``--compare FILE`` tells in which
lines another version of the package differs; ``--root PATH`` takes package, recordings and notebooks from there.
Uses nothing but public names, so that it runs with every version.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"
OWN = ("recordings", "tests/sdks/crossed/by-openai-2", "tests/sdks/crossed/by-openai-3")
FOREIGN = ("recordings-llama-stack", "cassettes-pydantic-ai", "seed-recording.json")
PIECE = 1000  # bytes that a stream comes in


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:24]


def stores(root: Path, folder: Path, only: str = "") -> Iterator[tuple[str, Path]]:
    """Yield each store with its name; those of other recorders are imported into `folder` first."""
    for name in OWN:
        if name == (only or name):
            yield name, root / name
    for name in FOREIGN:
        if name == (only or name) and (SHARED / name).exists():
            command = [sys.executable, "-m", "nbreplay", "import", str(SHARED / name), "--store", str(folder / name)]
            # Not everything in them can be imported, which the exit status tells.
            subprocess.run([*command, "--json"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
            yield name, folder / name


def recordings(root: Path, only: str = "") -> Iterator[str]:
    """Yield a line per recording, of all stores or of one.

    A line has the recording's name and key, and the digests of its file, of it encoded again, of its answers and of
    what a recorder makes of these.
    """
    nr: Any = importlib.import_module("nbreplay")
    with tempfile.TemporaryDirectory() as folder:
        for shown, path in stores(root, Path(folder), only):
            for name, recording in nr.Store(path).recordings():
                if isinstance(recording, Exception):
                    yield f"{shown}/{name} {recording}"
                    continue
                again = nr.Recording(recording.key, recording.kind, dict(recording.request), recording.takes)
                answers, anew = hashlib.sha256(), hashlib.sha256()
                for take in recording.takes:
                    data = take.body.data()
                    answers.update(data)
                    if take.status is not None and recording.kind != "tool":
                        anew.update(recorded_anew(nr, Path(folder) / "anew", take, data).encode())
                yield " ".join(
                    (
                        f"{shown}/{name} {recording.key} {digest((path / name).read_bytes())}",
                        f"{digest(again.text().encode())} {answers.hexdigest()[:24]} {anew.hexdigest()[:24]}",
                    )
                )


def recorded_anew(nr: Any, store: Path, take: Any, data: bytes) -> str:
    """Return the take that is recorded of an answer, which comes in pieces, without what differs from run to run."""
    http = library()

    class Pieces(http.SyncByteStream):  # type: ignore[misc, name-defined]
        def __iter__(self) -> Iterator[bytes]:
            yield from (data[start : start + PIECE] for start in range(0, len(data), PIECE))

    headers = {name: value for name, value in take.headers.items() if name not in ("content-length", "set-cookie")}

    def answer(_: Any) -> Any:
        return http.Response(take.status, headers=headers, stream=Pieces())

    transport = nr.transport(store, "record", inner=http.MockTransport(answer))
    with http.Client(transport=transport) as client, client.stream("POST", "http://example.com/anew") as response:
        for _ in response.iter_raw():
            pass
    (interaction,) = transport.session.interactions
    text = nr.Recording(interaction.key, "http", {}, (interaction.take,)).text()
    text = re.sub(r'"(recorded_at|sdk)": "[^"]+"|"elapsed_ms": \d+|(?m:^      \[\d+,)', "", text)
    return str(text)


def library() -> Any:
    """Return httpx2, else httpx."""
    with contextlib.suppress(ImportError):
        return importlib.import_module("httpx2")
    return importlib.import_module("httpx")


def cells(root: Path) -> Iterator[str]:
    """Yield a line per cell of each notebook: the digest of what it displays in replay."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "nbreplay", "run", str(root / "notebooks"), "--mode", "replay"]
        done = subprocess.run([*command, "--output", folder, "-n", "1"], cwd=root, capture_output=True, text=True)
        yield f"exit status {done.returncode}"
        for path in sorted(Path(folder).rglob("*.ipynb")):
            notebook = json.loads(path.read_text(encoding="utf-8"))
            for number, cell in enumerate(cell for cell in notebook["cells"] if cell["cell_type"] == "code"):
                text = json.dumps([steadied(output) for output in cell["outputs"]], sort_keys=True, ensure_ascii=False)
                yield f"{path.name}[{number}] {len(cell['outputs'])} {digest(text.encode())}"
            if keep := os.environ.get("KEEP_NOTEBOOKS"):
                Path(keep).mkdir(parents=True, exist_ok=True)
                (Path(keep) / path.name).write_bytes(path.read_bytes())


def steadied(output: Any) -> Any:
    """Return an output without what is different on every run."""
    return {name: value for name, value in output.items() if name != "execution_count"}


def compare(lines: Iterable[str], before: Iterable[str]) -> list[str]:
    """Return what differs, a line each."""
    old = {line.split(" ")[0]: line for line in before}
    new = {line.split(" ")[0]: line for line in lines}
    return [f"- {old.get(name)}\n+ {new.get(name)}" for name in {**old, **new} if old.get(name) != new.get(name)]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.reencode", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--root", type=Path, default=ROOT, help="where package, recordings and notebooks are")
    parser.add_argument("--notebooks", action="store_true", help="execute the notebooks instead")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the lines there")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="a file that --out has written")
    options = parser.parse_args()
    root = options.root.resolve()
    sys.path.insert(0, str(root))
    os.environ["PYTHONPATH"] = str(root)
    lines = list(cells(root) if options.notebooks else recordings(root))
    if options.out:
        options.out.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    print(f"{len(lines)} lines, digest of all {digest(chr(10).join(lines).encode())}")
    if options.compare:
        differing = compare(lines, options.compare.read_text(encoding="utf-8").splitlines())
        print(*differing, f"{len(differing)} lines differ", sep="\n")
        return 1 if differing else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
