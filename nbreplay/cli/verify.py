"""``nbreplay verify``: ask the live service again what a store has recorded, and say what changed.

Only inference calls are asked again, whose request can be built exactly; a key is sent to the host that it is of and to
no other, no redirection is followed, and hosts of the user's own network are asked only where they are allowed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from nbreplay.core.config import default_store
from nbreplay.core.recording.recording import Recording, file_name
from nbreplay.core.recording.take import Take
from nbreplay.core.request.ids import verbatim
from nbreplay.core.request.request import Call, request_of
from nbreplay.core.request.route import host_matches, is_private
from nbreplay.core.request.rules import Normaliser
from nbreplay.core.secrets.credentials import PLACEHOLDER
from nbreplay.core.secrets.redact import Redactor
from nbreplay.core.store.archive import is_archive
from nbreplay.core.store.store import Store
from nbreplay.errors import OptionError, RecordingFormatError

if TYPE_CHECKING:
    import urllib.request

__all__ = ["add"]

# (host, the variables that hold its key, the header that it goes in, what stands before it)
_KEYS = (
    ("api.openai.com", ("OPENAI_API_KEY",), "authorization", "Bearer "),
    ("api.anthropic.com", ("ANTHROPIC_API_KEY",), "x-api-key", ""),
    ("generativelanguage.googleapis.com", ("GEMINI_API_KEY", "GOOGLE_API_KEY"), "x-goog-api-key", ""),
    ("api.mistral.ai", ("MISTRAL_API_KEY",), "authorization", "Bearer "),
    ("api.groq.com", ("GROQ_API_KEY",), "authorization", "Bearer "),
    ("api.cohere.com", ("CO_API_KEY", "COHERE_API_KEY"), "authorization", "Bearer "),
    ("api.deepseek.com", ("DEEPSEEK_API_KEY",), "authorization", "Bearer "),
    ("openrouter.ai", ("OPENROUTER_API_KEY",), "authorization", "Bearer "),
)
_TIMEOUT_S = 600


def add(commands: Any) -> None:
    """Add the command to those of the command line."""
    verify = commands.add_parser("verify", help="ask the live service again, and say which answers have changed")
    verify.add_argument("store", nargs="?", metavar="STORE")
    verify.add_argument("--update", action="store_true", help="keep the new answers in place of the old")
    verify.add_argument(
        "--allow", action="append", default=[], metavar="HOST[:PORT]", help="ask this host of your own network, too"
    )
    verify.add_argument("--json", action="store_true")
    verify.set_defaults(do=_verify)


def _verify(given: argparse.Namespace) -> int:
    import tempfile

    from nbreplay.analysis.compare import compare
    from nbreplay.intercept.registry import session
    from nbreplay.notebook.escape import plain

    path = given.store or default_store()
    if not is_archive(path) and not Path(path).exists():
        raise OptionError(f"there is no store {path}; name one, or record something first")
    store, left_out = Store(path), list[str]()
    if given.update:
        store.prepare()
    with tempfile.TemporaryDirectory(prefix="nbreplay-verify-") as folder:
        before, now = Store(Path(folder) / "before"), Store(Path(folder) / "now")
        asked: list[tuple[Recording, Take]] = []
        found = list(store.recordings())
        for number, (name, recording) in enumerate(found, 1):
            _progress(number, len(found), given.json)
            try:
                take, request = _again(name, recording, tuple(given.allow))
            except _Skipped as skipped:
                left_out.append(f"{os.path.join(store.shown, name)}: {skipped}")
                continue
            with session(now.path, mode="record") as live:
                if live.mode.value != "record":
                    raise OptionError(f"verify asks the live service, and NBREPLAY_MODE is {live.mode.value}: unset it")
                why = _send(request)
            kept = now.find(recording.kind, recording.key) if isinstance(recording, Recording) else None
            if why or kept is None or not isinstance(recording, Recording):
                left_out.append(f"{os.path.join(store.shown, name)}: {why or 'the answer could not be recorded'}")
                continue
            asked.append((recording, take))
            before.write(recording.kind, recording.key, recording.request, lambda _, old=take: [old])  # type: ignore[misc]
        made = compare(before, now)
        updated = [_update(store, now, *item) for item in asked] if given.update else []
    if given.json:
        rows = json.loads(made.frame.reset_index().to_json(orient="records"))
        print(
            json.dumps({"counts": made.counts, "pairs": rows, "left_out": left_out, "updated": sum(updated)}, indent=2)
        )
    else:
        for row in made.changed.itertuples():
            print(plain(f"changed  {row.interaction_a}\n{row.text_diff}"))
        print(plain(repr(made)) + (f"\n{sum(updated)} updated" if given.update else ""))
        for line in left_out:
            print(plain(f"nbreplay: not asked again: {line}"), file=sys.stderr)
    return 1 if made.counts["changed"] and not given.update else 0


class _Skipped(Exception):
    """Why a recording is not asked again."""


def _again(
    name: str, recording: Recording | RecordingFormatError, allow: tuple[str, ...]
) -> tuple[Take, urllib.request.Request]:
    """Return a recording's last good take, and the request to be sent for it."""
    import urllib.request

    if isinstance(recording, RecordingFormatError):
        raise _Skipped(str(recording))
    take = next((take for take in reversed(recording.takes) if take.good and take.error is None), None)
    if take is None:
        raise _Skipped("it holds no good answer")
    if recording.kind in ("tool", "http"):
        raise _Skipped("it is no inference call, and may do more than answer")
    try:
        body = verbatim(recording.request.get("body"), take.ids)
    except RecordingFormatError as error:
        raise _Skipped(str(error)) from None
    data = b"" if body is None else json.dumps(body).encode()
    if b"[secret:" in data or b"[masked]" in data:
        raise _Skipped("what stood for a secret or a mask in its request was not recorded")
    method = str(recording.request.get("method", "POST"))
    call = Call(method, take.host, take.url, "application/json" if data else "", data)
    made = request_of(call, Normaliser((), ()), {}, Redactor((), again=True))
    if file_name(made.kind, made.key) != name or made.key != recording.key:
        raise _Skipped("its request cannot be built again: files or fields of it were not recorded")
    headers = {"accept": "*/*"} | ({"content-type": "application/json"} if data else {})
    if not is_private(take.host):
        headers |= _authorised(take.host)
    elif not host_matches(take.host, allow):
        # A recording is data from a stranger: it does not say what is asked in one's own network.
        raise _Skipped(f"{take.host} is a host of your own network: say --allow {take.host}")
    scheme = "http" if is_private(take.host) else "https"
    return take, urllib.request.Request(f"{scheme}://{take.host}{take.url}", data or None, headers, method=method)


def _authorised(host: str) -> dict[str, str]:
    for known, names, header, before in _KEYS:
        if host == known:
            key = next((value for name in names if (value := os.environ.get(name)) and value != PLACEHOLDER), None)
            if key is None:
                raise _Skipped(f"no key is set for {host}: set {names[0]}")
            more = {"anthropic-version": "2023-06-01"} if known == "api.anthropic.com" else {}
            return {header: before + key, **more}
    raise _Skipped(f"which key {host} takes is not known")


def _send(request: urllib.request.Request) -> str | None:
    """Send a request and read the answer to its end; return why that did not succeed."""
    import urllib.error
    import urllib.request

    class NoRedirect(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            return None

    opener = urllib.request.build_opener(NoRedirect)
    try:
        with opener.open(request, timeout=_TIMEOUT_S) as answer:
            while answer.read1():
                pass
    except urllib.error.HTTPError as error:
        with contextlib.suppress(OSError):
            error.read()
        if error.code in (401, 403, 408, 409, 429) or error.code >= 500:
            return f"the service answered {error.code}: try again later, or see whether the key is right"
    except OSError as error:
        return f"the service could not be reached ({error})"
    return None


def _update(store: Store, now: Store, recording: Recording, old: Take) -> bool:
    """Put the new answer in place of the old, asked for by the same cell; return whether it was done."""
    new = now.find(recording.kind, recording.key)
    if new is None or not new.takes[-1].good:
        return False
    take = replace(new.takes[-1], cell=old.cell, ids=old.ids, task=old.task)

    def change(takes: list[Take]) -> list[Take]:
        return [take if one == old else one for one in takes]

    store.write(recording.kind, recording.key, recording.request, change)
    return True


def _progress(number: int, every: int, quiet: bool) -> None:
    if not quiet and sys.stderr.isatty():
        print(f"\rasking again: {number} of {every}", end="\n" if number == every else "", file=sys.stderr, flush=True)
