"""The channels of a connection in one process: which call goes over which, who opens and who closes them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, Final

from ..errors import FlowStateError, StoreUnavailableError
from . import fork
from .channel import Channel, grpc_metadata, open_channel, open_channel_of, routing
from .concurrency import on_thread
from .database import Database
from .listen_stream import ListenStream, Streams, taking_off
from .loop_thread import LoopStoppedError, LoopThread, call_threadsafe
from .outcome import CHANNEL_CLOSED, CallFailed
from .watched import Watched

_LONGEST_ROUTE: Final = 256  # characters: each takes up to 12 bytes in a header, and servers take 8 KiB of headers
_QUIESCE_SECONDS: Final = 2.0  # in which other loops are to close their channels


class Link:
    """The channels to a database in the process that makes this object.

    Loops that are bound have channels of their own. The calls of all other loops go over that of a background thread.

    Args:
        database: The database to call.
        client: The client that the caller passed. The channel of an AsyncClient serves the loop that it belongs to.
    """

    def __init__(self, database: Database, *, client: Any = None) -> None:
        self.database = database
        self._metadata = database.metadata()
        self._client = client
        self._client_is_customized = False
        if client is not None:
            from .client import is_customized  # it imports google.cloud, as whoever made the client has done

            self._client_is_customized = is_customized(client)
        self._client_channel: tuple[Any, Channel] | None = None  # grpc's, and ours around it
        self._bound: dict[asyncio.AbstractEventLoop, Channel] = {}
        self._bindings: dict[asyncio.AbstractEventLoop, int] = {}
        self._background: tuple[LoopThread, Channel] | None = None
        self._in_background: set[object] = set()  # one object for each call under way over the background loop
        self._streams = Streams(database.name, self._metadata, is_emulator=database.is_emulator)
        self._database_metadata = grpc_metadata((*self._metadata, routing("database", database.name)))
        self._is_closed = False
        self._lock = threading.Lock()

    def metadata_of(self, key: str, value: str) -> Any:
        """Return the metadata of a call as an object of grpc.aio, with the header that `routing` makes.

        The generated client sends whole names, and with long ones servers refuse its calls by HTTP 431. All that the
        header is for is to find the database, so the database is sent in place of the name of something in it that is
        long, as it is for calls whose requests have the database as a field.

        The metadata of most calls is made once. If a client was passed it is made for each call, since the client's
        interceptors may change it.
        """
        if len(value) > _LONGEST_ROUTE:
            key, value = "database", self.database.name
        if key == "database" and self._client is None:
            return self._database_metadata
        return grpc_metadata((*self._metadata, routing(key, value)))

    def call(self, name: str, request: bytes, metadata: Any, timeout: float) -> Awaitable[list[bytes]]:
        """Return an awaitable of the messages that the server answers a call with.

        The call goes over the running loop's own channel if there is one, otherwise over that of the background loop.

        Raises:
            CallFailed: The call did not succeed.
            FlowStateError: This loop or process cannot call at all.
        """
        loop = asyncio.get_running_loop()
        channel = self._bound.get(loop) or self._channel_of(loop)
        if channel is not None:
            return channel.call(name, request, metadata=metadata, timeout=timeout)
        return self._call_counted(name, request, metadata=metadata, timeout=timeout)

    async def _call_counted(self, name: str, request: bytes, *, metadata: Any, timeout: float) -> list[bytes]:
        call = object()
        self._in_background.add(call)
        try:
            return await self._call_in_background(name, request, metadata=metadata, timeout=timeout)
        finally:
            self._in_background.discard(call)
            # A call that was under way at the close is tried again, which opens the background loop again. Nobody else
            # closes that.
            if self._is_closed and not self._in_background:
                await self._close_background()

    async def _call_in_background(self, name: str, request: bytes, *, metadata: Any, timeout: float) -> list[bytes]:
        background, channel = self._background or self._start_background()
        try:
            return await background.run(channel.call(name, request, metadata=metadata, timeout=timeout))
        except LoopStoppedError as stopped:
            # A handler of atexit is told what to do, and does not wait for its timeout (test_calls_at_exit). A daemon
            # thread goes on trying: it is about to be frozen, and its error would be printed (test_daemons_at_exit).
            if background.is_over and not threading.current_thread().daemon:
                raise StoreUnavailableError(
                    "the process is ending, and its connection to Firestore has ended: a handler of atexit that calls "
                    "a store must be registered after the store is imported",
                    outcome_unknown=stopped.started,
                ) from None
            raise CallFailed("CANCELLED" if stopped.started else "UNAVAILABLE", CHANNEL_CLOSED) from stopped

    async def watch(self, watched: Watched) -> Callable[[], object]:
        """Put a target on a stream of the running loop, or of the background loop; return what takes it off.

        Raises:
            FlowStateError: This loop or process cannot call at all.
        """
        loop = asyncio.get_running_loop()
        channel = self._channel_of(loop)
        if channel is not None:
            return taking_off(self._streams.add(channel, watched), watched)
        background, channel = self._background or self._start_background()

        async def add() -> ListenStream:
            return self._streams.add(channel, watched)

        try:
            stream = await background.run(add())
        except LoopStoppedError as stopped:
            raise CallFailed("UNAVAILABLE", CHANNEL_CLOSED) from stopped
        except asyncio.CancelledError:  # the target may be on a stream already
            call_threadsafe(background.loop, partial(self._streams.drop, background.loop, watched))
            raise
        return taking_off(stream, watched)

    def bind(self) -> None:
        """Open a channel on the running loop, over which its calls go from now on. Bindings are counted."""
        loop = asyncio.get_running_loop()
        self._forget_closed_loops()
        self._bindings[loop] = self._bindings.get(loop, 0) + 1
        try:
            self._channel_of(loop)
        except BaseException:
            self._count_off(loop)
            raise

    async def unbind(self) -> None:
        """Undo one `bind`. The last of a loop closes its channel; the last of all ends the background thread too.

        The streams of the loop end with its last binding, and all streams with the last of all. So do those over the
        channel of a client, which stays open.
        """
        loop = asyncio.get_running_loop()
        self._count_off(loop)
        is_last = loop not in self._bindings
        channel = self._bound.pop(loop, None) if is_last else None
        if is_last:
            self._streams.end(loop)
        try:
            if channel is not None:
                await channel.close()
        finally:
            if channel is not None:
                fork.closed()
            self._forget_closed_loops()
            if not self._bindings:
                self._end_streams()
                await self._close_background()

    def _end_streams(self) -> None:
        """End the streams of every loop, each on its own loop: at once here, elsewhere before what is done there next.

        Otherwise a stream would go on over the channel of a client, or its watcher would ask for another one as soon as
        its channel is closed.
        """
        here = asyncio.get_running_loop()
        for loop in self._streams.loops():
            if loop is here:
                self._streams.end(loop)
            else:
                call_threadsafe(loop, partial(self._streams.end, loop))

    def _count_off(self, loop: asyncio.AbstractEventLoop) -> None:
        left = self._bindings.pop(loop, 1) - 1
        if left > 0:
            self._bindings[loop] = left

    @property
    def is_open(self) -> bool:
        """Whether a channel is open that was opened here."""
        return self._background is not None or bool(self._bound)

    def check_usable(self) -> None:
        """Check that this process can call at all.

        Raises:
            StoreUnavailableError: The process is the child of a fork after which grpc cannot be used.
        """
        if (reason := fork.why_spoiled()) is not None:
            raise StoreUnavailableError(
                f"this process was forked while {reason}, after which it cannot call Firestore: close that channel "
                "before the fork, or start the process by spawn"
            )

    async def close(self) -> None:
        """Close every channel that was opened here, and end the background thread.

        A call that is under way and is tried again opens a background channel again, which the last such call closes.
        """
        self._is_closed = True
        self._bindings.clear()
        self._end_streams()
        here = asyncio.get_running_loop()
        elsewhere = []
        for loop, channel in self._pop_all():
            if loop is here:
                await channel.close()
            elif (closing := _close_on(loop, channel)) is not None:
                elsewhere.append((asyncio.wrap_future(closing), channel))
        if elsewhere:
            await asyncio.wait([closing for closing, _ in elsewhere], timeout=_QUIESCE_SECONDS)
        for _, channel in elsewhere:
            channel.close_at_once()  # if its loop has ended meanwhile
        await self._close_background()
        fork.closed()

    def quiesce(self) -> None:
        """Close every channel and drop every reference to one, from any thread; see `fork`."""
        if self.is_open:
            fork.closed()
        self._client_channel = None
        for loop, channel in self._pop_all():
            closing = None if _is_running_here(loop) else _close_on(loop, channel)
            if closing is not None:
                concurrent.futures.wait([closing], _QUIESCE_SECONDS)
            channel.close_at_once()
        background, self._background = self._background, None
        if background is not None:
            _end_background(*background)

    def _pop_all(self) -> Iterator[tuple[asyncio.AbstractEventLoop, Channel]]:
        """Take out and yield the channel of each bound loop. Loops on other threads may take out theirs meanwhile."""
        for loop in list(self._bound):
            if (channel := self._bound.pop(loop, None)) is not None:
                yield loop, channel

    def _channel_of(self, loop: asyncio.AbstractEventLoop) -> Channel | None:
        channel = self._bound.get(loop)
        if channel is not None:
            return channel
        if self._client is not None and (channel := self._channel_of_client(loop)) is not None:
            return channel
        if loop in self._bindings:
            with fork.opening(self):
                channel = self._bound[loop] = open_channel(self.database)
        return channel

    def _channel_of_client(self, loop: asyncio.AbstractEventLoop) -> Channel | None:
        theirs = open_channel_of(self._client)
        if theirs is not None and theirs._loop is loop:
            if self._client_channel is None or self._client_channel[0] is not theirs:
                self._client_channel = (theirs, Channel(theirs, owned=False))
            channel = self._client_channel[1]
            if self._client_is_customized or not channel.is_closed:
                return channel
        if self._client_is_customized:
            raise FlowStateError(
                "the client passed has a transport of its own, which is never made again elsewhere: use the store on "
                "the event loop that the transport belongs to, or pass a client without one"
            )
        return None

    def _start_background(self) -> tuple[LoopThread, Channel]:
        with fork.opening(self), self._lock:
            if self._background is None:
                thread = LoopThread("firestore-flowstate")

                async def open_here() -> Channel:
                    return open_channel(self.database)

                self._background = (thread, thread.wait(open_here()))
            return self._background

    def _forget_closed_loops(self) -> None:
        """Close the channels of loops that were closed while bound, so that they do not pile up."""
        for loop in list(self._bindings):
            if loop.is_closed():
                self._bindings.pop(loop, None)
                if (channel := self._bound.pop(loop, None)) is not None:
                    channel.close_at_once()
                    fork.closed()

    async def _close_background(self) -> None:
        with self._lock:
            background, self._background = self._background, None
        if background is not None:
            call_threadsafe(background[0].loop, partial(self._streams.end, background[0].loop))
            await asyncio.wrap_future(on_thread(partial(_end_background, *background)))
            fork.closed()


def _close_on(loop: asyncio.AbstractEventLoop, channel: Channel) -> concurrent.futures.Future[None] | None:
    """Close the channel on its loop; return a future of the end of that, or None if the loop does not run.

    While the loop runs, grpc lets a channel be closed on no other thread.
    """
    closing: concurrent.futures.Future[None] = concurrent.futures.Future()

    def start() -> None:
        if channel.close_if_idle():  # a loop that is about to end would leave a task pending, and say so
            closing.set_result(None)
            return
        task = loop.create_task(channel.close())
        task.add_done_callback(lambda _: closing.set_result(None))  # called too if the loop ends and cancels the task

    if loop.is_running():
        with suppress(RuntimeError):  # it was closed in between
            loop.call_soon_threadsafe(start)
            return closing
    channel.close_at_once()
    return None


def _end_background(thread: LoopThread, channel: Channel) -> None:
    with suppress(LoopStoppedError):
        thread.wait(channel.close())
    thread.stop()


def _is_running_here(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
