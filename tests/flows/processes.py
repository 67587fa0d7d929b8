"""Processes that drive samples on the emulator, and are killed.

They are forked from one that has imported everything: a fork costs 20 ms, while a new interpreter imports for a second.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from firestore_flowstate import FirestoreFlowStateStore, FlowStateError, FlowStateSettings, _operations
from firestore_flowstate._rpc import client, connection
from firestore_flowstate.flows import Flows
from firestore_flowstate.flows.clock import Timer
from firestore_flowstate.flows.dispatch import Dispatcher
from firestore_flowstate.flows.record import ended_of, record_of
from firestore_flowstate.testing.durability import SAMPLES, Journal, Sample, WatchedStore
from firestore_flowstate.testing.durability.journal import Event
from firestore_flowstate.testing.durability.samples import FLOWS

_operations.import_all()  # before the forks, and not after each
IMPORTED: Final = (client, connection)
"""What a store imports when it connects, in the native layout too: on a busy machine that takes a worker longer than
its calls may, and it would die of that again and again."""

RATE: Final = 20.0
"""How many seconds of the runs a second of the machine has."""
LEASE_SECONDS: Final = 40.0  # of the runs' clock: two seconds of the machine
HOUR_SECONDS: Final = 7.0
"""What samples sleep: more than what is waited for in the process."""
PAST_THE_LEASE: Final = 3 * LEASE_SECONDS
BY_NAME: Final = {sample.name: sample for sample in SAMPLES}


class FastClock:
    """A clock that goes faster than that of the machine, the same in all processes.

    Args:
        zero: The moment at which both show the same, in seconds since the epoch.
        ahead: Seconds that this one is ahead of the others.
    """

    quiet = 0.05

    def __init__(self, zero: float, *, ahead: float = 0.0) -> None:
        self._zero = zero
        self._ahead = ahead

    def monotonic(self) -> float:
        return self._zero + (time.time() - self._zero) * RATE + self._ahead

    def now(self) -> int:
        return round(self.monotonic() * 1000)

    def call_later(self, seconds: float, callback: Any, *, background: bool = False) -> Timer:
        return asyncio.get_running_loop().call_later(max(0.0, seconds) / RATE, callback)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / RATE)


@dataclass(frozen=True)
class Job:
    """What a process is to do.

    Attributes:
        settings: The settings of its store.
        journal: The file of the journal.
        zero: The `zero` of its clock.
        runs: The name of the sample by the id of the run. It starts those that are not there.
        ahead: The `ahead` of its clock.
        die_at: The number of the write at which it dies; None: at none.
        after: Whether it dies after the write. If not, it dies before it.
        odds: The odds that it dies at a write, and the seed that they are drawn from; None: no odds.
        serves: Whether it drives whatever is due until it is killed, and answers nothing.
    """

    settings: Mapping[str, Any]
    journal: str
    zero: float
    runs: Mapping[str, str] = field(default_factory=dict)
    ahead: float = 0.0
    die_at: int | None = None
    after: bool = False
    odds: tuple[float, int] | None = None
    serves: bool = False


def flows_of(store: WatchedStore, *, zero: float, ahead: float = 0.0, dispatcher: Dispatcher | None = None) -> Flows:
    """Return flows that know the samples, with a clock that goes fast."""
    watched: Any = store
    lease = timedelta(seconds=LEASE_SECONDS)
    flows = Flows(watched, lease=lease, dispatcher=dispatcher, max_recoveries=1_000_000)
    flows._engine.clock = FastClock(zero, ahead=ahead)
    flows._engine.flows.update(FLOWS._engine.flows)
    return flows


async def live(job: Job) -> None:
    """Do the job in this process."""
    orphaned = asyncio.ensure_future(_end_with(os.getppid()))
    journal = Journal(Path(job.journal))
    async with FirestoreFlowStateStore(FlowStateSettings(**job.settings)) as store:
        watched: Any = WatchedStore(store, journal)
        _arm(watched, job)
        flows = flows_of(watched, zero=job.zero, ahead=job.ahead)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(flows)
            if job.serves or job.ahead:
                await stack.enter_async_context(flows.worker(poll=0.1, at_once=64))
            if job.serves:
                await asyncio.get_running_loop().create_future()
            await asyncio.gather(*(_finish(flows, journal, id, BY_NAME[name]) for id, name in job.runs.items()))
    orphaned.cancel()


async def _end_with(parent: int) -> None:
    """Have this process end when the nursery ends."""
    while os.getppid() == parent:  # noqa: ASYNC110  # no event tells of it
        await asyncio.sleep(0.5)
    os._exit(2)


def _arm(store: WatchedStore, job: Job) -> None:
    """Have the process kill itself at a write."""
    sent, committed, (odds, seed) = 0, 0, job.odds or (0.0, 0)
    drawn = random.Random(f"{seed} {os.getpid()}")

    async def before(write: Event) -> None:
        nonlocal sent
        sent += 1
        if (sent == job.die_at and not job.after) or drawn.random() < odds:
            os.kill(os.getpid(), signal.SIGKILL)

    async def after(write: Event) -> None:
        nonlocal committed
        committed += 1
        if (committed == job.die_at and job.after) or drawn.random() < odds:
            os.kill(os.getpid(), signal.SIGKILL)

    store.before, store.after = before, after


async def _finish(flows: Flows, journal: Journal, id: str, sample: Sample) -> None:
    """Start the run, unless it is there, answer its interrupts, and return when it has ended."""
    await flows.start(sample.flow, HOUR_SECONDS, id=id)
    while not await answer(flows, journal, id, sample):  # noqa: ASYNC110  # a run tells nobody in other processes
        await asyncio.sleep(0.05)


async def answer(flows: Flows, journal: Journal, id: str, sample: Sample, *, only: int | None = None) -> bool:
    """Answer what the run asks. Return whether it has ended.

    Args:
        flows: Who answers.
        journal: The journal in which each success is noted.
        id: The run.
        sample: The sample that the run is of.
        only: How many answers to give at most; None: all.
    """
    state = await flows.store.load(id)
    if state is None:
        return False
    if ended_of(state) is not None:
        return not record_of(state).todo
    waits = record_of(state).waits
    asked = [key for key in sample.answers if key in waits and key not in {**state.events_triggered, **state.cache}]
    for key in asked[:only]:
        with suppress(FlowStateError):  # answered meanwhile, or not told that it was
            await flows.resume(id, sample.answers[key], step=key)
            journal.note("told", id, key=key, value=sample.answers[key])
    return False


class Nursery:
    """The process that the others are forked from."""

    def __init__(self) -> None:
        self._asking = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from tests.flows.processes import fork_for_each_line; fork_for_each_line()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "PYTHONWARNINGS": "ignore",  # of Google's libraries, of old Pythons
                "PYTHONPATH": str(Path(__file__).parents[2]),
            },
        )

    def close(self) -> None:
        """End the nursery. Its children have ended, or are killed by whoever started them."""
        self._process.kill()
        self._process.communicate(timeout=20)

    def start(self, job: Job) -> int:
        """Fork a process for the job. Return its id."""
        return int(self._ask("start", asdict(job)))

    def run(self, jobs: Sequence[Job], *, at_once: int) -> list[int]:
        """Fork a process for each job, so many at a time. Return how each ended, as a negative signal or a code."""
        return list(json.loads(self._ask("run", [at_once, [asdict(job) for job in jobs]])))

    def has_ended(self, pid: int) -> bool:
        """Return whether a process that was started has ended. The caller asks until it has."""
        return bool(json.loads(self._ask("poll", pid)))

    def _ask(self, what: str, about: Any) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._asking:  # each thread gets its own answer
            self._process.stdin.write(json.dumps([what, about]) + "\n")
            self._process.stdin.flush()
            return self._process.stdout.readline()


def fork_for_each_line() -> None:
    """Be the nursery: fork as standard input says."""
    for line in sys.stdin:
        what, about = json.loads(line)
        if what == "start":
            answer: Any = _fork(about)
        elif what == "poll":
            answer = os.waitpid(about, os.WNOHANG)[0]
        else:
            answer = _run(*about)
        print(json.dumps(answer), flush=True)


def _run(at_once: int, jobs: Sequence[Mapping[str, Any]]) -> list[int]:
    left, places, codes = list(enumerate(jobs)), dict[int, int](), [0] * len(jobs)
    while left or places:
        while left and len(places) < at_once:
            place, job = left.pop(0)
            places[_fork(job)] = place
        pid, status = os.wait()
        codes[places.pop(pid)] = os.waitstatus_to_exitcode(status)
    return codes


def _fork(job: Mapping[str, Any]) -> int:
    if pid := os.fork():
        return pid
    try:
        asyncio.run(live(Job(**{**job, "odds": job["odds"] and tuple(job["odds"])})))
    except BaseException:  # noqa: BLE001  # it is shown by the code
        import traceback

        traceback.print_exc()
        os._exit(1)
    os._exit(0)
