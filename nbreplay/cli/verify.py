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
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from nbreplay.cli.differences import answer_text, print_sides
from nbreplay.cli.listing import Entry, entry_of, rows_of, short_name
from nbreplay.cli.output import BAD, GOOD, NAME, is_terminal, is_watched, make_progress, print_json, print_text
from nbreplay.cli.store import open_store
from nbreplay.core.config import Mode, forced_mode
from nbreplay.core.recording.recording import Recording, file_name
from nbreplay.core.recording.take import Take
from nbreplay.core.request.request import Call, request_of
from nbreplay.core.request.route import host_matches, is_private
from nbreplay.core.request.rules import Normaliser, verbatim
from nbreplay.core.secrets.credentials import PLACEHOLDER
from nbreplay.core.secrets.redact import Redactor
from nbreplay.core.store.store import Store
from nbreplay.core.words import count_of, shorten_line
from nbreplay.errors import OptionError, RecordingFormatError
from nbreplay.prices import packaged_prices

if TYPE_CHECKING:
    from nbreplay.analysis.rows import Row

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
_MOST_NAMES = 3  # of recordings that are not asked for the same reason

_EPILOG = """\
Before anything is sent, it says what it will ask, of whom, and what that cost when it was recorded (in dollars where
genai-prices knows the model). On a terminal it asks whether to go on, unless --yes is given.

Tools and other requests are not sent again, since that may change something; nor is a request whose secrets, files or
key are not here. A key is sent to its own host alone.

--json prints counts, answers (file, model, host, asked, status, recorded, now, why), pairs (rows of nbreplay.compare),
left_out and updated; with --dry-run plan (model, host, requests, input_tokens, output_tokens, cost, uncounted) and
left_out.

examples:
  $ nbreplay verify --dry-run
  $ nbreplay verify recordings --update --yes

exit status: 0 nothing has changed, 1 an answer has changed, 2 wrong usage, 3 nothing could be asked
"""
_NOTHING = 3  # the exit status where nothing could be asked


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to those of the command line."""
    verify = commands.add_parser(
        "verify",
        description="Ask the live service again, and say which answers differ from the recorded ones.",
        epilog=_EPILOG,
    )
    verify.add_argument("store", nargs="?", metavar="STORE", help="by default, the store of the working directory")
    verify.add_argument("--update", action="store_true", help="replace the recorded answers by the new ones")
    verify.add_argument(
        "--allow", action="append", default=[], metavar="HOST[:PORT]", help="also ask this host of your own network"
    )
    verify.add_argument("--yes", action="store_true", help="do not ask whether to go on")
    verify.add_argument("--dry-run", action="store_true", help="only say what it would ask, and what that costs")
    verify.add_argument("--json", action="store_true", help="print JSON")
    verify.set_defaults(do=_verify)


class _Question(msgspec.Struct, frozen=True):
    """A recorded request that can be sent again, and the take whose answer is compared."""

    recording: Recording
    row: Row
    entry: Entry
    take: Take
    call: tuple[str, str, bytes | None, dict[str, str]]  # method, URL, body and headers

    @property
    def costs(self) -> dict[str, Any]:
        """What it cost when it was recorded, as far as that is known."""
        from nbreplay.providers.answer import provider_of

        reader = self.row.answer.reader
        into, out, cached = (reader.tokens.get(kind) for kind in ("input", "output", "cached"))
        cost, price = None, packaged_prices()
        if price is not None and into is not None and out is not None:
            parts = price(self.entry.model, reader.model, provider_of(self.take.host), into, out, cached or 0)
            cost = None if None in parts else sum(part or 0.0 for part in parts)
        return {"input_tokens": into, "output_tokens": out, "cost": cost}


class _Verdict(msgspec.Struct, frozen=True):
    """What came of a question: its fields are those of ``--json``."""

    file: str
    model: str
    host: str
    asked: str
    status: str  # ``same``, ``changed`` or ``failed``
    recorded: str = ""  # the answers, where they differ
    now: str = ""
    why: str = ""  # it failed


def _verify(options: argparse.Namespace) -> int:
    store = open_store(options.store)
    mode = forced_mode()
    if mode not in (None, Mode.RECORD):
        raise OptionError(f"verify asks the live service, and NBREPLAY_MODE is {mode.value}. Unset it")
    if options.update:
        store.prepare()
    questions, left_out = _plan(store, options.allow)
    plan = _sum_up(questions)
    if options.dry_run:
        if options.json:
            print_json({"plan": plan, "left_out": _list(store, left_out)})
        else:
            _print_plan(plan, left_out, stderr=False)
        return 0 if questions else _NOTHING
    _print_plan(plan, left_out, stderr=True)
    if questions and not options.yes and not _agrees():
        print_text("nothing was asked", stderr=True)
        return _NOTHING
    if questions and is_watched(options.json):
        print_text(stderr=True)
    return _ask_all(store, questions, left_out, options)


def _list(store: Store, left_out: Mapping[str, str]) -> list[str]:
    return [f"{os.path.join(store.shown, name)}: {why}" for name, why in left_out.items()]


def _agrees() -> bool:
    """Ask whether to go on, where somebody is there to answer."""
    if not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
        return True
    print("Go on? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _plan(store: Store, allow: Sequence[str]) -> tuple[list[_Question], dict[str, str]]:
    """Return what can be asked again, and why the other recordings are not, by their names."""
    questions, left_out = list[_Question](), dict[str, str]()
    for name, recording in store.recordings():
        try:
            questions.append(_question(name, recording, allow))
        except _Skipped as skipped:
            left_out[name] = str(skipped)
    return questions, left_out


def _question(name: str, recording: Recording | RecordingFormatError, allow: Sequence[str]) -> _Question:
    if isinstance(recording, RecordingFormatError):
        raise _Skipped(str(recording))
    rows = rows_of(name, recording)
    row = next((row for row in reversed(rows) if row.take and row.take.good and row.take.error is None), None)
    if row is None or row.take is None:
        raise _Skipped("no good answer is recorded")
    call = _request(name, recording, row.take, allow)
    return _Question(recording, row, entry_of(recording, rows, 0), row.take, call)


def _sum_up(questions: Iterable[_Question]) -> list[dict[str, Any]]:
    """Return models and hosts to ask, each with its requests, tokens and costs; None where no take tells them."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for question in questions:
        groups[question.entry.model, question.take.host].append(question.costs)
    plan = []
    for (model, host), costs in sorted(groups.items()):
        totals = {name: _total(cost[name] for cost in costs) for name in costs[0]}
        unknown = sum(cost["output_tokens"] is None for cost in costs)
        plan.append({"model": model, "host": host, "requests": len(costs), **totals, "uncounted": unknown})
    return plan


def _total(numbers: Iterable[Any]) -> Any:
    known = [number for number in numbers if isinstance(number, int | float)]
    return sum(known) if known else None


def _print_plan(plan: Sequence[Mapping[str, Any]], left_out: Mapping[str, str], *, stderr: bool) -> None:
    if plan:
        requests = count_of(sum(row["requests"] for row in plan), "request")
        print_text(f"verify sends {requests} again:", stderr=stderr)
        for row in plan:
            parts = (row["model"], f"at {row['host']}", count_of(row["requests"], "request"), _format_costs(row))
            print_text("  ".join(filter(None, parts)), stderr=stderr, indent=2, hang=2)
        costs = _format_costs({name: _total(row[name] for row in plan) for name in plan[0]})
        print_text(f"When recorded, they took {costs or 'tokens that nobody counted'}.", stderr=stderr)
    else:
        print_text("nothing can be asked again" if left_out else "no recordings", stderr=stderr)
    reasons: dict[str, list[str]] = defaultdict(list)
    for name, why in left_out.items():
        reasons[why].append(short_name(name))
    if reasons:
        print_text(f"not asked again: {count_of(len(left_out), 'recording')}", stderr=stderr)
    for why, names in reasons.items():
        more = [f"… {len(names) - _MOST_NAMES:,} more"] if len(names) > _MOST_NAMES else []
        print_text(why, stderr=stderr, indent=2, hang=2)
        print_text(", ".join(names[:_MOST_NAMES] + more), stderr=stderr, indent=4)


def _format_costs(row: Mapping[str, Any]) -> str:
    counts = [f"{row[name]:,}" for name in ("input_tokens", "output_tokens") if row[name] is not None]
    parts = [f"{' → '.join(counts)} tokens"] if counts else []
    if (cost := row["cost"]) is not None:
        parts.append(f"≈ ${cost:,.2f}" if cost >= 1 else f"≈ ${cost:.2g}" if cost >= 0.0001 else "less than $0.0001")
    unknown = f" (of {row['uncounted']:,} it is not known)" if row["uncounted"] and parts else ""
    return ", ".join(parts) + unknown


def _ask_all(
    store: Store, questions: Sequence[_Question], left_out: Mapping[str, str], options: argparse.Namespace
) -> int:
    from nbreplay.analysis.compare import compare

    verdicts, updated = list[_Verdict](), 0
    with tempfile.TemporaryDirectory(prefix="nbreplay-verify-") as folder:
        before, now = Store(Path(folder) / "before"), Store(Path(folder) / "now")
        unreachable: dict[str, str] = {}
        with _progress(len(questions), options.json) as pause:
            for question in questions:
                verdict = _ask_again(question, before, now, unreachable)
                verdicts.append(verdict)
                if options.update and verdict.status != "failed":
                    updated += _update(store, now, question.recording, question.take)
                with pause():
                    if not options.json:
                        _print_verdict(verdict)
        counts = {status: sum(one.status == status for one in verdicts) for status in ("same", "changed", "failed")}
        if options.json:
            comparison = compare(before, now)
            pairs = json.loads(comparison.frame.reset_index().to_json(orient="records"))
            answers = [msgspec.to_builtins(verdict) for verdict in verdicts]
            result = {"counts": {**comparison.counts, "failed": counts["failed"]}, "answers": answers, "pairs": pairs}
            failed = {verdict.file: verdict.why for verdict in verdicts if verdict.why}
            print_json({**result, "left_out": _list(store, {**left_out, **failed}), "updated": updated})
        else:
            parts = [f"{number:,} {status}" for status, number in counts.items() if number or status != "failed"]
            parts += [f"{len(left_out):,} not asked"] if left_out else []
            print_text(", ".join(parts) + (f"; {updated:,} updated" if options.update else ""))
    if counts["same"] + counts["changed"] == 0:
        return _NOTHING
    return 1 if counts["changed"] and not options.update else 0


@contextlib.contextmanager
def _progress(total: int, quiet: bool) -> Iterator[Callable[[], contextlib.AbstractContextManager[None]]]:
    """Count the answers on a terminal. What is yielded counts one, and makes room for what is printed of it."""
    if not is_watched(quiet):
        yield contextlib.nullcontext
        return

    @contextlib.contextmanager
    def pause() -> Iterator[None]:
        progress.stop()
        yield
        progress.advance(task)
        progress.start()

    with make_progress("Asking again", "{task.completed} of {task.total}") as progress:
        task = progress.add_task("", total=total)
        yield pause


def _print_verdict(verdict: _Verdict) -> None:
    style = {"same": GOOD, "changed": BAD, "failed": BAD}[verdict.status]
    name = short_name(verdict.file)
    parts = [f"  {part}" for part in (verdict.model, shorten_line(verdict.asked, 60)) if part]
    print_text((f"{verdict.status:<7}", style), "  ", (name, NAME), *parts, hang=9)
    if verdict.why:
        print_text(verdict.why, indent=9)
    elif verdict.status == "changed":
        print_sides(verdict.recorded, verdict.now, 7, ("recorded", "now"))


class _Skipped(Exception):
    """The reason why a recording is not asked again."""


class _Unreachable(_Skipped):
    """The host of a recording cannot be reached."""


def _ask_again(question: _Question, before: Store, now: Store, unreachable: dict[str, str]) -> _Verdict:
    """Record the answer of the live service, and compare it with the recorded one."""
    from nbreplay.intercept.registry import session

    recording, take, entry = question.recording, question.take, question.entry
    verdict = _Verdict(entry.file, entry.model, take.host, entry.asked, "failed", why=unreachable.get(take.host, ""))
    if verdict.why:
        return verdict
    try:
        with session(now.path, mode="record"):
            _send(*question.call)
        answer = now.find(recording.kind, recording.key)
        if answer is None:
            raise _Skipped("the answer could not be recorded")
    except _Skipped as skipped:
        if isinstance(skipped, _Unreachable):
            unreachable[take.host] = str(skipped)
        return replace(verdict, why=str(skipped))
    before.write(recording.kind, recording.key, recording.request, lambda _: [take])
    row = rows_of(entry.file, answer)[-1]
    if row.answer_summary.key == question.row.answer_summary.key:
        return replace(verdict, status="same")
    return replace(verdict, status="changed", recorded=answer_text(question.row), now=answer_text(row))


def _request(
    name: str, recording: Recording, take: Take, allow: Sequence[str]
) -> tuple[str, str, bytes | None, dict[str, str]]:
    """Return the method, the URL, the body and the headers of the request of a take."""
    if recording.kind == "websocket":
        raise _Skipped("a websocket is not asked again: its client sends what depends on the answers")
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
    if not take.host:
        raise _Skipped("no host is recorded")
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
    key = next((value for name in names if (value := os.environ.get(name)) and PLACEHOLDER not in value), None)
    if key is None:
        raise _Skipped(f"no key for {host}. Set {names[0]}")
    return {name: value.format(key) for name, value in headers.items()}


def _send(method: str, url: str, data: bytes | None, headers: dict[str, str]) -> None:
    """Send a request and read the answer to its end."""
    import http.client
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
    except urllib.error.URLError as error:
        raise _Unreachable(f"the service could not be reached ({error.reason})") from None
    except (OSError, http.client.HTTPException) as error:
        raise _Skipped(f"the connection to the service broke ({error})") from None


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
