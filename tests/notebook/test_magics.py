"""``%replay`` in a real kernel: modes, options, what it says and shows, and how it goes away."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from nbreplay.notebook.directive import MODES, VIEWS
from tests.notebook.conftest import CLIENT
from tests.notebook.kernel import Kernel, Ran, started
from tests.provider import Spawned

OF_OURS = {*MODES, *VIEWS, "last", "diff", "help", "--speed", "--view", "--ignore"}


def mode(kernel: Kernel) -> str:
    """The mode that ``%replay`` tells."""
    (text,) = kernel.run("%replay").status
    found = re.search(r"^ +mode +(\S+)", text, re.M)
    assert found, text
    return found[1]


def refused(ran: Ran) -> str:
    """What a cell's UsageError says."""
    assert ran.ename == "UsageError"
    return f"{ran.evalue}\n{ran.stderr}\n{ran.traceback}"


@pytest.mark.parametrize(
    ("line", "told", "says"),
    [
        ("on", "auto", "replays what is recorded, and records what is missing"),
        ("auto", "auto", "replays what is recorded, and records what is missing"),
        ("record-if-missing", "auto", "replays what is recorded, and records what is missing"),
        ("record", "record", "records"),
        ("replay", "replay", "replays; nothing goes out"),
        ("off", "off", "is off: calls go out"),
        ("live", "off", "is off: calls go out"),
    ],
)
def test_a_mode_is_switched_on_and_told(kernel: Kernel, line: str, told: str, says: str) -> None:
    ran = kernel.run(f"%replay {line}")
    assert not ran.ename
    assert len(ran.status) == 1
    assert says in ran.status[0]
    assert mode(kernel) == told


def test_each_mode_does_what_it_says(kernel: Kernel, model: Spawned, tmp_path: Path) -> None:
    hits = model.hits
    kernel.run("%replay record kept")
    first = kernel.run("ask()")
    kernel.run("%replay replay kept")
    assert kernel.run("ask()").result == first.result
    assert model.hits == hits + 1
    missed = kernel.run("ask('something else')")
    assert missed.ename == "RecordingMissing"
    assert model.hits == hits + 1
    kernel.run("%replay on kept")
    assert kernel.run("ask()").result == first.result
    other = kernel.run("ask('something else')")
    assert model.hits == hits + 2
    kernel.run("%replay off")
    live = kernel.run("ask('something else')")
    assert live.result != other.result
    assert model.hits == hits + 3
    assert not live.status, "what is off says nothing"
    assert len(list((tmp_path / "work" / "kept").glob("chat-*.json"))) == 2


def test_the_status_counts(kernel: Kernel) -> None:
    kernel.run("%replay record kept")
    kernel.run("ask(model='test/delay=100')")
    kernel.run("%replay replay kept")
    assert re.search(
        r"1 replayed · \d+ tokens · 0\.\d\d s saved · ", kernel.run("ask(model='test/delay=100')").status[0]
    )
    kernel.run("ask('not there')")
    (text,) = kernel.run("%replay").status
    assert "kept, 1 recording\n" in text
    assert "1 replayed, 1 recorded, 1 missing" in text
    assert re.search(r"tokens +\d", text)


def test_the_status_below_a_cell(kernel: Kernel) -> None:
    assert [metadata for _, metadata in kernel.run("%replay record kept").displays] == [{"nbreplay": "status"}]
    assert not kernel.run("1 + 1").displays
    ran = kernel.run("[ask('a'), ask('b')]")
    assert len(ran.status) == 1, "one a cell, however many calls"
    assert ran.status[0].startswith("nbreplay: 2 recorded")
    assert "kept" in ran.status[0]
    data, metadata = ran.displays[0]
    assert metadata == {"nbreplay": "status"}
    assert set(data) == {"text/plain", "text/html"}


def test_a_miss_is_told_once(kernel: Kernel) -> None:
    kernel.run("import nbreplay as nr\n%replay replay kept")
    ran = kernel.run("ask('not there')")
    assert ran.ename == "RecordingMissing"
    assert ran.evalue.count("no recorded answer for this chat test call") == 1
    assert not ran.status, "the error says it"
    assert not kernel.run("2").status
    (status,) = kernel.run("%%replay record\nask()\nwith nr.session('kept', mode='replay'): ask('nor this')").status
    assert "1 recorded, 1 missing" in status, "beside other calls it is counted"
    assert "no recorded answer" not in status
    shown = kernel.run("%%replay --view stream\ntry:\n    ask('not there')\nexcept BaseException: pass")
    assert "to fix  " in shown.views[-1]
    assert shown.status == ["nbreplay: 1 missing · replay, kept"], "the card says it"
    shown = kernel.run("%%replay --view stream\nask('not there')")
    assert "no recorded answer" in shown.views[-1]
    assert "to fix  " not in shown.views[-1]


def test_view_off_shows_nothing_but_what_went_wrong(kernel: Kernel) -> None:
    kernel.run("%replay auto kept --view off")
    assert not kernel.run("ask()").displays
    kernel.run("%replay replay")
    assert not kernel.run("ask()").displays
    (status,) = kernel.run("try:\n    ask('not there')\nexcept BaseException: pass").status
    assert "no recorded answer" in status
    kernel.run("%replay --view badge")
    assert len(kernel.run("ask()").status) == 1


def test_view_stream_shows_a_card_a_call(kernel: Kernel) -> None:
    kernel.run("%replay record kept --view stream")
    ran = kernel.run("ask('one')\nask('two')")
    (cards,), (badge,) = ran.views, ran.status
    assert cards.startswith("2 calls")
    assert cards.count("test · done") == 2
    assert "asked: one" in cards
    assert "answer" in cards
    assert "REC" not in cards, "what is kept tells of the take alone"
    assert ran.messages[-1]["words"] == ["REC", "REC"]
    assert badge.startswith("nbreplay: 2 recorded")
    ran = kernel.run("%%replay --view badge\nask('one')")
    assert not ran.views
    assert ran.status[0].startswith("nbreplay: 1 recorded")
    assert kernel.run("ask('one')").views, "the cell's view was its own"


def test_the_view_can_be_configured(kernel: Kernel) -> None:
    kernel.run("%config ReplayMagics.view = 'off'\n%replay record kept")
    assert not kernel.run("ask()").displays
    assert "view" in kernel.run("%config ReplayMagics").stdout


def test_the_defaults_can_be_configured(kernel: Kernel, tmp_path: Path) -> None:
    kernel.run("%config ReplayMagics.store = 'configured'\n%config ReplayMagics.ignore = ['seed']\n%replay record")
    kernel.run("ask(seed=1)")
    assert len(list((tmp_path / "work" / "configured").glob("chat-*"))) == 1
    assert "ignore" in kernel.run("%replay").status[0]
    kernel.run("%replay replay")
    assert kernel.run("ask(seed=2)").result
    kernel.run("%replay record named")
    kernel.run("%%replay record\nask('which')")
    assert len(list((tmp_path / "work" / "named").glob("chat-*"))) == 1, "the store that was named goes first"


def test_ignore_and_mask(kernel: Kernel, model: Spawned) -> None:
    kernel.run(r"%replay record kept --ignore metadata.run --mask '\d{4}-\d\d-\d\d'")
    first = kernel.run("ask('news on 2026-11-01', extra_body={'metadata': {'run': 1}})").result
    hits = model.hits
    kernel.run("%replay replay")
    assert kernel.run("ask('news on 2026-11-02', extra_body={'metadata': {'run': 2}})").result == first
    assert kernel.run("ask('news on 2026-11', extra_body={'metadata': {'run': 2}})").ename == "RecordingMissing"
    (text,) = kernel.run("%replay").status
    assert "metadata.run" in text
    assert r"\d{4}-\d\d-\d\d" in text, "the backslashes are kept"
    assert model.hits == hits


def test_only_and_allow(kernel: Kernel, model: Spawned, tmp_path: Path) -> None:
    kernel.run("%replay record kept --only api.example.com")
    ran = kernel.run("ask()")
    assert ran.status[0].startswith("nbreplay: 1 answered live, not recorded")
    assert not list((tmp_path / "work").rglob("chat-*"))
    kernel.run("%replay off")
    kernel.run(f"%replay replay kept --allow 127.0.0.1:{model.port}")
    hits = model.hits
    assert kernel.run("ask()").status[0].startswith("nbreplay: 1 answered live, not recorded")
    assert model.hits == hits + 1
    kernel.run("%replay off")
    kernel.run("%replay replay kept --only api.example.com")
    refusal = kernel.run("ask()")
    assert refusal.ename == "RecordingMissing"
    assert "--allow 127.0.0.1" in refusal.evalue
    assert model.hits == hits + 1


def test_speed(kernel: Kernel) -> None:
    kernel.run("%replay record kept")
    kernel.run("text_of(stream(model='test/gap=5'))")
    kernel.run("%replay replay --speed 2.5")
    assert "2.5 × recorded" in kernel.run("%replay").status[0]
    # Only what this thread sleeps counts: ipykernel has a thread that looks for its parent every second.
    slow = """
import threading, time
asleep, real, here = [], time.sleep, threading.get_ident()
time.sleep = lambda seconds: (asleep.append(seconds), real(0)) if threading.get_ident() == here else real(seconds)
text = text_of(stream(model='test/gap=5'))
time.sleep = real
len([seconds for seconds in asleep if seconds > 0])
"""
    waited = kernel.run(slow)
    assert int(waited.result or 0) >= 3
    kernel.run("%replay replay --speed 0")
    assert "× recorded" not in kernel.run("%replay").status[0]
    assert kernel.run(slow).result == "0"


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("sideways", "replay only: nothing goes out"),
        ("reocrd", "Did you mean record?"),
        ("lats", "Did you mean last?"),
        ("on --speeed 2", "Did you mean --speed?"),
        ("on --view straem", "Did you mean stream?"),
        ("record kept --colour red", "--colour"),
        ("replay kept too many", "too many"),
        ("on --view loud", "badge                one line"),
        ("on --speed fast", "as recorded"),
        ("on --speed", "--speed N"),
        ("on --ignore ''", "ignore"),
        ("record 'half", "quotation"),
        ("last record", "takes no arguments"),
        ("--speed 2", "on, auto, record, replay, off"),
        ("on a-file", "a-file is a file, and a store is a folder. Name another store"),
        ("on --mask '('", "mask"),
    ],
)
def test_what_cannot_be_done_is_refused(kernel: Kernel, model: Spawned, line: str, remedy: str, tmp_path: Path) -> None:
    (tmp_path / "work" / "a-file").write_text("precious")
    hits = model.hits
    said = refused(kernel.run(f"%replay {line}\nask()"))
    assert remedy in said
    assert "%replay: " in said
    assert model.hits == hits, "nothing went out"
    assert mode(kernel) == "off"
    assert (tmp_path / "work" / "a-file").read_text() == "precious"


def test_a_refused_line_leaves_on_what_was_on(kernel: Kernel, tmp_path: Path) -> None:
    (tmp_path / "work" / "a-file").write_text("precious")
    kernel.run("%replay record kept")
    refused(kernel.run("%replay record a-file"))
    refused(kernel.run("%replay record a-file/below"))
    assert mode(kernel) == "record"
    assert kernel.run("ask()").status[0].startswith("nbreplay: 1 recorded")


def test_options_stay_until_off(kernel: Kernel) -> None:
    kernel.run("%replay record kept --ignore seed")
    kernel.run("%replay replay")
    assert "seed" in kernel.run("%replay").status[0]
    kernel.run("%replay --mask x")
    (text,) = kernel.run("%replay").status
    assert "seed" in text
    assert re.search(r"mode +replay", text)
    kernel.run("%replay off\n%replay replay")
    assert "seed" not in kernel.run("%replay").status[0]


def test_a_store_stays_where_it_is_when_the_notebook_changes_its_folder(kernel: Kernel, tmp_path: Path) -> None:
    (tmp_path / "work" / "sub").mkdir()
    kernel.run("%replay record kept\nos.chdir('sub')")
    kernel.run("ask('a')")
    kernel.run("%%replay record\nask('b')")
    kernel.run("%replay auto\nask('c')")
    assert len(list((tmp_path / "work" / "kept").glob("chat-*"))) == 3
    assert not (tmp_path / "work" / "sub" / "kept").exists()


def test_last_shows_the_last_calls(kernel: Kernel) -> None:
    assert "no calls yet" in kernel.run("%replay last").status[0]
    kernel.run("%replay record kept")
    kernel.run("ask('before')")
    kernel.run("ask('one')\nask('two')")
    ran = kernel.run("%replay last")
    (text,) = ran.views
    assert text.count("test · done") == 2
    assert ran.messages[-1]["words"] == ["REC", "REC"]
    assert "asked: one" in text
    assert "asked: two" in text
    assert "before" not in text
    assert "<script>" not in ran.displays[0][0]["text/html"]


def test_what_came_is_shown_escaped(kernel: Kernel) -> None:
    kernel.run("%replay record kept --view stream")
    ran = kernel.run("ask('<script>alert(1)</script> \\x1b[31mred')")
    for data, _ in ran.displays:
        assert "<script>" not in data["text/html"]
        assert "\x1b" not in data["text/html"] + data["text/plain"]
        assert "\x1b" not in json.dumps(data) + json.dumps(ran.comms)
    assert "\\u001b[31mred" in ran.views[0]


def test_diff_tells_why_the_last_miss_missed(kernel: Kernel) -> None:
    assert "no call has been missing" in kernel.run("%replay diff").status[0]
    kernel.run("%replay record kept")
    kernel.run("ask(temperature=0.5)")
    kernel.run("%replay replay")
    assert kernel.run("ask(temperature=0.7)", "some-cell").ename == "RecordingMissing"
    (text,) = kernel.run("%replay diff").status
    assert "temperature: recorded 0.5, asked 0.7" in text
    assert "some-cell" in text


def test_diff_tells_of_the_last_miss_of_a_cell_with_a_mode_of_its_own(kernel: Kernel) -> None:
    kernel.run("%%replay replay kept\nask('not there')")
    assert "not there" in kernel.run("%replay diff").status[0]
    swallowed = "try:\n    ask('nor this')\nexcept BaseException: pass\n%replay diff"
    assert "nor this" in kernel.run(f"%%replay replay kept\n{swallowed}").status[0], "in the same cell"
    assert "nor this" in kernel.run("%replay diff").status[0]


def test_a_miss_names_the_cell_by_its_number(kernel: Kernel) -> None:
    kernel.run("%replay replay kept")
    ran = kernel.run("ask('not there')")
    assert f"[{ran.count}] ask('not there')" in ran.evalue


def test_help(kernel: Kernel) -> None:
    for name in ("%replay", "%%replay"):
        text = kernel.inspect(name)
        assert "%replay on" in text
        assert "--ignore PATH" in text
    shown = kernel.run("%replay?")
    assert not shown.ename
    (help_text,) = kernel.run("%replay help").status
    assert all(f"    {word} " in help_text for word in OF_OURS - VIEWS.keys()), "each word is explained"


@pytest.mark.parametrize(
    ("text", "among"),
    [
        ("%replay re", {"record", "replay"}),
        ("%replay l", {"last"}),
        ("%%replay re", {"record", "replay"}),
        ("%replay replay --v", {"--view"}),
        ("%replay replay --view ", {"badge", "stream", "off"}),
    ],
)
def test_completion(kernel: Kernel, text: str, among: set[str]) -> None:
    found = set(kernel.complete(text))
    assert among <= found
    assert not found & (OF_OURS - among)


def test_the_mode_and_the_call_in_the_cell_that_loads(bare: Kernel, model: Spawned, tmp_path: Path) -> None:
    cell = f"""
%load_ext nbreplay
%replay {{}} kept
from openai import OpenAI
client = OpenAI(base_url={model.url!r}, api_key="a-key-of-the-tests", max_retries=0)
messages = [{{{{"role": "user", "content": "hi"}}}}]
client.chat.completions.create(model="test", messages=messages).choices[0].message.content
"""
    made = bare.run(cell.format("record"), "the-cell")
    assert made.result, made.traceback
    assert made.status[-1].startswith("nbreplay: 1 recorded")
    (path,) = (tmp_path / "work" / "kept").glob("chat-*")
    assert json.loads(path.read_text())["takes"][0]["cell"]["id"] == "the-cell"
    bare.run("%unload_ext nbreplay")
    again = bare.run(cell.format("replay"), "the-cell")
    assert again.result == made.result
    assert again.status[-1].startswith("nbreplay: 1 replayed")


def test_loading_by_a_silent_request(bare: Kernel) -> None:
    """No cell runs then, though the last one in the history may speak of nbreplay."""
    bare.run("'nbreplay'")
    bare.run("%load_ext nbreplay\nfrom nbreplay.core.cell import current_run\nleft = current_run()", silent=True)
    assert bare.run("left is None").result == "True"


def test_loading_again_changes_nothing(kernel: Kernel) -> None:
    kernel.run("%replay record kept")
    assert not kernel.run("%load_ext nbreplay").ename
    assert mode(kernel) == "record"
    assert len(kernel.run("ask()").status) == 1


def test_reloading(kernel: Kernel) -> None:
    kernel.run("%replay record kept")
    assert not kernel.run("%reload_ext nbreplay").ename
    assert mode(kernel) == "off"
    kernel.run("%replay record kept")
    ran = kernel.run("ask()")
    assert ran.result
    assert len(ran.status) == 1
    again = kernel.run("%reload_ext nbreplay\n%replay replay kept\nask()")
    assert again.result == ran.result
    assert len(again.status) == 2, "the mode, and the call"


TRACES = """
import sys
from IPython.core.completer import Completer
ip = get_ipython()
client_module = sys.modules["httpx2" if "httpx2" in sys.modules else "httpx"]
json.dumps({
    "transforms": [getattr(item, "__module__", "") for item in ip.input_transformers_cleanup],
    "gates": [type(item).__module__ for item in ip.ast_transformers],
    "events": sorted(f"{name} {call.__module__}" for name, calls in ip.events.callbacks.items() for call in calls),
    "magics": sorted(name for kind in ip.magics_manager.magics.values() for name in kind if "eplay" in name),
    "registry": sorted(name for name in ip.magics_manager.registry if "eplay" in name),
    "configurables": [type(item).__name__ for item in ip.configurables],
    "completer": sorted(str(key) for key in ip.strdispatchers["complete_command"].strs),
    "comms": [name for name, handler in ip.kernel.shell_handlers.items() if hasattr(handler, "__wrapped__")],
    "hook": client_module.Client._transport_for_url.__module__,
    "finders": [type(finder).__module__ for finder in sys.meta_path],
    "keys": sorted(name for name in os.environ if name.endswith("_API_KEY")),
    "placeholders": sorted(name for name, value in os.environ.items() if "placeholder" in value.lower()),
})
"""


def test_unloading_undoes_everything(bare: Kernel, model: Spawned, tmp_path: Path) -> None:
    assert not bare.run(CLIENT.format(url=model.url), silent=True).ename
    before = bare.run(TRACES).result
    assert before
    assert "nbreplay" not in before
    bare.run("%load_ext nbreplay")
    bare.run("%replay on kept")
    during = bare.run(TRACES).result
    assert during is not None
    assert re.findall(r'"(\w+)": [^:]*nbreplay', during) == ["transforms", "gates", "events", "hook", "finders"]
    for name in ("%%replay", "ReplayMagics", '"comm_msg"', '"magics": ["replay", "replay"]'):
        assert name in during
    assert "OPENAI_API_KEY" in during
    bare.run("ask()")
    kept = sorted((tmp_path / "work" / "kept").glob("chat-*"))
    assert not bare.run("%unload_ext nbreplay").ename
    assert bare.run(TRACES).result == before
    hits = model.hits
    ran = bare.run("ask()")
    assert ran.result
    assert not ran.displays
    assert model.hits == hits + 1
    assert sorted((tmp_path / "work" / "kept").glob("chat-*")) == kept
    assert "not found" in refused(bare.run("%replay"))
    assert not OF_OURS.intersection(bare.complete("%replay re"))


def test_unloading_in_a_cell_of_its_own_mode(kernel: Kernel, model: Spawned) -> None:
    hits = model.hits
    ran = kernel.run("%%replay replay kept\n%unload_ext nbreplay\nask()")
    assert ran.result
    assert model.hits == hits + 1


def test_a_line_over_a_mode_of_the_environment(kernel: Kernel, model: Spawned, tmp_path: Path) -> None:
    """A CI run sends nothing, whatever a notebook says."""
    kernel.run("os.environ['NBREPLAY_MODE'] = 'replay'")
    hits = model.hits
    for line in ("record kept", "auto kept", "off"):
        told = kernel.run(f"%replay {line}").status[0]  # then what was connected before, named once
        assert "replays; nothing goes out" in told
        assert "NBREPLAY_MODE=replay overrides" in told
        assert kernel.run("ask()").ename == "RecordingMissing"
        assert kernel.run("%%replay off\nask()").ename == "RecordingMissing"
        assert kernel.run("%%replay record kept\nask()").ename == "RecordingMissing"
    assert "replay (set by NBREPLAY_MODE)" in kernel.run("%replay").status[0]
    assert model.hits == hits
    assert not list((tmp_path / "work").rglob("chat-*"))


def test_a_wrong_mode_of_the_environment(kernel: Kernel, model: Spawned) -> None:
    kernel.run("os.environ['NBREPLAY_MODE'] = 'rplay'")
    hits = model.hits
    assert "NBREPLAY_MODE: unknown mode 'rplay'" in refused(kernel.run("%replay on kept\nask()"))
    assert "NBREPLAY_MODE: unknown mode 'rplay'" in refused(kernel.run("%%replay on kept\nask()"))
    assert model.hits == hits


def test_placeholder_keys(kernel: Kernel, model: Spawned) -> None:
    asking = f"keyless = OpenAI(base_url={model.url!r}, max_retries=0)"
    question = "keyless.chat.completions.create(model='test', messages=said('hi')).choices[0].message.content"
    assert kernel.run(asking).ename == "OpenAIError"
    kernel.run("%replay record kept")
    kernel.run(f"keyless = OpenAI(base_url={model.url!r}, max_retries=0, api_key='k')")
    answer = kernel.run(question).result
    hits = model.hits
    kernel.run("%replay replay")
    assert not kernel.run(asking).ename
    assert kernel.run(question).result == answer
    (text,) = kernel.run("%replay").status
    assert re.search("no key +.*OPENAI_API_KEY.* never sent", text)
    kernel.run("%replay auto")
    missed = kernel.run(question.replace("'hi'", "'else'"))
    assert missed.ename == "RecordingMissing"
    assert "no API key is set" in missed.evalue
    kernel.run("%replay off")
    assert kernel.run("os.environ.get('OPENAI_API_KEY')").result is None
    late = kernel.run(question)
    assert late.ename == "RecordingMissing"
    assert "placeholder" in late.evalue
    assert model.hits == hits


def test_a_project_has_defaults(bare: Kernel, model: Spawned, tmp_path: Path) -> None:
    (tmp_path / "work" / "pyproject.toml").write_text(
        '[tool.nbreplay]\nstore = "of-the-project"\nview = "off"\nignore = ["seed"]\n'
    )
    bare.run(CLIENT.format(url=model.url), silent=True)
    bare.run("%load_ext nbreplay\n%replay record")
    assert not bare.run("ask(seed=1)").displays
    bare.run("%replay replay")
    assert bare.run("ask(seed=2)").result
    assert len(list((tmp_path / "work" / "of-the-project").glob("chat-*"))) == 1


def test_a_project_file_that_cannot_be_read(bare: Kernel, tmp_path: Path) -> None:
    (tmp_path / "work" / "pyproject.toml").write_text("[tool.nbreplay]\nsped = 1\n")
    ran = bare.run("%load_ext nbreplay")
    assert "pyproject.toml" in ran.evalue + ran.stderr + ran.traceback
    assert "sped" in ran.evalue + ran.stderr + ran.traceback
    (tmp_path / "work" / "pyproject.toml").write_text("")
    assert not bare.run("%load_ext nbreplay").ename
    assert mode(bare) == "off"


def test_a_kernel_in_a_folder_below_the_store(tmp_path: Path, model: Spawned) -> None:
    """The nearest recordings/ from the working directory up to the project is found."""
    (tmp_path / "project" / "recordings").mkdir(parents=True)
    (tmp_path / "project" / "pyproject.toml").touch()
    (tmp_path / "project" / "notebooks").mkdir()
    with started(tmp_path / "project" / "notebooks") as kernel:
        assert "../recordings" in kernel.run("%load_ext nbreplay\n%replay on").status[0]
