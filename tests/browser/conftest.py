from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Page

from tests.browser.chromium import chromium


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    """A page of a browser of its own. What its scripts raise, or its console has of errors, fails the test."""
    errors: list[str] = []
    async with chromium() as browser:
        page = await browser.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        yield page
    assert [] == errors
