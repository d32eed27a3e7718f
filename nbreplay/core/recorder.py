"""One call while it is recorded: a recorder notes the bytes that arrive, and a keeper writes the take at the end.

The bytes go on to the caller at once. Until the answer is over they are only noted, each with its time.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter

import msgspec

from nbreplay.core.cell import Run, utc
from nbreplay.core.config import Mode
from nbreplay.core.log import Interaction, Log
from nbreplay.core.recording.blob import Blob, Spool
from nbreplay.core.recording.body import LARGE, decompress, is_textual, plain_body
from nbreplay.core.recording.headers import cookie_values, is_bare, kept_headers, kept_phrase, kept_version
from nbreplay.core.recording.stream import LONGEST_MS, Events
from nbreplay.core.recording.stream_parser import Framing, StreamParser, framing_of, parse_stream
from nbreplay.core.recording.stream_redactor import redact_stream
from nbreplay.core.recording.take import Body, Reason, Take
from nbreplay.core.request.jsonrpc import has_answered
from nbreplay.core.request.multipart import uploads
from nbreplay.core.request.request import SUBSCRIBES, Call, Request
from nbreplay.core.secrets.containers import UnreadableContainer, is_container, parts_inside
from nbreplay.core.secrets.redact import Redactor
from nbreplay.core.selection import insert_take, remove_take
from nbreplay.core.store.files import failed_path, write_error
from nbreplay.core.store.store import Store
from nbreplay.core.strand import task_rank, thread_path
from nbreplay.core.turns import Turn
from nbreplay.core.words import Outcome
from nbreplay.errors import NbreplayError

Pieces = list[tuple[float, bytes]]
"""Bytes as they arrived, each with its time in seconds of `time.perf_counter`."""

_LARGEST_CONTAINER = 256 << 20  # bytes; a larger one is not read into memory


class Recorder:
    """Records one answer."""

    def __init__(
        self, keeper: Keeper, request: Request, call: Call, run: Run, order: int, mode: Mode, place: int
    ) -> None:
        self.keeper, self.request, self.call = keeper, request, call
        self.run, self.order, self.mode, self.place = run, order, mode, place
        self.task, self.thread = task_rank(), thread_path()
        # How often an MCP client asks by itself depends on chance,
        # and all calls would be under way at the same time as a websocket.
        is_counted = request.rpc_id is None and not call.speaks_mcp and not call.is_websocket
        self.arrivals = run.turns.begin() if is_counted else None
        self.status: int | None = None
        self.phrase: str | None = None
        self.headers: list[tuple[str, str]] = []
        self.version = self.content_type = ""
        # Undoes the content encoding of all that was noted. The interceptor sets it where there is one.
        self.decode: Callable[[Pieces], Pieces] | None = None
        self.keeps_errors = False  # whether failures that may pass are kept in ``auto``, too
        self.saved: Take | None = None  # the take that the store has, in part or whole
        self.uploads: list[Blob] = []
        self.notes: list[str] = []  # sentences that the log adds to the call
        self.variables = call.variables()  # the environment variables whose values the request carries
        self.secrets: list[str] = []  # the secrets that were removed from the answer
        self.started = time.perf_counter()
        self._pieces: Pieces = []
        self._size = 0  # bytes that have arrived
        self._done = self._interrupted = self._may_spool = self._keeps_encoding = self._is_stream = False
        self._parsed: tuple[int, StreamParser] | None = None  # of so many bytes
        self._flushed = -1  # how many bytes there were when the take was last written
        self._lock = threading.Lock()
        self._spool: Spool | None = None
        self._broken: OSError | NbreplayError | None = None

    def upload(self) -> None:
        """Keep the contents that the request names by digest, but those with secrets: of them there is a note."""
        for content in uploads(self.call.content, self.call.content_type):
            redactor = Redactor(self.call.tokens)
            try:
                spool = self.keeper.store.spool(redactor)
                for at in range(0, len(content), LARGE):
                    spool.feed(content[at : at + LARGE])
                blob = spool.finish()
            except (OSError, NbreplayError) as error:
                self._broken = error
                return
            if secret := _SECRET if redactor.count else find_secret(blob, redactor):
                self.notes.append(f"an upload of {blob.size} bytes is not stored: {secret}")
            else:
                self.uploads.append(blob)

    def keep_encoding(self) -> None:
        """Note that the bytes stay encoded, so that the take keeps their content encoding."""
        self._keeps_encoding = True

    def begin(
        self, status: int, headers: Iterable[tuple[str, str]], phrase: str | None = None, version: str = ""
    ) -> None:
        """Note that the answer has begun; `version`, such as ``HTTP/1.1``, is ``""`` where it is not one of HTTP."""
        self.status, self.phrase, self.version = status, phrase, version
        self.headers = [(name.lower(), value) for name, value in headers]
        self.content_type = dict(self.headers).get("content-type", "")
        self._is_stream = framing_of(self.content_type) is not None
        self._may_spool = not self._is_stream and 200 <= status < 300

    def so_far(self) -> Pieces:
        """Return the pieces that have arrived so far, without their content encoding."""
        pieces = list(self._pieces)
        return self.decode(pieces) if self.decode else pieces

    def feed(self, data: bytes) -> None:
        """Note bytes that have just arrived. Those of a large answer go into a file; only the last time stays."""
        at = time.perf_counter()
        if self._is_stream and self.arrivals is not None:
            self.run.turns.note(self.arrivals, at)
        self._pieces.append((at, data))
        self._size += len(data)
        if self._size <= LARGE or not self._may_spool or self._broken or self.decode or self._encoding:
            return
        try:
            if self._spool is None:
                cookies = cookie_values(self.headers)
                self._spool = self.keeper.store.spool(Redactor((*self.call.tokens, *cookies)))
                data = _join(self._pieces)
            self._spool.feed(data)
        except (OSError, NbreplayError) as error:
            self._broken = error  # the caller has its answer all the same
            if self._spool is not None:
                self._spool.discard()
        self._pieces = [(at, b"")]

    def end(self) -> None:
        """Note that the answer is over, and whole."""
        self._finish(None)

    def close(self) -> None:
        """Note that the caller reads no further; the answer is whole if the end of its stream has come."""
        if self._done:
            return
        if self._interrupted and self._size == self._flushed:
            # Nobody has read on since the interrupt. It is the reason, not the garbage collector that closes the rest.
            self._done = True
            self.keeper.release(self)
        else:
            # An interrupt between two pieces unwinds the stack, and that closes the answer.
            reason: Reason = "interrupted" if isinstance(sys.exception(), KeyboardInterrupt) else "closed"
            self._finish(None if self._has_ended() else reason)

    def interrupt(self) -> None:
        """Note that the caller was interrupted or cancelled."""
        self._finish("interrupted")

    def fail(self, error: str, message: str) -> None:
        """Note that the connection failed, with the name and message of the library's exception."""
        self._finish("dropped", {"type": error, "message": message})

    def flush(self, interrupted: bool) -> None:
        """Write the answer so far, since the cell or session ends. The answer may go on."""
        with self._lock:
            if self._done or self.status is None:
                return
            whole = self._has_ended()
            if self.saved is not None and self._size == self._flushed:
                return
            self._flushed, self._interrupted = self._size, interrupted and not whole
            reason: Reason | None = None if whole else "interrupted" if interrupted else "open"
            self.keeper.keep(self, reason, more=True)

    def _has_ended(self) -> bool:
        if (framing := framing_of(self.content_type)) is None:
            return False
        stream = self._parse(self.so_far(), framing)
        return stream.ended or has_answered(stream, self.request.rpc_id)

    def _parse(self, pieces: Pieces, framing: Framing) -> StreamParser:
        """Return the answer's events so far; mostly the same for the question of its end and for the take."""
        size = sum(len(data) for _, data in pieces)
        if self._parsed is None or self._parsed[0] != size:
            self._parsed = size, parse_stream(pieces, framing)
        return self._parsed[1]

    def _finish(self, reason: Reason | None, error: dict[str, str] | None = None) -> None:
        with self._lock:
            if self._done:
                return
            self._done = True
            if reason == "interrupted" and self.status is None:
                self.keeper.drop(self, "interrupted before the answer began, so nothing is recorded")
                return
            self.keeper.keep(self, reason, error)
            if reason == "closed":
                self.keeper.last_closed = self, time.perf_counter()

    def take(self, reason: Reason | None, error: Mapping[str, str] | None = None, *, more: bool = False) -> Take:
        """Return the take of the answer; raise the error that keeps it from being stored. If `more`, it may go on."""
        now = time.perf_counter()
        if self._broken is not None:
            raise self._broken
        if self._spool is None:
            pieces = self.so_far()
            data = _join(pieces)
            cookies = cookie_values(self.headers)
            repeated = [value for value in cookies if value.encode("utf-8", "surrogateescape") in data]
            redactor = Redactor((*self.call.tokens, *repeated))
            body = self._body(pieces, data, redactor)
        else:
            redactor, store = self._spool.redactor, self.keeper.store
            # What is to go on is left as it is; the answer so far goes into a file of its own.
            body = (store.spool(redactor).copy_from(self._spool) if more else self._spool).finish()
        if isinstance(body, Blob) and (secret := find_secret(body, redactor)):
            raise NbreplayError(f"the answer is compressed and cannot be redacted: {secret}")
        bare = is_bare(self.call.method, self.status)
        headers = kept_headers(self.headers, redactor, encoding=bare or self._keeps_encoding)
        if reason and self.decode is not None and "content-encoding" not in headers:
            headers.pop("content-length", None)  # a replay gives the decoded bytes
        self.secrets = redactor.secrets
        # Before the count of secrets is read below.
        failure = {"type": error["type"], "message": redactor.url(error["message"])[:500]} if error else None
        return Take(
            recorded_at=utc(time.time()),
            host=self.call.host,
            url=Redactor(self.call.tokens).url(self.call.target),
            sdk=redactor.text(self.call.sdk),
            body=body,
            status=self.status,
            headers=headers,
            cell=self.run.ref and self.run.ref_in(self.keeper.store.identity),  # importers have no cell, and no keeper
            ids=self.request.ids,
            complete=reason is None,
            reason=reason,
            redacted=redactor.count,
            elapsed_ms=None if isinstance(body, Events) else min(round((now - self.started) * 1000), LONGEST_MS),
            error=failure,
            reason_phrase=None if self.status is None else kept_phrase(self.status, self.phrase),
            http_version=kept_version(self.version),
            sized=not self.version or bare or isinstance(body, Events) or "content-length" in headers,
            rpc_id=self.request.rpc_id,
            task=self.task,
            thread=self.thread,
            tool=self.call.origin,
            standing=reason not in (None, "dropped") and self._stays_open(),
        )

    def turns(self, *, more: bool) -> tuple[Turn, ...]:
        """Return the turns in which the answer came. It ends now, unless there is `more` to come."""
        if self.arrivals is None:
            return ()
        if not more:
            self.run.turns.note(self.arrivals, time.perf_counter())
        events = self._parsed[1].events if self._parsed else ()
        return self.arrivals.divide([event.at for event in events])

    def _stays_open(self) -> bool:
        """Tell whether this is a stream of MCP that ends only when its caller leaves."""
        if self.status != 200 or framing_of(self.content_type) != "sse" or self.request.kind != "http":
            return False
        return self.request.rpc_method == SUBSCRIBES or self.call.listens

    @property
    def _encoding(self) -> str:
        """The content encoding of bytes that stay encoded, or ``""``."""
        return dict(self.headers).get("content-encoding", "") if self._keeps_encoding else ""

    def _body(self, pieces: Pieces, data: bytes, redactor: Redactor) -> Body:
        framing, encoding = framing_of(self.content_type), self._encoding
        if encoding and redactor.finds(decompress(data, encoding).decode("latin-1")):
            raise NbreplayError("the answer holds a secret and cannot be redacted: the caller wants it compressed")
        if framing is not None:
            return redact_stream(Events.of(self._parse(pieces, framing), self.started), redactor)
        if is_textual(self.content_type) and not data.startswith((b"\xff\xfe", b"\xfe\xff")):
            text = data.decode("utf-8", "surrogateescape")
            clean = redactor.text(text)
            data = data if clean is text else clean.encode("utf-8", "surrogateescape")
        else:
            data = redactor.data(data)
        return plain_body(data, self.content_type)


NO_FAILURES = "auto does not keep failures that may pass"
_SECRET = "the content holds a secret"


def find_secret(body: Blob, redactor: Redactor) -> str:
    """Return why a compressed body must not be stored, or ``""``."""
    with contextlib.closing(body.pieces()) as pieces:
        if not is_container(next(pieces, b"")):
            return ""
    if body.size > _LARGEST_CONTAINER:
        return "the content is too large to be searched for secrets"
    try:
        return _SECRET if any(redactor.finds(part.decode("latin-1")) for part in parts_inside(body.data())) else ""
    except UnreadableContainer as error:
        # Removing a secret from the bytes of a container without compression breaks it.
        return _SECRET if redactor.count else f"the content may hold a secret: {error}"


def _join(pieces: Pieces) -> bytes:
    return b"".join([data for _, data in pieces])


# Seconds. An interrupt between two pieces of a stream frees it while the cell unwinds, which looks as if the program
# had closed it; the front end then takes a moment to show the traceback, before the cell has ended.
_UNWINDING = 1.0


class Keeper:
    """Writes and logs the takes of a session's recorders."""

    def __init__(self, store: Store, log: Log) -> None:
        self.store, self.log = store, log
        self._open: set[Recorder] = set()
        # The answer that was closed last before its end, and when, in seconds of `time.perf_counter`.
        self.last_closed: tuple[Recorder, float] | None = None
        self._lock = threading.Lock()

    def recorder(self, request: Request, call: Call, run: Run, mode: Mode, kind: type[Recorder] = Recorder) -> Recorder:
        """Return a recorder for the answer to a call; its place among the takes is reserved now."""
        place = run.place((self.store.identity, request.key))
        recorder = kind(self, request, call, run, place, mode, self.log.start())
        if "parts" in request.fields or "digest" in request.fields:
            recorder.upload()
        with self._lock:
            self._open.add(recorder)
        return recorder

    def recorder_at(self, place: int) -> Recorder | None:
        """Return the recorder of the call that has `place` in the log, or None where its answer has ended."""
        with self._lock:
            return next((recorder for recorder in self._open if recorder.place == place), None)

    def keep(
        self, recorder: Recorder, reason: Reason | None, error: Mapping[str, str] | None = None, *, more: bool = False
    ) -> None:
        """Write and log the take of an answer. Never raises, since the caller has its answer."""
        take: Take | None = None
        outcome: Outcome = "recorded"
        notes = recorder.notes
        try:
            take = recorder.take(reason, error, more=more)
            self.log.learn_secrets(recorder.secrets)
            with recorder.run.lock:
                # Only now, since others wait for the lock: the order of the turns is that in which callers go on.
                take = msgspec.structs.replace(take, turns=recorder.turns(more=more))
                if self._write(recorder, take):
                    self.store.forget_failure(recorder.request.kind, recorder.request.key)
                elif recorder.mode is Mode.AUTO:
                    outcome = "live"
                    notes = [f"not kept: {take.failure}. {NO_FAILURES}", *notes]
                    self.store.note_failure(recorder.request.kind, recorder.request.key, take.failure)
                else:
                    notes = ["not kept: a failure that may pass does not replace a good answer", *notes]
            self.log.note(recorder.request, take)
        except Exception as failure:
            why: Exception = failure
            if isinstance(failure, OSError):
                why = write_error(failed_path(self.store.path, failure), failure)
            outcome, notes = "unsaved", [f"{type(why).__name__}: {why}", *notes]
            with contextlib.suppress(Warning):  # an error under -W error, and the caller has its answer
                warnings.warn(f"nbreplay could not record a call, which got its answer: {why}", stacklevel=2)
        self._log(recorder, take, outcome, ". ".join(notes))
        if take is None or take.reason not in ("open", "interrupted"):
            self.release(recorder)

    def drop(self, recorder: Recorder, note: str) -> None:
        """Log a call of which nothing is kept."""
        self._log(recorder, None, "live", note)
        self.release(recorder)

    def release(self, recorder: Recorder) -> None:
        """Forget a recorder that has nothing more to record."""
        with self._lock:
            self._open.discard(recorder)
        if recorder.arrivals is not None:
            recorder.run.turns.end(recorder.arrivals, is_kept=recorder.saved is not None)

    def flush(self, run: Run | None = None, *, interrupted: bool = False) -> None:
        """Write the streams that are still open, of one run or of all."""
        last, self.last_closed = self.last_closed, None
        if interrupted and last is not None and last[0].run is run and time.perf_counter() - last[1] < _UNWINDING:
            self.keep(last[0], "interrupted")  # the unwinding of the cell closed the answer, not its program
        with self._lock:
            recorders = [recorder for recorder in self._open if run is None or recorder.run is run]
        for recorder in recorders:
            recorder.flush(interrupted)
            if run is None and recorder.status is None:
                # The answer is still recorded if it comes. Until then the user must not think that nothing is missing.
                self._log(recorder, None, "unsaved", "the answer had not come when the session ended")

    def _write(self, recorder: Recorder, take: Take) -> bool:
        """Put a take into the store and return True; False where it would displace a good one, and may wait."""
        request, run, order = recorder.request, recorder.run, recorder.order
        slot = (self.store.identity, request.key)
        recording = recorder.mode is Mode.RECORD
        written = [item for item in run.written[slot] if item[0] != order]
        waiting = [item for item in run.waiting[slot] if item[0] != order]
        released = sorted(waiting, key=itemgetter(0)) if take.good else []
        takes: list[Take] | None = None

        def change(before: list[Take]) -> list[Take]:
            nonlocal takes
            rest = before if recorder.saved is None else remove_take(before, recorder.saved)
            earlier = [failure for _, failure in released]
            takes = insert_take(
                rest,
                take,
                order,
                written,
                run.started,
                recording=recording,
                keeps_errors=recorder.keeps_errors,
                earlier=earlier,
            )
            return before if takes is None else takes

        if not recording:
            run.reserve(slot, take)
        self.store.write(request.kind, request.key, request.fields, change, recorder.uploads)
        self.store.add_variables(recorder.variables)
        if takes is None:
            run.waiting[slot] = [*waiting, (order, take)] if recording else waiting
            return False
        run.waiting[slot] = [] if take.good else waiting
        run.written[slot] = [*written, *released, (order, take)]
        if not recording:
            run.use(slot, take, False, instead_of=recorder.saved)
        recorder.saved = take
        return True

    def _log(self, recorder: Recorder, take: Take | None, outcome: Outcome, note: str) -> None:
        served_s = time.perf_counter() - recorder.started
        cell, host = recorder.run.cell, recorder.call.host
        interaction = Interaction(recorder.request, take, outcome, cell, served_s, note, self.store.name, host)
        self.log.finish(recorder.place, interaction)
