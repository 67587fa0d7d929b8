"""Waking runs by the task queue of a function on Firebase.

::

    flows = Flows(store, dispatcher=FirebaseTasks("driveflow"))

    @tasks_fn.on_task_dispatched(timeout_sec=540)
    def driveflow(request: tasks_fn.CallableRequest) -> None:
        flows.blocking.drive(request.data["id"], budget=530)

Needs the extra ``firebase``.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from contextlib import closing
from datetime import datetime, timezone
from typing import Any, Final

from .arguments import check_named
from .clock import SystemClock
from .dispatch.loop_timers import LoopTimers
from .dispatch.queue_calls import CALL_SECONDS, DISPATCH_DEADLINE_SECONDS, RETRY_SECONDS, CallThreads, OnePerProcess
from .dispatch.queues import check_state, unseen_queue
from .dispatch.session import QueueSession
from .dispatch.wake_names import next_hop, task_name
from .engine import LOG
from .errors import DispatchError

__all__ = ["FirebaseTasks"]

_GOOGLE: Final = "https://cloudtasks.googleapis.com/v2"
_NAME: Final = re.compile(r"[A-Za-z0-9-]{1,100}")
_FUNCTION: Final = re.compile(r"(?:(?:projects/([^/\s]+)/)?locations/([A-Za-z0-9-]+)/functions/)?([A-Za-z0-9-]+)")
"""The forms that firebase_admin knows."""


class FirebaseTasks:
    """A `Dispatcher` that puts a task into the queue of a function for each wake time; the data is ``{"id": ID}``.

    The name of a task is made of the run's id and the wake time, so any number of processes make one task of them. A
    wake time that is more than 29 days ahead is reached in hops, since Cloud Tasks takes tasks at most 30 days ahead.

    The queue of the Functions emulator ignores the time of a task. So there this process keeps a task back until it is
    due. Nor do tasks have names there, since the emulator never frees a name.

    Args:
        function: The name of the function, in ``us-central1``; or ``locations/LOCATION/functions/FUNCTION``,
            also behind ``projects/PROJECT/``. Its queue has the same name, and the name of a queue has no underscore.
        app: The App of firebase_admin; None: the default App, which must exist when the first run is dispatched.

    Raises:
        TypeError: The name is not text.
        ValueError: The name has none of these forms, or no queue can have it. Firebase deploys a function of such a
            name without a queue.
    """

    def __init__(self, function: str, *, app: Any = None) -> None:
        check_named(function, "function")
        if _NAME.fullmatch(function.rpartition("/")[2]) is None:
            raise ValueError(
                f"the queue of a function has the function's name, which is of letters, digits and hyphens alone; "
                f"{function!r} is not: give the function another name, as driveflow"
            )
        form = _FUNCTION.fullmatch(function)
        if form is None:
            raise ValueError(
                "function is FUNCTION, locations/LOCATION/functions/FUNCTION or "
                f"projects/PROJECT/locations/LOCATION/functions/FUNCTION, not {function!r}"
            )
        self.function = function
        self._form = form
        self._app = app
        self._queue = OnePerProcess(self._make_queue)
        self._threads = CallThreads()
        self._clock = SystemClock()
        self._timers = LoopTimers()
        self._sending: set[asyncio.Task[None]] = set()

    async def dispatch(self, id: str, *, wake: str, at: datetime | None = None) -> None:
        """Put the task into the queue. If the queue has or had a task of this name, that is a success.

        Raises:
            DispatchError: The queue did not take the task within 15 seconds.
        """
        if not os.environ.get("CLOUD_TASKS_EMULATOR_HOST"):
            await self._enqueue(id, name=task_name(id, wake), at=at)
        elif at is None or at.timestamp() * 1000 <= self._clock.now():
            await self._enqueue(id, name=None, at=None)
        elif (id, wake) not in self._timers:
            seconds = at.timestamp() - self._clock.now() / 1000
            loop = asyncio.get_running_loop()
            self._timers.add((id, wake), lambda wake_up: loop.call_later(seconds, wake_up), lambda: self._begin(id))

    async def check(self) -> None:
        """Ask for the state of the function's queue, and change nothing.

        Raises:
            DispatchError: The queue cannot be reached, does not exist, or is paused or disabled.
        """
        try:
            await self._threads.call(lambda _: self._look(), seconds=RETRY_SECONDS)
        except DispatchError:
            raise
        except Exception as error:
            raise unseen_queue(self.function, None, error) from error

    async def close(self) -> None:
        """Drop the tasks that are kept back for the emulator, and close the connections of this process."""
        self._timers.cancel()
        here = [task for task in self._sending if task.get_loop() is asyncio.get_running_loop()]
        await asyncio.gather(*here, return_exceptions=True)
        queue = self._queue.drop()
        if queue is not None:
            queue._http_client.close()
        self._threads.close()

    async def _enqueue(self, id: str, *, name: str | None, at: datetime | None) -> None:
        moment = None
        if at is not None:
            hop = next_hop(round(at.timestamp() * 1000), now=self._clock.now())
            moment = datetime.fromtimestamp(hop / 1000, timezone.utc)
        try:
            await self._threads.call(lambda left: self._call(id, name, moment, left), seconds=RETRY_SECONDS)
        except DispatchError:
            raise
        except Exception as error:
            raise DispatchError(
                f"The queue of the function {self.function!r} did not take the task that wakes the run {id!r}: {error}",
                flow_id=id,
            ) from error

    def _call(self, id: str, name: str | None, at: datetime | None, seconds: float) -> None:
        """Put the task into the queue, on a thread; try again for so many seconds while the queue cannot take it.

        The name of the task makes a second try harmless.
        """
        functions = _functions()
        from firebase_admin import exceptions

        end, pause = time.monotonic() + seconds, 0.1
        queue = self._queue.here()
        options = functions.TaskOptions(
            task_id=name, schedule_time=at, dispatch_deadline_seconds=DISPATCH_DEADLINE_SECONDS
        )
        while True:
            try:
                queue._http_client.refresh()
                queue.enqueue({"data": {"id": id}}, options)
            except (exceptions.AlreadyExistsError, exceptions.ConflictError):
                return
            except Exception as error:
                if not _is_passing(error) or time.monotonic() + pause > end:
                    raise
                time.sleep(pause)
                pause = min(2 * pause, 2.0)
            else:
                return

    def _look(self) -> None:
        """Ask for the state of the queue, on a thread. firebase_admin has no call for it."""
        _functions()
        import firebase_admin

        app = self._app or firebase_admin.get_app()
        project, location, name = self._place(app.project_id)
        queue = f"projects/{project}/locations/{location}/queues/{name}"
        if host := os.environ.get("CLOUD_TASKS_EMULATOR_HOST"):
            import requests

            answer = requests.get(f"http://{host}/queueStats", timeout=CALL_SECONDS)
            answer.raise_for_status()
            if f"queue:{project}-{location}-{name}" not in answer.json():
                raise unseen_queue(queue, "NOT_FOUND", LookupError("the emulator has no queue of this name"))
            return
        with closing(QueueSession(app.credential.get_credential())) as session:
            answer = session.request("GET", f"{_GOOGLE}/{queue}")
        if not answer.ok:
            status = {403: "PERMISSION_DENIED", 404: "NOT_FOUND"}.get(answer.status_code)
            raise unseen_queue(queue, status, OSError(f"{answer.status_code} {answer.reason}"))
        check_state(queue, str(answer.json().get("state")))

    def _place(self, project: str | None) -> tuple[str | None, str, str]:
        """Return the project, the location and the name of the queue, as firebase_admin understands `function`."""
        return self._form[1] or project, self._form[2] or "us-central1", self._form[3]

    def _make_queue(self) -> Any:
        queue = _functions().task_queue(self.function, app=self._app)
        queue._http_client = QueueSession(queue._credential)
        return queue

    def _begin(self, id: str) -> None:
        task = asyncio.ensure_future(self._send(id))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send(self, id: str) -> None:
        try:
            await self._enqueue(id, name=None, at=None)
        except DispatchError as error:
            LOG.warning("%s", error)


def _functions() -> Any:
    """Return the module of firebase_admin that has queues.

    Raises:
        DispatchError: It is not installed.
    """
    try:
        from firebase_admin import functions
    except ImportError as error:
        raise DispatchError(
            "FirebaseTasks needs firebase-admin 7.2 or later: pip install 'firestore-flowstate[firebase]'"
        ) from error
    return functions


def _is_passing(error: Exception) -> bool:
    """Return whether the call may succeed when it is made again. The name of the task makes a second call harmless."""
    from firebase_admin import exceptions
    from google.auth.exceptions import TransportError

    passing = (
        exceptions.AbortedError,
        exceptions.DeadlineExceededError,
        exceptions.InternalError,
        exceptions.ResourceExhaustedError,
        exceptions.UnavailableError,
    )
    if isinstance(error, exceptions.FirebaseError):
        gateway = error.http_response is not None and error.http_response.status_code in (502, 504)
        return gateway or isinstance(error, passing)
    return isinstance(error, TransportError) or bool(getattr(error, "retryable", False))  # google-auth's, of a token
