"""Every public method ends in time: with Firestore down, hung, and back again."""

from __future__ import annotations

import asyncio
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from datetime import timedelta

import pytest

from firestore_flowstate import (
    BackendError,
    CacheEntry,
    DeadlineError,
    FirestoreFlowStateStore,
    FlowResult,
    FlowState,
    FlowStateBatchError,
    FlowStateError,
    FlowStateQuery,
    FlowStateSettings,
    StoreUnavailableError,
)
from firestore_flowstate.backup import export_states
from firestore_flowstate.emulator import start_emulator
from tests.faults.methods import METHODS, Method, Store, uncovered
from tests.faults.relay import Call, Relay
from tests.faults.writes import a_state, incompressible
from tests.rpc.tcp_proxy import TcpProxy
from tests.support.ports import Port
from tests.support.timing import least_seconds

SECONDS = 1.0  # the timeout of each call
IN_TIME = 1.1 * SECONDS + 0.4  # seconds, of which 0.4 are those that a busy machine may keep a task waiting


async def errors_of(store: Store, timeout: float | None) -> dict[str, FlowStateError]:
    """Return the error that each method ends in, all called at once. Fail if one takes too long."""
    errors: dict[str, FlowStateError] = {}

    async def one(name: str, method: Method) -> float:
        began = time.monotonic()
        with pytest.raises((StoreUnavailableError, FlowStateBatchError)) as error:
            await method(store, name.replace(" ", "-"), timeout)
        errors[name] = error.value
        return time.monotonic() - began

    async def each() -> float:
        return max(await asyncio.gather(*(one(name, method) for name, method in METHODS.items())))

    assert await least_seconds(each, enough=IN_TIME) < IN_TIME
    return errors


def test_every_method_is_covered() -> None:
    """No public method is left out here."""
    assert set() == uncovered()


@pytest.mark.parametrize("given", ["call", "settings"])
@pytest.mark.parametrize("trouble", ["down", "hung"])
async def test_ends_in_time(troubled: Store, direct: Store, proxy: TcpProxy, given: str, trouble: str) -> None:
    """Each method fails within its timeout and 10%, of the call or the settings, if Firestore is down or hung."""
    for name in METHODS:
        await direct.save(name.replace(" ", "-"), a_state(name))
    await troubled.load("any")
    settings = troubled.settings.model_copy(update={"timeout": SECONDS if given == "settings" else 60.0})
    store = FirestoreFlowStateStore(settings)
    store._connection = troubled._connection
    if trouble == "down":
        proxy.refuse()
    else:
        proxy.hold()

    errors = await errors_of(store, SECONDS if given == "call" else None)
    assert {"edit", "load", "ping"} <= {name for name, error in errors.items() if isinstance(error, DeadlineError)}
    proxy.let_pass()


@pytest.mark.parametrize("trouble", ["nobody listens", "the name is unknown"])
async def test_never_connected(flow_state_settings: FlowStateSettings, trouble: str) -> None:
    """A store whose first call meets nobody fails in time too, and what it writes is known not to be stored."""
    with Port() as port:
        host = port.host if trouble == "nobody listens" else "no-such-host.invalid:8080"
        async with FirestoreFlowStateStore(flow_state_settings.model_copy(update={"emulator_host": host})) as store:
            errors = await errors_of(store, SECONDS)

    for name, error in errors.items():
        each = error.errors.values() if isinstance(error, FlowStateBatchError) else [error]
        assert not any(getattr(one, "outcome_unknown", False) for one in each), name


@pytest.mark.parametrize("trouble", ["down", "hung"])
async def test_leaving_an_edit_ends_in_time(troubled: Store, proxy: TcpProxy, trouble: str) -> None:
    """The timeout of an edit holds for its write as for its load."""
    ids = ["first", "second", "third"]
    edits = [troubled.edit(id, timeout=SECONDS) for id in ids]
    for id, edit in zip(ids, edits, strict=True):
        await troubled.save(id, a_state(id))
        state = await edit.__aenter__()
        state.cache["step"] = CacheEntry(value=1)
    proxy.refuse() if trouble == "down" else proxy.hold()

    async def leave() -> float:
        began = time.monotonic()
        with pytest.raises(StoreUnavailableError):
            await edits.pop().__aexit__(None, None, None)
        return time.monotonic() - began

    assert await least_seconds(leave, enough=IN_TIME) < IN_TIME
    proxy.let_pass()


async def test_waiting_for_a_turn_ends_in_time(troubled: Store, proxy: TcpProxy) -> None:
    """Who waits for another writer of the same process fails in its own time, not in the other's."""
    await troubled.save("id", a_state("id"))
    proxy.hold()
    patient = asyncio.ensure_future(troubled.modify("id", lambda state: None, timeout=60))
    await asyncio.sleep(0)

    async def wait() -> float:
        began = time.monotonic()
        half = SECONDS / 2
        for call in (troubled.modify("id", lambda state: None, timeout=half), troubled.update("id", timeout=half)):
            with pytest.raises(DeadlineError):
                await call
        return time.monotonic() - began

    assert await least_seconds(wait, enough=IN_TIME) < IN_TIME
    proxy.let_pass()
    assert isinstance(await patient, FlowState)


async def _gc(store: Store) -> object:
    return await store.gc()


async def _purge(store: Store) -> object:
    return await store.purge(older_than=timedelta(0))


async def _migrate(store: Store) -> object:
    return await store.migrate(Store(store.settings.model_copy(update={"shards": 2})))


async def _rewrap(store: Store) -> object:
    encrypting = Store(store.settings.model_copy(update={"keys": {"key": b64encode(b"k" * 32).decode()}}))
    encrypting._connection = store._connection
    return await encrypting.rewrap()


async def _iterate(store: Store) -> object:
    return [state async for state in store.iterate(FlowStateQuery(limit=5))]


async def _export(store: Store) -> object:
    return [line async for line in export_states(store)]


@pytest.mark.parametrize("method", [_gc, _purge, _migrate, _rewrap, _iterate, _export])
async def test_a_deadline_is_for_each_request_of_many(
    direct: Store,
    relayed: Store,
    relay: Relay,
    monkeypatch: pytest.MonkeyPatch,
    method: Callable[[Store], Awaitable[object]],
) -> None:
    """What goes through all states may take longer than the timeout, which each of its requests has for itself."""
    monkeypatch.setattr("firestore_flowstate._document.stored_values.INLINE_BYTES", 1_000)
    ids = [f"{number:02}" for number in range(40)]
    await direct.save_many({id: FlowState.start() for id in ids})
    in_a_part = {"step": CacheEntry(value=incompressible(2_000))}
    await asyncio.gather(*(direct.update(id, cache=in_a_part) for id in ids))
    passed = 0.0

    def take_a_second(call: Call) -> None:
        nonlocal passed
        passed += 1.0

    monkeypatch.setattr("firestore_flowstate._rpc.deadline.monotonic", lambda: time.monotonic() + passed)
    relay.refusal = take_a_second

    await method(relayed)
    assert passed > relayed.settings.timeout


async def test_a_deadline_of_purge_is_for_each_request_that_fills_a_page(
    flow_state_settings: FlowStateSettings, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By status, native documents are looked through until a page is full, however many requests that takes."""
    monkeypatch.setattr("firestore_flowstate._operations.streams._MOST", 4)
    monkeypatch.setattr("firestore_flowstate._operations.deleting._PAGE", 2)
    settings = flow_state_settings.model_copy(update={"layout": "native", "timeout": 20.0})
    failed = FlowState.start()
    failed.start_time = 1
    failed.operation.result = FlowResult(error="no")
    states = {f"{number:02}": FlowState.start() for number in range(40)}
    passed = 0.0

    def take_four_seconds(call: Call) -> None:
        nonlocal passed
        passed += 4.0

    async with Store(settings) as direct, Store(settings.model_copy(update={"emulator_host": relay.host})) as relayed:
        await direct.save_many({**states, "failed": failed})
        monkeypatch.setattr("firestore_flowstate._rpc.deadline.monotonic", lambda: time.monotonic() + passed)
        relay.refusal = take_four_seconds
        purged = await relayed.purge(FlowStateQuery(status="failed"), older_than=timedelta(0))

        assert purged == 1
        assert relay.methods().count("RunQuery") > 10
        assert states.keys() == (await direct.load_many([*states, "failed"])).keys()


async def test_the_same_store_outlives_a_crash_of_the_server() -> None:
    """After kill -9 and a start on the same port, with all data lost, each method of the same store works again."""
    with ExitStack() as stack:
        port = stack.enter_context(Port())
        emulator = await asyncio.to_thread(start_emulator, port=port.number, attach=False)
        stack.callback(emulator.stop)
        settings = FlowStateSettings(emulator_host=emulator.host, project="demo-crash", timeout=20.0)
        hopping = FirestoreFlowStateStore(settings)
        async with FirestoreFlowStateStore(settings) as bound:
            for store in (bound, hopping):
                await store.save("before", a_state("before"))
            emulator.kill()
            for store in (bound, hopping):
                with pytest.raises(StoreUnavailableError):
                    await store.save("between", a_state("between"), timeout=0.3)
            again = await asyncio.to_thread(start_emulator, port=port.number, attach=False)
            stack.callback(again.stop)
            for store in (bound, hopping):
                assert await store.load("before") is None
                await store.save("after", a_state("after"))
                assert await store.load("after") is not None
                ids = [name.replace(" ", "-") for name in METHODS]
                await store.save_many({id: a_state(id) for id in ids})
                calls = (method(store, id, None) for id, method in zip(ids, METHODS.values(), strict=True))
                outcomes = await asyncio.gather(*calls, return_exceptions=True)
                assert [] == [one for one in outcomes if isinstance(one, (BackendError, FlowStateBatchError))]
        await hopping.close()
