"""The command line, ``nbreplay``: the commands ``ls``, ``show``, ``diff``, ``import`` and ``export``, and all others.

Exit status: 0 fine, 1 something failed, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from nbreplay.cli import check, verify
from nbreplay.cli import notebooks as testing
from nbreplay.core.config import default_store
from nbreplay.core.explain import differences
from nbreplay.core.recording.recording import Recording, parse
from nbreplay.core.request.request import last_user_text
from nbreplay.core.store.archive import is_archive
from nbreplay.core.store.store import Store
from nbreplay.errors import NbreplayError, OptionError, RecordingFormatError
from nbreplay.providers.answer import fold

if TYPE_CHECKING:
    from nbreplay.formats.importer import Counts, ImportCounts

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        status: int = given.do(given)
        sys.stdout.flush()
    except NbreplayError as error:
        _complain(error)
        return 2 if isinstance(error, OptionError) else 1
    except BrokenPipeError:  # nbreplay ls | head
        # What is still to be flushed at the exit must not fail a second time.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("nbreplay: interrupted", file=sys.stderr)
        return 130
    return status


def _complain(error: object) -> None:
    from nbreplay.notebook.escape import plain

    print(plain(f"nbreplay: {error}"), file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nbreplay", description="Record the model calls of notebooks once, and replay them anywhere."
    )
    parser.add_argument("--version", action="version", version=f"nbreplay {__import__('nbreplay').__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    testing.add(commands)
    ls = commands.add_parser("ls", help="list the recordings of a store")
    ls.add_argument("store", nargs="?", metavar="STORE")
    ls.add_argument("--json", action="store_true")
    ls.set_defaults(do=_ls)

    show = commands.add_parser("show", help="show one recording: what was asked, and every take")
    show.add_argument("key", metavar="KEY", help="a key, the beginning of one, or a file")
    show.add_argument("--store", metavar="STORE")
    show.add_argument("--json", action="store_true")
    show.set_defaults(do=_show)

    diff = commands.add_parser("diff", help="show in what two recordings differ")
    diff.add_argument("a", metavar="A", help="a key, the beginning of one, a file, or a store")
    diff.add_argument("b", metavar="B")
    diff.add_argument("--store", metavar="STORE")
    diff.add_argument("--json", action="store_true")
    diff.set_defaults(do=_diff)

    take_in = commands.add_parser(
        "import",
        help="import recordings of llama-stack or VCR cassettes into a store",
        description="Import recordings of llama-stack or VCR cassettes into a store. Every interaction of the files is "
        "counted; the exit status is 1 where one is not imported, and a message says which and why.",
    )
    take_in.add_argument("source", metavar="FILE|FOLDER")
    take_in.add_argument("--format", metavar="FORMAT", help="llama-stack or vcr; by default each file is looked at")
    take_in.add_argument("--store", metavar="STORE")
    take_in.add_argument("--json", action="store_true")
    take_in.set_defaults(do=_import)

    give_out = commands.add_parser("export", help="write a store as another recorder's, as parquet or as a .zip")
    give_out.add_argument("folder", metavar="FOLDER|FILE")
    give_out.add_argument("--format", required=True, metavar="FORMAT", help="llama-stack, parquet or zip")
    give_out.add_argument("--store", metavar="STORE")
    give_out.add_argument("--json", action="store_true")
    give_out.set_defaults(do=_export)
    verify.add(commands)
    check.add(commands)
    return parser


def _store(given: str | None) -> Store:
    where = given or default_store()
    if not is_archive(where) and not Path(where).exists():
        raise OptionError(f"there is no store {where}; name one, or record something first")
    return Store(where)


def _ls(given: argparse.Namespace) -> int:
    rows: list[dict[str, Any]] = []
    bad: list[RecordingFormatError] = []
    for name, recording in _store(given.store).recordings():
        if isinstance(recording, RecordingFormatError):
            bad.append(recording)
            continue
        takes = recording.takes
        rows.append(
            {
                "file": name,
                "key": recording.key,
                "kind": recording.kind,
                "model": _model(recording),
                "takes": len(takes),
                "recorded_at": takes[-1].recorded_at if takes else "",
                "asked": last_user_text(recording.request),
            }
        )
    if given.json:
        print(json.dumps(rows, ensure_ascii=False, indent=2))
    elif not rows and not bad:
        print("no recordings")
    else:
        from nbreplay.notebook.escape import plain

        widths = [max([len(str(row[name])) for row in rows] or [0]) for name in ("file", "model", "takes")]
        for row in rows:
            asked = plain(str(row["asked"]).replace("\n", " "))[:60]
            print(
                f"{row['file']:<{widths[0]}}  {plain(row['model']):<{widths[1]}}  "
                f"{row['takes']:>{widths[2]}} take{'s' if row['takes'] != 1 else ' '}  "
                f"{plain(row['recorded_at'][:10])}  {asked}"
            )
    for error in bad:
        _complain(error)
    return 1 if bad else 0


def _model(recording: Recording) -> str:
    body = recording.request.get("body")
    return str(body.get("model", "")) if isinstance(body, dict) else str(recording.request.get("host", ""))


def _found(key: str, store: str | None) -> tuple[str, Recording]:
    """Return name and content of the recording that a key, the beginning of one, or a file means."""
    path = Path(key)
    if path.suffix == ".json" and path.is_file():
        try:
            return key, parse(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecordingFormatError) as error:
            raise RecordingFormatError(f"{path} cannot be read: {error}") from None
    where = _store(store)
    wanted = key.removeprefix("k1:").removesuffix(".json")
    names = [
        name for name in where.names() if name.startswith(wanted) or name.partition("-")[2].startswith(wanted[:16])
    ]
    if len(names) > 1:
        raise OptionError(f"{key} may be any of {', '.join(sorted(names)[:5])}; write more of it")
    recording = where.read(names[0]) if names else None
    if recording is None or not (names[0].startswith(wanted) or recording.key.partition(":")[2].startswith(wanted)):
        raise OptionError(f"there is no recording {key} in {where.shown}; nbreplay ls lists what there is")
    return names[0], recording


def _show(given: argparse.Namespace) -> int:
    from nbreplay.core.log import Interaction
    from nbreplay.core.request.request import Request
    from nbreplay.notebook.escape import plain
    from nbreplay.notebook.render import render_calls

    name, recording = _found(given.key, given.store)
    if given.json:
        print(recording.text(), end="")
        return 0
    print(f"{name}\n{recording.key}\n\n{plain(json.dumps(recording.request, ensure_ascii=False, indent=2))}")
    request = Request(recording.kind, recording.request, recording.key)
    for number, take in enumerate(recording.takes, 1):
        print(f"\ntake {number} of {len(recording.takes)}")
        print("  " + render_calls([Interaction(request, take, "replayed", host=take.host)])["text/plain"])
    return 0


def _diff(given: argparse.Namespace) -> int:
    from nbreplay.notebook.escape import plain

    if all(is_archive(one) or Path(one).is_dir() for one in (given.a, given.b)):
        return _diff_stores(Store(given.a), Store(given.b), given.json)
    (_, one), (_, other) = _found(given.a, given.store), _found(given.b, given.store)
    found = differences(one.request, other.request)
    answers = [[fold(take).text for take in recording.takes] for recording in (one, other)]
    if given.json:
        rows = [{"path": item.path, "a": item.recorded, "b": item.asked} for item in found]
        print(json.dumps({"request": rows, "same_answers": answers[0] == answers[1]}, ensure_ascii=False, indent=2))
    else:
        for item in found:
            print(plain(item.path))
            print(f"  a  {plain(item.recorded or '(absent)')}\n  b  {plain(item.asked or '(absent)')}")
        print("the requests are the same" if not found else "", end="\n" if not found else "")
        print("the answers are the same" if answers[0] == answers[1] else "the answers differ")
    return 1 if found or answers[0] != answers[1] else 0


def _diff_stores(one: Store, other: Store, as_json: bool) -> int:
    every = [dict(store.recordings()) for store in (one, other)]
    bad = [item for items in every for item in items.values() if not isinstance(item, Recording)]
    a, b = ({name: item for name, item in items.items() if isinstance(item, Recording)} for items in every)
    rows = {
        "only_a": sorted(a.keys() - b.keys()),
        "only_b": sorted(b.keys() - a.keys()),
        "changed": sorted(name for name in a.keys() & b.keys() if a[name].takes != b[name].takes),
        "same": sorted(name for name in a.keys() & b.keys() if a[name].takes == b[name].takes),
    }
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        for label in ("only_a", "only_b", "changed"):
            for name in rows[label]:
                print(f"{label.replace('_', ' in '):<9}  {name}")
        counts = {name: len(found) for name, found in rows.items()}
        print("{same} same, {changed} changed, {only_a} only in a, {only_b} only in b".format(**counts))
    for error in bad:
        _complain(error)
    return 1 if bad or rows["only_a"] or rows["only_b"] or rows["changed"] else 0


def _import(given: argparse.Namespace) -> int:
    from nbreplay.formats.registry import import_files

    store = Store(given.store or default_store())
    return _told(import_files(given.source, store, given.format), f"added to {store.shown}", given.json)


def _export(given: argparse.Namespace) -> int:
    if given.format == "parquet":
        counts = _export_frames(_store(given.store), given.folder)
    else:
        from nbreplay.formats.registry import export_store

        counts = export_store(_store(given.store), given.folder, given.format)
    return _told(counts, f"written to {given.folder}", given.json)


def _export_frames(store: Store, folder: str) -> Counts:
    from nbreplay.analysis.load import load
    from nbreplay.formats.importer import Counts

    library = load(store, strict=False)
    library.to_parquet(folder)
    interactions = library.interactions
    return Counts(len(interactions), 0, int(interactions.key.nunique()), tuple(library.unread.reason))


def _told(counts: Counts | ImportCounts, done: str, as_json: bool) -> int:
    for why in () if as_json else counts.left_out:
        _complain(why)
    print(json.dumps(msgspec.to_builtins(counts), ensure_ascii=False, indent=2) if as_json else counts.text(done))
    return 1 if counts.left_out else 0
