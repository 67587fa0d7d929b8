"""One call over a link: its attempts, its span, its metadata, and the messages it answers with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError

from ..errors import BackendError
from .deadline import Deadline
from .errors import exhausted_error, is_about_database, public_error
from .link import Link
from .outcome import CallFailed
from .retry import Exhausted, read_again, until
from .spans import traced
from .target import routing


class Absent(Exception):  # noqa: N818  # an outcome, as in `outcome`
    """There is no document of the name that was asked for."""


async def send(
    link: Link,
    method: str,
    request: bytes,
    route: tuple[str, str],
    *,
    deadline: Deadline,
    again: Callable[[CallFailed], bool],
) -> list[bytes]:
    """Return the server's messages, serialized, after as many attempts as `again` and the deadline allow.

    Args:
        link: What to call over.
        method: The name of the method of Firestore's service.
        request: The message to send, serialized: a large one is not to be kept in two forms while it is on its way.
        route: The field by which Google's front ends find the database, and its value.
        deadline: When the last attempt must have ended.
        again: Which failures to try again after.

    Raises:
        CallFailed: An attempt failed in a way that `again` does not allow.
        Exhausted: The deadline is too near for another attempt.
    """
    metadata = (*link.metadata, routing(*route))

    async def attempt(timeout: float) -> list[bytes]:
        return await link.call(method, request, metadata=metadata, timeout=timeout)

    return await traced(until(deadline, attempt, again=again), method=method, database=link.target.database_name)


async def read(
    link: Link, method: str, request: Any, route: tuple[str, str], *, deadline: Deadline, flow_id: str | None
) -> list[bytes]:
    """Return the server's messages to a request that changes nothing, tried again until the deadline.

    Arguments as of `send`, and the flow state that errors are to name.

    Raises:
        Absent: The document of a GetDocument is not there.
        BackendError: The call failed.
    """
    database = link.target.database_name
    try:
        return await send(link, method, request.SerializeToString(), route, deadline=deadline, again=read_again)
    except CallFailed as failure:
        if failure.code == "NOT_FOUND" and method == "GetDocument" and not is_about_database(failure):
            raise Absent from failure
        raise public_error(failure, what=method, database=database, flow_id=flow_id) from failure
    except Exhausted as end:
        raise exhausted_error(end, deadline=deadline, what=method, database=database, flow_id=flow_id) from end.failure


def parsed(message: Any, reply: bytes) -> Any:
    """Return the reply as a message of this class.

    Raises:
        BackendError: It is none.
    """
    try:
        return message.FromString(reply)
    except DecodeError as error:
        raise BackendError("the server's reply is not one of Firestore's: look at the endpoint") from error
