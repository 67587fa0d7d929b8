"""Watching in every form that a state is stored in: large, native, encrypted, sharded, and after an outage."""

from __future__ import annotations

import asyncio
import base64
import os
import random
import threading
import time
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any, cast

import pytest

from firestore_flowstate import UNSET, CacheEntry, FirestoreFlowStateStore, FlowState, FlowStateQuery, FlowStateSettings
from firestore_flowstate._operations import watching
from firestore_flowstate._operations.watching import StateWatch
from firestore_flowstate._rpc.link import Link
from firestore_flowstate._rpc.messages import Document
from firestore_flowstate._watch import Watch
from firestore_flowstate.emulator import start_emulator
from firestore_flowstate.testing import exactly
from firestore_flowstate.testing.conformance import WatchTests
from firestore_flowstate.testing.conformance.states import started
from firestore_flowstate.testing.conformance.watching import close, soon
from tests.rpc.tcp_proxy import TcpProxy
from tests.support.ports import Port

PARTS = 1_500_000  # characters, of which a document cannot hold so many
WHOLE = 300_000  # characters, which a document can hold
KEY = base64.b64encode(bytes(32)).decode()
FORMS: dict[str, dict[str, Any]] = {
    "serialized": {},
    "native": {"layout": "native"},
    "encrypted": {"keys": {"k": KEY}, "require_encryption": True},
    "sharded": {"shards": 3},
    "sharded and encrypted": {"shards": 3, "keys": {"k": KEY}},
}


def form(settings: FlowStateSettings, name: str, **changes: Any) -> FlowStateSettings:
    return FlowStateSettings(**{**settings.model_dump(), **FORMS[name], **changes})


def text(seed: object, size: int) -> str:
    """Return a text that no compression makes smaller than three quarters."""
    return base64.b64encode(random.Random(str(seed)).randbytes(size * 3 // 4)).decode()


def large(name: str, seed: object) -> FlowState:
    """Return a state that is in parts, but for the native layout, which has none."""
    state = started(flow_id="large")
    state.input = text(seed, WHOLE if name == "native" else PARTS)
    return state


@pytest.fixture(params=FORMS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class TestWatchInEachForm(WatchTests):
    @pytest.fixture
    async def store(self, name: str, flow_state_settings: FlowStateSettings) -> AsyncIterator[FirestoreFlowStateStore]:
        async with FirestoreFlowStateStore(form(flow_state_settings, name)) as store:
            yield store


@pytest.fixture
def proxy(flow_state_settings: FlowStateSettings) -> Iterator[TcpProxy]:
    proxy = TcpProxy(flow_state_settings.emulator_host or "")
    yield proxy
    proxy.close()


@pytest.mark.parametrize("bound", [True, False])
async def test_a_large_state_after_a_cut_connection(
    name: str, flow_state_settings: FlowStateSettings, proxy: TcpProxy, bound: bool
) -> None:
    """Whatever was written meanwhile, whole or a step, is there with all its parts when the connection is back."""
    other = FirestoreFlowStateStore(form(flow_state_settings, name))
    store = FirestoreFlowStateStore(form(flow_state_settings, name, emulator_host=proxy.host))
    if bound:
        await store.__aenter__()
    await other.save("large", large(name, "first"))
    watch, pages = store.watch("large"), store.watch_list()
    seen = [await soon(watch)]
    expected = [await other.load("large")]
    shown = [(await soon(pages))[0].step_count]
    for round in range(3):
        proxy.refuse()
        if round == 1:
            await other.save("large", large(name, "second"))
        await other.update("large", cache={f"step {round}": CacheEntry(value=text(round, 90_000))})
        proxy.listen()
        seen.append(await soon(watch))
        expected.append(await other.load("large"))
        shown.append((await soon(pages))[0].step_count)
    proxy.refuse()
    await other.delete("large")
    proxy.listen()
    seen.append(await soon(watch))
    last = await soon(pages)
    for each in (watch, pages):
        await close(each)
    await store.close()
    await other.close()

    assert exactly([*expected, None]) == exactly(seen)
    assert [state and state.version for state in expected] == [state and state.version for state in seen[:-1]]
    assert shown == ([0, 0, 0, 0] if name == "native" else [0, 1, 1, 2])
    assert [] == last


async def test_a_large_state_after_a_kill(name: str) -> None:
    """A server that comes back has lost it. One that is stored then is seen whole, and what comes after it too."""
    port = Port()
    emulator = await asyncio.to_thread(start_emulator, port=port.number, attach=False)
    try:
        settings = form(FlowStateSettings(emulator_host=emulator.host, project="demo-watches"), name)
        async with FirestoreFlowStateStore(settings) as store:
            await store.save("large", large(name, "before"))
            watch, pages = store.watch("large"), store.watch_list()
            seen = [await soon(watch)]
            shown = [len(await soon(pages))]
            await asyncio.to_thread(emulator.kill)
            emulator = await asyncio.to_thread(start_emulator, port=port.number, attach=False)
            seen.append(await soon(watch))
            shown.append(len(await soon(pages)))
            after = large(name, "after")
            await store.save("large", after)
            seen.append(await soon(watch))
            shown.append(len(await soon(pages)))
            version = await store.update("large", cache={"step": CacheEntry(value=text("step", 90_000))})
            last = await soon(watch)
            for each in (watch, pages):
                await close(each)
    finally:
        await asyncio.to_thread(emulator.stop)
        port.close()

    assert exactly([large(name, "before"), None, after]) == exactly(seen)
    assert [1, 0, 1] == shown
    assert last is not None
    assert (version, after.input) == (last.version, last.input)


async def test_a_large_state_that_is_rewritten_all_the_time(name: str, flow_state_settings: FlowStateSettings) -> None:
    """Each state that is seen is whole, none is older than one before, and the last one is the last."""
    store = FirestoreFlowStateStore(form(flow_state_settings, name))
    texts = {number: large(name, number).input for number in range(12)}
    await store.save("large", large(name, 0))
    watch = store.watch("large")
    await soon(watch)

    async def write() -> str:
        version = ""
        for number in texts:
            state = started(flow_id="large")
            state.input, state.number = texts[number], number
            await store.save("large", state)
            version = state.version or ""
        return version

    writing = asyncio.ensure_future(write())
    numbers: list[int] = []
    version: str | None = None
    while not numbers or numbers[-1] != max(texts):
        state = await soon(watch)
        assert state is not None
        number, version = (state.model_extra or {})["number"], state.version
        assert texts[number] == state.input
        numbers.append(number)
    last = await writing
    await close(watch)
    await store.close()

    assert last == version
    assert sorted(set(numbers)) == numbers


async def test_whoever_takes_long_holds_one_state(
    flow_state_settings: FlowStateSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many were written meanwhile, one document waits, and no part is read before the state is asked for."""
    calls: list[tuple[Link, str]] = []
    call = Link.call

    async def note(self: Link, name: str, *args: Any, **options: Any) -> list[bytes]:
        calls.append((self, name))
        return await call(self, name, *args, **options)

    monkeypatch.setattr(Link, "call", note)
    async with (
        FirestoreFlowStateStore(flow_state_settings) as other,
        FirestoreFlowStateStore(flow_state_settings) as store,
    ):
        await other.save("large", large("serialized", "first"))
        watch = store.watch("large")
        await soon(watch)
        link = store._connection._links[os.getpid()]
        calls.clear()
        for number in range(8):
            state = large("serialized", number)
            await other.save("large", state)
        source = cast("StateWatch", cast("Watch[Any]", watch)._source)
        [watched] = source._watching._watched
        end = time.monotonic() + 20
        while time.monotonic() < end and [state.updated_at] != [written(document) for document in watched.latest or ()]:  # noqa: ASYNC110  # a stream has no event
            await asyncio.sleep(0.01)
        held = (
            len(watched.latest or ()),
            watched.size,
            [len(documents or ()) for documents in source._watching._latest[1]],
        )
        before = [name for caller, name in calls if caller is link]
        seen = await soon(watch)
        after = [name for caller, name in calls if caller is link]
        await close(watch)

    assert (1, 1, [1]) == held
    assert [] == before
    assert ["BatchGetDocuments"] == after
    assert seen is not None
    assert state.version == seen.version


def written(document: Document) -> datetime:
    """Return when a document was written."""
    moment: datetime = document.update_time.ToDatetime(tzinfo=timezone.utc)
    return moment


def test_one_store_watches_on_any_thread(flow_state_settings: FlowStateSettings) -> None:
    """Each thread has a loop of its own, at once, while others come and go. The store is the same."""
    store = FirestoreFlowStateStore(flow_state_settings)
    seen: dict[int, list[Any]] = {}

    async def follow(number: int) -> None:
        watch = store.watch(f"id-{number}")
        seen[number] = [await soon(watch)]
        for value in range(3):
            state = started(flow_id=f"id-{number}")
            state.value = value
            await store.save(f"id-{number}", state)
            found = await soon(watch)
            seen[number].append((found.model_extra or {})["value"] if found is not None else None)
        if number % 2:
            await close(watch)  # others are left to their loop

    threads = [threading.Thread(target=asyncio.run, args=(follow(number),)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asyncio.run(store.close())

    assert {number: [None, 0, 1, 2] for number in range(8)} == seen


async def test_a_page_with_nan_is_yielded_once(flow_state_settings: FlowStateSettings) -> None:
    """NaN is not a change, also if the page is asked for again since expired states are on it."""
    async with FirestoreFlowStateStore(flow_state_settings) as store:
        state = started(flow_id="nan")
        state.ratio = float("nan")
        await store.save("nan", state)
        gone = started(flow_id="zz")
        gone.start_time += 1
        gone.operation.done = True
        await store.save("zz", gone, expire_after=timedelta(microseconds=1))
        watch = store.watch_list(FlowStateQuery(limit=1))
        page = await soon(watch)
        await store.update("nan", cache={"a": CacheEntry()})
        again = await soon(watch)
        with pytest.raises(asyncio.TimeoutError):
            # 11 s, since a watch asks for a page with an expired state again every 10 s
            await asyncio.wait_for(_next(watch), 11)
        await close(watch)

    assert ["nan"] == [summary.id for summary in page] == [summary.id for summary in again]


async def test_what_expires_on_a_page_with_an_expired_state_is_told_then(
    flow_state_settings: FlowStateSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a page is asked for again every 10 s, and also when the first of its states expires."""
    monkeypatch.setattr(watching, "_CROWDED_SECONDS", 3600.0)  # so that nothing else makes it ask again
    always = flow_state_settings.model_copy(update={"expire_when": "always"})
    async with FirestoreFlowStateStore(always) as store:

        async def put(id: str, start_time: int, expire_after: timedelta | None = None) -> None:
            state = started(start_time, flow_id=id)
            await store.save(id, state, expire_after=UNSET if expire_after is None else expire_after)

        await put("expired", 3, timedelta(microseconds=1))
        await put("stays", 1)
        for seconds in (2, 8, 32):  # a busy machine may see the first page too late
            await put("expires", 2, timedelta(seconds=seconds))
            watch = store.watch_list(FlowStateQuery(limit=2))
            page = await soon(watch)
            if len(page) == 2:
                break
            await close(watch)
        later = await asyncio.wait_for(_next(watch), seconds + 20)
        await close(watch)

    assert ["expires", "stays"] == [summary.id for summary in page]
    assert ["stays"] == [summary.id for summary in later]


async def _next(watch: AsyncIterator[Any]) -> Any:
    return await anext(watch)
