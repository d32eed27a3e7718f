"""``nbreplay serve``: a local server that records and replays the calls of any program, and runs a command with it."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from nbreplay.cli.output import HEADING, print_error, print_text
from nbreplay.core.advice import Place
from nbreplay.core.config import Mode, mode_of_run
from nbreplay.core.words import OUTCOMES, format_counts, format_failure
from nbreplay.errors import OptionError
from nbreplay.notebook.escape import plain

if TYPE_CHECKING:
    from nbreplay.core.session import Session
    from nbreplay.serve.local import Server

_MOST_LINES = 20

_EPILOG = """\
Any host can be called through the server: /openai/v1 is api.openai.com/v1, and so is /api.openai.com/v1. It is bound to
127.0.0.1, and every address begins with a token that is made anew at each start.

examples:
  $ nbreplay serve                                 serve until Ctrl-C
  $ nbreplay serve --mode replay -- node agent.js  replay the calls of a program
  $ nbreplay serve -- bash -c 'curl $OPENAI_BASE_URL/models'
  $ nbreplay serve --to ollama=http://gpu:11434    send a host's calls elsewhere

exit status: 0 fine, 1 a call was missing, blocked or not saved, 2 wrong usage; else that of COMMAND
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to those of the command line."""
    serve = commands.add_parser(
        "serve",
        description=(
            "Record and replay the calls of any program, in any language, through a server on this machine. It prints "
            "the variables that lead SDKs to it, or runs COMMAND with them and ends with it."
        ),
        epilog=_EPILOG,
    )
    store = "the folder of recordings, a .zip of it, or its URL (default: that of the working directory)"
    serve.add_argument("store", nargs="?", metavar="STORE", help=store)
    serve.add_argument("line", nargs="*", metavar="-- COMMAND", help="a program and its arguments")
    serve.tail = "line"  # type: ignore[attr-defined]  # argparse makes a parser of our class
    mode = "replay sends nothing; auto records what is missing; record records every call again (default: auto)"
    serve.add_argument("--mode", choices=("replay", "auto", "record"), help=mode)
    serve.add_argument("--port", type=_port, default=0, metavar="N", help="the port (default: a free one)")
    to = "send the calls of HOST, which may be a short name, to another address"
    serve.add_argument("--to", action="append", default=[], metavar="HOST=URL", help=to)
    serve.add_argument("--speed", metavar="N", help="replay at the recorded pace times N; at once, if not given")
    for option, metavar, text in (
        ("--ignore", "PATH", "a field to leave out of the key: metadata.run_id"),
        ("--mask", "REGEX", "leave what it matches out of the key"),
        ("--only", "HOST", "record and replay this host only"),
        ("--allow", "HOST[:PORT]", "let this host through during replay, live"),
    ):
        serve.add_argument(option, action="append", metavar=metavar, help=text)
    serve.set_defaults(do=_serve)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port, which is a number up to 65535")
    return int(text)


def _serve(arguments: argparse.Namespace) -> int:
    mode = mode_of_run(arguments.mode, "--mode")
    from nbreplay.intercept.registry import open_session
    from nbreplay.serve import local
    from nbreplay.serve.addresses import parse_upstream, placeholders

    session = open_session(
        arguments.store,
        mode=mode,
        **{name: getattr(arguments, name) for name in ("speed", "ignore", "mask", "only", "allow")},
    )
    session.place = Place.SERVER
    if session.mode is Mode.RECORD:
        session.store.prepare()  # which raises its error now
    try:
        with local.start(session, port=arguments.port, to=dict(map(parse_upstream, arguments.to))) as server:
            if arguments.line:
                variables = placeholders(os.environ) | server.environment()
                status = _run(arguments.line, {**os.environ, **variables})
            else:
                _print_start(server)
                status = _wait()
    finally:
        session.flush()
    return _report(session) or status


def _print_start(server: Server) -> None:
    session = server.session
    print_text(
        ("nbreplay", HEADING),
        f" serves {session.store.shown} in mode {session.mode.value} at {server.address}",
        stderr=True,
    )
    for name, value in server.base_urls().items():
        print(plain(f"export {name}={shlex.quote(value)}"), flush=True)  # as it is, since it is copied
    print_text(f"Any other host: {server.address}/HOST/PATH", stderr=True)
    print_text(f"What was asked: {server.address}/-/status", stderr=True)
    print_text("Ctrl-C stops it.", stderr=True)


def _wait() -> int:
    """Wait until the program is interrupted or terminated."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(3600)
    return 0


def _run(line: Sequence[str], environment: dict[str, str]) -> int:
    """Run a command; return its exit status. It gets the signals that this process gets."""
    try:
        process = subprocess.Popen(line, env=environment)
    except OSError as error:
        raise OptionError(f"{line[0]} cannot be started: {error.strerror}. Write the command after --") from None
    with _passing_on_signals(process):
        while True:
            try:
                status = process.wait()
                break
            except KeyboardInterrupt:  # the terminal sends it to the command, too
                continue
    return status if status >= 0 else 128 - status


@contextlib.contextmanager
def _passing_on_signals(process: subprocess.Popen[Any]) -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _report(session: Session) -> int:
    """Print what failed or was not recorded, and the counts of all calls; return the exit status."""
    calls = session.interactions
    failures = [call for call in calls if OUTCOMES[call.outcome].fails]
    lines = [format_failure(call.outcome, call.note).removeprefix("nbreplay ") for call in failures]
    lines += [f"{call.host}: {call.note}" for call in calls if call.outcome == "live" and call.note]
    lines = [*dict.fromkeys(lines)]
    for line in lines[:_MOST_LINES]:
        print_error(line)
    if len(lines) > _MOST_LINES:
        print_error(f"and {len(lines) - _MOST_LINES:,} more")
    print_text("nbreplay: ", format_counts(Counter(call.outcome for call in calls)), stderr=True)
    return 1 if failures else 0
