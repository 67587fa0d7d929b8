"""What can go wrong with a run. All are below `FlowStateError`.

::

    FlowStateError
    ├── FlowFailedError          error, stacktrace, step
    │   └── FlowCancelledError   reason
    ├── StepFailedError          step, attempts, error_type, error
    │   └── StepInterruptedError
    ├── WaitTimeoutError         step (also TimeoutError)
    ├── NotWaitingError
    ├── InvalidPayloadError      step (also ValueError)
    ├── NotFailedError
    ├── UnknownFlowError         name (also LookupError)
    ├── FlowCodeChangedError     step
    └── DispatchError
"""

from __future__ import annotations

from firestore_flowstate import FlowStateError


class FlowFailedError(FlowStateError):
    """The run failed.

    Attributes:
        error: The type and the message of the error that ended it.
        stacktrace: Where that error was raised.
        step: From `Run.child`: the key of the child in the run that started it. Otherwise None.
    """

    def __init__(
        self,
        message: str,
        *,
        flow_id: str | None = None,
        error: str = "",
        stacktrace: str | None = None,
        step: str | None = None,
    ) -> None:
        super().__init__(message, flow_id=flow_id)
        self.error = error
        self.stacktrace = stacktrace
        self.step = step


class FlowCancelledError(FlowFailedError):
    """The run was cancelled, or its time was up.

    Attributes:
        reason: What `cancel` was given.
    """

    def __init__(
        self,
        message: str,
        *,
        flow_id: str | None = None,
        error: str = "",
        stacktrace: str | None = None,
        step: str | None = None,
        reason: str = "",
    ) -> None:
        super().__init__(message, flow_id=flow_id, error=error, stacktrace=stacktrace, step=step)
        self.reason = reason


class StepFailedError(FlowStateError):
    """A step failed for good: it is rebuilt from the record, so it is the same on every replay.

    Attributes:
        step: The key of the step.
        attempts: How many attempts failed.
        error_type: The name of the type of the last attempt's error.
        error: The message of the last attempt's error.
        stacktrace: Where it was raised.
    """

    def __init__(
        self,
        message: str,
        *,
        flow_id: str | None = None,
        step: str,
        attempts: int = 1,
        error_type: str = "",
        error: str = "",
        stacktrace: str | None = None,
    ) -> None:
        super().__init__(message, flow_id=flow_id)
        self.step = step
        self.attempts = attempts
        self.error_type = error_type
        self.error = error
        self.stacktrace = stacktrace


class StepInterruptedError(StepFailedError):
    """A step with ``at_most_once`` was begun, and nobody knows how it ended. It is not begun again."""


class WaitTimeoutError(FlowStateError, TimeoutError):
    """Nobody answered the interrupt within its timeout.

    Attributes:
        step: The key of the interrupt.
    """

    def __init__(self, message: str, *, flow_id: str | None = None, step: str | None = None) -> None:
        super().__init__(message, flow_id=flow_id)
        self.step = step


class NotWaitingError(FlowStateError):
    """The run has ended, or the step does not wait for an answer. Nothing was written."""


class InvalidPayloadError(FlowStateError, ValueError):
    """A value does not fit the type that is asked for.

    From `resume` and `start`: nothing was written. At the interrupt: the answer was taken and does not fit the type
    after all; the flow may ask again.

    Attributes:
        step: The key of the interrupt, or None if it is the input of a flow.
    """

    def __init__(self, message: str, *, flow_id: str | None = None, step: str | None = None) -> None:
        super().__init__(message, flow_id=flow_id)
        self.step = step


class NotFailedError(FlowStateError):
    """Only a run that failed or was cancelled can be retried. Nothing was written."""


class UnknownFlowError(FlowStateError, LookupError):
    """This process has no flow of that name.

    Attributes:
        name: The name of the flow.
    """

    def __init__(self, message: str, *, flow_id: str | None = None, name: str | None = None) -> None:
        super().__init__(message, flow_id=flow_id)
        self.name = name


class FlowCodeChangedError(FlowStateError):
    """A key has a result of another kind, or of other arguments, than the code asks for now.

    Attributes:
        step: The key.
    """

    def __init__(self, message: str, *, flow_id: str | None = None, step: str | None = None) -> None:
        super().__init__(message, flow_id=flow_id)
        self.step = step


class DispatchError(FlowStateError):
    """The queue did not take the task that was to wake the run, whose state is stored.

    A sweep wakes the run about a minute after it was due. To have it woken earlier, call the same again: `start` with
    the same id, `resume` with the same `key`.
    """
