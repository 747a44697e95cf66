"""A real browser, where there is one: Playwright drives the Chromium that is installed here."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

#: Opens a file, `width` pixels wide and in a colour scheme; returns Playwright's page.
Open = Callable[..., Any]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The browser; without one the test is left out."""
    driver = pytest.importorskip(
        "playwright.sync_api",
        reason="Playwright is not here: pip install -c constraints.txt -r requirements/browser.txt",
    )
    program = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if program is None:
        pytest.skip("there is no Chromium on the PATH (Debian and Ubuntu: apt install chromium)")
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Open]:
    """Opens files; the browser must complain of nothing, and ask the network for nothing."""
    complaints: list[str] = []
    contexts = []

    def open_file(path: Path, *, width: int = 1200, scheme: str = "light", script: bool = True) -> Any:
        context = chromium.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, java_script_enabled=script
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"a dialog: {dialog.message}"))
        page.on("request", lambda request: _is_local(request.url) or complaints.append(request.url[:200]))
        page.goto(path.absolute().as_uri())
        return page

    yield open_file
    for context in contexts:
        context.close()
    assert not complaints


def _is_local(url: str) -> bool:
    return url.startswith(("file:", "data:"))
