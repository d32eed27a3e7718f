"""Values of JSON as lines, and widgets as the states of their models."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nbreplay.testing.outputs.compare import flatten, widget_lines, widget_states


def lines(value: Any) -> list[str]:
    return flatten(value, lambda text: text.replace("secret", "[masked]"))


def test_values_are_told_with_where_they_stand() -> None:
    value = {"b": [1, {"c d": None}], "a": {"x": "a secret\n", "y": {}}, "c": []}
    assert lines(value) == [
        '.a.x: "a [masked]\\n"',
        ".a.y: {}",
        ".b[0]: 1",
        '.b[1]["c d"]: null',
        ".c: []",
    ]
    assert lines(7) == [".: 7"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (float("nan"), float("nan")),
        (1.0, 1),
        (-0.0, 0),
        ("secret", "secret"),
        ([0.1 + 0.2], [0.30000000000000004]),
        ({"secret": 1}, {"secret": 1}),
    ],
)
def test_values_that_are_the_same(one: Any, other: Any) -> None:
    assert lines(one) == lines(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True),
        (1, "1"),
        (0.1 + 0.2, 0.3),
        (float("nan"), None),
        (float("inf"), float("-inf")),
        ([], {}),
        ([], [[]]),
        ([1, 2], [2, 1]),
        ({"a.b": 1}, {"a": {"b": 1}}),
        ({"[0]": 1}, [1]),
        (2**53 + 1, 2**53),
        ("null", None),
    ],
)
def test_values_that_are_not(one: Any, other: Any) -> None:
    assert lines(one) != lines(other)


def test_values_nested_deeply() -> None:
    value: Any = 1
    for _ in range(5000):
        value = [{"a": value}]
    (line,) = lines(value)
    assert line.endswith("[0].a: 1")


@pytest.mark.parametrize("items", [({"x": 1}, {"x": 2}), (1, "1"), ([1], None), (2, 1)])
def test_names_that_are_masked_alike(items: tuple[Any, Any]) -> None:
    one, other = items
    assert lines({"secret": one, "[masked]": other, "a": 1})[1:] == lines({"[masked]": other, "secret": one})


def model(**state: Any) -> dict[str, Any]:
    full = {"_model_module": "@jupyter-widgets/controls", "_model_name": "IntSlider", **state}
    return {"model_name": "IntSlider", "model_module": "@jupyter-widgets/controls", "state": full}


def same(old: dict[str, Any], new: dict[str, Any], first: str = "a", second: str = "a") -> bool:
    one, other = widget_lines({"model_id": first}, {"model_id": second}, (old, new), str)
    return one == other


def test_models_are_compared_by_what_they_say_and_not_by_their_ids() -> None:
    assert same({"a": model(value=1)}, {"b": model(value=1)}, "a", "b")
    assert not same({"a": model(value=1)}, {"b": model(value=2)}, "a", "b")
    assert not same({"a": model(value=1)}, {"b": {**model(value=1), "model_name": "FloatSlider"}}, "a", "b")
    buffers = [{"path": ["value"], "encoding": "base64", "data": "AA=="}]
    assert not same({"a": {**model(), "buffers": buffers}}, {"a": {**model(), "buffers": []}})
    assert same({"a": model(_view_module_version="2.0.0")}, {"a": model(_view_module_version="2.1.0")})


def test_models_that_are_referred_to_count_and_a_circle_ends() -> None:
    old = {"a": model(layout="IPY_MODEL_b"), "b": model(parent="IPY_MODEL_a", width="1px")}
    new = {"x": model(layout="IPY_MODEL_y"), "y": model(parent="IPY_MODEL_x", width="1px")}
    assert same(old, new, "a", "x")
    new["y"]["state"]["width"] = "2px"
    assert not same(old, new, "a", "x")
    assert not same(old, {"a": old["a"]}), "a model that is gone"


def test_which_model_is_shared_counts() -> None:
    old = {"a": model(children=["IPY_MODEL_b", "IPY_MODEL_c"]), "b": model(), "c": model()}
    new = {"a": model(children=["IPY_MODEL_b", "IPY_MODEL_b"]), "b": model(), "c": model()}
    assert not same(old, new)


def test_a_chain_of_models() -> None:
    chain = {str(number): model(child=f"IPY_MODEL_{number + 1}") for number in range(3000)}
    assert same(chain, chain, "0", "0")
    other = {**chain, "2999": model(child=None)}
    assert not same(chain, other, "0", "0")


def test_defaults_that_jupyterlab_does_not_store_are_not_missing() -> None:
    brief = {"a": {"model_name": "IntSlider", "model_module": "@jupyter-widgets/controls", "state": {"value": 3}}}
    assert same(brief, {"a": model(value=3, max=100)})
    assert not same(brief, {"a": model(value=4, max=100)})
    assert not same({"a": model(value=3)}, {"a": model(value=3, max=100)}), "both say all"


def test_where_no_state_is_stored_only_that_there_is_a_widget_counts() -> None:
    assert same({}, {"a": model(value=1)})
    assert not same({"a": model(value=1)}, {})


@pytest.mark.parametrize(
    "metadata", [{}, {"widgets": 1}, {"widgets": {"application/vnd.jupyter.widget-state+json": []}}]
)
def test_a_notebook_without_widgets(metadata: Any) -> None:
    assert widget_states({"metadata": metadata}) == {}
    assert widget_states({}) == {}


@pytest.mark.parametrize("broken", [None, 7, {"state": 7}, {"state": None}, {"state": {"x": "IPY_MODEL_gone"}}, []])
def test_models_that_are_none_do_not_crash(broken: Any) -> None:
    assert same({"a": broken}, {"a": json.loads(json.dumps(broken))})
    assert not same({"a": broken}, {"a": model(value=1)})
