"""A grpc channel to Firestore on one event loop. Bytes in, bytes out; grpc's exceptions end here."""

from __future__ import annotations

from typing import Any, Final

import grpc  # type: ignore[import-untyped]  # grpcio has no types of its own
import grpc.aio  # type: ignore[import-untyped]  # as above

from .outcome import CallFailed
from .target import Target

_SERVICE: Final = "/google.firestore.v1.Firestore/"
_UNARY: Final = ("Commit", "GetDocument")
_STREAMED: Final = ("BatchGetDocuments", "RunQuery", "RunAggregationQuery")
_STATUS_DETAILS: Final = "grpc-status-details-bin"
_OPTIONS: Final = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),  # a page of large states is longer than grpc's 4 MiB
    # A server that comes back must be noticed within a call's timeout; grpc alone waits up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.use_local_subchannel_pool", 1),  # or the channel inherits the backoff of one that was closed
)
_KEEPALIVE: Final = (
    ("grpc.keepalive_time_ms", 30_000),  # as Google's client has it
    # A connection that died silently, as they do under frozen functions, is given up within a call's timeout.
    ("grpc.keepalive_timeout_ms", 10_000),
)

Metadata = tuple[tuple[str, str], ...]


class Channel:
    """The calls this package makes, on one channel. To be used on the event loop that it was made on."""

    def __init__(self, channel: Any, *, owned: bool) -> None:
        self._channel = channel
        self._owned = owned
        self._unary = {name: channel.unary_unary(_SERVICE + name) for name in _UNARY}
        self._streamed = {name: channel.unary_stream(_SERVICE + name) for name in _STREAMED}

    async def call(self, name: str, request: bytes, *, metadata: Metadata, timeout: float) -> list[bytes]:
        """Return the messages that the server answers with: one, or those of its stream.

        Raises:
            CallFailed: Any end but success, after `timeout` seconds at the latest.
        """
        try:
            unary = self._unary.get(name)
            if unary is not None:
                return [await unary(request, timeout=timeout, metadata=metadata)]
            return [message async for message in self._streamed[name](request, timeout=timeout, metadata=metadata)]
        except grpc.aio.AioRpcError as error:
            details = dict(error.trailing_metadata() or ()).get(_STATUS_DETAILS, b"")
            raise CallFailed(error.code().name, error.details() or "", details=details) from error
        except grpc.aio.UsageError as error:
            raise CallFailed("UNAVAILABLE", "Channel is closed") from error

    async def close(self) -> None:
        """Close the channel and its connections; a channel of the caller's client is left open."""
        if self._owned:
            await self._channel.close()


def open_channel(target: Target) -> Channel:
    """Return a channel of our own on the running loop. The connection is made by its first call."""
    if target.is_emulator:
        return Channel(grpc.aio.insecure_channel(target.endpoint, options=_OPTIONS), owned=True)
    from google.cloud.firestore_v1.services.firestore.transports import FirestoreGrpcAsyncIOTransport

    universe = getattr(target.credentials, "universe_domain", "googleapis.com")
    host = target.endpoint or f"firestore.{universe}"
    return Channel(
        FirestoreGrpcAsyncIOTransport.create_channel(
            host if ":" in host else f"{host}:443", credentials=target.credentials, options=_OPTIONS + _KEEPALIVE
        ),
        owned=True,
    )
