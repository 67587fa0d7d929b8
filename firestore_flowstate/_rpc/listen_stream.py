"""The streams of Listen of one process, each for up to 100 targets, opened again for as long as somebody watches.

A stream has no deadline: it ends with its last target, or with its channel.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

import grpc  # type: ignore[import-untyped]  # grpcio has no types of its own
from google.protobuf.message import DecodeError

from .channel import Channel, routing
from .database import Metadata
from .deadline import monotonic, sleep
from .listen_check import ListenCheck
from .loop_thread import call_threadsafe
from .messages import ListenRequest, ListenResponse
from .outcome import STORE_CLOSED, CallFailed, read_again
from .watched import Watched

MAX_TARGETS: Final = 100  # what Firestore's own clients put on one stream at most

_FIRST_PAUSE: Final = 0.1  # seconds before the stream is opened again; each further pause is twice as long
_LONGEST_PAUSE: Final = 2.0  # seconds: a server that comes back is noticed after that time at most
_HEALTHY_SECONDS: Final = 10.0  # after which a failure does not count as a repetition of the one before
_KINDS: Final = ("NO_CHANGE", "ADD", "REMOVE", "CURRENT", "RESET")


class ListenStream:
    """A stream of Listen on a channel. It is made and used on the channel's loop.

    Args:
        channel: The channel to call over.
        database: The resource name of the database.
        metadata: The metadata of the call.
        check: Compares what an emulator tells with what is stored; None: the server is Firestore, which is believed.
        ended: Called with this object when it has ended for good.
    """

    def __init__(
        self,
        channel: Channel,
        *,
        database: str,
        metadata: Metadata,
        check: ListenCheck | None,
        ended: Callable[[ListenStream], None],
    ) -> None:
        self._channel = channel
        self._database = database
        self._metadata = metadata
        self._check = check
        self._targets: dict[int, Watched] = {}
        self._ids: dict[Watched, int] = {}
        self._last_id = 0
        self._requests: _Requests | None = None
        self._is_ending = False
        self.loop = asyncio.get_running_loop()
        self._task = self.loop.create_task(self._run())
        self._task.add_done_callback(lambda _: ended(self))

    @property
    def has_room(self) -> bool:
        """Whether it takes another target."""
        return not self._is_ending and not self._task.done() and len(self._targets) < MAX_TARGETS

    def add(self, watched: Watched) -> None:
        """Watch a target from now on."""
        watched.is_lost = False
        self._put(watched)
        if self._requests is not None:
            self._requests.put(self._adding(watched))

    def remove(self, watched: Watched) -> None:
        """Watch a target no more. The stream ends with its last target."""
        id = self._take_out(watched)
        if id is not None and self._requests is not None:
            self._requests.put(self._removing(id))
        if not self._targets:
            self._is_ending = True
            self._task.cancel()

    def end(self, failure: CallFailed) -> None:
        """End the stream, and the watching of all its targets with this failure."""
        self._is_ending = True
        for watched in self._forget_all():
            watched.fail(failure)
        self._task.cancel()

    async def _run(self) -> None:
        pause = _FIRST_PAUSE
        try:
            while self._targets:
                began = monotonic()
                failure = await self._listen()
                if self._channel.is_closed:
                    return
                if monotonic() - began > _HEALTHY_SECONDS:
                    pause = _FIRST_PAUSE
                if failure is not None and not read_again(failure) and not self._forget_tokens():
                    for watched in self._forget_all():
                        watched.fail(failure)
                    return
                for watched in self._ids:
                    watched.note(failure or CallFailed("UNAVAILABLE", "the server has ended the stream"))
                await sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  # jitter is not a secret
                pause = min(2 * pause, _LONGEST_PAUSE)
        finally:
            for watched in self._forget_all():
                watched.lose()

    async def _listen(self) -> CallFailed | None:
        """Open the stream and take what it sends until it ends; return how it failed."""
        requests = self._requests = _Requests()
        for watched in list(self._ids):
            self._take_out(watched)
            self._put(watched)
            requests.put(self._adding(watched))
        listening = self._failure_of(requests)
        try:
            return await (listening if self._check is None else self._checked(listening, self._check))
        finally:
            self._requests = None
            requests.close()

    async def _failure_of(self, requests: _Requests) -> CallFailed | None:
        # It may be a task, which must return its failure: a loop that ends would print one that is raised.
        try:
            await self._channel.listen(requests, self._take, metadata=self._metadata)
        except CallFailed as failure:
            return failure
        return None

    async def _checked(
        self, listening: Coroutine[Any, Any, CallFailed | None], check: ListenCheck
    ) -> CallFailed | None:
        """Await the end of the stream, or end it as soon as its check finds that something is missing."""
        stream = self.loop.create_task(listening)
        missing = self.loop.create_task(check.find_missing(lambda: self._ids))
        try:
            await asyncio.wait((stream, missing), return_when=asyncio.FIRST_COMPLETED)
            if stream.done():
                return await stream
            self._forget_tokens()  # with them the server would go on from what it takes to be known
            return missing.result()
        finally:
            stream.cancel()
            missing.cancel()
            await asyncio.gather(stream, missing, return_exceptions=True)

    def _take(self, message: bytes) -> None:
        try:
            response = ListenResponse.FromString(message)
        except DecodeError as error:
            # Seen from a server that was killed. The next stream goes on from what is known.
            raise CallFailed("UNAVAILABLE", f"Listen sent what cannot be read: {error}") from error
        kind = response.WhichOneof("response_type")
        if kind == "target_change":
            self._take_change(response.target_change)
        elif kind == "document_change":
            change = response.document_change
            for watched in self._of(change.target_ids):
                watched.set(change.document)
            for watched in self._of(change.removed_target_ids):
                watched.remove(change.document.name)
        elif kind in ("document_delete", "document_remove"):
            gone = getattr(response, kind)
            for watched in self._of(gone.removed_target_ids):
                watched.remove(gone.document)
        elif kind == "filter":
            for watched in self._of([response.filter.target_id]):
                if watched.size != response.filter.count:  # a document has gone, and the server did not say which
                    self._ask_anew(watched)

    def _take_change(self, change: Any) -> None:
        # No ids: the change is for all targets. Ids may be of old targets alone, and then the change is for none.
        meant = self._of(change.target_ids) if change.target_ids else list(self._ids)
        kind = _KINDS[change.target_change_type]
        if kind == "REMOVE":
            failure = CallFailed(_code(change.cause.code), change.cause.message) if change.cause.code else None
            for watched in meant:
                self._removed(watched, failure)
            return
        for watched in meant:
            if kind == "RESET":
                watched.reset()
            if kind == "CURRENT":
                watched.current()
            # A token for all targets holds only for those that are current: others lack documents from before it.
            if change.resume_token and (change.target_ids or watched.is_current):
                watched.token = change.resume_token
        if kind == "NO_CHANGE" and not change.target_ids and change.HasField("read_time"):
            # By Listen's protocol this alone says that what was sent for all targets is of one moment.
            self._publish()

    def _publish(self) -> None:
        """Show each watcher what has changed, all its targets at once; remove the targets of watchers that are gone."""
        changed = {watched.notify for watched in list(self._ids) if watched.show()}
        gone = {notify for notify in changed if not notify()}
        for watched in [watched for watched in self._ids if watched.notify in gone]:
            self.remove(watched)

    def _removed(self, watched: Watched, failure: CallFailed | None) -> None:
        """Ask anew for a target that the server has removed, or end the watching of it."""
        if failure is not None:
            watched.note(failure)
        if watched.token or (failure is not None and read_again(failure)):
            self._ask_anew(watched)  # its token may have expired
            return
        self._take_out(watched)
        watched.fail(failure or CallFailed("UNKNOWN", "the server has removed the target without a cause"))

    def _ask_anew(self, watched: Watched) -> None:
        old = self._take_out(watched)
        watched.token = b""
        self._put(watched)
        if old is not None and self._requests is not None:
            self._requests.put(self._removing(old))
        asked, watched.asked_anew = watched.asked_anew, monotonic()
        if watched.asked_anew - asked > _HEALTHY_SECONDS:
            watched.anew = 0
        pause = min(_FIRST_PAUSE * 2**watched.anew, _LONGEST_PAUSE) if watched.anew else 0
        watched.anew += 1
        self.loop.call_later(pause, self._add_again, watched, self._ids[watched])

    def _add_again(self, watched: Watched, id: int) -> None:
        if self._requests is not None and self._ids.get(watched) == id:  # otherwise a new stream has asked for it
            self._requests.put(self._adding(watched))

    def _forget_tokens(self) -> bool:
        """Let every target begin anew; return whether one had a token, which may be why the server refused."""
        had = any(watched.token for watched in self._ids)
        for watched in self._ids:
            watched.token = b""
        return had

    def _put(self, watched: Watched) -> None:
        self._last_id += 1  # ids are never used again: the server may still send changes of an old target
        self._targets[self._last_id] = watched
        self._ids[watched] = self._last_id
        watched.begin()

    def _take_out(self, watched: Watched) -> int | None:
        id = self._ids.pop(watched, None)
        if id is not None:
            self._targets.pop(id, None)
        return id

    def _forget_all(self) -> list[Watched]:
        watched = list(self._ids)
        self._ids.clear()
        self._targets.clear()
        return watched

    def _of(self, ids: Any) -> list[Watched]:
        return [self._targets[id] for id in ids if id in self._targets]

    def _adding(self, watched: Watched) -> bytes:
        request = ListenRequest(database=self._database, add_target=watched.target)
        request.add_target.target_id = self._ids[watched]
        if watched.token:
            request.add_target.resume_token = watched.token
        serialized: bytes = request.SerializeToString()
        return serialized

    def _removing(self, id: int) -> bytes:
        serialized: bytes = ListenRequest(database=self._database, remove_target=id).SerializeToString()
        return serialized


class _Requests:
    """The requests of a stream, as grpc takes them. Not a generator, which a loop that ends would have to close."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()

    def put(self, request: bytes) -> None:
        self._queue.put_nowait(request)

    def close(self) -> None:
        """End the requests: otherwise grpc's task that waits for the next one outlives the stream."""
        self._queue.put_nowait(None)

    def __aiter__(self) -> _Requests:
        return self

    async def __anext__(self) -> bytes:
        request = await self._queue.get()
        if request is None:
            raise StopAsyncIteration
        return request


def _code(number: int) -> str:
    """Return the name of a status: https://grpc.io/docs/guides/status-codes/."""
    return next((code.name for code in grpc.StatusCode if code.value[0] == number), "UNKNOWN")


class Streams:
    """The streams of each event loop, each with room for many targets.

    Args:
        database: The resource name of the database.
        metadata: The metadata that every call carries.
        is_emulator: Whether the server is an emulator, whose streams are checked; see `ListenCheck`.
    """

    def __init__(self, database: str, metadata: Metadata, *, is_emulator: bool) -> None:
        self._database = database
        self._is_emulator = is_emulator
        self._metadata = (*metadata, routing("database", database))
        self._by_loop: dict[asyncio.AbstractEventLoop, list[ListenStream]] = {}

    def add(self, channel: Channel, watched: Watched) -> ListenStream:
        """Put a target on the first stream of the running loop that has room for it, or on a new one."""
        streams = self._by_loop.setdefault(asyncio.get_running_loop(), [])
        stream = next((stream for stream in streams if stream.has_room), None)
        if stream is None:
            database, metadata = self._database, self._metadata
            check = ListenCheck(channel, database=database, metadata=metadata) if self._is_emulator else None
            stream = ListenStream(channel, database=database, metadata=metadata, check=check, ended=self._ended)
            streams.append(stream)
        stream.add(watched)
        return stream

    def drop(self, loop: asyncio.AbstractEventLoop, watched: Watched) -> None:
        """Take a target off whichever stream of a loop it is on; to be called on that loop.

        Its watcher is told that it has lost its stream: it may wait for that stream by now.
        """
        for stream in list(self._by_loop.get(loop, [])):
            stream.remove(watched)
        watched.lose()

    def loops(self) -> list[asyncio.AbstractEventLoop]:
        """Return the loops that have streams. May be called on any thread."""
        return list(self._by_loop)

    def end(self, loop: asyncio.AbstractEventLoop) -> None:
        """End the streams of a loop for good; to be called on it."""
        for stream in list(self._by_loop.get(loop, [])):
            stream.end(CallFailed("CANCELLED", STORE_CLOSED))

    def _ended(self, stream: ListenStream) -> None:
        streams = self._by_loop.get(stream.loop, [])
        if stream in streams:
            streams.remove(stream)
        if not streams:
            self._by_loop.pop(stream.loop, None)


def taking_off(stream: ListenStream, watched: Watched) -> Callable[[], object]:
    """Return a function that takes a target off its stream soon. The garbage collector may call it, on any thread."""
    return partial(call_threadsafe, stream.loop, partial(stream.remove, watched))
