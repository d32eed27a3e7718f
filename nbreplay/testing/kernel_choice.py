"""The choice of a kernel: that of the notebook if it is installed here, else this Python. Notebooks in other languages
are refused.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from jupyter_client.kernelspec import NATIVE_KERNEL_NAME, KernelSpecManager, NoSuchKernel

from nbreplay.errors import NbreplayError

# Names of kernels for other languages, each with its language. A notebook need not say more than the name.
_LANGUAGES = {
    "ir": "R",
    "xr": "R",
    "julia": "Julia",
    "javascript": "JavaScript",
    "jslab": "JavaScript",
    "ijavascript": "JavaScript",
    "tslab": "TypeScript",
    "deno": "TypeScript",
    "bash": "Bash",
    "gophernotes": "Go",
    "rust": "Rust",
    "evcxr": "Rust",
    "xcpp": "C++",
    "scala": "Scala",
    "spylon": "Scala",
    "kotlin": "Kotlin",
    "octave": "Octave",
    "java": "Java",
    ".net": "C#",
}


class KernelChoice(msgspec.Struct, frozen=True):
    """A kernel to start."""

    name: str
    note: str = ""  # why it is not the kernel that the notebook names


def choose_kernel(notebook: Any, path: Path, name: str | None = None) -> KernelChoice:
    """Return the kernel for a notebook: the one with a name, or the one that the notebook names.

    Raise `NbreplayError` if that kernel, or the notebook, is not for Python, or if no kernel has the name.
    """
    # To find the specs, the debugger of ipykernel is imported; older ones write a warning. The kernels inherit it.
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    specs = KernelSpecManager()
    if name is not None:
        try:
            _refuse_language(specs.get_kernel_spec(name).language, f"The kernel {name!r}", "Pass another one")
        except NoSuchKernel:
            known = ", ".join(sorted(specs.find_kernel_specs())) or "none"
            raise NbreplayError(f"No kernel {name!r} is installed. Installed kernels: {known}") from None
        return KernelChoice(name)
    kernel = _mapping(notebook.metadata.get("kernelspec"))
    own = str(kernel.get("name") or NATIVE_KERNEL_NAME)
    subject, remedy = f"The notebook {path}", "Leave it out"
    for language in (kernel.get("language"), _mapping(notebook.metadata.get("language_info")).get("name")):
        _refuse_language(str(language or "python"), subject, remedy)
    try:
        _refuse_language(specs.get_kernel_spec(own).language, f"The kernel {own!r} of {path}", "Pass --kernel python3")
    except NoSuchKernel:
        stem = own.partition("-")[0].rstrip("0123456789").casefold()
        _refuse_language(_LANGUAGES.get(stem, "python"), subject, remedy)
        return KernelChoice(NATIVE_KERNEL_NAME, f"kernel {own!r} is not installed: run with this Python")
    return KernelChoice(own)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _refuse_language(language: str, subject: str, remedy: str) -> None:
    if not language.casefold().startswith(("python", "ipython")):
        raise NbreplayError(f"{subject} is for the language {language}, and nbreplay runs Python only. {remedy}")


def describe_missing_package(name: str) -> str:
    """Return how to install nbreplay in the Python of a kernel that lacks it."""
    command = KernelSpecManager().get_kernel_spec(name).argv
    python = command[0] if os.path.isabs(command[0]) else "python"
    return f"nbreplay is not installed in the Python of the kernel {name!r}. Run: {python} -m pip install nbreplay"
