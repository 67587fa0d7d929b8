"""A run: rounds of operations and faults, each of which is compared with the model."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

from firestore_flowstate import FirestoreFlowStateStore

from .asking import Asker, UnansweredError
from .checking import judge
from .examining import examine, sweep
from .following import Follower
from .history import History, Trouble, now, wipe
from .model import State
from .plan import Plan
from .report import Report
from .server import Server
from .teams import Team, sites, teams
from .wrong import WrongError

_PATIENCE: Final = 30.0  # seconds that a call may take of whoever looks at what there is
_OVERDUE: Final = 10.0  # seconds after its deadline that a call may return on a machine that is busy
_LONGEST_ROUND: Final = 200.0  # seconds, after which an actor hangs
_BETWEEN_LOOKS: Final = 0.02  # seconds, so that what is stored for a short time only is seen
_BETWEEN_SWEEPS: Final = 0.2  # seconds, so that sweeps meet saves in flight
_SHOWN: Final = 3  # flow states that an error explains: each may take a page
_CALM: Final = 0.3  # seconds until what was on its way has arrived or is lost


async def torture(plan: Plan, *, seconds: float, rounds: int = 1, say: Any = lambda line: None) -> Report:
    """Run rounds until the time is up, at least so many. Return the report.

    Args:
        plan: What happens.
        seconds: No round begins later.
        rounds: How many rounds there are at least.
        say: Called with a line after each round.

    Raises:
        WrongError: Something was wrong. The message says what, and how to run it again.
    """
    began = now()
    report = Report(seed=plan.seed)
    async with AsyncExitStack() as stack:
        run = Run(plan, stack)
        await run.set_up()
        while report.rounds < rounds or now() - began < seconds:
            try:
                await run.round(report)
            except WrongError as error:
                raise WrongError(
                    f"{error}\n\nIn round {report.rounds}. To run it again: make torture SEED={plan.seed}"
                ) from error
            report.rounds += 1
            say(report.line())
    report.seconds = now() - began
    return report


class Run:
    """The server, the connections to it, and whoever calls it."""

    def __init__(self, plan: Plan, stack: AsyncExitStack) -> None:
        self._plan = plan
        self._stack = stack
        self._states: dict[str, State] = {}
        self._kills: list[Trouble] = []
        self._teams: list[Team] = []
        self._directs: list[Asker] = []
        self._followers: list[Follower] = []

    async def set_up(self) -> None:
        """Start everything."""
        project = f"demo-{uuid.uuid4().hex[:12]}"
        self._server = await asyncio.to_thread(Server, project)
        self._stack.callback(lambda: self._server.stop())
        host = self._server.host
        plain, sharded, native = sites(project, host)
        for site in (plain, sharded, native):
            store = FirestoreFlowStateStore(site.settings.model_copy(update={"timeout": _PATIENCE}))
            self._directs.append(Asker("direct", site, await self._stack.enter_async_context(store)))
        self._teams += await teams(plain, sharded, native, host, self._stack)
        for team in self._teams:
            actor, loop = team.members[0]
            ids = [*team.site.ids[:2], team.site.ids[-1]]
            follower = Follower(f"{team.line.name} follower", actor.asker.another(), ids)
            self._followers.append(follower)
            following = asyncio.ensure_future(loop.run(follower.follow()))
            self._stack.push_async_callback(_cancelled, following)

    async def round(self, report: Report) -> None:
        """Let everybody do what is planned for one round, and look what has become of it.

        Raises:
            WrongError: Something is not as it must be.
        """
        number, history = report.rounds, History(kills=[*self._kills])
        actors = [actor.asker for team in self._teams for actor, _ in team.members]
        for asker in (*self._directs, *actors, *(follower.asker for follower in self._followers)):
            asker.history = history
        for follower in self._followers:
            follower.began = now()
        for asker in self._directs:
            await asker.restore_standing(number)
        await self._work(number, history, report)
        for team in self._teams:
            team.line.proxy.cut()
        await asyncio.sleep(_CALM)
        for follower in self._followers:
            [direct] = [asker for asker in self._directs if asker.site.name == follower.asker.site.name]
            await follower.catch_up(direct)
        inventories = [await examine(asker) for asker in self._directs]
        verdict = judge(history, self._states)
        if history.late[0] > _OVERDUE:
            verdict.wrong.append(f"{history.late[1]} returned {history.late[0]:.1f} s after its deadline")
        if verdict.wrong:
            shown = "\n\n".join(verdict.wrong[:_SHOWN])
            raise WrongError(f"{len(verdict.wrong)} faults, the first of them:\n\n{shown}")
        self._states = {**self._states, **verdict.ends}
        self._kills = history.kills
        faults: Counter[str] = Counter()
        for team in self._teams:
            faults.update(team.line.counts)
            team.line.counts.clear()
        report.add(history, verdict, inventories, faults)
        report.yields = sum(follower.yields for follower in self._followers)

    async def _work(self, number: int, history: History, report: Report) -> None:
        working, total = [], 0
        for team in self._teams:
            for actor, loop in team.members:
                operations = self._plan.operations(
                    number,
                    actor.name,
                    keys=len(team.site.ids),
                    standing=team.site.standing,
                    sizes=team.site.sizes,
                    blocking=actor.name in team.blocking,
                )
                total += len(operations)
                working.append(asyncio.ensure_future(loop.run(actor.work(operations))))
        before = sum(team.begun() for team in self._teams)
        breaking = [
            asyncio.ensure_future(
                team.line.suffer(
                    self._plan.faults(number, team.line.name, native=team.site.native), team.begun, history
                )
            )
            for team in self._teams
        ]
        locks = [asyncio.Lock() for _ in self._directs]
        watching = [
            asyncio.ensure_future(work(asker, lock))
            for asker, lock in zip(self._directs, locks, strict=True)
            for work in (_watch, _sweep)
        ]
        killing = asyncio.ensure_future(self._kill(number, before, total, history, report, locks))
        try:
            done, pending = await asyncio.wait(working, timeout=_LONGEST_ROUND)
            for task in done:
                task.result()
            if pending:
                raise WrongError(f"{len(pending)} actors are not done after {_LONGEST_ROUND:g} seconds")
            await killing
        finally:
            for task in (*breaking, *watching, killing, *working):
                task.cancel()
            results = await asyncio.gather(*breaking, *watching, killing, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _kill(
        self, number: int, before: int, total: int, history: History, report: Report, locks: Sequence[asyncio.Lock]
    ) -> None:
        planned = self._plan.kill(number)
        if planned is None:
            return
        kill, share = planned
        while sum(team.begun() for team in self._teams) - before < share * total:  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # others begin them, on other threads
        if kill == "wiped":
            began, ended = await self._server.crash_and_lose_everything(history)
            keys = [asker.site.key(id) for asker in self._directs for id in asker.site.ids]
            history.add(*(wipe(key, began, ended) for key in keys))
        else:
            async with AsyncExitStack() as stack:
                for lock in locks:  # whoever looks by a way of its own would see a server that is not yet complete
                    await stack.enter_async_context(lock)
                await self._server.crash_and_lose_nothing(history, [team.line for team in self._teams])
        report.kills[kill] += 1


async def _watch(asker: Asker, lock: asyncio.Lock) -> None:
    """Look at every flow state again and again: what was stored for a short time only is to be seen by somebody."""
    while True:
        async with lock:
            began = now()
            with contextlib.suppress(UnansweredError):
                states = await asker.read("watch", asker.store.load_many(asker.site.ids))
                for id in asker.site.ids:
                    asker.saw("watch", id, states.get(id), began)
        await asyncio.sleep(_BETWEEN_LOOKS)


async def _sweep(asker: Asker, lock: asyncio.Lock) -> None:
    """Collect garbage again and again, without the hour that is left to saves in flight: none of them may be hurt."""
    while True:
        await asyncio.sleep(_BETWEEN_SWEEPS)
        async with lock:
            with contextlib.suppress(UnansweredError):
                await sweep(asker, "sweep")


async def _cancelled(task: asyncio.Future[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
