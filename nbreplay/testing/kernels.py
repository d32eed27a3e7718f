"""The kernel of a notebook: started with nbreplay on, asked for its calls, and always stopped."""

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
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.factory import KernelProvisionerFactory
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError
from nbformat import NotebookNode

from nbreplay.core.config import default_store, is_url
from nbreplay.errors import NbreplayError
from nbreplay.testing.in_kernel import LAST_WORDS
from nbreplay.testing.kernel_choice import KernelChoice, choose_kernel, describe_missing_package
from nbreplay.testing.kernel_death import describe_death
from nbreplay.testing.notebook_file import KEEPS_ERRORS, tags_of
from nbreplay.testing.result import RunOptions
from nbreplay.testing.warm.process import WarmProcess, repeatable_environment
from nbreplay.testing.warm.provisioner import PROVISIONER

_REPORT_SECONDS = 30.0
_SHUTDOWN_SECONDS = 5.0
_STARTS = 4
_LONGEST = 90  # characters; the path of a socket is limited to about 100


class KernelDied(NbreplayError):
    """A kernel died before a cell ran."""


class Manager(AsyncKernelManager):
    """Starts a kernel, forked from a warm process if there is one."""

    warm: WarmProcess | None = None

    def use(self, warm: WarmProcess | None) -> None:
        """Fork kernels from a process, unless the kernel specification names a provisioner of its own."""
        spec = self.kernel_spec
        if warm is None or spec is None or "kernel_provisioner" in spec.metadata:
            return
        spec.metadata = {**spec.metadata, "kernel_provisioner": {"provisioner_name": PROVISIONER}}
        # The entry point is missing if nbreplay runs from a checkout that is not installed.
        if KernelProvisionerFactory.instance(parent=self).is_provisioner_available(spec):
            self.warm = warm
        else:
            del spec.metadata["kernel_provisioner"]

    def use_sockets_in(self, folder: str) -> None:
        """Connect to the kernel through Unix sockets in a folder, if the system has them.

        A free port could be taken by another process before the kernel binds it.
        """
        self.connection_file = os.path.join(folder, "kernel.json")
        if zmq.has("ipc") and sys.platform != "win32" and len(folder) < _LONGEST:
            self.transport, self.ip = "ipc", os.path.join(folder, "k")


class Kernel(NotebookClient):
    """Executes the cells of a notebook, and sends the id of each cell to the kernel, as JupyterLab does."""

    km: Any  # a Manager
    kc: Any  # its client
    choice: KernelChoice
    folder: Path  # of its own files
    _output_task: asyncio.Task[Any] | None = None

    async def async_execute_cell(self, cell: Any, cell_index: int, *args: Any, **options: Any) -> NotebookNode:
        """Execute a cell like nbclient, with the cell's id in the request, and what its tags say to the kernel."""
        session = self.kc.session
        message, cell_id = session.msg, cell.get("id")

        def message_with_cell(kind: str, *parts: Any, **more: Any) -> Any:
            request = message(kind, *parts, **more)
            if kind == "execute_request" and cell_id:
                request["metadata"]["cellId"] = cell_id
            if kind == "execute_request" and KEEPS_ERRORS in tags_of(cell):
                request["metadata"]["nbreplay"] = {"keeps_errors": True}
            return request

        session.msg = message_with_cell
        own = asyncio.current_task()
        try:
            return await super().async_execute_cell(cell, cell_index, *args, **options)
        except CellTimeoutError:
            if self._output_task is not None:
                self._output_task.cancel()  # it would take the output of other cells
            await self.km.interrupt_kernel()
            raise
        finally:
            del session.msg
            if own is not None and own.cancelling():
                raise asyncio.CancelledError from None  # nbclient mistakes it for a dead kernel, or loses it

    async def _async_poll_output_msg(self, *args: Any) -> None:
        """Take the output of a cell like nbclient, in a task that can be cancelled."""
        self._output_task = asyncio.current_task()
        await super()._async_poll_output_msg(*args)

    async def assign(self, values: Mapping[str, Any]) -> None:
        """Assign names in the notebook, as a cell would. Raise `NbreplayError` if a name cannot be assigned."""
        for name, value in values.items():
            if not name.isidentifier() or keyword.iskeyword(name):
                raise NbreplayError(f"The parameter {name!r} is not a valid Python name. Rename it")
            text = json.dumps(value)  # its repr is a Python literal
            content = await self._execute(f"{name} = __import__('json').loads({text!r})")
            if content["status"] != "ok":
                raise NbreplayError(f"Cannot set the parameter {name}: {content.get('evalue', '')}")

    async def begin(self, options: RunOptions) -> None:
        """Turn nbreplay on before the first cell. Raise `NbreplayError` if that fails: no cell may run then."""
        parameters = json.dumps(dict(options.parameters))
        call = f"begin({parameters!r}, skip_installs={options.skip_installs}, fast_sleep={options.fast_sleep})"
        await self._call(call, "Cannot turn nbreplay on in the notebook's kernel")

    async def report(self) -> dict[str, Any]:
        """Return the calls of the kernel, the recordings that it used, and what was not covered."""
        return dict(await self._call("report()", "The kernel could not report the calls of the notebook"))

    async def _call(self, call: str, problem: str) -> Any:
        """Return the result of a call of a function in `nbreplay.testing.in_kernel`."""
        expression = f"__import__('nbreplay.testing.in_kernel', fromlist=['in_kernel']).{call}"
        try:
            async with asyncio.timeout(_REPORT_SECONDS):
                # Pending requests are aborted when a cell fails.
                while (content := await self._execute("", it=expression))["status"] == "aborted":
                    await asyncio.sleep(0.05)
        except (TimeoutError, RuntimeError) as error:
            raise NbreplayError(f"{problem}: {str(error) or 'no answer'}") from error
        result = content.get("user_expressions", {}).get("it", {})
        if result.get("ename") == "ModuleNotFoundError" and "nbreplay" in result.get("evalue", ""):
            raise NbreplayError(describe_missing_package(self.choice.name))
        if result.get("status") != "ok":
            raise NbreplayError(f"{problem}: {result.get('ename', '')}: {result.get('evalue', result)}")
        return json.loads(ast.literal_eval(result["data"]["text/plain"]))

    async def _execute(self, code: str, **expressions: str) -> Any:
        """Execute code without an output or a count, and return the content of the reply."""
        reply = await self.kc._async_execute_interactive(
            code, silent=True, store_history=False, user_expressions=expressions, output_hook=lambda _: None
        )
        return reply["content"]

    async def start(self, environment: dict[str, str], warm: WarmProcess | None) -> None:
        """Start the kernel, with its files in its folder, and wait until it answers.

        Retry if it ends at once: another process may have taken one of its ports.
        """
        for attempt in range(_STARTS):
            if attempt:
                await self.stop()
            self.create_kernel_manager()
            self.km.use(warm)
            self.km.use_sockets_in(str(self.folder))
            (self.folder / LAST_WORDS).write_bytes(b"")  # without those of an attempt before
            with open(self.folder / LAST_WORDS, "ab") as errors:
                await self.async_start_new_kernel(env=environment, stderr=errors)
            self.kc = self.km.client()
            self.kc.start_channels(hb=False)
            self.kc.allow_stdin = False
            async with asyncio.timeout(self.startup_timeout):
                while await self.km.is_alive():
                    if await self._answers():
                        return
        raise RuntimeError(self.describe_death())

    def describe_death(self) -> str:
        """Return why the kernel died."""
        process = getattr(self.km.provisioner, "process", None) if self.km is not None else None
        return describe_death(None if process is None else process.poll(), self.folder)

    async def _answers(self) -> bool:
        """Return whether the kernel answers and its outputs arrive. Outputs before the client listened are lost."""
        request = self.kc.kernel_info()
        try:
            while (await self.kc.shell_channel.get_msg(timeout=1))["parent_header"].get("msg_id") != request:
                pass
            while True:
                output = await self.kc.iopub_channel.get_msg(timeout=0.1)
                is_idle = output["content"].get("execution_state") == "idle"
                if is_idle and output["parent_header"].get("msg_id") == request:
                    return True
        except Empty:
            return False

    async def stop(self) -> None:
        """Stop the kernel if it still runs."""
        if self.km is None:
            return
        if self.kc is not None and self.shutdown_kernel == "graceful" and self.km.warm is not None:
            self.kc.shutdown()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SHUTDOWN_SECONDS):
                    await self.km.provisioner.wait()
        with contextlib.suppress(RuntimeError):  # it ended by itself meanwhile
            await self._async_cleanup_kernel()


@contextlib.asynccontextmanager
async def open_kernel(
    notebook: Any, path: Path, options: RunOptions, warm: WarmProcess | None, folder: Path
) -> AsyncIterator[Kernel]:
    """Start a kernel for a notebook in a folder, its own or a copy of it, with nbreplay on in the mode of `options`.

    Raise `NbreplayError` if the kernel cannot be started, or nbreplay cannot be turned on in it.
    """
    choice = choose_kernel(notebook, path, options.kernel)
    kernel = Kernel(
        notebook,
        timeout=options.timeout,
        kernel_name=choice.name,
        resources={"metadata": {"path": str(folder.resolve())}},
        record_timing=False,
        coalesce_streams=True,
        # Warnings of the kernel would appear between the results of notebooks.
        extra_arguments=["--IPKernelApp.log_level=40"],
        kernel_manager_class=Manager,
    )
    environment = {**repeatable_environment(), "NBREPLAY_MODE": options.mode.value, "NBREPLAY_NOTEBOOK": str(path)}
    environment["NBREPLAY_NOTEBOOK_FILE"] = os.path.abspath(path)
    if folder.resolve() != path.resolve().parent:
        origin = path.resolve().parent
        store = default_store(origin)
        environment["NBREPLAY_STORE"] = str(store) if is_url(store) else str(origin / store)
    if options.keep_errors:
        environment["NBREPLAY_KEEP_ERRORS"] = "1"
    if options.allow_children:
        environment["NBREPLAY_ALLOW_CHILDREN"] = "1"
    with tempfile.TemporaryDirectory(prefix="nbreplay-kernel-", ignore_cleanup_errors=True) as own:
        kernel.choice, kernel.folder = choice, Path(own)
        try:
            try:
                await kernel.start(environment, warm)
            except (RuntimeError, OSError) as error:  # including TimeoutError
                raise NbreplayError(f"Cannot start the kernel {choice.name!r} of {path}: {error}") from error
            try:
                await kernel.begin(options)
            except NbreplayError as error:
                if not await kernel.km.is_alive():
                    raise KernelDied(f"Before the first cell, {kernel.describe_death()}") from error
                raise
            yield kernel
        except BaseException:
            kernel.shutdown_kernel = "immediate"  # a graceful shutdown in the middle of a cell prints errors
            raise
        finally:
            await kernel.stop()
