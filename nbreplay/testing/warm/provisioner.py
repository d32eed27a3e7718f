"""Warm kernels: real kernels, forked from a process that has already imported what notebooks import.

This saves about a second per notebook. Kernels of other Pythons, and kernels on other systems than Linux, are started
in the usual way.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING, Any

from jupyter_client.provisioning.local_provisioner import LocalProvisioner

from nbreplay.testing.warm.process import ForkedProcess, WarmProcess

if TYPE_CHECKING:
    from jupyter_client.connect import KernelConnectionInfo

PROVISIONER, PAGE_PROVISIONER = "nbreplay-warm", "nbreplay-docs"
"""The entry points of `Provisioner` and `PageProvisioner` in jupyter_client's group."""


class Provisioner(LocalProvisioner):
    """Forks a kernel where its manager has a `WarmProcess` that can, else starts it as jupyter_client does."""

    async def launch_kernel(self, cmd: list[str], **options: Any) -> KernelConnectionInfo:
        """Launch a kernel like jupyter_client, as a forked process if possible."""
        warm: WarmProcess | None = getattr(self.parent, "warm", None)
        with contextlib.suppress(OSError):
            if warm is not None and _is_own_kernel(cmd) and await warm.ready(str(options["cwd"])):
                errors = options["stderr"].name
                self.process: Any = await warm.fork(cmd, options["env"], str(options["cwd"]), errors)
                self.pid = self.pgid = self.process.pid
                return self.connection_info
        return await super().launch_kernel(cmd, **options)

    async def wait(self) -> int | None:
        """Wait for the process without polling."""
        if isinstance(self.process, ForkedProcess):
            status = await asyncio.shield(self.process.ended)
            self.process = None
            return status
        return await super().wait()


class PageProvisioner(LocalProvisioner):
    """Starts kernels for other programs, such as myst-nb, with nbreplay on. Those of the runner start as they are."""

    async def pre_launch(self, **options: Any) -> dict[str, Any]:
        """Add to the command of a Python kernel what turns nbreplay on."""
        options = await super().pre_launch(**options)
        if "NBREPLAY_NOTEBOOK" not in options["env"] and "ipykernel_launcher" in options["cmd"]:
            line = "__import__('nbreplay.testing.in_kernel', fromlist=['in_kernel']).begin_page()"
            options["cmd"] = [*options["cmd"], f"--IPKernelApp.exec_lines={line}"]
        return options


def _is_own_kernel(cmd: list[str]) -> bool:
    """Return whether a command starts the kernel of this Python, without further options of Python."""
    program, *rest = (item for item in cmd if item != "-Xfrozen_modules=off")
    return program == sys.executable and rest[:2] == ["-m", "ipykernel_launcher"]
