"""A Sphinx extension: a site's notebooks are replayed while it is built, and a missing recording fails the build.

Notebooks are executed by `nbreplay.testing.runner`, as ``nbreplay run`` does, and handed to myst-nb or nbsphinx with
their outputs. So a call that a cell has swallowed is noticed, too, and nothing is added to a notebook. myst-nb executes
notebooks in Markdown itself: in kernels that `PageProvisioner` starts, with nbreplay on.
"""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from jupyter_client.provisioning.factory import KernelProvisionerFactory
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import SphinxError
from sphinx.util import logging
from sphinx.util.typing import ExtensionMetadata

from nbreplay import __version__
from nbreplay.testing.result import Result, RunOptions, format_failures
from nbreplay.testing.runner import run_all
from nbreplay.testing.warm.provisioner import PAGE_PROVISIONER

__all__ = ["NotebookError", "setup"]

_WIDGET = "application/vnd.jupyter.widget-view+json"
_STATE = "application/vnd.jupyter.widget-state+json"
_COPIED = {".gif", ".ipynb", ".jpeg", ".jpg", ".png", ".svg", ".webp"}
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_ERRORS = ("RecordingMissing", "RecordingIncomplete", "NetworkBlocked")
_LISTED = ".nbreplay-copies"  # in a folder that is filled: what may be replaced and removed there
_LOG = logging.getLogger(__name__)


class NotebookError(SphinxError):
    """Notebooks of the site that could not be replayed. The build ends."""

    category = "nbreplay"


def setup(app: Sphinx) -> ExtensionMetadata:
    """Add nbreplay to a Sphinx site.

    In ``conf.py``, beside the extension that shows notebooks::

        extensions = ["myst_nb", "nbreplay.sphinx"]  # or "nbsphinx"

    Every notebook (``.ipynb``) is then replayed from the ``recordings`` folder that ``nbreplay run`` would use, with no
    key and no network. These names of ``conf.py`` change that:

    ====================  ==============================================================================
    ``nbreplay_store``    the store, relative to ``conf.py``, or an address (default: as ``nbreplay run``)
    ``nbreplay_exclude``  patterns of notebooks that are shown as they are saved, such as ``["talks/*"]``
    ``nbreplay_folders``  folders of the site that are filled with the notebooks of another one, and their pictures:
                          ``{"notebooks": "../notebooks"}``. They are executed where they come from
    ``nbreplay_compare``  whether outputs must equal those that the notebook stores (default: False)
    ``nbreplay_timeout``  seconds per cell (default: 600)
    ====================  ==============================================================================

    Parameters
    ----------
    app : sphinx.application.Sphinx
        The application, which calls this.

    Returns
    -------
    dict
        What Sphinx has to know about the extension.
    """
    app.add_config_value("nbreplay_store", None, "env", (str, type(None)))
    app.add_config_value("nbreplay_exclude", [], "env", (list, tuple))
    app.add_config_value("nbreplay_folders", {}, "env", (dict,))
    app.add_config_value("nbreplay_compare", False, "env", (bool,))
    app.add_config_value("nbreplay_timeout", 600, "env", (int, float))
    pages = _Pages()
    app.connect("config-inited", lambda app, _: _prepare(app))
    app.connect("env-before-read-docs", pages.run)
    app.connect("source-read", pages.replace)
    app.connect("env-updated", _check_others)
    return {"version": __version__, "parallel_read_safe": True, "parallel_write_safe": True}


def _prepare(app: Sphinx) -> None:
    """Fill the folders of the site, and set the variables that every other program of the build goes by."""
    os.environ["NBREPLAY_MODE"] = "replay"
    os.environ[KernelProvisionerFactory.default_provisioner_name_env] = PAGE_PROVISIONER
    store = app.config.nbreplay_store
    if store is not None:
        os.environ["NBREPLAY_STORE"] = store if "://" in store else str(Path(app.confdir, store).resolve())
    for folder, origin in app.config.nbreplay_folders.items():
        _fill(Path(app.srcdir, folder), Path(app.confdir, origin))


def _fill(folder: Path, origin: Path) -> None:
    """Copy the notebooks and pictures of a folder that have changed into another one, and remove what is gone."""
    if not origin.is_dir():
        raise NotebookError(f"nbreplay_folders: {origin} is not a folder")
    files = {path.relative_to(origin) for path in origin.rglob("*") if path.suffix in _COPIED and path.is_file()}
    files = {path for path in files if not any(part.startswith((".", "_")) for part in path.parts)}
    folder.mkdir(parents=True, exist_ok=True)
    listed = folder / _LISTED
    lines = listed.read_text(encoding="utf-8").splitlines() if listed.is_file() else []
    known = {Path(line) for line in lines if not os.path.isabs(line) and ".." not in Path(line).parts}
    for path in sorted(files - known):
        if (folder / path).exists() and (folder / path).read_bytes() != (origin / path).read_bytes():
            raise NotebookError(f"nbreplay_folders: {folder / path} is not a copy. Name a folder that has no such file")
    for path in known - files:
        (folder / path).unlink(missing_ok=True)
    listed.write_text("".join(f"{path.as_posix()}\n" for path in sorted(files)), encoding="utf-8")
    for path in files:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        content = (origin / path).read_bytes()
        if not (folder / path).is_file() or (folder / path).read_bytes() != content:
            (folder / path).write_bytes(content)


class _Pages:
    """The notebooks of a build that were executed, by the name of their page."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._used: dict[str, list[Path]] = {}

    def run(self, app: Sphinx, env: BuildEnvironment, names: Iterable[str]) -> None:
        """Execute the notebooks among the pages that are about to be read. Raise `NotebookError` if one fails."""
        exclude = app.config.nbreplay_exclude
        paths = {name: _origin(app, Path(env.doc2path(name))) for name in names}
        paths = {
            name: path
            for name, path in paths.items()
            if path.suffix == ".ipynb" and not any(fnmatch(name, pattern.removesuffix(".ipynb")) for pattern in exclude)
        }
        if not paths:
            return
        _LOG.info("replaying %d notebooks", len(paths))
        options = RunOptions(compare=app.config.nbreplay_compare, timeout=app.config.nbreplay_timeout)
        results = run_all(list(dict.fromkeys(paths.values())), options)
        if failed := [result for result in results if not result.passed]:
            for result in failed:  # here, since Sphinx hides the text of an exception among its own versions
                _LOG.error("\n".join(_describe(result, Path(app.srcdir))))
            raise NotebookError(f"{len(failed)} of {len(results)} notebooks were not replayed. The reasons are above")
        by_path = {result.path: result for result in results}
        for name, path in paths.items():
            self._texts[name] = json.dumps(prepare_page(by_path[path].notebook))
            self._used[name] = list(_used_files(by_path[path]))

    def replace(self, app: Sphinx, name: str, content: list[str]) -> None:
        """Hand an executed notebook on as the source of its page, which is read again if a recording changes."""
        if name in self._texts:
            content[0] = self._texts[name]
            for path in self._used[name]:
                app.env.note_dependency(str(path))


def _check_others(app: Sphinx, env: BuildEnvironment) -> None:
    """Raise `NotebookError` for the first page whose call was missing when myst-nb executed it, which only warns."""
    for name, data in getattr(env, "nb_metadata", {}).items():
        text = _ANSI.sub("", data.get("exec_data", {}).get("traceback") or "")
        at = max(text.rfind(f"{error}: ") for error in _ERRORS)
        if at >= 0:
            page = os.path.relpath(env.doc2path(name), app.srcdir)
            _LOG.error(f"{page}: {text[at:].strip()}")
            raise NotebookError(f"{page} was not replayed. The reason is above")


def _origin(app: Sphinx, path: Path) -> Path:
    """Return where the notebook of a page is executed."""
    for folder, origin in app.config.nbreplay_folders.items():
        if path.is_relative_to(Path(app.srcdir, folder)):
            return Path(app.confdir, origin, path.relative_to(Path(app.srcdir, folder))).resolve()
    return path.resolve()


def prepare_page(notebook: Any) -> dict[str, Any]:
    """Return an executed notebook as a page shows it.

    Cards become the HTML of their bundle: the widget of a card needs a server from which its manager is loaded. Nothing
    executes it once more.
    """
    page: dict[str, Any] = copy.deepcopy(notebook)
    state = page.get("metadata", {}).get("widgets", {}).get(_STATE, {}).get("state", {})
    for cell in page["cells"]:
        for output in cell.get("outputs", []):
            data: Mapping[str, Any] = output.get("data", {})
            if "text/html" in data and _WIDGET in data:
                state.pop(output["data"].pop(_WIDGET)["model_id"], None)
    if not any(_WIDGET in output.get("data", {}) for cell in page["cells"] for output in cell.get("outputs", [])):
        page["metadata"].pop("widgets", None)
    language = page["metadata"].setdefault("language_info", {"name": "python"})
    if language.get("name") == "python":
        language["pygments_lexer"] = "ipython3"  # a kernel says so, too
    page["metadata"].setdefault("mystnb", {})["execution_mode"] = "off"
    page["metadata"].setdefault("nbsphinx", {})["execute"] = "never"
    return page


def _describe(result: Result, folder: Path) -> Iterable[str]:
    shown = os.path.relpath(result.path, folder)
    return [f"{shown}: {line}" if at == 0 else line for at, line in enumerate(format_failures(result.failures, folder))]


def _used_files(result: Result) -> Iterable[Path]:
    for store, names in result.used.items():
        path = Path(store)
        yield from (path / name for name in names) if path.is_dir() else [path] if path.is_file() else []
