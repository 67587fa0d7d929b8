"""What a conflict tells, and many writers of one flow state at once, in one store, in several, in several processes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest

from firestore_flowstate import CacheEntry, FlowStateConflictError, FlowStateNotFoundError, FlowStateSettings
from firestore_flowstate._collection import local_lock
from firestore_flowstate._rpc.deadline import Deadline
from tests.faults.writes import (
    MARK,
    Store,
    a_state,
    adding,
    in_layout,
    others_compact,
    others_delete,
    others_delete_and_create,
    others_save,
    others_update,
)
from tests.support.meter import Bill, Meter, meter, metered

__all__ = ["meter", "metered"]  # fixtures

WRITERS: Final = 64
TURNS: Final = 16

Others = Callable[[Store, str], Awaitable[None]]
Write = Callable[[Store, str], Awaitable[object]]

WRITES: Final[dict[str, Write]] = {
    "save": lambda store, version: store.save("id", a_state("id"), if_version=version),
    "update": lambda store, version: store.update("id", cache={MARK: CacheEntry(value=1)}, if_version=version),
    "empty update": lambda store, version: store.update("id", if_version=version),
    "delete": lambda store, version: store.delete("id", if_version=version),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("others", [others_update, others_save, others_delete_and_create])
@pytest.mark.parametrize("layout", ["serialized", "native"])
async def test_a_conflict_tells_both_versions(direct: Store, layout: str, others: Others, write: Write) -> None:
    """It tells whose state it is, the version that was asked for and the one that is stored. Nothing is written."""
    store = in_layout(direct, layout)
    read = a_state("id")
    await store.save("id", read)
    await others(store, "id")
    stored = await store.load("id")
    assert stored is not None
    with pytest.raises(FlowStateConflictError) as conflict:
        await write(store, read.version or "")

    assert ("id", read.version, stored.version) == _told(conflict.value)
    assert stored == await store.load("id")


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
async def test_a_conflict_with_nothing(direct: Store, write: Write) -> None:
    """The conflict has no found version if the state was deleted. A partial write says that there is no state."""
    read = a_state("id")
    await direct.save("id", read)
    await others_delete(direct, "id")
    with pytest.raises((FlowStateConflictError, FlowStateNotFoundError)) as conflict:
        await write(direct, read.version or "")

    assert "id" == conflict.value.flow_id
    if isinstance(conflict.value, FlowStateConflictError):
        assert ("id", read.version, None) == _told(conflict.value)
    assert await direct.load("id") is None


@pytest.mark.parametrize("layout", ["serialized", "native"])
async def test_a_conflict_with_what_was_to_be_new(direct: Store, layout: str) -> None:
    """if_version=None finds the version that is stored. On leaving an edit a conflict tells as much."""
    store = in_layout(direct, layout)
    read = a_state("id")
    await store.save("id", read)
    with pytest.raises(FlowStateConflictError) as conflict:
        await store.save("id", a_state("id"), if_version=None)
    edit = store.edit("id")
    (await edit.__aenter__()).cache[MARK] = CacheEntry(value=1)
    await others_update(store, "id")
    with pytest.raises(FlowStateConflictError) as of_edit:
        await edit.__aexit__(None, None, None)
    stored = await store.load("id")

    assert stored is not None
    assert ("id", None, read.version) == _told(conflict.value)
    assert ("id", read.version, stored.version) == _told(of_edit.value)


def _told(conflict: FlowStateConflictError) -> tuple[str | None, str | None, str | None]:
    return conflict.flow_id, conflict.expected, conflict.found


async def test_versions_outlive_compactions(direct: Store) -> None:
    """Whoever holds a version goes on with it, however often others compact the log under it."""
    state = a_state("id")
    await direct.save("id", state)
    version = state.version or ""
    for number in range(5):
        await others_compact(direct, "id")
        version = await direct.update("id", cache={str(number): CacheEntry(value=number)}, if_version=version)
    await others_compact(direct, "id")
    state.cache["saved"] = CacheEntry(value=1)
    with pytest.raises(FlowStateConflictError):
        await direct.save("id", state, if_version=state.version)
    await direct.save("id", state, if_version=version)
    await others_compact(direct, "id")
    await direct.delete("id", if_version=state.version or "")

    assert await direct.load("id") is None


async def counting(store: Store) -> None:
    """Store a state with a counter in a step's value."""
    state = a_state("id")
    state.cache["counter"] = CacheEntry(value={"count": 0})
    await store.save("id", state)


async def assert_nothing_lost(store: Store) -> None:
    """See that each writer has added its step and one to the counter."""
    state = await store.load("id")
    assert state is not None
    assert WRITERS == state.cache["counter"].value["count"]
    assert {"before", "counter", *(f"step-{number}" for number in range(WRITERS))} == state.cache.keys()


@pytest.mark.parametrize("stores", [1, 16])
@pytest.mark.parametrize("layout", ["serialized", "native"])
async def test_64_writers(metered: Store, meter: Meter, layout: str, stores: int) -> None:
    """Who meets a conflict reads again: nothing is lost, nobody fails, and each change is stored once."""
    writers = [_another(metered, layout) for _ in range(stores)]
    await counting(writers[0])
    meter.take()
    await asyncio.gather(*(writers[number % stores].modify("id", adding(number)) for number in range(WRITERS)))
    bill = meter.take()
    await assert_nothing_lost(metered)

    assert WRITERS == bill.writes
    assert bill.reads >= WRITERS


@pytest.mark.parametrize("layout", ["serialized", "native"])
async def test_writers_of_one_store_take_turns(
    metered: Store, meter: Meter, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as their patience lasts, nobody meets a conflict: a read and a write each."""
    monkeypatch.setattr(local_lock, "_PATIENCE", 60.0)  # a busy machine may need more than the 2 s
    store = _another(metered, layout)
    await counting(store)
    meter.take()
    await asyncio.gather(*(store.modify("id", adding(number)) for number in range(TURNS)))

    assert Bill(reads=TURNS, writes=TURNS) == meter.take()


async def test_a_writer_that_has_waited_goes_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for two seconds for another of its store, or for half of its own time if that is less."""
    waits: list[float] = []
    take = local_lock._take

    async def note(lock: asyncio.Lock, seconds: float) -> bool:
        waits.append(seconds)
        return await take(lock, 0.0)

    monkeypatch.setattr(local_lock, "_take", note)
    locks = local_lock.LocalLocks()
    async with locks.hold("id", Deadline.after(60)):
        async with locks.hold("id", Deadline.after(60)), locks.hold("id", Deadline.after(3)):
            pass
        assert not await take(locks._locks[asyncio.get_running_loop(), "id"], 0.0)  # they have left it to the first

    assert [2.0, 2.0] == waits[:2]
    assert 0.0 <= waits[2] <= 1.5


def _another(store: Store, layout: str) -> Store:
    """Return a store over the same connection, whose writers know nothing of those of other stores."""
    other = Store(store.settings.model_copy(update={"layout": layout}))
    other._connection = store._connection
    return other


_WRITER: Final = """
import asyncio, sys
sys.path[:0] = sys.argv[1].split(":")
from firestore_flowstate import FlowStateSettings
from tests.faults.writes import Store, adding

async def main():
    _, _, host, project, collection, first, end, step = sys.argv
    async with Store(FlowStateSettings(emulator_host=host, project=project, collection=collection)) as store:
        await store.load("id")
        print("ready", flush=True)
        sys.stdin.readline()
        numbers = range(int(first), int(end), int(step))
        await asyncio.gather(*(store.modify("id", adding(number)) for number in numbers))

asyncio.run(main())
"""


async def test_64_writers_in_4_processes(direct: Store, flow_state_settings: FlowStateSettings) -> None:
    """Nothing is lost either if nothing but Firestore knows of all of them."""
    await counting(direct)
    where = [flow_state_settings.emulator_host or "", flow_state_settings.project or "", flow_state_settings.collection]
    processes = [_process(*where, str(first), str(WRITERS), "4") for first in range(4)]
    try:
        for process in processes:
            assert process.stdout is not None
            assert "ready\n" == await asyncio.to_thread(process.stdout.readline)
        outcomes = await asyncio.gather(*(asyncio.to_thread(process.communicate, "go\n", 60) for process in processes))
    finally:
        for process in processes:
            process.kill()
            process.wait()

    assert [("", "")] * 4 == outcomes
    await assert_nothing_lost(direct)


def _process(*arguments: str) -> subprocess.Popen[str]:
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    # Google's libraries warn of old Pythons.
    python = [sys.executable, "-Wignore:You are using a:FutureWarning"]
    return subprocess.Popen([*python, "-c", _WRITER, ":".join(sys.path), *arguments], text=True, **pipes)
