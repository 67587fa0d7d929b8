"""Faults that are planted into the engine of flows, each of which the suite of invariants must notice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from firestore_flowstate.flows import children, ending, resuming, running, stepping, sweeping
from firestore_flowstate.flows.batch import Batch
from firestore_flowstate.flows.checkpoint import Checkpoint
from firestore_flowstate.flows.claiming import claim, new_token
from firestore_flowstate.flows.course import Course
from firestore_flowstate.flows.driving import Drive
from firestore_flowstate.flows.final import Final, suspended
from firestore_flowstate.flows.gate import Gate
from firestore_flowstate.flows.waiting import OpenWait, Waits, timed_out

Plant = Callable[[pytest.MonkeyPatch], None]


class Fault(NamedTuple):
    """A fault, and who notices it.

    Attributes:
        plant: Plants it.
        test: The test of `FlowsTests` that must fail.
        sample: The sample that the test is to run, if it runs samples.
    """

    plant: Plant
    test: str
    sample: str | None = None


def memo_at_once(patch: pytest.MonkeyPatch) -> None:
    """Recorded results are handed out as they are asked for."""
    in_order = Gate.pass_through

    async def pass_through(self: Gate, n: int | None, *, series: object | None = None) -> None:
        if n in self._expected and n not in self._held:
            self._expected.discard(n)
            await asyncio.sleep(0)
        else:
            await in_order(self, n, series=series)

    patch.setattr(Gate, "pass_through", pass_through)


def timeout_before_its_record(patch: pytest.MonkeyPatch) -> None:
    """The function sees a timeout that is not stored."""

    async def time_out(self: Waits, each: OpenWait) -> None:
        n = self.drive.record(each.key, timed_out(self.drive, each.key))
        if self._close(each):
            each.future.set_result(n)

    patch.setattr(Waits, "_time_out", time_out)


def no_answers_on_a_rebase(patch: pytest.MonkeyPatch) -> None:
    """After a conflict the answers that came are left out."""
    patch.setattr(Waits, "answered", lambda self, answers: None)


def no_owner_check(patch: pytest.MonkeyPatch) -> None:
    """After a conflict a driver goes on whoever owns the run."""
    patch.setattr(Checkpoint, "_compare", Checkpoint._take_over)


def no_commit_before_the_next_step(patch: pytest.MonkeyPatch) -> None:
    """Steps begin while results are in hand. These are stored within 10 ms."""

    async def may_begin(drive: Drive, key: str | None = None) -> None:
        await asyncio.sleep(0)

    patch.setattr(stepping, "may_begin", may_begin)


def no_look_at_the_lease(patch: pytest.MonkeyPatch) -> None:
    """Steps begin when results are stored, also if the lease is over."""

    async def may_begin(drive: Drive, key: str | None = None) -> None:
        await drive.checkpoint.flush()

    patch.setattr(stepping, "may_begin", may_begin)


def writes_after_release(patch: pytest.MonkeyPatch) -> None:
    """The lease is extended once more after the final write."""
    committed = Checkpoint._committed
    tasks = []

    def extend(self: Checkpoint, final: Any) -> None:
        committed(self, final)
        if final is not None:
            until = self._engine.clock.now() + self._engine.lease
            write = self._engine.store.update(self._image.id, extra={"wakeAt": until}, if_version=self._image.version)
            tasks.append(asyncio.ensure_future(write))

    patch.setattr(Checkpoint, "_committed", extend)


def the_clock_decides_what_is_recorded(patch: pytest.MonkeyPatch) -> None:
    """A driver whose lease is over drops the results that it has in hand."""
    send = Checkpoint._send

    async def send_in_time(self: Checkpoint, final: Any) -> None:
        if self._lease.is_over:
            self.abandon()
        else:
            await send(self, final)

    patch.setattr(Checkpoint, "_send", send_in_time)


def suspends_without_looking_again(patch: pytest.MonkeyPatch) -> None:
    """Whether to suspend the run is decided only once, before the write is tried."""

    async def suspend(self: Course) -> bool:
        drive = self._drive
        final = suspended(drive.image, drive.token, drive.waits.stored())
        return await drive.checkpoint.finish(lambda: final)

    patch.setattr(Course, "_suspend", suspend)


def does_not_know_its_own_token(patch: pytest.MonkeyPatch) -> None:
    """Each try of a claim has another token."""
    patch.setattr(running, "claim", lambda *about, **options: claim(*about[:-1], new_token(), **options))


def no_intent(patch: pytest.MonkeyPatch) -> None:
    """A step with ``at_most_once`` begins, and its intent is not stored."""
    patch.setattr(stepping, "begin_intent", lambda drive, key: None)


def failures_are_stored_later(patch: pytest.MonkeyPatch) -> None:
    """The next attempt does not wait until the failed one is stored."""
    note = Checkpoint.note_record
    patch.setattr(Checkpoint, "note_record", lambda self, *, needed: note(self, needed=False))


def wakes_after_the_end(patch: pytest.MonkeyPatch) -> None:
    """A run that has ended keeps a wake time."""
    ended = ending.ended
    patch.setattr(ending, "ended", lambda *args, now, **given: replace(ended(*args, now=now, **given), wake=now))


def a_refusal_takes_all_along(patch: pytest.MonkeyPatch) -> None:
    """Results that came together with a value that is refused are dropped with it."""
    unstorable = Checkpoint._unstorable

    def drop(self: Checkpoint, error: Any) -> Any:
        final = unstorable(self, error)
        self._in_commit = Batch()
        return final

    patch.setattr(Checkpoint, "_unstorable", drop)


def each_sweep_has_its_name(patch: pytest.MonkeyPatch) -> None:
    """Tasks of sweeps are named by the moment."""
    patch.setattr(sweeping, "sweep_name", lambda wake, *, now: f"{wake}-s{now}")


def answers_wake_nobody(patch: pytest.MonkeyPatch) -> None:
    """An answer leaves the wake time as it is."""
    patch.setattr(resuming, "wake_now", lambda state, now: None)


def lost_answers_wake_nobody(patch: pytest.MonkeyPatch) -> None:
    """An answer that is found stored after a lost reply wakes nobody."""

    async def nothing(*_: Any) -> None:
        pass

    patch.setattr(resuming, "_wake_again", nothing)


def ends_are_taken_back(patch: pytest.MonkeyPatch) -> None:
    """What is left to do after an end is noted in the record from before the end."""
    patch.setattr(Final, "stored_in", lambda self, image: setattr(image, "record", self.record))


def knocks_are_overlooked(patch: pytest.MonkeyPatch) -> None:
    """A run may be suspended while it looks at a child that has knocked."""
    patch.setattr(Waits, "look_at_child", lambda self, each: self.spawn(children.look(self, each)))


FAULTS = (
    Fault(memo_at_once, "test_a_process_may_die_at_any_write", "racing"),
    Fault(memo_at_once, "test_a_process_may_die_at_any_write", "queued"),
    Fault(timeout_before_its_record, "test_an_answer_that_comes_with_the_timeout"),
    Fault(no_answers_on_a_rebase, "test_an_answer_that_comes_with_the_suspension"),
    Fault(no_owner_check, "test_a_stale_driver_records_nothing"),
    Fault(no_owner_check, "test_a_stale_driver_writes_nothing_while_another_drives"),
    Fault(no_commit_before_the_next_step, "test_a_process_may_die_at_any_write", "sequential"),
    Fault(no_commit_before_the_next_step, "test_a_process_may_die_at_any_write", "racing"),
    Fault(no_look_at_the_lease, "test_no_step_begins_past_a_lease_that_others_have"),
    Fault(writes_after_release, "test_nothing_is_written_after_a_suspension"),
    Fault(writes_after_release, "test_a_process_may_die_at_any_write", "sequential"),
    Fault(the_clock_decides_what_is_recorded, "test_a_step_that_outlasts_the_lease_is_recorded"),
    Fault(suspends_without_looking_again, "test_an_answer_that_comes_with_the_suspension"),
    Fault(does_not_know_its_own_token, "test_a_claim_whose_reply_was_lost_is_known_again"),
    Fault(no_intent, "test_what_must_not_happen_twice"),
    Fault(failures_are_stored_later, "test_a_process_may_die_at_any_write", "failing"),
    Fault(wakes_after_the_end, "test_a_process_may_die_at_any_write", "sequential"),
    Fault(a_refusal_takes_all_along, "test_a_value_that_the_store_refuses_changes_nothing_else"),
    Fault(each_sweep_has_its_name, "test_sweeps_name_few_tasks"),
    Fault(answers_wake_nobody, "test_an_answer_that_comes_after_the_suspension"),
    Fault(lost_answers_wake_nobody, "test_any_reply_may_be_lost", "asking"),
    Fault(knocks_are_overlooked, "test_a_child_that_ends_with_the_suspension"),
    Fault(ends_are_taken_back, "test_a_run_that_nobody_drives_is_cancelled_at_once"),
)
