"""The site: the papers of the repository as its pages, with links that lead to each other.

    python docs/pages.py    # builds it into build/site/html, and fails where a link or an anchor leads nowhere

Papers link to each other, and to files of the repository, as they lie in the repository, so that they can be read
there too. On the site README.md is the front page, and a file that is not a paper is a page with its text.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PROJECT: Final = Path(__file__).parents[1]
STAGED: Final = PROJECT / "build" / "site" / "pages"
BUILT: Final = PROJECT / "build" / "site" / "html"
PAPERS: Final = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "emulator/README.md": "emulator.md",
    "tests/data/format-v1/README.md": "test-vectors.md",
}
"""Papers outside docs/, and which page of the site each is."""
_FOREIGN_SCRIPT: Final = "https://unpkg.com/iframe-worker/shim"
"""What the builder has pages fetch, so that the search works from a disk. Ours is beside the pages."""
_LINK: Final = re.compile(r"(\]\(|^\[[^]]+\]: )([^)\s]+)", re.MULTILINE)
_FENCE: Final = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LANGUAGES: Final = {".ipynb": "json", ".json": "json", ".py": "python", ".rules": "javascript"}


def pages() -> dict[Path, Path]:
    """Return every paper, with the page that it is."""
    own = {PROJECT / paper: Path(page) for paper, page in PAPERS.items() if (PROJECT / paper).exists()}
    docs = PROJECT / "docs"
    return own | {paper: paper.relative_to(docs) for paper in sorted(docs.rglob("*.md"))}


def stage(folder: Path) -> None:
    """Write the pages into a folder, in place of what it has, with the files that they show and link to."""
    shutil.rmtree(folder, ignore_errors=True)
    known = pages()
    others: set[Path] = set()
    for paper, page in known.items():
        text, linked = _relinked(paper, page, known)
        others |= linked
        _write(folder / page, text)
    for file in sorted(others):
        _write(folder / _page_of(file), _source(file))
    docs = PROJECT / "docs"
    for file in sorted([*docs.rglob("*.svg"), *docs.glob("theme/*")]):
        target = folder / file.relative_to(docs)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)


def build() -> int:
    """Stage the pages and build the site of them; return the exit code of the builder."""
    stage(STAGED)
    shutil.rmtree(BUILT, ignore_errors=True)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    done = subprocess.run(command, cwd=PROJECT, check=False)
    for page in BUILT.rglob("*.html"):
        up = "../" * (len(page.relative_to(BUILT).parts) - 1)
        _write(page, page.read_text(encoding="utf-8").replace(_FOREIGN_SCRIPT, f"{up}theme/iframe-worker.js"))
    return done.returncode


def _relinked(paper: Path, page: Path, known: dict[Path, Path]) -> tuple[str, set[Path]]:
    """Return the text of a paper with its links as the site has them, and the files it links to that are not papers."""
    others: set[Path] = set()

    def replace(match: re.Match[str]) -> str:
        target, hash_, anchor = match[2].partition("#")
        if not target or "://" in target or target.startswith("mailto:"):
            return match[0]
        file = (paper.parent / target).resolve()
        if file.is_dir() and (file / "README.md") in known:
            file /= "README.md"
        if file.suffix == ".svg":
            goal = file.relative_to(PROJECT / "docs")
        elif file in known:
            goal = known[file]
        elif file.exists():
            others.add(file)
            goal = _page_of(file)
        else:
            return match[0]  # which the builder names, and fails
        return f"{match[1]}{_between(page, goal)}{hash_}{anchor}"

    return "".join(
        part if fenced else _LINK.sub(replace, part) for part, fenced in _parts(paper.read_text(encoding="utf-8"))
    ), others


def _parts(text: str) -> Iterator[tuple[str, bool]]:
    """Yield the text in pieces, each with whether it is a code block, in which nothing is a link."""
    end = 0
    for block in _FENCE.finditer(text):
        yield text[end : block.start()], False
        yield block[0], True
        end = block.end()
    yield text[end:], False


def _page_of(file: Path) -> Path:
    return Path("source", f"{file.relative_to(PROJECT)}.md")


def _between(page: Path, goal: Path) -> str:
    return "/".join([".."] * len(page.parent.parts) + list(goal.parts))


def _source(file: Path) -> str:
    """Return the page of a file, or of a folder, that is not a paper."""
    title = f"---\nsearch:\n  exclude: true\n---\n\n# {file.relative_to(PROJECT)}\n\n"
    if file.is_dir():
        names = sorted(f"{one.name}/" if one.is_dir() else one.name for one in file.iterdir())
        listed = "".join(f"- `{name}`\n" for name in names if not name.startswith((".", "__pycache__")))
        return f"{title}A folder of the repository:\n\n{listed}"
    text = file.read_text(encoding="utf-8")
    return f"{title}````{_LANGUAGES.get(file.suffix, 'text')}\n{text.rstrip()}\n````\n"


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(build())
