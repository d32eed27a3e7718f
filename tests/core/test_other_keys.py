"""A request is the same whoever's key is in it, wherever it is; the store names the variables that keys came from."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

import nbreplay as nr
from nbreplay.core.audit.audit import audit
from nbreplay.core.log import used_recordings
from nbreplay.core.request.request import Call
from nbreplay.core.secrets.credentials import placeholder_for
from nbreplay.core.store.files import VARIABLES
from nbreplay.core.store.store import Store
from nbreplay.formats.zip_export import export
from tests.core.making import N1, N2, call, chat, missed, record, replayed, session

NAME, OTHER = "MY_GATEWAY_KEY", "MY_SEARCH_TOKEN"
KEYS = {
    "plain": "mygatewaykeyofapril",
    "sk": "sk-" + "aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY",
    "base64": "p/Q+9zXk7/wLr2Vn+8bTyU==",
    "quoted": 'with"quotes\\and%percent',
    "hex": "0123456789abcdeffedcba9876543210",
    "placeholder": placeholder_for(NAME),
}
IMAGE = "https://pictures.example.com/cat.png"


def image(url: str) -> Call:
    part = {"type": "image_url", "image_url": {"url": url}}
    return call({"model": "gpt-4o", "messages": [{"role": "user", "content": [part]}]})


PLACES: dict[str, Callable[[str], Call]] = {
    "header": lambda key: chat(headers=[(b"x-anything", key.encode())]),
    "bearer": lambda key: chat(headers=[(b"authorization", f"Bearer {key}".encode())]),
    "query": lambda key: call(method="GET", path=f"/v1/echo?key={quote_plus(key)}"),
    "query-of-any-name": lambda key: call(method="GET", path=f"/v1/echo?who={quote_plus(key)}"),
    "path": lambda key: call(method="GET", path=f"/bot{quote(key, safe='')}/send"),
    "body": lambda key: chat(api_key=key),
    "text": lambda key: chat(f"My key is {key}, keep it."),
    "url-token": lambda key: image(f"{IMAGE}?token={quote_plus(key)}"),
    "url-of-any-name": lambda key: image(f"{IMAGE}?w=7&u={quote_plus(key)}&h=3"),
    "url-user": lambda key: image(f"https://{quote(key, safe='')}@pictures.example.com/cat.png"),
    "url-password": lambda key: image(f"https://user:{quote(key, safe='')}@pictures.example.com/cat.png"),
    "url-path": lambda key: image(f"https://pictures.example.com/{quote(key, safe='')}/cat.png"),
    "url-path-part": lambda key: image(f"https://pictures.example.com/bot{quote(key, safe='')}/cat.png"),
    "url-unquoted": lambda key: image(f"{IMAGE}?sig={key}"),
    "json-in-json": lambda key: chat(json.dumps({"url": f"{IMAGE}?token={key}"})),
    "twice": lambda key: chat(f"{key} and {quote_plus(key)}"),
    "base64": lambda key: chat("Basic " + base64.b64encode(f"user:{key}".encode()).decode()),
    "form": lambda key: call(raw=f"url={quote_plus(IMAGE + '?token=' + key)}".encode(), kind=FORM, path="/form"),
    "tool": lambda key: Call("", "", "", "", b"", tool=("fetch", {"url": f"{IMAGE}?token={key}"})),
    "dsn": lambda key: chat(f"postgresql://me:{quote(key, safe='')}@db.example.com/x"),
    "connection": lambda key: chat(f"AccountName=x;AccountKey={key};EndpointSuffix=core"),
    "yaml": lambda key: chat(f"token: {key}\nname: x"),
}
FORM = "application/x-www-form-urlencoded"


@pytest.mark.full(quick=["url-token", "url-path", "twice", "tool"])
@pytest.mark.parametrize("place", PLACES)
def test_another_key_gives_the_same_answer(place: str, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for mine in KEYS.keys() - {"placeholder"}:
        monkeypatch.setenv(NAME, KEYS[mine])
        record(session(store / mine), PLACES[place](KEYS[mine]), N1)
        for other in KEYS.values():
            monkeypatch.setenv(NAME, other)
            assert replayed(session(store / mine, "replay"), PLACES[place](other)) == N1


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (("mygatewaykeyofapril", "mysearchtokenofmay"), (placeholder_for(NAME), placeholder_for(OTHER))),
        (("mykeyforeveryservice", "mykeyforeveryservice"), (placeholder_for(NAME), placeholder_for(OTHER))),
        (("mygatewaykeyofapril", "mysearchtokenofmay"), ("mykeyforeveryservice", "mykeyforeveryservice")),
    ],
)
def test_two_keys_in_a_request_may_be_one_in_another_run(
    mine: tuple[str, str], theirs: tuple[str, str], store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(keys: tuple[str, str]) -> Call:
        for name, key in zip((NAME, OTHER), keys, strict=True):
            monkeypatch.setenv(name, key)
        return chat(f"{IMAGE}?token={keys[0]}", search=f"https://{keys[1]}@example.com")

    record(session(store), ask(mine), N1)
    made = session(store, "replay")
    assert replayed(made, ask(theirs)) == N1
    ((_, names),) = used_recordings([made.log]).items()
    assert made.store.find_unused(names) == []


def test_requests_that_differ_only_in_which_secrets_are_the_same_are_told_apart(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With real keys a request is recorded anew; where both are recorded, neither answers for another."""
    one, other = "mygatewaykeyofapril", "mysearchtokenofmay"
    monkeypatch.setenv(NAME, one)
    monkeypatch.setenv(OTHER, other)
    monkeypatch.setenv("MY_THIRD_KEY", "mythirdkeyofjune")
    record(session(store), chat(f"{one} {one} {other}"), N1)
    record(session(store), chat(f"{one} {other} {other}"), N2)
    assert replayed(session(store, "replay"), chat(f"{one} {other} {other}")) == N2
    missed(session(store, "replay"), chat(f"{one} {other} mythirdkeyofjune"))


def test_the_store_names_the_variables_whose_values_a_request_carried(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (
        (NAME, "mygatewaykeyofapril"),
        (OTHER, "mysearchtokenofmay"),
        ("UNUSED_KEY", "nobodyasksforit"),
    ):
        monkeypatch.setenv(name, value)
    record(session(store), chat(headers=[(b"authorization", b"Bearer mygatewaykeyofapril")]), N1)
    assert Store(store).variables() == (NAME,)
    record(session(store), image(f"{IMAGE}?token=mysearchtokenofmay"), N1)
    assert Store(store).variables() == (NAME, OTHER)
    assert (store / VARIABLES).read_text() == f"{NAME}\n{OTHER}\n"
    assert "april" not in "".join(file.read_text() for file in store.glob("*.json"))


def test_two_writers_name_all_variables(store: Path) -> None:
    one, other = Store(store), Store(store)
    one.add_variables([NAME])
    other.add_variables([OTHER])
    one.add_variables(["FURTHER_KEY"])
    assert one.variables() == other.variables() == ("FURTHER_KEY", NAME, OTHER)


def test_only_names_of_secrets_are_read_from_a_store(store: Path) -> None:
    store.mkdir()
    lines = ["PATH", "LD_PRELOAD", "PYTHONSTARTUP", NAME, "<<<<<<< HEAD", f"{OTHER}=x", "A_KEY" * 100, ""]
    (store / VARIABLES).write_text("\n".join(lines))
    assert Store(store).variables() == (NAME,)
    (store / VARIABLES).write_text("".join(f"KEY_{number}_TOKEN\n" for number in range(10_000)))
    assert len(Store(store).variables()) == 200
    (store / VARIABLES).unlink()
    (store / VARIABLES).symlink_to("/etc/passwd")
    assert Store(store).variables() == ()


def test_a_zip_of_a_store_names_the_variables(store: Path, tmp_path: Path) -> None:
    record(session(store), chat(), N1)
    Store(store).add_variables([NAME])
    export(Store(store), tmp_path / "all.zip")
    assert Store(tmp_path / "all.zip").variables() == (NAME,)


def test_a_replay_sets_a_placeholder_for_what_was_recorded_with_a_key(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NAME, "mygatewaykeyofapril")
    record(session(store), image(f"{IMAGE}?token={os.environ[NAME]}"), N1)
    monkeypatch.delenv(NAME)
    with nr.session(store, mode="replay") as made:
        assert replayed(made, image(f"{IMAGE}?token={os.environ[NAME]}")) == N1
    assert NAME not in os.environ
    with nr.session(store, mode="auto") as made:
        assert replayed(made, image(f"{IMAGE}?token={os.environ[NAME]}")) == N1
        assert f"no API key is set ({NAME})" in str(missed(made, image(f"{IMAGE}?w=2&token={os.environ[NAME]}")))


def test_the_audit_reports_what_is_not_the_name_of_a_variable(store: Path) -> None:
    record(session(store), chat(), N1)
    Store(store).add_variables([NAME])
    assert audit(Store(store), None, lambda: None)[0] == []
    (store / VARIABLES).write_text(f"{NAME}\nPATH\n{OTHER}=mysearchtokenofmay\n")
    findings = audit(Store(store), None, lambda: None)[0]
    assert [(finding.line, finding.kind) for finding in findings] == [(2, "format"), (3, "format")]
    assert "mysearchtokenofmay" not in str(findings)
