"""The adoption of notebooks: each is recorded, replayed without keys in copies of its folder, and judged."""

from __future__ import annotations

import contextlib
import copy
import datetime
import json
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from nbreplay.core.config import Mode, project
from nbreplay.core.secrets.credentials import is_secret_name, is_secret_variable
from nbreplay.core.secrets.redact import Redactor
from nbreplay.core.variable_text import Proposal
from nbreplay.errors import NbreplayError
from nbreplay.testing.adoption.changes import Change, add_settings, format_workflow, imported_packages, read_text
from nbreplay.testing.adoption.evidence import Evidence
from nbreplay.testing.adoption.journal import Journal
from nbreplay.testing.adoption.tomorrow import Calendar, answers_of, later_request_masks
from nbreplay.testing.installs import find_installs
from nbreplay.testing.isolation import copy_folder, find_ignored, find_repository, list_files, project_root
from nbreplay.testing.notebook_file import add_tags, read_notebook, save_outputs, tags_of
from nbreplay.testing.outputs.compare import compare
from nbreplay.testing.outputs.diff import Difference
from nbreplay.testing.outputs.sanitise import Rules, rules_for
from nbreplay.testing.result import Failure, Result, RunOptions
from nbreplay.testing.runner import OnCell, find_notebooks, run_all

_ROUNDS = 4
_COPY = "nbreplay-"  # what the names of copies begin with
_READ_NAME = re.compile(r"\b(?:environ(?:\.get)?\s*[\[(]|getenv\s*\()\s*['\"](\w+)['\"]")
_EVERYWHERE = frozenset(
    {"HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "PWD", "SHELL", "TEMP", "TERM", "TMP", "TMPDIR", "USER"}
)
"""Variables that are set on every machine."""
_PASSING = re.compile(r"\b(?:401|403|408|409|429|5\d\d)\b|Connect|Timeout|timed out|APIError|API key")
"""Errors of calls that may pass."""
_DOTENV_NAME = re.compile(r"(?m)^\s*(?:export\s+)?([A-Za-z_]\w*)\s*=")


class Watcher:
    """Receives the progress of an adoption. The base class shows nothing."""

    def stage(self, name: str, paths: Sequence[Path]) -> None:
        """A stage begins for these notebooks."""

    def cell(self, path: Path, cell: int, cells: int) -> None:
        """A cell of a notebook has run."""

    def result(self, result: Result) -> None:
        """A notebook has run."""


def adopt(
    paths: Sequence[Path], options: RunOptions, *, number: int | None = None, watcher: Watcher | None = None
) -> Adoption:
    """Record and replay notebooks, and return what was found. Nothing but recordings is written."""
    adoption = Adoption(paths, options, number, watcher or Watcher())
    with adoption.without_keys():
        adoption.check_adopted()
    adoption.record()
    with adoption.without_keys():
        adoption.replay()
        adoption.check()
    return adoption


class Adoption:
    """The evidence about several notebooks, and the runs that add to it."""

    def __init__(self, paths: Sequence[Path], options: RunOptions, number: int | None, watcher: Watcher) -> None:
        self.evidence: list[Evidence] = []
        self._options, self._number, self._watcher = options, number, watcher
        self._common = Path(os.path.commonpath([path.resolve().parent for path in paths]))
        self._journals = {folder: Journal(folder) for folder in dict.fromkeys(path.parent for path in paths)}
        secret = frozenset(_secret_variables())
        for path in paths:
            item = Evidence(path)
            self.evidence.append(item)
            try:
                item.notebook = read_notebook(path)
            except NbreplayError as error:
                item.record = Result(path, failures=[Failure(str(error))])
                continue
            folder = path.resolve().parent
            entry = self._journals[path.parent].find(path, item.notebook)
            item.shared_files = list(entry.files) if entry else []
            item.ignored_files = [os.path.relpath(name, folder) for name in find_ignored(folder)]
            source = "\n".join(cell.source for cell in item.notebook.cells if cell.cell_type == "code")
            item.settings = frozenset(_READ_NAME.findall(source)) & os.environ.keys() - _EVERYWHERE - secret
            item.withheld = secret | item.settings | _dotenv_names(path.parent)

    @contextlib.contextmanager
    def without_keys(self) -> Iterator[None]:
        """Remove keys and settings from the environment meanwhile, and so from that of every process started."""
        names = {name for item in self.evidence for name in item.withheld}
        taken = {name: os.environ.pop(name) for name in names if name in os.environ}
        try:
            yield
        finally:
            os.environ.update(taken)

    def check_adopted(self) -> None:
        """Replay the notebooks that may have been adopted before. Those that pass need nothing."""
        items = [item for item in self._readable() if _was_executed(item.notebook) and self._has_recordings(item)]
        with self._copies(items) as copies:
            for item, result in self._run("checking", items, copies, compare=True):
                if result.passed and (result.calls or self._is_recorded(item)):
                    item.check, item.is_adopted = result, True

    def record(self) -> None:
        """Record the notebooks that were not recorded before, those of one folder in one copy of it, in order.

        One that failed by itself is tried again in ``auto``, where what was recorded is kept.
        """
        items = [item for item in self._remaining() if not self._is_recorded(item)]
        folders: dict[Path, Path] = {}
        with contextlib.ExitStack() as stack:
            for folder in dict.fromkeys(item.path.parent for item in items):
                folders[folder] = copy_folder(folder, Path(stack.enter_context(_temporary())))
            copies = {item.path: folders[item.path.parent] / item.path.name for item in items}
            before = {folder: list_files(place) for folder, place in folders.items()}

            def note(result: Result) -> None:
                item = next(item for item in items if item.path == result.path)
                folder = item.path.parent
                item.shared_files = _new_files(before[folder], list_files(folders[folder]))
                self._journals[folder].add(item.path, item.notebook, result, item.shared_files)

            again = [item for item in items if self._failed_by_itself(item)]
            for some, mode in (([item for item in items if item not in again], Mode.RECORD), (again, Mode.AUTO)):
                for item, result in self._run("recording", some, copies, note=note, mode=mode):
                    item.record = result

    def replay(self) -> None:
        """Replay each notebook twice in one copy of its folder, until no mask for a request is missing."""
        items = [item for item in self._remaining() if item.record is None or item.record.passed]
        for _ in range(_ROUNDS):
            with self._copies(items) as copies:
                before = {path: list_files(place.parent) for path, place in copies.items()}
                for item, result in self._run("replaying", items, copies):
                    item.replays = [result]
                    item.files = _new_files(before[item.path], list_files(copies[item.path].parent))
                whole = [item for item in items if item.replays[0].passed]
                for item, result in self._run("replaying again", whole, copies):
                    item.replays.append(result)
            items = [item for item in items if self._propose_request_masks(item)]
            if not items:
                break
        for item in self._remaining():
            # If it writes files, the second replay may differ because it finds those of the first one.
            if len(item.replays) == 2 and item.replays[1].passed and not item.files:
                self._propose(item, item.replays[1])
            if item.replays and item.replays[0].passed:
                self._propose_dates(item, item.replays[0])

    def check(self) -> None:
        """Replay each notebook with the proposals, in another copy, and propose more until it passes."""
        items = [item for item in self._remaining() if item.replays and item.replays[0].passed]
        for _ in range(_ROUNDS):
            if not items:
                break
            with self._copies(items, propose=True) as copies:
                results = self._run("checking", items, copies, compare=True)
            items = []
            for item, result in results:
                item.check = result
                if not result.passed and self._propose(item, result):
                    items.append(item)
        for item in self._remaining():
            if len(item.replays) == 2 and item.replays[1].passed:
                item.differs_again = bool(self._differences(item, item.replays[1]))

    def changes(self) -> list[Change]:
        """Return the changes that make the notebooks replay in the project itself."""
        items = [item for item in self._remaining() if item.passes]
        files = dict.fromkeys(self.project_file(item.path.resolve().parent) for item in items)
        changes = [Change(file, read_text(file), self._add_settings(file)) for file in files]
        changes += [Change(item.path, read_text(item.path), _notebook_text(item)) for item in items]
        changes += self._workflow()
        return [change for change in changes if change.after != (change.before or "")]

    def _workflow(self) -> list[Change]:
        """Return the workflow, unless the repository has one that runs nbreplay, or nothing to run."""
        root = find_repository(self._common)
        names = [item.path.resolve() for item in self.evidence if item.passes]
        if root is None or not names:
            return []
        folder = root / ".github" / "workflows"
        target = folder / "notebooks.yml"
        present = [*folder.glob("*.yml"), *folder.glob("*.yaml")]
        if target.exists() or any("nbreplay" in (read_text(file) or "") for file in present):
            return []
        if len(names) == len(self.evidence) and set(find_notebooks([self._common])) == set(names):
            names = [self._common]
        requirements = ["-r", "requirements.txt"] if (root / "requirements.txt").is_file() else self.requirements()
        paths = [os.path.relpath(path, root) for path in names]
        return [Change(target, None, format_workflow([*self._flags(), *paths], requirements))]

    def _flags(self) -> list[str]:
        """Return the options that the notebooks are to be replayed with, without secrets."""
        flags = []
        cells = (cell for item in self._readable() for cell in item.notebook.cells if cell.cell_type == "code")
        if any(find_installs(cell.source).commands for cell in cells):
            flags.append("--skip-installs")
        if self._options.allow_children:
            flags.append("--allow-children")
        for name, value in self._options.parameters.items():
            if not is_secret_name(name):
                flags += ["-p", f"{name}={value if isinstance(value, str) else json.dumps(value)}"]
        return flags

    def requirements(self) -> list[str]:
        """Return the packages whose modules the notebooks import."""
        return imported_packages(item.notebook for item in self._readable())

    def _readable(self) -> list[Evidence]:
        return [item for item in self.evidence if item.notebook is not None]

    def _remaining(self) -> list[Evidence]:
        return [item for item in self._readable() if not item.is_adopted]

    def _is_recorded(self, item: Evidence) -> bool:
        entry = self._journals[item.path.parent].find(item.path, item.notebook)
        return entry is not None and not entry.errors

    def _failed_by_itself(self, item: Evidence) -> bool:
        """Return whether it was recorded as it is now, and then failed, not because of a call that may do better."""
        entry = self._journals[item.path.parent].find(item.path, item.notebook)
        return entry is not None and not any(map(_PASSING.search, entry.errors))

    def _has_recordings(self, item: Evidence) -> bool:
        store = self._journals[item.path.parent].store
        return store.is_dir() and any(store.glob("*.json"))

    def _run(
        self,
        stage: str,
        items: Sequence[Evidence],
        copies: dict[Path, Path],
        *,
        note: Callable[[Result], None] | None = None,
        mode: Mode = Mode.REPLAY,
        compare: bool = False,
    ) -> list[tuple[Evidence, Result]]:
        if not items:
            return []

        def report(result: Result) -> None:
            if note:
                note(result)
            self._watcher.result(result)

        paths = [item.path for item in items]
        self._watcher.stage(stage, paths)
        # What a replay needs was installed when it was recorded.
        skip_installs = self._options.skip_installs or mode is Mode.REPLAY
        changes = {"mode": mode, "compare": compare, "skip_installs": skip_installs}
        options = msgspec.structs.replace(self._options, **changes)
        on_cell: OnCell = self._watcher.cell
        results = run_all(paths, options, number=self._number, on_cell=on_cell, on_result=report, copies=copies)
        return list(zip(items, results, strict=True))

    @contextlib.contextmanager
    def _copies(self, items: Iterable[Evidence], *, propose: bool = False) -> Iterator[dict[Path, Path]]:
        """Yield a copy of each notebook in a copy of its folder, with the masks, or all proposals."""
        with contextlib.ExitStack() as stack:
            copies = {}
            for item in items:
                folder = copy_folder(item.path.parent, Path(stack.enter_context(_temporary())), secrets=False)
                copies[item.path] = folder / item.path.name
                self._write_settings(item.path.parent, folder)
                if propose:
                    write_notebook(item, copies[item.path])
            yield copies

    def project_file(self, folder: Path) -> Path:
        """Return the pyproject.toml that governs the notebooks in a folder, or the place for a new one."""
        file = project(folder).file
        if file is not None:
            return file
        return (find_repository(folder) or self._common) / "pyproject.toml"

    def settings_for(self, file: Path) -> dict[tuple[str, ...], list[str]]:
        """Return the items that are proposed for the lists in a pyproject.toml, by the path of the list."""
        items = [item for item in self.evidence if self.project_file(item.path.resolve().parent) == file]
        lists = {
            ("mask",): [mask.pattern for item in items for mask in item.request_masks],
            ("outputs", "mask"): [mask.pattern for item in items for mask in item.output_masks],
        }
        return {("tool", "nbreplay", *path): list(dict.fromkeys(values)) for path, values in lists.items() if values}

    def _add_settings(self, file: Path) -> str:
        try:
            return add_settings(read_text(file) or "", self.settings_for(file))
        except NbreplayError as error:
            raise NbreplayError(f"{file}: {error}") from error

    def _write_settings(self, folder: Path, target_folder: Path) -> None:
        """Write what is proposed into the pyproject.toml that governs a copy of a folder."""
        folder = folder.resolve()
        file = self.project_file(folder)
        if self.settings_for(file):
            text = self._add_settings(file)
            target = Path(os.path.normpath(target_folder / os.path.relpath(file, folder)))
            if not target.parent.is_dir():  # a new one, above all that was copied
                target = target_folder / file.name
            target.unlink(missing_ok=True)  # a link to the project's own
            target.write_bytes(text.encode("utf-8"))

    def _rules(self, item: Evidence) -> Rules:
        rules = rules_for(item.path.parent)
        settings = self.settings_for(self.project_file(item.path.resolve().parent))
        return msgspec.structs.replace(
            rules, mask=(*rules.mask, *settings.get(("tool", "nbreplay", "outputs", "mask"), ()))
        )

    def _differences(self, item: Evidence, other: Result) -> list[Difference]:
        """Return how the outputs of another replay differ from those of the first one, with what is proposed."""
        first = copy.deepcopy(item.replays[0].notebook)
        for index, tag in item.tags.items():
            first.cells[index - 1].metadata["tags"] = [*tags_of(first.cells[index - 1]), tag]
        return compare(first, other.notebook, self._rules(item), replays=True)

    def _propose(self, item: Evidence, other: Result) -> bool:
        """Propose masks for the outputs that differ in another replay, else tags. Return whether one is new."""
        differences = self._differences(item, other)
        for difference in differences:
            masks = [mask for mask in _for_clones(item, difference.masks) if mask not in item.output_masks]
            item.output_masks += masks
            if not masks:
                item.tags[difference.index] = "nbreplay-run"
                if _is_reordered(difference):
                    item.reordered.append(difference.index)
        return bool(differences)

    def _propose_dates(self, item: Evidence, replay: Result) -> None:
        """Propose masks for the date of today in requests and outputs, unless it is in the notebook or an answer."""
        source = "\n".join(cell.source for cell in item.notebook.cells)
        calendar = Calendar(datetime.date.today(), source)
        item.request_masks += later_request_masks(replay, calendar, item.request_masks)
        calendar = Calendar(datetime.date.today(), source + answers_of(replay))
        later = Result(item.path, calendar.later_outputs(replay.notebook))
        item.output_masks += [mask for difference in self._differences(item, later) for mask in difference.masks]

    def _propose_request_masks(self, item: Evidence) -> bool:
        """Propose masks for the requests that missed. Return whether one is new."""
        masks = [mask for result in item.replays for call in result.calls for mask in call.masks]
        new = [mask for mask in dict.fromkeys(_for_clones(item, masks)) if mask not in item.request_masks]
        item.request_masks += new
        return bool(new)


def write_notebook(item: Evidence, path: Path) -> None:
    """Write the outputs of the replay, and the proposed tags, into a copy of a notebook."""
    save_outputs(path, item.replays[0].notebook)
    if item.tags:
        add_tags(path, item.tags)


def _notebook_text(item: Evidence) -> str:
    """Return the text of a notebook with the outputs of the replay, and the proposed tags."""
    with _temporary() as folder:
        try:
            copied = Path(shutil.copy(item.path, folder))
        except OSError as error:
            raise NbreplayError(
                f"Cannot copy {item.path}: {error.strerror or error}. Adopt the notebooks again"
            ) from error
        write_notebook(item, copied)
        return read_text(copied) or ""


def _is_reordered(difference: Difference) -> bool:
    """Return whether a cell displays the same lines in another order."""
    old, new = (Counter(line[2:] for line in difference.lines if line.startswith(sign)) for sign in "-+")
    return old == new


def _temporary() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix=_COPY, ignore_cleanup_errors=True)


def _for_clones(item: Evidence, masks: Iterable[Proposal]) -> list[Proposal]:
    """Return masks that match the path of the project in each clone, where they match that of a copy of it."""
    name = re.escape(project_root(item.path.parent.resolve()).name)
    pattern = rf"(?:/[\w.+~@-]+)+/{name}(?![\w.-])"
    change = {"name": "the path of the project", "pattern": pattern}
    return [msgspec.structs.replace(mask, **change) if f"/{_COPY}" in mask.before else mask for mask in masks]


def _new_files(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> list[str]:
    return sorted(name for name, state in after.items() if before.get(name) != state)


def _was_executed(notebook: Any) -> bool:
    return any(cell.get("execution_count") or cell.get("outputs") for cell in notebook.cells)


def _secret_variables() -> Iterator[str]:
    """Yield the variables that hold a secret, as their name or their value says."""
    redactor = Redactor()
    for name, value in os.environ.items():
        if is_secret_variable(name) or redactor.finds(value):
            yield name


def _dotenv_names(folder: Path) -> frozenset[str]:
    """Return the variables that the nearest ``.env`` sets, which a clone of the project lacks."""
    for parent in (folder.resolve(), *folder.resolve().parents):
        text = read_text(parent / ".env") if (parent / ".env").is_file() else None
        if text is not None:
            return frozenset(_DOTENV_NAME.findall(text))
    return frozenset()
