"""A run in memory, with a clock of its own: days of sleep take milliseconds, and the process dies when you want."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from typing_extensions import override

from ..errors import FlowStateError, shown
from ..flows import Flow, Flows
from ..flows.arguments import check_count, check_flow, check_store
from ..flows.dispatch import InProcess
from ..flows.record import ended_of, record_of, wake_at
from ..flows.results import outcome_of
from ..flows.telemetry import Telemetry
from ..memory import MemoryFlowStateStore
from ..models import FlowState
from ..settings import FlowStateSettings
from ..store import VersionedFlowStateStore
from ..unset import UNSET
from .crashing_store import CrashingStore, Writes
from .loop_time import going_timers
from .own_tasks import Tasks, own_tasks
from .virtual_clock import VirtualClock

_CALM_PASSES: Final = 40
"""Passes of the loop in a row in which nothing happens: twice as many as the gate lets go by between two results."""
_REAL_PAUSE_SECONDS: Final = 0.001
"""How often it is looked whether a step that takes real time has ended."""


@dataclass(frozen=True)
class Simulation:
    """How a simulated run ended.

    Attributes:
        result: What the flow returned.
        error: The error that `Flows.result` raises, if the run failed or was cancelled; else None.
        steps: The keys of the attempts of steps, in the order in which they began. A step of a child is
            ``CHILD:KEY``, after the key of the child.
        waits_for: The keys of the open waits, if nothing can go on. `result` and `error` are None then.
        writes: How many writes there were, those of children too.
        state: The state of the run as it is stored.
        repeated: The keys of steps that were executed although their result was stored. There should be none.
        unasked: The keys of steps and answers that were stored, and that the function did not come to when it was
            called again and ended. There should be none.
    """

    result: Any
    error: Exception | None
    steps: Sequence[str]
    waits_for: Sequence[str]
    writes: int
    state: FlowState
    repeated: Sequence[str] = ()
    unasked: Sequence[str] = ()

    def ends_as(self, other: Simulation) -> str | None:
        """Return in words how the two end differently, or None if they end alike.

        Args:
            other: A simulation of the same flow, such as one without crashes.
        """
        mine, others = self._end(), other._end()
        return None if mine == others else f"{mine}\n  instead of\n{others}"

    def _end(self) -> str:
        if self.error is not None:
            return f"{type(self.error).__name__}: {self.error}"
        return f"waits for {sorted(self.waits_for)}" if self.waits_for else f"returns {self.result!r}"


async def simulate(
    flow: Flow[Any, Any],
    input: Any = UNSET,
    *,
    answers: Mapping[str, Any] | None = None,
    crash_before_write: int | None = None,
    crash_after_write: int | None = None,
    store: VersionedFlowStateStore | None = None,
) -> Simulation:
    """Run a flow to its end, or until nothing can go on, with a clock that moves by itself.

    ::

        simulation = await simulate(publish, topic, answers={"approve": Approval(ok=True)})
        assert simulation.error is None

    When nothing else can happen, the clock moves to the end of the next sleep, timeout of a wait or pause before an
    attempt. `Run.now` shows it. ``asyncio.sleep`` and the timeouts of steps take real time, also while freezegun has
    frozen the clock. An interrupt with a timeout that has no answer here times out.

    Args:
        flow: The flow.
        input: Its input.
        answers: The answers by the key of the interrupt. For an interrupt of a child the key is ``CHILD:KEY``.
        crash_before_write: The number of a write, from 1. The process dies before it, and another one goes on.
        crash_after_write: The number of a write, from 1. The process dies after it, and another one goes on.
        store: The store that keeps the run; None: one in memory with the default settings, whatever the environment
            says.

    Raises:
        TypeError: What is given is not a flow, `answers` is not a mapping of keys, or `store` not such a store.
        ValueError: The number of a write is less than 1, or the run made fewer writes, so that there was no crash.
    """
    check_flow(flow)
    _check_answers(answers)
    for number, name in ((crash_before_write, "crash_before_write"), (crash_after_write, "crash_after_write")):
        if number is not None:
            check_count(number, name, least=1)
    if store is not None:
        check_store(store)
    writes = Writes(crash_before_write, crash_after_write)
    simulation = await simulation_with(flow, input, writes, answers=answers, store=store)
    for number, name in ((crash_before_write, "crash_before_write"), (crash_after_write, "crash_after_write")):
        if number is not None and number > simulation.writes:
            made = "1 write" if simulation.writes == 1 else f"{simulation.writes} writes"
            raise ValueError(f"{name} is {number}, and the run made only {made}: there was no crash")
    return simulation


async def simulation_with(
    flow: Flow[Any, Any],
    input: Any,
    writes: Writes,
    *,
    answers: Mapping[str, Any] | None = None,
    store: VersionedFlowStateStore | None = None,
) -> Simulation:
    """Do as `simulate` does, also if the write at which the process is to die never comes.

    A run whose steps take real time may make a write less than another one of the same flow.
    """
    with going_timers(), own_tasks() as tasks:
        return await _World(flow, input, answers or {}, store, writes).simulate(tasks)


async def crash_everywhere(
    flow: Flow[Any, Any], input: Any = UNSET, *, answers: Mapping[str, Any] | None = None
) -> list[Simulation]:
    """Run a flow twice for each of its writes: with a process that dies before it, and with one that dies after it.

    ::

        simulations = await crash_everywhere(publish, topic, answers={"approve": Approval(ok=True)})

    Args:
        flow: The flow.
        input: Its input.
        answers: The answers, as `simulate` takes them.

    Returns:
        The simulations. The first is the one without a crash.

    Raises:
        AssertionError: A run ends otherwise than the one without a crash, a step with a stored result runs again, or
            the function does not come to a step or an answer again that is stored.
    """
    calm = await simulate(flow, input, answers=answers)
    _check_replays(calm, f"without a crash, {flow.name}")
    simulations = [calm]
    for number in range(1, calm.writes + 1):
        for when in ("before", "after"):
            before, after = (number, None) if when == "before" else (None, number)
            simulation = await simulation_with(flow, input, Writes(before, after), answers=answers)
            where = f"with a crash {when} write {number} of {calm.writes}, {flow.name}"
            if (difference := simulation.ends_as(calm)) is not None:
                raise AssertionError(f"{where}\n{difference}")
            _check_replays(simulation, where)
            simulations.append(simulation)
    return simulations


def _check_replays(simulation: Simulation, where: str) -> None:
    """Refuse a run whose function, called again, did not come to the same steps.

    Raises:
        AssertionError: It did not.
    """
    if simulation.repeated:
        raise AssertionError(f"{where} repeats {', '.join(simulation.repeated)}, whose results were stored")
    if simulation.unasked:
        raise AssertionError(
            f"{where} does not come to {', '.join(simulation.unasked)} again, which the run had stored: the code "
            "between the steps must come to the same steps whenever it runs"
        )


def _check_answers(answers: Any) -> None:
    """Refuse answers that are not a mapping by the keys of interrupts.

    Raises:
        TypeError: What is given is not such a mapping.
    """
    if answers is not None and not (isinstance(answers, Mapping) and all(isinstance(key, str) for key in answers)):
        raise TypeError(
            f"answers maps the key of each interrupt to its answer, as {{'approve': True}}; it is not {shown(answers)}"
        )


class _Watch(Telemetry):
    """Notes the attempts of steps, those whose result was stored already, and what was stored and is not asked for."""

    def __init__(self, writes: Writes) -> None:
        self._writes = writes
        self.steps: list[tuple[str, str]] = []
        self.repeated: list[str] = []
        self.unasked: list[tuple[str, str]] = []

    @override
    @contextmanager
    def step(self, *, flow_id: str, key: str, attempt: int) -> Iterator[None]:
        self.steps.append((flow_id, key))
        if key in self._writes.recorded[flow_id]:
            self.repeated.append(key)
        yield

    @override
    def event(self, name: str, /, **about: Any) -> None:
        if name == "unasked":
            self.unasked += [(about["flow_id"], key) for key in about["keys"]]


@dataclass
class _World:
    """The processes that drive a simulated run, one after the other."""

    flow: Flow[Any, Any]
    input: Any
    answers: Mapping[str, Any]
    given_store: VersionedFlowStateStore | None
    writes: Writes
    clock: VirtualClock = field(default_factory=VirtualClock)
    answered: set[tuple[str, str]] = field(default_factory=set)

    async def simulate(self, tasks: Tasks) -> Simulation:
        """Return how the run has ended, or what it waits for. `tasks` are those of the processes, as they start."""
        # `model_construct` reads no variable: a simulation ends alike on every machine.
        in_memory = MemoryFlowStateStore(FlowStateSettings.model_construct())
        self.store = in_memory if self.given_store is None else self.given_store
        self.id = "simulation" if self.given_store is None else f"simulation-{uuid.uuid4()}"
        self.watch = _Watch(self.writes)
        self.tasks = tasks
        self._boot()
        try:
            await self._until_nothing_goes_on()
        finally:
            await self._kill()
        return await self._outcome()

    def _boot(self) -> None:
        """Begin a process."""
        home = self.flow.home._engine
        self.flows = Flows(
            CrashingStore(self.store, self.writes),
            version=home.version,
            max_recoveries=home.max_recoveries,
            retry=home.retry,
        )
        self.engine = self.flows._engine
        self.clock = VirtualClock(self.clock.seconds)
        self.engine.clock, self.engine.telemetry, self.engine.lease = self.clock, self.watch, home.lease
        self.engine.flows.update(home.flows)
        self.starting: asyncio.Task[Any] | None = None

    async def _until_nothing_goes_on(self) -> None:
        await self._start()
        while True:
            await self._settle()
            if self.writes.crashed:
                self.writes.revive()
                await self._kill()
                self._boot()
                await self._start()
            elif await self._answer() or self.writes.crashed:
                continue
            elif (await self._has_ended() or not self.clock.advance()) and not self.writes.crashed:
                return

    async def _start(self) -> None:
        """Start the run in the first process. In a later one wake the runs that are there, as a worker would."""
        state = await self.store.load(self.id)
        if state is None:
            self.starting = asyncio.ensure_future(self.flows.start(self.flow, self.input, id=self.id))
            return
        for id in self.writes.ids:
            found = await self.store.load(id)
            wake = wake_at(found) if found is not None else None
            if wake is not None:
                await self.engine.dispatch(id, wake, at=wake)

    async def _settle(self) -> None:
        """Return when all drives wait for the clock or for an answer, or the process has died."""
        calm = 0
        while calm < _CALM_PASSES:
            if self.writes.crashed:
                return
            calm = calm + 1 if self._is_calm() else 0
            await asyncio.sleep(0 if calm or self._is_calm() else _REAL_PAUSE_SECONDS)

    def _is_calm(self) -> bool:
        if self.starting is not None:
            if not self.starting.done():
                return False
            self.starting.result()
        dispatcher = self.engine.dispatcher
        assert isinstance(dispatcher, InProcess)
        going_on = sum(not task.done() for task in (*dispatcher.tasks, *self.flows._background.tasks))
        return going_on == sum(drive.is_idle for drive in self.engine.drives.values())

    async def _answer(self) -> bool:
        """Give the answers to the interrupts that are open now. Return whether there were any."""
        given = False
        for id in list(self.writes.ids):
            prefix = await self._prefix(id)
            for key in await self._asked(id):
                if f"{prefix}{key}" in self.answers and (id, key) not in self.answered:
                    answer = asyncio.ensure_future(self.flows.resume(id, self.answers[f"{prefix}{key}"], step=key))
                    await asyncio.wait([answer, self.writes.death], return_when=asyncio.FIRST_COMPLETED)
                    if self.writes.crashed:
                        return True
                    answer.result()
                    self.answered.add((id, key))
                    given = True
        return given

    async def _asked(self, id: str) -> list[str]:
        """Return the keys of the open interrupts of a run that have no answer."""
        state = await self.store.load(id)
        if state is None or ended_of(state) is not None:
            return []
        waits = dict(record_of(state).waits)
        if (drive := self.engine.drives.get(id)) is not None:
            waits = drive.waits.stored()
        return [
            key
            for key, wait in waits.items()
            if wait.kind == "interrupt" and key not in state.events_triggered and key not in state.cache
        ]

    async def _has_ended(self) -> bool:
        """Return whether the run has ended, and nothing is driven any more."""
        state = await self.store.load(self.id)
        return state is not None and ended_of(state) is not None and not self.engine.drives

    async def _kill(self) -> None:
        """End the process: none of its tasks goes on, and it writes nothing more."""
        for drive in list(self.engine.drives.values()):
            drive.checkpoint.abandon()
        tasks = [task for task in self.tasks if not task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.engine.close()

    async def _prefix(self, id: str) -> str:
        state = await self.store.load(id)
        parent = (state.model_extra or {}).get("parent") if state is not None else None
        if state is None or parent is None:
            return ""
        return f"{await self._prefix(parent)}{record_of(state).parent}:"

    async def _outcome(self) -> Simulation:
        state = await self.store.load(self.id)
        assert state is not None, "the run was created"
        result, error, how = None, None, ended_of(state)
        if how is not None:
            try:
                result = outcome_of(self.engine, self.id, state.name, how, state.operation.result)
            except FlowStateError as failure:
                error = failure
        waits = list(record_of(state).waits) if how is None else []
        steps = [f"{await self._prefix(id)}{key}" for id, key in self.watch.steps]
        unasked = [f"{await self._prefix(id)}{key}" for id, key in self.watch.unasked]
        return Simulation(result, error, steps, waits, self.writes.count, state, self.watch.repeated, unasked)
