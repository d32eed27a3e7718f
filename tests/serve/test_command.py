"""The command ``nbreplay serve``: what it prints and exports, the command that it runs, and its exit status."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbreplay.cli.main import main
from tests.provider import Provider

ASK = """
import os, sys, urllib.error, urllib.request
call = urllib.request.Request(os.environ["OPENAI_BASE_URL"] + sys.argv[1], headers={"authorization": "Bearer a-key"})
try:
    print(urllib.request.urlopen(call).read()[:30].decode())
except urllib.error.HTTPError as error:
    print(error.read().decode())
sys.exit(int(sys.argv[2]))
"""


def serve(*arguments: str, status: int = 0, path: str = "/models") -> int:
    return main(["serve", *arguments, "--", sys.executable, "-I", "-S", "-c", ASK, path, str(status)])


def to(provider: Provider) -> tuple[str, str]:
    return "--to", f"openai=http://127.0.0.1:{provider.port}"


def test_a_command_is_recorded_and_replayed_and_ends_with_its_status(
    store: Path, provider: Provider, capfd: pytest.CaptureFixture[str]
) -> None:
    assert serve(str(store), *to(provider)) == 0
    live = capfd.readouterr()
    assert live.out.startswith('{"object": "list"')
    assert live.err == "nbreplay: 0 replayed, 1 recorded, 0 missing\n"
    provider.close()
    assert serve(str(store), "--mode", "replay", status=7) == 7
    again = capfd.readouterr()
    assert (again.out, again.err) == (live.out, "nbreplay: 1 replayed, 0 recorded, 0 missing\n")
    assert serve(str(store), "--mode", "replay", status=7, path="/models/other") == 1
    missing = capfd.readouterr()
    assert '"type":"RecordingMissing"' in missing.out
    assert missing.err.startswith("nbreplay: no recorded answer for this")
    assert f"to fix   nbreplay serve {store} --mode auto" in missing.err
    assert missing.err.endswith("nbreplay: 0 replayed, 0 recorded, 1 missing\n")


def test_what_a_command_sends_through_a_tunnel_is_named_and_refused_under_replay(
    store: Path, provider: Provider, capfd: pytest.CaptureFixture[str]
) -> None:
    where = f"127.0.0.1:{provider.port}"
    call = f"import urllib.request\ntry: urllib.request.urlopen('https://{where}')\nexcept OSError: pass"
    command = ["--", sys.executable, "-Xu=hunter2", "-I", "-S", "-c", call]
    assert main(["serve", str(store), *command]) == 0
    err = capfd.readouterr().err
    assert re.match(rf"nbreplay: {where}: .* opens a tunnel, which nbreplay cannot record. It will not replay\n", err)
    assert "hunter2" not in err
    assert err.endswith("nbreplay: 0 replayed, 0 recorded, 0 missing; 1 answered live, not recorded\n")
    assert main(["serve", str(store), "--mode", "replay", *command]) == 1
    err = capfd.readouterr().err
    assert re.match(rf"nbreplay: blocked .*, which opens a tunnel to {where} during replay; nothing was sent", err)


def test_a_command_has_placeholders_of_keys_that_are_not_set(
    store: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "own")
    show = "import os; print(*(os.environ.get(n) for n in ('OPENAI_API_KEY', 'ANTHROPIC_API_KEY')))"
    assert main(["serve", str(store), "--", sys.executable, "-I", "-S", "-c", show]) == 0
    assert re.fullmatch(r"nbreplay-\S*placeholder\S*OPENAI_API_KEY own\n", capfd.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--", "no-such-command-at-all"], "no-such-command-at-all cannot be started: No such file or directory"),
        (["--to", "openai", "--", "true"], "--to openai is not of the form HOST=URL"),
        (["--to", "opnai=ftp://x", "--", "true"], "--to opnai=ftp://x is not of the form HOST=URL"),
        (["--port", "70000"], "--port: 70000 is not a port, which is a number up to 65535"),
        (["--speed", "slow", "--", "true"], "speed must be a positive number"),
        (["--port", "TAKEN", "--", "true"], "cannot be used: Address already in use. Pass another --port"),
        (["store", "true"], "Write -- before the command: true"),
    ],
)
def test_wrong_usage_says_what_is_wrong(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        arguments = [word.replace("TAKEN", str(taken.getsockname()[1])) for word in arguments]
        try:
            status = main(["serve", *arguments])
        except SystemExit as error:  # argparse
            status = int(str(error.code))
    assert status == 2
    assert message in capsys.readouterr().err


def test_a_forced_mode_goes_before_and_must_not_contradict(
    store: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NBREPLAY_MODE", "replay")
    assert serve(str(store), *to(provider)) == 1
    assert serve(str(store), "--mode", "auto") == 2
    assert "NBREPLAY_MODE is replay, and --mode is auto" in capfd.readouterr().err
    assert provider.hits == 0


@contextlib.contextmanager
def start(line: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Start a process, and end it where the test has not: what it leaves fails a later test."""

    def hear_interrupts() -> None:  # which what a shell starts in the background ignores
        signal.signal(signal.SIGINT, signal.default_int_handler)

    pipe = subprocess.PIPE
    with subprocess.Popen(line, stdout=pipe, stderr=pipe, text=True, preexec_fn=hear_interrupts) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.full(quick=1)
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_a_server_of_its_own_prints_what_to_export_and_ends_with_a_signal(
    end: signal.Signals, store: Path, provider: Provider
) -> None:
    line = [sys.executable, "-m", "nbreplay", "serve", str(store), *to(provider)]
    with start(line) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        match = re.fullmatch(r"export OPENAI_BASE_URL=(http://127\.0\.0\.1:\d+/\w+/openai/v1)\n", first)
        assert match is not None
        with urllib.request.urlopen(f"{match[1]}/models") as answer:
            assert answer.status == 200
        process.send_signal(end)
        out, err = process.communicate(timeout=60)
    assert all(row.startswith("export ") for row in out.splitlines())
    assert f"nbreplay serves {store} in mode auto at http://127.0.0.1:" in err
    assert err.endswith("nbreplay: 0 replayed, 1 recorded, 0 missing\n")
    assert process.returncode == 0


@pytest.mark.full
def test_a_command_gets_the_signals(store: Path) -> None:
    child = "import signal, time; signal.signal(15, lambda *_: exit(5)); print('ready', flush=True); time.sleep(60)"
    line = [sys.executable, "-m", "nbreplay", "serve", str(store), "--", sys.executable, "-c", child]
    with start(line) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 5
