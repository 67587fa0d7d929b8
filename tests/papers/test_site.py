"""The site of the papers builds without a warning, is complete, needs nothing from elsewhere, and can be searched."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

import firestore_flowstate
import firestore_flowstate.flows
from tests.browser.chromium import chromium

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="what builds the site needs Python 3.11")

PROJECT = Path(__file__).parents[2]
DOCS = PROJECT / "docs"
SITE = PROJECT / "build" / "site" / "html"
FETCHED = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "src")}


class Page(HTMLParser):
    """What a page links to, what it fetches, and what can be linked to in it."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.anchors: set[str] = {"__nav", "__search"}
        self.feed(file.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if values.get("rel") not in {"canonical", "next", "prev"}:
            self.fetched += [value for name, value in values.items() if (tag, name) in FETCHED]


@pytest.fixture(scope="module")
def site() -> dict[Path, Page]:
    """The pages of the site, just built."""
    ran = subprocess.run(
        [sys.executable, str(DOCS / "pages.py")], capture_output=True, text=True, check=False, timeout=110
    )
    assert 0 == ran.returncode, ran.stdout + ran.stderr
    return {file: Page(file) for file in SITE.rglob("*.html") if file.name != "404.html"}


def test_every_paper_is_a_page_of_the_menu(site: dict[Path, Page]) -> None:
    """A new paper gets its line in zensical.toml. The menu names no page that is not there."""
    menu = {
        page.replace(".md", ".html")
        for page in re.findall(r'= "([\w/-]+\.md)"', (PROJECT / "zensical.toml").read_text())
    }
    papers = {str(file.relative_to(DOCS).with_suffix(".html")) for file in DOCS.rglob("*.md")}
    built = {str(file.relative_to(SITE)) for file in site}

    assert menu == {page for page in built if not page.startswith("source/")}
    assert set() == papers - menu


def test_the_menu_begins_with_the_tutorial() -> None:
    """Then come guides, explanation and reference, the glossary and the costs."""
    menu = re.findall(r'^  \{ "(\w+)" = ', (PROJECT / "zensical.toml").read_text(), re.MULTILINE)

    assert ["Overview", "Tutorial", "Guides", "Explanation", "Reference", "Glossary", "Costs"] == menu[:7]


def test_examples_of_docstrings_are_code(site: dict[Path, Page]) -> None:
    """The `::` before them, which is how docstrings have them, is on no page of the reference."""
    assert [] == [file.name for file in site if "::</p>" in file.read_text()]


def test_no_link_of_the_site_is_broken(site: dict[Path, Page]) -> None:
    """Pages and anchors are there, for the text, the menu and the reference that is made of the docstrings."""
    broken = []
    for file, page in site.items():
        for link in page.links:
            target, _, anchor = link.partition("#")
            if re.match(r"\w+:", target):
                continue
            goal = (file.parent / unquote(target)).resolve() if target else file
            goal = goal / "index.html" if goal.is_dir() else goal
            if goal not in site or (anchor and unquote(anchor) not in site[goal].anchors):
                broken.append(f"{file.relative_to(SITE)}: {link}")

    assert [] == broken


def test_the_site_fetches_nothing_from_elsewhere(site: dict[Path, Page]) -> None:
    """No font, script or picture: it is read without a network, and nobody else learns who reads it."""
    foreign = [link for page in site.values() for link in page.fetched if re.match(r"(\w+:)?//", link)]

    assert [] == foreign
    for file, page in site.items():
        for link in page.fetched:
            assert link.startswith("data:") or (file.parent / link.partition("?")[0]).exists(), link


def test_every_public_name_is_in_the_reference(site: dict[Path, Page]) -> None:
    """It is there with what its docstring says."""
    anchors = {anchor for page in site.values() for anchor in page.anchors}

    assert set() == {f"firestore_flowstate.{name}" for name in firestore_flowstate.__all__} - anchors
    assert set() == {f"firestore_flowstate.flows.{name}" for name in firestore_flowstate.flows.__all__} - anchors


@pytest.mark.parametrize(
    ("words", "page"),
    [("update_time", "architecture.html"), ("FLOWSTATE_SHARDS", "settings.html"), ("if_version", "api/stores.html")],
)
def test_a_word_is_found(site: dict[Path, Page], words: str, page: str) -> None:
    """The index of the search has the words of the text, of tables and of docstrings."""
    assert site
    items = json.loads((SITE / "search.json").read_text())["items"]

    assert page in {item["location"].partition("#")[0] for item in items if words in item["text"]}


async def test_a_reader_finds_a_page_by_a_word(site: dict[Path, Page]) -> None:
    """A browser shows the site from the disk, without a network."""
    assert site
    async with chromium() as browser:
        page = await browser.new_page()
        await page.goto((SITE / "index.html").as_uri())
        await page.keyboard.press("Control+k")
        await page.wait_for_function("document.activeElement.shadowRoot?.activeElement?.tagName === 'INPUT'")
        await page.keyboard.type("idempotency")
        await page.get_by_text("Call a payment service once", exact=True).click(timeout=20_000)
        await page.wait_for_url("**/recipes.html**")

        assert "Recipes" in await page.title()


@pytest.mark.parametrize("width", [1400, 390])
async def test_no_page_is_wider_than_its_window(site: dict[Path, Page], width: int) -> None:
    """So it is on a desk and on a telephone, for each kind of page. Tables, code and pictures scroll."""
    pages = ("index", "first-flow", "firebase", "costs", "settings", "cli", "api/flows", "api/stores", "errors")
    async with chromium() as browser:
        page = await browser.new_page(viewport={"width": width, "height": 900})
        wider = []
        for name in pages:
            await page.goto((SITE / f"{name}.html").as_uri())
            if await page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                wider.append(name)

    assert site
    assert [] == wider
