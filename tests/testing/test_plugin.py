"""Under pytest: notebooks as tests, and tests in a session. Each is shown in a pytest of its own, the provider gone."""

from __future__ import annotations

import importlib.util
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

import nbreplay
from tests.clients import http
from tests.provider import Provider
from tests.testing.making import ASK, DEAD, gone, notebook, recorded

pytest_plugins = ("pytester",)

PLUGIN = "nbreplay.testing.plugin"
HERE = Path(nbreplay.__file__).parents[1]

ASKING = f"""
import pytest, {http.__name__} as http
import nbreplay as nr
def ask(text="hello", url={DEAD!r}):
    body = {{"model": "test", "messages": [{{"role": "user", "content": text}}]}}
    answer = http.post(f"{{url}}/chat/completions", json=body, headers={{"authorization": "Bearer k"}})
    return answer.json()["choices"][0]["message"]["content"]
"""
"""The head of a test module, which gives it ``ask``."""

# Other plugins that are installed: importing them takes longer than the tests here.
BLOCKED = [f"-pno:{name}" for name in ("anyio", "asyncio", "cassetter", "hypothesispytest", "nbmake", "nbval", "xdist")]

Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run pytest in a process and a folder of its own, with the plugin."""
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    monkeypatch.delenv("PYTEST_PLUGINS", raising=False)

    def with_plugin(*arguments: str) -> pytest.RunResult:
        xdist = ("-p", "xdist") if "-n2" in arguments else ()
        return pytester.runpytest_subprocess("-p", PLUGIN, *xdist, *arguments, timeout=600)

    return with_plugin


def text(result: pytest.RunResult) -> str:
    return result.stdout.str() + result.stderr.str()


def module(folder: Path, body: str, name: str = "test_it.py") -> Path:
    """Write a test module with ``ask``."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(ASKING + body)
    return path


def test_notebooks_are_tests(run: Run, pytester: pytest.Pytester) -> None:
    """One that is recorded passes; others fail with what `nbreplay run` says, and nothing of pytest's insides."""
    folder = pytester.path / "nb"
    recorded(folder / "recordings", "hello", "unasked")
    notebook(folder / "good.ipynb", ASK, "ask()")
    notebook(folder / "deep" / "miss.ipynb", ASK, "# its own\nask('bye')")
    notebook(folder / "quiet.ipynb", ASK, "try:\n    ask('bye')\nexcept BaseException: pass")
    notebook(folder / "raises.ipynb", ASK, "raise ValueError('mine')")
    (folder / "broken.ipynb").write_text("{")
    notebook(folder / ".ipynb_checkpoints" / "good-checkpoint.ipynb", "1 / 0")
    result = run("--nbreplay", "-v", "--durations=1", "--durations-min=0", "--junitxml=it.xml", "nb")
    result.assert_outcomes(passed=1, failed=4)
    said = text(result)
    for name in ("good", "deep/miss", "quiet", "raises", "broken"):
        assert re.search(rf"^nb/{name}\.ipynb (PASSED|FAILED)", said, re.M), said
    result.stdout.re_match_lines(
        [
            r"^_+ notebook nb/broken\.ipynb _+$",
            r"^.*broken\.ipynb as a notebook",
            r"^_+ notebook nb/deep/miss\.ipynb _+$",
            r"^cell 2 \(# its own\): RecordingMissing: no recorded answer for this chat test call",
            r"^_+ notebook nb/quiet\.ipynb _+$",
            r"^no recorded answer",
            r"^_+ notebook nb/raises\.ipynb _+$",
            r"^cell 2 \(raise ValueError\('mine'\)\): ValueError: mine",
            r"^nbreplay: 1 replayed, 0 recorded, 2 missing$",
            r"^FAILED nb/deep/miss\.ipynb - .*cell 2 \(# its own\): RecordingMissing",
        ]
    )
    assert re.search(r'recorded "(hello|unasked)", asked "bye"', said)
    assert "slowest" in said
    for inside in ("runner.py", "items.py", "plugin.py", "Traceback", "asyncio.run"):
        assert inside not in said
    assert gone(folder)
    assert gone(folder / "deep")
    cases = {case.get("name"): case for case in ET.parse("it.xml").iter("testcase")}
    assert len(cases) == 5
    (failure,) = cases["nb.raises.ipynb"].iter("failure")
    assert "ValueError: mine" in str(failure.get("message"))
    assert float(str(cases["nb.good.ipynb"].get("time"))) > 0


@pytest.mark.full
def test_which_notebooks_run(run: Run, pytester: pytest.Pytester) -> None:
    """By path, -k, -x and --lf, as any test; and none at all where nobody asks for them."""
    notebook(pytester.path / "nb" / "one.ipynb", "1")
    notebook(pytester.path / "nb" / "three.ipynb", "1 / 0")
    notebook(pytester.path / "nb" / "two.ipynb", "1 / 0")
    run("nb").assert_outcomes()
    assert run("nb").ret == pytest.ExitCode.NO_TESTS_COLLECTED
    listed = run("--nbreplay", "--collect-only", "-q", "nb").stdout.lines
    assert listed[:3] == ["nb/one.ipynb", "nb/three.ipynb", "nb/two.ipynb"]
    run("--nbreplay", "--collect-only", "nb").stdout.fnmatch_lines(["*<NotebookItem one.ipynb>"])
    run("--nbreplay", "nb/one.ipynb").assert_outcomes(passed=1)
    run("--nbreplay", "nb", "-k", "one or three", "-x").assert_outcomes(passed=1, failed=1, deselected=1)
    run("--nbreplay", "nb", "-x").assert_outcomes(passed=1, failed=1)
    run("--nbreplay", "nb", "--lf", "--deselect", "nb/two.ipynb").assert_outcomes(failed=1)


@pytest.mark.full
def test_a_mode_is_forced_and_outputs_are_stored(
    run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Provider() as provider:
        path = notebook(pytester.path / "one.ipynb", ASK, f"ask(url={provider.url!r})")
        bad = notebook(pytester.path / "two.ipynb", ASK, f"print(ask('two', url={provider.url!r}))", "1 / 0")
        before = [path.read_bytes(), bad.read_bytes()]
        run("--nbreplay", "--nbreplay-update").assert_outcomes(failed=2)
        assert provider.hits == 0
        run("--nbreplay", "--nbreplay-mode=record").assert_outcomes(passed=1, failed=1)
        assert provider.hits == 2
        assert [path.read_bytes(), bad.read_bytes()] == before
    result = run("--nbreplay", "--nbreplay-update")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["nbreplay: outputs stored in one.ipynb", "nbreplay: 2 replayed, 0 recorded, 0 missing"]
    )
    assert b"answer 1 to: hello" in path.read_bytes()
    assert bad.read_bytes() == before[1]
    monkeypatch.setenv("NBREPLAY_MODE", "replay")
    run("--nbreplay", "--nbreplay-mode=replay", "one.ipynb").assert_outcomes(passed=1)


@pytest.mark.full(quick=2)
@pytest.mark.parametrize(
    ("forced", "given", "why"),
    [
        (
            "replay",
            ("--nbreplay-mode=auto",),
            "and --nbreplay-mode is auto. Remove one of them",
        ),
        ("sometimes", ("--nbreplay",), "NBREPLAY_MODE: unknown mode 'sometimes'"),
        ("", ("--nbreplay-mode=always",), "invalid choice: 'always'"),
        ("", ("--nbreplay-update",), "which collects the notebooks. Pass both"),
    ],
)
def test_wrong_usage(run: Run, monkeypatch: pytest.MonkeyPatch, forced: str, given: tuple[str, ...], why: str) -> None:
    monkeypatch.setenv("NBREPLAY_MODE", forced)
    result = run(*given)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert why in text(result)
    assert "Traceback" not in text(result)


def test_a_cell_may_be_given_longer(run: Run, pytester: pytest.Pytester) -> None:
    notebook(pytester.path / "one.ipynb", "import time\ntime.sleep(60)")
    result = run("--nbreplay", "--nbreplay-timeout=1")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*cell timed out after 1 s*--nbreplay-timeout*"])


def test_unused_recordings_are_counted_and_listed(run: Run, pytester: pytest.Pytester) -> None:
    recorded(pytester.path / "recordings", "hello", "bye", "never", "not at all")
    notebook(pytester.path / "one.ipynb", ASK, "ask()")
    module(pytester.path, "def test_bye(replay):\n    ask('bye')\n")
    unused = {
        path.name for path in Path("recordings").glob("chat-*") if re.search("never|not at all", path.read_text())
    }
    result = run("--nbreplay")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [
            "nbreplay: 2 unused in recordings (-v lists them)",
            "nbreplay: 2 replayed, 0 recorded, 0 missing, 2 unused",
            "=*2 passed*",
        ],
        consecutive=True,
    )
    listed = run("--nbreplay", "-v").stdout.lines
    at = listed.index("nbreplay: 2 unused in recordings")
    assert set(listed[at + 1 : at + 3]) == {f"  {name}" for name in unused}


@pytest.mark.full
def test_unused_recordings_are_counted_where_all_that_could_ask_for_them_has_run(
    run: Run, pytester: pytest.Pytester
) -> None:
    recorded(pytester.path / "recordings", "hello", "bye", "never", "not at all")
    notebook(pytester.path / "one.ipynb", ASK, "ask()")
    module(pytester.path, "def test_bye(replay):\n    ask('bye')\n")
    for partly in (("one.ipynb",), ("-k", "bye"), ("--ignore=one.ipynb",), ("--lf", "test_it.py")):
        assert " unused" not in text(run("--nbreplay", *partly)), partly
    module(pytester.path, "def test_other(replay):\n    ask('never')\n    pytest.skip('enough')\n", "test_other.py")
    assert " unused" not in text(run("--nbreplay"))
    (pytester.path / "test_other.py").write_text("def test(): assert False\n")
    assert "2 unused" in text(run("--nbreplay", "-p", "no:randomly")), "it could not have asked"
    (pytester.path / "test_a.py").write_text("def test(): assert False\n")
    assert " unused" not in text(run("--nbreplay", "-x"))
    (pytester.path / "test_a.py").write_text("import none_such\n")
    assert " unused" not in text(run("--nbreplay", "--continue-on-collection-errors"))


@pytest.mark.full
def test_a_recording_that_a_new_rule_heals_is_used(run: Run, pytester: pytest.Pytester) -> None:
    recorded(pytester.path / "recordings", "it is 2024-01-01")
    module(
        pytester.path,
        "@pytest.mark.nbreplay(mask=r'\\d{4}-\\d\\d-\\d\\d')\ndef test_it():\n    ask('it is 2025-05-05')\n",
    )
    notebook(
        pytester.path / "one.ipynb",
        ASK,
        r"%load_ext nbreplay" + "\n" + r"%replay on --mask \d{4}-\d\d-\d\d",
        "ask('it is 2025-05-05')",
    )
    for given, count in (((), 1), (("--nbreplay",), 2)):
        result = run(*given)
        result.assert_outcomes(passed=count)
        assert f"nbreplay: {count} replayed, 0 recorded, 0 missing\n" in text(result)


def test_the_fixture_and_the_marker(run: Run, pytester: pytest.Pytester) -> None:
    answers = recorded(pytester.path / "tests" / "recordings", "hello", "bye")
    other = recorded(pytester.path / "tests" / "other", "other")
    module(
        pytester.path / "tests",
        f"""
import asyncio, os, openai, unittest

@pytest.fixture
def client():
    return openai.OpenAI(base_url={DEAD!r})

def test_fixture(client, replay):
    assert ask() == {answers["hello"]!r}
    assert [item.outcome for item in replay.interactions] == ["replayed"]
    assert replay.mode.value == "replay"
    assert client.chat.completions.create(
        model="test", messages=[{{"role": "user", "content": "bye"}}]).choices[0].message.content

@pytest.mark.nbreplay
def test_marker(client):
    assert client.api_key == os.environ["OPENAI_API_KEY"]

@pytest.mark.nbreplay(store="other")
class TestMarked:
    def test_store(self):
        assert ask("other") == {other["other"]!r}

    @pytest.mark.nbreplay(speed=4)
    def test_both(self, replay):
        assert replay.options.speed == 4
        assert replay.store.path.name == "other"

@pytest.mark.usefixtures("replay")
class TestCase(unittest.TestCase):
    def test_it(self):
        assert ask() == {answers["hello"]!r}

@pytest.mark.parametrize("marked", [False, pytest.param(True, marks=pytest.mark.nbreplay)])
def test_one_of_them(marked):
    from nbreplay.core.session import active_sessions
    assert bool(active_sessions()) is marked

def test_asked_for_late(request):
    request.getfixturevalue("replay")
    assert ask() == {answers["hello"]!r}

async def turned(text):
    return ask(text)

@pytest.mark.nbreplay
def test_loop():
    assert asyncio.run(turned("hello")) == {answers["hello"]!r}

def test_nothing_is_left():
    from nbreplay.core.session import active_sessions
    assert not active_sessions()
    assert "OPENAI_API_KEY" not in os.environ
""",
    )
    result = run("--strict-markers", "-p", "no:cacheprovider", str(pytester.path / "tests"))
    result.assert_outcomes(passed=10)
    result.stdout.fnmatch_lines(["nbreplay: 6 replayed, 0 recorded, 0 missing"])
    assert "nbreplay(mode=, store=" in text(run("--markers"))
    assert "The session that replays the calls of this test" in text(run("--fixtures"))


def test_a_fixture_of_the_same_name(run: Run, pytester: pytest.Pytester) -> None:
    """A project's own goes before ours, and has no session."""
    module(
        pytester.path,
        """
from nbreplay.core.session import active_sessions

@pytest.fixture
def replay(): return "mine"

def test_it(replay):
    assert replay == "mine"
    assert not active_sessions()
""",
    )
    result = run()
    result.assert_outcomes(passed=1)
    assert "nbreplay:" not in text(result)


def test_what_fails_a_test(run: Run, pytester: pytest.Pytester) -> None:
    """A miss does, whoever has swallowed it; the report shows the test's own lines, not the libraries'."""
    recorded(pytester.path / "recordings", "hello")
    module(
        pytester.path,
        """
import socket, threading
pytestmark = pytest.mark.nbreplay

def swallow(text):
    try:
        ask(text)
    except BaseException:
        pass

def test_raised(): ask("raised")
def test_swallowed(): swallow("swallowed")
def test_thread():
    thread = threading.Thread(target=swallow, args=("thread",))
    thread.start()
    thread.join()
def test_session():
    with nr.session("elsewhere", mode="replay"):
        swallow("session")
def test_skipped():
    swallow("skipped")
    pytest.skip("no answer")
def test_other_error():
    swallow("first")
    assert 1 == 2
def test_refused():
    with pytest.raises(OSError):
        socket.create_connection(("192.0.2.1", 80))
@pytest.fixture
def late():
    yield
    swallow("late")
def test_late(late): pass
@pytest.fixture
def early(): ask("early")
def test_early(early): pass
@pytest.mark.xfail(raises=nr.RecordingMissing, strict=True)
def test_expected(): ask("expected")
def test_passes(): ask()
""",
    )
    result = run()
    result.assert_outcomes(passed=2, failed=7, errors=2, xfailed=1)
    # Where CI is set, pytest's summary repeats every message whole.
    said = text(result).partition("short test summary info")[0]
    for one in ("raised", "swallowed", "session", "skipped", "first", "late", "early", "thread"):
        assert len(re.findall(rf'asked +chat test · "{one}"', said)) == 1, one
    assert "nbreplay blocked a connection to 192.0.2.1:80 during replay" in said
    result.stdout.fnmatch_lines(["*ERROR at setup of test_early*", '*def test_raised(): ask("raised")*'])
    for inside in ("site-packages", "intercept/httpx.py", "core/session.py", "plugin.py"):
        assert inside not in said, said
    assert "nbreplay: 1 replayed, 0 recorded, 9 missing; 1 blocked\n" in said
    assert "site-packages" in text(run("--full-trace", "-k", "test_raised"))


@pytest.mark.full
def test_modes_of_tests(run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment goes before the command line, that before the marker; replay where nobody says a thing."""
    with Provider() as provider:
        module(
            pytester.path / "tests",
            f"""
def test_plain(replay): ask("plain", {provider.url!r})
@pytest.mark.nbreplay(mode="auto")
def test_marked(): ask("marked", {provider.url!r})
""",
        )
        run("--nbreplay-mode=replay").assert_outcomes(failed=2)
        assert provider.hits == 0
        run().assert_outcomes(passed=1, failed=1)
        assert provider.hits == 1
        assert len(list((pytester.path / "tests" / "recordings").glob("chat-*"))) == 1
        result = run("--nbreplay-mode=auto")
        result.assert_outcomes(passed=2)
        result.stdout.fnmatch_lines(["nbreplay: 1 replayed, 1 recorded, 0 missing"])
        monkeypatch.setenv("NBREPLAY_MODE", "record")
        run().assert_outcomes(passed=2)
        assert provider.hits == 4
    monkeypatch.delenv("NBREPLAY_MODE")
    run("--nbreplay-mode=replay").assert_outcomes(passed=2)


@pytest.mark.full
def test_failures_that_may_pass_are_kept_where_the_command_line_says_so(run: Run, pytester: pytest.Pytester) -> None:
    with Provider() as provider:
        body = f"""
def deny():
    body = {{"model": "test/status=401", "messages": []}}
    return http.post("{provider.url}/chat/completions", json=body).status_code
def test_denied(replay): assert deny() == 401
"""
        module(pytester.path, body)
        notebook(
            pytester.path / "one.ipynb", f"import {http.__name__} as http\n{body.split('def test')[0]}print(deny())"
        )
        result = run("--nbreplay", "--nbreplay-mode=auto")
        result.assert_outcomes(passed=2)
        assert "test_it.py: not kept: 401 Unauthorized." in text(result)
        assert text(result).count("--nbreplay-keep-errors") == 2
        assert "failed: 401 Unauthorized" in text(run("--nbreplay"))
        run("--nbreplay", "--nbreplay-mode=auto", "--nbreplay-keep-errors").assert_outcomes(passed=2)
    run("--nbreplay").assert_outcomes(passed=2)


@pytest.mark.full(quick=2)
@pytest.mark.parametrize(
    ("marker", "why"),
    [
        ("mod='auto'", "does not take mod"),
        ("'auto'", "does not take 'auto'"),
        ("mode='sometimes'", "unknown mode 'sometimes'"),
        ("store='test_it.py'", "test_it.py is a file, and a store is a folder"),
        ("ignore=1", "ignore must be a string or a list of strings"),
    ],
)
def test_a_wrong_marker(run: Run, pytester: pytest.Pytester, marker: str, why: str) -> None:
    module(pytester.path, f"@pytest.mark.nbreplay({marker})\ndef test_it(): ask()\n")
    result = run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"nbreplay: *{why}*"])
    assert "plugin.py" not in text(result)


@pytest.mark.full
def test_the_store_is_found_as_a_notebooks(
    run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the test's folder, whatever the working directory is: the project's, else the nearest."""
    project = pytester.path / "project"
    recorded(project / "mine", "hello")
    module(project / "tests", "def test_it(replay): ask()\n")
    (project / "pyproject.toml").write_text("[tool.nbreplay]\nstore = 'mine'\n")
    run("project").assert_outcomes(passed=1)
    (project / "pyproject.toml").write_text("")
    (project / "mine").rename(project / "recordings")
    run("project").assert_outcomes(passed=1)
    (project / "recordings").rename(project / "named")
    run("project").assert_outcomes(failed=1)
    monkeypatch.setenv("NBREPLAY_STORE", str(project / "named"))
    run("project").assert_outcomes(passed=1)


def test_it_costs_nothing_where_it_is_not_asked_for(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    notebook(pytester.path / "one.ipynb", "1 / 0")
    pytester.makeconftest("import sys\ndef pytest_unconfigure():\n    print('LOADED', *sorted(sys.modules))\n")
    pytester.makepyfile("def test_it(): pass\n")
    loaded = []
    for given in (("-p", PLUGIN), ("-p", "no:nbreplay")):
        result = pytester.runpytest_subprocess(*BLOCKED, "-s", *given, timeout=600)
        result.assert_outcomes(passed=1)
        assert "nbreplay:" not in text(result)
        (line,) = [line for line in result.stdout.lines if "LOADED" in line]
        loaded.append(set(line.split()))
    # Other plugins that are installed here may load much.
    heavy = {"nbclient", "nbformat", "jupyter_client", "IPython", "zmq", "openai", "pandas", "httpx", "httpx2"}
    assert not (loaded[0] - loaded[1]) & heavy
    ours = {name for name in loaded[0] if name.split(".")[0] == "nbreplay"}
    assert ours == {"nbreplay", "nbreplay.testing", PLUGIN}


@pytest.mark.full
def test_registered_twice_and_not_at_all(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an installed nbreplay is: by its entry point. Whoever names the module too does no harm."""
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), str(pytester.path / "site")]))
    info = pytester.path / "site" / "other-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    declared = re.search(
        r"\[project.entry-points.pytest11\]\nnbreplay = \"(.*)\"", (HERE / "pyproject.toml").read_text()
    )
    assert declared is not None
    (info / "entry_points.txt").write_text(f"[pytest11]\nnbreplay = {declared[1]}\n")
    pytester.makepyfile("def test_it(request): assert request.config.pluginmanager.has_plugin('nbreplay-summary')\n")
    for given in ((), ("-p", "nbreplay"), ("-p", PLUGIN)):
        pytester.runpytest_subprocess(*BLOCKED, *given, timeout=600).assert_outcomes(passed=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTEST_PLUGINS", PLUGIN)
        pytester.runpytest_subprocess(*BLOCKED, timeout=600).assert_outcomes(passed=1)
    pytester.makeconftest(f"pytest_plugins = [{PLUGIN!r}]")
    pytester.runpytest_subprocess(*BLOCKED, timeout=600).assert_outcomes(passed=1)
    (pytester.path / "conftest.py").unlink()
    pytester.runpytest_subprocess(*BLOCKED, "-p", "no:nbreplay", timeout=600).assert_outcomes(failed=1)
    refused = pytester.runpytest_subprocess(*BLOCKED, "-p", "no:nbreplay", "--nbreplay", timeout=600)
    assert "unrecognized arguments: --nbreplay" in text(refused)


@pytest.mark.full
@pytest.mark.skipif(importlib.util.find_spec("xdist") is None, reason="pytest-xdist is not installed")
def test_with_xdist(run: Run, pytester: pytest.Pytester) -> None:
    recorded(pytester.path / "recordings", "hello", "bye", "never")
    for name in ("a", "b"):
        notebook(pytester.path / f"{name}.ipynb", ASK, "ask()", "ask()")
    module(pytester.path, "def test_bye(replay): ask('bye')\ndef test_hello(replay): ask()\n")
    recorded(pytester.path / "recordings", "hello")
    result = run("--nbreplay", "-n2")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["nbreplay: 6 replayed, 0 recorded, 0 missing, 1 unused"])
    assert " unused" not in text(run("--nbreplay", "-n2", "-k", "not never and not a.ipynb"))
    result = run("--nbreplay", "-n2", "-v")
    assert sorted(re.findall(r"PASSED (\S+)", text(result)))[:2] == ["a.ipynb", "b.ipynb"]


def test_cells_as_tests(run: Run, pytester: pytest.Pytester) -> None:
    """Each says what is its own; the last answers for what belongs to none; those that were not reached are skipped."""
    recorded(pytester.path / "recordings", "hello")
    thread = "import threading\ndef late():\n    try:\n        ask('late')\n    except BaseException: pass"
    notebook(pytester.path / "a.ipynb", ASK, "ask()", "# skipped", "print('last')", tags=("skip",))
    notebook(pytester.path / "b.ipynb", ASK, "ask('new')", "ask()", f"{thread}\nlate()")
    result = run("--nbreplay", "--nbreplay-cells", "-v", "-rs", "--durations=0")
    result.assert_outcomes(passed=4, failed=1, skipped=3)
    said = text(result)
    assert "a.ipynb::2: ask() PASSED" in said
    assert "b.ipynb::2: ask('new') FAILED" in said
    assert 'asked    chat test · "new"' in said
    assert "not reached: the notebook failed before this cell" in said
    assert "nbreplay: 1 replayed, 0 recorded, 1 missing" in said
    assert gone(pytester.path)


@pytest.mark.full
def test_one_cell_as_a_test(run: Run, pytester: pytest.Pytester) -> None:
    notebook(pytester.path / "b.ipynb", ASK, "ask('new')")
    one = run("--nbreplay", "--nbreplay-cells", "b.ipynb::1: import os, " + ASK.split(", ", 1)[1].split("\n")[0])
    one.assert_outcomes(passed=1)
    assert gone(pytester.path)
    refused = run("--nbreplay-cells")
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    assert "which collects the notebooks. Pass both" in text(refused)


@pytest.mark.full
@pytest.mark.skipif(importlib.util.find_spec("xdist") is None, reason="pytest-xdist is not installed")
def test_the_cells_of_a_notebook_stay_on_one_worker(run: Run, pytester: pytest.Pytester) -> None:
    for name in "abcd":
        notebook(pytester.path / f"{name}.ipynb", ASK, "x = 1", "x += 1", "print(x)")
    result = run("--nbreplay", "--nbreplay-cells", "-n2", "-v")
    result.assert_outcomes(passed=16)
    workers: dict[str, set[str]] = {}
    for worker, name in re.findall(r"\[(gw\d)\].*PASSED (\w)\.ipynb", text(result)):
        workers.setdefault(name, set()).add(worker)
    assert {name: len(found) for name, found in workers.items()} == dict.fromkeys("abcd", 1)
    assert len((pytester.path / "kernels").read_text().split()) == 4, "each was run once"


@pytest.mark.full
def test_durations_are_the_notebooks_own(run: Run, pytester: pytest.Pytester) -> None:
    """Not how long they were waited for: they run at the same time."""
    for name in "ab":
        notebook(pytester.path / f"{name}.ipynb", "import time\ntime.sleep(2)")
    result = run("--nbreplay", "--durations=2")
    result.assert_outcomes(passed=2)
    slow = [float(seconds) for seconds in re.findall(r"([\d.]+)s call", text(result))]
    assert len(slow) == 2
    assert min(slow) >= 2


def test_outputs_are_compared(run: Run, pytester: pytest.Pytester) -> None:
    path = notebook(pytester.path / "one.ipynb", "print('one')")
    result = run("--nbreplay", "--nbreplay-update")
    result.assert_outcomes(passed=1)
    assert "nbreplay: one.ipynb: makes no call" in text(result)
    path.write_text(path.read_text().replace('"one\\n"', '"two\\n"'))
    result = run("--nbreplay", "--color=no")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["cell 1 (print('one')):", "*- two", "*+ one", "*--nbreplay-update*"])


@pytest.mark.full
def test_differences_have_colours_and_may_be_left_alone(run: Run, pytester: pytest.Pytester) -> None:
    path = notebook(pytester.path / "one.ipynb", "print('one')")
    run("--nbreplay", "--nbreplay-update").assert_outcomes(passed=1)
    path.write_text(path.read_text().replace('"one\\n"', '"two\\n"'))
    assert "\x1b[32m+ one" in text(run("--nbreplay", "--color=yes"))
    run("--nbreplay", "--nbreplay-no-compare").assert_outcomes(passed=1)


@pytest.mark.full
def test_trimming(run: Run, pytester: pytest.Pytester) -> None:
    recorded(pytester.path / "recordings", "hello", "never")
    notebook(pytester.path / "one.ipynb", ASK, "ask()")
    assert "nothing trimmed" in text(run("--nbreplay", "--nbreplay-trim", "one.ipynb"))
    assert len(list(Path("recordings").glob("chat-*"))) == 2
    result = run("--nbreplay", "--nbreplay-trim")
    result.stdout.fnmatch_lines(["nbreplay: 1 file removed from recordings"])
    assert len(list(Path("recordings").glob("chat-*"))) == 1
    run("--nbreplay").assert_outcomes(passed=1)
