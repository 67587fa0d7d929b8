"""A release is what it says: `make release` refuses a version or a changelog that is not ready."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
ADDRESSED = (
    '[project.urls]\nHomepage = "https://example.com"\nRepository = "https://example.com/flows"\n\n'
    "replacement = '[\\1](https://example.com/flows/blob/v$HFPR_VERSION/\\2)'\n"
)
READY = "# Changelog\n\n## [Unreleased]\n\n## [0.1.0] - 2026-12-01\n\n### Added\n\n- All.\n"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PROJECT))


def test_a_release_that_is_ready_has_no_problem() -> None:
    """A release is ready if its version is three numbers, and the changelog dates it."""
    from release import problems

    assert [] == list(problems("0.1.0", READY, ADDRESSED))


@pytest.mark.parametrize(
    ("version", "changelog", "says"),
    [
        ("0.1.0.dev0", READY, "set it to a release such as 0.1.0"),
        ("0.2.0", READY, "no section [0.2.0]"),
        ("0.1.0", READY.replace("[Unreleased]\n", "[Unreleased]\n\n- More.\n"), "an empty section [Unreleased]"),
        ("0.1.0", READY.replace(" - 2026-12-01", ""), "no date behind [0.1.0]"),
        ("0.1.0", READY.replace("## [Unreleased]\n\n", ""), "an empty section [Unreleased]"),
        ("0.1.0", "", "no section [0.1.0]"),
    ],
)
def test_what_is_not_ready_is_named(version: str, changelog: str, says: str) -> None:
    """Each problem says what to do."""
    from release import problems

    assert any(says in problem for problem in problems(version, changelog, ADDRESSED))


@pytest.mark.parametrize(
    ("project", "says"),
    [
        ("", "no Repository in [project.urls]"),
        (ADDRESSED.replace("flows/blob", "else/blob"), "substitutions lead to https://example.com/flows"),
    ],
)
def test_links_of_the_readme_lead_to_the_repository(project: str, says: str) -> None:
    """An index shows the README without the repository around it."""
    from release import problems

    assert any(says in problem for problem in problems("0.1.0", READY, project))


def test_a_link_that_needs_the_repository_is_found(tmp_path: Path) -> None:
    """It is found in the text that an index makes the page of, pictures too. A link that is whole is not."""
    from release import relative_links

    page = "Name: x\n\n![a](docs/a.svg) [b](https://example.com/b) [c](docs/c.md#d) [e](#e) [f](mailto:f@example.com)\n"
    wheel = tmp_path / "x.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("x-1.dist-info/METADATA", page)

    assert ["docs/a.svg", "docs/c.md#d"] == relative_links(wheel)


def test_this_python_is_among_those_that_are_tried() -> None:
    """Those are each that pyproject.toml names and that is installed."""
    from release import pythons

    assert f"3.{sys.version_info.minor}" in pythons()


def test_the_first_lines_of_the_readme_are_found() -> None:
    """They are found with what they print, and with the extras that they need."""
    from release import first_lines

    readme = "```\npip install 'firestore-flowstate[flows]'\n```\n\n```python\nprint(1)\n```\n\n```\n1\n```\n"

    assert ("print(1)\n", "1\n", "[flows]") == first_lines(readme)
    assert "" == first_lines(readme.replace("'firestore-flowstate[flows]'", "firestore-flowstate"))[2]
    assert first_lines((PROJECT / "README.md").read_text())[1]
