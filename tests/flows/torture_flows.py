"""`make torture-flows`: runs of all samples, driven by processes that are killed, stopped and cut off.

Three workers, each behind a proxy of its own, drive what is due. They die of SIGKILL at any moment and at their writes,
are stopped beyond their leases, lose connections and replies. The server hangs, and is killed and comes back. Runs are
started, answered, cancelled and retried meanwhile. After each round every invariant is judged from the journal.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import uuid
from collections import Counter
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, Final

from firestore_flowstate import BackendError, FirestoreFlowStateStore, FlowStateError, FlowStateSettings
from firestore_flowstate.flows import Flows
from firestore_flowstate.flows.record import ended_of, record_of
from firestore_flowstate.testing.durability import SAMPLES, Journal, WatchedStore, violations
from firestore_flowstate.testing.durability.host import Told
from tests.flows.processes import HOUR_SECONDS, LEASE_SECONDS, RATE, Job, Nursery, answer, flows_of
from tests.rpc.tcp_proxy import TcpProxy
from tests.torture.faults import Line
from tests.torture.history import History
from tests.torture.server import Server

_LAYOUTS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"layout": "native"},
    {"keys": {"key": base64.b64encode(bytes(32)).decode()}, "shards": 4},
)
_KEPT: Final = Path("build/torture-flows.journal")
_WORKERS: Final = 3  # processes that drive, each behind a proxy of its own
_LEASE: Final = LEASE_SECONDS / RATE  # seconds of the machine
_ODDS: Final = 0.01  # the probability that a worker dies before a write, and the same again after it
_LONGEST_CALM: Final = 120.0  # less than the hour after which a parent looks at its children: each must knock
_FAULTS: Final = {"kill": 5, "stop": 4, "cut": 4, "swallow": 3, "hold replies": 2, "hang": 2}


class Torture:
    """Rounds of runs and faults, drawn from a seed."""

    def __init__(self, seed: int, *, runs: int, seconds: float) -> None:
        self.draw = random.Random(seed)
        self.runs = runs
        self.seconds = seconds
        self.counts: Counter[str] = Counter()
        self.server = Server(f"demo-{uuid.uuid4().hex[:12]}")
        self.nursery = Nursery()
        self.lines = [Line(f"worker {number}", TcpProxy(self.server.host)) for number in range(_WORKERS)]
        # Whoever starts and answers has a line too: what the server acknowledges between its last export and its death
        # would be lost, and then a run that was started would never be seen again.
        self.own_line = Line("actors", TcpProxy(self.server.host))
        self.pids = [0] * _WORKERS

    def close(self) -> None:
        """End all processes."""
        for pid in filter(None, self.pids):
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        self.nursery.close()
        for line in (*self.lines, self.own_line):
            line.proxy.close()
        self.server.stop()

    async def round(self, number: int) -> list[str]:
        """Do a round. Return the violations that it has found."""
        layout = _LAYOUTS[number % len(_LAYOUTS)]
        settings = {"project": self.server.project, "collection": f"round-{number}", **layout}
        with tempfile.TemporaryDirectory() as folder:
            self.journal_path, self.zero, self.settings = Path(folder) / "journal", time.time(), settings
            journal = Journal(self.journal_path)
            async with AsyncExitStack() as stack:
                stack.callback(journal.close)
                here = FlowStateSettings(emulator_host=self.own_line.proxy.host, timeout=60.0, **settings)
                store: Any = WatchedStore(await stack.enter_async_context(FirestoreFlowStateStore(here)), journal)
                flows = flows_of(store, zero=self.zero, dispatcher=Told(journal))
                wrong = await self._round(number, flows, journal)
                if wrong:
                    _KEPT.parent.mkdir(exist_ok=True)
                    shutil.copy(self.journal_path, _KEPT)
                return wrong

    async def _round(self, number: int, flows: Flows, journal: Journal) -> list[str]:
        self.begun: dict[str, Any] = {}
        self.touched: set[str] = set()
        self.turns, self.may_retry, self.is_over = 0, True, False
        actors = [asyncio.ensure_future(self._start(flows)), asyncio.ensure_future(self._meddle(flows, journal))]
        keeper = asyncio.ensure_future(self._keep())
        until = time.monotonic() + self.seconds
        while time.monotonic() < until:
            await asyncio.sleep(self.draw.uniform(0.05, 0.6))
            await self._fault()
        if number % 3 == 1:
            await self.server.crash_and_lose_nothing(History(kills=[]), [*self.lines, self.own_line])
            self.counts["server killed"] += 1
        wrong = await self._calm(flows, actors)
        self.is_over = True
        await keeper  # it must not leave a process behind that it has just started
        for pid in self.pids:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
            while pid and not self.nursery.has_ended(pid):  # noqa: ASYNC110  # no event tells of it
                await asyncio.sleep(0.01)
        self.pids = [0] * _WORKERS
        return [*wrong, *await self._judge(flows, journal, restored=number % 3 == 1)]

    async def _start(self, flows: Flows) -> None:
        for number in range(self.runs):
            sample = self.draw.choice(SAMPLES)
            id = f"{sample.name}-{number}"
            while id not in self.begun:
                with suppress(BackendError):  # the server is killed: the same id again starts it once
                    await flows.start(sample.flow, HOUR_SECONDS, id=id)
                    self.begun[id] = sample
            await asyncio.sleep(self.draw.uniform(0, 1.6 * self.seconds / self.runs))

    async def _meddle(self, flows: Flows, journal: Journal) -> None:
        """Answer, cancel and retry at random moments."""
        ended: set[str] = set()
        while True:
            self.turns += 1
            await asyncio.sleep(0.02)
            going_on = [id for id in self.begun if id not in ended]
            if not going_on:
                continue
            id = self.draw.choice(going_on)
            with suppress(FlowStateError):
                if await answer(flows, journal, id, self.begun[id], only=1):
                    ended.add(id)
                    if self.draw.random() < 0.5 and self.may_retry:
                        self.touched.add(id)
                        ended.discard(id)  # before: a retry whose reply is lost may be committed
                        await flows.retry(id)
                        self.counts["retries"] += 1
                elif self.draw.random() < 0.004:
                    self.touched.add(id)
                    await flows.cancel(id, "drawn")
                    self.counts["cancels"] += 1

    async def _keep(self) -> None:
        """Start workers until there are three."""
        while not self.is_over:
            for place, line in enumerate(self.lines):
                if not self.pids[place] or await asyncio.to_thread(self.nursery.has_ended, self.pids[place]):
                    self.counts["deaths"] += bool(self.pids[place])
                    settings = {**self.settings, "emulator_host": line.proxy.host, "timeout": 3.0}
                    odds = (_ODDS, self.draw.randrange(10**9))
                    job = Job(settings, str(self.journal_path), self.zero, odds=odds, serves=True)
                    self.pids[place] = await asyncio.to_thread(self.nursery.start, job)
            await asyncio.sleep(0.1)

    async def _fault(self) -> None:
        [kind] = self.draw.choices(list(_FAULTS), list(_FAULTS.values()))
        place = self.draw.randrange(_WORKERS)
        pid, proxy = self.pids[place], self.lines[place].proxy
        seconds = self.draw.uniform(0.2, 1.0)
        self.counts[kind] += 1
        if kind == "kill" and pid:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        elif kind == "stop" and pid:
            with suppress(OSError):
                os.kill(pid, signal.SIGSTOP)
                await asyncio.sleep(self.draw.uniform(0.8, 2.0) * _LEASE)
                os.kill(pid, signal.SIGCONT)
        elif kind == "cut":
            proxy.cut()
        elif kind == "swallow":
            proxy.swallow_replies()
            await asyncio.sleep(seconds)
            proxy.cut()
            proxy.let_pass()
        elif kind == "hold replies":
            proxy.hold_replies()
            await asyncio.sleep(seconds)
            proxy.let_pass()
        elif kind == "hang":
            for line in self.lines:
                line.proxy.hold()
            await asyncio.sleep(seconds)
            for line in self.lines:
                line.proxy.let_pass()

    async def _calm(self, flows: Flows, actors: list[asyncio.Task[None]]) -> list[str]:
        """Let everything end without faults, but for workers that die of their odds. Return what does not end."""
        await actors[0]
        until = time.monotonic() + _LONGEST_CALM
        left = set(self.begun)
        while left and time.monotonic() < until:
            if actors[1].done():
                actors[1].result()
            await asyncio.sleep(0.5)
            states = await flows.store.load_many(self.begun)
            left = {id for id, state in states.items() if ended_of(state) is None or record_of(state).todo}
            if not left and self.may_retry:  # one that was seen to have ended may have been retried since
                self.may_retry, turn, left = False, self.turns, set(self.begun)
                while self.turns < turn + 2 and not actors[1].done():  # noqa: ASYNC110  # no event tells of it
                    await asyncio.sleep(0.02)
        actors[1].cancel()
        return [f"{id} does not end" for id in sorted(left)]

    async def _judge(self, flows: Flows, journal: Journal, *, restored: bool) -> list[str]:
        wrong = []
        for id in sorted({event["run"] for event in journal.events()}):
            state = await flows.store.load(id)
            if state is None or id not in self.begun or id in self.touched or ended_of(state) is None:
                continue
            result = state.operation.result
            error = None if result is None or result.error is None else RuntimeError(result.error)
            if not self.begun[id].accepts(None if result is None else result.response, error):
                wrong.append(f"{id} ends as {result}")
        events = journal.events()
        for event in events:
            if event["what"] in ("begin", "told", "committed"):
                self.counts[{"begin": "step executions", "told": "answers", "committed": "commits"}[event["what"]]] += 1
        self.counts["runs"] += len({event["run"] for event in events})
        return [*wrong, *violations(events, restored=restored)]


async def torture(seed: int, *, seconds: float, runs: int, round_seconds: float) -> Counter[str]:
    """Do rounds until the time is up. Return what there was.

    Raises:
        AssertionError: Something is wrong. The message says what, and the seed.
    """
    torture = Torture(seed, runs=runs, seconds=round_seconds)
    began, number = time.monotonic(), 0
    try:
        while not number or time.monotonic() - began < seconds:
            wrong = await torture.round(number)
            print(f"{time.monotonic() - began:6.1f} s  round {number}: {dict(torture.counts)}", flush=True)
            shown = "\n".join(wrong[:10])
            assert not wrong, f"{len(wrong)} faults in round {number} of the seed {seed}, see {_KEPT}:\n{shown}"
            number += 1
    finally:
        torture.close()
    return torture.counts


def main() -> int:
    """Run by the arguments. Return the exit code."""
    parser = argparse.ArgumentParser(prog="make torture-flows", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="what runs and faults are drawn from")
    parser.add_argument("--seconds", type=float, default=180.0, help="no round begins later")
    parser.add_argument("--runs", type=int, default=60, help="how many runs a round starts, beside their children")
    parser.add_argument("--round", type=float, default=15.0, help="for how many seconds there are faults in a round")
    given = parser.parse_args()
    seed = random.randrange(10**6) if given.seed is None else given.seed
    print(f"seed {seed}", flush=True)
    try:
        asyncio.run(torture(seed, seconds=given.seconds, runs=given.runs, round_seconds=given.round))
    except AssertionError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
