"""Durable flows: async functions that survive crashes, deploys and waits of months.

::

    from firestore_flowstate import FirestoreFlowStateStore
    from firestore_flowstate.flows import Flows, Run

    flows = Flows(FirestoreFlowStateStore())

    @flows.flow
    async def publish(run: Run, topic: Topic) -> Article:
        outline = await run.step("outline", make_outline, topic)
        answer = await run.interrupt("approve", Approval, show=outline)
        return await run.step("publish", put_online, outline)

This package uses public names of `firestore_flowstate`, and the limits and texts of errors that all of it goes by.
Importing `firestore_flowstate` does not import it.
"""

from __future__ import annotations

from .blocking import BlockingFlowHandle, BlockingFlows
from .context import Step, current_run, current_step
from .decorator import FlowDecorator
from .dispatch import Dispatcher
from .errors import (
    DispatchError,
    FlowCancelledError,
    FlowCodeChangedError,
    FlowFailedError,
    InvalidPayloadError,
    NotFailedError,
    NotWaitingError,
    StepFailedError,
    StepInterruptedError,
    UnknownFlowError,
    WaitTimeoutError,
)
from .final import DriveOutcome
from .flow import Flow
from .flows import Flows
from .handle import FlowHandle
from .retry import Retry
from .run import JsonScalar, Run

__all__ = [
    "BlockingFlowHandle",
    "BlockingFlows",
    "DispatchError",
    "Dispatcher",
    "DriveOutcome",
    "Flow",
    "FlowCancelledError",
    "FlowCodeChangedError",
    "FlowDecorator",
    "FlowFailedError",
    "FlowHandle",
    "Flows",
    "InvalidPayloadError",
    "JsonScalar",
    "NotFailedError",
    "NotWaitingError",
    "Retry",
    "Run",
    "Step",
    "StepFailedError",
    "StepInterruptedError",
    "UnknownFlowError",
    "WaitTimeoutError",
    "current_run",
    "current_step",
]
