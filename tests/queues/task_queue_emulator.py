"""The task queue emulator of firebase-tools, in a process of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.ports import Port

TOOLS = Path(__file__).parents[2] / ".firebase-tools" / "node_modules"
SCRIPT = Path(__file__).parents[1] / "firebase_tools" / "task_queue.js"


@contextmanager
def task_queue_emulator(project: str, function: str, address: str) -> Iterator[str]:
    """Give its host. The tasks of the function's queue go to the address."""
    assert TOOLS.is_dir(), "firebase-tools is not installed: make firebase-tools"
    port = Port()
    queue = f"projects/{project}/locations/us-central1/queues/{function}"
    emulator = subprocess.Popen(
        ["node", "--no-deprecation", SCRIPT, str(port.number), queue, address],
        env={**os.environ, "NODE_PATH": str(TOOLS), "CI": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert emulator.stdout is not None
        assert any(line == "ready\n" for line in emulator.stdout), "the emulator has ended"
        yield port.host
    finally:
        emulator.kill()
        emulator.communicate()
        port.close()
