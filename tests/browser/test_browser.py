"""The browser itself: what tests of pages rely on."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest
from playwright.async_api import Error, Page

from tests.browser.page_server import answer, serving

PAGE = """<!doctype html>
<link rel="icon" href="data:,">
<title>A page</title>
<p id="said">no script has run</p>
<script>document.getElementById("said").textContent = "a script has run, ä€😀"</script>
"""


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        answer(self, PAGE.encode(), content_type="text/html; charset=utf-8")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def address() -> Iterator[str]:
    with serving(_Handler) as address:
        yield address


async def test_a_page_is_read_as_a_person_would(page: Page, address: str) -> None:
    """Its scripts have run, and it can be looked at."""
    await page.goto(address)

    assert "A page" == await page.title()
    assert "a script has run, ä€😀" == await page.inner_text("#said")
    assert (await page.screenshot()).startswith(b"\x89PNG")


async def test_nothing_elsewhere_is_asked(page: Page) -> None:
    """A page that needs another machine fails here, whatever network there is."""
    with pytest.raises(Error, match="ERR_NAME_NOT_RESOLVED"):
        await page.goto("http://firestore.googleapis.com/")
