"""Faults: what happens to a connection, and what happens to the server."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import grpc

from tests.faults.commits import first_documents, whole_commits
from tests.rpc.tcp_proxy import TcpProxy

from .history import History, Trouble, now
from .plan import Fault, FaultKind

_POLL: Final = 0.01  # seconds between two looks at what other threads do
_LONGEST_WAIT: Final = 1.0  # seconds, for a fault to come also if everybody waits for an answer
_UNTIL_APPLIED: Final = 0.15  # seconds that the server may need for a commit
_DELAY: Final = 0.03  # seconds by which each chunk is late
_LATE: Final = frozenset({"hold", "delay"})  # faults after which requests arrive that were held up
_OWNER: Final = (("authorization", "Bearer owner"),)  # whom the emulator lets do everything


@dataclass
class Line:
    """A connection to the server, through a proxy of its own.

    Attributes:
        name: Its name.
        proxy: The proxy.
        turn: Whoever holds it decides what passes.
        counts: How many faults of which kind there have been.
    """

    name: str
    proxy: TcpProxy
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    counts: Counter[FaultKind] = field(default_factory=Counter)

    async def suffer(self, faults: Sequence[Fault], begun: Callable[[], int], history: History) -> None:
        """Let one fault after the other happen, each when as many operations have begun as it says."""
        for fault in faults:
            due, latest = begun() + fault.after, now() + _LONGEST_WAIT
            while begun() < due and now() < latest:  # noqa: ASYNC110
                await asyncio.sleep(_POLL)  # others begin them, on other threads
            async with self.turn:
                began = now()
                try:
                    await self._break(fault, history)
                finally:
                    self.proxy.let_pass()
                    if fault.kind != "repeat":  # which does no harm to what is under way
                        history.troubles.append(Trouble(self.name, began, now(), late=fault.kind in _LATE))
                    self.counts[fault.kind] += 1

    async def _break(self, fault: Fault, history: History) -> None:
        proxy = self.proxy
        if fault.kind == "cut":
            proxy.cut()
        elif fault.kind == "lose request":
            await self._at_next_commit(proxy.cut)
        elif fault.kind == "lose reply":
            await self._at_next_commit(proxy.hold_replies)
            await asyncio.sleep(min(fault.seconds, _UNTIL_APPLIED))
            proxy.cut()
        elif fault.kind == "swallow replies":
            proxy.swallow_replies()
            await asyncio.sleep(fault.seconds)
            proxy.cut()  # a stream with a gap in it cannot be read on
        elif fault.kind in ("hold", "hold replies", "hold and cut"):
            proxy.hold_replies() if fault.kind == "hold replies" else proxy.hold()
            await asyncio.sleep(fault.seconds)
            if fault.kind == "hold and cut":
                proxy.cut()
        elif fault.kind == "delay":
            proxy.delay(_DELAY)
            await asyncio.sleep(fault.seconds)
        elif fault.kind == "repeat":
            await self._repeat(fault.seconds, history)
        elif fault.kind == "refuse":
            proxy.refuse()
            try:
                await asyncio.sleep(fault.seconds)
            finally:
                proxy.listen()

    async def _repeat(self, seconds: float, history: History) -> None:
        """Send every commit of some time again after it, as no client would do, and a network might."""
        messages: list[bytes] = []
        self.proxy.on_request(lambda chunk: messages.extend(whole_commits(chunk)))
        try:
            await asyncio.sleep(seconds)
        finally:
            self.proxy.on_request(None)
        # Whoever is refused because its own copy was faster, is told so by a revision alone: deletions have none.
        await asyncio.sleep(2 * _UNTIL_APPLIED)
        async with grpc.aio.insecure_channel(self.proxy.upstream) as channel:
            commit = channel.unary_unary("/google.firestore.v1.Firestore/Commit")
            for message in messages:
                history.repeats.append((now(), message))
                with contextlib.suppress(grpc.RpcError):  # most are refused, as their precondition does not hold
                    await commit(message, metadata=_OWNER, timeout=seconds)

    async def _at_next_commit(self, action: Callable[[], None]) -> None:
        """Do something before the next commit is passed on. Wait for it a while."""
        done = threading.Event()

        def look(chunk: bytes) -> None:
            if not done.is_set() and first_documents(chunk):
                done.set()
                action()

        self.proxy.on_request(look)
        latest = now() + _LONGEST_WAIT
        try:
            while not done.is_set() and now() < latest:  # noqa: ASYNC110
                await asyncio.sleep(_POLL)  # set on a thread of the proxy
        finally:
            self.proxy.on_request(None)
