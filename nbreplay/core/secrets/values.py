"""Judging single names and values: which names say that their value is a secret, and which values look like one."""

from __future__ import annotations

import functools
import math
import re
from collections import Counter


def words(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


# The words of a name, such as api and key of apiKey, API_KEY and api-key.
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_SECRET_WORDS = words(
    "token secret password passwd passphrase pwd credential credentials authorization authtoken apikey dsn"
)
# "key" says little by itself: only these before it make it a secret one.
_KINDS_OF_KEY = words(
    "api access secret private signing encryption encrypt master account auth service subscription license client "
    "consumer app application write admin server deploy shared session storage webhook jwt hmac ssh rest"
)
_WHOLE_NAMES = frozenset({"auth", "connectionstring", "connstr"})
# With these words the value is not the secret itself: a token's price, the next page, a public key.
_HARMLESS_WORDS = words(
    "max min num count next page pages previous prev continuation cursor sync public primary foreign cache cached sort "
    "partition prompt completion input output total reasoning bos eos pad unk sep cls mask special stop idempotency "
    "usage limit per price cost tokenizer tokenizers tokens fingerprint thumbprint ice change action"
)
_HARMLESS_LAST_WORDS = words(
    "id ids type types name names length size file path dir folder url uri endpoint expires expiry ttl index pos "
    "position algorithm alg format version scheme required hint help label title description prefix regex pattern "
    "env var variable field header param parameter class method store ring pair vault manager provider "
    "used last changed at age policy"
)

# The pairs of letters that English words and identifiers are mostly made of. They are three quarters of the pairs in
# words, and a fifth of those in random letters.
_COMMON_PAIRS = words(
    "ab ac ad ag ai al am an ap ar as at ba be bl ca ce ch ck cl co cr ct da de di do ea ec ed ee ef el em en ep er "
    "es et ex fi fo ge ha he ho ia ib ic id ie if ig il im in io ip ir is it iv ke la le li ll lo lt ly ma me mi mo "
    "mp na nc nd ne ng ni no ns nt oc od ol om on op or os ot ou ow pa pe pi pl po pr pt py ra rc re ri rm ro rr rs "
    "rt sc se sh si so sp ss st su ta te th ti to tr ts tt tu ty ul um un ur us ut va ve yp"
)
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.I)
_HEX = re.compile(r"[0-9a-f]{16,}|[0-9A-F]{16,}")
_EXPRESSION = re.compile(r"://|\.\w+\.[a-z]|::|\w\(|^[.~$%@#]|^\w+\.(?:py|js|ts|json|ya?ml|toml|txt|md|html?)\b")
_PLACEHOLDER = re.compile(
    r"(?i)example|your[_-]|placeholder|change[_-]?me|dummy|redacted|insert|replace|x{5}|\*\*\*|\.\.\.|…|<|\[secret:"
    r"|1234567890a|123456789abc|abcdefghij|(?P<same>[^A])(?P=same){7}|(?-i:A{12})"
)
# The signature of the token that jwt.io, and so most documentation, shows.
_DOCUMENTED = "SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c"
# Passwords of documentation, as in postgres://user:pass@host.
_DUMMY_PASSWORDS = words(
    "pass passwd password pwd secret user username admin root test guest tiger postgres mysql mypassword mypass "
    "passw0rd token key apikey api_key pat port foo bar baz secretpassword yourpassword my_password"
)
_PASSWORD = re.compile("(?i)pass|pwd")


@functools.lru_cache(maxsize=2048)
def is_secret_name(name: str) -> bool:
    """Tell whether a member, a field or a variable of this name usually holds a secret.

    Names are of any style: ``api_key``, ``apiKey``, ``X-Api-Key``, ``db.password``.
    """
    parts: list[str] = [word.lower() for word in _WORD.findall(name)]
    while parts and parts[-1].isdigit():
        parts.pop()
    if not parts or len(parts) > 8:
        return False
    if parts[-1] in _HARMLESS_LAST_WORDS or not _HARMLESS_WORDS.isdisjoint(parts):
        return False
    if "".join(parts) in _WHOLE_NAMES or "".join(parts[-2:]) in _WHOLE_NAMES:
        return True
    if parts[-2:] == ["request", "token"]:  # made up for each request, so that it is not done twice
        return False
    if not _SECRET_WORDS.isdisjoint(parts):
        return True
    if parts[-1] in ("key", "pat") and len(parts) > 1:
        return parts[-1] == "pat" or parts[-2] in _KINDS_OF_KEY or (name.isupper() and len(parts) > 1)
    return parts[-1].endswith(("apikey", "accesskey", "secretkey", "authtoken", "accesstoken"))


def is_secret_named(name: str, value: str) -> bool:
    """Tell whether a value beside a name is a secret: the name says so, and the value looks random.

    People choose passwords, so that these may be shorter.
    """
    return is_secret_name(name) and looks_random(value, 8 if _PASSWORD.search(name) else 12)


def is_dummy_password(value: str) -> bool:
    """Tell whether documentation uses a password like this one."""
    return value.lower() in _DUMMY_PASSWORDS


def is_placeholder(value: str) -> bool:
    """Tell whether a value stands for a secret in documentation, such as ``sk-XXXX`` or ``YOUR_TOKEN``."""
    return _PLACEHOLDER.search(value) is not None or value.endswith(_DOCUMENTED)


def looks_random(value: str, shortest: int = 12, most_words: float = 0.5) -> bool:
    """Tell whether a value looks as if a machine had drawn it, rather than a person had written it.

    It must have `shortest` characters, and may be like words up to `most_words`, from 0 to 1.
    """
    if len(value) < shortest or value.isdigit() or is_placeholder(value):
        return False
    if _UUID.fullmatch(value):
        return True
    if _HEX.fullmatch(value):
        return len(set(value)) >= 6 and not value.isalpha()
    if _EXPRESSION.search(value) or _TIME.match(value):
        return False
    digits = sum(character.isdigit() for character in value)
    if not digits and len(value) < 20:
        if len(value) < 14 and (value.islower() or value.isupper()):
            return False
        most_words = min(most_words, 0.35)
    return _entropy(value) >= min(3.0, math.log2(len(value)) - 0.8) and _wordiness(value) < most_words


def _entropy(value: str) -> float:
    """Return the entropy of the characters of a value, in bits per character."""
    size = len(value)
    return -sum(count / size * math.log2(count / size) for count in Counter(value).values())


def _wordiness(value: str) -> float:
    """Return how many of the neighbours in a value are neighbours in words, too: from 0 to 1."""
    pairs = re.findall(r"(?=([A-Za-z0-9]{2}))", value)
    if len(pairs) < 3:
        return 0.0
    return sum(pair.lower() in _COMMON_PAIRS for pair in pairs) / len(pairs)
