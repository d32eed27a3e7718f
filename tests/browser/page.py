"""A page of a notebook in a browser, and what has become of it."""

from __future__ import annotations

import re
import time
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Error, Locator, Page, expect

__all__ = ["Opened"]

_PATIENCE = 120_000  # ms
expect.set_options(timeout=60_000)
_NOT_OURS = ("schema", "ResizeObserver")  # what JupyterLab and Notebook 7 complain of by themselves


_PROMPTS = "() => [...document.querySelectorAll('.jp-InputPrompt')].map((prompt) => prompt.textContent).join()"
_RUNS = "() => [...document.querySelectorAll('.jp-InputPrompt')].some((prompt) => prompt.textContent.includes('*'))"


class Opened:
    """A page.

    Attributes
    ----------
    page : playwright.sync_api.Page
    requests : list of str
        Every address that was asked for, those of data and blobs left out.
    troubles : list of str
        Errors of scripts, and dialogs.
    """

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.requests: list[str] = []
        self.troubles: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self._trouble(str(error)))
        page.on("dialog", lambda dialog: (self.troubles.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.goto(address)

    def _trouble(self, text: str) -> None:
        if not any(word in text for word in _NOT_OURS):
            self.troubles.append(text)

    def ready(self) -> Opened:
        """Wait for the notebook and its kernel."""
        self.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=_PATIENCE)
        self.page.wait_for_selector('[data-status="idle"]', timeout=_PATIENCE, state="attached")
        time.sleep(0.5)  # a click at once is lost now and then
        return self

    def run_all(self) -> Opened:
        """Run every cell, and wait until all have ended."""
        for _ in range(3):
            self.start()
            self.page.wait_for_function(f"() => !({_RUNS})()", timeout=3 * _PATIENCE)
            if re.search(r"\d", self.page.evaluate(_PROMPTS)):
                return self
        raise AssertionError("the kernel that connects drops what it is asked to run")

    def start(self) -> Opened:
        """Run every cell."""
        before = self.page.evaluate(_PROMPTS)
        for _ in range(5):
            self._choose_kernel()
            self.page.get_by_role("menuitem", name="Run", exact=True).first.click()
            self.page.get_by_role("menuitem", name="Run All Cells", exact=True).first.click()
            try:
                # Cells that have ended already count as well. Prompts without a number have been dropped by a kernel
                # that was still connecting.
                has_begun = f"(before) => ({_PROMPTS})() !== before && /[*\\d]/.test(({_PROMPTS})())"
                self.page.wait_for_function(has_begun, arg=before, timeout=4_000)
            except Error:
                continue  # now and then a click is lost
            return self
        raise AssertionError("the notebook does not run")

    def errors(self) -> list[str]:
        """Return the texts of all outputs that are errors."""
        kinds = ("error", "stderr")
        outputs = [f'.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.{kind}"]' for kind in kinds]
        return self.page.locator(", ".join(outputs)).all_inner_texts()

    def _choose_kernel(self) -> None:
        """Answer the question for a kernel, which JupyterLab asks where a busy server starts it late."""
        question = self.page.locator(".jp-Dialog").filter(has_text="Select Kernel")
        if question.count():
            question.locator(".jp-mod-accept").click()
            self.page.wait_for_selector('[data-status="idle"]', timeout=_PATIENCE, state="attached")

    @property
    def cards(self) -> Locator:
        """The cards that are shown."""
        return self.page.locator(".nbr-card")

    def outside(self) -> list[str]:
        """Return what was asked of anything but this machine."""
        schemes = ("data", "blob", "file")
        return [
            url
            for url in self.requests
            if urlsplit(url).scheme not in schemes and urlsplit(url).hostname not in ("127.0.0.1", "localhost")
        ]

    def picture(self, path: Path, *, of: Locator | None = None) -> None:
        """Take a picture of the page, or of a part of it."""
        if of is None:
            self.page.screenshot(path=path)
        else:
            of.screenshot(path=path)
