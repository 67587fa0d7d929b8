"""DBOS in a process of its own, on SQLite and on PostgreSQL, with DBOS's packages in build/dbos."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from rounds import QUICK, Cost

ENVIRONMENT: Final = Path(__file__).parents[1] / "build" / "dbos"
WORKFLOW: Final = Path(__file__).with_name("dbos_workflow.py")
PACKAGES: Final = ("dbos", "psycopg[binary]")
_PYTHON: Final = ENVIRONMENT / "bin" / "python"
_USER: Final = "postgres"  # PostgreSQL refuses to run as root


class DbosProcess:
    """A process that does steps of DBOS.

    Args:
        url: The database that DBOS keeps them in.
        values: What the steps return.
    """

    def __init__(self, url: str, values: Sequence[Any]) -> None:
        self._process = subprocess.Popen(
            [_PYTHON, WORKFLOW, url, json.dumps(values)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def steps(self) -> Cost:
        """Do each step once. Return the mean cost of one."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return Cost(*json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=30)


@contextmanager
def databases(values: Sequence[Any], *, install: bool) -> Iterator[Mapping[str, DbosProcess]]:
    """Give a process for each database that is there, and none if DBOS is not installed.

    Args:
        values: What the steps return.
        install: Install DBOS first, if it is not there.
    """
    if install and not _PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", ENVIRONMENT], check=True)
        subprocess.run([_PYTHON, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    with ExitStack() as stack:
        processes: dict[str, DbosProcess] = {}
        if QUICK or not _PYTHON.exists():
            print("DBOS is not in build/dbos, and is not measured: python benchmarks/flows.py --dbos")
        else:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            urls = {"DBOS, SQLite": f"sqlite:///{folder}/dbos.sqlite"}
            if (url := stack.enter_context(postgres())) is not None:
                urls["DBOS, PostgreSQL"] = url
            for name, url in urls.items():
                processes[name] = DbosProcess(url, values)
                stack.callback(processes[name].close)
        yield processes


@contextmanager
def postgres() -> Iterator[str | None]:
    """Give the URL of a PostgreSQL that runs for this alone, or None if it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin")) or [Path(which).parent for which in _on_path()]
    if not found:
        print("PostgreSQL is not installed, and is not measured: apt-get install postgresql")
        yield None
        return
    is_root = os.geteuid() == 0
    by = ["runuser", "-u", _USER, "--"] if is_root else []
    name = _USER if is_root else os.environ.get("USER", _USER)
    with tempfile.TemporaryDirectory() as folder:
        if is_root:
            shutil.chown(folder, _USER, _USER)
        data = f"{folder}/data"
        about: dict[str, Any] = {"check": True, "stdout": subprocess.DEVNULL}
        subprocess.run([*by, found[-1] / "initdb", "-D", data, "-U", name, "--auth=trust"], **about)
        only_here = f"-k {folder} -c listen_addresses="
        subprocess.run(
            [*by, found[-1] / "pg_ctl", "-D", data, "-w", "-o", only_here, "-l", f"{folder}/log", "start"], **about
        )
        try:
            yield f"postgresql://{name}@/postgres?host={folder}"
        finally:
            with contextlib.suppress(subprocess.CalledProcessError):
                subprocess.run([*by, found[-1] / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop"], **about)


def _on_path() -> Iterator[str]:
    if (which := shutil.which("postgres")) is not None:
        yield which
