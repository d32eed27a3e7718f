"""What the commands say of real recordings, of every kind that llama-stack records."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.cells import cell_len

from nbreplay.cli.main import main
from nbreplay.core.store.store import Store
from tests.formats.making import REAL
from tests.terminals import on_terminal

KINDS = ("chat", "generate", "http", "message", "model", "tool", "embedding", "completion")


@pytest.mark.full
@pytest.mark.skipif(not REAL.is_dir(), reason="the recordings of other tools are not here")
def test_real_recordings_are_listed_shown_compared_and_not_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "real")
    assert main(["import", str(REAL), "--store", str(store.path)]) == 0
    capsys.readouterr()

    assert main(["ls", str(store.path)]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert {row[0] for row in rows} == set(store.names())
    assert not [row for row in rows if not row[10]], "each asks something"
    _, out = on_terminal(monkeypatch, 80, "ls", str(store.path))
    assert max(map(cell_len, out.splitlines())) <= 80

    for kind in KINDS:
        names = sorted(store.names(kind))[:4]
        for name in names:
            assert main(["show", name, "--store", str(store.path)]) == 0
            recording = store.read(name)
            assert recording is not None
            assert capsys.readouterr().out.count("\ntake ") == len(recording.takes)
            _, out = on_terminal(monkeypatch, 80, "show", str(store.path / name))
            assert max(map(cell_len, out.splitlines())) <= 80
        assert main(["diff", *names[:2], "--store", str(store.path)]) == 1
        out = capsys.readouterr().out
        assert out.startswith(f"a  {names[0]}")
        assert "[-" in out or "  only in " in out

    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert main(["verify", str(store.path), "--dry-run"]) == 3
    assert f"not asked again: {len(rows)} recordings\n" in capsys.readouterr().out
