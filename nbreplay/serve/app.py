"""The application of the server: who may call it, what an address stands for, and what is answered by itself.

Addresses begin with the token, which is made anew at each start. After it comes a host or the short name of a provider;
``-/status``; or ``-/run/NAME``, which stands before any of them and has cursors of its own. The client of a proxy sends
a whole URL, and the token as the name of its user.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import re
from collections.abc import MutableMapping
from typing import Any

import msgspec
from starlette.responses import JSONResponse, Response

from nbreplay.core.cell import Run
from nbreplay.core.request.request import Call
from nbreplay.core.session import Session
from nbreplay.errors import NbreplayError, OptionError, RecordingMissing
from nbreplay.serve import tunnel, websocket
from nbreplay.serve.addresses import Upstreams, split_url
from nbreplay.serve.forward import Forwarder, Left, Receive, Send
from nbreplay.serve.status import status_of, status_page

Scope = MutableMapping[str, Any]
Names = dict[bytes, bytes]
"""The headers of a request by their names, in lower case."""

# How HTTP libraries name themselves: ``curl/8.5.0``, ``python-httpx/0.28.1``, ``Python/3.11 aiohttp/3.14.5``.
_LIBRARY = re.compile(r"(?:Python/\S+ )?(?:python-)?([A-Za-z][\w-]*)/v?(\d[\w.]*)")
_WANTED = "the proxy wants the token of nbreplay serve as the name of its user"
_NO_RETRY = {"x-should-retry": "false"}


class Destination(msgspec.Struct, frozen=True):
    """Where a call goes."""

    host: str
    target: str  # path and query
    scheme: str = ""  # as a proxy's client asks for it
    run: Run | None = None


class App:
    """An ASGI application over a session; the server that it is in listens on `port`."""

    def __init__(self, session: Session, token: str, port: int, upstreams: Upstreams, runs: dict[str, Run]) -> None:
        self.session, self.token, self.upstreams = session, token, upstreams
        self.forwarder = Forwarder(session, upstreams)
        self.runs = runs
        self._own_hosts = (f"127.0.0.1:{port}", f"localhost:{port}")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("method") == "CONNECT":
            if (refusal := await self._connect(scope)) is not None:
                await refusal(scope, receive, send)
            return
        destination = self._find(scope)
        if isinstance(destination, Response):
            await destination(scope, receive, send)
        else:
            await self._forward(destination, scope, receive, send)

    async def _connect(self, scope: Scope) -> Response | None:
        """Open a tunnel for the client of a proxy, or return why not."""
        host = scope["raw_path"].decode("latin-1")
        if not self._is_proxy_client(dict(scope["headers"]).get(b"proxy-authorization", b"")):
            return refuse(407, _WANTED)
        is_own = host in self._own_hosts
        if not is_own and (why := tunnel.why_refused(self.session, host, scope["client"][1])):
            return refuse(403, why, "NetworkBlocked")
        if not await tunnel.open_tunnel(scope["state"]["protocol"], host):
            return refuse(502, f"{host} cannot be reached")
        return None

    def _find(self, scope: Scope) -> Destination | Response:
        """Return where a call goes, or what it is answered here."""
        headers: Names = dict(scope["headers"])
        target: str = scope["raw_path"].decode("latin-1")
        if query := scope["query_string"].decode("latin-1"):
            target += f"?{query}"
        if target.startswith(("http://", "https://")):  # the latter by clients of a proxy that do not use CONNECT
            try:
                scheme, host, target = split_url(target)
            except ValueError as error:
                return refuse(400, f"the address cannot be read: {error}")
            if host not in self._own_hosts:
                authorization = headers.get(b"proxy-authorization", b"")
                if not self._is_proxy_client(authorization):
                    return refuse(407, _WANTED)
                return Destination(host, target, scheme, self._proxy_run(authorization))
            headers[b"host"] = host.encode()
        if why := self._why_refused(target, headers):
            return refuse(403, why)
        path, run = target[len(self.token) + 2 :], None
        if path.startswith("-/run/"):
            name, _, path = path.removeprefix("-/run/").partition("/")
            # A run is begun anew by a POST to its own address.
            if name not in self.runs or (scope.get("method") == "POST" and not path):
                self.runs[name] = Run()
            run, path = self.runs[name], path or "-/status"
        if path in ("", "-", "-/") or path.startswith(("-/", "?")):
            return self._answer_itself(path.partition("?")[0], headers)
        name = re.split("[/?]", path, maxsplit=1)[0]
        try:
            host = self.upstreams.host_of(name)
        except OptionError as error:
            return refuse(404, str(error))
        rest = path[len(name) :]
        return Destination(host, rest if rest.startswith("/") else f"/{rest}", run=run)

    def _is_proxy_client(self, authorization: bytes) -> bool:
        """Tell whether the client of a proxy has named the token, as its user or its password."""
        return any(hmac.compare_digest(part, self.token.encode()) for part in _credentials(authorization))

    def _proxy_run(self, authorization: bytes) -> Run | None:
        """Return the run that the client of a proxy names as its password."""
        return self.runs.get(_credentials(authorization)[-1].decode("latin-1"))

    def _why_refused(self, target: str, headers: Names) -> str:
        """Return why a caller is refused, or ``""``."""
        begin = f"/{self.token}"
        if (
            not hmac.compare_digest(target[: len(begin)].encode(), begin.encode())
            or target[len(begin) :][:1] not in "/?"
        ):
            return "the address does not begin with the token that nbreplay serve has printed"
        if (host := headers.get(b"host", b"").decode("latin-1").lower()) not in self._own_hosts:
            return f"this server is called {self._own_hosts[0]}, not {host}"
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin and origin.removeprefix("http://") not in self._own_hosts:
            return f"pages of {origin} may not call this server"
        if headers.get(b"sec-fetch-site") in (b"cross-site", b"same-site"):
            return "pages of other sites may not call this server"
        return ""

    def _answer_itself(self, path: str, headers: Names) -> Response:
        if path not in ("", "-", "-/", "-/status"):
            return refuse(404, f"there is nothing at {path}. The server itself answers -/status and -/run/NAME")
        is_browser = b"text/html" in headers.get(b"accept", b"")
        return status_page(self.session) if is_browser else JSONResponse(status_of(self.session))

    async def _forward(self, destination: Destination, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope["type"] == "websocket":
                call = _call("GET", destination, b"", scope)
                upstream = self.upstreams.url_of(destination.host, destination.scheme)
                await websocket.answer(self.session, call, upstream, scope, receive, send, destination.run)
                return
            body = await _read_body(receive)
            call = _call(scope["method"], destination, body, scope)
            if not await self.forwarder.answer(call, destination.scheme, receive, send, destination.run):
                scope["state"]["protocol"].drop()
        except RecordingMissing as miss:
            await refuse(404, str(miss), type(miss).__name__)(scope, receive, send)
        except NbreplayError as error:
            await refuse(500, str(error), type(error).__name__)(scope, receive, send)
        except Left:
            pass
        except asyncio.CancelledError:  # the server stops
            scope["state"]["transport"].abort()


def _call(method: str, destination: Destination, body: bytes, scope: Scope) -> Call:
    call = Call(method, destination.host, destination.target, "", body, scope["headers"])
    if match := _LIBRARY.match(call.header(b"user-agent")):
        call.library = f"{match[1].lower()} {match[2]}"
    return call


def _credentials(authorization: bytes) -> list[bytes]:
    try:
        return base64.b64decode(authorization.partition(b" ")[2]).split(b":", 1)
    except ValueError:
        return [b""]


async def _read_body(receive: Receive) -> bytes:
    pieces = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Left
        pieces.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(pieces)


def refuse(status: int, message: str, kind: str = "Refused") -> Response:
    """Return an error that SDKs show, and do not try again."""
    # Anthropic's SDKs look for the outer type, those of Google for the status.
    error = {"message": message, "type": kind, "status": kind, "param": None, "code": None}
    headers = _NO_RETRY | ({"proxy-authenticate": 'Basic realm="nbreplay"'} if status == 407 else {})
    return JSONResponse({"type": "error", "error": error}, status, headers)
