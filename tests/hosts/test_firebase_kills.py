"""Durable flows in Firebase Functions whose workers are killed. A file of its own runs beside the others."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.hosts.firebase_project import served
from tests.hosts.serving import at_once


@pytest.mark.timeout(240)  # a dozen processes begin, on a machine that may be busy
@pytest.mark.parametrize("threads", [1, 8])
def test_killed_workers(threads: int) -> None:
    """Fifty runs at once end right if workers of the queue's function are killed. The sweep finds what they had.

    They do so also if each worker takes one request at a time: no drive waits for a request that another drive makes.
    """
    source = Path(__file__).with_name("firebase_with_short_lease.py")
    workers = {"start": 2, "approve": 2, "drive": 4}
    with served(source, workers=workers, threads=threads) as project, ThreadPoolExecutor(1) as pool:
        ids = at_once(lambda number: project.start(f"user-{number}", f"topic-{number}"), 50)
        driving, done = project.servers["drive"], threading.Event()

        def sweep() -> None:
            while not done.wait(3):
                project.servers["sweep"].http.post("/", json={}).raise_for_status()

        def answer(number: int) -> None:
            project.wait_for(ids[number], f"user-{number}", status="blocked")
            project.call("approve", {"id": ids[number], "ok": True}, uid=f"user-{number}").raise_for_status()

        sweeping = pool.submit(sweep)
        driving.forgive("SIGKILL")  # gunicorn says how its workers have ended
        try:
            for number in range(2):
                for pid in driving.workers()[number % 2 :: 2]:  # half of them
                    os.kill(pid, signal.SIGKILL)
                time.sleep(1)  # in which new workers take deliveries
            at_once(answer, 50)
            stages = [project.wait_for(id, f"user-{n}", status="done")["stage"] for n, id in enumerate(ids)]
        finally:
            done.set()
        sweeping.result()

    assert ["published"] * 50 == stages
