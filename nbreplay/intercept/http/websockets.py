"""websockets, over which some SDKs talk, such as OpenAI's realtime: not HTTP, so neither recorded nor replayed.

That is said where the connection is asked for: refused under replay, a warning while recording.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from nbreplay.core.session import current_session
from nbreplay.errors import RecordingMissing
from nbreplay.intercept import patching, placeholder_keys

# The functions of SDKs that open a websocket, by the end of its path.
_CALLS = {"realtime": "realtime.connect", "responses": "responses.connect"}


def install(module: ModuleType) -> patching.Undo:
    """Hook into the sync or the asyncio client of websockets."""
    # Both clients read the address with it before anything is opened, however `connect` itself was imported.
    before = module.parse_uri

    def parse_uri(uri: str) -> Any:
        check_websocket(uri)
        return before(uri)

    return patching.put((module, "parse_uri", parse_uri))


def install_protocol(module: ModuleType) -> patching.Undo:
    """Hook into what both clients send their first request with: a placeholder for a key is not sent here either."""
    protocol = module.ClientProtocol
    before = protocol.send_request

    def send_request(self: Any, request: Any) -> None:
        try:
            placeholder_keys.refuse("", [(b"", value.encode()) for _, value in request.headers.raw_items()])
        except RecordingMissing as error:
            if (session := current_session()) is not None:
                session.log_blocked(request.headers.get("host", ""), str(error))
            raise
        before(self, request)

    return patching.put((protocol, "send_request", send_request))


def check_websocket(url: str, call: str = "") -> None:
    """Refuse a websocket under replay, and warn of one that is not recorded; `call` opens it, guessed if not given."""
    if (session := current_session()) is not None:
        parts = urlsplit(url)
        call = call or _CALLS.get(parts.path.rstrip("/").rpartition("/")[2], "websockets.connect")
        session.ask_websocket(f"{call} ({parts.scheme}://{parts.netloc}{parts.path})", parts.netloc)
