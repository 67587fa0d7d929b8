"""The stores for code without an event loop: every method blocks until it is done."""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from functools import partial, wraps
from types import TracebackType
from typing import Any, Concatenate, Final, Generic, ParamSpec, TypeVar

from ._rpc.loop_thread import LoopStoppedError, LoopThread
from ._waiting import Callbacks, RemoteTask
from .errors import FlowStateError, StoreUnavailableError, shown
from .firestore import FirestoreFlowStateStore
from .store import VersionedFlowStateStore

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")

_THREAD_NAME: Final = "firestore-flowstate-blocking"
_FREEZING_SECONDS: Final = 2.0  # after which the interpreter has surely frozen the thread


def _call(
    method: Callable[Concatenate[Any, _Parameters], Coroutine[Any, Any, _Result]], *, here: Collection[str] = ()
) -> Callable[Concatenate[SyncFlowStateStore, _Parameters], _Result]:
    """Return the blocking form of a method. It calls the method of the same name of the wrapped store.

    Args:
        method: The asynchronous method.
        here: Its parameters that are functions or iterables: they are called, or read, on the calling thread. What is
            passed to any other may be callable or an iterator too, such as a state of a class with ``__call__``.
    """
    _, *names = inspect.signature(method).parameters  # what is passed by position has a name too

    @wraps(method)
    def call(self: SyncFlowStateStore, /, *args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        callbacks = Callbacks()

        def passed(name: str, value: object) -> Any:
            return callbacks.fetch(value) if name in here else value

        with self._thread_for(method.__name__) as thread:
            positional = [passed(name, value) for name, value in zip(names, args, strict=False)]
            named = {name: passed(name, value) for name, value in kwargs.items()}
            returned = self._own(method)(*positional, *args[len(names) :], **named)
            if not inspect.isawaitable(returned):
                raise TypeError(f"{method.__name__} of the store that is wrapped is not asynchronous: call it as it is")
            result: _Result = callbacks.wait(thread, _coroutine(returned))
        return result

    return call


def _block(
    method: Callable[Concatenate[Any, _Parameters], AbstractAsyncContextManager[_Result]],
) -> Callable[Concatenate[SyncFlowStateStore, _Parameters], AbstractContextManager[_Result]]:
    """Return the blocking form of a method that returns an asynchronous context manager."""

    @wraps(method)
    def call(
        self: SyncFlowStateStore, /, *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> AbstractContextManager[_Result]:
        with self._thread_for(method.__name__):
            return self._inside(method.__name__, self._own(method)(*args, **kwargs))

    return call


def _iteration(
    method: Callable[Concatenate[Any, _Parameters], AsyncIterator[_Result]],
) -> Callable[Concatenate[SyncFlowStateStore, _Parameters], Iterator[_Result]]:
    """Return the blocking form of a method that returns an asynchronous iterator."""

    @wraps(method)
    def call(self: SyncFlowStateStore, /, *args: _Parameters.args, **kwargs: _Parameters.kwargs) -> Iterator[_Result]:
        with self._thread_for(method.__name__):
            return self._each(method.__name__, self._own(method)(*args, **kwargs))

    return call


def _coroutine(awaitable: Awaitable[_Result]) -> Coroutine[Any, Any, _Result]:
    """Return any awaitable as a coroutine, which a task takes alone."""

    async def wait() -> _Result:
        return await awaitable

    return awaitable if asyncio.iscoroutine(awaitable) else wait()


class SyncFlowStateStore:
    """Wraps a store for code that has no event loop; each method blocks its thread and raises the same errors.

    All calls run on one event loop, on a thread that starts with the first call, once per process. So the wrapper
    may be used from any number of threads, before and after forks, and one for the application is enough. Functions
    passed to a method are called on the thread that called the method.

    ``with SyncFlowStateStore(store)`` enters the wrapped store on that loop and closes both at the end. Within the
    block each call of a FirestoreFlowStateStore is spared the hop to another thread's loop::

        with SyncFlowStateStore(FirestoreFlowStateStore()) as store:
            store.save("order-17", FlowState.start(input="rivers"))

    On a thread whose event loop is running every method raises FlowStateError: await the wrapped store there.

    Args:
        store: The store to wrap. It may also be used by itself. It is closed with the wrapper.
    """

    def __init__(self, store: VersionedFlowStateStore) -> None:
        given: object = store
        if isinstance(given, (type, SyncFlowStateStore)) or not hasattr(given, "load"):
            raise TypeError(f"store is an asynchronous store, such as FirestoreFlowStateStore(), not {shown(given)}")
        self._store = store
        # By process id: a forked child has no thread but the one it makes, and must leave its parent's loop alone.
        self._threads: dict[int, LoopThread] = {}

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_threads": {}}  # a copy starts threads of its own, in whatever process it is

    def __repr__(self) -> str:
        return f"SyncFlowStateStore({self._store!r})"

    # Signatures, types and docstrings are those of the asynchronous methods; there is no second copy of them.
    save = _call(VersionedFlowStateStore.save)
    create = _call(VersionedFlowStateStore.create)
    load = _call(VersionedFlowStateStore.load)
    update = _call(VersionedFlowStateStore.update, here=["remove"])
    edit = _block(VersionedFlowStateStore.edit)
    modify = _call(VersionedFlowStateStore.modify, here=["change"])
    delete = _call(VersionedFlowStateStore.delete)
    list = _call(VersionedFlowStateStore.list)
    list_summaries = _call(VersionedFlowStateStore.list_summaries)
    count = _call(VersionedFlowStateStore.count)
    due = _call(VersionedFlowStateStore.due)
    watch = _iteration(VersionedFlowStateStore.watch)
    watch_list = _iteration(VersionedFlowStateStore.watch_list)
    iterate = _iteration(VersionedFlowStateStore.iterate)
    save_many = _call(VersionedFlowStateStore.save_many)
    load_many = _call(VersionedFlowStateStore.load_many, here=["ids"])
    delete_many = _call(VersionedFlowStateStore.delete_many, here=["ids"])

    # Only a store in Firestore has these methods: with another store they raise AttributeError.
    ping = _call(FirestoreFlowStateStore.ping)
    gc = _call(FirestoreFlowStateStore.gc)
    purge = _call(FirestoreFlowStateStore.purge, here=["progress"])
    migrate = _call(FirestoreFlowStateStore.migrate, here=["progress"])
    rewrap = _call(FirestoreFlowStateStore.rewrap, here=["progress"])

    def __enter__(self) -> SyncFlowStateStore:
        self._call_if_there("__aenter__")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._call_if_there("__aexit__", kind, error, traceback)
        finally:
            self.close()

    def close(self) -> None:
        """Close the wrapped store, if it can be closed, and end the thread. The next call starts another.

        Calls of other threads that are under way fail with StoreUnavailableError.
        """
        thread = self._threads.get(os.getpid())
        try:
            if thread is None or not thread.is_over:  # if it is, the process is ending, and the loop has ended
                self._call_if_there("close")
        finally:
            thread = self._threads.pop(os.getpid(), None)
            if thread is not None:
                thread.stop()

    def _call_if_there(self, name: str, *args: object) -> None:
        method = getattr(self._store, name, None)
        if method is not None:
            with self._thread_for(name) as thread:
                returned = method(*args)
                if inspect.isawaitable(returned):
                    Callbacks().wait(thread, _coroutine(returned))

    def _own(self, method: Callable[..., _Result]) -> Callable[..., _Result]:
        own: Callable[..., _Result] = getattr(self._store, method.__name__)
        return own

    @contextmanager
    def _thread_for(self, name: str) -> Iterator[LoopThread]:
        """Yield the thread of this process for a call of the method; raise a public error if it ends in the block."""
        _check_that_it_may_block(name)
        try:
            yield self._thread()
        except LoopStoppedError as stopped:
            thread = self._threads.get(os.getpid())
            if thread is not None and thread.is_over and threading.current_thread().daemon:
                # The process is ending, and the interpreter freezes this thread. An error would only be printed.
                time.sleep(_FREEZING_SECONDS)
            raise StoreUnavailableError(
                f"{name}: the store was closed by another thread, or the process was forked or is ending",
                outcome_unknown=stopped.started,
            ) from None

    def _thread(self) -> LoopThread:
        pid = os.getpid()
        thread = self._threads.get(pid)
        if thread is None:
            new = LoopThread(_THREAD_NAME)
            # Without a lock, which a child forked meanwhile would find locked for ever.
            thread = self._threads.setdefault(pid, new)
            if thread is not new:
                new.stop()
        return thread

    @contextmanager
    def _inside(self, name: str, manager: AbstractAsyncContextManager[_Result]) -> Iterator[_Result]:
        """Enter and leave the context manager on the loop. The block in between runs on the calling thread."""
        with self._thread_for(name) as thread:
            inside = _Entered(manager)
            task = RemoteTask(thread, inside.drop)
            try:
                value = task.step(inside.enter)
                try:
                    yield value
                except GeneratorExit:  # the block was dropped and not left: `end` leaves it, and does not wait for that
                    raise
                except BaseException as error:
                    _check_that_it_may_block(name)
                    if not task.step(partial(inside.leave, type(error), error, error.__traceback__)):
                        raise
                else:
                    _check_that_it_may_block(name)
                    task.step(partial(inside.leave, None, None, None))
            finally:
                task.end()

    def _each(self, name: str, iterator: AsyncIterator[_Result]) -> Iterator[_Result]:
        """Yield the items of the iterator, which is advanced on the loop."""
        with self._thread_for(name) as thread:
            task = RemoteTask(thread, getattr(iterator, "aclose", None))
            try:
                while True:
                    _check_that_it_may_block(name)
                    try:
                        item = task.step(iterator.__anext__)
                    except StopAsyncIteration:
                        return
                    yield item
            finally:
                task.end()


class _Entered(Generic[_Result]):
    """A context manager that is entered and left on the loop. Only there is it known whether it is entered now."""

    def __init__(self, manager: AbstractAsyncContextManager[_Result]) -> None:
        self._manager = manager
        self._is_entered = False

    async def enter(self) -> _Result:
        value = await self._manager.__aenter__()
        self._is_entered = True
        return value

    async def leave(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        self._is_entered = False
        return await self._manager.__aexit__(kind, error, traceback)

    async def drop(self) -> None:
        """Leave it with GeneratorExit if it is entered, as a generator that is dropped leaves the blocks in it."""
        if self._is_entered:
            await self.leave(GeneratorExit, GeneratorExit(), None)


def _check_that_it_may_block(name: str) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise FlowStateError(
        f"SyncFlowStateStore.{name} was called on a thread whose event loop is running, which it would block: await "
        "the store that it wraps, or call it in asyncio.to_thread"
    )
