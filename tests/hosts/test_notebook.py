"""Jupyter: code on the event loop of a kernel, which is running before the first cell."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from jupyter_client.manager import KernelManager

from tests.hosts.serving import EXAMPLES

Run = Callable[[str], str]


@pytest.fixture
def run(host_environment: dict[str, str]) -> Iterator[Run]:
    """Run a cell in a kernel. Return what it showed, or raise what it raised."""
    manager = KernelManager(kernel_name="python3", transport="ipc")
    manager.start_kernel(env=host_environment, stderr=subprocess.DEVNULL)
    client = manager.blocking_client()
    client.start_channels()

    def run(code: str) -> str:
        shown: list[str] = []

        def show(message: dict[str, Any]) -> None:
            content = message["content"]
            shown.append(content.get("text") or content.get("data", {}).get("text/plain", ""))

        reply = client.execute_interactive(code, timeout=60, output_hook=show)["content"]
        if reply["status"] == "error":
            raise RuntimeError(f"{reply['ename']}: {reply['evalue']}")
        return "".join(shown)

    try:
        client.wait_for_ready(timeout=60)
        yield run
    finally:
        client.stop_channels()
        manager.shutdown_kernel()


def test_a_kernel(run: Run) -> None:
    """Cells await the store, in tasks that outlive a cell too. The blocking store refuses, and works on a thread."""
    notebook = json.loads((EXAMPLES / "notebook.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    shown = [run(code) for code in cells]
    assert ["", "{'charge': CacheEntry(value=True, empty=None)}", "['scheduled']"] == shown

    run("import asyncio; loading = asyncio.create_task(store.load('run-1'))")
    assert "'order'" == run("(await loading).name")
    run("from firestore_flowstate import SyncFlowStateStore; blocking = SyncFlowStateStore(store)")
    with pytest.raises(RuntimeError, match=r"FlowStateError: .*event loop is running.* await the store that it wraps"):
        run("blocking.load('run-1')")
    assert "1" == run("await asyncio.to_thread(blocking.count)")

    # What makes a loop run inside itself, as older notebooks have it.
    run("import nest_asyncio2; nest_asyncio2.apply()")
    assert "'order'" == run("asyncio.run(store.load('run-1')).name")
    assert "'order'" == run("asyncio.get_running_loop().run_until_complete(store.load('run-1')).name")
    assert "1" == run("await store.count()")
    assert "1" == run("async with store: print(await store.count())").strip()
