"""A store that is a ``.zip``, here or at an address: what is taken out of it, and what is refused."""

from __future__ import annotations

import contextlib
import os
import stat
import struct
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import nbreplay as nr
from nbreplay.core.config import default_store, project
from nbreplay.core.recording.blob import Blob
from nbreplay.core.recording.body import plain_body
from nbreplay.core.recording.recording import file_name
from nbreplay.core.request.request import key_of
from nbreplay.core.store import archive
from nbreplay.core.store.store import Store
from nbreplay.errors import RecordingFormatError, RecordingMissing, StoreError
from nbreplay.intercept.registry import open_session
from tests.archives import certificate, exported, packed, served
from tests.core.making import chat, record, replayed, session, take
from tests.testing.making import recorded

FIELDS = {"method": "POST", "endpoint": "chat/completions", "body": {"model": "m"}}
KEY = key_of("chat", FIELDS)
NAME = file_name("chat", KEY)
BLOB = Blob.of(b"\x00\x01" * 1000)


@pytest.fixture
def kept(store: Path) -> Path:
    """A store with a recording, and a body beside it."""
    Store(store).write("chat", KEY, FIELDS, lambda _: [take(plain_body(b'{"a": 1}', "application/json")), take(BLOB)])
    return store


@pytest.fixture
def zipped(kept: Path, tmp_path: Path) -> Path:
    """The same as a zip."""
    return exported(kept, tmp_path / "store.zip")


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def refused(path: Path | str, why: str) -> None:
    with pytest.raises(StoreError) as told:
        Store(path)
    assert why in str(told.value)
    assert str(path).partition("?")[0] in str(told.value)


# What is in it.


def test_a_zip_has_what_the_folder_has(kept: Path, zipped: Path) -> None:
    one, other = Store(kept), Store(zipped)
    assert dict(one.recordings()) == dict(other.recordings())
    assert one.find("chat", KEY) == other.find("chat", KEY)
    found = other.find("chat", KEY)
    assert found is not None
    assert isinstance(found.takes[1].body, Blob)
    assert found.takes[1].body.data() == BLOB.content
    assert files(other.path) == files(kept)
    assert repr(other) == f"Store({str(zipped)!r})"
    assert other.name == str(zipped)


def test_a_zip_is_unpacked_once_and_again_when_it_is_another(kept: Path, zipped: Path) -> None:
    first = Store(zipped).path
    assert Store(zipped).path == first
    assert stat.S_IMODE(os.stat(first).st_mode) == 0o700 or os.name == "nt"
    packed(zipped, {NAME: (kept / NAME).read_text(), BLOB.name: BLOB.content or b""})
    os.utime(zipped, (1, 1))
    assert Store(zipped).path != first


def test_what_was_unpacked_goes_with_the_process(zipped: Path) -> None:
    code = f"from nbreplay.core.store.store import Store; print(Store({str(zipped)!r}).path)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip()
    assert not Path(done.stdout.strip()).exists()


def test_a_folder_that_is_called_so_is_a_folder(tmp_path: Path, kept: Path) -> None:
    kept.rename(tmp_path / "folder.zip")
    made = Store(tmp_path / "folder.zip")
    assert made.archive is None
    assert made.names() == [NAME]


@pytest.mark.parametrize("top", ["", "recordings/", "some folder/"])
def test_recordings_at_the_root_or_in_one_folder(kept: Path, tmp_path: Path, top: str) -> None:
    others = {"README.md": "read me", f"{top}.nbreplay/lock": "", "__MACOSX/._x": "x", f"{top}notes.json": "{}"}
    inside = {f"{top}{name}": data for name, data in files(kept).items()}
    made = Store(packed(tmp_path / "x.ZIP", {**others, **inside, "empty/": b""}))
    assert files(made.path) == files(kept)


def test_a_damaged_recording_is_named_by_the_zip(tmp_path: Path) -> None:
    path = packed(tmp_path / "x.zip", {NAME: "{"})
    with pytest.raises(RecordingFormatError, match="cannot be read") as told:
        Store(path).find("chat", KEY)
    assert f"{path / NAME} cannot be read" in str(told.value)


# What is refused.


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (f"../{NAME}", "which no zip of a store has"),
        (f"a/../../{NAME}", "which no zip of a store has"),
        (f"/{NAME}", "which no zip of a store has"),
        (f"..\\{NAME}", "which no zip of a store has"),
        (f"C:/{NAME}", "which no zip of a store has"),
        (f"./{NAME}", "which no zip of a store has"),
        (f"x\x1b[2J/{NAME}", "which no zip of a store has"),
        ("chat-x.json", "has no recordings"),
        (BLOB.name, "has no recordings"),
        ("README.md", "has no recordings"),
    ],
)
def test_names_that_a_store_does_not_have(tmp_path: Path, name: str, why: str) -> None:
    refused(packed(tmp_path / "x.zip", {name: "{}"}), why)
    refused(packed(tmp_path / "y.zip", {"README.md": "", name: "{}"}), why)


def repository(folder: Path, path: Path, *stores: str) -> Path:
    """Write a zip as GitHub does of a repository: all in one folder, names of any kind, a link, and a comment."""
    inside = {f"app-HEAD/{store}/{name}": data for store in stores for name, data in files(folder).items()}
    link = zipfile.ZipInfo("app-HEAD/link.json")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    odd = ["C: drive.txt", "back\\slash", "tab\t", "../up.txt", "é 🎈.md", "chat-x.json", BLOB.name, "notes/blob.bin"]
    packed(path, {"app-HEAD/": "", **{f"app-HEAD/{name}": "x" for name in odd}, **inside})
    with zipfile.ZipFile(path, "a") as made:
        made.writestr(link, "/etc/passwd")
        made.comment = b"0123456789abcdef0123456789abcdef01234567"
    return path


@pytest.mark.parametrize("inside", ["recordings", "examples/chat/recordings"])
def test_the_store_of_a_repository(kept: Path, tmp_path: Path, inside: str) -> None:
    path = repository(kept, tmp_path / "x.zip", inside)
    assert files(Store(path).path) == files(kept), "and nothing else"
    for named in (inside, f"app-HEAD/{inside}", f"{inside}/"):
        made = Store(f"{path}#{named}")
        assert files(made.path) == files(kept)
        assert made.name == made.shown == f"{path}#{named.strip('/')}"
        assert repr(made) == f"Store({made.shown!r})"
    with pytest.raises(StoreError, match=f"has recordings in {inside}, and not in the folder after #") as told:
        Store(f"{path}#elsewhere")
    assert "elsewhere" not in str(told.value)


def test_one_of_several_stores(kept: Path, tmp_path: Path) -> None:
    path = repository(kept, tmp_path / "x.zip", "b/recordings", "a")
    (kept / NAME).rename(kept / NAME.replace("chat", "embedding"))
    packed(tmp_path / "y.zip", {NAME: "{}", f"b/{BLOB.name}": "", **{f"b/{name}": "{}" for name in files(kept)}})
    with pytest.raises(StoreError) as told:
        Store(path)
    assert str(told.value) == (
        f"{path} is not a usable zip of a store: has recordings in a, b/recordings. "
        "Name one of these folders after the address or path, such as #a"
    )
    assert Store(f"{path}#b/recordings").names() == [NAME]
    refused(tmp_path / "y.zip", "has recordings in the root, b")
    assert Store(f"{tmp_path / 'y.zip'}#.").names() == [NAME]
    assert Store(f"{tmp_path / 'y.zip'}#b").names() == [NAME.replace("chat", "embedding")]


def test_a_zip_with_a_name_like_that_is_itself(zipped: Path, tmp_path: Path) -> None:
    zipped.rename(tmp_path / "x.zip#b.zip")
    assert Store(tmp_path / "x.zip#b.zip").names() == [NAME]
    (tmp_path / "y.zip#b").mkdir()
    assert Store(tmp_path / "y.zip#b").archive is None


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    link = zipfile.ZipInfo(NAME)
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as made:
        made.writestr(link, "/etc/passwd")
    refused(tmp_path / "x.zip", "is a link, or not a file")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_there_twice(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as made:
        made.writestr(NAME, "{}")
        made.writestr(NAME, "[]")
    refused(tmp_path / "x.zip", "twice")


def test_a_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    zeros = b"\0" * (8 << 20)
    path = packed(tmp_path / "x.zip", {NAME: zeros, **{f"blob-{number:032x}.bin": zeros for number in range(4)}})
    assert path.stat().st_size < 1 << 16
    refused(path, "unpacks to more than a store of its size would")
    assert not list(tmp_path.glob("nbreplay-*")), "nothing of it stays"


def test_a_bomb_that_lies_about_its_size(tmp_path: Path) -> None:
    path = packed(tmp_path / "x.zip", {NAME: b"\0" * (32 << 20)})
    data = path.read_bytes().replace(struct.pack("<L", 32 << 20), struct.pack("<L", 100))
    path.write_bytes(data)
    refused(path, "not a zip, or a damaged one")


def test_a_table_of_contents_that_says_it_is_huge(zipped: Path) -> None:
    data = bytearray(zipped.read_bytes())
    struct.pack_into("<L", data, len(data) - 22 + 12, 1 << 31)
    zipped.write_bytes(data)
    refused(zipped, "more than 60,000 files")


def test_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert archive.MOST_MEMBERS == 60_000
    monkeypatch.setattr(archive, "MOST_MEMBERS", 1_000)
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as made:
        made.writestr(NAME, "{}")
        for number in range(archive.MOST_MEMBERS):
            made.writestr(zipfile.ZipInfo(str(number)), b"")
    refused(path, "more than 1,000 files")


def test_an_encrypted_zip(zipped: Path) -> None:
    data = bytearray(zipped.read_bytes())
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = data.find(mark)
        while place >= 0:
            data[place + at] |= 1
            place = data.find(mark, place + 1)
    zipped.write_bytes(data)
    refused(zipped, "encrypted")


@pytest.mark.parametrize("content", [b"", b"PK", b"no zip at all" * 100, b"PK\x05\x06" + b"\0" * 18])
def test_what_is_no_zip(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.zip").write_bytes(content)
    refused(tmp_path / "x.zip", "is not a usable zip of a store")


def test_a_zip_that_is_cut_short_or_damaged_anywhere(zipped: Path, tmp_path: Path) -> None:
    data = zipped.read_bytes()
    for place in range(0, len(data), 7):
        (tmp_path / "x.zip").write_bytes(data[:place])
        refused(tmp_path / "x.zip", "is not a usable zip of a store")
        (tmp_path / "y.zip").write_bytes(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])
        with contextlib.suppress(StoreError):
            assert set(files(Store(tmp_path / "y.zip").path)) <= {NAME, BLOB.name}


def test_other_compressions_are_not_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_BZIP2) as made:
        made.writestr(NAME, "{}")
    refused(tmp_path / "x.zip", "unknown compression of")


def test_a_zip_that_is_not_there(tmp_path: Path) -> None:
    refused(tmp_path / "x.zip", "cannot be read")


# It is read only.


def test_nothing_is_written_to_it(zipped: Path) -> None:
    store = Store(zipped)
    for change in (store.prepare, lambda: store.write("chat", KEY, FIELDS, lambda old: [*old, take()])):
        with pytest.raises(StoreError, match=r"is read-only\. Unzip it, and pass the folder"):
            change()
    assert not (store.path / ".nbreplay").exists()


def test_recording_into_it_is_refused_at_once(zipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreError, match=r"store\.zip is read-only"), session(zipped, "record"):
        pass
    monkeypatch.setenv("NBREPLAY_MODE", "record")
    with pytest.raises(StoreError, match=r"store\.zip is read-only"), session(zipped, "replay"):
        pass


@pytest.mark.parametrize("mode", ["auto", "replay"])
def test_it_replays_and_a_miss_says_that_it_is_read_only(store: Path, tmp_path: Path, mode: str) -> None:
    record(session(store), chat("known"), b'{"answer": 1}')
    with session(exported(store, tmp_path / "x.zip"), mode) as made:
        assert made.mode.value == "replay"
        assert made.options.mode.value == mode
        assert replayed(made, chat("known"))
        with pytest.raises(RecordingMissing) as told:
            made.ask(chat("unknown"))
    assert f"{tmp_path / 'x.zip'} (replay, read-only)" in str(told.value)
    assert "unzip this store, which is read-only, and name the folder" in str(told.value)
    assert "%%replay auto" not in str(told.value)


# At an address.


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A certificate of our own that this process trusts."""
    made = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(made))
    return made


@pytest.fixture
def address(trusted: Path, tmp_path: Path) -> Iterator[str]:
    """The address of ``tmp_path/served``, over https."""
    (tmp_path / "served").mkdir()
    recorded(tmp_path / "recordings", "hello")
    exported(tmp_path / "recordings", tmp_path / "served" / "recordings.zip")
    with served(tmp_path / "served", trusted) as url:
        yield url


def asked(tmp_path: Path) -> list[str]:
    return (tmp_path / "served" / "asked").read_text().split()


def test_a_zip_is_fetched_once(address: str, store: Path, tmp_path: Path) -> None:
    url = f"{address}/recordings.zip"
    made = Store(url)
    assert files(made.path) == files(store)
    assert made.name == made.shown == url
    assert Store(Path(url)).path == made.path, "a path makes one slash of two"
    assert asked(tmp_path) == ["/recordings.zip"]


@pytest.mark.parametrize("mode", ["replay", "record", "auto"])
def test_it_is_fetched_while_another_session_is_on(address: str, tmp_path: Path, mode: str) -> None:
    outer = nr.session(tmp_path / "outer", mode=mode)
    with outer, nr.session(f"{address}/recordings.zip") as inner:
        assert inner.store.names()
    assert not outer.interactions, "and is nobody's call"
    assert not list((tmp_path / "outer").glob("*.json"))
    assert asked(tmp_path) == ["/recordings.zip"]


def test_what_is_secret_in_an_address_is_not_told(address: str, tmp_path: Path) -> None:
    made = open_session(f"{address}/recordings.zip?token=SECRET")
    assert made.store.names()
    assert "SECRET" not in f"{made!r} {made.store!r} {made.store.name} {made.store.shown} {made.store.archive!r}"
    for url, why in (
        (f"{address}/none.zip?token=SECRET", "cannot be fetched: 404 Not Found"),
        (f"{address}/rec ordings.zip?token=SECRET", "not a valid address"),
        (f"{address}/recordings.zip?token=SECRET#SECRET", "has recordings in the root"),
        (f"{address.replace('//', '//SECRET:SECRET@')}/recordings.zip", "a name or password in an address is not sent"),
        ("https://localhost:SECRET@x/y.zip", "a name or password"),
        ("https://localhost:99999999/y.zip?SECRET", "cannot be fetched"),
        ("https://[::1/y.zip?SECRET", "not a valid address"),
        ("https://localhost:1/y.zip?SECRET", "cannot be fetched"),
    ):
        with pytest.raises(StoreError) as told:
            Store(url)
        assert why in str(told.value)
        assert "Download it yourself, and pass the file" in str(told.value) or "such as #." in str(told.value)
        assert "SECRET" not in str(told.value)
        assert told.value.__cause__ is None


@pytest.mark.full(quick=2)
@pytest.mark.parametrize(
    ("to", "why"),
    [
        ("http://localhost:1/recordings.zip", "redirect to an address that is not https"),
        ("http://example.com/recordings.zip", "redirect to an address that is not https"),
        ("file:///etc/passwd", "redirect refused (302)"),
        ("https://me:secret@localhost/recordings.zip", "a name or password in an address is not sent"),
    ],
)
def test_where_it_does_not_follow(address: str, to: str, why: str) -> None:
    refused(f"{address}/away?{to}", why)


def test_it_follows_to_https(address: str, tmp_path: Path) -> None:
    assert Store(f"{address}/away?{address}/recordings.zip").names()
    assert asked(tmp_path) == ["/away", "/recordings.zip"]


def test_the_archive_of_a_repository_at_an_address(address: str, store: Path, tmp_path: Path) -> None:
    """GitHub answers its archive address with a redirect to another host."""
    repository(store, tmp_path / "served" / "zip", "first/recordings", "the second/recordings")
    url = f"{address}/away?{address.replace('localhost', '127.0.0.1')}/zip"
    with nr.session(tmp_path / "outer", mode="replay") as outer:
        made = Store(f"{url}#the%20second/recordings")
    assert not outer.interactions
    assert files(made.path) == files(store)
    assert made.shown == f"{address}/away#the%20second/recordings"
    assert Store(f"{url}#first/recordings").path != made.path
    assert asked(tmp_path) == ["/away", "/zip"], "fetched once, and nothing is sent of what comes after #"


def test_what_is_not_all_there_or_too_large(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "served" / "short.zip").write_bytes((tmp_path / "served" / "recordings.zip").read_bytes())
    refused(f"{address}/short.zip", "cannot be fetched: the connection broke off")
    monkeypatch.setattr(archive, "_DOWNLOADED_BYTES", 100)
    refused(f"{address}/recordings.zip", "cannot be fetched: larger than")


def test_what_nobody_vouches_for_is_not_fetched(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    refused(f"{address}/recordings.zip", "certificate verify failed")


def test_http_is_for_this_machine_only(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported(kept, tmp_path / "recordings.zip")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with served(tmp_path, None) as url:
        assert Store(f"{url}/recordings.zip").names() == [NAME]
    refused("http://example.com/recordings.zip", "only https addresses are fetched")


# Where it is named.


def test_the_environment_and_the_project_name_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: Path) -> None:
    url = "https://example.org/recordings.zip"
    Path("pyproject.toml").write_text(f'[tool.nbreplay]\nstore = "{url}"\n')
    assert project().store == url
    assert default_store() == url
    Path("pyproject.toml").write_text('[tool.nbreplay]\nstore = "../store.zip"\n')
    assert open_session(None).store.names() == [NAME]
    monkeypatch.setenv("NBREPLAY_STORE", str(zipped))
    assert open_session(None).store.name == str(zipped)
    monkeypatch.setenv("NBREPLAY_STORE", url)
    assert default_store() == url


def test_the_frames_of_a_zip(store: Path, tmp_path: Path) -> None:
    recorded(store, "hello", "bye")
    path = exported(store, tmp_path / "x.zip")
    whole, other = nr.load(store).interactions, nr.load(path).interactions
    assert list(other.index) == list(whole.index)
    assert list(other.file) == [os.path.join(os.path.relpath(path), Path(name).name) for name in whole.file]
    assert len(nr.load([str(path), Store(path)]).interactions) == 4
