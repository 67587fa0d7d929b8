"""The browser that `make browser` has unpacked."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from playwright.async_api import Browser, async_playwright

UNPACKED: Final = Path(__file__).parents[2] / ".browser" / "unpacked"


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Start it, headless. It resolves no name but localhost and asks no other machine for anything."""
    program = UNPACKED / "chromium"
    assert program.is_file(), "these tests need a browser: make browser"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=program,
            chromium_sandbox=False,  # root cannot have one
            args=["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1"],
            env={
                **os.environ,
                "LD_LIBRARY_PATH": str(UNPACKED / "al2023" / "lib"),  # libnss3 and libnspr4, which a bare system lacks
                "FONTCONFIG_FILE": str(UNPACKED / "fonts.conf"),
            },
        )
        yield browser
        await browser.close()
