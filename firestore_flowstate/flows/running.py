"""Driving a run from its id: load it, see whether it is due, claim it, call its function, and do what follows."""

from __future__ import annotations

import asyncio

from firestore_flowstate import FlowState
from firestore_flowstate.copies import collecting_copies

from .budget import Budget
from .claiming import claim, claimed_already, is_lost, new_token, tell_claim
from .driving import Drive
from .ending import End
from .engine import LOG, Engine
from .final import DriveOutcome, Final
from .image import image_of
from .knocking import finish_todo
from .lease import Claim
from .readiness import claimable_at, look_at
from .record import ended_of, record_of, wake_at
from .releasing import release


async def drive(engine: Engine, id: str, *, budget: float | None = None) -> DriveOutcome:
    """Claim the run and go on with it in this process, if it is due.

    Raises:
        UnknownFlowError: This process does not know the flow of the run. Nothing was claimed.
    """
    with engine.claims(id):
        taken = await take(engine, id)
    return await drive_claimed(engine, taken, budget=budget) if isinstance(taken, Claim) else taken


async def take(engine: Engine, id: str) -> Claim | DriveOutcome:
    """Claim the run if it is due, and return the claim; otherwise return why there is none.

    A process that is to end claims nothing: the dispatcher is told to have the run driven elsewhere.

    Raises:
        UnknownFlowError: This process does not know the flow of the run. Nothing was claimed.
    """
    engine.check_process()
    token = new_token()
    before: FlowState | None = None  # what the last try to claim it was made on
    while True:
        with collecting_copies() as copies:
            state = await engine.store.load(id)
        copier = copies.of(state)
        if state is None:
            return "missing"
        if before is not None and is_lost(before, state, token):
            engine.telemetry.event("claim.lost", name=before.name)
        if (how := ended_of(state)) is not None:
            await finish_todo(engine, image_of(id, state))
            return how
        flow = engine.flow(state.name, id=id)
        if record_of(state).owner == token:
            if before is not None:
                tell_claim(engine, before)
            return claimed_already(engine, id, state, token, copier=copier)
        look = look_at(id, state, now=engine.clock.now(), lease=engine.lease)
        if look.what != "due":
            if look.at is not None:
                await engine.dispatch(id, look.at, at=look.at)
                if look.soon and engine.drives_here is None:  # a queue, whose clock may be another one
                    await engine.dispatch_again(id, look.at)
            return look.what
        if engine.is_closing:
            await engine.dispatch_elsewhere(id, wake_at(state))
            return "handed over"
        before = state
        claimed = await claim(engine, id, state, flow, token, copier=copier)
        if isinstance(claimed, Claim):
            tell_claim(engine, before)
            return claimed
        if isinstance(claimed, End):
            engine.moved(id)


async def drive_claimed(engine: Engine, claimed: Claim, *, budget: float | None = None) -> DriveOutcome:
    """Drive a run that this process has claimed, and do what follows from how the drive ends."""
    if engine.is_closing:
        return await release(engine, claimed)
    outcome, drive = await drive_here(engine, claimed, budget=budget)
    await follow_up(engine, drive, outcome)
    return outcome


async def drive_here(engine: Engine, claimed: Claim, *, budget: float | None = None) -> tuple[DriveOutcome, Drive]:
    """Drive a run that this process has claimed; `budget` is in seconds. Return how the drive ended, and the drive."""
    image = claimed.image
    flow = engine.flow(image.name, id=image.id)
    drive = Drive(engine, flow, image, claimed.token, claimed.lease, Budget(engine.clock, budget))
    LOG.info("Drive %d of the run %r (%s) begins.", image.record.drives, image.id, flow.name)
    engine.drives[image.id] = drive
    if engine.is_closing:
        drive.leave()
    ends = "cut off"
    try:
        with engine.telemetry.drive(
            flow_id=image.id,
            name=flow.name,
            trace_context=image.trace_context,
            number=image.record.drives,
            before=image.record.span,
        ):
            image.record.span = engine.telemetry.trace_context() or image.record.span
            ends = outcome = await drive.go()
    except (Exception, asyncio.CancelledError) as error:  # of who awaits it, such as a request whose client goes away
        ends = f"cut off by {type(error).__name__}"  # not its message, which may have a payload in it
        wake, _ = _next_look(engine, drive)
        if wake is not None:
            await engine.look_later(drive.id, wake, elsewhere=drive.is_leaving)
        raise
    finally:
        if engine.drives.get(image.id) is drive:
            del engine.drives[image.id]
        engine.moved(image.id)
        LOG.info("Drive %d of the run %r (%s) ends: %s.", image.record.drives, image.id, flow.name, ends)
    if outcome in ("done", "failed", "cancelled"):
        engine.telemetry.event("run.ended", flow_id=image.id, name=flow.name, outcome=outcome)
    return outcome, drive


async def follow_up(engine: Engine, drive: Drive, outcome: DriveOutcome) -> None:
    """Have the run woken at the wake time that the drive has stored, or do what is left to do if the run has ended."""
    final: Final | None = drive.checkpoint.final
    if final is not None and final.record.todo:
        final.stored_in(drive.image)
        await asyncio.shield(finish_todo(engine, drive.image, elsewhere=drive.is_leaving))
    elif final is not None or outcome == "busy":
        wake, at = _next_look(engine, drive)
        if wake is not None:
            await engine.dispatch(drive.id, wake, at=at, elsewhere=drive.is_leaving)


def _next_look(engine: Engine, drive: Drive) -> tuple[int | None, int | None]:
    """Return the wake time after the drive, and when the run is to be looked at; None: it is not, or at once.

    If the drive has made no last write, that is when others may claim the run.
    """
    final = drive.checkpoint.final
    if final is None:
        at = claimable_at(drive.id, drive.image.record, drive.lease.until, lease=engine.lease)
        return at, at
    return final.wake, None if final.outcome == "handed over" else final.wake
