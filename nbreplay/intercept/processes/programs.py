"""The programs of child processes, classified by their command lines alone: network clients, harmless ones, others.

The text after a shell's ``-c``, the script of a shell or of Python, and what that script imports are examined.
Variables of a shell are not expanded. The same reading tells a runner of notebooks which scripts only install packages.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shlex
import shutil
import site
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

MULTIPROCESSING = "a process of multiprocessing"


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Programs whose purpose is to send something, or to run a program that does. The first ones call the addresses and the
# proxies that environment variables name, so that nbreplay's own server can answer them.
_PROXIED = _names("""
    aria2c curl wget wget2 xh xhs
    bun bunx deno node nodejs npm npx pnpm ts-node tsx yarn
    claude codex gemini opencode qwen
""")
_CLIENTS = _PROXIED | _names("""
    ftp http https lftp nc ncat netcat rsync scp sftp socat ssh telnet
    dig host mtr nslookup ping ping6 tracepath traceroute whois
    aichat aider amp auggie copilot crush cursor-agent fabric goose llm mods ollama
    anthropic hf huggingface-cli openai sgpt
    aws az databricks docker doctl fly gcloud gh glab gsutil heroku kubectl podman terraform vercel
    clickhouse-client mariadb mongosh mysql psql redis-cli
""")
_GIT_REMOTE = _names("archive clone fetch fetch-pack ls-remote lfs pull push send-pack submodule")
_INSTALLERS = _names("apk apt apt-get brew conda dnf mamba micromamba pip pip3 pipx pixi poetry uv uvx yum")
_JAVASCRIPT_INSTALLERS = _names("bun npm pnpm yarn")
INSTALLERS = _INSTALLERS | _JAVASCRIPT_INSTALLERS
"""Programs that install packages."""
_INSTALLS = _names("add ci i install purge reinstall remove sync uninstall update upgrade")
# What stands beside an install in a shell's script, and has no effect without it.
_FILLERS = _names(": cat cd clear echo export grep head printf set tail tee true")
_JAVASCRIPT_INSTALLS = _names("add ci i install prune remove uninstall update upgrade")
# Built into shells, used on files and text, or asked by libraries about the machine.
_HARMLESS = _names("""
    : [ [[ cd exit export false pwd read set shift test true umask unset wait
    basename cat chmod cmp comm cp cut date df diff dirname du echo expr fold free grep gunzip gzip head jq ln ls md5sum
    mkdir mktemp mv nl paste printenv printf readlink realpath rm rmdir seq sha256sum sleep sort stat tac tail tee touch
    tr tree uniq uptime wc zcat
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

_PTH = "nbreplay.pth"
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
# How a program goes around the proxies that variables name; in a script also without them.
_PAST_PROXY = re.compile(
    r"-[sSfLkvgi]*x|--(no-?|pre)?proxy|--(abstract-)?unix-socket|--socks|(-e|--execute=)?use_proxy"
)
_PAST_VARIABLES = re.compile(r"(?i)(\b|_)(no|https?|all)_proxy\b|\benv\s+(-\w*[iu]|-\s)|\bnode_options\b|\bexec\s+-c")
_KINDS = ("harmless", "covered", "other", "proxied", "client")
SENDING = _KINDS[3:]
"""The kinds of programs that send something."""


class Child(NamedTuple):
    """A child process, classified by its command line."""

    name: str  # a few words for messages
    kind: str  # one of `_KINDS`; a Python that nbreplay is switched on in is covered
    stdin: bool = False  # a shell or Python that reads its script from standard input
    unknown: str = ""  # of a script that is proxied: a program in it that is not known
    otherwise: str = ""  # the kind of one that is covered, where it is not switched on


def calls_server(child: Child) -> bool:
    """Tell whether a child may call a server that variables name: not a Python, which is covered in other ways."""
    first = child.name.partition(" ")[0]
    is_other = child.kind == "other" and not (first in INSTALLERS or re.fullmatch(_PYTHON, first))
    return child.kind == "proxied" or (is_other and child.name != MULTIPROCESSING)


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
        return _cover(_classify_python(name, rest, Path(folder)), words[0], rest, Path(folder))
    if name in _WRAPPERS:
        inner = _skip_options(rest, _WRAPPERS[name])
        inner = inner[1:] if name == "timeout" else inner  # after the duration
        child = classify(inner, folder, (*_outer, name)) if inner else Child(name, "other")
        # These start it without its variables.
        is_bare = name == "sudo" or (name == "env" and re.match(r"-[iu-]?($|[A-Z])", rest[0]))
        return uncover(child) if is_bare else child
    if name == "uv" and "run" in rest[:2]:
        return classify(_skip_options(rest[rest.index("run") + 1 :]), folder, (*_outer, name))
    if name in ("uvx", "pipx") and (inner := _skip_options(rest[rest.index("run") + 1 :] if "run" in rest else rest)):
        child = classify(inner, folder, (*_outer, name))
        return child if child.kind in SENDING else Child(f"{name} {inner[0]}", "other")
    if name == "git":
        return _classify_git(rest)
    if name in _INSTALLERS:
        asks_version = rest[:1] in (["--version"], ["-V"])
        return Child(name, "harmless") if asks_version else Child(" ".join([name, *rest[:1]]), "other")
    if name in _CLIENTS:
        if rest and _stays_local(name, rest):
            return Child(f"{name} {rest[0]}", "other")
        return Child(name, "proxied" if name in _PROXIED and not any(map(_PAST_PROXY.match, rest)) else "client")
    if name in _HARMLESS:
        return Child(name, "harmless")
    return _classify_executable(words[0], name, Path(folder), _outer)


def classify_script(text: str, folder: str | os.PathLike[str] = ".", _outer: tuple[str, ...] = ()) -> Child:
    """Classify a shell's script by the first network client in it, else by the first command that is not harmless."""
    # A script that calls itself is not examined again.
    children = [classify(words, folder, (*_outer, text)) for words in _commands(text) if text not in _outer]
    child = max(children, key=lambda child: _KINDS.index(child.kind), default=Child("a shell", "harmless"))
    if child.kind == "proxied" and _PAST_VARIABLES.search(text):
        return Child(child.name, "client")
    unknown = next((other.name for other in children if other.kind == "other"), child.unknown)
    return child._replace(unknown=unknown) if child.kind == "proxied" else child


def is_install(text: str) -> bool:
    """Tell whether a shell's script installs packages, and does nothing else."""
    joined = re.sub(r"\d?>&\d?|&>>?", " ", text)  # "&" is not the end of a command here
    kinds = {_is_install(words) for words in _commands(joined)}
    return True in kinds and False not in kinds


def _is_install(words: list[str]) -> bool | None:
    """Tell whether a command installs packages; None for one that only accompanies an install."""
    name, rest = os.path.basename(words[0]).lower(), words[1:]
    if name in _WRAPPERS and (inner := _skip_options(rest, _WRAPPERS[name])):
        return _is_install(inner)
    if (re.fullmatch(_PYTHON, name) or name == "{sys.executable}") and rest[:1] == ["-m"] and rest[1:]:
        return _is_install(rest[1:])
    if name in _FILLERS:
        return None
    verbs = [word for word in rest if not word.startswith("-")][:2]
    return name in INSTALLERS and not _INSTALLS.isdisjoint(verbs)


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
    return child if child.kind in SENDING else Child(f"{name} {os.path.basename(rest[0])}", "other")


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
            return classify_source(f"{name} -c", value, folder)
    if not rest or rest[0] == "-":
        return Child(name, "other", stdin=True)
    script = folder / rest[0]
    if script.is_dir():
        script /= "__main__.py"
    return classify_source(f"{name} {os.path.basename(rest[0])}", _read_text(script) or "", script.parent)


def classify_source(name: str, source: str, folder: Path | None = None) -> Child:
    """Classify a Python program by the first network library that its source imports."""
    library = imported_library(source, folder)
    return Child(f"{name} that imports {library}", "client") if library else Child(name, "other")


def _cover(child: Child, program: str, rest: Sequence[str], folder: Path) -> Child:
    """Return a Python as covered if it has nbreplay, and reads its packages; installers go on by themselves."""
    options = itertools.takewhile(lambda word: word.startswith("-") and word[1:2] not in ("c", "m", "-", ""), rest)
    is_bare = any("S" in re.split("[WX]", option)[0] for option in options)
    is_installer = child.name.split()[0] in (*INSTALLERS, "ensurepip")
    if child.kind == "harmless" or is_bare or is_installer or not _has_nbreplay(program, folder):
        return child
    return child._replace(kind="covered", otherwise=child.kind)


def uncover(child: Child) -> Child:
    """Return a Python that is not switched on, whatever it has; any other child as it is."""
    return child._replace(kind=child.otherwise) if child.otherwise else child


def _has_nbreplay(program: str, folder: Path) -> bool:
    """Tell whether an interpreter switches nbreplay on: whether the file of the wheel is among its packages."""
    path = folder / program if "/" in program or "\\" in program else Path(shutil.which(program) or "")
    places = Path(os.path.abspath(path)).parent
    if places == Path(sys.executable or "/").parent:
        return any(os.path.isfile(os.path.join(each, _PTH)) for each in _own_packages())
    patterns = (f"lib/python3*/*-packages/{_PTH}", f"Lib/site-packages/{_PTH}")
    return any(True for pattern in patterns for _ in places.parent.glob(pattern))


def _own_packages() -> list[str]:
    return [*site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])]


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
    return classify_source(f"{python} -m {module}", source, folder)


def _classify_executable(program: str, name: str, folder: Path, outer: tuple[str, ...]) -> Child:
    """Classify a program that may be a script, as the commands that Python packages install are."""
    path = folder / program if "/" in program else Path(shutil.which(program) or "")
    text = _read_text(path) or ""
    if text.startswith("#!"):
        interpreter = text[2:].partition("\n")[0].split()
        words = [*interpreter[1:], ""] if interpreter[:1] == ["/usr/bin/env"] else [*interpreter, ""]
        command = os.path.basename(words[0])
        if re.fullmatch(_PYTHON, command):
            python = shutil.which(command) or "" if words[0] == command else words[0]
            return _cover(classify_source(name, text, path.parent), python, words[1:-1], folder)
        child = (
            classify_script(text, folder, outer) if command in _SHELLS else classify(words[:1], folder, (*outer, name))
        )
        if child.kind in SENDING:
            return Child(f"{name}, a script of {child.name}", child.kind, unknown=child.unknown)
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
