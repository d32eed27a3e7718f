"""``nbreplay completion``: prints the script with which a shell completes commands, options, notebooks and keys.

shtab writes it, and only this command needs shtab: the script asks no Python when somebody presses Tab.
"""

from __future__ import annotations

import argparse

from nbreplay.cli.parser import Parser
from nbreplay.errors import NbreplayError

_EPILOG = """\
Run it again after an update of nbreplay. It needs shtab: pip install 'nbreplay[completion]'.

examples:
  $ nbreplay completion bash > ~/.nbreplay-completion
    and in ~/.bashrc:  source ~/.nbreplay-completion
  $ nbreplay completion zsh > "${fpath[1]}/_nbreplay"
  $ nbreplay completion fish > ~/.config/fish/completions/nbreplay.fish

exit status: 0 fine, 1 shtab is not installed, 2 wrong usage
"""
# By the shell, functions that complete notebooks and keys. Names of files are listed, and never evaluated.
_FUNCTIONS = {
    "bash": r"""
_nbreplay_files() {
  compgen -d -- "$1"
  compgen -f -X '!*.ipynb' -- "$1"
}
_nbreplay_keys() {
  local file
  for file in "${NBREPLAY_STORE:-recordings}/$1"*.json; do
    file="${file##*/}"
    [[ "$file" =~ ^[a-z]+-[0-9a-f]+\.json$ ]] && printf '%s\n' "${file%.json}"
  done
}
""",
    "zsh": """
_nbreplay_files() { _files -g '*.ipynb' }
_nbreplay_keys() {
  local -a keys
  keys=("${NBREPLAY_STORE:-recordings}"/*-*.json(N:t:r))
  compadd -a keys
}
""",
    "fish": r"""
function _nbreplay_files
    __fish_complete_suffix .ipynb
end
function _nbreplay_keys
    set -l store recordings
    set -q NBREPLAY_STORE; and set store $NBREPLAY_STORE
    for file in $store/*-*.json
        string replace -rf '.*/([a-z]+-[0-9a-f]+)\\.json$' '$1' -- $file
    end
end
""",
}
_NOTEBOOKS = {"bash": "_nbreplay_files", "zsh": "_nbreplay_files", "fish": "(_nbreplay_files)"}
_KEYS = {"bash": "_nbreplay_keys", "zsh": "_nbreplay_keys", "fish": "(_nbreplay_keys)"}


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to those of the command line."""
    completion = commands.add_parser(
        "completion",
        description="Print the script with which a shell completes commands, options, notebooks and keys.",
        epilog=_EPILOG,
    )
    completion.add_argument("shell", metavar="SHELL", choices=tuple(_FUNCTIONS), help="bash, zsh or fish")
    completion.set_defaults(do=_print_script)


def _print_script(options: argparse.Namespace) -> int:
    parser: Parser = options.make_parser()
    try:
        import shtab
    except ImportError:
        raise NbreplayError("completion needs shtab. Run pip install 'nbreplay[completion]'") from None
    completers = {
        "NOTEBOOK|FOLDER": _NOTEBOOKS,
        "STORE|NOTEBOOK": _NOTEBOOKS,
        "KEY": _KEYS,
        "A": _KEYS,
        "B": _KEYS,
        "STORE": shtab.DIRECTORY,
        "FOLDER": shtab.DIRECTORY,
        "FILE|FOLDER": shtab.FILE,
        "FOLDER|FILE": shtab.FILE,
    }
    for command in parser.commands.values():
        command.description = (command.description or "").partition(". ")[0]  # what a menu has room for
        for action in command._actions:
            if action.metavar in completers:
                action.complete = completers[action.metavar]  # type: ignore[attr-defined]
    print(shtab.complete(parser, options.shell, preamble=_FUNCTIONS[options.shell]))
    return 0
