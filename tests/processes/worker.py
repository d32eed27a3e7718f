"""A program that asks the tests' provider, as child processes do: ``python worker.py URL TEXT…`` prints the answers."""

from __future__ import annotations

import http.client
import json
import sys
from urllib.parse import urlsplit


def ask(url: str, text: str) -> str:
    """Ask by Python's own client, which takes the shortest time to import."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    body = json.dumps({"model": "test", "messages": [{"role": "user", "content": text}]})
    connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
    answer = connection.getresponse().read()
    connection.close()
    return str(json.loads(answer)["choices"][0]["message"]["content"])


def ask_here(item: tuple[str, str]) -> str:
    """Ask, as the work of a pool."""
    return ask(*item)


if __name__ == "__main__":
    for text in sys.argv[2:]:
        print(ask(sys.argv[1], text))
