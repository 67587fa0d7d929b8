"""A worker whose processes are forked, or started anew."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.hosts.serving import EXAMPLES


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_multiprocessing(host_environment: dict[str, str], start_method: str) -> None:
    """Processes of either start method use the store of a parent that has used it, and the parent goes on."""
    outcome = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", str(EXAMPLES / "worker.py"), start_method],
        env=host_environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )

    assert (f"20 runs charged by processes of {start_method}\n", "") == (outcome.stdout, outcome.stderr)
    assert 0 == outcome.returncode
