"""What `check` of a dispatcher says is wrong with a queue of Cloud Tasks."""

from __future__ import annotations

from ..errors import DispatchError


def check_state(queue: str, state: str) -> None:
    """Refuse a queue that delivers no tasks.

    Raises:
        DispatchError: The queue is paused or disabled.
    """
    if state in ("PAUSED", "DISABLED"):
        raise DispatchError(
            f"The queue {queue} is {state.lower()}, so that it wakes nothing: gcloud tasks queues resume {queue}"
        )


def unseen_queue(queue: str, status: str | None, error: Exception) -> DispatchError:
    """Return the error to raise for a queue whose state could not be read."""
    if status == "NOT_FOUND":
        return DispatchError(f"There is no queue {queue}, so that nothing wakes the runs: create it. ({error})")
    if status == "PERMISSION_DENIED":
        return DispatchError(
            f"The queue {queue} cannot be checked: these credentials need roles/cloudtasks.viewer for that. ({error})"
        )
    return DispatchError(f"The queue {queue} cannot be reached: {error}")
