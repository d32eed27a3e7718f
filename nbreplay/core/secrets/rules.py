"""The patterns of secrets: one row per kind, with the vendor's own prefix or structure.

The formats are those that vendors document and that gitleaks' rules (MIT) list. Nothing is compiled while the package
is imported; `nbreplay.core.secrets.redact` does that when a text has one of the hints.
"""

from __future__ import annotations

import msgspec

from nbreplay.core.secrets.credentials import DUMMY_PASSWORDS, is_placeholder, looks_random


class Rule(msgspec.Struct, frozen=True):
    """One kind of secret."""

    id: str  # its name in reports
    # Every match contains one of these. Unless `anywhere`, it begins with one, at the beginning of a word.
    hints: tuple[str, ...]
    # A regular expression without lookaround in its unbounded parts, so that a search takes linear time. Where it has a
    # group ``secret``, only that is the secret.
    pattern: str
    anywhere: bool = False  # whether the pattern is searched for in the whole text, since the hint is in its middle
    random: bool = False  # whether the match has to look random too, since ordinary words begin alike
    # Where the hints are in every text: an expression in Rust's syntax that is in few. Without it nothing is searched.
    gate: str = ""

    def accepts(self, secret: str) -> bool:
        """Tell whether a match is a secret, and not a word or an example out of documentation."""
        if self.random:
            return looks_random(secret, most_words=0.65)
        return not is_placeholder(secret[:300]) and (self.id != "url-password" or secret.lower() not in DUMMY_PASSWORDS)


_HEX8 = "[0-9a-fA-F]{8}"
_UUID = f"{_HEX8}(?:-[0-9a-fA-F]{{4}}){{3}}-[0-9a-fA-F]{{12}}"
_LINE_END = r"(?:\s|\\{1,4}[nrt])"

RULES: tuple[Rule, ...] = (
    # Providers of models and of tools around them.
    # scikit-learn's HTML has sk-container-id-1 and sk-estimator-id-2, SSH has sk-ssh-ed25519 and sk-ecdsa-sha2.
    Rule(
        "sk-key",  # OpenAI, Anthropic, OpenRouter, DeepSeek, Langfuse, LiteLLM, Stability
        ("sk-", "rk-"),
        r"[sr]k-(?!(?:container|estimator)-id-|ssh-|ecdsa-)"
        r"(?:(?=[A-Za-z_\-]{0,300}[0-9])[A-Za-z0-9_\-]{16,400}|[A-Za-z0-9_\-]{0,40}[A-Za-z0-9]{20,}[A-Za-z0-9_\-]{0,300})",
    ),
    Rule("langfuse-public-key", ("pk-lf-",), rf"pk-lf-{_UUID}"),
    Rule("google-api-key", ("AIza",), r"AIza[A-Za-z0-9_\-]{30,60}"),
    Rule("google-oauth-token", ("ya29.",), r"ya29\.[A-Za-z0-9_\-]{20,400}"),
    Rule("google-oauth-client-secret", ("GOCSPX-",), r"GOCSPX-[A-Za-z0-9_\-]{24,40}"),
    Rule("google-refresh-token", ("1//0",), r"1//0[A-Za-z0-9_\-]{40,120}"),
    Rule("hugging-face-token", ("hf_", "api_org_"), r"(?:hf_|api_org_)[A-Za-z0-9]{20,60}", random=True),
    Rule("groq-api-key", ("gsk_",), r"gsk_[A-Za-z0-9]{20,80}", random=True),
    Rule("replicate-token", ("r8_",), r"r8_[A-Za-z0-9]{37,40}(?![A-Za-z0-9_\-])", random=True),
    Rule("cohere-key", ("co_",), r"co_[A-Za-z0-9]{20,60}", random=True),
    Rule("fireworks-api-key", ("fw_",), r"fw_[A-Za-z0-9]{20,60}", random=True),
    Rule("together-api-key", ("tgp_v1_",), r"tgp_v1_[A-Za-z0-9_\-]{30,80}"),
    Rule("tavily-api-key", ("tvly-",), r"tvly-[A-Za-z0-9_\-]{20,80}", random=True),
    Rule("perplexity-api-key", ("pplx-",), r"pplx-[A-Za-z0-9_\-]{20,80}", random=True),
    Rule("xai-api-key", ("xai-",), r"xai-[A-Za-z0-9_\-]{20,120}", random=True),
    Rule("nvidia-api-key", ("nvapi-",), r"nvapi-[A-Za-z0-9_\-]{20,120}", random=True),
    Rule("cerebras-api-key", ("csk-",), r"csk-[A-Za-z0-9_\-]{20,80}", random=True),
    Rule("voyage-api-key", ("pa-", "al-"), r"(?:pa|al)-[A-Za-z0-9_\-]{40,50}", random=True, gate=r"(?:pa|al)-[A-Za-z0-9_\-]{40}"),
    Rule("pinecone-api-key", ("pcsk_",), r"pcsk_[A-Za-z0-9_]{40,100}"),
    Rule("langsmith-api-key", ("lsv2_",), r"lsv2_(?:pt|sk)_[0-9a-f]{32}_[0-9a-f]{10}"),
    Rule("langchain-api-key", ("ls__",), r"ls__[0-9a-f]{32}"),
    Rule("bedrock-api-key", ("ABSK", "bedrock-api-key-"), r"(?:ABSK|bedrock-api-key-)[A-Za-z0-9+/]{40,2000}={0,2}"),
    Rule("databricks-token", ("dapi",), r"dapi[0-9a-f]{32}(?:-\d)?"),
    Rule("jina-api-key", ("jina_",), r"jina_[0-9a-f]{32}[A-Za-z0-9_\-]{20,40}"),
    Rule("firecrawl-api-key", ("fc-",), r"fc-[0-9a-f]{32}"),
    Rule("elevenlabs-api-key", ("sk_",), r"sk_[0-9a-f]{48}"),
    Rule("wandb-key", ("wandb_v1_",), r"wandb_v1_[A-Za-z0-9_\-]{40,120}"),
    Rule("exa-or-composio-key", ("ak_",), r"ak_[A-Za-z0-9_\-]{20,60}", random=True),
    Rule("e2b-api-key", ("e2b_",), r"e2b_[0-9a-f]{40}"),
    Rule("llama-cloud-key", ("llx-",), r"llx-[A-Za-z0-9]{40,60}"),
    Rule("braintrust-or-apify-key", ("apify_api_", "bt-st-"), r"(?:apify_api_|bt-st-)[A-Za-z0-9]{30,60}"),
    Rule("posthog-key", ("phx_", "phs_"), r"ph[xs]_[A-Za-z0-9]{40,60}"),
    Rule("logfire-token", ("pylf_",), r"pylf_v\d_[a-z]{2}_[A-Za-z0-9]{30,60}"),
    Rule("snowflake-or-modal-token", ("ak-", "as-"), r"a[ks]-[A-Za-z0-9]{22}", random=True, gate=r"a[ks]-[A-Za-z0-9]{22}"),
    # Clouds.
    Rule("aws-access-key-id", ("AKIA", "ASIA", "AROA", "ABIA", "ACCA", "A3T"), r"A(?:KIA|SIA|ROA|BIA|CCA|3T[A-Z0-9])[A-Z0-9]{12,20}(?![A-Za-z0-9_\-])"),
    Rule("aws-secret-access-key", ("ecret", "ECRET"), r"(?i:secret_?access_?key|secret_?key|secret)[\"'\\]{0,4}\s{0,4}[:=]\s{0,4}[\"'\\]{0,4}(?P<secret>[A-Za-z0-9/+=]{40})(?![A-Za-z0-9/+=])", anywhere=True),
    Rule("azure-ad-client-secret", ("Q~",), r"[A-Za-z0-9_~.]{3}\dQ~[A-Za-z0-9_~.\-]{31,34}", anywhere=True),
    Rule("azure-ai-key", ("JQQJ9",), r"[A-Za-z0-9]{44,60}JQQJ9[A-Za-z0-9]{20,32}", anywhere=True),
    Rule("azure-account-key", ("AccountKey=", "SharedAccessKey="), r"(?:AccountKey|SharedAccessKey)=(?P<secret>[A-Za-z0-9+/]{40,90}={0,2})"),
    Rule("alibaba-access-key-id", ("LTAI",), r"LTAI[A-Za-z0-9]{16,24}(?![A-Za-z0-9_\-])"),
    Rule("digitalocean-token", ("doo_v1_", "dop_v1_", "dor_v1_"), r"do[opr]_v1_[0-9a-f]{64}"),
    Rule("yandex-key", ("AQVN", "t1."), r"(?:AQVN[A-Za-z0-9_\-]{35,40}|t1\.[A-Za-z0-9_\-]{1,200}={0,2}\.[A-Za-z0-9_\-]{86}={0,2})"),
    Rule("fly-io-token", ("fo1_", "fm1", "fm2_"), r"(?:fo1_[A-Za-z0-9_\-]{43}|fm(?:1[ar]|2)_[A-Za-z0-9+/]{100,2000}={0,3})"),
    Rule("heroku-api-key", ("HRKU-",), r"HRKU-[A-Za-z0-9_\-]{30,70}"),
    Rule("cloudflare-origin-ca-key", ("v1.0-",), r"v1\.0-[0-9a-f]{24}-[0-9a-f]{146}"),
    Rule("scalingo-token", ("tk-us-",), r"tk-us-[A-Za-z0-9_\-]{48}"),
    Rule("planetscale-token", ("pscale_",), r"pscale_(?:tkn|oauth|pw)_[A-Za-z0-9_=.\-]{32,64}"),
    Rule("supabase-key", ("sbp_", "sb_secret_"), r"(?:sbp_[0-9a-f]{40}|sb_secret_[A-Za-z0-9_\-]{20,60})"),
    Rule("neon-api-key", ("napi_",), r"napi_[a-z0-9]{40,80}"),
    Rule("clickhouse-secret-key", ("4b1d",), r"4b1d[A-Za-z0-9]{38}(?![A-Za-z0-9_\-])"),
    # Hosting, building and publishing code.
    Rule("github-token", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), r"gh[pousr]_[A-Za-z0-9]{16,255}"),
    Rule("github-fine-grained-token", ("github_pat_",), r"github_pat_[A-Za-z0-9_]{20,255}"),
    Rule(
        "gitlab-token",
        ("glpat-", "gldt-", "glrt-", "glrtr-", "glptt-", "glcbt-", "glft-", "glffct-", "glimt-", "glagent-", "glsoat-", "gloas-", "GR1348941"),
        r"(?:gl[a-z]{2,6}-|GR1348941)[A-Za-z0-9_\-]{16,300}(?:\.[0-9a-z]{2,3}[0-9a-z]{7})?",
    ),
    Rule("gitlab-session", ("_gitlab_session=",), r"_gitlab_session=(?P<secret>[0-9a-z]{32})"),
    Rule("atlassian-token", ("ATATT3", "ATCTT3", "ATBB"), r"AT(?:ATT3|CTT3|BB)[A-Za-z0-9_\-=]{28,260}"),
    Rule("npm-token", ("npm_",), r"npm_[A-Za-z0-9]{36}", random=True),
    Rule("pypi-token", ("pypi-",), r"pypi-AgE[A-Za-z0-9_\-]{50,1000}"),
    Rule("rubygems-token", ("rubygems_",), r"rubygems_[0-9a-f]{48}"),
    Rule("clojars-token", ("CLOJARS_",), r"CLOJARS_[A-Za-z0-9]{60}"),
    Rule("nuget-api-key", ("oy2",), r"oy2[a-z0-9]{43}(?![A-Za-z0-9_\-])"),
    Rule("docker-token", ("dckr_",), r"dckr_(?:pat|oat)_[A-Za-z0-9_\-]{20,60}"),
    Rule("artifactory-key", ("AKCp", "cmVmd"), r"(?:AKCp[A-Za-z0-9]{69}|cmVmd[A-Za-z0-9]{59})(?![A-Za-z0-9_\-])"),
    Rule("sourcegraph-token", ("sgp_",), r"sgp_(?:(?:[0-9a-fA-F]{16}|local)_)?[0-9a-fA-F]{40}"),
    Rule("pulumi-token", ("pul-",), r"pul-[0-9a-f]{40}"),
    Rule("terraform-token", (".atlasv1.",), r"[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=\-]{60,70}", anywhere=True),
    Rule("vault-token", ("hvs.", "hvb.", "hvr."), r"hv[sbr]\.[A-Za-z0-9_\-]{24,300}"),
    Rule("doppler-token", ("dp.",), r"dp\.(?:pt|ct|st|sa|scim|audit)\.[A-Za-z0-9_.\-]{40,60}"),
    Rule("infracost-key", ("ico-",), r"ico-[A-Za-z0-9]{32}", random=True),
    Rule("harness-key", ("pat.", "sat."), r"[ps]at\.[A-Za-z0-9_\-]{22}\.[A-Za-z0-9]{24}\.[A-Za-z0-9]{20}", gate=r"[ps]at\.[A-Za-z0-9_\-]{22}\."),
    Rule("octopus-deploy-key", ("API-",), r"API-[A-Z0-9]{26}(?![A-Za-z0-9_\-])"),
    Rule("openshift-token", ("sha256~",), r"sha256~[A-Za-z0-9_\-]{43}"),
    Rule("prefect-token", ("pnu_",), r"pnu_[A-Za-z0-9]{36}"),
    Rule("postman-key", ("PMAK-",), r"PMAK-[0-9a-fA-F]{24}-[0-9a-fA-F]{34}"),
    Rule("readme-token", ("rdme_",), r"rdme_[a-z0-9]{70}"),
    Rule("age-secret-key", ("AGE-SECRET-KEY-1",), r"AGE-SECRET-KEY-1[0-9A-Z]{58}"),
    Rule("1password-key", ("A3-", "ops_eyJ"), r"(?:A3-[A-Z0-9]{6}-(?:[A-Z0-9]{11}|[A-Z0-9]{6}-[A-Z0-9]{5})(?:-[A-Z0-9]{5}){3}|ops_eyJ[A-Za-z0-9+/]{100,2000}={0,3})"),
    Rule("authress-key", ("sc_", "ext_", "scauth_", "authress_"), r"(?:sc|ext|scauth|authress)_[A-Za-z0-9]{5,30}\.[A-Za-z0-9]{4,6}\.acc[_\-][A-Za-z0-9\-]{10,32}\.[A-Za-z0-9+/_=\-]{30,120}"),
    Rule("intra42-client-secret", ("s-s4t2",), r"s-s4t2(?:ud|af)-[0-9a-fA-F]{64}"),
    # Chat, mail, payment, monitoring.
    Rule("slack-token", ("xox", "xapp-"), r"(?:xox[abceoprsd](?:\.xox[bp])?|xapp)-[A-Za-z0-9\-]{10,250}"),
    Rule("slack-webhook", ("hooks.slack.com/",), r"hooks\.slack\.com/(?:services|workflows|triggers)/(?P<secret>[A-Za-z0-9+/]{20,80})"),
    Rule("discord-webhook", ("/api/webhooks/",), r"/api/webhooks/\d{15,25}/(?P<secret>[A-Za-z0-9_\-]{50,90})"),
    Rule("discord-bot-token", ("M", "N", "O"), r"[MNO][A-Za-z0-9_\-]{23,25}\.[A-Za-z0-9_\-]{6}\.[A-Za-z0-9_\-]{27,40}(?![A-Za-z0-9_\-])", gate=r"\.[A-Za-z0-9_\-]{6}\.[A-Za-z0-9_\-]{27}"),
    Rule("teams-webhook", (".webhook.office.com/",), rf"\.webhook\.office\.com/webhookb2/(?P<secret>{_UUID}@{_UUID}/IncomingWebhook/[0-9a-z]{{32}}/{_UUID})"),
    Rule("telegram-bot-token", (":AA",), r"[0-9]{5,16}:AA[A-Za-z0-9_\-]{32,34}(?![A-Za-z0-9_\-])", anywhere=True),
    Rule("twilio-key", ("SK", "AC"), r"(?:SK|AC)[0-9a-f]{32}(?![A-Za-z0-9_\-])", gate=r"(?:SK|AC)[0-9a-f]{32}"),
    Rule("sendgrid-key", ("SG.",), r"SG\.[A-Za-z0-9_\-]{20,24}\.[A-Za-z0-9_\-]{39,50}"),
    Rule("sendinblue-key", ("xkeysib-", "xsmtpsib-"), r"x(?:key|smtp)sib-[0-9a-f]{64}-[A-Za-z0-9]{16}"),
    Rule("mailgun-key", ("key-", "pubkey-"), r"(?:pub)?key-[0-9a-f]{32}(?![A-Za-z0-9_\-])"),
    Rule("mailchimp-key", ("-us",), r"[0-9a-f]{32}-us\d{1,2}(?![A-Za-z0-9_\-])", anywhere=True),
    Rule("stripe-key", ("sk_", "rk_", "whsec_"), r"(?:[sr]k_(?:live|test|prod)_[A-Za-z0-9_\-]{8,250}|[sr]k_[A-Za-z0-9]{20,250}|whsec_[A-Za-z0-9+/]{24,100})"),
    Rule("square-token", ("sq0",), r"sq0(?:atp|csp|idp)-[A-Za-z0-9_\-]{22,60}"),
    Rule("square-token", ("EAAA",), r"EAAA[A-Za-z0-9_\-]{56,64}(?![A-Za-z0-9_\-])", random=True),
    Rule("hubspot-token", ("pat-",), rf"pat-[a-z]{{2}}\d-{_UUID}"),
    Rule("shopify-token", ("shpat_", "shpca_", "shppa_", "shpss_"), r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}"),
    Rule("shippo-token", ("shippo_",), r"shippo_(?:live|test)_[0-9a-fA-F]{40}"),
    Rule("easypost-token", ("EZAK", "EZTK"), r"EZ[AT]K[A-Za-z0-9]{54}"),
    Rule("flutterwave-key", ("FLWSECK", "FLWPUBK"), r"FLW(?:SECK|PUBK)(?:_TEST)?-[A-Za-z0-9]{12,40}(?:-X)?"),
    Rule("duffel-token", ("duffel_",), r"duffel_(?:test|live)_[A-Za-z0-9_=\-]{43}"),
    Rule("facebook-token", ("EAAM", "EAAC"), r"EAA[MC][A-Za-z0-9]{100,400}"),
    Rule("facebook-app-token", ("|",), r"[0-9]{15,16}\|[A-Za-z0-9_\-]{27,40}(?![A-Za-z0-9_\-])", anywhere=True, random=True, gate=r"[0-9]{15}\|[A-Za-z0-9_\-]{27}"),
    Rule("grafana-token", ("glc_", "glsa_", "eyJrIjoi"), r"(?:glsa_[A-Za-z0-9]{32}_[0-9A-Fa-f]{8}|glc_[A-Za-z0-9+/]{32,400}={0,3}|eyJrIjoi[A-Za-z0-9]{70,400}={0,3})"),
    Rule("sentry-token", ("sntrys_", "sntryu_"), r"(?:sntryu_[0-9a-f]{64}|sntrys_eyJ[A-Za-z0-9+/=]{20,500}_[A-Za-z0-9+/]{43})"),
    Rule("new-relic-key", ("NRAK-", "NRII-", "NRJS-", "NRAL-"), r"NR(?:AK|II|JS|AL)-[A-Za-z0-9\-]{19,40}"),
    Rule("dynatrace-token", ("dt0c01.", "dt0s01."), r"dt0[cs]01\.[A-Za-z0-9]{24}\.[A-Za-z0-9]{64}"),
    Rule("linear-key", ("lin_api_", "lin_oauth_"), r"lin_(?:api|oauth)_[A-Za-z0-9]{40,64}"),
    Rule("notion-token", ("ntn_", "secret_"), r"(?:ntn_[0-9]{11}[A-Za-z0-9]{35}|secret_[A-Za-z0-9]{43}(?![A-Za-z0-9_\-]))", random=True),
    Rule("airtable-token", ("pat",), r"pat[A-Za-z0-9]{14}\.[0-9a-f]{64}", gate=r"pat[A-Za-z0-9]{14}\.[0-9a-f]{64}"),
    Rule("asana-token", ("2/", "1/"), r"[12]/[0-9]{10,20}(?:/[0-9]{10,20})?:[0-9a-f]{32}", gate=r"[12]/[0-9]{10,20}(?:/[0-9]{10,20})?:[0-9a-f]{32}"),
    Rule("typeform-token", ("tfp_",), r"tfp_[A-Za-z0-9_.=\-]{40,80}"),
    Rule("frameio-token", ("fio-u-",), r"fio-u-[A-Za-z0-9_=\-]{64}"),
    Rule("figma-token", ("figd_", "figo_"), r"fig[do]_[A-Za-z0-9_\-]{40,60}"),
    Rule("mapbox-token", ("pk.eyJ", "sk.eyJ"), r"[ps]k\.eyJ[A-Za-z0-9_\-]{20,200}\.[A-Za-z0-9_\-]{22}"),
    Rule("maxmind-key", ("_mmk",), r"[A-Za-z0-9]{6}_[A-Za-z0-9]{29}_mmk", anywhere=True),
    Rule("okta-token", ("00",), r"00[A-Za-z0-9_\-]{40}(?![A-Za-z0-9_\-=])", random=True, gate=r"00[A-Za-z0-9_\-]{40}"),
    Rule("adobe-client-secret", ("p8e-", "p8-"), r"p8e?-[A-Za-z0-9_\-]{32}", random=True),
    Rule("contentful-token", ("CFPAT-",), r"CFPAT-[A-Za-z0-9_\-]{43}"),
    Rule("settlemint-token", ("sm_aat_", "sm_pat_", "sm_sat_"), r"sm_[aps]at_[A-Za-z0-9]{16}"),
    Rule("dropbox-token", ("sl.",), r"sl\.(?:u\.)?[A-Za-z0-9_\-]{130,2000}"),
    Rule("microsoft-refresh-token", ("0.A", "1.A"), r"[01]\.A[A-Za-z0-9_\-]{20,60}\.[A-Za-z0-9_\-]{200,2000}", gate=r"[01]\.A[A-Za-z0-9_\-]{20,60}\.[A-Za-z0-9_\-]{200}"),
    # Used by any service.
    Rule("json-web-token", ("eyJ",), r"eyJ[A-Za-z0-9_\-]{10,4000}\.eyJ[A-Za-z0-9_\-]{10,8000}\.[A-Za-z0-9_\-]{10,1000}"),
    Rule("json-web-token", ("ZXlK",), r"ZXlK[A-Za-z0-9+/]{60,8000}={0,2}"),
    Rule("bearer-token", ("earer", "EARER"), r"(?i:(?:\b|(?<=\\[bfnrt]))bearer\s{1,8})(?P<secret>[A-Za-z0-9_\-.=+/]{16,4000})", anywhere=True),
    Rule("basic-credentials", ("Basic ", "basic "), r"[Bb]asic (?P<secret>[A-Za-z0-9+/]{16,400}={0,2})", random=True),
    Rule("url-password", ("://",), r"://[^\s:/?#@\"'<>\\{}$%]{0,100}:(?P<secret>[^\s:/?#@\"'<>\\{}$]{3,200})@[A-Za-z0-9\[]", gate=r"://[^\s:/?#@\"'<>]*:[^\s:/@\"'<>]+@"),
    Rule("url-signature", ("sig=", "ignature=", "redential="), r"[?&;](?:sig|X-(?:Amz|Goog)-(?:Signature|Credential)|Signature|hmac)=(?P<secret>[A-Za-z0-9%+/_\-]{16,400}={0,2})", anywhere=True, random=True),
    Rule(
        "private-key",
        ("-----BEGIN",),
        r"-----BEGIN[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
        r"(?:(?:[A-Za-z0-9+/=\s\\:,]|-(?!----))*+-----END[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
        rf"|{_LINE_END}*+[A-Za-z0-9+/=]{{32,}}+(?:{_LINE_END}++[A-Za-z0-9+/=]{{32,}}+)*+)",
        anywhere=True,
    ),
    Rule("putty-private-key", ("PuTTY-User-Key-File",), r"PuTTY-User-Key-File-\d: [\s\S]{0,4000}?Private-MAC: [0-9a-f]{40,64}"),
)  # fmt: skip

# A name that may hold a secret, a separator and a value: `nbreplay.core.secrets.credentials` judges both. For Python and
# for Rust. Between quotes that JSON has escaped, any number of times, too.
NAMED_VALUE = (
    r"(?P<core>(?i:(?:api|access|secret|private|auth)[ ]key|key|token|secret|passw(?:or)?d|passphrase|pwd|credentials?"
    r"|conn(?:ection)?_?str(?:ing)?|authorization|_auth|_pat|dsn))"
    r"(?P<rest>[A-Za-z0-9_.\-]{0,24})"
    r"(?:(?:\\{0,3}[\"'`])?\]?[ \t]{0,4}(?:=>|:=|[:=>]|%3[DdAa])[ \t]{0,4}"
    r"|\\{0,3}[\"'`][ \t]{0,4},\s{0,4}\\{0,3}[\"'`](?:value\\{0,3}[\"'`]\s{0,4}:\s{0,4})?"
    r"|[\"'] value=|[ ]is[: ]{1,2}|[ ])"
    r"(?:\\{0,3}[\"'`])?(?:(?i:bearer|basic|token|apikey|bot)[ ]{1,3})?"
    r"(?P<secret>[^\s\"'`\\,;&<>(){}\[\]|]{8,400})"
)
