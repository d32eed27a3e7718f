"""``%replay`` on a ``.zip`` of recordings, here and at an address, in a real kernel."""

from __future__ import annotations

from pathlib import Path

from tests.archives import certificate, exported, served
from tests.notebook.kernel import Kernel
from tests.provider import Spawned


def test_a_notebook_replays_from_a_zip(kernel: Kernel, model: Spawned, tmp_path: Path) -> None:
    work = tmp_path / "work"
    kernel.run("%replay record kept")
    first = kernel.run("ask()")
    exported(work / "kept", work / "kept.zip")
    hits = model.hits
    (told,) = kernel.run("%replay on kept.zip").status
    assert "replays; nothing goes out · kept.zip (read-only)" in told
    ran = kernel.run("ask()")
    assert ran.result == first.result
    assert "kept.zip" in ran.status[0]
    missed = kernel.run("ask('something else')")
    assert missed.ename == "RecordingMissing"
    assert "kept.zip (replay, read-only)" in missed.evalue
    assert "kept.zip (read-only), 1 recording\n" in kernel.run("%replay").status[0]
    assert model.hits == hits

    refused = kernel.run("%replay record")
    assert refused.ename == "UsageError"
    assert "kept.zip is read-only. Unzip it, and pass the folder" in f"{refused.evalue}{refused.stderr}"
    assert kernel.run("import os; os.mkdir('inner'); os.chdir('inner'); ask()").result == first.result
    assert not kernel.run("%replay on --speed 4").ename, "it is the same zip from another folder"
    assert kernel.run("ask()").result == first.result
    assert model.hits == hits
    assert not kernel.run("%%replay auto ../kept\nask('something else')").ename
    assert model.hits == hits + 1


def test_a_notebook_that_is_opened_alone_replays_from_an_address(
    kernel: Kernel, model: Spawned, tmp_path: Path
) -> None:
    pem = certificate(tmp_path)
    kernel.run("%replay record kept")
    first = kernel.run("ask()")
    (tmp_path / "served").mkdir()
    exported(tmp_path / "work" / "kept", tmp_path / "served" / "recordings.zip")
    kernel.run(f"os.environ['SSL_CERT_FILE'] = {str(pem)!r}\nos.mkdir('alone'); os.chdir('alone')")
    hits = model.hits
    with served(tmp_path / "served", pem) as url:
        kernel.run("%replay replay")
        (told,) = kernel.run(f"%replay on {url}/recordings.zip?key=SECRET").status
        missing = kernel.run(f"%replay on {url}/none.zip")
    kernel.run("del os.environ['SSL_CERT_FILE']")
    assert told.startswith(f"nbreplay replays; nothing goes out · {url}/recordings.zip (read-only)")
    assert missing.ename == "UsageError"
    assert f"{url}/none.zip cannot be fetched: 404" in f"{missing.evalue}{missing.stderr}"
    ran = kernel.run("ask()")
    assert ran.result == first.result
    assert f"{url}/recordings.zip" in ran.status[0]
    assert kernel.run("%%replay auto\nask()").result == first.result
    assert "SECRET" not in str(ran.status) + kernel.run("%replay").status[0]
    assert model.hits == hits
    assert not (tmp_path / "work" / "alone" / "recordings").exists()
