"""Large bodies: into a file as they come, and out of it, without their secrets and never whole in memory."""

from __future__ import annotations

import gc
import itertools
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nbreplay.core.recording.blob import Blob, Spool, blob_from
from nbreplay.core.recording.body import plain_body
from nbreplay.core.secrets.redact import Redactor
from nbreplay.errors import RecordingFormatError

SECRET = b"sk-aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY"


def spooled(path: Path, *pieces: bytes) -> tuple[Blob, bytes, int]:
    """What becomes of bytes that arrive in these pieces: the blob, its bytes, the number of secrets."""
    redactor = Redactor()
    spool = Spool(str(path), redactor)
    for piece in pieces:
        spool.feed(piece)
    blob = spool.finish()
    return blob, path.read_bytes(), redactor.count


def test_a_blob_takes_only_the_bytes_of_its_name(tmp_path: Path) -> None:
    blob = plain_body(b"\xff\xfe", "audio/mpeg")
    assert isinstance(blob, Blob)
    folder = f"{tmp_path}/"
    (tmp_path / blob.name).write_bytes(b"\xff\xfe")
    assert blob_from(blob.name, 2, folder).data() == b"\xff\xfe"
    for other in (b"\xff", b"\xff\xfe\x00", b"\xfe\xff"):
        (tmp_path / blob.name).write_bytes(other)
        with pytest.raises(RecordingFormatError, match="is corrupt"):
            blob_from(blob.name, 2, folder)


def test_a_file_that_changes_while_it_is_there_to_be_read_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"one")
    blob = Blob(Blob.of(b"one").name, 3, path=str(tmp_path / "x"))
    assert blob.data() == b"one"
    (tmp_path / "x").write_bytes(b"two")
    with pytest.raises(RecordingFormatError, match="is corrupt"):
        blob.data()
    (tmp_path / "x").unlink()
    with pytest.raises(RecordingFormatError, match="gone"):
        blob.data()


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 60_000), max_size=6), st.integers(0, 50_000))
def test_a_secret_is_taken_out_wherever_the_pieces_are_cut(tmp_path: Path, places: list[int], at: int) -> None:
    whole = b"\x00\xff" * (at // 2) + b" " + SECRET + b" " + b"\x01" * (60_000 - at)
    bounds = [0, *sorted(places), len(whole)]
    pieces = [whole[a:b] for a, b in itertools.pairwise(bounds)]
    path = tmp_path / "spool"
    path.unlink(missing_ok=True)
    blob, written, count = spooled(path, *pieces)
    assert written == whole.replace(SECRET, b"[secret:1]")
    assert count == 1
    assert blob == Blob.of(written)
    assert blob.data() == written


def test_what_no_store_wants_does_not_stay(tmp_path: Path) -> None:
    blob, _, _ = spooled(tmp_path / "spool", b"x" * 100)
    assert (tmp_path / "spool").exists()
    del blob
    gc.collect()
    assert not (tmp_path / "spool").exists()


@pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="there is no /dev/full here, which stands in for a full disk"
)
def test_a_file_that_cannot_be_written_is_closed_and_removed_at_once(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path / "x"), Redactor())
    with open("/dev/full", "wb") as full:
        os.dup2(full.fileno(), spool._file.fileno())
    spool.feed(b"x")
    with pytest.raises(OSError, match=str(tmp_path / "x")):
        spool.finish()
    assert spool._file.closed
    assert not (tmp_path / "x").exists()


def test_what_goes_on_can_be_copied_meanwhile(tmp_path: Path) -> None:
    first = Spool(str(tmp_path / "a"), Redactor())
    first.feed(b"a" * 50_000)
    meanwhile = Spool(str(tmp_path / "b"), Redactor()).copy_from(first).finish()
    first.feed(b"b")
    assert meanwhile.data() == b"a" * 50_000
    assert first.finish().data() == b"a" * 50_000 + b"b"
