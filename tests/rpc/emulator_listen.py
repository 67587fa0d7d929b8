"""Counts what the emulator loses of what it should tell over Listen, with Google's own client alone.

    python -m firestore_flowstate.emulator exec -- python -m tests.rpc.emulator_listen

First it watches documents, each of them written once at about the time when its watch begins: how many watches are
never told of that write? Then it watches many documents over one stream of Listen, and takes each off when it was told
of its write: how many streams fall silent before the last? `_rpc/listen_check.py` is there since neither count is zero.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final

from google.api_core.exceptions import GoogleAPICallError
from google.cloud import firestore
from google.cloud.firestore_v1.types import ListenRequest, Target

WATCHES: Final = 400  # each of one document
AT_ONCE: Final = 8  # watches that are open at the same time
STREAMS: Final = 24  # each a chance to fall silent
STREAMS_AT_ONCE: Final = 3  # streams that are open at the same time
TARGETS: Final = 300  # documents that a stream watches in all
TARGETS_AT_ONCE: Final = 16  # documents that a stream watches at the same time
AROUND: Final = 0.03  # seconds in which a watch begins
PATIENCE: Final = 8.0  # seconds after which nothing comes any more


def is_told(client: firestore.Client, number: int) -> bool:
    """Watch a document that is written meanwhile. Return whether the watch is told of the write."""
    reference = client.collection("watched").document(str(number))
    reference.set({"n": 0})
    told = threading.Event()

    def take(documents: list[Any], _changes: object, _at: object) -> None:
        if documents and documents[0].get("n") == 1:
            told.set()

    def write() -> None:
        time.sleep(random.uniform(0, AROUND))
        reference.set({"n": 1})

    writer = threading.Thread(target=write)
    writer.start()
    watch = reference.on_snapshot(take)
    writer.join()
    came = told.wait(PATIENCE)
    watch.unsubscribe()
    return came


class Stream:
    """A stream of Listen, whose targets are taken off when they were told of a write."""

    def __init__(self, client: firestore.Client, name: str) -> None:
        self._client = client
        self._collection = client.collection(name)
        self._requests: queue.Queue[ListenRequest | None] = queue.Queue()
        self._room = threading.Semaphore(TARGETS_AT_ONCE)
        self._open: set[int] = set()

    def falls_silent(self) -> bool:
        """Watch all documents, some at a time. Return whether the stream tells nothing more before the last."""
        threading.Thread(target=self._read, daemon=True).start()
        try:
            with ThreadPoolExecutor(TARGETS_AT_ONCE) as pool:
                for number in range(1, TARGETS + 1):
                    if not self._room.acquire(timeout=PATIENCE):
                        return True
                    pool.submit(self._watch, number)
            return not all(self._room.acquire(timeout=PATIENCE) for _ in range(TARGETS_AT_ONCE))
        finally:
            self._requests.put(None)

    def _watch(self, number: int) -> None:
        reference = self._collection.document(str(number))
        reference.set({"n": 0})
        name = f"{self._client._database_string}/documents/{'/'.join(reference._path)}"
        target = Target(target_id=number, documents=Target.DocumentsTarget(documents=[name]))
        self._open.add(number)
        self._requests.put(ListenRequest(database=self._client._database_string, add_target=target))
        time.sleep(random.uniform(0, AROUND))
        reference.set({"n": 1})

    def _read(self) -> None:
        with suppress(GoogleAPICallError):  # it could not be read, and is silent from now on
            for response in self._client._firestore_api.listen(
                iter(self._requests_until_none()), metadata=self._client._rpc_metadata
            ):
                change = response.document_change
                if change.document.fields and change.document.fields["n"].integer_value == 1:
                    self._take_off(change.target_ids)

    def _requests_until_none(self) -> Iterator[ListenRequest]:
        while (request := self._requests.get()) is not None:
            yield request

    def _take_off(self, numbers: Any) -> None:
        for number in self._open.intersection(numbers):
            self._open.discard(number)
            self._requests.put(ListenRequest(database=self._client._database_string, remove_target=number))
            self._room.release()


def main() -> None:
    """Print the counts."""
    client = firestore.Client(project="demo-listen")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        told = sum(pool.map(lambda number: is_told(client, number), range(WATCHES)))
    print(f"of {WATCHES} documents {WATCHES - told} were never told of the write")
    with ThreadPoolExecutor(STREAMS_AT_ONCE) as pool:
        silent = sum(pool.map(lambda number: Stream(client, f"stream-{number}").falls_silent(), range(STREAMS)))
    print(f"of {STREAMS} streams {silent} fell silent")


if __name__ == "__main__":
    main()
