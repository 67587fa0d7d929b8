"""What is wrong with a queue of Cloud Tasks that is looked at."""

from __future__ import annotations

from ..errors import DispatchError


def check_state(queue: str, state: str) -> None:
    """Raise DispatchError unless a queue in this state delivers tasks."""
    if state in ("PAUSED", "DISABLED"):
        raise DispatchError(
            f"The queue {queue} is {state.lower()}, so that it wakes nothing: gcloud tasks queues resume {queue}"
        )


def unseen_queue(queue: str, status: str | None, error: Exception) -> DispatchError:
    """Return what to raise for a queue that could not be looked at."""
    if status == "NOT_FOUND":
        return DispatchError(f"There is no queue {queue}, so that nothing is woken: create it. ({error})")
    if status == "PERMISSION_DENIED":
        return DispatchError(
            f"The queue {queue} may not be looked at from here, which takes the role roles/cloudtasks.viewer. ({error})"
        )
    return DispatchError(f"The queue {queue} cannot be reached: {error}")
