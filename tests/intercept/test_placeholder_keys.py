"""Placeholder keys: a client of each SDK can be built where no key is set, and nothing with a placeholder is sent."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest

import nbreplay as nr
from nbreplay.core.secrets.credentials import PLACEHOLDER
from nbreplay.core.store.store import Store
from nbreplay.intercept import placeholder_keys
from tests.clients import http, said
from tests.provider import Provider

# By the module that is imported: its package, how a client is built, and where its key is then.
CLIENTS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "openai": ("openai", lambda sdk: sdk.OpenAI().api_key),
    "anthropic": ("anthropic", lambda sdk: sdk.Anthropic().api_key),
    "google.genai": ("google-genai", lambda sdk: sdk.Client()._api_client.api_key),
    "mistralai.client": ("mistralai", lambda sdk: sdk.Mistral() and os.environ["MISTRAL_API_KEY"]),
    "cohere": ("cohere", lambda sdk: sdk.ClientV2()._client_wrapper._get_token()),
    "groq": ("groq", lambda sdk: sdk.Groq().api_key),
    "tavily": ("tavily-python", lambda sdk: sdk.TavilyClient().api_key),
    "together": ("together", lambda sdk: sdk.Together().api_key),
    "fireworks": ("fireworks-ai", lambda sdk: sdk.Fireworks().api_key),
    "replicate": ("replicate", lambda sdk: sdk.Client() and os.environ["REPLICATE_API_TOKEN"]),
    "voyageai": ("voyageai", lambda sdk: sdk.Client().api_key),
    "cerebras.cloud.sdk": ("cerebras-cloud-sdk", lambda sdk: sdk.Cerebras(warm_tcp_connection=False).api_key),
    "xai_sdk": ("xai-sdk", lambda sdk: sdk.Client() and os.environ["XAI_API_KEY"]),
    "perplexity": ("perplexityai", lambda sdk: sdk.Perplexity().api_key),
    "exa_py": ("exa-py", lambda sdk: sdk.Exa().headers["x-api-key"]),
    "firecrawl": ("firecrawl-py", lambda sdk: sdk.Firecrawl() and os.environ["FIRECRAWL_API_KEY"]),
    "pinecone": ("pinecone", lambda sdk: sdk.Pinecone() and os.environ["PINECONE_API_KEY"]),
    "deepgram": ("deepgram-sdk", lambda sdk: sdk.DeepgramClient() and os.environ["DEEPGRAM_API_KEY"]),
    "ai21": ("ai21", lambda sdk: sdk.AI21Client()._api_key),
    "huggingface_hub": ("huggingface_hub", lambda sdk: sdk.InferenceClient() and sdk.get_token()),
    "boto3": ("boto3", lambda sdk: sdk.client("bedrock-runtime")._get_credentials().access_key),
}
SERVICES = {
    "pydantic_ai": ("pydantic-ai-slim", "pydantic_ai.providers.deepseek", "DeepSeekProvider"),
    "pydantic_ai of OpenRouter": ("pydantic-ai-slim", "pydantic_ai.providers.openrouter", "OpenRouterProvider"),
}


@pytest.mark.full(quick=["openai", "anthropic", "boto3"])
@pytest.mark.parametrize("module", CLIENTS)
def test_a_client_is_built_without_a_key(module: str, store: Path) -> None:
    package, key_of = CLIENTS[module]
    before = dict(os.environ)
    with nr.session(store, mode="replay"):
        sdk = pytest.importorskip(module, reason=f"pip install {package}")
        assert PLACEHOLDER in key_of(sdk)
    assert PLACEHOLDER not in "".join(os.environ.values())
    assert not os.environ.keys() & {"AWS_DEFAULT_REGION", "AWS_SECRET_ACCESS_KEY"} - before.keys()


@pytest.mark.full
@pytest.mark.parametrize("service", SERVICES)
def test_a_framework_gets_the_keys_of_its_services_once_it_is_imported(service: str, store: Path) -> None:
    package, module, kind = SERVICES[service]
    with nr.session(store, mode="replay"):
        provider = getattr(pytest.importorskip(module, reason=f"pip install {package}"), kind)()
        assert PLACEHOLDER in provider.client.api_key


@pytest.mark.full(quick=1)
@pytest.mark.parametrize("mode", ["replay", "auto"])
def test_the_module_openai_is_its_own_client(mode: str, store: Path, provider: Provider) -> None:
    """It refuses to guess where a key for Azure is set beside its own."""
    program = f"""import openai, nbreplay as nr
openai.base_url = {provider.url!r} + "/"
with nr.session({str(store)!r}, mode=MODE):
    print(openai.chat.completions.create(model="m", messages={said("hi")!r}).choices[0].message.content)
"""
    recording = program.replace("MODE", "'record'")
    first = subprocess.run(
        [sys.executable, "-c", recording], env={**os.environ, "OPENAI_API_KEY": "k"}, capture_output=True, text=True
    )
    assert first.returncode == 0, first.stderr
    again = subprocess.run([sys.executable, "-c", program.replace("MODE", repr(mode))], capture_output=True, text=True)
    assert again.stdout == first.stdout, again.stderr


@pytest.mark.parametrize(
    ("variables", "azure"),
    [
        ({}, False),
        ({"AZURE_OPENAI_ENDPOINT": "https://mine.openai.azure.com"}, True),
        ({"OPENAI_API_TYPE": "azure"}, True),
        ({"OPENAI_API_TYPE": "openai"}, False),
        ({"AZURE_OPENAI_ENDPOINT": "https://mine.openai.azure.com", "OPENAI_API_KEY": "a-key"}, False),
    ],
)
def test_azure_has_a_placeholder_where_its_endpoint_is_set(
    variables: dict[str, str], azure: bool, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with nr.session(store, mode="replay"):
        assert ("AZURE_OPENAI_API_KEY" in placeholder_keys.placed_names()) is azure
        if azure:
            assert openai.AzureOpenAI(api_version="v", azure_endpoint="https://mine").api_key is not None


def test_keys_that_are_not_needed_are_set_under_replay_only(store: Path, tmp_path: Path) -> None:
    """With a placeholder a cloud would not look for its keys elsewhere."""
    pytest.importorskip("botocore", reason="boto3 is not installed: pip install -e '.[test-full]'")
    with nr.session(store, mode="auto"):
        assert "AWS_ACCESS_KEY_ID" not in os.environ
        with nr.session(tmp_path / "other", mode="replay"):
            assert os.environ["AWS_ACCESS_KEY_ID"].startswith(PLACEHOLDER)
            assert os.environ["AWS_DEFAULT_REGION"] == "us-east-1"
        assert "AWS_ACCESS_KEY_ID" not in os.environ
        assert "AWS_DEFAULT_REGION" not in os.environ


def test_keys_that_are_not_needed_are_set_under_replay_only_where_they_were_recorded(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Store(store).add_variables(["AWS_ACCESS_KEY_ID", "HF_TOKEN", "MY_KEY"])
    with nr.session(store, mode="auto"):
        assert {"AWS_ACCESS_KEY_ID", "HF_TOKEN", "MY_KEY"} & os.environ.keys() == {"MY_KEY"}
    with nr.session(store, mode="replay"):
        assert os.environ["HF_TOKEN"].startswith(f"hf_{PLACEHOLDER}")
        assert os.environ["AWS_ACCESS_KEY_ID"].startswith(PLACEHOLDER)
    monkeypatch.setenv("AWS_PROFILE", "mine")
    with nr.session(store, mode="replay"):
        assert "AWS_ACCESS_KEY_ID" not in os.environ


@pytest.mark.parametrize(
    ("real", "recorded"),
    [
        (["GEMINI_API_KEY"], "GOOGLE_API_KEY"),
        (["ANTHROPIC_API_KEY"], "ANTHROPIC_AUTH_TOKEN"),
        (["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"], "AWS_SESSION_TOKEN"),
        ([], "GITHUB_TOKEN"),
    ],
)
def test_where_calls_are_sent_no_placeholder_is_in_the_way_of_a_real_key(
    real: list[str], recorded: str, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(recorded, raising=False)
    for name in real:
        monkeypatch.setenv(name, "a-real-key-0123456789")
    Store(store).add_variables([recorded])
    with nr.session(store, mode="auto"):
        assert recorded not in os.environ
    with nr.session(store, mode="replay"):
        assert os.environ[recorded].startswith(PLACEHOLDER)


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


SENT: dict[str, dict[str, Any]] = {
    "header": {"headers": {"x-key": PLACEHOLDER}},
    "query": {"params": {"key": PLACEHOLDER}},
    "body": {"json": {"api_key": PLACEHOLDER}},
    "form": {"data": {"api_key": PLACEHOLDER}},
    "basic-user": {"headers": {"authorization": basic(PLACEHOLDER, "")}},
    "basic-password": {"headers": {"authorization": basic("me", PLACEHOLDER)}},
    "base64-in-body": {"json": {"auth": basic("m", PLACEHOLDER)}},
    "signature": {"headers": {"authorization": f"AWS4-HMAC-SHA256 Credential={PLACEHOLDER}/20260101/us-east-1/s3"}},
}


@pytest.mark.parametrize("mode", ["auto", "record", "off", "after"])
@pytest.mark.parametrize("place", SENT)
def test_a_placeholder_is_not_sent_in_any_place(place: str, mode: str, provider: Provider, store: Path) -> None:
    with nr.session(store, mode="replay"):
        assert "OPENAI_API_KEY" in placeholder_keys.placed_names()
    with http.Client() as client:
        if mode == "after":
            with pytest.raises(nr.RecordingMissing, match="placeholder"):
                client.post(f"{provider.url}/echo", **SENT[place])
        else:
            with nr.session(store, mode=mode), pytest.raises(nr.RecordingMissing, match="placeholder is never sent"):
                client.post(f"{provider.url}/echo", **SENT[place])
    assert provider.hits == 0


def test_a_signed_request_of_aws_is_not_sent(store: Path, provider: Provider) -> None:
    boto3 = pytest.importorskip("boto3")
    with nr.session(store, mode="replay"):
        client = boto3.client("bedrock-runtime", endpoint_url=provider.url)
        link = boto3.client("s3").generate_presigned_url("get_object", Params={"Bucket": "b", "Key": "k"})
    with nr.session(store, mode="auto"), pytest.raises(nr.RecordingMissing, match="AWS_ACCESS_KEY_ID"):
        client.converse(modelId="m", messages=[{"role": "user", "content": [{"text": "hello"}]}])
    with nr.session(store, mode="auto"), http.Client() as plain, pytest.raises(nr.RecordingMissing, match="never sent"):
        plain.get(f"{provider.url}/echo?{link.partition('?')[2]}")
    assert provider.hits == 0
