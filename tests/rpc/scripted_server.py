"""A real grpc server in place of Firestore, which answers as a test says."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
from typing_extensions import Self

from firestore_flowstate._rpc.listen_check import CHECK_REASON

Answer = Callable[[bytes, grpc.ServicerContext], Iterable[bytes]]
Stream = Callable[[Iterator[bytes], grpc.ServicerContext], Iterable[bytes]]
_STREAMED = ("BatchGetDocuments", "RunQuery", "RunAggregationQuery")


@dataclass
class Call:
    """A call that reached the server."""

    method: str
    request: bytes
    metadata: dict[str, str]
    seconds: float  # that the caller gave it


@dataclass
class ScriptedServer:
    """Answers each call by the next of its answers, and by the last of them for ever after.

    The reads by which a store checks what an emulator tells over Listen are answered by `check`, and are not noted.

    With a private key and certificate for 127.0.0.1, both in PEM, it speaks TLS.
    """

    certificate: tuple[bytes, bytes] | None = None
    host: str = ""
    calls: list[Call] = field(default_factory=list)
    checks: int = 0  # reads that check what Listen tells
    check: Answer = field(default_factory=lambda: status("UNIMPLEMENTED"))
    opened: int = 0  # streams of Listen
    _answers: list[Answer] = field(default_factory=list)
    _streams: list[Stream] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _opening: threading.Condition = field(default_factory=threading.Condition)
    _server: Any = None

    def __enter__(self) -> Self:
        self._server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.max_receive_message_length", -1)])
        self._server.add_generic_rpc_handlers((_Handler(self),))
        # `localhost` is two addresses, of which another program may have the second one's port.
        if self.certificate is None:
            port = self._server.add_insecure_port("127.0.0.1:0")
        else:
            port = self._server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([self.certificate]))
        self.host = f"127.0.0.1:{port}"
        self._server.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.stop(grace=None).wait()

    def listen(self, *streams: Stream) -> None:
        """Serve each stream of Listen by the next of these, and by the last of them for ever after."""
        self._streams = list(streams)

    def wait_for_streams(self, count: int, seconds: float) -> None:
        """Wait until so many streams of Listen were opened."""
        with self._opening:
            assert self._opening.wait_for(lambda: self.opened >= count, seconds)

    def wait_for_checks(self, count: int, seconds: float) -> None:
        """Wait until what Listen tells was checked so often."""
        with self._opening:
            assert self._opening.wait_for(lambda: self.checks >= count, seconds)

    def serve_stream(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterable[bytes]:
        with self._opening:
            stream = self._streams.pop(0) if len(self._streams) > 1 else self._streams[0]
            self.opened += 1
            self._opening.notify_all()
        return stream(requests, context)

    def answer(self, *answers: Answer) -> None:
        self._answers = list(answers)

    def serve(self, method: str, request: bytes, context: grpc.ServicerContext) -> Iterable[bytes]:
        if is_check(context):
            with self._opening:
                self.checks += 1
                self._opening.notify_all()
            return self.check(request, context)
        with self._lock:
            metadata: dict[str, str] = {}
            for key, value in context.invocation_metadata():
                if isinstance(value, str):  # values of the same key are joined, as HTTP has it
                    metadata[key] = f"{metadata[key]}, {value}" if key in metadata else value
            self.calls.append(Call(method, request, metadata, context.time_remaining()))
            answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return answer(request, context)


def is_check(context: grpc.ServicerContext) -> bool:
    """Return whether a call only checks what was told over Listen, as a store does if its server is an emulator."""
    return CHECK_REASON in context.invocation_metadata()


def when_over(context: grpc.ServicerContext, then: Callable[[], Any]) -> None:
    """Call it when a call has ended, or now if it has ended before its server came to read it."""
    if not context.add_callback(then):
        then()


def reply(*messages: Any) -> Answer:
    """Answer with these messages."""
    return lambda _request, _context: [message.SerializeToString() for message in messages]


def hanging(arrived: threading.Event, given_up: threading.Event | None = None) -> Answer:
    """Answer never. Tell when the call arrived, and when the caller has given it up."""

    def hang(_request: bytes, context: grpc.ServicerContext) -> Iterable[bytes]:
        arrived.set()
        while context.is_active():
            time.sleep(0.005)
        if given_up is not None:
            given_up.set()
        return iter(())

    return hang


def status(code: str, message: str = "said so", *, trailing: Sequence[tuple[str, bytes]] = ()) -> Answer:
    """Answer with this status."""

    def abort(_request: bytes, context: grpc.ServicerContext) -> Iterable[bytes]:
        context.set_trailing_metadata(tuple(trailing))
        context.abort(grpc.StatusCode[code], message)
        return ()

    return abort


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, server: ScriptedServer) -> None:
        self._server = server

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        method = details.method.rpartition("/")[2]
        if method == "Listen":
            return grpc.stream_stream_rpc_method_handler(self._server.serve_stream)
        if method in _STREAMED:
            return grpc.unary_stream_rpc_method_handler(
                lambda request, context: iter(self._server.serve(method, request, context))
            )
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: next(iter(self._server.serve(method, request, context)), b"")
        )
