"""What users install: the wheel has all of the package and nothing else, and works outside the checkout."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Sequence
from email.parser import HeaderParser
from pathlib import Path

import pytest

import firestore_flowstate

PROJECT = Path(__file__).parents[2]
PACKAGE = PROJECT / "firestore_flowstate"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as an installer builds it."""
    folder = tmp_path_factory.mktemp("wheel")
    run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(PROJECT)])
    [wheel] = folder.glob("*.whl")
    return wheel


def test_it_has_the_package_and_nothing_else(wheel: Path) -> None:
    """It has every module, the descriptors, and the mark of its types. It has neither tests nor benchmarks."""
    data = ("firestore_v1.binpb", "py.typed")
    expected = {
        str(path.relative_to(PROJECT)) for path in PACKAGE.rglob("*") if path.suffix == ".py" or path.name in data
    }
    assert len(data) == len([name for name in expected if name.endswith(data)])
    names = zipfile.ZipFile(wheel).namelist()

    assert expected == {name for name in names if ".dist-info/" not in name}
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_it_says_what_it_is(wheel: Path) -> None:
    """Its version, Pythons, extras, command and plugin are as the README has them."""
    archive = zipfile.ZipFile(wheel)
    [about] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    [commands] = [name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt")]
    metadata = HeaderParser().parsestr(archive.read(about).decode())
    entries = archive.read(commands).decode()

    assert (firestore_flowstate.__version__, ">=3.10") == (metadata["Version"], metadata["Requires-Python"])
    extras = {"cli", "cloud-tasks", "crypto", "emulator", "firebase", "flows", "http", "testing"}
    assert extras == set(metadata.get_all("Provides-Extra") or ())
    assert "flowstate = firestore_flowstate.cli:main" in entries
    assert "firestore_flowstate = firestore_flowstate.testing.plugin" in entries


def test_its_page_on_an_index_needs_no_repository(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The README is there, and its links and pictures lead somewhere or are text."""
    monkeypatch.syspath_prepend(str(PROJECT))
    from release import relative_links

    archive = zipfile.ZipFile(wheel)
    [about] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    metadata = HeaderParser().parsestr(archive.read(about).decode())

    assert "text/markdown" == metadata["Description-Content-Type"]
    assert "## What it guarantees" in metadata.get_payload()
    assert [] == relative_links(wheel)


def test_it_works_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """Installed without the project around it, the package and its command run."""
    folder = tmp_path / "installed"
    run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), str(wheel)])
    code = (
        f"import sys; sys.path.insert(0, {str(folder)!r})\n"
        "import firestore_flowstate as it\n"
        "print(it.__file__)\n"
        "from firestore_flowstate import FlowState, MemoryFlowStateStore, SyncFlowStateStore\n"
        "store = SyncFlowStateStore(MemoryFlowStateStore())\n"
        "store.save('flow', FlowState.start(name='wheel'))\n"
        "print(store.load('flow').name)\n"
        "from firestore_flowstate._rpc.messages import Document\n"
        "from firestore_flowstate.cli import main\n"
        "sys.exit(main(['--version']))\n"
    )
    [place, name, version] = run([sys.executable, "-I", "-c", code], cwd=tmp_path).splitlines()

    assert str(folder / "firestore_flowstate" / "__init__.py") == place
    assert ("wheel", f"flowstate, version {firestore_flowstate.__version__}") == (name, version)


def run(command: Sequence[str], cwd: Path | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
