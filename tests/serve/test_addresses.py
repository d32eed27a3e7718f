"""Addresses of the local server: short names, where hosts are called, and the variables that lead SDKs to it."""

from __future__ import annotations

import importlib
import sys

import pytest

from nbreplay.core.secrets.credentials import has_placeholder
from nbreplay.errors import NbreplayError, OptionError
from nbreplay.serve.addresses import PROVIDERS, Upstreams, base_urls, parse_upstream, placeholders, split_url

BASE = "http://127.0.0.1:1/token"


@pytest.mark.parametrize(
    ("name", "host", "url"),
    [
        ("openai", "api.openai.com", "https://api.openai.com"),
        ("API.OpenAI.com", "api.openai.com", "https://api.openai.com"),
        ("ollama", "localhost:11434", "http://localhost:11434"),
        ("localhost", "localhost", "http://localhost"),
        ("127.0.0.1:8080", "127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("[::1]:8080", "[::1]:8080", "http://[::1]:8080"),
        ("gpu:8000", "gpu:8000", "http://elsewhere/base"),
    ],
)
def test_a_path_begins_with_a_host_or_a_short_name(name: str, host: str, url: str) -> None:
    upstreams = Upstreams({"gpu:8000": "http://elsewhere/base"})
    assert upstreams.host_of(name) == host
    assert upstreams.url_of(host) == url


def test_any_other_beginning_is_an_error_that_lists_the_short_names() -> None:
    with pytest.raises(OptionError, match=r"'opnai' is neither .* Did you mean openai\? The short names are openai, "):
        Upstreams().host_of("opnai")
    with pytest.raises(OptionError, match=r"'127\.0\.0\.1:99999' has no valid port"):
        Upstreams().host_of("127.0.0.1:99999")


def test_an_upstream_is_given_by_host_or_short_name() -> None:
    assert parse_upstream("openai=http://127.0.0.1:80/x/") == ("api.openai.com", "http://127.0.0.1:80/x")
    assert parse_upstream("Example.com=https://other") == ("example.com", "https://other")
    for wrong in ("openai", "openai=", "=http://x", "openai=x", "openai=ftp://x", "a/b=http://x", "openai=http://x?y"):
        with pytest.raises(OptionError, match="is not of the form HOST=URL"):
            parse_upstream(wrong)


def test_the_port_of_a_scheme_is_not_a_part_of_the_host() -> None:
    assert split_url("https://a.example:443/x?y=1") == ("https", "a.example", "/x?y=1")
    assert split_url("http://[::1]:443") == ("http", "[::1]:443", "/")


def test_every_variable_leads_to_the_server() -> None:
    variables = base_urls(BASE, Upstreams(), {})
    assert variables["OPENAI_BASE_URL"] == f"{BASE}/openai/v1"
    assert set(variables) == {name for provider in PROVIDERS for name in provider.variables}
    assert all(value.startswith(f"{BASE}/") for value in variables.values())


def test_keys_that_are_not_set_have_placeholders() -> None:
    found = placeholders({"GOOGLE_API_KEY": "own"})
    assert {"OPENAI_API_KEY", "ANTHROPIC_API_KEY"} <= set(found)
    assert not {"GEMINI_API_KEY", "GOOGLE_API_KEY"} & set(found)
    assert all(has_placeholder("", [(b"authorization", value.encode())]) for value in found.values())


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "nbreplay.serve.local", raising=False)
    with pytest.raises(NbreplayError, match=r"uvicorn.*pip install 'nbreplay\[serve\]'"):
        importlib.import_module("nbreplay.serve.local")
