"""The command line, ``nbreplay``: finds the command, and turns errors into messages and exit statuses.

Exit status: 0 fine, 1 something failed, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from nbreplay import __version__
from nbreplay.cli import check, notebooks, store, verify
from nbreplay.errors import NbreplayError, OptionError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="nbreplay", description="Record the model calls of notebooks once, and replay them anywhere."
    )
    parser.add_argument("--version", action="version", version=f"nbreplay {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for module in (notebooks, store, verify, check):
        module.add(commands)
    options = parser.parse_args(arguments)
    try:
        status: int = options.do(options)
        sys.stdout.flush()
    except NbreplayError as error:
        store.print_error(error)
        return 2 if isinstance(error, OptionError) else 1
    except BrokenPipeError:  # nbreplay ls | head
        # The flush at exit must not fail a second time.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("nbreplay: interrupted", file=sys.stderr)
        return 130
    return status
