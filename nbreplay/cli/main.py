"""The command line, ``nbreplay``: finds the command, and turns errors into messages and exit statuses.

Exit status: 0 fine, 1 something failed, 2 wrong usage, 3 nothing could be asked.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, Sequence

from nbreplay import __version__
from nbreplay.cli.output import print_error
from nbreplay.cli.parser import Parser
from nbreplay.errors import NbreplayError, OptionError

GROUPS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "record and replay notebooks": {
        "run": ("notebooks", "replay or record notebooks, and compare their outputs"),
        "adopt": ("adopt", "make a folder of notebooks replay, and propose the changes for it"),
        "serve": ("serve", "record and replay the calls of any program, through a local server"),
    },
    "look at recordings": {
        "ls": ("listing", "list the recordings of a store"),
        "show": ("conversation", "show a recording as a conversation, with every take"),
        "diff": ("differences", "show how two recordings, stores or executed notebooks differ"),
    },
    "keep a store healthy": {
        "check": ("check", "check that recordings are unchanged, and that nothing has a secret"),
        "verify": ("verify", "ask the live service again, and say which answers have changed"),
        "trim": ("notebooks", "list or remove the recordings that notebooks do not use"),
    },
    "exchange recordings": {
        "import": ("store", "import recordings of llama-stack or VCR cassettes into a store"),
        "export": ("store", "write a store as a .zip, as parquet, or for another recorder"),
    },
    "share notebooks": {
        "badge": ("badge", "print the badges that open a notebook on Colab, Binder and in a browser"),
        "lite": ("lite", "make a site on which notebooks run in the reader's browser"),
    },
    "set up a shell": {
        "completion": ("completion", "print the script that completes commands in a shell"),
    },
}
"""The commands by group, each with its module and its line in the help."""

_EPILOG = """\
examples:
  $ nbreplay run notebooks/           replay notebooks and compare their outputs
  $ nbreplay ls                       list the recordings in recordings/
  $ nbreplay COMMAND --help           the options of a command, and examples

exit status: 0 fine, 1 something failed, 2 wrong usage, 130 interrupted
"""


def make_parser(only: str | None = None) -> Parser:
    """Return the parser of the whole command line. If `only` names a command, no module of another one is imported."""
    parser = Parser(
        prog="nbreplay",
        description="Record the model calls of notebooks once, and replay them anywhere, without a key.",
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"nbreplay {__version__}", help="show the version")
    commands = parser.add_commands(
        {title: {name: text for name, (_, text) in rows.items()} for title, rows in GROUPS.items()}
    )
    modules = {name: module for rows in GROUPS.values() for name, (module, _) in rows.items()}
    for module in dict.fromkeys(module for name, module in modules.items() if only in (None, name)):
        importlib.import_module(f"nbreplay.cli.{module}").add(commands)
    for name in modules:
        if name not in commands.choices:
            commands.add_parser(name)
    parser.set_defaults(make_parser=make_parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    try:
        try:
            arguments = sys.argv[1:] if arguments is None else arguments
            command = next((word for word in arguments if word[:1] != "-"), "")
            options = make_parser(command).parse_args(arguments)
            status: int = options.do(options)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # also before --help and --version exit
    except NbreplayError as error:
        print_error(error)
        return 2 if isinstance(error, OptionError) else 1
    except BrokenPipeError:  # nbreplay ls | head
        # The flush at exit must not fail a second time.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt as error:
        print_error(". ".join(["interrupted", *map(str, error.args)]))
        return 130
    return status
