"""A grpc channel to Firestore on one event loop. Bytes in, bytes out; grpc's exceptions end here."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterable, Callable
from contextlib import suppress
from typing import Any, Final
from urllib.parse import quote_plus

import grpc  # type: ignore[import-untyped]  # grpcio has no types of its own
import grpc.aio  # type: ignore[import-untyped]  # as above

from . import fork
from .database import Database, Metadata
from .deadline import sleep, timeout_for_grpc
from .outcome import CHANNEL_CLOSED, CallFailed

_SERVICE: Final = "/google.firestore.v1.Firestore/"
_UNARY: Final = ("Commit", "GetDocument")
_STREAMED: Final = ("BatchGetDocuments", "RunQuery", "RunAggregationQuery")
_STATUS_DETAILS: Final = "grpc-status-details-bin"
_CLOSING_SECONDS: Final = 0.5  # in which calls under way may end by themselves
_ENDING_SECONDS: Final = 0.01  # in which the ends of calls that were broken off come, if the processor is free

_OPTIONS: Final = (
    ("grpc.max_send_message_length", -1),  # no limit here: sizes are computed before anything is sent
    ("grpc.max_receive_message_length", -1),
    # The answer that a document is not there has its name in a header: 6 KiB, each byte of which may take three.
    ("grpc.max_metadata_size", 32 * 1024),
    ("grpc.absolute_max_metadata_size", 64 * 1024),
    # A server that comes back must be noticed within a call's timeout. By default grpc waits up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.use_local_subchannel_pool", 1),  # otherwise channels share connections, with their backoff and their loss
)
_CONNECT_SECONDS: Final = 5.0  # how long one try to connect may take
_CONNECT_SECONDS_HERE: Final = 1.0  # likewise for an emulator: grpc does not break a try off, and forks wait for it
_KEEPALIVE: Final = (
    ("grpc.keepalive_time_ms", 30_000),  # as in Google's client
    # A connection that has died silently, as while a Cloud Function was frozen, is given up within a call's timeout.
    ("grpc.keepalive_timeout_ms", 10_000),
)
_SIMPLE_NAME: Final = re.compile(r"[A-Za-z0-9_.~/()-]*")


class Channel:
    """The calls that this package makes, over one grpc channel. It is used on the event loop that it was made on.

    Args:
        channel: The channel of grpc.aio.
        owned: Whether `close` closes it: not that of a caller's client.
        connect_seconds: How long one try of it to connect may take.

    Attributes:
        is_closed: Whether it was closed, here or by whoever owns the grpc channel.
    """

    def __init__(self, channel: Any, *, owned: bool, connect_seconds: float = _CONNECT_SECONDS) -> None:
        self._channel = channel
        self._owned = owned
        self._connect_seconds = connect_seconds
        self._unary = {name: channel.unary_unary(_SERVICE + name) for name in _UNARY}
        self._streamed = {name: channel.unary_stream(_SERVICE + name) for name in _STREAMED}
        self._listen: Any = channel.stream_stream(_SERVICE + "Listen")
        self._streams: dict[object, Any] = {}
        self._calls = 0  # those under way, without streams of Listen
        self._has_broken_off = False  # a call or a stream
        self.is_closed = False

    async def call(self, name: str, request: bytes, *, metadata: Any, timeout: float) -> list[bytes]:
        """Return the messages that the server answers with: one, or those of its stream.

        Raises:
            CallFailed: The call did not succeed. It ends after `timeout` seconds at the latest.
        """
        # No variable here may hold an object of grpc. Whoever keeps an exception keeps its frames, with them the
        # channel, and an open channel keeps grpc from ending before a fork.
        if self.is_closed:
            raise CallFailed("UNAVAILABLE", CHANNEL_CLOSED)
        self._calls += 1
        try:
            if name in self._unary:
                return [await self._unary[name](request, timeout=timeout_for_grpc(timeout), metadata=metadata)]
            return await _all_of(self._streamed[name](request, timeout=timeout_for_grpc(timeout), metadata=metadata))
        except grpc.aio.AioRpcError as error:
            details = dict(error.trailing_metadata() or ()).get(_STATUS_DETAILS, b"")
            raise CallFailed(error.code().name, error.details() or "", details=details) from error.with_traceback(None)
        except grpc.aio.UsageError as error:  # the caller has closed the channel of the client passed
            self.is_closed = True
            raise CallFailed("UNAVAILABLE", CHANNEL_CLOSED) from error.with_traceback(None)
        except asyncio.CancelledError as error:
            self._has_broken_off = True
            if not self.is_closed or _cancelled_by_caller():
                error.__context__ = None  # Python 3.10 sets it to an error of grpc's, which keeps the channel
                raise error.with_traceback(None) from None
            raise CallFailed("CANCELLED", "the channel was closed during the call") from error.with_traceback(None)
        finally:
            self._calls -= 1

    async def listen(
        self, requests: AsyncIterable[bytes], take: Callable[[bytes], None], *, metadata: Metadata
    ) -> None:
        """Send the requests on a stream of Listen, and call `take` with each message until the server ends the stream.

        The stream has no deadline. Closing the channel ends it at once.

        Raises:
            CallFailed: The stream ended in an error.
        """
        if self.is_closed:
            raise CallFailed("UNAVAILABLE", CHANNEL_CLOSED)
        stop = object()
        try:
            self._streams[stop] = self._listen(requests, metadata=metadata)
            await _each_of(self._streams[stop], take)
        except grpc.aio.AioRpcError as error:
            raise CallFailed(error.code().name, error.details() or "") from error.with_traceback(None)
        except grpc.aio.UsageError as error:  # as in `call`
            self.is_closed = True
            raise CallFailed("UNAVAILABLE", CHANNEL_CLOSED) from error.with_traceback(None)
        except asyncio.CancelledError as error:
            self._has_broken_off = True
            if not self.is_closed or _cancelled_by_caller():
                error.__context__ = None  # as in `call`
                raise error.with_traceback(None) from None
            raise CallFailed("CANCELLED", CHANNEL_CLOSED) from error.with_traceback(None)
        finally:
            self._streams.pop(stop, None)

    async def close(self) -> None:
        """Close the channel and its connections, after at most 0.5 s in which calls under way may end.

        If a call was broken off, by whomever, this takes 10 ms more, in which grpc tells the loop of its end.
        A channel of the caller's client is left open.
        """
        self.is_closed = True
        for stream in list(self._streams.values()):
            stream.cancel()
            self._has_broken_off = True
        channel = self._let_go()
        if self._owned and channel is not None:
            await channel.close(_CLOSING_SECONDS)
            if self._has_broken_off or self._calls:
                # If the loop is closed before grpc has told it of their ends, the loop of others that reads them prints
                # an error.
                await sleep(_ENDING_SECONDS)

    def close_if_idle(self) -> bool:
        """Close the channel, on its own loop, if no call is under way; return whether none is.

        Unlike `close`, this leaves nothing for the loop to do.
        """
        if self._calls or self._streams:
            return False
        self.close_at_once()
        return True

    def close_at_once(self) -> None:
        """Close the channel, and break off its calls: on its own loop, or on any thread if that loop does not run."""
        self.is_closed = True
        channel = self._let_go()
        if self._owned and channel is not None:
            closing = channel.close(None)
            with suppress(StopIteration):  # driven by hand, without a loop: it gives calls no time, so awaits nothing
                closing.send(None)

    def _let_go(self) -> Any:
        channel, self._channel = self._channel, None
        if self._owned and channel is not None and _is_connecting(channel):
            fork.closed(within=self._connect_seconds)
        self._unary.clear()
        self._streamed.clear()
        self._streams.clear()
        self._listen = None
        return channel


def _is_connecting(channel: Any) -> bool:
    with suppress(Exception):  # whatever grpc finds wrong with the channel, it is about to be closed
        states = grpc.ChannelConnectivity
        return channel.get_state() in (states.CONNECTING, states.TRANSIENT_FAILURE)
    return False


async def _all_of(stream: Any) -> list[bytes]:
    try:
        return [message async for message in stream]
    except asyncio.CancelledError:
        stream.cancel()  # between two of its waits grpc overlooks a cancellation, and the call would go on
        raise
    finally:
        del stream  # as in `call`


async def _each_of(stream: Any, take: Callable[[bytes], None]) -> None:
    try:
        async for message in stream:
            take(message)
    finally:
        stream.cancel()  # as in `_all_of`. It does nothing if the stream has ended
        del stream


def open_channel(database: Database) -> Channel:
    """Return a channel of our own on the running loop. The connection is made by its first call."""
    if database.is_emulator:
        options = _OPTIONS + _trying_for(_CONNECT_SECONDS_HERE)
        channel = grpc.aio.insecure_channel(database.endpoint, options=options)
        return Channel(channel, owned=True, connect_seconds=_CONNECT_SECONDS_HERE)
    from .credentials import channel_credentials  # it imports google.auth, which production alone needs

    channel = grpc.aio.secure_channel(
        database.endpoint, channel_credentials(database), options=_OPTIONS + _trying_for(_CONNECT_SECONDS) + _KEEPALIVE
    )
    return Channel(channel, owned=True)


def open_channel_of(client: Any) -> Any | None:
    """Return the grpc.aio channel that the client has open; None if it has none, or is of another kind."""
    api = getattr(client, "_firestore_api_internal", None)  # the property without underscores would open one
    channel = getattr(getattr(api, "transport", None), "grpc_channel", None)
    return channel if isinstance(getattr(channel, "_loop", None), asyncio.AbstractEventLoop) else None


def _trying_for(seconds: float) -> tuple[tuple[str, int]]:
    return (("grpc.min_reconnect_backoff_ms", int(seconds * 1000)),)  # in spite of its name, the time for one try


def _cancelled_by_caller() -> bool:
    cancelling = getattr(asyncio.current_task(), "cancelling", None)  # new in Python 3.11
    return cancelling is not None and cancelling() > 0


def grpc_metadata(metadata: Metadata) -> Any:
    """Return metadata as an object of grpc.aio. The gain: grpc makes one of anything else, for each call."""
    return grpc.aio.Metadata(*metadata)


def routing(key: str, value: str) -> tuple[str, str]:
    """Return the header by which Google's front ends find the database; the generated client sends the same."""
    if _SIMPLE_NAME.fullmatch(value):  # quicker than quote_plus, which looks at each character in Python
        quoted = value.replace("(", "%28").replace(")", "%29")
    else:
        quoted = quote_plus(value, safe="/")
    return ("x-goog-request-params", f"{key}={quoted}")
