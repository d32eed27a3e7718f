"""Tables of programs and Python libraries by name: network clients, installers, shells, harmless ones."""

from __future__ import annotations

__all__ = [
    "CLIENTS",
    "GIT_REMOTE",
    "HARMLESS",
    "INSTALLERS",
    "INSTALLS",
    "NETWORK_LIBRARIES",
    "SHELLS",
    "WRAPPERS",
]


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


CLIENTS = _names("""
    aria2c curl ftp http https lftp nc ncat netcat rsync scp sftp socat ssh telnet wget wget2 xh xhs
    dig host mtr nslookup ping ping6 tracepath traceroute whois
    bun bunx deno node nodejs npm npx pnpm ts-node tsx yarn
    aichat aider amp auggie claude codex copilot crush cursor-agent fabric gemini goose llm mods ollama opencode qwen
    anthropic hf huggingface-cli openai sgpt
    aws az databricks docker doctl fly gcloud gh glab gsutil heroku kubectl podman terraform vercel
    clickhouse-client mariadb mongosh mysql psql redis-cli
""")
"""Network clients: what they are started for is to send something, or to run a program that does."""

GIT_REMOTE = _names("archive clone fetch fetch-pack ls-remote lfs pull push send-pack submodule")
"""Commands of git's that reach a remote."""

INSTALLERS = _names("apk apt apt-get brew conda dnf mamba micromamba pip pip3 pipx pixi poetry uv uvx yum")
INSTALLS = _names("add ci i install prune remove uninstall update upgrade")
"""Commands of package managers for JavaScript that install."""

HARMLESS = _names("""
    : [ [[ cd exit export false pwd set test true umask unset wait
    arch cc clang fc-list fc-match file gcc getconf hostname id ld ldconfig locale lsb_release nbreplay nproc objdump
    ps stty sw_vers sysctl system_profiler tput tty uname which whoami xcrun xdpyinfo
""")
"""What shells do themselves, and what libraries ask about the machine."""

SHELLS = _names("ash bash dash fish ksh sh zsh")

WRAPPERS = {
    "busybox": "",
    "chronic": "",
    "command": "",
    "env": "-u -C --unset --chdir",
    "exec": "-a",
    "ionice": "-c -n -p",
    "nice": "-n",
    "nohup": "",
    "setsid": "",
    "stdbuf": "-i -o -e",
    "sudo": "-u -g -C -D -h -p -r -t -T",
    "time": "-f -o",
    "timeout": "-k -s --kill-after --signal",
    "unbuffer": "",
    "watch": "-n",
    "xargs": "-a -d -E -I -L -n -P -s",
}
"""Programs that start the one that follows, each with its options that take a value."""

NETWORK_LIBRARIES = _names("""
    agents aiohttp anthropic autogen_core autogen_ext boto3 botocore claude_agent_sdk cohere crewai curl_cffi dspy
    fireworks google.genai google.generativeai groq grpc http.client httpx httpx2 huggingface_hub instructor
    langchain langchain_anthropic langchain_community langchain_core langchain_google_genai langchain_openai langgraph
    litellm llama_index mistralai ollama openai primp pycurl pydantic_ai replicate requests smolagents tavily together
    urllib.request urllib3 websockets
""")
"""Libraries that nbreplay hooks into, and SDKs over them: what a Python imports that is going to call a service."""
