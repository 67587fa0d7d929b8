"""A real grpc server in front of the emulator, which notes the calls that come by and refuses those it is told to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, NamedTuple

import grpc
from typing_extensions import Self

from tests.rpc.scripted_server import is_check, when_over

_SERVICE: Final = "/google.firestore.v1.Firestore/"
_STREAMED: Final = ("BatchGetDocuments", "RunQuery", "RunAggregationQuery")


class Call(NamedTuple):
    """A call of a store."""

    method: str
    request: bytes


class Refusal(NamedTuple):
    """A status in place of an answer, after so many messages of it."""

    code: str
    text: str = "said so"
    after: int = 0


class Relay:
    """Passes calls on to `upstream`.

    The reads by which a store checks what the emulator tells over Listen are passed on, and are not noted.

    Attributes:
        host: ``127.0.0.1:PORT``, to connect to in place of `upstream`.
        calls: The calls so far, refused ones too.
        refusal: Gives the refusal of a call, or None to pass it on.
    """

    def __init__(self, upstream: str) -> None:
        self.calls: list[Call] = []
        self.refusal: Callable[[Call], Refusal | None] = lambda _: None
        self._channel = grpc.insecure_channel(upstream)
        self._server = grpc.server(ThreadPoolExecutor(32))
        self._server.add_generic_rpc_handlers((_Handler(self),))
        self.host = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.stop(grace=None).wait()
        self._channel.close()

    def methods(self) -> list[str]:
        """Return the methods called since the last time that this was asked."""
        calls, self.calls = self.calls, []
        return [call.method for call in calls]

    def refuse(self, code: str, text: str = "said so", *, only: str | None = None, after: int = 0) -> None:
        """Refuse every call of a method from now on, or of all methods."""
        refusal = Refusal(code, text, after)
        self.refusal = lambda call: refusal if only in (None, call.method) else None

    def pass_on(self, method: str, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """Note a call, and yield the messages of its answer, unless it is refused."""
        call = Call(method, request)
        self.calls.append(call)
        refusal = self.refusal(call)
        if refusal is None or refusal.after:
            for number, message in enumerate(self.answer(method, request, context)):
                if refusal is not None and number == refusal.after:
                    break
                yield message
        if refusal is not None:
            context.abort(grpc.StatusCode[refusal.code], refusal.text)

    def answer(self, method: str, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """Yield the messages of the server's answer."""
        seconds = min(context.time_remaining() or 60.0, 60.0)
        kind = self._channel.unary_stream if method in _STREAMED else self._channel.unary_unary
        try:
            answer = kind(_SERVICE + method)(request, metadata=_kept(context), timeout=seconds)
            yield from answer if method in _STREAMED else [answer]
        except grpc.RpcError as error:
            context.abort(error.code(), error.details())

    def listen(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """Yield what the server says on a stream of Listen."""

        def noted() -> Iterator[bytes]:
            with suppress(grpc.RpcError):  # they end with the stream
                for request in requests:
                    self.calls.append(Call("Listen", request))
                    yield request

        answer = self._channel.stream_stream(f"{_SERVICE}Listen")(noted(), metadata=_kept(context))
        when_over(context, answer.cancel)
        try:
            yield from answer
        except grpc.RpcError as error:
            context.abort(error.code(), error.details())


def _kept(context: grpc.ServicerContext) -> list[tuple[str, str | bytes]]:
    """Return the metadata of a call that the server needs."""
    kept = ("authorization", "google-cloud-resource-prefix")
    return [(key, value) for key, value in context.invocation_metadata() if key in kept]


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        method = details.method.rpartition("/")[2]

        def stream(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            if is_check(context):
                return self._relay.answer(method, request, context)
            return self._relay.pass_on(method, request, context)

        def unary(request: bytes, context: grpc.ServicerContext) -> Any:
            [message] = self._relay.pass_on(method, request, context)
            return message

        if method == "Listen":
            return grpc.stream_stream_rpc_method_handler(self._relay.listen)
        if method in _STREAMED:
            return grpc.unary_stream_rpc_method_handler(stream)
        return grpc.unary_unary_rpc_method_handler(unary)
