"""Providers by their hosts, named as in OpenTelemetry's GenAI conventions."""

from __future__ import annotations

import functools

from nbreplay.core.request.route import bare_host

# The end of a host and its provider; the first that fits wins.
_HOSTS = (
    ("openai.azure.com", "azure.ai.openai"),
    ("services.ai.azure.com", "azure.ai.inference"),
    ("models.ai.azure.com", "azure.ai.inference"),
    ("api.openai.com", "openai"),
    ("api.anthropic.com", "anthropic"),
    ("generativelanguage.googleapis.com", "gcp.gemini"),
    ("aiplatform.googleapis.com", "gcp.vertex_ai"),
    ("api.mistral.ai", "mistral_ai"),
    ("api.cohere.com", "cohere"),
    ("api.cohere.ai", "cohere"),
    ("api.groq.com", "groq"),
    ("api.deepseek.com", "deepseek"),
    ("api.perplexity.ai", "perplexity"),
    ("api.x.ai", "x_ai"),
    ("ml.cloud.ibm.com", "ibm.watsonx.ai"),
    ("openrouter.ai", "openrouter"),
    ("api.together.xyz", "together"),
    ("api.fireworks.ai", "fireworks"),
    ("api.tavily.com", "tavily"),
)


@functools.lru_cache(maxsize=1024)
def provider_of(host: str) -> str | None:
    """Return who answers at a host, or None where it does not tell: a gateway, a model of one's own."""
    name = bare_host(host).lower()
    if name.startswith(("bedrock", "runtime.bedrock")) and (".amazonaws.com" in name or name.endswith(".api.aws")):
        return "aws.bedrock"
    if host.endswith(":11434"):
        return "ollama"  # its own port
    return next((provider for end, provider in _HOSTS if name == end or name.endswith((f".{end}", f"-{end}"))), None)
