"""A server that runs in a thread of this process; `start` starts it.

Its protocol is uvicorn's, whose own loop would take over signals and look ten times a second whether to stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import sys
import threading
from collections.abc import Mapping
from typing import Any

from nbreplay.core.cell import Run
from nbreplay.core.session import Session
from nbreplay.core.strand import set_branch
from nbreplay.errors import NbreplayError, OptionError

try:
    from uvicorn import Config
    from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol
    from uvicorn.server import ServerState

    from nbreplay.serve.app import App
except ImportError as _error:
    raise NbreplayError(f"{_error}. The server needs more packages: pip install 'nbreplay[serve]'") from None

from nbreplay.serve.addresses import Upstreams, base_urls

STATUS_PHRASES.update(dict.fromkeys(range(600, 1000), b""))  # which some servers send, and takes hold
_KEEP_ALIVE = 75  # seconds; a client may send in the moment in which its connection is closed
_PATIENCE = 1.0  # seconds for answers that are under way when the server stops


def start(session: Session, *, port: int = 0, to: Mapping[str, str] | None = None) -> Server:
    """Start a server on 127.0.0.1 that answers out of a session.

    Parameters
    ----------
    session : Session
        It is asked, whether it is switched on or not.
    port : int
        A free one, if it is 0.
    to : mapping of str, optional
        The addresses of hosts that are not to be called at their own.

    Raises
    ------
    OptionError
        If the port is taken.
    """
    # Without its protocol, asyncio would not set TCP_NODELAY, and each answer would come 40 ms later.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise OptionError(
            f"port {port} cannot be used: {error.strerror}. Pass another --port, or 0 for a free one"
        ) from None
    return Server(session, listener, Upstreams(to))


class Server:
    """A server that has been started.

    Attributes
    ----------
    address : str
        Its address with the token, such as ``http://127.0.0.1:8000/TOKEN``.
    token : str
    port : int
    """

    def __init__(self, session: Session, listener: socket.socket, upstreams: Upstreams) -> None:
        self.session, self.upstreams = session, upstreams
        self.runs: dict[str, Run] = {}
        self.token = secrets.token_hex(12)
        self.port: int = listener.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}/{self.token}"
        self._listener = listener
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="nbreplay-serve", daemon=True)
        self._thread.start()

    def name_run(self, run: Run) -> str:
        """Return the name of a run, for ``-/run/NAME`` and as the password of a proxy; it gets one if it has none."""
        known = (name for name, other in self.runs.items() if other is run)
        if (name := next(known, "")) == "":
            self.runs[name := f"cell-{len(self.runs) + 1}"] = run
        return name

    def base_urls(self, environ: Mapping[str, str] | None = None, run: Run | None = None) -> dict[str, str]:
        """Return the variables that lead SDKs here. An address that one holds already becomes an upstream."""
        path = "" if run is None else f"/-/run/{self.name_run(run)}"
        return base_urls(self.address, self.upstreams, os.environ if environ is None else environ, path)

    def environment(self, environ: Mapping[str, str] | None = None, run: Run | None = None) -> dict[str, str]:
        """Return what to add to the variables of a program so that its calls come here.

        Base URLs that `environ` has already, by default those of this process, become upstreams. The calls count for
        `run`; without one, for the cell that runs when they come.
        """
        # Some programs name no user to a proxy unless there is a password, too.
        proxy = f"http://{self.token}:{'nbreplay' if run is None else self.name_run(run)}@127.0.0.1:{self.port}"
        names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
        return {
            **self.base_urls(environ, run),
            **dict.fromkeys([*names, *map(str.lower, names)], proxy),
            **dict.fromkeys(("NO_PROXY", "no_proxy"), f"127.0.0.1:{self.port}"),
            "NODE_USE_ENV_PROXY": "1",
        }

    def stop(self) -> None:
        """Stop the server. Answers that are still under way after a second are cut off."""
        if self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        set_branch(threading.current_thread(), None)  # it is not one of the program's threads
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        app = App(self.session, self.token, self.port, self.upstreams, self.runs)
        config = Config(
            app,
            http=_Protocol,
            lifespan="off",
            log_config=None,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE,
            ws_max_size=sys.maxsize,
            ws_ping_interval=None,  # some clients answer only while they receive; their host pings them as it likes
        )
        config.load()
        state = ServerState()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Protocol(config, state, {}, loop), sock=self._listener)
        await self._stopping.wait()
        server.close()
        if tasks := list(state.tasks):
            # Those whose callers have gone end by themselves.
            await asyncio.wait(tasks, timeout=_PATIENCE)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for connection in list(state.connections):
            connection.transport.abort()
        await app.forwarder.close()


class _Protocol(H11Protocol):
    """HTTP/1.1 of uvicorn, which logs by our name. The application finds it in the state of its scope."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.logger, self.access_log = logging.getLogger("nbreplay.serve"), False

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.app_state = {"protocol": self, "transport": transport}

    def drop(self) -> None:
        """Break the connection, as it broke when the answer was recorded."""
        self.cycle.disconnected = True
        self.transport.abort()

    def hand_over(self, protocol: asyncio.Protocol) -> tuple[asyncio.Transport, bytes]:
        """Give the connection to another protocol; return it, and what it has received that nobody has read."""
        self.cycle.disconnected = True
        self._unset_keepalive_if_required()
        self.transport.set_protocol(protocol)
        self.flow.resume_reading()
        return self.transport, self.conn.trailing_data[0]

    def forget(self) -> None:
        """Note that a connection that was handed over is closed."""
        self.connections.discard(self)
