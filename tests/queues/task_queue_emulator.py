"""The task queue emulator of firebase-tools, in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TOOLS = Path(__file__).parents[2] / ".firebase-tools" / "node_modules"
SCRIPT = Path(__file__).parents[1] / "firebase_tools" / "task_queue.js"


@contextmanager
def task_queue_emulator(project: str, function: str, address: str) -> Iterator[str]:
    """Give its host. The tasks of the function's queue go to the address."""
    assert TOOLS.is_dir(), "firebase-tools is not installed: make firebase-tools"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    queue = f"projects/{project}/locations/us-central1/queues/{function}"
    emulator = subprocess.Popen(
        ["node", "--no-deprecation", SCRIPT, str(port), queue, address],
        env={**os.environ, "NODE_PATH": str(TOOLS), "CI": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert emulator.stdout is not None
        assert any(line == "ready\n" for line in emulator.stdout), "the emulator has ended"
        yield f"127.0.0.1:{port}"
    finally:
        emulator.kill()
        emulator.communicate()
