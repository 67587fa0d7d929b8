"""What a scripted server says on a stream of Listen."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import grpc

from firestore_flowstate._rpc import messages


def a_target() -> Any:
    """Return the target of one document."""
    target = messages.Target()
    target.documents.documents.append("projects/demo-scripted/databases/(default)/documents/c/a")
    return target


class Script:
    """A stream of Listen: what to say after each request, in order."""

    def __init__(self, *says: Callable[[Any], Iterable[Any]], then: str | None = None) -> None:
        self.says = says
        self.then = then
        self.requests: list[Any] = []

    def __call__(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterable[bytes]:
        says = iter(self.says)
        for serialized in requests:
            request = messages.ListenRequest.FromString(serialized)
            self.requests.append(request)
            for response in next(says, lambda _: ())(request):
                yield response.SerializeToString()
            if len(self.requests) == len(self.says) and self.then is not None:
                context.abort(grpc.StatusCode[self.then], "said so")


def when(event: threading.Event, say: Callable[[Any], Iterable[Any]]) -> Callable[[Any], Iterable[Any]]:
    """Say it when the event is set, so that a watcher sees what was said before: of two states it sees the last."""

    def say_then(request: Any) -> Iterable[Any]:
        event.wait(20)
        return say(request)

    return say_then


def change(kind: str, *ids: int, token: bytes = b"", code: int = 0) -> Any:
    response = messages.ListenResponse()
    response.target_change.target_change_type = ["NO_CHANGE", "ADD", "REMOVE", "CURRENT", "RESET"].index(kind)
    response.target_change.target_ids.extend(ids)
    response.target_change.resume_token = token
    response.target_change.read_time.seconds = 1
    response.target_change.cause.code = code
    return response


def document(id: int, number: int, name: str = "a") -> Any:
    response = messages.ListenResponse()
    response.document_change.document.name = f"projects/demo-scripted/databases/(default)/documents/c/{name}"
    response.document_change.document.fields["n"].integer_value = number
    response.document_change.document.update_time.seconds = number
    response.document_change.target_ids.append(id)
    return response


def tells(number: int, *, token: bytes = b"", names: Sequence[str] = ("a",)) -> Callable[[Any], Iterable[Any]]:
    """Answer a request for a target by documents that have this number."""

    def say(request: Any) -> Iterable[Any]:
        id = request.add_target.target_id
        if not id:  # an old target is taken out
            return
        for name in names:
            yield document(id, number, name)
        yield change("CURRENT", id, token=token)
        yield change("NO_CHANGE", token=token)

    return say
