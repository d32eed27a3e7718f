"""Programs that are not Python: what they ask is recorded and replayed; what they would send besides is refused."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nbreplay as nr
from nbreplay.core.log import find_uncovered
from nbreplay.intercept.processes import local_server
from tests.clients import KEY, outcomes, sdk
from tests.provider import Provider

pytest.importorskip("uvicorn", reason="the local server needs more packages: pip install -e '.[serve]'")

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
BODY = json.dumps({"model": "test/a", "messages": [{"role": "user", "content": "PROMPT"}]})
_HTTP = """
const http = require("http");
const request = http.request(`${process.env.URL}/chat/completions`, {method: "POST"}, (answer) => {
  let text = "";
  answer.on("data", (data) => (text += data)).on("end", () => console.log(text));
});
request.end(process.env.BODY);
"""
_FETCH = """
fetch(process.env.URL + "/chat/completions", {method: "POST", body: process.env.BODY})
  .then((answer) => answer.text()).then(console.log);
"""
_OPENAI = """
const OpenAI = require("openai");
const asked = JSON.parse(process.env.BODY);
(async () => {
  const client = new OpenAI();
  console.log(JSON.stringify(await client.chat.completions.create(asked)));
  const stream = await client.chat.completions.create({...asked, stream: true});
  for await (const chunk of stream) console.log(JSON.stringify(chunk));
})();
"""


def run(words: list[str], prompt: str, **environ: str) -> str:
    """Run a program that sends `BODY` with a prompt, and return what it prints."""
    body = BODY.replace("PROMPT", prompt)
    words = [word.replace("BODY", body) if word == "BODY" else word for word in words]
    return subprocess.run(words, env={**os.environ, "BODY": body, **environ}, capture_output=True, text=True).stdout


def by_curl(url: str, prompt: str) -> str:
    """Ask at the address of a variable."""
    line = 'curl -sS "$OPENAI_BASE_URL/chat/completions" -H "Authorization: Bearer $OPENAI_API_KEY" -d "$BODY"'
    return run(["sh", "-c", line], prompt)


def by_curl_through_proxy(url: str, prompt: str) -> str:
    return run(["curl", "-sS", f"{url}/chat/completions", "-d", "BODY"], prompt)


def by_wget(url: str, prompt: str) -> str:
    if shutil.which("wget") is None:
        pytest.skip("wget is not installed")
    return run(["wget", "-qO-", f"{url}/chat/completions", "--content-on-error", "--post-data", "BODY"], prompt)


def by_node(script: str) -> Callable[[str, str], str]:
    def ask(url: str, prompt: str) -> str:
        if shutil.which("node") is None:
            pytest.skip("node is not installed")
        return run(["node", "-e", script], prompt, URL=url)

    return ask


def by_openai(url: str, prompt: str) -> str:
    check = ["node", "-e", "require.resolve('openai')"]
    if shutil.which("node") is None or subprocess.run(check, capture_output=True).returncode:
        pytest.skip(
            "npm's openai is not installed: npm install --prefix DIR openai, and set NODE_PATH=DIR/node_modules"
        )
    return by_node(_OPENAI)(url, prompt)


def by_claude(url: str, prompt: str) -> str:
    library = pytest.importorskip("claude_agent_sdk", reason="pip install -e '.[sdks]'")
    if not list(Path(library.__file__).parent.glob("_bundled/claude*")):
        pytest.skip("claude-agent-sdk comes without its command line here")

    async def ask() -> list[Any]:
        options = library.ClaudeAgentOptions(model="test/a", max_turns=1, system_prompt="Be brief.")
        try:
            return [message async for message in library.query(prompt=prompt, options=options)]
        except library.ClaudeSDKError as error:  # of a miss, after the message that says so
            return [error]

    messages = [m for m in asyncio.run(ask()) if type(m).__name__ in ("AssistantMessage", "ResultMessage")]
    return str([getattr(message, "content", None) or message.result for message in messages])


PROGRAMS = {
    "curl": (by_curl, 1),
    "curl through the proxy": (by_curl_through_proxy, 1),
    "wget": (by_wget, 1),
    "node, fetch": (by_node(_FETCH), 1),
    "node, http": (by_node(_HTTP), 1),
    "node, openai": (by_openai, 2),
    "claude-agent-sdk": (by_claude, 1),
}
"""How each asks the provider, and how many calls that takes."""


@pytest.fixture(autouse=True)
def variables(provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs find the provider and a key in variables, and nobody's settings."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("OPENAI_BASE_URL", provider.url)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", provider.url.removesuffix("/v1"))
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(name, KEY)


@pytest.mark.full(quick=["curl", "node, fetch"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_is_recorded_and_replayed_with_the_provider_gone(
    name: str, store: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, calls = PROGRAMS[name]
    with nr.session(store, mode="record") as session:
        recorded = ask(provider.url, "hello")
    assert "answer" in recorded
    assert outcomes(session) == ["recorded"] * calls
    hits = provider.hits
    provider.close()
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    with nr.session(store, mode="replay") as session:
        assert ask(provider.url, "hello") == recorded
        assert outcomes(session) == ["replayed"] * calls
        answer = ask(provider.url, "goodbye")
    assert recorded != answer
    assert provider.hits == hits
    assert find_uncovered([session.log], new=True) == []
    missing = [call.note for call in session.interactions if call.outcome == "missing"]
    assert missing
    assert 'recorded "hello", asked "goodbye"' in missing[0]
    assert "OPENAI_BASE_URL" in os.environ
    assert not any(name.lower() in ("http_proxy", "node_options") for name in os.environ)


def test_a_call_belongs_to_the_cell_that_has_started_the_program(store: Path, provider: Provider) -> None:
    from nbreplay.core.cell import Cell, Run, enter_run, leave_run

    with nr.session(store, mode="record") as session:
        run = Run(Cell("one", 1, "!curl"))
        enter_run(run)
        program = subprocess.Popen(
            ["sh", "-c", "read line; curl -sS $OPENAI_BASE_URL/models"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        leave_run(run)
        enter_run(other := Run(Cell("two", 2, "'another cell'")))
        program.communicate(b"\n")
        leave_run(other)
    (call,) = session.interactions
    assert call.cell == run.cell


@needs_node
@pytest.mark.parametrize("library", ["net", "tls"])
def test_a_connection_of_node_is_refused_unless_it_is_to_itself(library: str, store: Path, provider: Provider) -> None:
    script = """
    const server = require("net").createServer((socket) => socket.end("own")).listen(0, () => {
      require("net").connect(server.address().port).on("data", (data) => console.log(String(data))).on("close", () => {
        server.close();
        require("LIBRARY").connect(PORT, "127.0.0.1").on("error", (error) => console.log(error.message));
      });
    });
    """.replace("LIBRARY", library).replace("PORT", str(provider.server_address[1]))
    with nr.session(store, mode="replay") as session:
        said = subprocess.run(["node", "-e", script], capture_output=True, text=True).stdout
    assert said.startswith("own\nnbreplay")
    assert outcomes(session) == ["blocked"]
    assert session.interactions[0].host == f"127.0.0.1:{provider.server_address[1]}"
    assert provider.hits == 0


@pytest.mark.parametrize("line", ["curl -sS https://api.example.invalid/v1", "curl --noproxy '*' -sS $OPENAI_BASE_URL"])
def test_what_the_server_cannot_answer_is_refused(line: str, store: Path, provider: Provider) -> None:
    with nr.session(store, mode="replay") as session:
        try:
            subprocess.run(line, shell=True, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pass
        else:
            pytest.fail("it was let through")
    assert outcomes(session) == ["blocked"]
    assert "curl" in session.interactions[0].note
    assert provider.hits == 0


def test_without_the_server_a_network_client_is_refused_and_the_remedy_named(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_server, "is_installed", lambda: False)
    with nr.session(store, mode="replay") as session, pytest.raises(OSError, match=r"pip install 'nbreplay\[serve\]'"):
        subprocess.run(["curl", "http://127.0.0.1:9"])
    assert outcomes(session) == ["blocked"]


@pytest.mark.parametrize("package", ["starlette", "uvicorn", "websockets"])
def test_the_server_needs_each_of_its_packages(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else found(name))
    assert not local_server.is_installed.__wrapped__()


def test_a_child_that_is_allowed_gets_no_variables(store: Path, provider: Provider) -> None:
    with nr.session(store, mode="replay", allow_children=True) as session:
        assert (
            "test/a" in subprocess.run(["curl", "-sS", f"{provider.url}/models"], capture_output=True, text=True).stdout
        )
    assert outcomes(session) == ["live"]
    assert provider.hits == 1


@pytest.mark.full
def test_a_python_below_a_script_has_its_own_variables_and_no_server(store: Path, provider: Provider) -> None:
    program = (
        "import os, urllib.request as r; url = os.environ['OPENAI_BASE_URL']; r.urlopen(url + '/models').read(); "
        "print(url, 'NBREPLAY_GIVEN' in os.environ)"
    )
    line = f'curl -sS "$OPENAI_BASE_URL/models" -o curl.json; "{sys.executable}" -c "{program}"'
    with nr.session(store, mode="record") as session:
        done = subprocess.run(line, shell=True, capture_output=True, text=True)
        assert (done.stdout, done.stderr) == (f"{provider.url} False\n", "")
        assert outcomes(session) == ["recorded"] * 2
    assert {call.take.sdk.partition(" ")[0] for call in session.interactions if call.take} == {"curl", "http.client"}


@pytest.mark.full
def test_a_notebook_fails_on_a_changed_question_of_curl(store: Path, provider: Provider, capfd: Any) -> None:
    import nbformat

    from nbreplay.cli.main import main

    cell = '%%bash\ncurl -sS "$OPENAI_BASE_URL/chat/completions" -H "Authorization: Bearer $OPENAI_API_KEY" -d \'BODY\''
    for prompt, mode, status in (("hello", "record", 0), ("hello", "replay", 0), ("goodbye", "replay", 1)):
        source = cell.replace("BODY", BODY.replace("PROMPT", prompt))
        made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source, id="one")])
        nbformat.write(made, "notebook.ipynb")
        options = ["--mode", mode, "--no-compare"] if mode == "replay" else ["--mode", mode, "--update"]
        assert main(["run", "notebook.ipynb", *options]) == status
    assert 'recorded "hello", asked "goodbye"' in capfd.readouterr().out
    assert provider.hits == 1


@pytest.mark.full
@needs_node
def test_node_and_python_record_the_same_and_replay_each_other(store: Path, tmp_path: Path, provider: Provider) -> None:
    def by_python(url: str) -> None:
        with sdk("sync", url) as client:
            for stream in ({}, {"stream": True}):
                answer = client.chat.completions.create(**json.loads(BODY.replace("PROMPT", "hello")), **stream)
                assert "answer" in str([chunk.to_dict() for chunk in answer] if stream else answer.to_dict())

    files: dict[str, dict[str, Any]] = {}
    for name, ask in (("node", lambda url: by_openai(url, "hello")), ("python", by_python)):
        with Provider() as fresh, pytest.MonkeyPatch.context() as patch:
            patch.setenv("OPENAI_BASE_URL", fresh.url)
            with nr.session(tmp_path / name, mode="record"):
                ask(fresh.url)
        files[name] = {path.name: _without_times(path) for path in (tmp_path / name).glob("*.json")}
    assert files["node"] == files["python"]
    assert len(files["node"]) == 2
    provider.close()
    with nr.session(tmp_path / "node", mode="replay") as session:
        by_python(provider.url)
        assert outcomes(session) == ["replayed"] * 2
    with nr.session(tmp_path / "python", mode="replay") as session:
        assert "answer 1" in by_openai(provider.url, "hello")
        assert outcomes(session) == ["replayed"] * 2


def _without_times(path: Path) -> Any:
    recording = json.loads(path.read_text())
    for take in recording["takes"]:
        for name in ("recorded_at", "sdk", "elapsed_ms", "host"):
            take.pop(name, None)
        take["chunks"] = [chunk[1:] for chunk in take.get("chunks", ())]
    return recording
