"""The commands on recordings: ``ls``, ``show``, ``diff``, ``import`` and ``export``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from nbreplay.core.config import default_store
from nbreplay.core.explain import differences
from nbreplay.core.log import Interaction
from nbreplay.core.recording.recording import Recording, parse
from nbreplay.core.request.request import Request, last_user_text
from nbreplay.core.store.archive import is_archive
from nbreplay.core.store.store import Store
from nbreplay.errors import OptionError, RecordingFormatError
from nbreplay.notebook.escape import plain
from nbreplay.providers.answer import Answer

if TYPE_CHECKING:
    from nbreplay.formats.importer import Counts, ImportCounts


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands to those of the command line."""

    def command(name: str, do: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        parser = commands.add_parser(name, help=text)
        parser.set_defaults(do=do)
        return parser

    ls = command("ls", _ls, "list the recordings of a store")
    ls.add_argument("store", nargs="?", metavar="STORE")
    show = command("show", _show, "show the request and every take of a recording")
    show.add_argument("key", metavar="KEY", help="a key, the beginning of one, or a file")
    diff = command("diff", _diff, "show how two recordings, or two stores, differ")
    diff.add_argument("a", metavar="A", help="a key, the beginning of one, a file, or a store")
    diff.add_argument("b", metavar="B")
    importer = command("import", _import, "import recordings of llama-stack or VCR cassettes into a store")
    importer.description = (
        "Import recordings of llama-stack or VCR cassettes into a store. Every interaction of the files is counted. "
        "The exit status is 1 if one is not imported, and a message says which and why."
    )
    importer.add_argument("source", metavar="FILE|FOLDER")
    importer.add_argument("--format", metavar="FORMAT", help="llama-stack or vcr; by default, the files decide")
    exporter = command("export", _export, "write a store in another recorder's format, as parquet or as a .zip")
    exporter.add_argument("folder", metavar="FOLDER|FILE")
    exporter.add_argument("--format", required=True, metavar="FORMAT", help="llama-stack, parquet or zip")
    for parser in (show, diff, importer, exporter):
        parser.add_argument("--store", metavar="STORE")
    for parser in (ls, show, diff, importer, exporter):
        parser.add_argument("--json", action="store_true", help="print JSON")


def open_store(path: str | None) -> Store:
    """Return the store at a path, or the default one. Raise OptionError where it does not exist."""
    where = path or default_store()
    if not is_archive(where) and not Path(where).exists():
        raise OptionError(f"store {where} does not exist. Name one, or record something first")
    return Store(where)


def print_error(error: object) -> None:
    """Print a message on standard error, without control characters of what it quotes."""
    print(plain(f"nbreplay: {error}"), file=sys.stderr)


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2))


def _ls(options: argparse.Namespace) -> int:
    rows: list[dict[str, Any]] = []
    errors: list[RecordingFormatError] = []
    for name, recording in open_store(options.store).recordings():
        if isinstance(recording, RecordingFormatError):
            errors.append(recording)
            continue
        takes, body = recording.takes, recording.request.get("body")
        model = str(body.get("model", "") if isinstance(body, dict) else recording.request.get("host", ""))
        entry = {"file": name, "key": recording.key, "kind": recording.kind, "model": model, "takes": len(takes)}
        recorded_at = takes[-1].recorded_at if takes else ""
        rows.append({**entry, "recorded_at": recorded_at, "asked": last_user_text(recording.request)})
    if options.json:
        _print_json(rows)
    elif not rows and not errors:
        print("no recordings")
    else:
        width = {name: max((len(str(row[name])) for row in rows), default=0) for name in ("file", "model", "takes")}
        for row in rows:
            count = f"{row['takes']:>{width['takes']}} take{'s' if row['takes'] != 1 else ' '}"
            model, date, text = plain(row["model"]), plain(row["recorded_at"][:10]), row["asked"].replace("\n", " ")
            print(f"{row['file']:<{width['file']}}  {model:<{width['model']}}  {count}  {date}  {plain(text)[:60]}")
    for error in errors:
        print_error(error)
    return 1 if errors else 0


def _find(key: str, store_path: str | None) -> tuple[str, Recording]:
    """Return the name and the recording for a key, the beginning of one, or a file."""
    path = Path(key)
    if path.suffix == ".json" and path.is_file():
        try:
            return key, parse(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecordingFormatError) as error:
            raise RecordingFormatError(f"{path} cannot be read: {error}") from None
    store = open_store(store_path)
    start = key.removeprefix("k1:").removesuffix(".json")
    names = [name for name in store.names() if name.startswith(start) or name.partition("-")[2].startswith(start[:16])]
    if len(names) > 1:
        raise OptionError(f"{key} may be any of {', '.join(sorted(names)[:5])}. Write more of it")
    recording = store.read(names[0]) if names else None
    if recording is None or not (names[0].startswith(start) or recording.key.partition(":")[2].startswith(start)):
        raise OptionError(f"recording {key} was not found in {store.shown}. nbreplay ls lists the recordings")
    return names[0], recording


def _show(options: argparse.Namespace) -> int:
    from nbreplay.notebook.render import render_calls

    name, recording = _find(options.key, options.store)
    if options.json:
        print(recording.text(), end="")
        return 0
    print(f"{name}\n{recording.key}\n\n{plain(json.dumps(recording.request, ensure_ascii=False, indent=2))}")
    request = Request(recording.kind, recording.request, recording.key)
    for number, take in enumerate(recording.takes, 1):
        print(f"\ntake {number} of {len(recording.takes)}")
        print("  " + render_calls([Interaction(request, take, "replayed", host=take.host)])["text/plain"])
    return 0


def _diff(options: argparse.Namespace) -> int:
    if all(is_archive(path) or Path(path).is_dir() for path in (options.a, options.b)):
        return _diff_stores(Store(options.a), Store(options.b), options.json)
    (_, a), (_, b) = _find(options.a, options.store), _find(options.b, options.store)
    fields = differences(a.request, b.request)
    texts = ([Answer(take.body).visible_text() for take in recording.takes] for recording in (a, b))
    same_answers = next(texts) == next(texts)
    if options.json:
        rows = [{"path": field.path, "a": field.recorded, "b": field.asked} for field in fields]
        _print_json({"request": rows, "same_answers": same_answers})
    else:
        for field in fields:
            print(plain(field.path))
            print(f"  a  {plain(field.recorded or '(absent)')}\n  b  {plain(field.asked or '(absent)')}")
        if not fields:
            print("the requests are the same")
        print("the answers are the same" if same_answers else "the answers differ")
    return 1 if fields or not same_answers else 0


def _diff_stores(one: Store, other: Store, as_json: bool) -> int:
    stores = [dict(store.recordings()) for store in (one, other)]
    errors = [item for items in stores for item in items.values() if isinstance(item, RecordingFormatError)]
    a, b = ({name: item.takes for name, item in items.items() if isinstance(item, Recording)} for items in stores)
    rows = {
        "only_a": sorted(a.keys() - b.keys()),
        "only_b": sorted(b.keys() - a.keys()),
        "changed": sorted(name for name in a.keys() & b.keys() if a[name] != b[name]),
        "same": sorted(name for name in a.keys() & b.keys() if a[name] == b[name]),
    }
    if as_json:
        _print_json(rows)
    else:
        for label in ("only_a", "only_b", "changed"):
            for name in rows[label]:
                print(f"{label.replace('_', ' in '):<9}  {name}")
        counts = {name: len(names) for name, names in rows.items()}
        print("{same} same, {changed} changed, {only_a} only in a, {only_b} only in b".format(**counts))
    for error in errors:
        print_error(error)
    return 1 if errors or len(rows["same"]) < len(a | b) else 0


def _import(options: argparse.Namespace) -> int:
    from nbreplay.formats.registry import import_files

    store = Store(options.store or default_store())
    counts = import_files(options.source, store, options.format)
    return _print_counts(counts, f"added to {store.shown}", options.json)


def _export(options: argparse.Namespace) -> int:
    from nbreplay.formats.registry import export_store

    store = open_store(options.store)
    if options.format == "parquet":
        from nbreplay.analysis.library import load
        from nbreplay.formats.importer import Counts

        library = load(store, strict=False)
        library.to_parquet(options.folder)
        keys = library.interactions.key
        counts = Counts(len(keys), 0, int(keys.nunique()), tuple(library.unread.reason))
    else:
        counts = export_store(store, options.folder, options.format)
    return _print_counts(counts, f"written to {options.folder}", options.json)


def _print_counts(counts: Counts | ImportCounts, action: str, as_json: bool) -> int:
    if as_json:
        _print_json(msgspec.to_builtins(counts))
    else:
        for reason in counts.left_out:
            print_error(reason)
        print(counts.text(action))
    return 1 if counts.left_out else 0
