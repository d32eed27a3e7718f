"""Secrets of every kind are found in texts, and nothing else is; `tests.hostile.secrets_corpus` prints the figures."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import math
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from nbreplay.core.secrets.containers import UnreadableContainer, parts_inside
from nbreplay.core.secrets.redact import Redactor
from tests.hostile.benign_lines import EXAMPLES, made_up, of_library, of_recordings, real_recordings
from tests.hostile.secret_kinds import KINDS, SHAPED, Kind
from tests.hostile.secrets_corpus import FORMS, NAMED, UNNAMED, benign, false_alarms, missed

PROMISED = {"prose": 50, "KEY=value": 70, "JSON": 70}
"""How many are to be found of 76 kinds, in each form."""


def test_the_corpus_is_large_enough() -> None:
    assert len(KINDS) >= 76
    assert len(SHAPED) >= 56
    assert len({kind.id for kind in KINDS}) == len(KINDS)
    assert len({kind.draw(number) for kind in KINDS for number in range(5)}) == 5 * len(KINDS)


@pytest.mark.parametrize("form", FORMS)
def test_secrets_are_found(form: str) -> None:
    lost = missed(FORMS[form])
    found = len(KINDS) - len(lost)
    print(f"\n{form}: {found} of {len(KINDS)} kinds found; not {', '.join(lost) or 'one is missed'}")
    assert found >= math.ceil(len(KINDS) * PROMISED[form] / 76), sorted(lost)


def test_what_has_a_shape_of_its_own_is_found_without_a_name() -> None:
    assert missed(FORMS["prose"], SHAPED) == {}


@pytest.mark.parametrize("form", UNNAMED)
def test_secrets_of_a_shape_are_found_however_they_are_written(form: str) -> None:
    assert missed(UNNAMED[form], SHAPED, 2) == {}


@pytest.mark.parametrize("form", NAMED)
def test_secrets_beside_a_name_are_found_however_they_are_written(form: str) -> None:
    kinds = [kind for kind in KINDS if "\n" not in kind.draw() or "JSON" in form]
    lost = missed(NAMED[form], kinds, 2)
    assert len(lost) <= 0.05 * len(kinds), lost


@pytest.mark.full
def test_benign_lines_are_left_alone() -> None:
    lines = benign()
    alarms = false_alarms(lines.lines())
    print(f"\n{len(alarms)} false alarms in {len(lines)} benign lines")
    assert len(lines) >= 40_000
    assert len(alarms) <= 5 * len(lines) / 40_000, alarms[:20]


def test_benign_text_of_many_lines_is_left_alone() -> None:
    """A name at the end of a line and a value at the start of the next are no pair."""
    lines = [*of_library(10_000), *list(made_up(2_000))[len(EXAMPLES) :], *of_recordings(2_000)]
    texts = ["\n".join(lines[start : start + 50]) for start in range(0, len(lines), 50)]
    alarms = [[match.rule for match in Redactor().matches(text)] for text in texts]
    assert sum(map(len, alarms)) <= 5 * len(lines) / 40_000, alarms


@pytest.mark.parametrize("text", EXAMPLES)
def test_documented_examples_and_placeholders_are_left_alone(text: str) -> None:
    assert Redactor().text(text) == text


@pytest.mark.parametrize("path", real_recordings(), ids=lambda path: path.stem)
def test_recordings_of_real_calls_stay_as_they_are(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert Redactor().text(text) == text


# fmt: off
HINTS = (
    "sk-", "sk_", "sk-proj-", "sk-ant-api03-", "sk-lf-", "eyJ", "eyJhbGciOi.", "ey", "AKIA", "ghp_", "github_pat_",
    "glpat-", "xoxb-", "xoxb-1-", "xapp-1-A", "hf_", "gsk_", "AIza", "ya29.", "hvs.", "s.", "SG.", "dp.pt.",
    "dt0c01.", "npm_", "pypi-AgEIcHlwaS5vcmc", "lsv2_pt_", "pat", "pat.", "ATATT3", "EAAC", "EAAA", "fm2_", "glc_",
    "tfp_", "8Q~", "T3BlbkFJ", "JQQJ99", ".atlasv1.", "_mmk", "-us12", "2/1/", "00", "SK0", "key-", "sha256~",
    "v1.0-", "A3-AAAAAA-", "1:A", "0:AA", "://", "://a:", "://a:b", "a://a:a@", "postgres://", "https://a:a",
    "://a:b@c/", "?key=", "&key=a", "https://hooks.slack.com/services/", "https://acme.webhook.office.com/webhookb2/",
    "AccountKey=", "DefaultEndpoints", "api_key=", 'api_key="', '"api_key": "', '"api_key":', "api_key", "api_",
    "key: ", "token ", "token=", "password:", "secret", "_secret_", "secretKey", "bearer ", "Bearer", "Basic ",
    "authorization: ", "Authorization: Bearer ", "-----BEGIN PRIVATE KEY-----", "-----BEGIN RSA PRIVATE KEY-----\n",
    "-----BEGIN ", "-----END PRIVATE KEY-----", "-----BEGIN CERTIFICATE-----", "-----", "BEGIN ", "PRIVATE KEY",
    "AGE-SECRET-KEY-1", "ABSK", "bedrock-api-key-", "\\", '\\"', "\\\\n", "\\u0000", '"', "'", "=", ":", ".", "-",
    "_", "/", "+", " ", "\n", "%3D", "[secret:1]", "@", "a", "A", "0", "a0", "aA0", "a.", "a-", "a_", "a/", "a=",
    "a:", "a:a@", "a b ", "A1b2-", "<", "{", "${", "{{ ", "*", "\\/", "\\u0041", "\\\\u0041", "\\u0073k-",
)
# fmt: on
UNIT = 8_000


_numbers = itertools.count()


def seconds(text: str) -> float:
    """Return the processor time that it takes to redact a text; a number makes each try another one, against caches."""
    tried = f"{next(_numbers)} {text}"
    begin = time.thread_time()
    Redactor().text(tried)
    Redactor().url(tried)
    return time.thread_time() - begin


@cache
def _prose() -> float:
    return min(seconds(("The token of this text is sk- and no more than that. " * UNIT)[:UNIT]) for _ in range(9))


def is_linear(part: str, tail: str = "") -> bool:
    """Tell whether four times the text takes about four times as long: with a quadratic pattern it is sixteen times.

    What else the machine does may slow down one try, but not all.
    """
    short, long = ((part * (size // len(part) + 1))[:size] + tail for size in (UNIT, 4 * UNIT))
    return any(seconds(long) < 9 * max(seconds(short), _prose()) for _ in range(6))


@pytest.mark.full(quick=10)
@pytest.mark.parametrize("hint", HINTS, ids=repr)
def test_no_pattern_is_slower_than_linear(hint: str) -> None:
    for tail in ("", "!", ' "a1B2c3D4e5F6g7H8"', "\n-----END PRIVATE KEY-----"):
        assert is_linear(hint, tail), tail


@pytest.mark.full(quick=10)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.id)
def test_no_pattern_is_slower_than_linear_on_half_a_secret(kind: Kind) -> None:
    """Beginnings of the secret, over and over, so that its pattern starts everywhere and matches nowhere."""
    value = kind.draw()
    for part in (value[: len(value) // 2], value[:-1], value, f"{kind.name}={value[:5]}"):
        assert is_linear(part), part


CONTAINERS: dict[str, Callable[[int], bytes]] = {
    "streams of a PDF": lambda size: b"%PDF-1.7\n" + b"stream\n" * (size // 7),
    "members of gzip": lambda size: gzip.compress(b"", mtime=0) * (size // 20),
}


@pytest.mark.full(quick=2)
@pytest.mark.parametrize("name", CONTAINERS)
def test_no_container_takes_longer_than_linear(name: str) -> None:
    def taken(size: int) -> float:
        data = CONTAINERS[name](size)
        begin = time.thread_time()
        with contextlib.suppress(UnreadableContainer):
            any(Redactor().finds(part.decode("latin-1")) for part in parts_inside(data))
        return time.thread_time() - begin

    assert any(taken(800_000) < 9 * taken(200_000) for _ in range(3))
