"""Secrets go, and nothing else. The keys here are put together, so that none stands in this file."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbreplay.core.secrets.credentials import PLACEHOLDER, environment_secrets
from nbreplay.core.secrets.redact import Redactor, redact_url
from tests.core.making import json_values

MIXED = "aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY3zA5bC7dE9fG1hJ3"
HEX = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"

SECRETS = {
    "openai": "sk-" + MIXED,
    "openai project": "sk-" + "proj-" + MIXED + "_" + MIXED[:9] + "-T3BlbkFJ" + MIXED,
    "openai service account": "sk-" + "svcacct-" + MIXED,
    "openai, letters only": "sk-" + "qzkxvbnmwpjhgtrfdscylaeiou",
    "anthropic": "sk-" + "ant-api03-" + MIXED + "-" + MIXED[:20] + "AA",
    "openrouter": "sk-" + "or-v1-" + HEX * 2,
    "deepseek": "sk-" + HEX,
    "langfuse": "sk-" + "lf-0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0",
    "stripe": "sk" + "_live_" + MIXED[:24],
    "stripe, test": "sk" + "_test_" + MIXED[:24],
    "stripe, restricted": "rk" + "_live_" + MIXED[:24],
    "google": "AI" + "za" + "SyA" + MIXED[:32],
    "google oauth": "ya" + "29.a0" + MIXED,
    "github": "gh" + "p_" + MIXED[:36],
    "github app": "gh" + "s_" + MIXED[:36],
    "github, fine-grained": "github" + "_pat_" + MIXED[:22] + "_" + MIXED,
    "gitlab": "gl" + "pat-" + MIXED[:20],
    "aws": "AK" + "IA" + "IOSFODNN7QWERTYU",
    "aws, temporary": "AS" + "IA" + "IOSFODNN7QWERTYU",
    "slack": "xo" + "xb-" + "123456789012-1234567890123-" + MIXED[:24],
    "hugging face": "hf" + "_" + MIXED[:34],
    "groq": "gsk" + "_" + MIXED + "abcd",
    "tavily": "tv" + "ly-dev-" + MIXED[:32],
    "perplexity": "pp" + "lx-" + MIXED,
    "replicate": "r8" + "_" + MIXED[:37],
    "xai": "xa" + "i-" + MIXED + MIXED[:32],
    "nvidia": "nv" + "api-" + MIXED + "-_" + MIXED[:14],
    "cerebras": "cs" + "k-" + MIXED,
    "fireworks": "fw" + "_" + MIXED[:24],
    "jwt": "ey" + "JhbGciOiJIUzI1NiJ9." + "ey" + "JzdWIiOiIxMjM0NTY3ODkwIn0." + MIXED[:43],
    "private key": "-----BEGIN " + "RSA PRIVATE KEY-----\nMIIEow\nIBAAKC\n-----END " + "RSA PRIVATE KEY-----",
    "placeholder": PLACEHOLDER,
}

SURVIVE = [
    "risk-assessment-2024-framework-v2",
    "task-0f1e2d3c4b5a69788796a5b4c3d2e1f0",
    "a disk-1234567890abcdef1234 and a desk-12",
    "sk-learn, sk-1, sk-short",
    '<div id="sk-container-id-123" class="sk-top-container"><input id="sk-estimator-id-12345" class="sk-hidden">',
    "sk_model_accuracy_by_epoch_2024 = sk_learn_pipeline_version_2.fit()",
    "co_occurrence_matrix_top_100 = hf_text_embeddings_inference_v2(fw_update_version_check_3)",
    "co_authored, hf_hub_download, r8_unorm, gsk_2024",
    "import hf_transfer; from fw_lib import x",
    "chatcmpl-AbC123dEf456GhI789jKl012MnO345pQ",
    "call_fY5J03lFbmThl4W9MutX0D1g",
    "resp_0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c",
    "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0",
    "d2hhdGV2ZXIgc2stYWJj/sk+AKIAabc//xoxb9/ghp/eyJh",
    "the bearer of this letter, a bearer token, Bearer",
    "The secret_key is to try. secret_access_key = None",
    "api_key: str, token: int, max_tokens=100, password?",
    "eyJhbGci is how a JWT begins; eyJ.eyJ.x too",
    "-----BEGIN PUBLIC KEY-----\nMIIBIj\n-----END PUBLIC KEY-----",
    "AKIA is a prefix, ASIA a continent and ASIAN an adjective",
    "[secret:1] [masked] @1",
    "ollama/llama3.2:1b",
    "https://example.com/v1/models?page=2&monkey=3&q=key",
]


AROUND = [
    "{}",
    "My key is {}.",
    'OpenAI(api_key="{}")',
    "export X={}",
    "a\n{}\nb",
    "({})",
    "`{}`",
    "key:\t{}, thanks",
    "«{}»",
    "{}\n",
    "**{}**",
]


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS.keys())
def test_a_secret_goes_and_what_is_around_it_stays(secret: str) -> None:
    for around in AROUND:
        text, clean = around.format(secret), around.format("[secret:1]")
        assert Redactor().text(text) == clean
        # As it stands in a body that is still JSON text, line ends escaped.
        for escaped in (json.dumps({"content": text}), json.dumps({"content": text}, ensure_ascii=False)):
            redactor = Redactor()
            assert redactor.finds(escaped)
            assert json.loads(redactor.text(escaped)) == {"content": clean}
            assert redactor.count == 1


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS.keys())
def test_a_secret_is_found_in_long_texts_too(secret: str) -> None:
    events = '["content","la la"],\n' * 500
    assert not Redactor().finds(events)
    assert Redactor().text(f'{events}["content","{secret}"]\n{events}') == f'{events}["content","[secret:1]"]\n{events}'


def test_a_secret_is_found_in_texts_of_many_megabytes() -> None:
    events = '["content","la la"],\n' * 250_000
    assert not Redactor().finds(events)
    assert Redactor().finds(f'{events}["content","sk-{MIXED}"]')


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS.keys())
def test_a_secret_is_found_beside_what_is_no_text_and_beside_what_is_not_ascii(secret: str) -> None:
    for odd in ("\udcff", "\ud83d", "\U0001f642 « é"):
        assert Redactor().text(f"{odd} {secret} {odd}") == f"{odd} [secret:1] {odd}"


def test_a_known_secret_with_a_quote_in_it_is_found_in_long_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", 'one"two"three')
    events = '["content","la la"],\n' * 500
    assert Redactor().text(events + 'one"two"three') == events + "[secret:1]"
    assert Redactor().text(events + r'"one\"two\"three"') == events + '"[secret:1]"'


@pytest.mark.parametrize("text", SURVIVE)
def test_what_only_looks_like_a_secret_survives(text: str) -> None:
    redactor = Redactor()
    assert redactor.text(text) == text
    assert redactor.value({text: [text]}) == {text: [text]}
    assert redactor.url(text) == text
    assert redactor.data(text.encode()) == text.encode()
    assert redactor.count == 0


def test_only_the_value_goes_where_a_word_tells_that_it_is_secret() -> None:
    aws = "wJalr/XUtnFEMI+K7MDENG/bPxRfiCY" + "QWERTYUKEY"
    assert Redactor().text(f'aws_secret_access_key = "{aws[:40]}"') == 'aws_secret_access_key = "[secret:1]"'
    assert Redactor().text('{"SecretAccessKey": "' + aws[:40] + '"}') == '{"SecretAccessKey": "[secret:1]"}'
    assert Redactor().text("Authorization: Bearer " + MIXED[:20]) == "Authorization: Bearer [secret:1]"
    assert Redactor().text('"authorization": "bearer ' + HEX + '"') == '"authorization": "bearer [secret:1]"'


def test_secrets_are_numbered_by_first_appearance_and_counted_by_every_one() -> None:
    one, two = SECRETS["openai"], SECRETS["github"]
    redactor = Redactor()
    assert redactor.text(f"{one} {two} {one}") == "[secret:1] [secret:2] [secret:1]"
    assert redactor.text(two) == "[secret:2]"
    assert redactor.count == 4


def test_numbers_do_not_depend_on_the_order_of_names() -> None:
    one, two = SECRETS["openai"], SECRETS["github"]
    assert Redactor().value({"a": one, "b": two}) == Redactor().value({"b": two, "a": one})
    assert list(Redactor().value({"b": two, "a": one})) == ["b", "a"]


@pytest.mark.parametrize(
    "name",
    [
        "MY_API_KEY",
        "OPENAI_APIKEY",
        "GH_TOKEN",
        "DB_PASSWORD",
        "CLIENT_SECRET",
        "SIGNING_KEY",
        "AZURE_PAT",
        "my_credentials",
    ],
)
def test_values_of_secret_variables_go(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    value = 'quite "ordinary" wörds\\'
    monkeypatch.setenv(name, value)
    redactor = Redactor()
    assert redactor.text(f"x {value} y") == "x [secret:1] y"
    for ascii_only in (True, False):
        assert redactor.text(json.dumps(f"x {value} y", ensure_ascii=ascii_only)).startswith('"x [secret:')
    assert environment_secrets()
    monkeypatch.delenv(name)
    assert environment_secrets() == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOKENIZERS_PARALLELISM", "false-or-true"),
        ("MAX_TOKENS", "1000000000"),
        ("API_KEY_FILE", "/run/secrets/some-file"),
        ("MY_API_KEY", "changeme"),
        ("MY_API_KEY", "short"),
        ("MY_API_KEY", ""),
        ("EDITOR", "long-enough-editor"),
        ("SSH_KEY", __file__),
    ],
)
def test_values_of_other_variables_stay(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    assert Redactor().text(f"x {value} y") == f"x {value} y"


def test_a_longer_secret_goes_before_one_that_it_begins_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", "some-token")
    monkeypatch.setenv("B_TOKEN", "some-token-and-more")
    assert Redactor().text("some-token-and-more some-token") == "[secret:1] [secret:2]"


def test_the_token_of_a_call_is_a_secret_unless_it_is_a_plain_word() -> None:
    assert Redactor(["quite-ordinary"]).text("quite-ordinary words") == "[secret:1] words"
    for word in ("ollama", "EMPTY", "not-needed", "lm-studio", "x", ""):
        assert Redactor([word]).text(f"the {word} model") == f"the {word} model"


@pytest.mark.parametrize(
    ("url", "clean"),
    [
        ("/v1/x?key=abc&page=2", "/v1/x?key=[secret:1]&page=2"),
        ("/v1/x?a=1&api_key=abc", "/v1/x?a=1&api_key=[secret:1]"),
        ("https://h/x?access_token=a.b-c#top", "https://h/x?access_token=[secret:1]#top"),
        (
            "/b/o?X-Amz-Credential=A&X-Amz-Date=2&X-Amz-Signature=B",
            "/b/o?X-Amz-Credential=[secret:1]&X-Amz-Date=2&X-Amz-Signature=[secret:2]",
        ),
        ("/x?sig=abc&sv=2", "/x?sig=[secret:1]&sv=2"),
        ("/x?monkey=abc&design=1&author=me", "/x?monkey=abc&design=1&author=me"),
        ("/x?key=", "/x?key="),
    ],
)
def test_urls_lose_the_keys_in_their_query(url: str, clean: str) -> None:
    assert redact_url(url) == clean


def test_bytes_lose_secrets_and_stay_as_they_are_otherwise() -> None:
    sound = bytes(range(256)) * 4
    assert Redactor().data(sound) is sound
    secret = SECRETS["openai"].encode()
    assert Redactor().data(sound + b" " + secret + b" " + sound) == sound + b" [secret:1] " + sound


@given(json_values, st.sampled_from(sorted(SECRETS.values())))
def test_no_secret_stays_anywhere_in_json_and_redacting_again_changes_nothing(value: Any, secret: str) -> None:
    def plant(node: Any) -> Any:
        if isinstance(node, str):
            return f"{node} {secret}"
        if isinstance(node, list):
            return [plant(item) for item in node]
        return {plant(name): plant(item) for name, item in node.items()} if isinstance(node, dict) else node

    clean = Redactor().value(plant(value))
    assert secret not in re.sub(r"\\n", "\n", json.dumps(clean))
    assert Redactor().value(clean) == clean
