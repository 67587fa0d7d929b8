"""What a release is, up to the upload, which a person does.

    python release.py            # as `make release`
    python release.py --rehearse # also of a version that is not ready, to see that the rest works

It checks versions, builds sdist and wheel into dist/, checks what an index would, and on every Python that is installed
puts the wheel into an empty environment and runs the first lines of the README, on the emulator.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PROJECT: Final = Path(__file__).parent
DIST: Final = PROJECT / "dist"


def problems(version: str, changelog: str, project: str) -> Iterator[str]:
    """Yield what is not as it is at a release.

    Args:
        version: Of the package.
        changelog: The text of CHANGELOG.md.
        project: The text of pyproject.toml.
    """
    release = version.partition(".dev")[0]
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        yield f"__version__ is {version}: set it to a release such as {release}"
    sections = re.findall(r"^## \[(.*?)\](.*)\n((?:(?!^## ).*\n?)*)", changelog, re.MULTILINE)
    unreleased, *released = sections or [("", "", "")]
    if unreleased[0] != "Unreleased" or unreleased[2].strip():
        yield "CHANGELOG.md has to begin with an empty section [Unreleased]: move what is in it to the release"
    if not released or released[0][0] != release:
        yield f"CHANGELOG.md has no section [{release}] behind [Unreleased]"
    elif not re.fullmatch(r" - \d{4}-\d\d-\d\d", released[0][1]):
        yield f"CHANGELOG.md has no date behind [{release}], such as [{release}] - 2026-12-01"
    address = re.search(r"^\[project\.urls\]\n(?:[^[\n].*\n)*?Repository = \"(.+?)/?\"$", project, re.MULTILINE)
    if address is None:
        yield "pyproject.toml has no Repository in [project.urls]: give its address, and lead the README's links there"
    elif f"]({address[1]}/" not in project:
        yield f"pyproject.toml drops links of the README: let its substitutions lead to {address[1]}"


def pythons() -> dict[str, str]:
    """Return the interpreters of the versions that pyproject.toml names, as far as they are installed."""
    text = (PROJECT / "pyproject.toml").read_text()
    found = {}
    for version in re.findall(r'"Programming Language :: Python :: (3\.\d+)"', text):
        root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
        named = [f"python{version}", *map(str, root.glob(f"versions/{version}.*/bin/python"))]
        for candidate in filter(shutil.which, named):
            said = subprocess.run([candidate, "--version"], capture_output=True, text=True, check=False)
            if re.fullmatch(rf"Python {re.escape(version)}\.\d+", said.stdout.strip()):  # a shim may lead nowhere
                found[version] = candidate
                break
    return found


def first_lines(readme: str) -> tuple[str, str, str]:
    """Return the first program of the README, what it prints, and the extras that the README installs for it."""
    code, printed = re.search(r"^```python\n(.*?)^```\n\n```\n(.*?)^```", readme, re.MULTILINE | re.DOTALL).groups()  # type: ignore[union-attr]
    install = re.search(r"pip install '?firestore-flowstate(\[[\w,-]+\])?", readme)
    return code, printed, (install and install[1]) or ""


def build() -> Path:
    """Build sdist and wheel into an empty dist/, check what an index would, and return the wheel.

    Raises:
        SystemExit: A build or a check fails, or the page of an index would have links that lead nowhere.
    """
    shutil.rmtree(DIST, ignore_errors=True)
    run(sys.executable, "-m", "build", "--outdir", str(DIST), str(PROJECT))
    run(sys.executable, "-m", "twine", "check", "--strict", *map(str, sorted(DIST.iterdir())))
    [wheel] = DIST.glob("*.whl")
    if links := relative_links(wheel):
        raise SystemExit(f"on an index these links of the README lead nowhere: {', '.join(links)}")
    return wheel


def relative_links(wheel: Path) -> list[str]:
    """Return the links and pictures of the page that an index makes of a wheel, as far as they need the repository."""
    archive = zipfile.ZipFile(wheel)
    [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    return re.findall(r"\]\((?!\w+:|#)([^)\s]+)\)", archive.read(name).decode())


def try_out(python: str, wheel: Path) -> None:
    """Install the wheel into an empty environment of a Python, and run the first lines of the README there.

    Raises:
        SystemExit: They print something else.
    """
    code, printed, extras = first_lines((PROJECT / "README.md").read_text())
    with tempfile.TemporaryDirectory() as folder:
        run(python, "-m", "venv", folder)
        own = str(Path(folder, "bin", "python"))
        run(own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"{wheel}{extras}")
        emulated = (sys.executable, "-m", "firestore_flowstate.emulator", "exec", "--")
        ran = subprocess.run(
            [*emulated, own, "-I", "-c", code], cwd=folder, stdout=subprocess.PIPE, text=True, check=False
        )
    if (ran.returncode, ran.stdout) != (0, printed):
        raise SystemExit(f"{python}: the first lines of the README print {ran.stdout!r}, not {printed!r}")


def run(*command: str) -> None:
    """Run a command that must succeed."""
    if subprocess.run(command, check=False).returncode:
        raise SystemExit(f"failed: {' '.join(command)}")


def main() -> None:
    """Do all of it, and say what is left to do."""
    parser = argparse.ArgumentParser(description="Make a release, up to the upload.")
    parser.add_argument("--rehearse", action="store_true", help="go on with a version that is not ready")
    rehearsal = parser.parse_args().rehearse
    version = re.search(r'__version__ = "(.*)"', (PROJECT / "firestore_flowstate" / "_version.py").read_text())[1]  # type: ignore[index]
    changed = subprocess.run(["git", "status", "--porcelain"], cwd=PROJECT, capture_output=True, text=True, check=True)
    papers = ((PROJECT / name).read_text() for name in ("CHANGELOG.md", "pyproject.toml"))
    wrong = [*problems(version, *papers)]
    wrong += ["there are changes that are not committed"] if changed.stdout else []
    print(*wrong, sep="\n")
    if wrong and not rehearsal:
        raise SystemExit(1)
    wheel = build()
    for name, python in pythons().items():
        try_out(python, wheel)
        print(f"Python {name}: installed in an empty environment, and the first lines of the README run")
    if not wrong:
        print(f"Ready. What is left: git tag v{version} && {sys.executable} -m twine upload dist/*")


if __name__ == "__main__":
    main()
