"""Stores and recordings that the command line names, and the commands ``import`` and ``export``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from nbreplay.cli.output import print_error, print_json, print_text
from nbreplay.core.config import default_store
from nbreplay.core.store.archive import is_archive
from nbreplay.core.store.store import Store
from nbreplay.errors import OptionError

if TYPE_CHECKING:
    from nbreplay.formats.importer import Counts, ImportCounts


_IMPORT_EPILOG = """\
examples:
  $ nbreplay import cassettes/                add cassettes to recordings/
  $ nbreplay import old/ --store recordings   add the files to a store
  $ nbreplay import voice.yaml --url wss://voice.example.com/v1/realtime

exit status: 0 all is imported, 1 an interaction is not imported, and a message says which and why, 2 wrong usage
"""
_EXPORT_EPILOG = """\
A folder of llama-stack recordings and a .zip can be imported or used as a store again; parquet holds the frames of
nbreplay.load.

examples:
  $ nbreplay export --format zip recordings.zip
  $ nbreplay export --format parquet frames --store other/recordings

exit status: 0 all is written, 1 a recording is left out, and a message says which and why, 2 wrong usage
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands to those of the command line."""
    importer = commands.add_parser(
        "import",
        description=(
            "Import recordings of llama-stack or VCR cassettes into a store. Every interaction of the files is counted."
        ),
        epilog=_IMPORT_EPILOG,
    )
    importer.add_argument("source", metavar="FILE|FOLDER", help="a file, or a folder with files in it or below")
    formats = "format of the files (default: the content of each file decides)"
    importer.add_argument("--format", choices=("llama-stack", "vcr"), help=formats)
    addresses = "address of the websockets in the files (default: the service that their messages point to)"
    importer.add_argument("--url", metavar="URL", default="", help=addresses)
    exporter = commands.add_parser(
        "export",
        description="Write a store in another recorder's format, as parquet files or as a .zip.",
        epilog=_EXPORT_EPILOG,
    )
    exporter.add_argument("folder", metavar="FOLDER|FILE", help="where to write")
    exporter.add_argument("--format", required=True, choices=("llama-stack", "parquet", "zip"), help="format to write")
    store = "the store (default: the store of the working directory, recordings/)"
    for parser, do in ((importer, _import), (exporter, _export)):
        parser.add_argument("--store", metavar="STORE", help=store)
        parser.add_argument("--json", action="store_true", help="print the counts as JSON")
        parser.set_defaults(do=do)


def open_store(path: str | None) -> Store:
    """Return the store at a path, or the default one. Raise OptionError where it does not exist."""
    where = path or default_store()
    if not is_archive(where) and not Path(where).exists():
        raise OptionError(f"store {where} does not exist. Name one, or record something first")
    return Store(where)


def _import(options: argparse.Namespace) -> int:
    from nbreplay.formats.registry import import_files

    if not Path(options.source).expanduser().exists():
        raise OptionError(f"{options.source} does not exist. Name a file or a folder with the recordings to import")
    store = Store(options.store or default_store())
    counts = import_files(options.source, store, options.format, options.url)
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
        print_json(msgspec.to_builtins(counts))
    else:
        for reason in counts.left_out:
            print_error(reason)
        print_text(counts.text(action))
    return 1 if counts.left_out else 0
