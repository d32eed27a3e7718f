"""``nbreplay verify``: asks the live service again, and compares the answers with the recorded ones.

Only inference calls whose request can be rebuilt exactly are sent again. A key is sent to its own host alone, no
redirect is followed, and hosts of the user's own network are asked only where they are allowed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from nbreplay.cli.store import open_store, print_error
from nbreplay.core.recording.recording import Recording, file_name
from nbreplay.core.recording.take import Take
from nbreplay.core.request.request import Call, request_of
from nbreplay.core.request.route import host_matches, is_private
from nbreplay.core.request.rules import Normaliser, verbatim
from nbreplay.core.secrets.credentials import PLACEHOLDER
from nbreplay.core.secrets.redact import Redactor
from nbreplay.core.store.store import Store
from nbreplay.errors import OptionError, RecordingFormatError

_BEARER = {"authorization": "Bearer {}"}
# By the host, the variables with its key, and the headers that authorise a request.
_KEYS = {
    "api.openai.com": (["OPENAI_API_KEY"], _BEARER),
    "api.anthropic.com": (["ANTHROPIC_API_KEY"], {"x-api-key": "{}", "anthropic-version": "2023-06-01"}),
    "generativelanguage.googleapis.com": (["GEMINI_API_KEY", "GOOGLE_API_KEY"], {"x-goog-api-key": "{}"}),
    "api.mistral.ai": (["MISTRAL_API_KEY"], _BEARER),
    "api.groq.com": (["GROQ_API_KEY"], _BEARER),
    "api.cohere.com": (["CO_API_KEY", "COHERE_API_KEY"], _BEARER),
    "api.deepseek.com": (["DEEPSEEK_API_KEY"], _BEARER),
    "openrouter.ai": (["OPENROUTER_API_KEY"], _BEARER),
}
_TIMEOUT_S = 600


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to those of the command line."""
    verify = commands.add_parser("verify", help="ask the live service again, and say which answers have changed")
    verify.add_argument("store", nargs="?", metavar="STORE")
    verify.add_argument("--update", action="store_true", help="replace the recorded answers by the new ones")
    verify.add_argument(
        "--allow", action="append", default=[], metavar="HOST[:PORT]", help="also ask this host of your own network"
    )
    verify.add_argument("--json", action="store_true", help="print JSON")
    verify.set_defaults(do=_verify)


def _verify(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import track

    from nbreplay.analysis.compare import compare
    from nbreplay.notebook.escape import plain

    store, left_out = open_store(options.store), list[str]()
    if options.update:
        store.prepare()
    console, quiet = Console(stderr=True), options.json or not sys.stderr.isatty()
    with tempfile.TemporaryDirectory(prefix="nbreplay-verify-") as folder:
        before, now = Store(Path(folder) / "before"), Store(Path(folder) / "now")
        sent: list[tuple[Recording, Take]] = []
        recordings = list(store.recordings())
        for name, recording in track(recordings, "Asking again", console=console, transient=True, disable=quiet):
            try:
                sent.append(_ask_again(name, recording, options.allow, before, now))
            except _Skipped as skipped:
                left_out.append(f"{os.path.join(store.shown, name)}: {skipped}")
        comparison = compare(before, now)
        updated = sum(_update(store, now, *item) for item in sent) if options.update else 0
    if options.json:
        pairs = json.loads(comparison.frame.reset_index().to_json(orient="records"))
        result = {"counts": comparison.counts, "pairs": pairs, "left_out": left_out, "updated": updated}
        print(json.dumps(result, indent=2))
    else:
        for row in comparison.changed.itertuples():
            print(plain(f"changed  {row.interaction_a}\n{row.text_diff}"))
        print(plain(repr(comparison)) + (f"\n{updated} updated" if options.update else ""))
        for line in left_out:
            print_error(f"not asked again: {line}")
    return 1 if comparison.counts["changed"] and not options.update else 0


class _Skipped(Exception):
    """The reason why a recording is not asked again."""


def _ask_again(
    name: str, recording: Recording | RecordingFormatError, allow: Sequence[str], before: Store, now: Store
) -> tuple[Recording, Take]:
    """Record the answer of the live service to the last good take of a recording; return both."""
    from nbreplay.intercept.registry import session

    if isinstance(recording, RecordingFormatError):
        raise _Skipped(str(recording))
    take = next((take for take in reversed(recording.takes) if take.good and take.error is None), None)
    if take is None:
        raise _Skipped("no good answer is recorded")
    request = _request(name, recording, take, allow)
    with session(now.path, mode="record") as live:
        if live.mode.value != "record":
            raise OptionError(f"verify asks the live service, and NBREPLAY_MODE is {live.mode.value}. Unset it")
        _send(*request)
    if now.find(recording.kind, recording.key) is None:
        raise _Skipped("the answer could not be recorded")
    before.write(recording.kind, recording.key, recording.request, lambda _: [take])
    return recording, take


def _request(
    name: str, recording: Recording, take: Take, allow: Sequence[str]
) -> tuple[str, str, bytes | None, dict[str, str]]:
    """Return the method, the URL, the body and the headers of the request of a take."""
    if recording.kind in ("tool", "http"):
        raise _Skipped("not an inference call: sending it again may change something")
    try:
        body = verbatim(recording.request.get("body"), take.ids)
    except RecordingFormatError as error:
        raise _Skipped(str(error)) from None
    data = b"" if body is None else json.dumps(body).encode()
    if b"[secret:" in data or b"[masked]" in data:
        raise _Skipped("a secret or a masked text of the request was not recorded")
    method = str(recording.request.get("method", "POST"))
    call = Call(method, take.host, take.url, "application/json" if data else "", data)
    rebuilt = request_of(call, Normaliser(), {}, Redactor(again=True))
    if file_name(rebuilt.kind, rebuilt.key) != name or rebuilt.key != recording.key:
        raise _Skipped("files or fields of the request were not recorded")
    headers = {"accept": "*/*"} | ({"content-type": "application/json"} if data else {})
    if not is_private(take.host):
        headers |= _authorisation(take.host)
    elif not host_matches(take.host, allow):
        # A recording is a stranger's data: it must not choose the hosts that are asked in one's own network.
        raise _Skipped(f"{take.host} is a host of your own network. Pass --allow {take.host}")
    scheme = "http" if is_private(take.host) else "https"
    return method, f"{scheme}://{take.host}{take.url}", data or None, headers


def _authorisation(host: str) -> dict[str, str]:
    if host not in _KEYS:
        raise _Skipped(f"verify does not know how {host} is authorised")
    names, headers = _KEYS[host]
    key = next((value for name in names if (value := os.environ.get(name)) and value != PLACEHOLDER), None)
    if key is None:
        raise _Skipped(f"no key for {host}. Set {names[0]}")
    return {name: value.format(key) for name, value in headers.items()}


def _send(method: str, url: str, data: bytes | None, headers: dict[str, str]) -> None:
    """Send a request and read the answer to its end."""
    import urllib.error
    import urllib.request

    class NoRedirect(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            return None

    opener = urllib.request.build_opener(NoRedirect)
    try:
        with opener.open(urllib.request.Request(url, data, headers, method=method), timeout=_TIMEOUT_S) as answer:
            while answer.read1():
                pass
    except urllib.error.HTTPError as error:
        with contextlib.suppress(OSError):
            error.read()
        if error.code in (401, 403, 408, 409, 429) or error.code >= 500:
            raise _Skipped(f"the service answered {error.code}. Check the key, or try again later") from None
    except OSError as error:
        raise _Skipped(f"the service could not be reached ({error})") from None


def _update(store: Store, now: Store, recording: Recording, old: Take) -> bool:
    """Replace the old answer by the new one, for the same cell; return whether there was a good one."""
    new = now.find(recording.kind, recording.key)
    if new is None or not new.takes[-1].good:
        return False
    take = replace(new.takes[-1], cell=old.cell, ids=old.ids, task=old.task)
    store.write(
        recording.kind, recording.key, recording.request, lambda takes: [take if one == old else one for one in takes]
    )
    return True
