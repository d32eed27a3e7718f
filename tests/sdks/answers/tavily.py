"""Tavily: searches and extracts."""

from __future__ import annotations

import re

from tests.sdks.asked import Answer, Asked, Route

__all__ = ["ROUTES"]


def search(asked: Asked) -> Answer:
    """Find one page."""
    if asked.body["query"] == "missing":
        return Answer({"detail": {"error": f"answer {asked.number}: nothing to search for"}}, status=400)
    found = {"url": "https://example.com", "title": "A page", "content": f"page {asked.number}", "score": 0.9876543}
    about = {"query": asked.body["query"], "answer": "".join(asked.words("search")), "images": [], "follow_up": None}
    return Answer({**about, "results": [{**found, "raw_content": None}], "response_time": 0.1, "request_id": "r"})


def extract(asked: Asked) -> Answer:
    """Return what pages say."""
    pages = [{"url": url, "raw_content": f"page {asked.number}", "images": []} for url in asked.body["urls"]]
    return Answer({"results": pages, "failed_results": [], "response_time": 0.02})


ROUTES: list[Route] = [
    ("POST", re.compile(r"/search"), search),
    ("POST", re.compile(r"/extract"), extract),
]
