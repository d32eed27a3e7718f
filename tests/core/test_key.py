"""The key of a request: a hash of all that identifies it, and of nothing else."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from nbreplay.core.request.request import Call, canonical, key_of, read_plain
from tests.core.making import call, chat, json_values, request, shuffled

SECRET = "sk-" + "aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY"
OTHER = "sk-" + "zZ3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY"


def key(given: Call, **options: Any) -> str:
    return request(given, **options).key


def test_a_key_is_the_hash_of_the_canonical_request_and_will_stay_so() -> None:
    given = call({"model": "gpt-4o", "messages": [{"role": "user", "content": "Grüße"}], "temperature": 0.0})
    made = request(given)
    text = (
        '["chat",{"body":{"messages":[{"content":"Gr\\u00fc\\u00dfe","role":"user"}],"model":"gpt-4o","temperature":0.0},'
        '"endpoint":"chat/completions","method":"POST"}]'
    )
    assert canonical(made.kind, made.fields) == text.encode()
    assert made.key == "k1:" + hashlib.sha256(text.encode()).hexdigest()
    # Whoever changes what is keyed orphans every recording there is: then the prefix has to change, too.
    assert made.key == "k1:08ac56228caac2785160478e9905efc0772bba4b49b2437760937115b28db116"


@given(st.dictionaries(st.text(), json_values | st.floats(allow_nan=False, allow_infinity=False), max_size=5))
def test_the_canonical_text_is_that_of_the_standard_library(body: dict[str, Any]) -> None:
    text = json.dumps(["chat", {"body": body}], sort_keys=True, separators=(",", ":"))
    assert canonical("chat", {"body": body}).decode() == text


@given(st.dictionaries(st.text(), json_values, max_size=5))
def test_the_order_of_names_and_the_spelling_of_json_do_not_matter(body: dict[str, Any]) -> None:
    spellings = [
        json.dumps(body),
        json.dumps(body, indent=1, ensure_ascii=False),
        json.dumps(shuffled(body), separators=(",", ":")),
    ]
    assert len({key(call(raw=text.encode())) for text in spellings}) == 1


@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_what_is_stored_is_all_that_a_key_needs(body: dict[str, Any]) -> None:
    for given_ in (call(body), call(body, path="/hook?a=1&a=2")):
        made = request(given_)
        assert key_of(made.kind, json.loads(json.dumps(made.fields))) == made.key


@given(json_values, st.text())
@example([1e16, 1e-5, 0.0001, -0.0, 1.5e300, 5e-324, 123456789012345680.0, 9999999999999998.0, 2**70], "")
@example({"a": "\x7f\x00\u2028\U0001f642/"}, "")
@example("\x7f", "")
@example("a", "\ud800")
@example({"b": {"\x00": 1, '"': 2, "B": 3}, "B": None}, "")
def test_the_fast_way_to_make_a_key_makes_the_same(value: Any, path: str) -> None:
    fields = {"method": "POST", "path": path, "body": value}
    try:
        fields["body"] = read_plain(json.dumps(value).encode())
    except msgspec.MsgspecError:
        return
    assert key_of("http", fields, plain=True) == key_of("http", fields)
    assert key_of("http", fields) == "k1:" + hashlib.sha256(canonical("http", fields)).hexdigest()


@pytest.mark.parametrize("number", ["1e16", "-1.5E+300", "0.00001", "9.9e-5", "1e999", "NaN"])
def test_a_number_that_is_not_written_alike_everywhere_is_keyed_the_slow_way(number: str) -> None:
    with pytest.raises(msgspec.MsgspecError):
        read_plain(f'[{{"seed": {number}}}]'.encode())


def test_the_fast_way_is_taken_for_what_is_sent_to_models(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {text: key(call({"messages": [{"role": "user", "content": text}], "top_p": 0.1})) for text in ("Hi", "Hé")}
    monkeypatch.setattr("nbreplay.core.request.request.canonical", lambda *_: b"the slow way")
    made = {text: key(call({"messages": [{"role": "user", "content": text}], "top_p": 0.1})) for text in wanted}
    assert made["Hi"] == wanted["Hi"]
    assert made["Hé"] != wanted["Hé"]


@pytest.mark.parametrize("length", [0, 1000, 1010, 1023, 1024, 5000])
def test_a_key_is_the_hash_whatever_the_length(length: int) -> None:
    fields = {"body": "x" * length}
    assert key_of("chat", fields) == "k1:" + hashlib.sha256(canonical("chat", fields)).hexdigest()


def leaves(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    found = False
    for name, item in inner:
        found = True
        yield from leaves(item, (*path, name))
    if not found:
        yield path


@given(st.dictionaries(st.text(), json_values, min_size=1, max_size=4), json_values, st.data())
def test_every_leaf_matters(body: dict[str, Any], value: Any, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(list(leaves(body))))
    other = copy.deepcopy(body)
    node = other
    for step in path[:-1]:
        node = node[step]
    # As JSON: 1, 1.0 and true are equal to Python, and three requests.
    assume(json.dumps(node[path[-1]]) != json.dumps(value))
    node[path[-1]] = value
    assert key(call(body)) != key(call(other))


def test_nothing_is_rounded_and_no_white_space_folded() -> None:
    bodies: list[dict[str, Any]] = [{"temperature": 0.7}, {"temperature": 0.70000001}, {"temperature": "0.7"}]
    bodies += [{"n": 1}, {"n": 1.0}, {"n": True}, {"n": "1"}, {"n": None}, {}, {"n": []}, {"n": {}}, {"n": ""}]
    texts = ("a b", "a  b", "a\tb", "a b ", " a b", "a\nb", "A b", "a\u00a0b", "e\u0301", "\u00e9")
    keys = {key(call({"model": "m", **body})) for body in bodies} | {key(chat(text)) for text in texts}
    assert len(keys) == len(bodies) + len(texts)


def test_the_order_of_a_list_matters() -> None:
    assert key(call({"stop": ["a", "b"]})) != key(call({"stop": ["b", "a"]}))
