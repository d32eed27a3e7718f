"""Addresses of the server: the providers that have a short name, and what is exported so that programs call it.

``/TOKEN/api.openai.com/v1/models`` stands for ``https://api.openai.com/v1/models``, and ``openai`` for its host.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from nbreplay.core.request.route import bare_host, is_loopback
from nbreplay.core.secrets.credentials import placeholder_for
from nbreplay.core.words import suggest
from nbreplay.errors import OptionError

_PORTS = {"http": 80, "https": 443}


class Provider(msgspec.Struct, frozen=True):
    """A provider that has a short name."""

    name: str
    host: str
    variables: Mapping[str, str] = {}  # the variables that SDKs read a base URL from, each with the path of that
    keys: tuple[str, ...] = ()  # the variables that they read a key from; the first stands in for all


PROVIDERS = (
    Provider("openai", "api.openai.com", {"OPENAI_BASE_URL": "/v1", "OPENAI_API_BASE": "/v1"}, ("OPENAI_API_KEY",)),
    Provider(
        "anthropic",
        "api.anthropic.com",
        {"ANTHROPIC_BASE_URL": "", "ANTHROPIC_API_BASE": ""},
        ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
    ),
    Provider(
        "gemini",
        "generativelanguage.googleapis.com",
        {"GOOGLE_GEMINI_BASE_URL": ""},
        ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    ),
    Provider("mistral", "api.mistral.ai", keys=("MISTRAL_API_KEY",)),
    Provider("groq", "api.groq.com", {"GROQ_BASE_URL": ""}, ("GROQ_API_KEY",)),
    Provider("cohere", "api.cohere.com", {"CO_API_URL": ""}, ("CO_API_KEY", "COHERE_API_KEY")),
    Provider("deepseek", "api.deepseek.com"),
    Provider("xai", "api.x.ai"),
    Provider("openrouter", "openrouter.ai"),
    Provider("together", "api.together.xyz"),
    Provider("fireworks", "api.fireworks.ai"),
    Provider("perplexity", "api.perplexity.ai"),
    Provider("huggingface", "router.huggingface.co"),
    Provider("ollama", "localhost:11434", {"OLLAMA_HOST": ""}),
)
"""The providers, one a row."""

_BY_NAME = {provider.name: provider for provider in PROVIDERS}


class Upstreams:
    """Where calls are sent that are not replayed: each host over https, this machine over http, or as ``--to`` says."""

    def __init__(self, to: Mapping[str, str] | None = None) -> None:
        self.to = dict(to or {})

    def host_of(self, name: str) -> str:
        """Return the host that a path begins with; raise `OptionError` where the name is neither host nor provider."""
        if name in _BY_NAME:
            return _BY_NAME[name].host
        host = name.lower()
        port = re.search(r":(\d+)$", host)
        if port and int(port[1][:6]) > 65535:
            raise OptionError(f"{name!r} has no valid port: it must be at most 65535")
        if "." in host or ":" in host or host == "localhost" or host in self.to:
            return host
        raise OptionError(
            f"{name!r} is neither a host nor a provider with a short name.{suggest(name, _BY_NAME)} "
            f"The short names are {', '.join(_BY_NAME)}"
        )

    def url_of(self, host: str, scheme: str = "") -> str:
        """Return the address, without a path, to which calls of a host are sent."""
        if host in self.to:
            return self.to[host]
        return f"{scheme or ('http' if is_loopback(bare_host(host)) else 'https')}://{host}"


def parse_upstream(text: str) -> tuple[str, str]:
    """Return the host and the address of ``HOST=URL``; raise `OptionError` where it is not of that form."""
    host, equals, url = text.partition("=")
    parts = urlsplit(url)
    if not (host and equals and parts.scheme in _PORTS and parts.hostname) or "/" in host or parts.query:
        raise OptionError(
            f"--to {text} is not of the form HOST=URL. An example: --to api.openai.com=http://localhost:80"
        )
    name = _BY_NAME[host].host if host in _BY_NAME else host.lower()
    return name, url.rstrip("/")


def split_url(url: str) -> tuple[str, str, str]:
    """Return the scheme, the host and the target of a URL; the host has its port, unless it is the scheme's own."""
    parts = urlsplit(url)
    name = parts.hostname or ""
    name = f"[{name}]" if ":" in name else name
    host = name if parts.port in (None, _PORTS.get(parts.scheme)) else f"{name}:{parts.port}"
    return parts.scheme, host, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def base_urls(address: str, upstreams: Upstreams, environ: Mapping[str, str], run: str = "") -> dict[str, str]:
    """Return the variables that lead SDKs to the server at `address`, in a run if the path of one is given.

    One that is set already names a gateway or another host: it is kept as the upstream.
    """
    result, base = {}, address + run
    for provider in PROVIDERS:
        for variable, path in provider.variables.items():
            url = environ.get(variable, "")
            url = f"http://{url}" if url and "://" not in url else url
            if not url:
                result[variable] = f"{base}/{provider.name}{path}"
                continue
            if url.startswith(f"{address}/"):  # in the child of a child
                result[variable] = base + re.sub(r"^/-/run/[^/]*", "", url.removeprefix(address))
                continue
            scheme, host, target = split_url(url)
            if upstreams.url_of(host) != f"{scheme}://{host}":
                upstreams.to.setdefault(host, f"{scheme}://{host}")
            result[variable] = f"{base}/{host}{target.rstrip('/')}"
    return result


def placeholders(environ: Mapping[str, str]) -> dict[str, str]:
    """Return a placeholder for the key of each provider that has none, since SDKs want one; it is never sent."""
    missing = (row.keys[0] for row in PROVIDERS if row.keys and not any(environ.get(key) for key in row.keys))
    return {name: placeholder_for(name) for name in missing}
