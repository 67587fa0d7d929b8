"""Runs woken by Google Cloud Tasks, for Cloud Run and whatever else has an address.

::

    flows = Flows(store, dispatcher=CloudTasks(
        "projects/shop/locations/europe-west1/queues/flows",
        "https://shop-abc.run.app/flows/drive",
        service_account="flows@shop.iam.gserviceaccount.com",
    ))

Needs the extra ``cloud-tasks``.
"""

from __future__ import annotations

import inspect
import json
import re
from datetime import datetime, timezone
from typing import Any, Final

from firestore_flowstate.errors import shown

from .arguments import check_named, check_text
from .clock import SystemClock
from .dispatch.calling import CALL_SECONDS, DISPATCH_DEADLINE_SECONDS, RETRY_SECONDS, CallThreads, OnePerProcess
from .dispatch.queues import check_state, unseen_queue
from .dispatch.waking import next_hop, task_name
from .errors import DispatchError

__all__ = ["CloudTasks"]

_QUEUE: Final = re.compile(r"projects/[^/]+/locations/[^/]+/queues/[^/]+")


class CloudTasks:
    """Makes a task for each wake time, whose handler drives the run: ``POST url`` with ``{"id": ID}``.

    Any number of processes make one task for one wake time, since its name is made of both. A wake time more than 29
    days ahead is reached in hops, since a queue takes tasks 30 days ahead.

    Args:
        queue: ``projects/PROJECT/locations/LOCATION/queues/QUEUE``.
        url: The address of the handler, as ``/drive`` of `Flows.app`.
        service_account: The email of the account whose token the task carries, for the audience `url`: what `Oidc`
            checks, and private Cloud Run asks for. None: tasks carry no token.
        client: A CloudTasksClient or CloudTasksAsyncClient, which is not closed with this. None: one of its own, with
            the credentials of the environment, over HTTPS: unlike gRPC that survives a fork.

    Raises:
        TypeError: One of them is of another type.
        ValueError: `queue` or `url` has another form, or `service_account` is empty.
    """

    def __init__(self, queue: str, url: str, *, service_account: str | None = None, client: Any = None) -> None:
        check_named(queue, "queue")
        check_named(url, "url")
        check_text(service_account, "service_account")
        if client is not None and not callable(getattr(client, "create_task", None)):
            raise TypeError(f"client is a CloudTasksClient or CloudTasksAsyncClient, or None, not {shown(client)}")
        if _QUEUE.fullmatch(queue) is None:
            raise ValueError(f"queue is projects/PROJECT/locations/LOCATION/queues/QUEUE, not {queue!r}")
        if not url.startswith(("https://", "http://")):
            raise ValueError(f"url is the whole address of the handler, not {url!r}")
        if service_account is not None and not url.startswith("https://"):
            raise ValueError(f"a token is sent to an https address only, and url is {url!r}")
        self.queue = queue
        self.url = url
        self.service_account = service_account
        self._given = client
        self._own = OnePerProcess(_client)
        self._threads = CallThreads()
        self._clock = SystemClock()

    async def dispatch(self, id: str, *, wake: str, at: datetime | None = None) -> None:
        """Make the task; that there is one of this name already, or was one, is a success.

        Raises:
            DispatchError: The queue did not take it within 15 seconds.
        """
        request = {"parent": self.queue, "task": self._task(id, wake, at)}
        try:
            await self._call("create_task", request)
        except DispatchError:
            raise
        except Exception as error:
            if _status(error) == "ALREADY_EXISTS":
                return
            raise DispatchError(
                f"The queue {self.queue} did not take the task that wakes the run {id!r}: {error}", flow_id=id
            ) from error

    async def check(self) -> None:
        """Look at the queue, and change nothing.

        Raises:
            DispatchError: It cannot be reached, is not there, or delivers nothing.
        """
        try:
            queue = await self._call("get_queue", {"name": self.queue})
        except DispatchError:
            raise
        except Exception as error:
            raise unseen_queue(self.queue, _status(error), error) from error
        check_state(self.queue, queue.state.name)

    async def close(self) -> None:
        """Close the client, if it is not a given one."""
        client = self._own.drop()
        if client is not None:
            client.transport.close()
        self._threads.close()

    def _task(self, id: str, wake: str, at: datetime | None) -> dict[str, Any]:
        request: dict[str, Any] = {
            "http_method": "POST",
            "url": self.url,
            "headers": {"Content-Type": "application/json"},
            "body": json.dumps({"id": id}).encode(),
        }
        if self.service_account is not None:
            request["oidc_token"] = {"service_account_email": self.service_account, "audience": self.url}
        task: dict[str, Any] = {
            "name": f"{self.queue}/tasks/{task_name(id, wake)}",
            "http_request": request,
            "dispatch_deadline": {"seconds": DISPATCH_DEADLINE_SECONDS},
        }
        if at is not None:
            hop = next_hop(round(at.timestamp() * 1000), now=self._clock.now())
            task["schedule_time"] = datetime.fromtimestamp(hop / 1000, timezone.utc)
        return task

    async def _call(self, method: str, request: dict[str, Any]) -> Any:
        from google.api_core.retry import AsyncRetry, Retry

        client = self._given
        if client is not None and inspect.iscoroutinefunction(getattr(client, method)):
            retry = AsyncRetry(predicate=_is_passing, initial=0.1, maximum=2.0, timeout=RETRY_SECONDS)
            return await getattr(client, method)(request=request, retry=retry, timeout=CALL_SECONDS)

        def call(seconds: float) -> Any:
            made = client or self._own.here()
            retry = Retry(predicate=_is_passing, initial=0.1, maximum=2.0, timeout=seconds)
            return getattr(made, method)(request=request, retry=retry, timeout=CALL_SECONDS)

        return await self._threads.call(call, seconds=RETRY_SECONDS)


def _client() -> Any:
    try:
        from google.cloud import tasks_v2
    except ImportError as error:
        raise DispatchError(
            "CloudTasks needs the package google-cloud-tasks: pip install 'firestore-flowstate[cloud-tasks]'"
        ) from error
    return tasks_v2.CloudTasksClient(transport="rest")


def _is_passing(error: Exception) -> bool:
    """Return whether the call may succeed when it is made again. The name of the task makes that harmless."""
    from google.api_core import exceptions
    from google.api_core.retry import if_transient_error
    from requests.exceptions import Timeout

    more = (exceptions.BadGateway, exceptions.GatewayTimeout, Timeout)
    return isinstance(error, more) or _status(error) == "ABORTED" or bool(if_transient_error(error))


def _status(error: Exception) -> str | None:
    """Return the name of the error's status. Over HTTP two of them are 409, and only the body tells them apart."""
    code = getattr(error, "grpc_status_code", None)
    if code is not None:
        return str(code.name)
    response = getattr(error, "response", None)
    try:
        return str(response.json()["error"]["status"])  # type: ignore[union-attr]  # None has no json, which is caught
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
