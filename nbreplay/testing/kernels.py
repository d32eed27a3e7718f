"""A notebook's kernel: started with nbreplay switched on, asked what happened, and surely stopped."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import NoSuchKernel
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError

from nbreplay.core.config import Mode
from nbreplay.errors import NbreplayError

__all__ = ["Kernel", "kernel"]

_INSIDE = "__import__('nbreplay.testing.inside', fromlist=['inside']).{}()"
_REPORT_SECONDS = 30.0


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
        return await self._client._async_execute_interactive(
            "", silent=True, store_history=False, user_expressions={"it": expression}, output_hook=lambda _: None
        )

    @property
    def _client(self) -> Any:
        return self.kc

    @property
    def _manager(self) -> Any:
        return self.km

    async def stop(self) -> None:
        """End the kernel, if it still runs."""
        with contextlib.suppress(RuntimeError):  # it has ended by itself meanwhile
            await self._async_cleanup_kernel()


@contextlib.asynccontextmanager
async def kernel(notebook: Any, path: Path, mode: Mode, timeout: float | None) -> AsyncIterator[Kernel]:
    """Have a kernel for a notebook, in the notebook's folder, with `mode` forced and switched on.

    Raises
    ------
    NbreplayError
        Where it cannot be started, or nbreplay cannot be switched on in it.
    """
    name = notebook.metadata.get("kernelspec", {}).get("name", "python3")
    made = Kernel(
        notebook,
        timeout=timeout,
        kernel_name=name,
        resources={"metadata": {"path": str(path.resolve().parent)}},
        record_timing=False,
        coalesce_streams=True,
        # The kernel's own warnings would stand between the results of notebooks.
        extra_arguments=["--IPKernelApp.log_level=40"],
        kernel_manager_class=AsyncKernelManager,
    )
    environment = {**os.environ, "NBREPLAY_MODE": mode.value, "NBREPLAY_NOTEBOOK": str(path)}
    made.km = made.create_kernel_manager()
    try:
        try:
            await made.async_start_new_kernel(env=environment)
            await made.async_start_new_kernel_client()
        except NoSuchKernel as error:
            raise NbreplayError(
                f"its kernel {name!r} is not installed here: python -m ipykernel install --sys-prefix --name {name} "
                "makes this Python known by that name"
            ) from error
        except (RuntimeError, OSError) as error:
            raise NbreplayError(f"its kernel {name!r} cannot be started: {error}") from error
        await made.begin()
        yield made
    except BaseException:
        made.shutdown_kernel = "immediate"  # a kernel that is asked to end in the middle of a cell complains
        raise
    finally:
        await made.stop()
