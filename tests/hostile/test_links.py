"""A clone that carries symbolic links: whatever is done with it, nothing outside of its store is touched."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import nbreplay as nr
from nbreplay.analysis import frame_cache
from nbreplay.cli.main import main
from nbreplay.core.store import files
from nbreplay.core.store.store import Store
from tests.clients import call, chat, outcomes
from tests.provider import Provider
from tests.testing.making import ASK, notebook, recorded

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="making links needs a right of its own here"),
    pytest.mark.skipif(shutil.which("git") is None, reason="there is no git"),
]


def git(*arguments: str, cwd: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    named = ("-c", "user.name=tests", "-c", "user.email=tests@example.com", "-c", "protocol.file.allow=always")
    subprocess.run(["git", *named, *arguments], cwd=cwd, env=environment, check=True, capture_output=True)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Somebody's own folder, last changed two hours ago."""
    folder = tmp_path / "outside"
    for number in range(5):
        (folder / f"photos-{number}").mkdir(parents=True)
        (folder / f"photos-{number}" / "photo.jpg").write_bytes(bytes([number]) * 100)
    (folder / "thesis.txt").write_text("years of work")
    (folder / "id_ed25519").write_text("a private key")
    (folder / "rows.parquet").write_bytes(b"PAR1 somebody's own")
    (folder / "one.ipynb").write_text("{}")
    (folder / "x.zip").write_bytes(b"PK")
    (folder / "data.json").write_text('{"nbreplay": 1, "key": "k1:0", "kind": "chat", "request": {}, "takes": []}')
    ago = time.time() - 7200
    for path in [*folder.rglob("*"), folder]:
        os.utime(path, (ago, ago))
    return folder


def state(folder: Path) -> dict[str, tuple[bytes, int]]:
    """What is in a folder, byte for byte, and when it was changed."""
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes() if path.is_file() else b"", path.stat().st_mtime_ns)
        for path in [folder, *sorted(folder.rglob("*"))]
    }


# Where a repository carries a link, and what it leads to.
PLACES: dict[str, Callable[[Path], list[tuple[str, str]]]] = {
    "the store": lambda _: [("recordings", "")],
    "the private folder": lambda _: [("recordings/.nbreplay", "")],
    "the cache": lambda _: [("recordings/.nbreplay/frames", "")],
    "files of the cache": lambda _: [("recordings/.nbreplay/frames/interactions.parquet", "rows.parquet")],
    "the lock": lambda _: [("recordings/.nbreplay/lock", "thesis.txt")],
    "the lock, to nothing": lambda _: [("recordings/.nbreplay/lock", "new")],
    "what git is told": lambda _: [("recordings/.nbreplay/.gitignore", "new")],
    "a recording": lambda repo: [(f"recordings/{first(repo, 'chat-*.json')}", "data.json")],
    "a recording, to nothing": lambda repo: [(f"recordings/{first(repo, 'chat-*.json')}", "new")],
    "a blob": lambda repo: [(f"recordings/{first(repo, 'blob-*.bin')}", "thesis.txt")],
    "the outputs": lambda _: [("out", ""), ("out.parquet", ""), ("out.zip", "x.zip"), ("stack", "")],
    "a folder of the outputs": lambda _: [("stack/common", ""), ("out.parquet/interactions", "")],
}


def first(repo: Path, pattern: str) -> str:
    """The name of the recording of "hello", or of the body beside another."""
    (found,) = [path.name for path in (repo / "recordings").glob(pattern) if b"never" not in path.read_bytes()]
    return found


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with two notebooks, and with recordings for one of them, a body of its own beside them."""
    repo = tmp_path / "origin"
    recorded(repo / "recordings", "hello", "never asked again")
    with Provider() as provider, nr.session(repo / "recordings", mode="record"):
        call("sync", provider.url, lambda client: spoken(client))
    shutil.rmtree(repo / "recordings" / ".nbreplay")
    notebook(repo / "one.ipynb", ASK, 'print(ask("hello"))')
    return repo


async def spoken(client: object) -> bytes:
    answer = client.audio.speech.create(model="test", voice="alloy", input="hello")  # type: ignore[attr-defined]
    return bytes(answer.content)


def clone(repo: Path, outside: Path, links: list[tuple[str, str]]) -> Path:
    """Put links into a repository, and clone it."""
    for name, target in links:
        link = repo / name
        if link.is_dir():
            shutil.rmtree(link)
        link.unlink(missing_ok=True)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(outside / target if target else outside)
    git("init", "-q", "-b", "main", ".", cwd=repo)
    git("add", "-f", ".", cwd=repo)
    git("commit", "-q", "-m", "recordings", cwd=repo)
    made = repo.parent / "clone"
    git("clone", "-q", str(repo), str(made), cwd=repo)
    assert all((made / name).is_symlink() for name, _ in links)
    return made


def load(_: Provider) -> None:
    nr.load("recordings", strict=False).chunks  # noqa: B018


def auto(provider: Provider) -> None:
    with nr.session("recordings", mode="auto"):
        call("sync", provider.url, chat("a new question"))


def record(provider: Provider) -> None:
    with nr.session("recordings", mode="record"):
        call("sync", provider.url, chat("hello"))
        call("sync", provider.url, spoken)


def replay(provider: Provider) -> None:
    with nr.session("recordings", mode="replay"):
        call("sync", provider.url, chat("hello"))


def run_update(provider: Provider) -> None:
    notebook(Path("new.ipynb"), ASK, f'print(ask("another question", url={provider.url!r}))')
    main(["run", "new.ipynb", "one.ipynb", "--mode", "auto", "--update", "--output", "out"])


def trim(_: Provider) -> None:
    main(["trim", "one.ipynb", "--yes"])


def verify(_: Provider) -> None:
    main(["verify", "recordings", "--update"])


def take_in(_: Provider) -> None:
    main(["import", "recordings", "--store", "recordings"])


def exported(form: str, target: str) -> Callable[[Provider], None]:
    return lambda _: [main(["export", target, "--format", form]) for _ in range(2)] and None


ACTIONS: dict[str, Callable[[Provider], None]] = {
    "load": load,
    "replay": replay,
    "auto": auto,
    "record": record,
    "run --update": run_update,
    "trim --yes": trim,
    "verify --update": verify,
    "import": take_in,
    "export to zip": exported("zip", "out.zip"),
    "export to parquet": exported("parquet", "out.parquet"),
    "export to llama-stack": exported("llama-stack", "stack"),
}


@pytest.mark.full(quick="each")
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("place", PLACES)
def test_nothing_outside_is_touched(
    place: str, action: str, repository: Path, outside: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clone(repository, outside, PLACES[place](repository)))
    before = state(outside)
    for _ in range(2):  # what the first time makes, the second may find
        with contextlib.suppress(nr.NbreplayError, nr.RecordingMissing, SystemExit):
            ACTIONS[action](provider)
        assert state(outside) == before


@pytest.mark.full(quick=1)
@pytest.mark.parametrize("place", ["the private folder", "the cache", "files of the cache", "the lock", "a recording"])
def test_a_system_that_opens_only_paths(
    place: str, repository: Path, outside: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as Windows, which has neither O_NOFOLLOW nor descriptors of folders."""
    monkeypatch.chdir(clone(repository, outside, PLACES[place](repository)))
    monkeypatch.setattr(files, "_RELATIVE", False)
    for name, flags in (("_NO_FOLLOW", 0), ("_SAFE", 0)):
        monkeypatch.setattr(files, name, flags)
    monkeypatch.setattr(files, "_CREATING", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    before, refused = state(outside), 0
    for action in (load, auto, record, replay):
        try:
            action(provider)
        except (nr.UnsafeRecordingError, nr.RecordingMissing):
            refused += 1
        assert state(outside) == before
    assert refused or place in ("files of the cache", "the lock")
    assert len(list(Path("recordings").glob("*.json"))) >= 2


UNSAFE = {
    "the store": ({"record", "auto"}, r"recordings is a symbolic link to \S+/outside, which is not a store"),
    "the private folder": ({"record", "auto", "load"}, r"\.nbreplay is a symbolic link, and nothing is written"),
    "the cache": ({"load"}, r"\.nbreplay/frames is a symbolic link"),
    "a recording": ({"record", "replay"}, r"chat-\w+\.json is a symbolic link.*git annex unlock"),
    "a blob": ({"replay a blob"}, r"chat-|blob-\w+\.bin is a symbolic link"),
}


def replay_blob(provider: Provider) -> None:
    with nr.session("recordings", mode="replay"):
        call("sync", provider.url, spoken)


@pytest.mark.parametrize("place", UNSAFE)
def test_what_is_refused_is_named(
    place: str, repository: Path, outside: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloned = clone(repository, outside, PLACES[place](repository))
    monkeypatch.chdir(cloned)
    actions, message = UNSAFE[place]
    if "load" in actions:
        pytest.importorskip("pyarrow", reason="frames are cached with it: pip install -e '.[parquet]'")
    for action in actions:
        with pytest.raises((nr.UnsafeRecordingError, nr.RecordingMissing)) as refused:
            {**ACTIONS, "replay a blob": replay_blob}[action](provider)
        error = refused.value.__cause__ if isinstance(refused.value, nr.RecordingMissing) else refused.value
        assert isinstance(error, nr.UnsafeRecordingError)
        assert re.search(message, str(error)), str(error)
        assert str(cloned) in str(error)


def test_a_lock_that_is_a_link_costs_nobody_the_answer(
    repository: Path, outside: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clone(repository, outside, PLACES["the lock"](repository)))
    with nr.session("recordings", mode="record") as session:
        assert call("sync", provider.url, chat("hello"))
    assert outcomes(session) == ["unsaved"]
    assert "recordings/.nbreplay/lock is a symbolic link" in session.interactions[0].note


# What people do on purpose goes on.


def test_a_store_may_be_a_link_to_a_store_or_to_an_empty_folder(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    Path("recordings").symlink_to(tmp_path / "data")
    for text in ("one", "two"):
        with nr.session("recordings", mode="auto") as session:
            call("sync", provider.url, chat(text))
        assert outcomes(session) == ["recorded"]
    assert len(nr.load("recordings").interactions) == 2
    assert len(Store(tmp_path / "data").names()) == 2
    # Nothing is removed through it, and the remedy is said.
    notebook(tmp_path / "one.ipynb", ASK, 'print(ask("one"))')
    monkeypatch.setenv("NBREPLAY_STORE", "recordings")
    assert main(["trim", "one.ipynb", "--yes"]) == 1
    assert len(Store("recordings").names()) == 2
    monkeypatch.setenv("NBREPLAY_STORE", str(tmp_path / "data"))
    assert main(["trim", "one.ipynb", "--yes"]) == 0
    assert len(Store("recordings").names()) == 1


def test_only_half_written_files_of_the_cache_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install -e '.[parquet]'")
    monkeypatch.setattr(frame_cache, "YOUNG_NS", 0)
    recorded(tmp_path / "recordings", "question")
    frames = tmp_path / "recordings" / ".nbreplay" / "frames"
    (frames / "mine").mkdir(parents=True)
    names = ["notes.txt", "mine/notes.txt", "x.parquet", ".chunks.parquet.7.0a.1.tmp", ".chunks.parquet.7.0a.2.tmp"]
    for name in names:
        (frames / name).write_text("mine")
        os.utime(frames / name, (0, 0))
    os.utime(frames / names[-1])  # of a process that is still writing
    nr.load(tmp_path / "recordings").interactions  # noqa: B018
    left = {path.relative_to(frames).as_posix() for path in frames.rglob("*") if path.is_file()}
    (own,) = frames.glob("interactions-*.parquet")
    assert left == {*names, own.name} - {names[3]}


def test_only_its_own_half_written_files_are_removed(tmp_path: Path) -> None:
    private = tmp_path / "recordings" / ".nbreplay"
    private.mkdir(parents=True)
    for name in ("notes.txt", "chat-0123456789abcdef.json", "chat-0123456789abcdef.json.7.7.7", "spool.7.7.7"):
        (private / name).write_text("")
        os.utime(private / name, (1, 1))
    Store(tmp_path / "recordings").prepare()
    assert {path.name for path in private.iterdir()} == {"notes.txt", "chat-0123456789abcdef.json", ".gitignore"}


@pytest.mark.parametrize("inside", [True, False])
def test_a_linked_notebook_is_updated_where_it_is_below_its_folder(
    inside: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "repo").mkdir()
    real = notebook(tmp_path / ("repo/real" if inside else "elsewhere") / "one.ipynb", "print(1)")
    before = real.read_bytes()
    (tmp_path / "repo" / "link.ipynb").symlink_to(real)
    monkeypatch.chdir(tmp_path / "repo")
    assert main(["run", "link.ipynb", "--update"]) == (0 if inside else 1)
    assert (real.read_bytes() != before) is inside
    if not inside:
        told = "".join(capsys.readouterr())
        assert f"link.ipynb is a symbolic link that leads out of its folder. Pass {real}" in told


def test_an_export_is_replaced_only_where_nothing_else_is_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install -e '.[parquet]'")
    monkeypatch.chdir(tmp_path)
    recorded(tmp_path / "recordings", "hello")
    assert main(["export", "out", "--format", "parquet"]) == 0
    (tmp_path / "out" / "interactions" / "thesis.txt").write_text("years of work")
    assert main(["export", "out", "--format", "parquet"]) == 2
    assert "out holds interactions/thesis.txt, which no export wrote" in capsys.readouterr().err
    assert (tmp_path / "out" / "interactions" / "thesis.txt").read_text() == "years of work"
    (tmp_path / "out" / "interactions" / "thesis.txt").unlink()
    assert main(["export", "out", "--format", "parquet"]) == 0
    assert not list(tmp_path.glob(".out*"))
