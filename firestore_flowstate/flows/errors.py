"""The errors of durable flows, as one tree below `FlowStateError`.

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
        error: The type and the message of the error that ended the run.
        stacktrace: The stacktrace of that error as text, or None if it has none.
        step: If `Run.child` raises the error: the key of the child in the run that started it. Otherwise None.
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
    """The run was cancelled, or it took longer than the timeout of its flow.

    Attributes:
        reason: The reason that `cancel` was given, or that the time was up; empty if `cancel` was given none.
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
    """A step failed, and is not tried again.

    The error is built from what is recorded of the step, so every replay raises the same one.

    Attributes:
        step: The key of the step.
        attempts: How many attempts failed.
        error_type: The name of the type of the last attempt's error.
        error: The message of the last attempt's error.
        stacktrace: The stacktrace of the last attempt's error as text, or None.
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
    """A step with ``at_most_once`` was begun, and nobody knows how it ended. The step is not begun again."""


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

    If `start` or `resume` raises it, nothing was written. If `Run.interrupt` raises it, the answer is stored: it came
    before the run asked, or fits the JSON Schema of the type and not the type itself. The flow may ask again, under
    another name.

    Attributes:
        step: The key of the interrupt, or None if the value is the input of a flow.
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
    """What is recorded under a key is of another kind, or of other arguments, than the code asks for now.

    Arguments are compared only if the step was called in another task than the flow's own, in which calls of one name
    may come in another order.

    Attributes:
        step: The key.
    """

    def __init__(self, message: str, *, flow_id: str | None = None, step: str | None = None) -> None:
        super().__init__(message, flow_id=flow_id)
        self.step = step


class DispatchError(FlowStateError):
    """The queue did not take the task that was to wake the run, whose state is stored.

    If a sweep runs each minute, it wakes the run about a minute after the run was due. To have the run woken earlier,
    make the same call again: `start` with the same id, `resume` with the same `key`.
    """
