"""What keeps grpc usable on both sides of a fork.

grpc.aio cannot be used in a process that was forked while any grpc.aio channel was open: calls of the child hang or
end it with SIGSEGV, whatever GRPC_ENABLE_FORK_SUPPORT says. When the last channel is gone, grpc ends all its threads
within some milliseconds, and a fork after that is clean. So each fork first closes our channels; parent and child
connect again when they next call. Calls under way get half a second to end. Then they fail like calls whose
connection broke, and are tried again.

A process has one grpc and one set of fork handlers, which cannot be removed. So this module has state, as
`_gc_pause` has and no other.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Protocol

from .deadline import monotonic

_THREADS: Final = Path("/proc/self/task")
_OF_GRPC: Final = ("event_engine", "grpc_", "lifeguard", "timer_manager")
_OF_GRPC_AIO: Final = "_poll_wrapper"  # in the name that Python gives grpc.aio's thread
_LOCK_SECONDS: Final = 5.0  # for which a fork waits for imports and for channels that are being opened
_QUIET_SECONDS: Final = 1.0  # for which a fork waits for grpc's threads after a channel of ours was closed: it takes
# milliseconds, but on a machine whose processors five times as many threads want, 0.25 s has not been enough
_COLLECTED_SECONDS: Final = 0.25  # for which it waits after a collection of garbage, if no channel of ours was closed
_PATIENCE_SECONDS: Final = 0.02  # for which it waits for them in any case: other code's channels may be closing


class Quiescent(Protocol):
    """Something that can close its channels before a fork."""

    def quiesce(self) -> None:
        """Close every channel and drop every reference to one; the next call opens another."""


class _Fork:
    """The handlers of forks and what they know. The one instance is `_FORK`."""

    def __init__(self) -> None:
        self.users: weakref.WeakSet[Quiescent] = weakref.WeakSet()
        self.lock = threading.Lock()  # held while forks must wait, and from before a fork until after it
        self.locked = False
        self.quiet_at = 0.0  # on the monotonic clock: until then, threads of grpc may be ending
        self.spoiled: str | None = None  # why grpc.aio cannot be used in this process
        self.spoils: str | None = None  # why it will not be usable in the child of the fork under way
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self.before, after_in_parent=self.in_parent, after_in_child=self.in_child)

    def before(self) -> None:
        # If a thread hangs that holds the lock, the fork goes on without it, as it would without this package.
        self.locked = self.lock.acquire(timeout=_LOCK_SECONDS)
        for user in list(self.users):
            user.quiesce()
        patience = monotonic() + _PATIENCE_SECONDS
        after_collecting = _QUIET_SECONDS if self.quiet_at > monotonic() else _COLLECTED_SECONDS
        self.spoils = _what_runs(until=max(self.quiet_at, patience)) if "grpc" in sys.modules else None
        if self.spoils is not None:
            gc.collect()  # before Python 3.11 a cancelled call of grpc.aio is in a cycle, and keeps its channel
            self.spoils = _what_runs(until=monotonic() + after_collecting)

    def in_parent(self) -> None:
        if self.locked:
            self.lock.release()

    def in_child(self) -> None:
        self.lock = threading.Lock()
        self.users = weakref.WeakSet()
        self.spoiled = self.spoiled or self.spoils


_FORK: Final = _Fork()


@contextmanager
def held_off() -> Iterator[None]:
    """Let no fork begin in the block, which imports modules.

    A child that was forked meanwhile would find the lock of an import taken, and wait for it for ever.
    """
    with _FORK.lock:
        yield


@contextmanager
def opening(user: Quiescent) -> Iterator[None]:
    """Let no fork begin in the block, which opens channels; from then on ask `user` to close them before each fork."""
    with _FORK.lock:
        _FORK.users.add(user)
        yield


def why_spoiled() -> str | None:
    """Return why this process, as the child of a fork, cannot use grpc.aio; None if it can."""
    return _FORK.spoiled


def closed(*, within: float = 0.0) -> None:
    """Note that channels of grpc have been closed, so that its threads are about to end: the next fork waits for that.

    Args:
        within: How many seconds they may take longer, for a try to connect that grpc does not break off.
    """
    _FORK.quiet_at = max(_FORK.quiet_at, monotonic() + within + _QUIET_SECONDS)


def _what_runs(*, until: float) -> str | None:
    """Wait until grpc's threads have ended; return why not, if some that break grpc in the child run at that time."""
    while True:
        of_aio, of_core = _aio_runs(), _core_runs()
        if not (of_aio or of_core) or monotonic() >= until:
            break
        time.sleep(0.001)
    if of_aio:
        return "a channel of grpc.aio was open"
    # With fork support grpc restarts its threads in the child, but not those of grpc.aio. They are waited for even so,
    # since a child hangs now and then if they were about to end in the parent.
    if of_core and not _supports_forks():
        return "a channel of grpc was open without GRPC_ENABLE_FORK_SUPPORT=1 in the environment"
    return None


def _aio_runs() -> bool:
    return any(_OF_GRPC_AIO in thread.name for thread in threading.enumerate())


def _core_runs() -> bool:
    for name in _THREADS.glob("*/comm"):  # on Linux alone: elsewhere a process sees no threads but Python's
        with suppress(OSError):  # the thread has just ended
            if name.read_text().startswith(_OF_GRPC):
                return True
    return False


def _supports_forks() -> bool:
    from grpc._cython import cygrpc  # type: ignore[import-untyped]  # grpcio has no types of its own

    return bool(cygrpc.is_fork_support_enabled())
