"""The torture test in its short form, and the faults that it must notice."""

from __future__ import annotations

import asyncio
import math

import pytest

from firestore_flowstate import FirestoreFlowStateStore, FlowStateSettings

from . import planted
from .actors import Actor
from .asking import Asker
from .checking import Verdict, judge
from .examining import examine
from .following import Follower
from .history import Attempt, History, Outcome, Record, Trouble, wipe
from .linearize import NoOrderError, UndecidedError, linearize
from .marks import Mark, look_of
from .model import (
    NOTHING,
    Append,
    Case,
    Differs,
    Effect,
    Event,
    Replace,
    Requirement,
    Shows,
    State,
    absent,
    anything,
    nothing,
    present,
    remove,
)
from .plan import Plan
from .run import torture
from .site import Site
from .wrong import WrongError

OPERATIONS = 60  # of each actor


@pytest.mark.timeout(300)  # a machine that is busy besides takes its time
async def test_a_short_torture() -> None:
    """Whatever breaks, nothing acknowledged is lost, nothing is half there, and every answer can be explained."""
    report = await torture(Plan(seed=20, operations_a_round=20), seconds=0, rounds=2)

    assert {"restored": 1, "wiped": 1} == dict(report.kills)
    assert report.faults.total() > 20
    assert report.events > 1000
    assert report.in_parts > 0
    assert report.compacted > 0
    assert report.yields > 50


async def work(store: FirestoreFlowStateStore, *, patience: float) -> Verdict:
    """Let some actors work with the store, without any other trouble, and judge it. See `Follower.catch_up`."""
    history, plan = History(), Plan(seed=1, operations_a_round=OPERATIONS)
    site = Site(settings=store.settings, ids=["a", "b", "c", "d", "e"], standing=2)
    async with store, FirestoreFlowStateStore(store.settings) as honest:
        direct = Asker("direct", site, honest, history)
        await direct.restore_standing(0)
        actors = [Actor(f"actor {index}", Asker("line", site, store, history)) for index in range(4)]
        operations = [plan.operations(0, actor.name, keys=5, standing=2, sizes=site.sizes) for actor in actors]
        follower = Follower("follower", Asker("line", site, store, history), site.ids)
        following = asyncio.ensure_future(follower.follow())
        await asyncio.gather(*(actor.work(todo) for actor, todo in zip(actors, operations, strict=True)))
        try:
            await follower.catch_up(direct, patience=patience)
            await examine(direct)
        except WrongError as error:
            history.wrong.append(str(error))
        following.cancel()
        await asyncio.wait([following])
    return judge(history, {})


@pytest.mark.parametrize(
    ("store", "noticed"),
    [
        (planted.LosesAcknowledged, "No order of the operations explains"),
        (planted.WritesHalf, "steps and events"),
        (planted.RepeatsInLists, "repeats a state"),
        (planted.LeavesOutOfLists, "not listed"),
        (planted.ReadsThePast, "No order of the operations explains"),
        (planted.ConflictsWithNobody, "refused"),
        (planted.ForgetsVersions, "No order of the operations explains"),
        (planted.DeniesWhatIsStored, "was for certain not stored"),
        (planted.AppliesTwice, "No order of the operations explains"),
        (planted.ForgetsKeys, ": last is "),
        (planted.LeavesOutOfWhatIsDue, "not due"),
        (planted.StopsTelling, "follower saw"),
    ],
)
async def test_planted_faults_are_noticed(
    flow_state_settings: FlowStateSettings, store: type[planted.Planted], noticed: str
) -> None:
    """A store that loses, halves, repeats, leaves out, or says what is not so, does not pass."""
    verdict = await work(store(flow_state_settings), patience=5)

    assert noticed in "\n".join(verdict.wrong)


@pytest.mark.parametrize("store", [planted.Planted, planted.IsUnsure])
async def test_no_fault_is_noticed_if_there_is_none(
    flow_state_settings: FlowStateSettings, store: type[planted.Planted]
) -> None:
    """A store that keeps its promises passes, also one that does not know the outcome of some writes."""
    verdict = await work(store(flow_state_settings), patience=60)

    assert [] == verdict.wrong
    assert [] == verdict.late
    assert verdict.events > OPERATIONS


A, B, C, D = (Mark.of(name, whole=name in "ad", size=0, ends=False).text for name in "abcd")


def event(
    began: float, ended: float, required: Requirement, effect: Effect = nothing, *, certain: bool = True
) -> Event:
    """Return an event with one case."""
    return Event(what="", began=began, ended=ended, cases=(Case(required, effect),), certain=certain)


def sees(*marks: str) -> Requirement:
    """Require that the flow state has these marks."""
    return Shows(look_of(marks, ordered=True))


@pytest.mark.parametrize(
    "events",
    [
        [event(0, 9, present, Append(B)), event(1, 2, sees(A)), event(3, 4, sees(A, B))],
        [event(0, 9, present, Append(B)), event(1, 9, present, Append(C)), event(2, 9, sees(A, C, B))],
        [event(0, 9, absent), event(0, 9, anything, remove)],
        [event(0, 1, anything, Replace(B), certain=False), event(2, 3, sees(A))],
        [event(0, math.inf, present, Append(B), certain=False), event(2, 3, sees(A)), event(4, 5, sees(A, B))],
        [event(0, 9, Differs(look_of([A], ordered=True))), event(1, 2, present, Append(B)), event(3, 4, sees(A, B))],
    ],
    ids=["between two reads", "another order", "within a deletion", "did not happen", "happened late", "conflict"],
)
def test_what_has_an_order(events: list[Event]) -> None:
    """What each was answered is explained by some order that keeps to the times."""
    found = linearize(events, State((A,)))

    assert {event.what for event in events if event.certain} <= {event.what for event in found.order}


@pytest.mark.parametrize(
    "events",
    [
        [event(0, 1, present, Append(B)), event(2, 3, sees(A))],
        [event(0, 3, sees(A, B)), event(4, 5, present, Append(B))],
        [event(0, 1, sees(A, B)), event(2, 3, sees(A)), event(0, 9, present, Append(B))],
        [event(0, 1, Differs(look_of([A], ordered=True)))],
        [event(0, 1, anything, remove), event(2, 3, present)],
        [event(0, 1, sees(D))],
        [event(0, 9, present, Append(B)), event(0, 9, sees(A, B, B))],
    ],
    ids=["lost", "seen too early", "back to the past", "conflict with nobody", "rose again", "from nowhere", "twice"],
)
def test_what_has_no_order(events: list[Event]) -> None:
    """If no order explains the answers, that is said."""
    with pytest.raises(NoOrderError, match="none of these fits"):
        linearize(events, State((A,)))


def test_a_search_that_is_too_long_is_given_up() -> None:
    """It is said not to be decided, which is not a pass."""
    events = [event(0, 9, present, Append(f"{i}; part; 0; done")) for i in range(9)]
    with pytest.raises(UndecidedError):
        linearize([*events, event(0, 9, sees(A, B))], State((A,)), budget=1000)


def test_the_end_is_found() -> None:
    """The state after the order is what the next round begins with."""
    assert State((A, B)) == linearize([event(0, 1, anything, Replace(A)), event(2, 3, present, Append(B))], NOTHING).end


@pytest.mark.parametrize("killed", [True, False])
def test_a_killed_server_may_have_stored_an_earlier_try(killed: bool) -> None:
    """A modify stores B on A, has no reply, finds D there, and stores B on D: without the kill that is twice."""

    def record(
        began: float, ended: float, required: Requirement, effect: Effect = nothing, *, mark: str = ""
    ) -> Record:
        attempt = Attempt(success=Case(required, effect), mark=mark, began=began)
        outcome: Outcome = "refused" if ended == 6 else "done"
        return Record(key="k", what="", line="l", began=began, ended=ended, outcome=outcome, attempt=attempt)

    history = History(kills=[Trouble(None, 4, 5)] if killed else [])
    history.add(
        record(0, 1, anything, Replace(A), mark=A),
        record(2, 6, sees(A), Append(B), mark=B),  # the try that was given up
        record(3, 3.5, sees(A, B)),
        wipe("k", 4, 5),
        record(5.2, 5.8, anything, Replace(D), mark=D),
        record(6, 7, sees(D), Append(B), mark=B),
        record(8, 9, sees(D, B)),
    )

    assert killed == (not judge(history, {}).wrong)


def test_a_seed_is_a_plan() -> None:
    """The same seed gives the same operations and faults, another seed others."""

    def everything(seed: int) -> object:
        plan = Plan(seed=seed)
        return plan.operations(1, "actor", keys=5, standing=2, sizes="mixed"), plan.faults(1, "line"), plan.kill(1)

    assert everything(1) == everything(1)
    assert everything(1) != everything(2)
