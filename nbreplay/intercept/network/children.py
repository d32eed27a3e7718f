"""Child processes during replay: known network clients are refused, all others are named.

Python raises audit events for nearly all ways to start a process; for the others libraries are hooked, see
`nbreplay.intercept.network.libraries`. The guard does not see what a child sends. Only its command line is examined:
the text after a shell's ``-c``, the script of a shell or of Python, and what that script imports. Variables of a shell
are not expanded.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nbreplay.core.cell import current_run
from nbreplay.intercept.network import guard

MULTIPROCESSING = "a process of multiprocessing"


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Programs whose purpose is to send something, or to run a program that does.
_CLIENTS = _names("""
    aria2c curl ftp http https lftp nc ncat netcat rsync scp sftp socat ssh telnet wget wget2 xh xhs
    dig host mtr nslookup ping ping6 tracepath traceroute whois
    bun bunx deno node nodejs npm npx pnpm ts-node tsx yarn
    aichat aider amp auggie claude codex copilot crush cursor-agent fabric gemini goose llm mods ollama opencode qwen
    anthropic hf huggingface-cli openai sgpt
    aws az databricks docker doctl fly gcloud gh glab gsutil heroku kubectl podman terraform vercel
    clickhouse-client mariadb mongosh mysql psql redis-cli
""")
_GIT_REMOTE = _names("archive clone fetch fetch-pack ls-remote lfs pull push send-pack submodule")
_INSTALLERS = _names("apk apt apt-get brew conda dnf mamba micromamba pip pip3 pipx pixi poetry uv uvx yum")
_JAVASCRIPT_INSTALLERS = _names("bun npm pnpm yarn")
_JAVASCRIPT_INSTALLS = _names("add ci i install prune remove uninstall update upgrade")
# Built into shells, or asked by libraries about the machine.
_HARMLESS = _names("""
    : [ [[ cd exit export false pwd set test true umask unset wait
    arch cc clang fc-list fc-match file gcc getconf hostname id ld ldconfig locale lsb_release nbreplay nproc objdump
    ps stty sw_vers sysctl system_profiler tput tty uname which whoami xcrun xdpyinfo
""")
_SHELLS = _names("ash bash dash fish ksh sh zsh")
# Programs that start the one that follows, each with its options that take a value.
_WRAPPERS = dict.fromkeys(_names("busybox chronic command nohup setsid unbuffer"), "") | {
    "env": "-u -C --unset --chdir",
    "exec": "-a",
    "ionice": "-c -n -p",
    "nice": "-n",
    "stdbuf": "-i -o -e",
    "sudo": "-u -g -C -D -h -p -r -t -T",
    "time": "-f -o",
    "timeout": "-k -s --kill-after --signal",
    "watch": "-n",
    "xargs": "-a -d -E -I -L -n -P -s",
}
# Libraries that nbreplay hooks into, and SDKs over them.
_NETWORK_LIBRARIES = _names("""
    agents aiohttp anthropic autogen_core autogen_ext boto3 botocore claude_agent_sdk cohere crewai curl_cffi dspy
    fireworks google.genai google.generativeai groq grpc http.client httpx httpx2 huggingface_hub instructor
    langchain langchain_anthropic langchain_community langchain_core langchain_google_genai langchain_openai langgraph
    litellm llama_index mistralai ollama openai primp pycurl pydantic_ai replicate requests smolagents tavily together
    urllib.request urllib3 websockets
""")

_MAX_DEPTH = 8
_MAX_SIZE = 1 << 20
_MAX_FILES = 30
_PYTHON = r"(?:i?python|pypy)[\d.]*w?t?(?:\.exe)?"
_IMPORT = (
    r"(?:^|[;\n:])[ \t]*"
    r"(?:from[ \t]+(?P<module>\.*[\w.]*)[ \t]+import[ \t]+(?P<names>[\w, \t]+|\()|import[ \t]+(?P<modules>[\w., \t]+))"
)
_KEYWORDS = _names("! { do elif else if then until while")
_SUBSTITUTION = r"\$\(([^()]*)\)|`([^`]*)`|[<>]\(([^()]*)\)"
_HEREDOC = r"(?ms)<<-?[ \t]*(['\"]?)(\w+)\1(.*?)\n.*?^[ \t]*\2[ \t]*$"
_ASSIGNMENT = r"\w+\+?="
_SEPARATORS = ";&|()\n"
_KINDS = ("harmless", "other", "client")


class Child(NamedTuple):
    """A child process, classified by its command line."""

    name: str  # a few words for messages
    kind: str  # one of `_KINDS`
    stdin: bool = False  # a shell or Python that reads its script from standard input


def check_child(words: Any, folder: Any = None, program: Any = None) -> None:
    """Raise `NetworkBlocked` for a child process that is a known network client; name any other.

    `words` is the command line, or as a str a shell's script; `folder` the working directory; `program` is given where
    it is not the first word.
    """
    session = guard.replay_session()
    if session is None:
        return
    child = _classify_child(words, folder, program)
    if child.kind == "harmless":
        return
    if child.kind == "client":
        # MCP's own client starts a server of tools. Calls of these are recorded, so a replay sends it none.
        allowed = session.options.allow_children or os.environ.get("NBREPLAY_ALLOW_CHILDREN") == "1"
        if not (allowed or is_called_by("mcp.client.stdio")):
            text = (
                f"nbreplay did not start {child.name} during replay: it is a network client in another process, which "
                "replay does not cover. To start it anyway, run %replay replay --allow-children"
            )
            guard.refuse(session, child.name, text)
        session.log_live(child.name)
    guard.name_uncovered("child", child.name)
    guard.report(session, child.name)


def is_called_by(*modules: str) -> bool:
    """Tell whether one of these modules, or a module of these packages, is among the callers."""
    prefixes = tuple(f"{module}." for module in modules)
    frames = traceback.walk_stack(sys._getframe(1))
    return any(f"{frame.f_globals.get('__name__')}.".startswith(prefixes) for frame, _ in frames)


def name_existing() -> None:
    """Name children that were started before the session: workers of multiprocessing, and known network clients."""
    with contextlib.suppress(Exception):  # must not keep a session from starting
        process = sys.modules.get("multiprocessing.process")
        if process is not None and any(child.is_alive() for child in list(process.__dict__["_children"])):
            guard.name_uncovered("child", f"{MULTIPROCESSING} that was started before")
    for pid in _child_pids():
        with contextlib.suppress(OSError):  # it may have ended meanwhile
            line = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
            child = _classify_child(line, f"/proc/{pid}/cwd")
            # A Python is more often a server of the program's own, and what connects to it is refused.
            if child.kind == "client" and "python" not in child.name:
                guard.name_uncovered("child", f"{child.name} that was started before")


def _child_pids() -> Iterator[str]:
    for path in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            yield from path.read_text().split()


guard.handlers |= {
    "subprocess.Popen": lambda program, args, folder, *_: check_child(_split_line(args), folder, program),
    "os.system": check_child,
    **dict.fromkeys(("os.exec", "os.posix_spawn"), lambda path, args, *_: check_child(args, program=path)),
    "os.spawn": lambda _, path, args, *__: check_child(args, program=path),
    "os.startfile": lambda path, *_: check_child([path]),
    "pty.spawn": check_child,
    "_winapi.CreateProcess": lambda program, line, folder, *_: check_child(_split_line(line or program), folder),
}


def _split_line(line: Any) -> Any:
    """Return the words of a command line, which is a str on Windows only."""
    return [word.strip('"') for word in shlex.split(line, posix=False)] if isinstance(line, str) else line


def _classify_child(words: Any, folder: Any = None, program: Any = None) -> Child:
    try:
        if isinstance(words, str | bytes):
            child = classify_script(os.fsdecode(words), folder or ".")
        else:
            line = [os.fsdecode(word) for word in words]
            # The first word may be another name: a login shell is "-bash".
            child = classify([os.fsdecode(program or line[0]), *line[1:]], folder or ".")
        return _classify_by_cell(child) if child.stdin else child
    except Exception:  # an odd command line must not keep a program from starting
        return Child("a process", "other")


def _classify_by_cell(child: Child) -> Child:
    """Classify a program that reads its script from the cell, as ``%%bash`` and ``%%python`` do."""
    run = current_run()
    magic, _, body = run.cell.source.partition("\n") if run and run.cell else ("", "", "")
    if not magic.startswith("%%"):
        return child
    script = _classify_source(child.name, body) if "py" in child.name else classify_script(body)
    return script if script.kind == "client" else child


def classify(words: Sequence[str], folder: str | os.PathLike[str] = ".", _outer: tuple[str, ...] = ()) -> Child:
    """Classify a command line: the program and its arguments. Paths of scripts are relative to the working `folder`.

    `_outer` are the programs and scripts that start it.
    """
    program = words[0].replace("\\", "/").rpartition("/")[2] if words else ""
    name, rest = program.lower().removesuffix(".exe"), list(words[1:])
    if not name or len(_outer) > _MAX_DEPTH:
        return Child(name or "a process", "other")
    if name in _SHELLS:
        return _classify_shell(name, rest, Path(folder), _outer)
    if re.fullmatch(_PYTHON, program):
        return _classify_python(name, rest, Path(folder))
    if name in _WRAPPERS:
        inner = _skip_options(rest, _WRAPPERS[name])
        inner = inner[1:] if name == "timeout" else inner  # after the duration
        return classify(inner, folder, (*_outer, name)) if inner else Child(name, "other")
    if name == "uv" and "run" in rest[:2]:
        return classify(_skip_options(rest[rest.index("run") + 1 :]), folder, (*_outer, name))
    if name in ("uvx", "pipx") and (inner := _skip_options(rest[rest.index("run") + 1 :] if "run" in rest else rest)):
        child = classify(inner, folder, (*_outer, name))
        return child if child.kind == "client" else Child(f"{name} {inner[0]}", "other")
    if name == "git":
        return _classify_git(rest)
    if name in _INSTALLERS:
        asks_version = rest[:1] in (["--version"], ["-V"])
        return Child(name, "harmless") if asks_version else Child(" ".join([name, *rest[:1]]), "other")
    if name in _CLIENTS:
        return Child(f"{name} {rest[0]}", "other") if rest and _stays_local(name, rest) else Child(name, "client")
    if name in _HARMLESS:
        return Child(name, "harmless")
    return _classify_executable(words[0], name, Path(folder), _outer)


def classify_script(text: str, folder: str | os.PathLike[str] = ".", _outer: tuple[str, ...] = ()) -> Child:
    """Classify a shell's script by the first network client in it, else by the first command that is not harmless."""
    # A script that calls itself is not examined again.
    children = [classify(words, folder, (*_outer, text)) for words in _commands(text) if text not in _outer]
    return max(children, key=lambda child: _KINDS.index(child.kind), default=Child("a shell", "harmless"))


def imported_library(source: str, folder: Path | None = None, _visited: set[Path] | None = None) -> str | None:
    """Return the first network library that Python source imports, itself or through modules in `folder`.

    None for a source that imports nbreplay, since its calls are recorded and replayed.
    """
    visited = set[Path]() if _visited is None else _visited
    names = list(_imports(source))
    prefixes = [prefix for name in names for prefix in (name.partition(".")[0], ".".join(name.split(".")[:2]))]
    if "nbreplay" in prefixes:
        return None
    library = next((prefix for prefix in prefixes if prefix in _NETWORK_LIBRARIES), None)
    if library is not None or folder is None:
        return library
    for name in names:
        module = Path(folder, *name.strip(".").split("."))
        for path in (module.with_suffix(".py"), module / "__init__.py"):
            if path not in visited and len(visited) < _MAX_FILES and (text := _read_text(path)) is not None:
                visited.add(path)
                if library := imported_library(text, folder, visited):
                    return library
    return None


def _imports(source: str) -> Iterator[str]:
    for match in re.finditer(_IMPORT, source):
        names = [item.split()[0] for item in (match["modules"] or match["names"]).split(",") if item.strip()]
        if match["modules"]:
            yield from names
        elif match["module"]:
            yield from (match["module"], *(f"{match['module']}.{name}" for name in names if name.isidentifier()))


def _read_text(path: Path) -> str | None:
    with contextlib.suppress(OSError, ValueError):
        if path.is_file() and path.stat().st_size <= _MAX_SIZE:
            return path.read_text(encoding="utf-8", errors="replace")
    return None


def _skip_options(words: list[str], with_value: str = "") -> list[str]:
    """Return the words after leading options and assignments; `with_value` lists the options that take a value."""
    while words and re.match(rf"-.|{_ASSIGNMENT}", words[0]):
        words = words[2 if words[0] in with_value.split() else 1 :]
    return words


def _stays_local(name: str, rest: list[str]) -> bool:
    return (
        all(word in ("--version", "-v", "-V", "--help", "-h", "version") for word in rest)
        or (name in _JAVASCRIPT_INSTALLERS and rest[0] in _JAVASCRIPT_INSTALLS)
        or (name == "rsync" and not any(":" in word for word in rest))
    )


def _classify_git(rest: list[str]) -> Child:
    inner = _skip_options(rest, "-C -c --git-dir --work-tree --exec-path --namespace")
    command = inner[0] if inner else ""
    remote = command in _GIT_REMOTE or (command == "remote" and bool({"update", "show", "prune"}.intersection(inner)))
    return Child(f"git {command}".rstrip(), "client" if remote else "other")


def _classify_shell(name: str, rest: list[str], folder: Path, outer: tuple[str, ...]) -> Child:
    while rest and rest[0][:1] in "-+" and len(rest[0]) > 1:
        option, *rest = rest
        if option in ("-o", "+o", "--rcfile", "--init-file"):
            rest = rest[1:]
        elif not option.startswith("--") and "c" in option:
            return classify_script(rest[0], folder, outer) if rest else Child(name, "other")
        elif not option.startswith("--") and "s" in option:
            return Child(name, "other", stdin=True)
    if not rest or rest[0] == "-":
        return Child(name, "other", stdin=True)
    child = classify_script(_read_text(folder / rest[0]) or "", folder, outer)
    return child if child.kind == "client" else Child(f"{name} {os.path.basename(rest[0])}", "other")


def _classify_python(name: str, rest: list[str], folder: Path) -> Child:
    if "--multiprocessing-fork" in rest or any("multiprocessing.forkserver" in word for word in rest[:3]):
        return Child(MULTIPROCESSING, "other")
    while rest and rest[0].startswith("-") and rest[0] != "-":
        option, *rest = rest
        if option in ("-X", "-W", "--check-hash-based-pycs"):
            rest = rest[1:]
        elif option in ("-V", "-VV", "--version", "-h", "--help"):
            return Child(f"{name} {option}", "harmless")
        elif flag := re.match(r"-[^-cmWX]*([cm])(.*)", option, re.DOTALL):
            value = flag[2] or next(iter(rest), "")
            if flag[1] == "m":
                return _classify_module(name, value, rest, folder)
            if "multiprocessing.resource_tracker" in value:
                return Child("the resource tracker of multiprocessing", "harmless")
            return _classify_source(f"{name} -c", value, folder)
    if not rest or rest[0] == "-":
        return Child(name, "other", stdin=True)
    script = folder / rest[0]
    if script.is_dir():
        script /= "__main__.py"
    return _classify_source(f"{name} {os.path.basename(rest[0])}", _read_text(script) or "", script.parent)


def _classify_source(name: str, source: str, folder: Path | None = None) -> Child:
    library = imported_library(source, folder)
    return Child(f"{name} that imports {library}", "client") if library else Child(name, "other")


def _classify_module(python: str, module: str, rest: list[str], folder: Path) -> Child:
    root = module.partition(".")[0]
    if not root:
        return Child(python, "other")
    if root == "nbreplay":
        return Child("nbreplay", "harmless")
    if root in _INSTALLERS or root == "ensurepip":
        return Child(" ".join([module, *rest[1:2]]), "other")
    if root in _NETWORK_LIBRARIES:
        return Child(f"{python} -m {module}", "client")
    path = folder.joinpath(*module.split("."))
    source = _read_text(path.with_suffix(".py")) or _read_text(path / "__main__.py") or ""
    return _classify_source(f"{python} -m {module}", source, folder)


def _classify_executable(program: str, name: str, folder: Path, outer: tuple[str, ...]) -> Child:
    """Classify a program that may be a script, as the commands that Python packages install are."""
    path = folder / program if "/" in program else Path(shutil.which(program) or "")
    text = _read_text(path) or ""
    if text.startswith("#!"):
        interpreter = text[2:].partition("\n")[0].split()
        words = [*interpreter[1:], ""] if interpreter[:1] == ["/usr/bin/env"] else [*interpreter, ""]
        command = os.path.basename(words[0])
        if re.fullmatch(_PYTHON, command):
            return _classify_source(name, text, path.parent)
        child = (
            classify_script(text, folder, outer) if command in _SHELLS else classify(words[:1], folder, (*outer, name))
        )
        if child.kind == "client":
            return Child(f"{name}, a script of {child.name}", "client")
    return Child(name, "other")


def _commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each command of a shell's script, those of substitutions first, without assignments."""
    text = re.sub(_HEREDOC, r"\3", text.replace("\\\n", " "))
    text = "\n".join(line for line in text.split("\n") if not line.lstrip().startswith("#"))
    for match in re.finditer(_SUBSTITUTION, re.sub(r"'[^']*'", "", text)):
        yield from _commands(next(group for group in match.groups() if group is not None))
    command: list[str] = []
    for word in [*_split_words(text), "\n"]:
        if word and not word.strip(_SEPARATORS):
            if command:
                yield command
            command = []
        elif command or not (not word or word in _KEYWORDS or re.match(_ASSIGNMENT, word)):
            command.append(word)


def _split_words(text: str) -> list[str]:
    lexer = shlex.shlex(text, posix=True, punctuation_chars=_SEPARATORS)
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t\r", True, ""
    try:
        return list(lexer)
    except ValueError:  # unbalanced quotes
        return re.sub(f"([{_SEPARATORS}])", r" \1 ", text).replace("\n", " \n ").split(" ")
