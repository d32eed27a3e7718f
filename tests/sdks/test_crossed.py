"""What was recorded under openai 2 replays under openai 3, and the other way round."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import nbreplay as nr
from tests.clients import recordings
from tests.sdks.crossed import FOLDER, MAJOR, OPERATIONS, client


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("maker", [2, 3])
def test_a_recording_of_either_major_replays_under_this_one(maker: int, name: str, tmp_path: Path) -> None:
    folder = FOLDER / f"by-openai-{maker}"
    expected = json.loads((folder / "said.txt").read_text("utf-8"))[name]
    with client("http://127.0.0.1:9/v1") as sdk, nr.session(folder, mode="replay") as session:
        assert OPERATIONS[name](sdk) == expected
    assert {item.outcome for item in session.interactions} == {"replayed"}
    assert {item.take.sdk.split(".")[0] for item in session.interactions if item.take} == {f"openai {maker}"}
    assert MAJOR in (2, 3)


def test_both_majors_key_these_requests_alike(tmp_path: Path) -> None:
    keys = [{recording.key for recording in recordings(FOLDER / f"by-openai-{maker}")} for maker in (2, 3)]
    assert keys[0] == keys[1]
    assert len(keys[0]) >= len(OPERATIONS)


def test_a_field_that_this_version_adds_is_named_in_the_miss(tmp_path: Path) -> None:
    store = shutil.copytree(FOLDER / f"by-openai-{5 - MAJOR}", tmp_path / "store")
    messages: list[dict[str, str]] = [{"role": "user", "content": "hello"}]
    with (
        client("http://127.0.0.1:9/v1") as sdk,
        nr.session(store, mode="replay"),
        pytest.raises(
            nr.RecordingMissing, match=rf"openai {MAJOR}\.\S+ sends store; openai {5 - MAJOR}\.\S+, which recorded it"
        ),
    ):
        sdk.chat.completions.create(model="test", messages=messages, store=True)  # type: ignore[arg-type]
