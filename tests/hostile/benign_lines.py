"""Lines that hold no secret, though many look a little like one: what a redactor has to leave alone.

They are made up from a seeded random generator and collected: for the tests from Python's own library, which is the
same wherever that Python is, for the figures also from the packages that are installed here.
"""

from __future__ import annotations

import base64
import importlib.metadata
import itertools
import json
import re
import sysconfig
import uuid
from collections.abc import Iterator
from pathlib import Path
from random import Random

from tests.hostile.secret_kinds import fill

__all__ = ["EXAMPLES", "made_up", "of_library", "of_packages", "of_recordings", "real_recordings"]

_ROOT = Path(__file__).resolve().parents[2]
# What these hold are examples of secrets: rules and tests of scanners and of redaction.
_SCANNERS = re.compile(r"detect[-_]secrets|gitleaks|trufflehog|nbreplay|scrub", re.I)
_TESTS = re.compile(r"(?:^|/)(?:tests?|testing|_?vendor|examples?|conftest\.py|test_[^/]*)(?:/|$)")
# Not every machine has all of these, and some hold the packages of others.
_NOT_OF_LIBRARY = re.compile(
    r"(?:^|/)(?:tests?|idle_test|idlelib|lib2to3|turtledemo|tkinter|ensurepip|(?:site|dist)-packages|_sysconfigdata[^/]*)(?:/|$)"
)
_SUSPICIOUS = re.compile(r"(?i)key|token|secret|passw|auth|credential|bearer|://[^/\s]*@|sk-|eyJ|[A-Za-z0-9_+/-]{32}")

EXAMPLES = (
    "AKIAIOSFODNN7EXAMPLE",
    "aws_access_key_id = AKIAIOSFODNN7EXAMPLE",
    "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    '{"AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}',
    "OPENAI_API_KEY=sk-XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX",
    "OPENAI_API_KEY=sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "OPENAI_API_KEY=sk-...",
    'api_key="sk-proj-..."',
    "export ANTHROPIC_API_KEY=sk-ant-api03-...",
    "ANTHROPIC_API_KEY='your-api-key-here'",
    "ANTHROPIC_API_KEY=YOUR_API_KEY",
    "ANTHROPIC_API_KEY=<your-api-key>",
    "HF_TOKEN=hf_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "HF_TOKEN=hf_***",
    "GITHUB_TOKEN=ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "GITHUB_TOKEN: ${{ secrets.GITHUB_TOKEN }}",
    'password: "{{ vault_database_password }}"',
    "token = os.environ['GITHUB_TOKEN']",
    'api_key = os.getenv("OPENAI_API_KEY")',
    'client = OpenAI(api_key=os.environ.get("OPENAI_API_KEY"))',
    "client = OpenAI(api_key=settings.openai_api_key)",
    "Authorization: Bearer YOUR_TOKEN",
    "Authorization: Bearer $OPENAI_API_KEY",
    'curl -H "Authorization: Bearer ${TOKEN}" https://api.example.com',
    'curl -H "x-api-key: <api-key>" https://api.example.com',
    '{"api_key": "YOUR_API_KEY"}',
    '{"api_key": "<api-key>"}',
    '{"api_key": "${API_KEY}"}',
    '{"api_key": "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}',
    '{"api_key": "********************************"}',
    '{"api_key": "REDACTED"}',
    '{"api_key": "[secret:1]"}',
    '{"api_key": null}',
    '{"api_key": "insert-your-api-key-here"}',
    '{"password": "changeme"}',
    '{"password": "**********"}',
    '{"password": "password"}',
    "DB_PASSWORD=example",
    "SECRET_KEY=change-me-in-production",
    "postgres://user:password@localhost:5432/database",
    "postgresql://<user>:<password>@<host>/<database>",
    "postgresql://${DB_USER}:${DB_PASSWORD}@${DB_HOST}/app",
    "https://username:password@example.com/",
    "redis://user:pass@localhost:6379/0",
    "mongodb://myUser:<db_password>@cluster0.example.net/",
    "https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX",
    "SLACK_TOKEN=xoxb-your-token",
    "SG.xxxxxxxxxxxxxxxxxxxxxx.xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "STRIPE_KEY=sk_test_xxxxxxxxxxxxxxxxxxxxxxxx",
    "GOOGLE_API_KEY=AIzaSyXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX",
    "AZURE_OPENAI_API_KEY=00000000000000000000000000000000",
    "PINECONE_API_KEY=00000000-0000-0000-0000-000000000000",
    "AccountName=devstoreaccount1;AccountKey=<account-key>;EndpointSuffix=core.windows.net",
    "-----BEGIN RSA PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
)
"""Keys that documentation gives as examples, and what stands where a key is to be filled in."""


def of_library(number: int) -> Iterator[str]:
    """Yield lines of Python's own library, chosen as those of a package are.

    Parameters
    ----------
    number : int
        How many lines at most.
    """
    root = Path(sysconfig.get_path("stdlib"))
    paths = sorted(path for path in root.rglob("*.py") if not _NOT_OF_LIBRARY.search(path.relative_to(root).as_posix()))
    yield from itertools.islice(_mixed(paths), number)


def of_packages(number: int) -> Iterator[str]:
    """Yield lines of the sources and the metadata of installed packages, some of each package.

    Half of them are taken as they come, the others because they have words that stand beside secrets. Packages for
    finding secrets are left out, and folders of tests: both hold examples of secrets.

    Parameters
    ----------
    number : int
        How many lines at most.
    """
    each = (_lines_of(item) for _, item in sorted(_packages().items()))
    turns = itertools.chain.from_iterable(itertools.zip_longest(*each))
    yield from itertools.islice(filter(None, turns), number)


def _packages() -> dict[str, importlib.metadata.Distribution]:
    found = {item.metadata["Name"]: item for item in importlib.metadata.distributions()}
    return {name: item for name, item in found.items() if name and not _SCANNERS.search(name)}


def _lines_of(package: importlib.metadata.Distribution) -> Iterator[str]:
    """Yield lines of a package: in turn the next one, and the next that looks suspicious."""
    names = sorted(
        str(file) for file in package.files or () if str(file).endswith((".py", "METADATA", "RECORD", ".md"))
    )
    paths = [Path(str(package.locate_file(name))) for name in names if not _TESTS.search(name)]
    yield from _mixed(paths[:60])


def _mixed(paths: list[Path]) -> Iterator[str]:
    lines, suspicious = itertools.tee(_readable(paths))
    marked = filter(_SUSPICIOUS.search, suspicious)
    for line, other in itertools.zip_longest(lines, marked):
        yield line
        if other and other != line:
            yield other


def _readable(paths: list[Path]) -> Iterator[str]:
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        yield from (line for line in text.splitlines() if line.strip())


def real_recordings() -> list[Path]:
    """Return the recordings of real calls that are here: those of the repository, and further ones beside it."""
    folders = [_ROOT / "recordings", _ROOT.parent / "shared" / "recordings-llama-stack"]
    return sorted(path for folder in folders if folder.is_dir() for path in folder.rglob("*.json"))


def of_recordings(number: int) -> Iterator[str]:
    """Yield lines of recordings of real calls."""
    yield from itertools.islice((line for line in _readable(real_recordings()) if len(line) < 100_000), number)


_IDS = (
    '{{"id": "chatcmpl-{an:29}", "object": "chat.completion", "system_fingerprint": "fp_{hex:10}"}}',
    '{{"id": "call_{an:24}", "type": "function", "function": {{"name": "lookup", "arguments": "{{}}"}}}}',
    '{{"id": "resp_{hex:50}", "object": "response", "previous_response_id": "resp_{hex:50}"}}',
    '{{"id": "msg_01{an:22}", "type": "message", "role": "assistant"}}',
    '{{"type": "tool_use", "id": "toolu_01{an:22}", "name": "search"}}',
    '{{"tool_use_id": "toolu_01{an:22}", "type": "tool_result"}}',
    '{{"id": "run_{an:24}", "thread_id": "thread_{an:24}", "assistant_id": "asst_{an:24}"}}',
    '{{"file_id": "file-{an:24}", "vector_store_id": "vs_{hex:32}"}}',
    '{{"id": "batch_{hex:32}", "input_file_id": "file-{an:22}", "custom_id": "request-{dig:3}"}}',
    '{{"id": "gen-17{dig:8}-{an:20}", "provider": "Together", "model": "meta-llama/llama-3-70b"}}',
    '{{"id": "ftjob-{an:24}", "fine_tuned_model": "ft:gpt-4o-mini-2024-07-18:acme::{an:8}"}}',
    '{{"request_id": "req_{hex:32}", "organization": "org-{an:24}", "project": "proj_{an:24}"}}',
    '{{"x-request-id": "req_011{an:21}", "cf-ray": "{hex:16}-FRA", "etag": "W/\\"{hex:40}\\""}}',
    '{{"trace_id": "{hex:32}", "span_id": "{hex:16}", "parent_id": "{hex:16}"}}',
    "traceparent: 00-{hex:32}-{hex:16}-01",
    "x-amzn-trace-id: Root=1-{hex:8}-{hex:24}",
    '{{"session_id": "{hex:8}-{hex:4}-4{hex:3}-a{hex:3}-{hex:12}", "user": "user-{an:24}"}}',
    '{{"ulid": "01H{UAN:23}", "ksuid": "{an:27}", "nanoid": "{url:21}"}}',
    '{{"next_page_token": "{url:60}", "items": []}}',
    '{{"has_more": true, "nextPageToken": "{url:40}==", "after": "{b64:24}"}}',
    '{{"cursor": "{b64:48}", "next_cursor": "dXNlcjpV{an:12}=", "continuation": "{url:30}"}}',
    '{{"primary_key": "{hex:24}", "sort_key": "{an:16}", "foreign_key": "user_id", "cache_key": "{hex:40}"}}',
    '{{"prompt_cache_key": "user-{dig:6}", "idempotency_key": "stainless-python-retry-{hex:8}-{hex:4}-4{hex:3}"}}',
    '{{"encrypted_content": "gAAAAA{url:220}", "type": "reasoning", "id": "rs_{hex:50}"}}',
    '{{"signature": "{b64:200}==", "type": "thinking", "thinking": "The user asks about tokens."}}',
    '{{"thought_signature": "{b64:120}", "thoughtSignature": "{b64:120}"}}',
    '{{"usage": {{"prompt_tokens": {dig:3}, "total_tokens": 2{dig:3}, "cached_tokens": 0}}}}',
    '{{"max_tokens": 4096, "max_completion_tokens": 16384, "stop_token_ids": [128001], "eos_token_id": 1{dig:5}}}',
    '{{"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>", "pad_token": "<|finetune_right_pad_id|>"}}',
    '{{"token": " the", "logprob": -0.{dig:8}, "bytes": [32, 116, 104, 101], "top_logprobs": []}}',
    '{{"token": "Authorization", "logprob": -1.{dig:8}, "bytes": null}}',
    '{{"content": [{{"token": "sk", "logprob": -0.{dig:6}}}, {{"token": "-", "logprob": -0.{dig:6}}}]}}',
    '{{"tokens": ["▁pass", "word", "▁=", "▁secret"], "token_ids": [1{dig:4}, 2{dig:4}, 3{dig:4}]}}',
    '{{"token_type": "bearer", "expires_in": 3600, "scope": "read write", "grant_type": "client_credentials"}}',
    '{{"key": "name", "value": "{an:8}", "api_key_id": "apikey_01{an:22}", "key_id": "{hex:24}"}}',
    '{{"api_key_env": "OPENAI_API_KEY", "secret_name": "prod/database", "token_url": "/oauth/token"}}',
)
_HASHES = (
    "commit {hex:40}",
    "{hex:40}\trefs/heads/main",
    "index {hex:7}..{hex:7} 100644",
    "{hex:64}  package-1.{dig:1}.{dig:1}.tar.gz",
    "    --hash=sha256:{hex:64} \\\\",
    "md5:{hex:32}",
    "FROM python@sha256:{hex:64}",
    '{{"sha256": "{hex:64}", "md5": "{hex:32}", "size": 1{dig:5}}}',
    '"integrity": "sha512-{b64:86}==",',
    '<script src="app.{hex:20}.js" integrity="sha384-{b64:64}" crossorigin="anonymous"></script>',
    "package/module.py,sha256={url:43},1{dig:4}",
    '{{"blob": "{hex:64}", "revision": "{hex:40}", "etag": "\\"{hex:32}\\""}}',
    "https://github.com/acme/project/commit/{hex:40}",
    "https://files.pythonhosted.org/packages/{hex:2}/{hex:2}/{hex:60}/project-1.{dig:1}.tar.gz",
    "https://cdn.example.com/assets/{hex:8}-{hex:4}-4{hex:3}-a{hex:3}-{hex:12}/picture.png?width=1{dig:3}&v={hex:8}",
    "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQ{b64:338} someone@example.com",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{b64:43} someone@example.com",
    "github.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{b64:43}",
    "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA{b64:64}\n-----END PUBLIC KEY-----",
    "-----BEGIN CERTIFICATE-----\nMIID{b64:60}\n{b64:64}\n{b64:40}==\n-----END CERTIFICATE-----",
    '{{"public_key": "{b64:43}=", "publicKey": "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE{b64:86}=="}}',
    '{{"kty": "RSA", "kid": "{url:27}", "use": "sig", "n": "{url:342}", "e": "AQAB"}}',
    "0x{hex:40} transferred 1{dig:2} to 0x{hex:40} in 0x{hex:64}",
    "SHA256:{b64:43}",
)
_IMAGES = (
    '<img src="data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAA{b64:900}">',
    '{{"type": "image_url", "image_url": {{"url": "data:image/jpeg;base64,/9j/4AAQSkZJRgABAQAAAQABAAD{b64:1400}"}}}}',
    '{{"b64_json": "iVBORw0KGgoAAAANSUhEUgAA{b64:2000}", "revised_prompt": "A cat"}}',
    '{{"image/png": "iVBORw0KGgoAAAANSUhEUgAA{b64:1200}\\n{b64:1200}\\n"}}',
    '{{"embedding": "{b64:2000}", "index": 0, "object": "embedding"}}',
    '{{"inline_data": {{"mime_type": "audio/wav", "data": "UklGR{b64:1500}"}}}}',
    "{b64:76}",
    "@font-face {{ src: url(data:font/woff2;base64,d09GMgABAAAA{b64:800}) format('woff2'); }}",
)


def made_up(number: int) -> Iterator[str]:
    """Yield made up lines: ids, hashes, public keys, images, tokens of models and documented examples.

    Parameters
    ----------
    number : int
        How many lines at most.
    """
    random, templates = Random("benign"), itertools.cycle((*_IDS, *_HASHES, *_IMAGES))
    lines = (fill(template, random).replace("{{", "{").replace("}}", "}") for template in templates)
    yield from EXAMPLES
    yield from itertools.islice(_structured(random), number // 10)
    yield from itertools.islice(lines, number - number // 10 - len(EXAMPLES))


def _structured(random: Random) -> Iterator[str]:
    while True:
        yield str(uuid.UUID(int=random.getrandbits(128), version=4))
        yield json.dumps({"data": base64.b64encode(random.randbytes(300)).decode()})
        yield json.dumps({"embedding": [round(random.uniform(-1, 1), 9) for _ in range(8)]})
        yield f"GET /v1/files/file-{random.randbytes(12).hex()}/content HTTP/1.1"
        yield f"data: {json.dumps({'delta': {'obfuscation': base64.urlsafe_b64encode(random.randbytes(12)).decode()}})}"
