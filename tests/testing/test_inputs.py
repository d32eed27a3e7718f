"""What a notebook asks for: keys, other inputs and variables, where nobody is at the keyboard."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbreplay.cli.report import print_results
from nbreplay.core.config import Mode
from nbreplay.core.secrets.credentials import placeholder_for
from nbreplay.testing.result import Result
from nbreplay.testing.runner import run
from tests.provider import Provider
from tests.testing.making import ASK, notebook

KEY = "a-key-that-nobody-knows-4711"
NAME = "MY_GATEWAY_KEY"

ASKING = """import getpass, os
from getpass import getpass as ask_key
def set_variable(name):
    if not os.environ.get(name):
        os.environ[name] = getpass.getpass(f"{name}: ")
class Settings: pass
def keep(**options): return options["my_gateway_key"]
given = {}"""

WAYS = {
    "by the variable assigned": f'os.environ["{NAME}"] = getpass.getpass()\ngiven["it"] = os.environ["{NAME}"]',
    "by the variable in the prompt": f'given["it"] = ask_key("Paste {NAME}: ")',
    "by a name in a function": f'set_variable("{NAME}")\ngiven["it"] = os.environ["{NAME}"]',
    "by the words of the prompt": 'api_key = ask_key("Enter your My Gateway key: ")\ngiven["it"] = api_key',
    "by the name assigned": 'my_gateway_key = ask_key()\ngiven["it"] = my_gateway_key',
    "by the attribute": 'Settings.my_gateway_key = ask_key("Key:")\ngiven["it"] = Settings.my_gateway_key',
    "by the argument": 'given["it"] = keep(\n    my_gateway_key=getpass.getpass(),\n)',
    "by the condition": f'given["it"] = os.environ.get("{NAME}") or ask_key("Key?")',
    "by input": f'given["it"] = input("Your {NAME}? ")',
    "from Colab": f'from google.colab import userdata\ngiven["it"] = userdata.get("{NAME}")',
    "from Colab, renamed": f'from google.colab import userdata as u\ngiven["it"] = u.get("{NAME}")',
    "from the store": f"%store -r {NAME}\ngiven['it'] = {NAME}",
    "from the environment": f'given["it"] = os.environ["{NAME}"]',
}
LOOK = "print(given.pop('it')[::-1])  # backwards, since keys are masked in outputs"
FORGET = f"_ = os.environ.pop({NAME!r}, None), globals().pop({NAME!r}, None)"


def printed(result: Result) -> list[str]:
    assert result.errors == []
    return [output.text.strip() for cell in result.notebook.cells for output in cell.get("outputs", [])]


def all_ways(path: Path, *after: str) -> Path:
    """A notebook that asks for one key in every way."""
    return notebook(path, ASKING, *[part for way in WAYS.values() for part in (way, "\n".join((LOOK, *after)))])


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Result:
    path = all_ways(tmp_path_factory.mktemp("inputs") / "all.ipynb", FORGET)
    return run(path, compare=False)


@pytest.mark.parametrize("way", WAYS)
def test_a_replay_gives_a_placeholder(way: str, replayed: Result) -> None:
    assert printed(replayed)[list(WAYS).index(way)][::-1] == placeholder_for(NAME)


def test_what_a_notebook_asked_for_is_reported(replayed: Result) -> None:
    assert {item.name for item in replayed.inputs} == {NAME}
    assert {item.given for item in replayed.inputs} == {"placeholder"}
    assert {item.kind for item in replayed.inputs} == {"getpass", "input", "userdata", "store", "environ"}
    assert {item.cell for item in replayed.inputs} == {f"cell-{2 * number + 1}" for number in range(len(WAYS))}


@pytest.mark.full(quick=1)
@pytest.mark.parametrize("mode", [Mode.RECORD, Mode.REPLAY])
def test_a_value_is_given_where_there_is_one(mode: Mode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the environment, or of an option, in any way of writing its name."""
    monkeypatch.setenv(NAME, KEY)
    result = run(all_ways(tmp_path / "a.ipynb"), mode=mode, compare=False)
    assert printed(result) == [KEY[::-1]] * len(WAYS)
    monkeypatch.delenv(NAME)
    result = run(all_ways(tmp_path / "b.ipynb", FORGET), mode=mode, compare=False, parameters={NAME.lower(): KEY})
    assert printed(result) == [KEY[::-1]] * len(WAYS)


MISSING = {
    f'os.environ["{NAME}"] = getpass.getpass("Key: ")': (
        f'InputMissing: the notebook asks for {NAME} (getpass "Key: "), and nobody can answer. '
        f"Set the variable {NAME} or pass -p {NAME}=VALUE"
    ),
    'city = input("Your home town? ")': (
        'InputMissing: the notebook asks for city (input "Your home town? "), and nobody can answer. Pass -p city=VALUE'
    ),
    'print(input("Your home town? "))': (
        'InputMissing: the notebook asks for HOME_TOWN (input "Your home town? "), and nobody can answer. '
        "Pass -p HOME_TOWN=VALUE"
    ),
    "print(input())": "InputMissing: the notebook asks for an input (input), and nobody can answer. Pass -p NAME=VALUE",
    f'from google.colab import userdata\nuserdata.get("{NAME}")': (
        f"InputMissing: the notebook asks for {NAME} (userdata), and nobody can answer. "
        f"Set the variable {NAME} or pass -p {NAME}=VALUE"
    ),
    f'import os\nos.environ["{NAME}"]': (
        f"KeyError: '{NAME}'. The variable {NAME} is not set. Set it or pass -p {NAME}=VALUE"
    ),
    'os.environ["MY_PLACE"]': (
        "KeyError: 'MY_PLACE'. The variable MY_PLACE is not set. Set it or pass -p MY_PLACE=VALUE"
    ),
    '{}["MY_MODEL"]': "KeyError: 'MY_MODEL'",
}


def test_an_error_names_the_variable_and_the_option(tmp_path: Path) -> None:
    path = notebook(tmp_path / "a.ipynb", ASKING, *MISSING)
    result = run(path, mode=Mode.RECORD, keep_going=True)
    first = [cell.partition("\n")[0] for cell in MISSING]
    wanted = [f"cell {number} ({line}): " for number, line in enumerate(first, 2)]
    assert result.errors == [start + text for start, text in zip(wanted, MISSING.values(), strict=True)]
    given = {(item.name, item.kind, item.given) for item in result.inputs}
    names = {(NAME, kind, "") for kind in ("getpass", "userdata", "environ")}
    assert given == {
        *names,
        ("city", "input", ""),
        ("HOME_TOWN", "input", ""),
        ("", "input", ""),
        ("MY_PLACE", "environ", ""),
    }


def test_what_is_not_secret_needs_a_value_in_a_replay_too(tmp_path: Path) -> None:
    path = notebook(tmp_path / "a.ipynb", ASKING, 'city = input("Your city: ")\nprint(city, os.environ["MY_MODEL"])')
    assert "Pass -p city=VALUE" in run(path, compare=False).errors[0]
    result = run(path, compare=False, parameters={"city": "Rome", "MY_MODEL": 7})
    assert printed(result) == ["Rome 7"]


def test_a_notebook_that_can_do_without_is_left_alone(tmp_path: Path) -> None:
    cells = (
        "try:\n    from google.colab import userdata\nexcept ImportError:\n    userdata = None",
        "try:\n    it = os.environ['MY_GATEWAY_KEY']\nexcept KeyError:\n    it = None",
        "if os.getenv('MY_SEARCH_KEY'):\n    it = os.getenv('MY_SEARCH_KEY')",
        "import sys\nprint(userdata, it, os.getenv('MY_OTHER_KEY', 'own'), 'google.colab' in sys.modules)",
        "def later():\n    return input('unasked')",
        "try:\n    later()\nexcept NotImplementedError:  # as without an answer from Jupyter\n    print('caught')",
    )
    result = run(notebook(tmp_path / "a.ipynb", "import os", *cells), compare=False)
    assert printed(result) == ["None None own False", "caught"]


def test_a_notebook_that_refuses_to_go_on_without_a_key_gets_one(tmp_path: Path) -> None:
    cells = (
        "if not os.getenv('MY_GATEWAY_KEY'):\n    raise ValueError('set it')",
        "if 'MY_SEARCH_KEY' not in os.environ:\n    print('so')\n    raise ValueError('set it')",
        "assert os.getenv('MY_OTHER_KEY'), 'set it'",
    )
    assert run(notebook(tmp_path / "a.ipynb", "import os", *cells), compare=False).errors == []


CALL = """key = getpass.getpass("Gateway key: ")
body = {"model": "m", "messages": [{"role": "user", "content": f"See https://example.com/a/{key}/b?u={key}"}], "k": key}
answer = http.post(URL + "/chat/completions", json=body, headers={"x-gateway": key}).json()
print(answer["choices"][0]["message"]["content"])"""


@pytest.mark.full
def test_a_key_that_was_asked_for_does_not_reach_the_disk(tmp_path: Path, provider: Provider) -> None:
    """It has no form of a key, and is in no variable: the answer to a question is a secret."""
    path = notebook(tmp_path / "a.ipynb", "import getpass\n" + ASK + f"\nURL = {provider.url!r}", CALL)
    first = run(path, mode=Mode.RECORD, parameters={"GATEWAY_KEY": KEY})
    assert first.count("recorded") == 1
    assert KEY not in "".join(file.read_text() for file in (tmp_path / "recordings").glob("*.*") if file.is_file())
    for parameters in ({}, {"GATEWAY_KEY": "another-key-of-somebody-else"}):
        again = run(path, compare=False, parameters=parameters)
        assert again.errors == []
        assert [(call.outcome, call.key) for call in again.calls] == [("replayed", first.calls[0].key)]


@pytest.mark.full
def test_a_variable_that_was_set_while_recording_is_named(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call = f"key = Settings.{NAME}\n" + CALL.partition("\n")[2]
    settings = f"import os\nclass Settings:\n    {NAME} = os.environ['{NAME}']\n"
    (tmp_path / "settings.py").write_text(settings)
    path = notebook(tmp_path / "a.ipynb", "from settings import Settings\n" + ASK + f"\nURL = {provider.url!r}", call)
    monkeypatch.setenv(NAME, KEY)
    first = run(path, mode=Mode.RECORD)
    assert (first.errors, first.unset) == ([], [])
    monkeypatch.delenv(NAME)
    again = run(path, compare=False)
    assert (again.errors, again.count("replayed")) == ([], 1)
    assert again.unset == [NAME]
    assert again.notes == []
    failed = run(path, mode=Mode.RECORD)
    assert f"The variable {NAME} is not set. Set it or pass -p {NAME}=VALUE" in failed.errors[0]
    print_results([failed], as_json=False)
    assert f"{NAME} was set when this store was recorded, and is not set now" in capsys.readouterr().out


LATER = "import os\n%s\nprint('MY_SEARCH_KEY' in {*os.environ})"


def test_a_key_that_a_later_cell_may_do_without_gets_no_placeholder(tmp_path: Path) -> None:
    """It was recorded without the key, and would take another way with a placeholder."""
    cells = [
        "key = os.getenv('MY_SEARCH_KEY')",
        "key: str | None = os.environ.get('MY_SEARCH_KEY')",
        "has_key = bool(os.getenv('MY_SEARCH_KEY'))",
        "has_key = os.getenv('MY_SEARCH_KEY') is not None",
        "def key():\n    return os.getenv('MY_SEARCH_KEY')",
        "key = os.getenv('MY_SEARCH_KEY')\nassert key",
    ]
    result = run(notebook(tmp_path / "a.ipynb", *(LATER % cell for cell in cells)), compare=False)
    assert printed(result) == [*["False"] * 5, "True"]


def test_a_local_module_named_google_is_not_imported_by_the_way(tmp_path: Path) -> None:
    (tmp_path / "google.py").write_text("print('imported')")
    result = run(notebook(tmp_path / "a.ipynb", "print('own')"), compare=False)
    assert printed(result) == ["own"]
