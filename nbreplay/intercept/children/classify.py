"""Command lines of child processes: which start a network client, which are harmless.

The guard does not see what a child process sends. Only the command line is examined: the text after a shell's ``-c``,
the script of a shell or of Python, and what that script imports. Variables of a shell are not expanded.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple


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
_PYTHON = re.compile(r"(?:i?python|pypy)[\d.]*w?t?(?:\.exe)?")
_IMPORT = re.compile(
    r"(?:^|[;\n:])[ \t]*"
    r"(?:from[ \t]+(?P<module>\.*[\w.]*)[ \t]+import[ \t]+(?P<names>[\w, \t]+|\()|import[ \t]+(?P<modules>[\w., \t]+))"
)
_KEYWORDS = _names("! { do elif else if then until while")
_SUBSTITUTION = re.compile(r"\$\(([^()]*)\)|`([^`]*)`|[<>]\(([^()]*)\)")
_SINGLE_QUOTED = re.compile(r"'[^']*'")
_HEREDOC = re.compile(r"<<-?[ \t]*(['\"]?)(\w+)\1(.*?)\n.*?^[ \t]*\2[ \t]*$", re.DOTALL | re.MULTILINE)
_ASSIGNMENT = re.compile(r"\w+\+?=")
_SEPARATORS = ";&|()\n"


class Child(NamedTuple):
    """A child process, classified by its command line."""

    name: str  # a few words for messages
    kind: str  # "client", "other" or "harmless"
    stdin: bool = False  # a shell or Python that reads its script from standard input


def classify(words: Sequence[str], folder: str | os.PathLike[str] = ".", _depth: int = 0) -> Child:
    """Classify a command line: the program and its arguments. Paths of scripts are relative to the working `folder`."""
    if not words or not words[0]:
        return Child("a process", "other")
    program = words[0].replace("\\", "/").rpartition("/")[2]
    name, rest = program.lower().removesuffix(".exe"), list(words[1:])
    if _depth > _MAX_DEPTH:
        return Child(name, "other")
    if name in _SHELLS:
        return _classify_shell(name, rest, Path(folder), _depth)
    if _PYTHON.fullmatch(program):
        return _classify_python(name, rest, Path(folder))
    if name in _WRAPPERS:
        inner = _unwrap(name, rest)
        return classify(inner, folder, _depth + 1) if inner else Child(name, "other")
    if name == "uv" and "run" in rest[:2]:
        return classify(_skip_options(rest[rest.index("run") + 1 :]), folder, _depth + 1)
    if name in ("uvx", "pipx") and (inner := _skip_options(rest[rest.index("run") + 1 :] if "run" in rest else rest)):
        child = classify(inner, folder, _depth + 1)
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
    return _classify_executable(words[0], name, Path(folder), _depth)


def classify_script(text: str, folder: str | os.PathLike[str] = ".", _depth: int = 0) -> Child:
    """Classify a shell's script by the first network client in it, else by its first command that is not harmless."""
    children = []
    for words in _commands(text):
        child = classify(words, folder, _depth + 1)
        if child.kind == "client":
            return child
        children.append(child)
    others = [child for child in children if child.kind == "other"]
    return next(iter(others or children[::-1]), Child("a shell", "harmless"))


def imported_library(source: str, folder: Path | None = None, _visited: set[Path] | None = None) -> str | None:
    """Return the first network library that Python source imports, itself or through modules in `folder`.

    None for a source that imports nbreplay, since its calls are recorded and replayed.
    """
    visited = set[Path]() if _visited is None else _visited
    names = list(_imports(source))
    if any(name.partition(".")[0] == "nbreplay" for name in names):
        return None
    for name in names:
        parts = name.split(".")
        for prefix in (parts[0], ".".join(parts[:2])):
            if prefix in _NETWORK_LIBRARIES:
                return prefix
    for name in names if folder else ():
        module = Path(folder or "", *name.strip(".").split("."))
        for path in (module.with_suffix(".py"), module / "__init__.py"):
            if path not in visited and len(visited) < _MAX_FILES and (text := _read_text(path)) is not None:
                visited.add(path)
                if library := imported_library(text, folder, visited):
                    return library
    return None


def _imports(source: str) -> Iterator[str]:
    for match in _IMPORT.finditer(source):
        if match["modules"]:
            yield from (item.split()[0] for item in match["modules"].split(",") if item.split())
        elif match["module"]:
            yield match["module"]
            names = (item.split()[0] for item in match["names"].split(",") if item.split())
            yield from (f"{match['module']}.{name}" for name in names if name.isidentifier())


def _read_text(path: Path) -> str | None:
    with contextlib.suppress(OSError, ValueError):
        if path.is_file() and path.stat().st_size <= _MAX_SIZE:
            return path.read_text(encoding="utf-8", errors="replace")
    return None


def _skip_options(words: list[str], with_value: str = "") -> list[str]:
    """Return the words after leading options; `with_value` lists the options that take a value."""
    while words and words[0].startswith("-") and words[0] != "-":
        words = words[2 if words[0] in with_value.split() else 1 :]
    return words


def _unwrap(name: str, rest: list[str]) -> list[str]:
    inner = _skip_options(rest, _WRAPPERS[name])
    if name == "timeout":
        inner = inner[1:]
    while name in ("env", "sudo") and inner and re.match(r"\w+=", inner[0]):
        inner = inner[1:]
    return inner


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


def _classify_shell(name: str, rest: list[str], folder: Path, depth: int) -> Child:
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
    child = classify_script(_read_text(folder / rest[0]) or "", folder, depth)
    return child if child.kind == "client" else Child(f"{name} {os.path.basename(rest[0])}", "other")


def _classify_python(name: str, rest: list[str], folder: Path) -> Child:
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
            return _classify_source(f"{name} -c", source, folder)
        elif "m" in option:
            return _classify_module(name, option.partition("m")[2] or (rest[0] if rest else ""), rest, folder)
    if not rest or rest[0] == "-":
        return Child(name, "other", stdin=True)
    script = folder / rest[0]
    if script.is_dir():
        script /= "__main__.py"
    return _classify_source(f"{name} {os.path.basename(rest[0])}", _read_text(script) or "", script.parent)


def _classify_source(name: str, source: str, folder: Path) -> Child:
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


def _classify_executable(program: str, name: str, folder: Path, depth: int) -> Child:
    """Classify a program that may be a script, as the commands that Python packages install are."""
    path = folder / program if "/" in program else shutil.which(program)
    text = _read_text(Path(path)) if path else None
    if path and text and text.startswith("#!"):
        interpreter = text[2:].partition("\n")[0].split()
        words = [*interpreter[1:], ""] if interpreter[:1] == ["/usr/bin/env"] else [*interpreter, ""]
        command = os.path.basename(words[0])
        if _PYTHON.fullmatch(command):
            return _classify_source(name, text, Path(path).parent)
        child = classify_script(text, folder, depth) if command in _SHELLS else classify(words[:1], folder, depth + 1)
        if child.kind == "client":
            return Child(f"{name}, a script of {child.name}", "client")
    return Child(name, "other")


def _commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each command of a shell's script, those of substitutions first, without assignments."""
    text = _HEREDOC.sub(r"\3", text.replace("\\\n", " "))
    text = "\n".join(line for line in text.split("\n") if not line.lstrip().startswith("#"))
    for match in _SUBSTITUTION.finditer(_SINGLE_QUOTED.sub("", text)):
        yield from _commands(next(group for group in match.groups() if group is not None))
    command: list[str] = []
    for word in [*_split_words(text), "\n"]:
        if word and not word.strip(_SEPARATORS):
            if command:
                yield command
            command = []
        elif command or not (not word or word in _KEYWORDS or _ASSIGNMENT.match(word)):
            command.append(word)


def _split_words(text: str) -> list[str]:
    lexer = shlex.shlex(text, posix=True, punctuation_chars=_SEPARATORS)
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t\r", True, ""
    try:
        return list(lexer)
    except ValueError:  # unbalanced quotes
        return re.sub(f"([{_SEPARATORS}])", r" \1 ", text).replace("\n", " \n ").split(" ")
