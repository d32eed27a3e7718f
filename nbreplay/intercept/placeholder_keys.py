"""Placeholder API keys, so that a client can be built if no key is set. They are never sent."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from types import ModuleType

import msgspec

from nbreplay.core.secrets.credentials import PLACEHOLDER, has_placeholder, placeholder_for
from nbreplay.errors import RecordingMissing


class Provider(msgspec.Struct, frozen=True):
    """What an SDK reads its key from."""

    sdk: str  # the module that reads it
    names: tuple[str, ...]  # the variables that it takes the key from; the first stands in for all
    early: bool = False  # whether to set it if the SDK is installed; else once it is imported
    needed: bool = True  # whether no client can be built without it; else a placeholder is set under replay only
    prefix: str = ""  # what the SDK tells keys apart by
    # Variables of which one must be set, such as ``NAME`` or ``NAME=value``; none if empty.
    where: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()  # variables of which none may be set


_AZURE = ("AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_BASE_URL", "OPENAI_API_TYPE=azure")
_AWS = ("AWS_PROFILE", "AWS_BEARER_TOKEN_BEDROCK", "AWS_WEB_IDENTITY_TOKEN_FILE")

PROVIDERS = (
    Provider("openai", ("OPENAI_API_KEY",), early=True),
    # With both keys set, the client of the module openai does not know which service is meant.
    Provider(
        "openai",
        ("AZURE_OPENAI_API_KEY",),
        early=True,
        where=_AZURE,
        unless=("OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN"),
    ),
    Provider("anthropic", ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"), early=True),
    Provider("google.generativeai", ("GOOGLE_API_KEY", "GEMINI_API_KEY")),
    Provider("google.genai", ("GEMINI_API_KEY", "GOOGLE_API_KEY"), unless=("GOOGLE_GENAI_USE_VERTEXAI",), early=True),
    Provider("mistralai", ("MISTRAL_API_KEY",), early=True),
    Provider("cohere", ("CO_API_KEY", "COHERE_API_KEY"), early=True),
    Provider("groq", ("GROQ_API_KEY",), early=True),
    Provider("tavily", ("TAVILY_API_KEY",), early=True),
    Provider("together", ("TOGETHER_API_KEY",)),
    Provider("fireworks", ("FIREWORKS_API_KEY",)),
    Provider("langchain_fireworks", ("FIREWORKS_API_KEY",)),
    Provider("replicate", ("REPLICATE_API_TOKEN",)),
    Provider("voyageai", ("VOYAGE_API_KEY",)),
    Provider("langchain_voyageai", ("VOYAGE_API_KEY",)),
    Provider("cerebras.cloud.sdk", ("CEREBRAS_API_KEY",)),
    Provider("xai_sdk", ("XAI_API_KEY",)),
    Provider("langchain_xai", ("XAI_API_KEY",)),
    Provider("perplexity", ("PERPLEXITY_API_KEY",)),
    Provider("langchain_perplexity", ("PPLX_API_KEY", "PERPLEXITY_API_KEY")),
    Provider("langchain_deepseek", ("DEEPSEEK_API_KEY",)),
    Provider("langchain_openrouter", ("OPENROUTER_API_KEY",)),
    Provider("openrouter", ("OPENROUTER_API_KEY",)),
    Provider("langchain_nvidia_ai_endpoints", ("NVIDIA_API_KEY",)),
    Provider("sambanova", ("SAMBANOVA_API_KEY",)),
    Provider("langchain_sambanova", ("SAMBANOVA_API_KEY",)),
    Provider("ai21", ("AI21_API_KEY",)),
    Provider("writerai", ("WRITER_API_KEY",)),
    Provider("exa_py", ("EXA_API_KEY",)),
    Provider("firecrawl", ("FIRECRAWL_API_KEY",)),
    Provider("pinecone", ("PINECONE_API_KEY",)),
    Provider("elevenlabs", ("ELEVENLABS_API_KEY",), needed=False),
    Provider("assemblyai", ("ASSEMBLYAI_API_KEY",), needed=False),
    Provider("deepgram", ("DEEPGRAM_API_KEY",)),
    Provider("llama_cloud_services", ("LLAMA_CLOUD_API_KEY",)),
    # What is public is loaded without a token, and clouds have other places for their keys.
    Provider(
        "huggingface_hub",
        ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACEHUB_API_TOKEN"),
        needed=False,
        prefix="hf_",
    ),
    Provider("botocore", ("AWS_ACCESS_KEY_ID",), needed=False, unless=_AWS),
    Provider("botocore", ("AWS_SECRET_ACCESS_KEY",), needed=False, unless=_AWS),
)
"""The keys of SDKs, one a row: a placeholder is set if the SDK may be used, and no key is set."""

# Variables without a row that programs work without: beside a real key, or none, their placeholder would be in the way.
_OPTIONAL = frozenset({"AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN", "GH_TOKEN", "GITHUB_TOKEN"})

_SERVICES = (
    "DEEPSEEK_API_KEY OPENROUTER_API_KEY TOGETHER_API_KEY TOGETHERAI_API_KEY FIREWORKS_API_KEY FIREWORKS_AI_API_KEY "
    "XAI_API_KEY PERPLEXITYAI_API_KEY PERPLEXITY_API_KEY CEREBRAS_API_KEY NVIDIA_NIM_API_KEY NVIDIA_API_KEY "
    "SAMBANOVA_API_KEY MISTRAL_API_KEY GROQ_API_KEY COHERE_API_KEY VOYAGE_API_KEY JINA_API_KEY JINA_AI_API_KEY "
    "MOONSHOT_API_KEY MOONSHOTAI_API_KEY DASHSCOPE_API_KEY ALIBABA_API_KEY ZAI_API_KEY GITHUB_API_KEY HEROKU_API_KEY "
    "NEBIUS_API_KEY OVHCLOUD_API_KEY NOVITA_API_KEY REPLICATE_API_KEY AI21_API_KEY ANYSCALE_API_KEY DEEPINFRA_API_KEY "
    "SERPER_API_KEY SERPAPI_API_KEY BRAVE_SEARCH_API_KEY EXA_API_KEY"
)
FRAMEWORKS = {
    name: tuple(_SERVICES.split())
    for name in ("litellm", "pydantic_ai", "agents", "instructor", "langchain_community", "llama_index.core", "crewai")
}
"""Frameworks that reach many services, with the variables that they read: set once the framework is imported.

Only under replay, and only if the store does not name the variables that were used.
"""

LIBRARIES = dict.fromkeys([*(row.sdk for row in PROVIDERS if not row.early), *FRAMEWORKS], "placeholder_keys")
"""The modules whose import sets placeholders, each with the interceptor that does it."""

_DOTENV_NAME = re.compile(r"(?m)^\s*(?:export\s+)?([A-Za-z_]\w*)\s*=\s*\S")
_placed: dict[str, str] = {}  # the variables that hold a placeholder, or another value of ours, with that
_ever = any(PLACEHOLDER in value for value in os.environ.values())  # a parent process may have placed it
_is_replaying: bool | None = None  # whether nothing is sent; None if no placeholder is to be set
_sets_services = False  # whether the keys of services are set for frameworks, too


def place(recorded: Collection[str] = (), *, replaying: bool = True) -> None:
    """Set a placeholder for every key that is neither in the environment nor in the nearest ``.env``.

    Parameters
    ----------
    recorded : collection of str
        The variables whose values recorded requests carried, as the stores name them.
    replaying : bool
        Whether nothing is sent, so that a placeholder also stands in for a key that is not needed.
    """
    global _is_replaying, _sets_services
    if _is_replaying and not replaying:
        withdraw()
    _is_replaying, _sets_services = replaying, replaying and not recorded
    in_file = _names_in_dotenv()
    for name in recorded:
        row = next((row for row in PROVIDERS if name in row.names), None)
        needed = name not in _OPTIONAL if row is None else row.needed
        # Where calls are sent, an SDK might take the placeholder in place of the key that another variable holds.
        others = () if row is None or replaying else row.names
        if any(other in in_file or (os.environ.get(other) and other not in _placed) for other in others):
            continue
        if needed or (replaying and (row is None or _applies(row))):
            _place(name, (name,), in_file, row.prefix if row else "")
    for row in PROVIDERS:
        if row.sdk in sys.modules or (row.early and _is_installed(row.sdk)):
            _place_row(row, in_file)
    for name in FRAMEWORKS:
        if name in sys.modules:
            _place_services(name, in_file)


def install(module: ModuleType) -> Callable[[], None]:
    """Set the placeholders of an SDK or a framework that has just been imported."""
    if _is_replaying is not None:
        in_file = _names_in_dotenv()
        for row in PROVIDERS:
            if row.sdk == module.__name__:
                _place_row(row, in_file)
        _place_services(module.__name__, in_file)
    return lambda: None


def place_one(name: str) -> bool:
    """Set a placeholder for a variable that a program is about to read; return whether it holds one now."""
    _place(name, (name,), _names_in_dotenv())
    if name not in _placed:
        return False
    # The SDKs that take a key from either of two variables warn if both are set.
    for other in {other for row in PROVIDERS if name in row.names for other in row.names} - {name}:
        _withdraw(other)
    return True


def give(name: str) -> str:
    """Return the placeholder of a variable, for a program that asks a person for its value."""
    global _ever
    _ever = True
    return placeholder_for(name)


def withdraw() -> None:
    """Remove the placeholders from the environment."""
    global _is_replaying, _sets_services
    _is_replaying, _sets_services = None, False
    for name in [*_placed]:
        _withdraw(name)


def placed_names() -> list[str]:
    """Return the names of the variables that hold a placeholder."""
    return sorted(name for name, value in _placed.items() if PLACEHOLDER in value)


def was_placed() -> bool:
    """Return whether a client may exist that holds a placeholder."""
    return _ever


def refuse(target: str, headers: Iterable[tuple[bytes, bytes]], body: bytes = b"") -> None:
    """Refuse a call outside of any session that carries a placeholder: raise `RecordingMissing`."""
    if has_placeholder(target, headers, body):
        raise RecordingMissing(
            "this client was created without an API key and holds nbreplay's placeholder, which is never sent. "
            "Set the key in the environment or in .env, and create the client again"
        )


def _place(name: str, names: Iterable[str], in_file: set[str], prefix: str = "", value: str = "") -> None:
    global _ever
    if any(os.environ.get(other) or other in in_file for other in names):
        return
    os.environ[name] = _placed[name] = value or placeholder_for(name, prefix)
    _ever = True


def _place_row(row: Provider, in_file: set[str]) -> None:
    if not (_is_replaying or row.needed) or not _applies(row):
        return
    _place(row.names[0], row.names, in_file, row.prefix)
    if row.sdk == "botocore" and not Path("~/.aws/config").expanduser().exists():
        _place("AWS_DEFAULT_REGION", ("AWS_DEFAULT_REGION", "AWS_REGION"), in_file, value="us-east-1")


def _place_services(framework: str, in_file: set[str]) -> None:
    for name in FRAMEWORKS.get(framework, ()) if _sets_services else ():
        _place(name, (name,), in_file)


def _withdraw(name: str) -> None:
    value = _placed.pop(name, None)
    if value is not None and os.environ.get(name) == value:
        del os.environ[name]


def _applies(row: Provider) -> bool:
    """Return whether the other variables are as a row says."""

    def is_set(condition: str) -> bool:
        name, equals, value = condition.partition("=")
        found = "" if name in _placed else os.environ.get(name, "")
        return found == value if equals else bool(found)

    return (not row.where or any(map(is_set, row.where))) and not any(map(is_set, row.unless))


def _is_installed(sdk: str) -> bool:
    try:
        return importlib.util.find_spec(sdk) is not None
    except (ImportError, ValueError):
        return False


def _names_in_dotenv() -> set[str]:
    for folder in (Path.cwd(), *Path.cwd().parents):
        with contextlib.suppress(OSError):
            if (path := folder / ".env").is_file():
                return set(_DOTENV_NAME.findall(path.read_text("utf-8", "replace")))
    return set()
