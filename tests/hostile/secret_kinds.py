"""The kinds of secret that the corpus has, made up anew at run time from public descriptions of their formats.

The formats are those of gitleaks' published rules and of the vendors' documentation. An example is drawn from a
seeded random generator, so that this file holds no secret, and none that a scanner takes for one.
"""

from __future__ import annotations

import base64
import json
import re
import string
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

__all__ = ["KINDS", "SHAPED", "Kind", "fill"]

_ALPHABETS = {
    "hex": "0123456789abcdef",
    "HEX": "0123456789ABCDEF",
    "dig": string.digits,
    "low": string.ascii_lowercase,
    "let": string.ascii_letters,
    "lan": string.ascii_lowercase + string.digits,
    "UAN": string.ascii_uppercase + string.digits,
    "an": string.ascii_letters + string.digits,
    "b32": string.ascii_uppercase + "234567",
    "bech": "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L",
    "b64": string.ascii_letters + string.digits + "+/",
    "url": string.ascii_letters + string.digits + "_-",
}
_FIELD = re.compile(r"\{(\w+):(\d+)\}")


def fill(template: str, random: Random) -> str:
    """Fill ``{alphabet:length}`` fields with random characters; an alphabet that mixes has some of each sort."""

    def field(match: re.Match[str]) -> str:
        alphabet, length = _ALPHABETS[match.group(1)], int(match.group(2))
        return "".join(random.choices(alphabet, k=length))

    return _FIELD.sub(field, template)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of secret.

    Attributes
    ----------
    id : str
        The vendor, and which of its secrets: gitleaks' id where it has one.
    example : callable
        Returns a new example, of this random generator.
    shaped : bool
        Whether the value is recognised without a name beside it, by its prefix or its structure.
    part : str
        A pattern whose first group is the secret within the example; empty if all of it is.
    """

    id: str
    example: Callable[[Random], str]
    shaped: bool
    part: str = ""

    @property
    def name(self) -> str:
        """The variable that usually has it."""
        return f"{self.id.partition('-')[0].upper()}_API_KEY"

    def draw(self, number: int = 0) -> str:
        """Return the example of this number, the same at all times and another one than that of any other kind."""
        return self.example(Random(f"{self.id} {number}"))

    def secret(self, example: str) -> str:
        """Return what must not be written of `example`."""
        match = re.search(self.part, example, re.S)
        assert match is not None, self.id
        return match.group(1) if self.part else example


def _template(name: str, template: str, shaped: bool = True, part: str = "") -> Kind:
    return Kind(name, lambda random: fill(template, random), shaped, part)


def _base64(text: str, url: bool = False) -> str:
    encode = base64.urlsafe_b64encode if url else base64.b64encode
    return encode(text.encode()).decode()


def _jwt(random: Random) -> str:
    claims = {"sub": fill("{dig:10}", random), "iss": "https://issuer.example", "exp": random.randrange(1 << 31)}
    parts = [_base64(json.dumps(part), url=True).rstrip("=") for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
    return ".".join([*parts, fill("{url:43}", random)])


def _pem(label: str, head: str = "", lines: int = 12) -> Callable[[Random], str]:
    def example(random: Random) -> str:
        body = [fill("{b64:64}", random) for _ in range(lines)] + [fill("{b64:30}==", random)]
        return "\n".join([f"-----BEGIN {label}-----", *([head] if head else []), *body, f"-----END {label}-----"])

    return example


def _1password(random: Random) -> str:
    claims = {
        "signInAddress": "my.1password.com",
        "userAuth": {"method": "SRPg-4096"},
        "key": fill("{url:200}", random),
    }
    return "ops_" + _base64(json.dumps(claims)).rstrip("=")


def _bedrock(random: Random) -> str:
    return "ABSK" + _base64(fill("BedrockAPIKey-{lan:4}-at-{dig:12}:{b64:60}", random))


def _bedrock_short(random: Random) -> str:
    address = fill("bedrock.amazonaws.com/?Action=CallWithBearerToken&X-Amz-Signature={hex:64}", random)
    return "bedrock-api-key-" + _base64(address + "&Version=1")


def _discord(random: Random) -> str:
    return ".".join(
        [_base64(fill("1{dig:17}", random)).rstrip("="), fill("G{url:5}", random), fill("{url:38}", random)]
    )


def _sentry(random: Random) -> str:
    claims = {"iat": 1.7e9, "url": "https://sentry.io", "region_url": "https://us.sentry.io", "org": "acme"}
    return f"sntrys_{_base64(json.dumps(claims, separators=(',', ':')))}_" + fill("{b64:43}", random)


def _mapbox(random: Random) -> str:
    claims = {"u": "someone", "a": fill("{lan:25}", random)}
    return f"sk.{_base64(json.dumps(claims, separators=(',', ':')), url=True).rstrip('=')}." + fill("{url:22}", random)


def _uuid(prefix: str) -> str:
    return prefix + "{hex:8}-{hex:4}-4{hex:3}-a{hex:3}-{hex:12}"


_PASSWORD = r"://[^:/]*:([^@]+)@"

KINDS: tuple[Kind, ...] = (
    # vendors of models, and what is used with them
    _template("openai-project", "sk-proj-{url:74}T3BlbkFJ{url:74}"),
    _template("openai-service-account", "sk-svcacct-{url:58}T3BlbkFJ{url:58}"),
    _template("openai-admin", "sk-admin-{url:58}T3BlbkFJ{url:58}"),
    _template("openai-legacy", "sk-{an:20}T3BlbkFJ{an:20}"),
    _template("anthropic-api", "sk-ant-api03-{url:93}AA"),
    _template("anthropic-admin", "sk-ant-admin01-{url:93}AA"),
    _template("anthropic-oauth", "sk-ant-oat01-{url:93}AA"),
    _template("gemini-gcp-api-key", "AIza{url:35}"),
    _template("google-oauth-access-token", "ya29.{url:120}"),
    _template("google-oauth-client-secret", "GOCSPX-{url:28}"),
    _template("huggingface-letters", "hf_{let:34}"),
    _template("huggingface-organization", "api_org_{let:34}"),
    _template("groq", "gsk_{an:52}"),
    _template("nvidia", "nvapi-{url:64}"),
    _template("replicate", "r8_{an:37}"),
    _template("tavily", "tvly-{an:32}"),
    _template("tavily-dev", "tvly-dev-{an:32}"),
    _template("langsmith-personal", "lsv2_pt_{hex:32}_{hex:10}"),
    _template("langsmith-service", "lsv2_sk_{hex:32}_{hex:10}"),
    _template("langfuse-secret", _uuid("sk-lf-")),
    _template("fireworks", "fw_{an:24}"),
    _template("cerebras", "csk-{lan:48}"),
    _template("openrouter", "sk-or-v1-{hex:64}"),
    _template("deepseek", "sk-{hex:32}"),
    _template("moonshot", "sk-{an:48}"),
    _template("xai", "xai-{an:80}"),
    _template("perplexity", "pplx-{an:48}"),
    _template("together-new", "tgp_v1_{url:43}"),
    _template("voyage", "pa-{url:43}"),
    _template("pinecone", "pcsk_{an:6}_{an:63}"),
    Kind("bedrock-long", _bedrock, True),
    Kind("bedrock-short", _bedrock_short, True),
    _template("elevenlabs", "sk_{hex:48}"),
    _template("jina", "jina_{hex:32}{url:28}"),
    _template("firecrawl", "fc-{hex:32}"),
    _template("apify", "apify_api_{an:36}"),
    _template("e2b", "e2b_{hex:40}"),
    _template("azure-openai-84", "{an:52}JQQJ99BCACYeBjFXJ3w3AAABACOG{an:4}"),
    _template("azure-openai-32", "{hex:32}", shaped=False),
    _template("mistral", "{an:32}", shaped=False),
    _template("cohere", "{an:40}", shaped=False),
    _template("together-legacy", "{hex:64}", shaped=False),
    _template("wandb", "{hex:40}", shaped=False),
    _template("deepgram", "{hex:40}", shaped=False),
    _template("ai21", "{an:32}", shaped=False),
    _template("exa", _uuid(""), shaped=False),
    _template("serpapi", "{hex:64}", shaped=False),
    # clouds and platforms
    _template("aws-access-key-id", "AKIA{b32:16}"),
    _template("aws-temporary-key-id", "ASIA{b32:16}"),
    _template("aws-secret-access-key", "{b64:40}", shaped=False),
    _template("azure-ad-client-secret", "{an:3}8Q~{url:34}"),
    _template(
        "azure-storage-connection",
        "DefaultEndpointsProtocol=https;AccountName=acme;AccountKey={b64:76}+ASt{b64:6}==;EndpointSuffix=core.windows.net",
        part="AccountKey=([^;]+)",
    ),
    _template("alibaba-access-key-id", "LTAI{an:20}"),
    _template("digitalocean-pat", "dop_v1_{hex:64}"),
    _template("digitalocean-oauth", "doo_v1_{hex:64}"),
    _template("databricks", "dapi{hex:32}"),
    _template("cloudflare-origin-ca", "v1.0-{hex:24}-{hex:146}"),
    _template("cloudflare-api-token", "{url:40}", shaped=False),
    _template("flyio", "fm2_{b64:120}"),
    _template("heroku-v2", "HRKU-AA{url:58}"),
    _template("scalingo", "tk-us-{url:48}"),
    _template("yandex", "AQVN{url:36}"),
    _template("openshift-user-token", "sha256~{url:43}"),
    _template("planetscale", "pscale_tkn_{url:43}"),
    _template("supabase", "sbp_{hex:40}"),
    _template("vault-service", "hvs.{url:95}"),
    _template("vault-batch", "hvb.{url:145}"),
    _template("hashicorp-tf", "{an:14}.atlasv1.{url:67}"),
    _template("doppler", "dp.pt.{an:43}"),
    _template("pulumi", "pul-{hex:40}"),
    _template("prefect", "pnu_{an:36}"),
    # code and packages
    _template("github-pat", "ghp_{an:36}"),
    _template("github-oauth", "gho_{an:36}"),
    _template("github-app", "ghs_{an:36}"),
    _template("github-fine-grained-pat", "github_pat_{an:22}_{an:59}"),
    _template("gitlab-pat", "glpat-{url:20}"),
    _template("gitlab-runner", "glrt-{url:20}"),
    _template("gitlab-deploy", "gldt-{url:20}"),
    _template("npm", "npm_{an:36}"),
    _template("pypi", "pypi-AgEIcHlwaS5vcmc{url:150}"),
    _template("rubygems", "rubygems_{hex:48}"),
    _template("clojars", "CLOJARS_{lan:60}"),
    _template("artifactory", "AKCp{an:69}"),
    _template("docker-hub", "dckr_pat_{url:27}"),
    _template("postman", "PMAK-{hex:24}-{hex:34}"),
    _template("readme", "rdme_{lan:70}"),
    # services
    _template("airtable", "pat{an:14}.{hex:64}"),
    _template("atlassian", "ATATT3{url:185}="),
    _template("asana", "2/{dig:16}/{dig:16}:{hex:32}"),
    _template("linear", "lin_api_{an:40}"),
    _template("notion", "ntn_{dig:11}{an:35}"),
    _template("figma", "figd_{url:40}"),
    _template("hubspot", _uuid("pat-na1-")),
    _template("typeform", "tfp_{an:44}_{an:14}"),
    _template("slack-bot", "xoxb-{dig:12}-{dig:13}-{an:24}"),
    _template("slack-user", "xoxp-{dig:12}-{dig:12}-{dig:13}-{hex:32}"),
    _template("slack-app", "xapp-1-A{UAN:10}-{dig:13}-{hex:64}"),
    _template("slack-webhook", "https://hooks.slack.com/services/T{UAN:8}/B{UAN:10}/{an:24}", part=r"services/(.+)"),
    _template(
        "teams-webhook",
        "https://acme.webhook.office.com/webhookb2/"
        + _uuid("")
        + "@"
        + _uuid("")
        + "/IncomingWebhook/{hex:32}/"
        + _uuid(""),
        part="IncomingWebhook/(.+)",
    ),
    Kind("discord-bot", _discord, True),
    _template("telegram-bot", "{dig:10}:AA{url:33}"),
    _template("twilio", "SK{hex:32}"),
    _template("sendgrid", "SG.{url:22}.{url:43}"),
    _template("sendinblue", "xkeysib-{hex:64}-{an:16}"),
    _template("mailchimp", "{hex:32}-us12"),
    _template("mailgun", "key-{hex:32}"),
    _template("stripe-secret", "sk_live_{an:99}"),
    _template("stripe-restricted", "rk_live_{an:24}"),
    _template("square", "sq0atp-{url:22}"),
    _template("square-production", "EAAA{url:60}"),
    _template("shopify-access", "shpat_{hex:32}"),
    _template("shopify-shared", "shpss_{hex:32}"),
    _template("shippo", "shippo_live_{hex:40}"),
    _template("easypost", "EZAK{an:54}"),
    _template("duffel", "duffel_live_{url:43}"),
    _template("flutterwave", "FLWSECK_TEST-{hex:32}-X"),
    _template("facebook-page", "EAAC{an:150}"),
    _template("frameio", "fio-u-{url:64}"),
    _template("maxmind", "{an:6}_{an:29}_mmk"),
    Kind("mapbox-secret", _mapbox, True),
    _template("okta", "00{url:40}", shaped=False),
    Kind("1password-service-account", _1password, True),
    _template("1password-secret-key", "A3-{UAN:6}-{UAN:11}-{UAN:5}-{UAN:5}-{UAN:5}"),
    # monitoring
    _template("datadog", "{hex:32}", shaped=False),
    _template("dynatrace", "dt0c01.{UAN:24}.{UAN:64}"),
    _template("grafana-service-account", "glsa_{an:32}_{hex:8}"),
    _template("grafana-cloud", "glc_{b64:120}="),
    _template("newrelic-user", "NRAK-{UAN:27}"),
    Kind("sentry-organization", _sentry, True),
    _template("sentry-user", "sntryu_{hex:64}"),
    # keys and addresses
    Kind("jwt", _jwt, True),
    _template("age", "AGE-SECRET-KEY-1{bech:58}"),
    Kind("rsa-private-key", _pem("RSA PRIVATE KEY"), True, r"-----\n(.+)\n-----"),
    Kind("ec-private-key", _pem("EC PRIVATE KEY", lines=2), True, r"-----\n(.+)\n-----"),
    Kind("openssh-private-key", _pem("OPENSSH PRIVATE KEY"), True, r"-----\n(.+)\n-----"),
    Kind("pkcs8-private-key", _pem("PRIVATE KEY"), True, r"-----\n(.+)\n-----"),
    Kind(
        "encrypted-private-key",
        _pem("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,3F17F5316E2BAC89\n"),
        True,
        r"89\n\n(.+)\n-----",
    ),
    _template("database-url", "postgres://app:{an:20}@db.acme.example:5432/orders", part=_PASSWORD),
    _template("mongodb-url", "mongodb+srv://app:{an:16}@cluster0.ab1cd.mongodb.net/orders", part=_PASSWORD),
    _template("redis-url", "redis://:{hex:40}@cache.acme.example:6379/0", part=_PASSWORD),
    _template("basic-auth-url", "https://deploy:{an:24}@git.acme.example/team/app.git", part=_PASSWORD),
    # known by the name beside them alone
    _template("adafruit", "{lan:32}", shaped=False),
    _template("algolia", "{hex:32}", shaped=False),
    _template("assemblyai", "{hex:32}", shaped=False),
    _template("bitbucket", "{url:64}", shaped=False),
    _template("bittrex", "{hex:32}", shaped=False),
    _template("codecov", _uuid(""), shaped=False),
    _template("coinbase", "{lan:64}", shaped=False),
    _template("confluent-access", "{UAN:16}", shaped=False),
    _template("confluent-secret", "{b64:64}", shaped=False),
    _template("contentful", "{url:43}", shaped=False),
    _template("discord-client-secret", "{url:32}", shaped=False),
    _template("dropbox", "{lan:15}", shaped=False),
    _template("etsy", "{lan:24}", shaped=False),
    _template("fastly", "{url:32}", shaped=False),
    _template("finnhub", "{lan:20}", shaped=False),
    _template("heroku", _uuid(""), shaped=False),
    _template("intercom", "dG9r{b64:55}=", shaped=False),
    _template("jfrog", "{an:73}", shaped=False),
    _template("kraken", "{b64:86}==", shaped=False),
    _template("kucoin", "{hex:24}", shaped=False),
    _template("linkedin", "{an:16}", shaped=False),
    _template("mattermost", "{lan:26}", shaped=False),
    _template("netlify", "{url:43}", shaped=False),
    _template("plaid", "{hex:30}", shaped=False),
    _template("rapidapi", "{lan:50}", shaped=False),
    _template("snyk", _uuid(""), shaped=False),
    _template("sumologic", "{an:64}", shaped=False),
    _template("travisci", "{an:22}", shaped=False),
    _template("twitch", "{lan:30}", shaped=False),
    _template("twitter", "{an:50}", shaped=False),
    _template("zendesk", "{an:40}", shaped=False),
)
"""Every kind of the corpus."""

SHAPED = tuple(kind for kind in KINDS if kind.shaped)
