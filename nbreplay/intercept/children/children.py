"""Child processes by their command lines: which are network clients, and which are harmless.

The guard is a hook of this process, so it does not see what a child sends. A child that is a known network client is
therefore not started under replay; any other is named. Only what the command line shows is looked into: the words of
a shell's ``-c`` text, the script of a shell or a Python, and what that script imports.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from nbreplay.intercept.children.programs import (
    CLIENTS,
    GIT_REMOTE,
    HARMLESS,
    INSTALLERS,
    INSTALLS,
    NETWORK_LIBRARIES,
    SHELLS,
    WRAPPERS,
)
from nbreplay.intercept.children.shell_words import commands

__all__ = ["Child", "classify", "classify_script", "imports_network"]

_DEPTH = 8
_LARGE = 1 << 20
_FILES = 30

_PYTHON = re.compile(r"(?:i?python|pypy)[\d.]*w?t?(?:\.exe)?")
_IMPORT = re.compile(
    r"(?:^|[;\n:])[ \t]*"
    r"(?:from[ \t]+(?P<module>\.*[\w.]*)[ \t]+import[ \t]+(?P<names>[\w, \t]+|\()|import[ \t]+(?P<modules>[\w., \t]+))"
)


class Child(NamedTuple):
    """A child process by its command line.

    Attributes
    ----------
    name : str
        A few words to name it by.
    kind : {"client", "other", "harmless"}
    stdin : bool
        Whether it is a shell or a Python whose script comes by its standard input.
    """

    name: str
    kind: str
    stdin: bool = False


def classify(words: Sequence[str], folder: str | os.PathLike[str] = ".", _depth: int = 0) -> Child:
    """Return what a command line starts.

    Parameters
    ----------
    words : sequence of str
        The program and its arguments.
    folder : path
        Where it is started: relative paths of scripts are below it.
    """
    if not words or not words[0]:
        return Child("a process", "other")
    program = words[0].replace("\\", "/").rpartition("/")[2]
    name, rest = program.lower().removesuffix(".exe"), list(words[1:])
    if _depth > _DEPTH:
        return Child(name, "other")
    if name in SHELLS:
        return _shell(name, rest, Path(folder), _depth)
    if _PYTHON.fullmatch(program):
        return _python(name, rest, Path(folder))
    if name in WRAPPERS:
        inner = _unwrapped(name, rest)
        return classify(inner, folder, _depth + 1) if inner else Child(name, "other")
    if name == "uv" and "run" in rest[:2]:
        return classify(_skip(rest[rest.index("run") + 1 :], ""), folder, _depth + 1)
    if name in ("uvx", "pipx") and (inner := _skip(rest[rest.index("run") + 1 :] if "run" in rest else rest, "")):
        found = classify(inner, folder, _depth + 1)
        return found if found.kind == "client" else Child(f"{name} {inner[0]}", "other")
    if name == "git":
        return _git(rest)
    if name in INSTALLERS and rest[:1] in (["--version"], ["-V"]):
        return Child(name, "harmless")
    if name in INSTALLERS:
        return Child(" ".join([name, *rest[:1]]), "other")
    if name in CLIENTS:
        asks_itself = bool(rest) and all(word in ("--version", "-v", "-V", "--help", "-h", "version") for word in rest)
        installs = name in ("npm", "pnpm", "yarn", "bun") and bool(INSTALLS.intersection(rest[:1]))
        copies = name == "rsync" and not any(":" in word for word in rest)
        if (asks_itself or installs or copies) and rest:
            return Child(f"{name} {rest[0]}", "other")
        return Child(name, "client")
    if name in HARMLESS:
        return Child(name, "harmless")
    return _by_shebang(words[0], name, Path(folder), _depth)


def classify_script(text: str, folder: str | os.PathLike[str] = ".", _depth: int = 0) -> Child:
    """Return what a shell's script starts: the first network client in it, else its first command."""
    first: Child | None = None
    harmless = Child("a shell", "harmless")
    for words in commands(text):
        found = classify(words, folder, _depth + 1)
        if found.kind == "client":
            return found
        if found.kind == "other" and first is None:
            first = found
        elif found.kind == "harmless":
            harmless = found
    return first or harmless


def imports_network(source: str, folder: Path | None = None, _seen: set[Path] | None = None) -> str | None:
    """Return a library for the network that Python source imports, also through modules beside it; None if none.

    A source that imports nbreplay switches it on for itself.
    """
    seen = set[Path]() if _seen is None else _seen
    names = list(_imported(source))
    if any(name.partition(".")[0] == "nbreplay" for name in names):
        return None
    for name in names:
        parts = name.split(".")
        if found := next((head for n in (1, 2) if (head := ".".join(parts[:n])) in NETWORK_LIBRARIES), None):
            return found
    for name in names if folder else ():
        at = Path(folder or "", *name.strip(".").split("."))
        for path in (at.with_suffix(".py"), at / "__init__.py"):
            if path not in seen and len(seen) < _FILES and (text := _text(path)) is not None:
                seen.add(path)
                if found := imports_network(text, folder, seen):
                    return found
    return None


def _imported(source: str) -> Iterator[str]:
    for match in _IMPORT.finditer(source):
        if match["modules"]:
            yield from (item.split()[0] for item in match["modules"].split(",") if item.split())
        elif match["module"]:
            yield match["module"]
            names = (item.split()[0] for item in match["names"].split(",") if item.split())
            yield from (f"{match['module']}.{name}" for name in names if name.isidentifier())


def _text(path: Path) -> str | None:
    with contextlib.suppress(OSError, ValueError):
        if path.is_file() and path.stat().st_size <= _LARGE:
            return path.read_text(encoding="utf-8", errors="replace")
    return None


def _skip(words: list[str], valued: str) -> list[str]:
    """Return words from the first on that is neither an option nor the value of one."""
    takes = valued.split()
    while words and words[0].startswith("-") and words[0] != "-":
        words = words[2 if words[0] in takes else 1 :]
    return words


def _unwrapped(name: str, rest: list[str]) -> list[str]:
    inner = _skip(rest, WRAPPERS[name])
    if name == "timeout":
        inner = inner[1:]
    while name in ("env", "sudo") and inner and re.match(r"\w+=", inner[0]):
        inner = inner[1:]
    return inner


def _git(rest: list[str]) -> Child:
    inner = _skip(rest, "-C -c --git-dir --work-tree --exec-path --namespace")
    command = inner[0] if inner else ""
    remote = command in GIT_REMOTE or (command == "remote" and bool({"update", "show", "prune"}.intersection(inner)))
    return Child(f"git {command}".rstrip(), "client" if remote else "other")


def _shell(name: str, rest: list[str], folder: Path, depth: int) -> Child:
    while rest and rest[0][:1] in "-+" and len(rest[0]) > 1:
        option, rest = rest[0], rest[1:]
        if option in ("-o", "+o", "--rcfile", "--init-file"):
            rest = rest[1:]
        elif not option.startswith("--") and "c" in option:
            return classify_script(rest[0], folder, depth) if rest else Child(name, "other")
        elif not option.startswith("--") and "s" in option:
            return Child(name, "other", stdin=True)
    if not rest or rest[0] == "-":
        return Child(name, "other", stdin=True)
    text = _text(folder / rest[0])
    found = classify_script(text, folder, depth) if text else None
    return found if found and found.kind == "client" else Child(f"{name} {os.path.basename(rest[0])}", "other")


def _python(name: str, rest: list[str], folder: Path) -> Child:
    if "--multiprocessing-fork" in rest or any("multiprocessing.forkserver" in word for word in rest[:3]):
        return Child("a process of multiprocessing", "other")
    while rest and rest[0].startswith("-") and rest[0] != "-":
        option, rest = rest[0], rest[1:]
        if option in ("-X", "-W", "--check-hash-based-pycs"):
            rest = rest[1:]
        elif option in ("-V", "-VV", "--version", "-h", "--help"):
            return Child(f"{name} {option}", "harmless")
        elif option.startswith("--"):
            continue
        elif "c" in option:
            source = option.partition("c")[2] or (rest[0] if rest else "")
            if "multiprocessing.resource_tracker" in source:
                return Child("the resource tracker of multiprocessing", "harmless")
            return _sourced(f"{name} -c", source, folder)
        elif "m" in option:
            return _module(name, option.partition("m")[2] or (rest[0] if rest else ""), rest, folder)
    if not rest or rest[0] == "-":
        return Child(name, "other", stdin=True)
    script = folder / rest[0]
    if script.is_dir():
        script /= "__main__.py"
    return _sourced(f"{name} {os.path.basename(rest[0])}", _text(script) or "", script.parent)


def _sourced(name: str, source: str, folder: Path) -> Child:
    library = imports_network(source, folder)
    return Child(f"{name} that imports {library}", "client") if library else Child(name, "other")


def _module(python: str, module: str, rest: list[str], folder: Path) -> Child:
    root = module.partition(".")[0]
    if not root:
        return Child(python, "other")
    if root == "nbreplay":
        return Child("nbreplay", "harmless")
    if root in INSTALLERS or root == "ensurepip":
        return Child(" ".join([module, *rest[1:2]]), "other")
    if root in NETWORK_LIBRARIES:
        return Child(f"{python} -m {module}", "client")
    at = folder.joinpath(*module.split("."))
    source = _text(at.with_suffix(".py")) or _text(at / "__main__.py") or ""
    return _sourced(f"{python} -m {module}", source, folder)


def _by_shebang(given: str, name: str, folder: Path, depth: int) -> Child:
    """Look into a program that is a script, as the commands are that Python packages install."""
    path = folder / given if "/" in given else shutil.which(given)
    text = _text(Path(path)) if path else None
    if text and text.startswith("#!"):
        interpreter = text[2:].partition("\n")[0].split()
        words = [*interpreter[1:], ""] if interpreter[:1] == ["/usr/bin/env"] else [*interpreter, ""]
        program = os.path.basename(words[0])
        if _PYTHON.fullmatch(program):
            return _sourced(name, text, Path(str(path)).parent)
        found = classify_script(text, folder, depth) if program in SHELLS else classify(words[:1], folder, depth + 1)
        if found.kind == "client":
            return Child(f"{name}, a script of {found.name}", "client")
    return Child(name, "other")
