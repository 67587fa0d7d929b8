"""Waking runs by Google Cloud Tasks, for Cloud Run and other hosts that have an address.

::

    flows = Flows(store, dispatcher=CloudTasks(
        "projects/shop/locations/europe-west1/queues/flows",
        "https://shop-abc.run.app/flows/drive",
        service_account="flow-runner@shop.iam.gserviceaccount.com",
    ))

Needs the extra ``cloud-tasks``.
"""

from __future__ import annotations

import inspect
import json
import re
from datetime import datetime, timezone
from typing import Any, Final
from urllib.parse import urlsplit

from firestore_flowstate.errors import shown

from .arguments import check_account, check_named, check_text
from .clock import SystemClock
from .dispatch.queue_calls import CALL_SECONDS, DISPATCH_DEADLINE_SECONDS, RETRY_SECONDS, CallThreads, OnePerProcess
from .dispatch.queues import check_state, unseen_queue
from .dispatch.wake_names import next_hop, task_name
from .errors import DispatchError

__all__ = ["CloudTasks"]

_QUEUE: Final = re.compile(r"projects/[A-Za-z0-9:.-]+/locations/[A-Za-z0-9-]+/queues/[A-Za-z0-9-]{1,100}")
_NOT_IN_A_URL: Final = re.compile(
    r"[^!-~]|#"
)  # a fragment is not sent, so that the audience of tokens would be another


class CloudTasks:
    """A `Dispatcher` that makes a task for each wake time; the task calls ``POST url`` with ``{"id": ID}``.

    The name of a task is made of the run's id and the wake time, so any number of processes make one task of them. A
    wake time that is more than 29 days ahead is reached in hops, since Cloud Tasks takes tasks at most 30 days ahead.

    Args:
        queue: ``projects/PROJECT/locations/LOCATION/queues/QUEUE``.
        url: The address of the handler, which drives the run, such as that of ``/drive`` of `Flows.app`.
        service_account: The email of the account whose token a task carries, with `url` as the audience. `Oidc` checks
            such a token, and private Cloud Run demands one. None: tasks carry no token.
        client: A CloudTasksClient or CloudTasksAsyncClient, which `close` leaves open. None: a client is made in each
            process, with the credentials of the environment. It calls over HTTPS, which a fork does not break, unlike
            gRPC.

    Raises:
        TypeError: An argument is of another type.
        ValueError: `queue` or `url` has another form, or `service_account` is not an email.
    """

    def __init__(self, queue: str, url: str, *, service_account: str | None = None, client: Any = None) -> None:
        check_named(queue, "queue")
        check_named(url, "url")
        check_text(service_account, "service_account")
        if client is not None and not callable(getattr(client, "create_task", None)):
            raise TypeError(f"client is a CloudTasksClient or CloudTasksAsyncClient, or None, not {shown(client)}")
        if _QUEUE.fullmatch(queue) is None:
            raise ValueError(f"queue is projects/PROJECT/locations/LOCATION/queues/QUEUE, not {queue!r}")
        if not _is_address(url):
            raise ValueError(f"url is the whole address of the handler, as https://HOST/drive, not {url!r}")
        if service_account is not None and not url.startswith("https://"):
            raise ValueError(f"a token is sent to an https address only, and url is {url!r}")
        if service_account is not None:
            check_account(service_account, "service_account")
        self.queue = queue
        self.url = url
        self.service_account = service_account
        self._given = client
        self._own = OnePerProcess(_client)
        self._threads = CallThreads()
        self._clock = SystemClock()

    async def dispatch(self, id: str, *, wake: str, at: datetime | None = None) -> None:
        """Make the task. If the queue has or had a task of this name, that is a success.

        Raises:
            DispatchError: The queue did not take the task within 15 seconds.
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
        """Ask for the state of the queue, and change nothing.

        Raises:
            DispatchError: The queue cannot be reached, does not exist, or is paused or disabled.
        """
        try:
            queue = await self._call("get_queue", {"name": self.queue})
        except DispatchError:
            raise
        except Exception as error:
            raise unseen_queue(self.queue, _status(error), error) from error
        check_state(self.queue, queue.state.name)

    async def close(self) -> None:
        """Close the client that was made in this process. One that was passed in stays open."""
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


def _is_address(url: str) -> bool:
    """Return whether the text is the whole address of a host, in ASCII, as a queue calls it."""
    if not url.startswith(("https://", "http://")) or _NOT_IN_A_URL.search(url):
        return False
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:  # of a port that is not a number, or a bracket that does not end
        return False


def _client() -> Any:
    try:
        from google.cloud import tasks_v2
    except ImportError as error:
        raise DispatchError(
            "CloudTasks needs the package google-cloud-tasks: pip install 'firestore-flowstate[cloud-tasks]'"
        ) from error
    return tasks_v2.CloudTasksClient(transport="rest")


def _is_passing(error: Exception) -> bool:
    """Return whether the call may succeed when it is made again. The name of the task makes a second call harmless."""
    from google.api_core import exceptions
    from google.api_core.retry import if_transient_error
    from requests.exceptions import Timeout

    more = (exceptions.BadGateway, exceptions.GatewayTimeout, Timeout)
    return isinstance(error, more) or _status(error) == "ABORTED" or bool(if_transient_error(error))


def _status(error: Exception) -> str | None:
    """Return the name of the error's status. Over HTTP it is in the body: ALREADY_EXISTS and ABORTED are both 409."""
    code = getattr(error, "grpc_status_code", None)
    if code is not None:
        return str(code.name)
    response = getattr(error, "response", None)
    try:
        return str(response.json()["error"]["status"])  # type: ignore[union-attr]  # None has no json, which is caught
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
