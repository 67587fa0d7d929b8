"""The page of examples/firebase, in a browser: it shows how far runs are, and answers them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Page, Route, expect

from tests.browser.page_server import answer, serving
from tests.hosts.firebase_project import FOLDER, PROJECT, Project, served, unsigned_token

SDK = Path(__file__).parents[2] / ".browser" / "node_modules" / "firebase"
CONFIGURATION = {"projectId": PROJECT, "apiKey": "any", "authDomain": "localhost"}


@pytest.fixture(scope="module")
def project() -> Iterator[Project]:
    with served() as project:
        yield project


class Hosting(SimpleHTTPRequestHandler):
    """Serves the folder, and what Firebase Hosting has at reserved addresses."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args, directory=str(FOLDER / "public"))

    def do_GET(self) -> None:
        if self.path != "/__/firebase/init.json":
            super().do_GET()
            return
        answer(self, json.dumps(CONFIGURATION).encode(), content_type="application/json")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def address() -> Iterator[str]:
    with serving(Hosting) as address:
        yield address


async def connect(page: Page, project: Project, uid: str) -> None:
    """Answer here what the page asks of other machines: the SDK, the sign-in, and the ports of the emulators."""
    cors = {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Headers": "*"}

    async def sdk(route: Route) -> None:
        await route.fulfill(path=SDK / route.request.url.rpartition("/")[2], content_type="text/javascript")

    async def sign_in(route: Route) -> None:
        token = unsigned_token(uid)
        user = {"localId": uid, "lastLoginAt": "1", "createdAt": "1"}
        answer = {"idToken": token, "refreshToken": "r", "expiresIn": "3600", "localId": uid, "users": [user]}
        await route.fulfill(json=answer, headers=cors)

    async def firestore(route: Route) -> None:
        await route.continue_(url=route.request.url.replace("127.0.0.1:8080", project.emulator.host))

    async def function(route: Route) -> None:
        name = urlsplit(route.request.url).path.rpartition("/")[2]
        await route.continue_(url=f"http://127.0.0.1:{project.servers[name].port}/")

    await page.route("https://www.gstatic.com/**", sdk)
    await page.route("http://127.0.0.1:9099/**", sign_in)
    await page.route("http://127.0.0.1:8080/**", firestore)
    await page.route("http://127.0.0.1:5001/**", function)


async def test_a_person_follows_and_answers_a_run(page: Page, project: Project, address: str) -> None:
    """The page shows it live: drafted, asked for, published. Others' runs are not shown."""
    await asyncio.to_thread(project.start, "somebody else")
    await connect(page, project, "alice")
    await page.goto(address)
    await page.fill("#topic", "tea")
    await page.click("text=Write about it")
    row = page.locator("#runs li")
    await expect(row.locator(".draft")).to_have_text("All about tea.", timeout=30_000)
    await expect(row.locator(".stage")).to_have_text("approve?", timeout=30_000)
    await row.locator(".yes").click(timeout=30_000)
    await expect(row.locator(".stage")).to_have_text("published", timeout=30_000)
    await expect(row.locator(".url")).to_have_text("https://example.com/tea")
    await expect(row.locator(".yes")).to_be_hidden()

    assert 1 == await row.count()


async def test_a_person_rejects(page: Page, project: Project, address: str) -> None:
    """The page says so. One that is opened later shows the runs that are there."""
    id = await asyncio.to_thread(project.start, "bea", "coffee")
    await connect(page, project, "bea")
    await page.goto(address)
    row = page.locator("#runs li")
    await row.locator(".no").click(timeout=30_000)
    await expect(row.locator(".stage")).to_have_text("rejected", timeout=30_000)

    assert "done" == (await asyncio.to_thread(project.wait_for, id, "bea", status="done"))["status"]
