"""What README's table says of vcrpy, tried with it. The docs' page of the comparison says how the others were tried."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import vcr

from tests.clients import said, sdk
from tests.provider import Provider

MATCHED = ["method", "scheme", "host", "port", "path", "query", "body"]


@pytest.fixture
def cassette(tmp_path: Path) -> Path:
    return tmp_path / "cassette.yaml"


def ask(client: Any, text: str) -> str:
    """Ask a question, and return the answer."""
    return client.chat.completions.create(model="test", messages=said(text)).choices[0].message.content


def test_vcrpy_takes_another_prompt_for_the_same_request_unless_bodies_are_matched(
    provider: Provider, cassette: Path
) -> None:
    with sdk("sync", provider.url, max_retries=0) as client:
        with vcr.use_cassette(str(cassette)):
            first = ask(client, "one")
        with vcr.use_cassette(str(cassette), record_mode="none"):
            assert ask(client, "two") == first
        with (
            vcr.use_cassette(str(cassette), record_mode="none", match_on=MATCHED),
            pytest.raises(Exception, match="Can't") as caught,
        ):
            ask(client, "two")
    assert isinstance(caught.value, Exception), "so that a retry or an `except Exception` catches it"


def test_vcrpy_gives_three_answers_to_a_question_asked_three_times(provider: Provider, cassette: Path) -> None:
    with sdk("sync", provider.url) as client:
        with vcr.use_cassette(str(cassette)):
            recorded = [ask(client, "one") for _ in range(3)]
        with vcr.use_cassette(str(cassette), record_mode="none"):
            assert [ask(client, "one") for _ in range(3)] == recorded
    assert len(set(recorded)) == 3


def test_vcrpy_stores_a_key_unless_its_header_is_named(provider: Provider, cassette: Path) -> None:
    with sdk("sync", provider.url, api_key="a-secret-of-mine") as client, vcr.use_cassette(str(cassette)):
        ask(client, "one")
    assert "a-secret-of-mine" in cassette.read_text("utf-8")
    cassette.unlink()
    named = vcr.use_cassette(str(cassette), filter_headers=["authorization"])
    with sdk("sync", provider.url, api_key="a-secret-of-mine") as client, named:
        ask(client, "one")
    assert "a-secret-of-mine" not in cassette.read_text("utf-8")
