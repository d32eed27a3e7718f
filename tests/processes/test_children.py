"""The Python processes that a session starts take part in it: their calls are recorded, replayed and counted."""

from __future__ import annotations

import concurrent.futures
import http.client
import json
import multiprocessing
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import nbreplay as nr
from nbreplay.core.cell import Cell, Run, enter_run, leave_run
from nbreplay.core.log import find_uncovered
from nbreplay.core.session import Session
from nbreplay.intercept.processes.channel import VARIABLE, encode_variable
from nbreplay.intercept.processes.child import left_alone
from nbreplay.intercept.processes.parent import parent
from nbreplay.notebook.status import badge
from tests.clients import outcomes
from tests.processes import worker
from tests.provider import spawn

ROOT = Path(__file__).parents[2]
GONE = "http://127.0.0.1:1/v1"


def python(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Run Python in the root of the project."""
    given = {"cwd": ROOT, "capture_output": True, "text": True, "check": False, "timeout": 300, **options}
    return subprocess.run([sys.executable, *words], **given)  # type: ignore[call-overload,no-any-return]


def answers(*words: str, **options: object) -> list[str]:
    """Return the answers that a child prints."""
    done = python(*words, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def made_by(session: Session) -> list[tuple[str, str]]:
    """Return the outcome and the process of each call."""
    return [(item.outcome, item.process) for item in session.interactions]


def test_a_script_is_recorded_and_replayed_and_its_miss_reaches_the_parent(store: Path) -> None:
    script = "tests/processes/worker.py"
    bare = {"PATH": os.environ["PATH"]}  # an environment of its own
    with spawn() as spawned:
        with nr.session(store, mode="auto") as session:
            first = answers("-m", "tests.processes.worker", spawned.url, "a", "b", "a")
        assert made_by(session) == [("recorded", "python -m tests.processes.worker")] * 3
        assert spawned.hits == 3
    with nr.session(store, mode="replay") as session:
        assert answers("-m", "tests.processes.worker", GONE, "a", "b", "a", env=bare) == first
        missed = python(script, GONE, "c", env=bare | {"PYTHONPATH": str(ROOT)})
    assert missed.returncode == 1
    assert 'recorded "a", asked "c"' in missed.stderr or 'recorded "b", asked "c"' in missed.stderr
    assert made_by(session)[:3] == [("replayed", "python -m tests.processes.worker")] * 3
    text = badge(session.interactions, mode="replay", store="recordings")["text/plain"]
    assert "3 replayed, 1 missing · 3 by python -m tests.processes.worker · 1 by python worker.py" in text
    missing = session.interactions[-1]
    assert (missing.outcome, missing.process) == ("missing", "python worker.py")
    assert missing.note in missed.stderr, "the whole explanation"
    replayed = session.interactions[0]
    assert replayed.take is not None
    assert replayed.request is not None
    assert replayed.request.body["messages"][0]["content"] == "a", "the parent shows it as its own"
    assert not find_uncovered([session.log])
    assert VARIABLE not in os.environ


def asked(url: str, *texts: str) -> list[tuple[str, str]]:
    """Return the work items of a pool."""
    return [(url, text) for text in texts]


def record(store: Path, *texts: str) -> list[str]:
    """Record the answers to questions in this process; the provider is gone afterwards."""
    with spawn() as spawned, nr.session(store, mode="record"):
        return [worker.ask(spawned.url, text) for text in texts]


def pool(method: str) -> Callable[[Sequence[tuple[str, str]]], list[str]]:
    """Return how a pool of multiprocessing asks."""

    def ask(items: Sequence[tuple[str, str]]) -> list[str]:
        with multiprocessing.get_context(method).Pool(2) as workers:
            return workers.map(worker.ask_here, items, chunksize=1)

    return ask


def executor(items: Sequence[tuple[str, str]]) -> list[str]:
    """Ask by an executor of processes."""
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as workers:
        return list(workers.map(worker.ask_here, items))


def loky(items: Sequence[tuple[str, str]]) -> list[str]:
    """Ask by joblib."""
    joblib = pytest.importorskip("joblib", reason="pip install joblib")
    return list(joblib.Parallel(n_jobs=2)(joblib.delayed(worker.ask_here)(item) for item in items))


def grandchild(items: Sequence[tuple[str, str]]) -> list[str]:
    """Ask in a child of a child, which gets an environment of its own."""
    code = "import subprocess, sys; sys.exit(subprocess.run([sys.executable, *sys.argv[1:]], env={}).returncode)"
    script = "tests/processes/worker.py"
    return answers("-I", "-c", code, script, items[0][0], *(text for _, text in items))


def shell(items: Sequence[tuple[str, str]]) -> list[str]:
    """Ask in a child of a shell, which `os.posix_spawn` starts with an environment of its own."""
    reader, writer = os.pipe()
    command = [sys.executable, str(ROOT / "tests/processes/worker.py"), items[0][0], *(text for _, text in items)]
    actions = [(os.POSIX_SPAWN_DUP2, writer, 1)]
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", shlex.join(command)], {"PATH": os.defpath}, file_actions=actions)
    os.close(writer)
    with open(reader) as output:
        lines = output.read().splitlines()
    os.waitpid(pid, 0)
    return lines


WAYS = {
    "fork": pool("fork"),
    "spawn": pool("spawn"),
    "forkserver": pool("forkserver"),
    "executor": executor,
    "loky": loky,
    "grandchild": grandchild,
    "shell": shell,
}


@pytest.mark.full(quick=["fork", "shell"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("way", WAYS)
def test_calls_are_recorded_and_replayed(way: str, store: Path) -> None:
    with spawn() as spawned:
        with nr.session(store, mode="auto") as session:
            first = WAYS[way](asked(spawned.url, "a", "b", "c", "a"))
        assert spawned.hits == 4
        assert sorted(outcomes(session)) == ["recorded"] * 4
    with nr.session(store, mode="replay") as session:
        assert sorted(WAYS[way](asked(GONE, "a", "b", "c", "a"))) == sorted(first)
    assert outcomes(session) == ["replayed"] * 4
    assert not find_uncovered([session.log])


@pytest.mark.parametrize("method", ["fork"])
def test_each_take_is_given_once_over_all_processes(method: str, store: Path) -> None:
    takes = record(store, *["a"] * 8)
    with nr.session(store, mode="replay") as session:
        assert worker.ask(GONE, "a") == takes[0], "also what this process has asked before"
        with multiprocessing.get_context(method).Pool(4) as workers:
            assert sorted(workers.map(worker.ask_here, asked(GONE, *["a"] * 7), chunksize=1)) == sorted(takes[1:])
            with pytest.raises(nr.RecordingMissing, match="recorded 8 times, asked a 9th time"):
                workers.map(worker.ask_here, asked(GONE, "a"))
    assert outcomes(session) == [*["replayed"] * 8, "missing"]


def test_workers_follow_the_session_that_is_on(store: Path, tmp_path: Path) -> None:
    record(store, "a", "b")
    record(tmp_path / "other", "a")
    with nr.session(store, mode="replay"):
        workers = multiprocessing.get_context("fork").Pool(1)
        before = workers.apply(worker.ask, (GONE, "a"))
    with workers:
        with pytest.raises(ConnectionRefusedError):
            workers.apply(worker.ask, (GONE, "b"))
        with nr.session(tmp_path / "other", mode="replay") as session:
            assert workers.apply(worker.ask, (GONE, "a")) == before
            with pytest.raises(nr.RecordingMissing, match="other"):
                workers.apply(worker.ask, (GONE, "b"))
    assert outcomes(session) == ["replayed", "missing"]
    assert not find_uncovered([session.log]), "it is not as those that were started before any session"


def test_a_session_of_a_script_comes_first_and_its_calls_are_counted(store: Path, tmp_path: Path) -> None:
    (answer,) = record(tmp_path / "own", "a")
    code = (
        "import sys, nbreplay as nr; from tests.processes.worker import ask\n"
        "with nr.session(sys.argv[1], mode='replay'): print(ask(sys.argv[2], 'a'))"
    )
    with nr.session(store, mode="replay") as session:
        assert answers("-c", code, str(tmp_path / "own"), GONE) == [answer]
    assert [(item.outcome, Path(item.store).name) for item in session.interactions] == [("replayed", "own")]


def test_what_is_left_alone_is_not_switched_on(store: Path) -> None:
    code = "import http.client, sys; print('nbreplay' in sys.modules)"
    with nr.session(store, mode="auto"):
        assert answers("-c", code) == ["True"]
        assert answers("-c", code, env=left_alone()) == ["False"]
        assert answers("-c", "import sys; print('nbreplay.core.session' in sys.modules)") == ["False"]
    assert answers("-c", code) == ["False"]


def test_a_child_that_cannot_be_switched_on_ends_with_an_error(store: Path) -> None:
    with nr.session(store, mode="replay") as session:
        assert parent.channel is not None
        broken = {VARIABLE: encode_variable(parent.channel).replace("folder", "other")}
        done = subprocess.run(
            [sys.executable, "-c", "import http.client"], env=broken, capture_output=True, check=False
        )
        assert done.returncode == 0, "what this process gives comes first"
        with pytest.raises(nr.NetworkBlocked):
            python("-S", "-c", "import http.client")
    assert outcomes(session) == ["blocked"]
    done = python("-c", "import http.client", env=broken)
    assert (done.returncode, "nbreplay cannot be switched on" in done.stderr) == (1, True)


def test_no_secret_is_told_to_children(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "sk-proj-" + "Zx81" * 10
    monkeypatch.setenv("OPENAI_API_KEY", secret)
    with nr.session(store, mode="auto") as session:
        session.log.learn_secrets([secret])
        run = Run(Cell("id", 1, f"key = {secret!r}"))
        enter_run(run)
        answers("-c", "pass")
        assert parent.channel is not None
        files = [path for path in Path(parent.channel.folder).rglob("*") if path.is_file()]
        assert secret not in os.environ[VARIABLE]
        assert files
        assert not any(secret.encode() in path.read_bytes() for path in files)
        assert Path(parent.channel.folder).stat().st_mode & 0o077 == 0
        leave_run(run)


POST = """
import http.client, json, sys
from urllib.parse import urlsplit

for line in sys.argv[1:] or sys.stdin:
    url, body = json.loads(line)
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    connection.request("POST", urlsplit(url).path, json.dumps(body), {"content-type": "application/json"})
    print(connection.getresponse().read().decode().replace("\\n", " "), flush=True)
    connection.close()
"""


def post_here(url: str, body: object) -> dict[str, object]:
    """Ask in this process."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    connection.request("POST", urlsplit(url).path, json.dumps(body), {"content-type": "application/json"})
    answer: dict[str, object] = json.loads(connection.getresponse().read())
    connection.close()
    return answer


def post_in_child(url: str, body: object) -> dict[str, object]:
    """Ask in a process that has just been started."""
    (answer,) = answers("-c", POST, json.dumps([url, body]))
    parsed: dict[str, object] = json.loads(answer)
    return parsed


@pytest.mark.parametrize("ways", [(post_here, post_in_child), (post_in_child, post_here)], ids=["down", "up"])
def test_processes_share_ids_that_answers_issue(ways: Sequence[Callable[..., dict[str, object]]], store: Path) -> None:
    first, second = ways

    def talk(url: str) -> list[object]:
        one = first(f"{url}/responses", {"model": "test", "input": "one"})
        two = second(f"{url}/responses", {"model": "test", "input": "two", "previous_response_id": one["id"]})
        return [one["id"], two["id"]]

    with spawn() as spawned:
        with nr.session(store, mode="record") as session:
            live = talk(spawned.url)
        assert outcomes(session) == ["recorded"] * 2
        assert str(live[0]) not in "".join(
            json.dumps(item.request.fields) for item in session.interactions if item.request
        )
    with nr.session(store, mode="replay") as session:
        assert talk(GONE) == live
    assert outcomes(session) == ["replayed"] * 2


@pytest.mark.parametrize("ways", [(post_here, post_in_child), (post_in_child, post_here)], ids=["down", "up"])
def test_processes_share_the_secrets_that_they_learn(ways: Sequence[Callable[..., object]], store: Path) -> None:
    """It is a key by the name that one gives it. Another one repeats it without a name."""
    first, second = ways
    secret = "q7Rk2mXw9ZbT4vLp8NsD"

    def talk(url: str) -> None:
        first(f"{url}/chat/completions", {"model": "test", "messages": [], "api_key": secret})
        second(
            f"{url}/chat/completions", {"model": "test", "messages": [{"role": "user", "content": f"is {secret} it?"}]}
        )

    with spawn() as spawned, nr.session(store, mode="record") as session:
        talk(spawned.url)
        assert parent.channel is not None
        files = [*Path(parent.channel.folder).rglob("*"), *store.rglob("*")]
        assert not any(secret.encode() in path.read_bytes() for path in files if path.is_file())
    assert outcomes(session) == ["recorded"] * 2
    assert any("is [secret:1] it?" in path.read_text() for path in store.glob("*.json"))
    with nr.session(store, mode="replay") as session:
        talk(GONE)
    assert outcomes(session) == ["replayed"] * 2


def test_a_key_that_is_set_later_is_known_to_workers(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They were started before it was typed in."""
    secret = "q7Rk2mXw9ZbT4vLp8NsD"
    body = {"model": "test", "messages": [{"role": "user", "content": f"is {secret} it?"}]}
    with spawn() as spawned, nr.session(store, mode="record") as session:
        words = [sys.executable, "-c", POST]
        with subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
            monkeypatch.setenv("A_LATER_API_KEY", secret)
            run = Run(Cell("id", 1, "ask()"))
            enter_run(run)
            try:
                done, _ = child.communicate(json.dumps([f"{spawned.url}/chat/completions", body]), timeout=60)
            finally:
                child.kill()
            leave_run(run)
        assert "choices" in done
    assert outcomes(session) == ["recorded"]
    assert all(secret not in path.read_text() for path in store.glob("*.json"))


def test_arguments_of_a_program_are_not_taken_for_a_command_that_is_left_alone(store: Path) -> None:
    live = record(store, "-m", "pip")
    with nr.session(store, mode="replay") as session:
        assert answers("-m", "tests.processes.worker", GONE, "-m", "pip") == live
        assert answers("-c", "import http.client, sys; print('nbreplay.core' in sys.modules)", "pip") == ["True"]
    assert outcomes(session) == ["replayed"] * 2


def test_the_program_that_takes_the_place_of_another_one_is_counted_too(store: Path) -> None:
    live = record(store, "a", "b")
    code = "import os, sys; from tests.processes import worker; print(worker.ask(sys.argv[1], 'a'), flush=True); "
    code += "os.execv(sys.executable, [sys.executable, '-m', 'tests.processes.worker', sys.argv[1], 'b'])"
    with nr.session(store, mode="replay") as session:
        assert answers("-c", code, GONE) == live
    assert outcomes(session) == ["replayed"] * 2


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are Unicode there")
def test_names_of_files_need_not_be_unicode(tmp_path: Path) -> None:
    store, script = tmp_path / "store\udcff", tmp_path / "\udcff.py"
    script.write_bytes(Path(worker.__file__).read_bytes())
    with spawn() as spawned, nr.session(store, mode="record") as session:
        answers(str(script), spawned.url, "a")
    assert made_by(session) == [("recorded", r"python \udcff.py")]


def test_a_folder_of_the_channel_that_was_removed_is_made_anew(store: Path) -> None:
    live = record(store, "a", "b")
    with nr.session(store, mode="replay") as session:
        assert answers("-m", "tests.processes.worker", GONE, "a") == live[:1]
        assert outcomes(session) == ["replayed"]
        assert parent.channel is not None
        folder = Path(parent.channel.folder)
        shutil.rmtree(folder)
        assert answers("-m", "tests.processes.worker", GONE, "b") == live[1:]
        assert outcomes(session) == ["replayed"] * 2
        shutil.rmtree(folder)
        folder.touch()
        with pytest.raises(nr.NetworkBlocked):
            python("-c", "import http.client")
        folder.unlink()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_process_that_is_forked_while_a_thread_writes_can_write(store: Path) -> None:
    with spawn() as spawned, nr.session(store, mode="record") as session:
        worker.ask(spawned.url, "a")
        entered, leave = threading.Event(), threading.Event()

        def hold() -> None:
            with session.store._open_writer().exclusive():
                entered.set()
                leave.wait(60)

        thread = threading.Thread(target=hold)
        thread.start()
        assert entered.wait(60)
        if (child := os.fork()) == 0:
            try:  # whatever happens, this must not go on as another pytest
                signal.signal(signal.SIGALRM, signal.SIG_DFL)  # pytest-timeout has one that raises an error
                signal.alarm(60)
                worker.ask(spawned.url, "b")
                os._exit(0)
            finally:
                os._exit(1)
        leave.set()
        thread.join()
        assert os.waitpid(child, 0)[1] == 0
    assert outcomes(session) == ["recorded"] * 2


@pytest.mark.full
def test_twenty_processes_write_one_store_at_once(store: Path) -> None:
    texts = [str(number) for number in range(5)]
    with spawn() as spawned, nr.session(store, mode="record") as session:
        command = [sys.executable, "-m", "tests.processes.worker", spawned.url, *texts]
        children = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(20)]
        printed = [line for child in children for line in child.communicate(timeout=300)[0].splitlines()]
    assert outcomes(session) == ["recorded"] * 100
    stored = [take for _, recording in nr.Store(store).recordings() for take in recording.takes]
    contents = [json.loads(take.body.data())["choices"][0]["message"]["content"] for take in stored]
    assert sorted(contents) == sorted(printed), "nothing is lost, and nothing is there twice"
