"""A notebook's kernel: started with nbreplay switched on, asked what happened, and surely stopped."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import json
import keyword
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from queue import Empty
from typing import Any

import zmq
from jupyter_client.kernelspec import NoSuchKernel
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.factory import KernelProvisionerFactory
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError

from nbreplay.errors import NbreplayError
from nbreplay.testing.result import Wanted
from nbreplay.testing.warm.provisioner import PROVISIONER, Warm

__all__ = ["Kernel", "kernel"]

_INSIDE = "__import__('nbreplay.testing.in_kernel', fromlist=['in_kernel']).{}()"
_REPORT_SECONDS = 30.0
_SHUTDOWN_SECONDS = 5.0
_STARTS = 4
_LONGEST = 90  # characters; the path of a socket may have some hundred


class _EndedEarly(RuntimeError):
    """A kernel has ended before it answered."""


class Manager(AsyncKernelManager):
    """Starts a kernel; forks it where it has a warm process to fork it from.

    Attributes
    ----------
    warm : Warm or None
    """

    warm: Warm | None = None

    def use(self, warm: Warm | None) -> None:
        """Have kernels forked, unless the kernel's own specification says how it is started."""
        spec = self.kernel_spec
        if warm is None or spec is None or "kernel_provisioner" in spec.metadata:
            return
        spec.metadata = {**spec.metadata, "kernel_provisioner": {"provisioner_name": PROVISIONER}}
        # Nobody has installed a checkout that is run as it lies there, and so nobody knows our entry point.
        if KernelProvisionerFactory.instance(parent=self).is_provisioner_available(spec):
            self.warm = warm
        else:
            del spec.metadata["kernel_provisioner"]

    def keep_to(self, folder: str) -> None:
        """Talk to the kernel through sockets in a folder, where the system has them: nobody else can take their names.

        A port is found free, let go of, and taken by the kernel later; meanwhile another process may have it.
        """
        self.connection_file = os.path.join(folder, "kernel.json")
        if zmq.has("ipc") and sys.platform != "win32" and len(folder) < _LONGEST:
            self.transport, self.ip = "ipc", os.path.join(folder, "k")


class Kernel(NotebookClient):
    """Executes the cells of a notebook; tells the kernel which one it runs, as JupyterLab does."""

    async def async_execute_cell(self, cell: Any, cell_index: int, *args: Any, **given: Any) -> Any:
        """Do what nbclient does, with the cell's id in the request."""
        session = self._client.session
        message, cell_id = session.msg, cell.get("id")

        def with_cell(kind: str, *parts: Any, **more: Any) -> Any:
            made = message(kind, *parts, **more)
            if kind == "execute_request" and cell_id:
                made["metadata"]["cellId"] = cell_id
            return made

        session.msg = with_cell
        others = asyncio.all_tasks()
        try:
            return await super().async_execute_cell(cell, cell_index, *args, **given)
        except DeadKernelError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise asyncio.CancelledError from None  # nbclient takes being cancelled for a dead kernel
            raise
        except CellTimeoutError:
            for task in asyncio.all_tasks() - others:
                task.cancel()  # what still waits for the cell's output would take what comes for others
            await self._manager.interrupt_kernel()
            raise
        finally:
            del session.msg

    async def begin(self) -> None:
        """Switch nbreplay on, before the first cell.

        Raises
        ------
        NbreplayError
            Where it cannot be: no cell may run then.
        """
        await self._ask("begin", "nbreplay cannot be switched on in the notebook's kernel")

    async def assign(self, values: Mapping[str, Any]) -> None:
        """Set names in the notebook, as a cell would, and leave no trace of it.

        Raises
        ------
        NbreplayError
            Where a value is none that JSON has, or a name is none.
        """
        for name, value in values.items():
            if not name.isidentifier() or keyword.iskeyword(name):
                raise NbreplayError(f"the parameter {name!r} is not a name that a cell can use")
            text = json.dumps(value)  # also what Python reads, as a text
            reply = await self._execute(f"{name} = __import__('json').loads({text!r})")
            if reply["content"]["status"] != "ok":
                raise NbreplayError(f"the parameter {name} cannot be set: {reply['content'].get('evalue', '')}")

    async def report(self) -> dict[str, Any]:
        """Return every call that was made in the kernel, and the recordings that it asked for.

        Raises
        ------
        NbreplayError
        """
        return dict(await self._ask("report", "the kernel could not report what the notebook did"))

    async def _ask(self, what: str, otherwise: str) -> Any:
        try:
            async with asyncio.timeout(_REPORT_SECONDS):
                reply = await self._evaluated(_INSIDE.format(what))
                while reply["content"]["status"] == "aborted":  # as all are that wait while a cell fails
                    await asyncio.sleep(0.05)
                    reply = await self._evaluated(_INSIDE.format(what))
        except (TimeoutError, RuntimeError) as error:
            raise NbreplayError(f"{otherwise}: {str(error) or 'it does not answer'}") from error
        found = reply["content"].get("user_expressions", {}).get("it", {})
        if found.get("status") != "ok":
            raise NbreplayError(f"{otherwise}: {found.get('ename', '')}: {found.get('evalue', found)}")
        return json.loads(ast.literal_eval(found["data"]["text/plain"]))

    async def _evaluated(self, expression: str) -> Any:
        return await self._execute("", it=expression)

    async def _execute(self, code: str, **expressions: str) -> Any:
        return await self._client._async_execute_interactive(
            code, silent=True, store_history=False, user_expressions=expressions, output_hook=lambda _: None
        )

    def prepare(self, warm: Warm | None, folder: str) -> None:
        """Have a manager for a new kernel: forked where that can be, with its files in a folder of its own."""
        self.km = self.create_kernel_manager()
        self._manager.use(warm)
        self._manager.keep_to(folder)

    async def start(self, environment: dict[str, str]) -> None:
        """Start the kernel, and wait until it answers.

        Raises
        ------
        RuntimeError
            Where it does not.
        """
        await self.async_start_new_kernel(env=environment)
        self.kc = self._manager.client()
        self._client.start_channels(hb=False)
        self._client.allow_stdin = False
        async with asyncio.timeout(self.startup_timeout):
            while not await self._answers():
                if not await self._manager.is_alive():
                    raise _EndedEarly("it ended before it answered")

    async def _answers(self) -> bool:
        """Whether the kernel answers, and its outputs arrive: what it has sent before the client listened is lost."""
        asked = self._client.kernel_info()
        try:
            while (await self._client.shell_channel.get_msg(timeout=1))["parent_header"].get("msg_id") != asked:
                pass
            while True:
                said = await self._client.iopub_channel.get_msg(timeout=0.1)
                if said["parent_header"].get("msg_id") == asked and said["content"].get("execution_state") == "idle":
                    return True
        except Empty:
            return False

    @property
    def _client(self) -> Any:
        return self.kc

    @property
    def _manager(self) -> Any:
        return self.km

    async def stop(self) -> None:
        """End the kernel, if it still runs."""
        if self.km is None:
            return
        if self.kc is not None and self.shutdown_kernel == "graceful" and self._manager.warm is not None:
            self._client.shutdown()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SHUTDOWN_SECONDS):
                    await self._manager.provisioner.wait()
        with contextlib.suppress(RuntimeError):  # it has ended by itself meanwhile
            await self._async_cleanup_kernel()


@contextlib.asynccontextmanager
async def kernel(notebook: Any, path: Path, wanted: Wanted, warm: Warm | None = None) -> AsyncIterator[Kernel]:
    """Have a kernel for a notebook, in the notebook's folder, with the wanted mode forced and switched on.

    Raises
    ------
    NbreplayError
        Where it cannot be started, or nbreplay cannot be switched on in it.
    """
    name = notebook.metadata.get("kernelspec", {}).get("name", "python3")
    made = Kernel(
        notebook,
        timeout=wanted.timeout,
        kernel_name=name,
        resources={"metadata": {"path": str(path.resolve().parent)}},
        record_timing=False,
        coalesce_streams=True,
        # The kernel's own warnings would stand between the results of notebooks.
        extra_arguments=["--IPKernelApp.log_level=40"],
        kernel_manager_class=Manager,
    )
    environment = {**os.environ, "NBREPLAY_MODE": wanted.mode.value, "NBREPLAY_NOTEBOOK": str(path)}
    if wanted.allow_children:
        environment["NBREPLAY_ALLOW_CHILDREN"] = "1"
    folder = tempfile.TemporaryDirectory(prefix="nbreplay-kernel-", ignore_cleanup_errors=True)
    try:
        try:
            await _started(made, environment, warm, folder.name)
        except NoSuchKernel as error:
            raise NbreplayError(
                f"its kernel {name!r} is not installed here: python -m ipykernel install --sys-prefix --name {name} "
                "makes this Python known by that name"
            ) from error
        except (RuntimeError, OSError) as error:  # a TimeoutError, too
            raise NbreplayError(f"its kernel {name!r} cannot be started: {error}") from error
        await made.begin()
        yield made
    except BaseException:
        made.shutdown_kernel = "immediate"  # a kernel that is asked to end in the middle of a cell complains
        raise
    finally:
        await made.stop()
        folder.cleanup()


async def _started(made: Kernel, environment: dict[str, str], warm: Warm | None, folder: str) -> None:
    """Start a kernel, again where it ends at once: with ports, another process may have taken one of them."""
    for left in reversed(range(_STARTS)):
        made.prepare(warm, folder)
        try:
            await made.start(environment)
        except _EndedEarly:
            if not left:
                raise
            await made.stop()
        else:
            return
