"""A real IPython kernel, in a process of its own, and what comes of a cell that it runs."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from nbreplay.notebook.render import place_in

__all__ = ["Kernel", "Ran", "started"]

_PATIENCE = 300.0
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Ran:
    """What came of a cell.

    Attributes
    ----------
    stdout, stderr : str
    displays : list of (dict, dict)
        Data and metadata of what was displayed, the result left out.
    result : str or None
        The last expression's value, as text.
    count : int or None
        The execution count.
    ename, evalue, traceback : str
        The error; empty where there was none.
    comms : list of (str, dict)
        What was sent to widgets: the type and the content of each message.
    messages_sent, bytes_sent : int
        All that the kernel sent for the cell to who listens, as JSON.
    """

    stdout: str = ""
    stderr: str = ""
    displays: list[tuple[dict[str, Any], dict[str, Any]]] = field(default_factory=list)
    result: str | None = None
    count: int | None = None
    ename: str = ""
    evalue: str = ""
    traceback: str = ""
    comms: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    messages_sent: int = 0
    bytes_sent: int = 0
    transients: list[str | None] = field(default_factory=list)

    @property
    def status(self) -> list[str]:
        """The texts of nbreplay's own displays."""
        return [data["text/plain"] for data, metadata in self.displays if metadata == {"nbreplay": "status"}]

    @property
    def views(self) -> list[str]:
        """The texts of what was displayed with a place for a widget."""
        return [data["text/plain"] for data, _ in self.displays if place_in(data.get("text/html", ""))]

    @property
    def messages(self) -> list[dict[str, Any]]:
        """What widgets were told without its being kept."""
        said = [content["data"] for kind, content in self.comms if kind == "comm_msg"]
        return [data["content"] for data in said if data.get("method") == "custom"]

    @property
    def shown(self) -> list[str]:
        """The texts of all other displays."""
        return [data.get("text/plain", "") for data, metadata in self.displays if "nbreplay" not in metadata]


class Kernel:
    """A kernel that runs.

    Parameters
    ----------
    manager : KernelManager
    client : BlockingKernelClient
    """

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self._manager, self._client = manager, client

    def run(
        self,
        code: str,
        cell_id: str | None = None,
        *,
        silent: bool = False,
        when_printed: Mapping[str, Callable[[], object]] | None = None,
    ) -> Ran:
        """Run a cell to its end.

        Parameters
        ----------
        code : str
        cell_id : str, optional
            Passed as JupyterLab passes it.
        silent : bool
            Neither counted nor noted in the history; no events.
        when_printed : mapping of str to callable
            What to do as soon as the cell has printed a text.
        """
        session = self._client.session
        content = {"code": code, "silent": silent, "store_history": not silent, "user_expressions": {}}
        content |= {"allow_stdin": False, "stop_on_error": True}
        metadata = {"cellId": cell_id} if cell_id else {}
        message = session.msg("execute_request", content, metadata=metadata)
        return self._followed(self._client.shell_channel, message, dict(when_printed or {}))

    def comm(self, comm_id: str, data: dict[str, Any]) -> Ran:
        """Send a message to a widget, as a front end does when somebody clicks."""
        message = self._client.session.msg("comm_msg", {"comm_id": comm_id, "data": data})
        return self._followed(self._client.shell_channel, message, {}, replies=False)

    def complete(self, text: str) -> list[str]:
        """Return what may stand at the end of `text`."""
        reply = self._client.complete(text, len(text), reply=True, timeout=_PATIENCE)
        return list(reply["content"]["matches"])

    def inspect(self, text: str) -> str:
        """Return what the kernel tells about the name that `text` ends with."""
        reply = self._client.inspect(text, reply=True, timeout=_PATIENCE)
        return str(reply["content"]["data"].get("text/plain", ""))

    def complete_or_not(self, code: str) -> str:
        """Return whether the kernel takes `code` for complete."""
        return str(self._client.is_complete(code, reply=True, timeout=_PATIENCE)["content"]["status"])

    def interrupt(self) -> None:
        """Interrupt what runs, as the stop button does."""
        self._manager.interrupt_kernel()

    def _followed(
        self, channel: Any, message: dict[str, Any], due: dict[str, Callable[[], object]], *, replies: bool = True
    ) -> Ran:
        ran, deadline = Ran(), time.monotonic() + _PATIENCE
        channel.send(message)
        identity = message["header"]["msg_id"]
        while True:
            told = self._client.get_iopub_msg(timeout=max(0.0, deadline - time.monotonic()))
            if told["parent_header"].get("msg_id") != identity:
                continue
            kind, content = told["msg_type"], told["content"]
            ran.messages_sent += 1
            parts = (told[name] for name in ("header", "parent_header", "metadata", "content"))
            ran.bytes_sent += sum(len(json.dumps(part, default=str, ensure_ascii=False).encode()) for part in parts)
            if kind == "status" and content["execution_state"] == "idle":
                break
            self._take(ran, kind, content)
            for text in [text for text in due if text in ran.stdout]:
                due.pop(text)()
        while replies:
            reply = self._client.get_shell_msg(timeout=max(0.0, deadline - time.monotonic()))
            if reply["parent_header"].get("msg_id") == identity:
                ran.count = reply["content"].get("execution_count")
                ran.ename = ran.ename or reply["content"].get("ename", "")
                ran.evalue = ran.evalue or reply["content"].get("evalue", "")
                break
        return ran

    @staticmethod
    def _take(ran: Ran, kind: str, content: dict[str, Any]) -> None:
        if kind == "stream":
            setattr(ran, content["name"], getattr(ran, content["name"]) + content["text"])
        elif kind == "display_data":
            ran.displays.append((content["data"], content["metadata"]))
            ran.transients.append(content.get("transient", {}).get("display_id"))
        elif kind == "update_display_data":
            place = ran.transients.index(content["transient"]["display_id"])
            ran.displays[place] = (content["data"], content["metadata"])
        elif kind.startswith("comm_"):
            ran.comms.append((kind, content))
        elif kind == "execute_result":
            ran.result = content["data"]["text/plain"]
        elif kind == "error":
            ran.ename, ran.evalue = content["ename"], content["evalue"]
            ran.traceback = _COLOUR.sub("", "\n".join(content["traceback"]))


@contextlib.contextmanager
def started(folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[Kernel]:
    """Have a kernel in `folder` for the time of the context; it is gone afterwards, whatever happens."""
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(cwd=str(folder), env=dict(os.environ if environment is None else environment))
    client = manager.client()
    try:
        client.start_channels()
        client.wait_for_ready(timeout=_PATIENCE)
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
