"""A wheel of a package that does nothing."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

__all__ = ["tiny_wheel"]

_NAME = "tiny-1.0-py3-none-any.whl"
_INFO = "tiny-1.0.dist-info"
_FILES = {
    "tiny.py": "is_here = True\n",
    f"{_INFO}/METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
    f"{_INFO}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    f"{_INFO}/RECORD": "",
}


def tiny_wheel(folder: Path) -> dict[str, Any]:
    """Write the wheel of ``tiny`` into a folder, and return the packages of a lock file that has it."""
    with zipfile.ZipFile(folder / _NAME, "w") as wheel:
        for name, text in _FILES.items():
            wheel.writestr(zipfile.ZipInfo(name), text)
    digest = hashlib.sha256((folder / _NAME).read_bytes()).hexdigest()
    package = {"name": "tiny", "version": "1.0", "file_name": _NAME, "install_dir": "site", "sha256": digest}
    package |= {"package_type": "package", "imports": ["tiny"], "depends": [], "unvendored_tests": False}
    return {"tiny": package}
