"""Calls that an operation makes at once: if one of them fails, the others end with it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Final

import grpc
import pytest

from firestore_flowstate import AccessDeniedError, CacheEntry, FlowStateSettings
from firestore_flowstate._document.payload import DocumentContext, Payloads
from firestore_flowstate._document.serialized import SerializedLayout
from firestore_flowstate._document.stored_values import PartRef, write_stored
from firestore_flowstate._document.version import Absent
from firestore_flowstate._own_fields import PAYLOAD
from firestore_flowstate._rpc.messages import (
    BatchGetDocumentsResponse,
    Document,
    RunAggregationQueryResponse,
    RunQueryResponse,
    Timestamp,
)
from tests.faults.cancelling import nothing_left, ours, until
from tests.faults.writes import Store, a_state, incompressible
from tests.rpc.scripted_server import Answer, ScriptedServer, reply, status

NOW: Final = Timestamp(seconds=1_700_000_000)


class Trouble:
    """Never answers the second call. Denies the first one once that has come, and all others at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls = 0
        self._second = threading.Event()
        self.given_up = threading.Event()

    def __call__(self, request: bytes, context: grpc.ServicerContext) -> Iterable[bytes]:
        with self._lock:
            self._calls += 1
            number = self._calls
        if number == 2:
            self._second.set()
            while context.is_active():
                time.sleep(0.005)
            self.given_up.set()
        elif number == 1:
            assert self._second.wait(10)
        return status("PERMISSION_DENIED")(request, context)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture
async def store(server: ScriptedServer) -> AsyncIterator[Store]:
    settings = FlowStateSettings(
        emulator_host=server.host, project="demo-scripted", shards=3, max_request_bytes=256 * 1024, compress_over=2**40
    )
    async with Store(settings) as store:
        yield store


async def _save_in_parts(store: Store) -> None:
    state = a_state("id")
    state.cache["large"] = CacheEntry(value=incompressible(3_000_000))
    await store.create("id", state)


def _root_of_many_parts() -> Answer:
    """Answer with a state whose input is in more parts than one read asks for."""
    root = Document(name="projects/demo-scripted/databases/(default)/documents/genkit-flows/id")
    context = DocumentContext(path="genkit-flows/id", payloads=Payloads(compress_over=2**40))
    SerializedLayout().write_state(root, a_state("id"), context, expected=Absent(), expire_at=None)
    write_stored(root.fields[PAYLOAD].map_value.fields["input"], PartRef("input", "part", 200, 5))
    return reply(root)


def _first_of(answer: object) -> list[Answer]:
    """Answer the query that goes first, which tells the time of the others, after what the emulator alone is asked."""
    return [reply(BatchGetDocumentsResponse(missing="any", read_time=NOW)), reply(answer)]


CALLS: Final[dict[str, tuple[Callable[[Store], Awaitable[object]], Callable[[], list[Answer]]]]] = {
    "list": (lambda store: store.list(), lambda: _first_of(RunQueryResponse(read_time=NOW))),
    "list_summaries": (
        lambda store: store.list_summaries(),
        lambda: _first_of(RunQueryResponse(read_time=NOW)),
    ),
    "count": (lambda store: store.count(), lambda: _first_of(RunAggregationQueryResponse(read_time=NOW))),
    "load in parts": (lambda store: store.load("id"), lambda: [_root_of_many_parts()]),
    "save in parts": (_save_in_parts, list),
}


@pytest.mark.parametrize(("call", "before"), CALLS.values(), ids=CALLS)
async def test_nothing_goes_on_after_an_error(
    server: ScriptedServer,
    store: Store,
    call: Callable[[Store], Awaitable[object]],
    before: Callable[[], list[Answer]],
) -> None:
    """The error comes at once, and what it made superfluous is cancelled, at the server too."""
    trouble = Trouble()
    server.answer(*before(), trouble)
    async with nothing_left(store):
        with pytest.raises(AccessDeniedError):
            await asyncio.wait_for(call(store), 10)
        assert [] == ours()
        await until(trouble.given_up.is_set)
