"""google-genai over llama-stack's recordings: its objects are those that were recorded."""

from __future__ import annotations

import json
from pathlib import Path

import nbreplay as nr
from nbreplay.core.store.store import Store
from nbreplay.formats import registry
from tests.formats.making import real_files
from tests.sdks.harness import installed

genai = installed("google.genai", "google-genai")


def test_a_replay_gives_the_objects_that_llama_stack_has_recorded(tmp_path: Path) -> None:
    from google.oauth2.credentials import Credentials

    number = 0
    for path in real_files():
        data = json.loads(path.read_text(encoding="utf-8"))
        body, answers = data["request"].get("body", {}), data["response"]["body"]
        if not str(data["request"].get("url")).startswith("vertexai") or "response_schema" in body["config"]:
            continue  # the SDK rewrites a schema before it sends it
        number += 1
        registry.import_files(path, Store(tmp_path / str(number)))
        client = genai.Client(
            vertexai=True, project="p", location="us-central1", credentials=Credentials(token="a-token-of-the-tests")
        )
        given = {"model": body["model"], "contents": body["contents"]}
        config = genai.types.GenerateContentConfig.model_validate(body["config"])
        with nr.session(tmp_path / str(number), mode="replay"):
            if isinstance(answers, list):
                made = list(client.models.generate_content_stream(**given, config=config))
            else:
                made = [client.models.generate_content(**given, config=config)]
        # Headers are those that a replay gives; the rest is what was recorded.
        left_out = {"sdk_http_response", "automatic_function_calling_history", "parsed"}
        got = [item.model_dump(mode="json", exclude_none=True, exclude=left_out) for item in made]
        want = [
            {name: value for name, value in item.items() if name not in left_out}
            for item in (answers if isinstance(answers, list) else [answers])
        ]
        assert got == want, path.name
        client.close()
    assert number
