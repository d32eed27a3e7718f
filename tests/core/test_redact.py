"""Secrets go, and nothing else. The keys here are put together, so that none stands in this file."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbreplay.core.secrets.credentials import PLACEHOLDER, environment_secrets
from nbreplay.core.secrets.redact import UNREDACTED, Redactor
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
    assert Redactor().url(url) == clean


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


def test_what_was_redacted_before_is_numbered_anew_where_that_is_asked_for() -> None:
    text = f"[secret:7] and {SECRETS['openai']} and [secret:7]"
    assert Redactor().text(text) == "[secret:7] and [secret:1] and [secret:7]"
    again = Redactor(again=True)
    assert again.text("[secret:7]") == "[secret:1]"
    assert again.text(text) == "[secret:1] and [secret:2] and [secret:1]"
    assert again.secrets == ["[secret:7]", SECRETS["openai"]]
    assert again.text("[secret:1234567] [secret:x] secret:1") == "[secret:1234567] [secret:x] secret:1"
    assert again.count == 4


def test_matches_tell_places_rules_and_contexts() -> None:
    key = SECRETS["openai"]
    (match,) = Redactor().matches(f"use {key}!")
    assert (match.start, match.end, match.begin) == (4, 4 + len(key), 4)
    (named,) = Redactor().matches(f'my.api_key = "{HEX}"')
    assert (named.start, named.end, named.rule, named.begin) == (14, 14 + len(HEX), "named-value", 0)
    (known,) = Redactor(["quite-ordinary"]).matches("a quite-ordinary word")
    assert (known.start, known.end, known.rule, known.begin) == (2, 16, "credential", 2)
    assert Redactor().matches("nothing") == []
    assert Redactor().finds("nothing") is False


def test_a_secret_that_reaches_over_several_texts_is_replaced_where_it_begins() -> None:
    key = SECRETS["openai"]
    redactor = Redactor()
    assert redactor.pieces([f"a {key[:9]}", key[9:20], f"{key[20:]}!", key]) == ["a [secret:1]", "", "!", "[secret:1]"]
    assert redactor.count == 2
    assert redactor.pieces(["a", "b"]) == ["a", "b"]


def test_secrets_that_overlap_are_one_and_those_that_touch_are_two() -> None:
    assert Redactor(["abcdefgh-1234", "1234-ijklmnop"]).text("x abcdefgh-1234-ijklmnop y") == "x [secret:1] y"
    assert Redactor(["abcdefgh-1234", "-abcdefgh"]).text("abcdefgh-1234-abcdefgh") == "[secret:1][secret:2]"
    (match,) = Redactor(["abcdefgh-1234", "1234-ijklmnop"]).matches("abcdefgh-1234-ijklmnop")
    assert (match.start, match.end, match.rule, match.begin) == (0, 22, "credential", 0)


def test_a_text_may_be_cut_only_outside_of_secrets_and_their_names() -> None:
    key = SECRETS["openai"]
    text = f"one {key} two"
    end = 4 + len(key)
    assert [Redactor().before(text, place) for place in (0, 3, 4, 5, end - 1, end, end + 1)] == [
        *(0, 3, 4, 4, 4),
        *(end, end + 1),
    ]
    named = f'x my_api_key = "{HEX}"'
    assert Redactor().before(named, 20) == 2
    both = f'x my_api_key = "{HEX}" api_key={HEX}'
    assert Redactor().before(both, len(both) - 1) == both.rindex("api_key")


@pytest.mark.parametrize(("mark", "encoding"), [(b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")])
def test_texts_of_two_bytes_a_letter_lose_secrets(mark: bytes, encoding: str) -> None:
    data = mark + f"grüße {SECRETS['openai']} \ud800".encode(encoding, "surrogatepass")
    clean = mark + "grüße [secret:1] \ud800".encode(encoding, "surrogatepass")
    assert Redactor().data(data) == clean
    assert Redactor().data(data + b"x") == data + b"x", "half of a letter"
    sound = mark + "grüße".encode(encoding)
    assert Redactor().data(sound) is sound


def test_parts_of_a_url_are_read_as_they_are_meant() -> None:
    key = SECRETS["openai"]
    coded = key.replace("-", "%2D")
    assert Redactor().url(f"/v1/{coded}/x?a={coded}&b=c%20d") == "/v1/[secret:1]/x?a=[secret:1]&b=c%20d"
    assert Redactor().url(f"/v1/keys/{key}") == "/v1/keys/[secret:1]"
    assert Redactor(["some words here"]).url("/x?q=some+words+here&r=1+2") == "/x?q=[secret:1]&r=1+2"
    assert Redactor(["some words here"]).url("/some%20words%20here/a+b") == "/[secret:1]/a+b"
    assert Redactor(["token/with:odd"]).url("/x?q=say:token%2Fwith%3Aodd%20%26") == "/x?q=say:[secret:1]%20%26"
    assert Redactor().url("/plain/path") == "/plain/path"


def test_fields_of_a_form_are_secret_by_their_names() -> None:
    redactor = Redactor()
    assert redactor.pairs([("key", "abc"), ("key", ""), ("monkey", "abc"), ("q", SECRETS["openai"])]) == [
        *(["key", "[secret:1]"], ["key", ""]),
        *(["monkey", "abc"], ["q", "[secret:2]"]),
    ]
    assert Redactor().pairs([(SECRETS["openai"], "x")]) == [["[secret:1]", "x"]]


def test_members_are_secret_by_their_names() -> None:
    assert Redactor().member("api_key", HEX) == "[secret:1]"
    assert Redactor().member("content", HEX) == HEX
    assert Redactor().member("api_key", f"Bearer {SECRETS['openai']}") == "Bearer [secret:1]"
    listed = {"name": "MY_API_KEY", "value": HEX}
    assert Redactor().value({"env": [listed]}) == {"env": [{"name": "MY_API_KEY", "value": "[secret:1]"}]}
    assert Redactor().value({"key": "MY_API_KEY", "value": HEX}) == {"key": "MY_API_KEY", "value": "[secret:1]"}
    assert Redactor().value({"name": "color", "value": HEX}) == {"name": "color", "value": HEX}
    assert Redactor().value({"name": 1, "value": HEX}) == {"name": 1, "value": HEX}
    assert Redactor().value({"api_key": HEX, "n": [1, None, True]}) == {"api_key": "[secret:1]", "n": [1, None, True]}
    assert Redactor().value({"api_key": [SECRETS["openai"]]}) == {"api_key": ["[secret:1]"]}


def test_json_without_a_hint_is_not_gone_through() -> None:
    sound = {"a": [1, "text"]}
    assert Redactor().json(sound, json.dumps(sound).encode()) is sound
    held = {"a": SECRETS["openai"]}
    assert Redactor().json(held, json.dumps(held).encode()) == {"a": "[secret:1]"}
    nested = {"a": json.dumps({"b": 'one"two"three'})}
    assert Redactor(['one"two"three']).json(nested, json.dumps(nested).encode()) != nested


@pytest.mark.parametrize("escape", [r"\/", r"\u002F", r"\\/", r"\u002f"])
def test_secrets_with_needless_escapes_are_found(escape: str) -> None:
    secret = "quite/ordinary/words"
    text = "x " + secret.replace("/", escape) + r" \/ y"
    redactor = Redactor([secret])
    assert redactor.text(text) == r"x [secret:1] \/ y"
    assert redactor.secrets == [secret.replace("/", escape)]
    (match,) = redactor.matches(text)
    assert (match.rule, match.begin, match.start) == ("credential", 2, 2)
    assert Redactor().text(r"no secret \/ here \u0041") == r"no secret \/ here \u0041"


@pytest.mark.parametrize(
    ("before", "seen"),
    [
        (" ", True),
        ("=", True),
        ("/", True),
        (":/", True),
        ("A/", False),
        ("Z+", False),
        ("_", False),
        ("__", True),
        ("-", False),
        ("x", False),
        ("7", False),
        ("é", True),
        (r"\n", True),
        (r"\q", False),
        (r"\u000a", True),
        (r"%0A", True),
        (r"u000a", False),
        ("sha256=", False),
        ("sha=", True),
    ],
)
def test_a_key_is_seen_where_a_word_may_begin(before: str, seen: bool) -> None:
    key = "AK" + "IA" + "IOSFODNN7QWERTYU"
    assert Redactor().text(before + key) == before + ("[secret:1]" if seen else key)


def test_a_password_in_an_address_is_a_secret_unless_it_is_a_dummy() -> None:
    assert Redactor().text("ftp://me:Gh7Kq2Zx@host/x") == "ftp://me:[secret:1]@host/x"
    for text in ("ftp://me:me@host/x", "ftp://user:password@host/x", "postgres://postgres:postgres@localhost/x"):
        assert Redactor().text(text) == text


def test_the_end_of_a_sentence_is_not_part_of_a_named_value() -> None:
    assert Redactor().text(f"my api_key = {HEX}. Next") == "my api_key = [secret:1]. Next"


def test_a_redactor_that_finds_nothing_changes_nothing() -> None:
    key = SECRETS["openai"]
    assert UNREDACTED.text(key) is key
    assert UNREDACTED.url(f"/x?key={key}") == f"/x?key={key}"
    assert UNREDACTED.pairs([("key", key)]) == [["key", key]]
    assert UNREDACTED.member("api_key", key) is key
    value = {"a": key}
    assert UNREDACTED.value(value) is value
    assert UNREDACTED.json(value, b"") is value
    assert UNREDACTED.count == 0


def test_placeholders_are_numbered_and_not_counted() -> None:
    redactor = Redactor()
    assert [redactor.placeholder(secret) for secret in ("a", "b", "a")] == ["[secret:1]", "[secret:2]", "[secret:1]"]
    assert redactor.count == 0
    assert redactor.secrets == ["a", "b"]


def test_an_escape_at_the_end_or_of_a_letter_hides_nothing() -> None:
    secret = "quite/ordinary/words"
    assert Redactor([secret]).text(r"x quite\/ordinary\/words y") == "x [secret:1] y"
    assert Redactor(["quiteAordinaryZwords"]).text(r"x quite\u0041ordinary\u005Awords") == "x [secret:1]"


def test_a_key_is_found_after_a_longer_word_that_has_its_beginning() -> None:
    key = SECRETS["openai"]
    assert Redactor().text(f"a task-{HEX} and {key}") == f"a task-{HEX} and [secret:1]"


def test_different_secrets_have_different_numbers_wherever_they_stand() -> None:
    assert Redactor().pairs([("key", "abc"), ("token", "abd"), ("key", "abc")]) == [
        *(["key", "[secret:1]"], ["token", "[secret:2]"], ["key", "[secret:1]"]),
    ]
    redactor = Redactor()
    assert [redactor.member("api_key", value) for value in (HEX, MIXED)] == ["[secret:1]", "[secret:2]"]


def test_a_plus_is_a_space_in_a_query_alone() -> None:
    redactor = Redactor(["some words here"])
    assert redactor.url("/x?q=some+words%20here") == "/x?q=[secret:1]"
    assert redactor.url("/some+words%20here") == "/some+words%20here"
