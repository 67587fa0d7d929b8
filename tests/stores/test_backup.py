"""What is exported can be imported again, and is the same to the last bit."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from typing_extensions import override

from firestore_flowstate import (
    CacheEntry,
    FirestoreFlowStateStore,
    FlowState,
    FlowStateBatchError,
    FlowStateDecodeError,
    FlowStateError,
    FlowStateQuery,
    FlowStateSettings,
    InvalidFlowIdError,
    MemoryFlowStateStore,
    Operation,
    SyncFlowStateStore,
    VersionedFlowStateStore,
)
from firestore_flowstate._backup_line import from_line, to_line
from firestore_flowstate.backup import ImportReport, export_states, import_states
from firestore_flowstate.doctor import examine
from firestore_flowstate.testing import exactly, flow_ids, flow_states
from firestore_flowstate.testing.conformance.states import (
    STEPS,
    VALUES,
    VARIANTS,
    expires_in,
    started,
    with_everywhere,
    with_steps,
)
from tests.support.damage import drop, put, sound
from tests.support.query_log import QueryLog, query_log
from tests.support.raw_documents import RawCollection

__all__ = ["query_log"]  # a fixture


@pytest.fixture(params=["memory", "firestore"])
def store(request: pytest.FixtureRequest) -> VersionedFlowStateStore:
    if request.param == "memory":
        return MemoryFlowStateStore()
    found: FirestoreFlowStateStore = request.getfixturevalue("flow_state_store")
    return found


@pytest.fixture
async def other(flow_state_settings: FlowStateSettings) -> AsyncIterator[FirestoreFlowStateStore]:
    """An empty store beside `flow_state_store`."""
    settings = flow_state_settings.model_copy(update={"collection": "restored"})
    async with FirestoreFlowStateStore(settings) as store:
        yield store


async def lines_of(store: VersionedFlowStateStore, **options: Any) -> list[str]:
    return [line async for line in export_states(store, **options)]


def states() -> dict[str, FlowState]:
    """Return a state for each thing that databases lose, under ids that are not their flow ids."""
    found = {f"value {place}": with_everywhere(value) for place, value in enumerate(VALUES.values())}
    found |= {f"variant {place}": FlowState.model_validate(wire) for place, wire in enumerate(VARIANTS.values())}
    found["steps"] = with_steps(*STEPS)
    found["steps backwards"] = with_steps(*reversed(STEPS))
    found["naïve 🙂"] = started(0.5)
    return found


@given(flow_ids(), flow_states())
def test_a_line_holds_a_state_exactly(id: str, state: FlowState) -> None:
    """A line holds whatever a store can keep, with absent and null told apart, and steps in their order."""
    line = to_line(id, state)
    entry = from_line(line)

    assert exactly((id, state, None)) == exactly(tuple(entry))
    assert [line] == line.splitlines(keepends=True)
    assert exactly(entry) == exactly(from_line(line.encode()))


def test_equal_states_have_equal_lines() -> None:
    """A document does not keep the order of unknown keys. Backups can be compared all the same."""
    wire = started().model_dump(by_alias=True)
    one, other = (FlowState.model_validate({**wire, **dict.fromkeys(keys)}) for keys in ("ab", "ba"))

    assert to_line("id", one) == to_line("id", other)


@pytest.mark.parametrize(("one", "other"), [({"p": 1, "q": 2}, {"q": 2, "p": 1}), (1, 1.0)], ids=["order", "number"])
async def test_lines_tell_more_apart_than_python_does(
    store: VersionedFlowStateStore, one: object, other: object
) -> None:
    """What a store keeps of a value, its line has: the order of the members of an object, and the kind of a number."""
    state, equal = (started().model_copy(update={"input": value}) for value in (one, other))
    await store.save_many({"one": state, "other": equal})
    lines = {json.loads(line)["id"]: line for line in await lines_of(store)}

    assert state == equal
    assert lines["one"] == to_line("one", state) != to_line("one", equal)
    assert lines["other"] == to_line("other", equal)


async def test_import_gives_back_what_export_took(store: VersionedFlowStateStore) -> None:
    """Every id has its state again. The same lines may be imported once more."""
    originals = states()
    await store.save_many(originals)
    lines = await lines_of(store)
    copy = MemoryFlowStateStore()
    report = await import_states(copy, lines)

    assert ImportReport(imported=len(originals), expired=0) == report
    assert exactly(originals) == exactly(await copy.load_many(originals))
    assert sorted(lines) == sorted(await lines_of(copy))


async def test_from_one_collection_to_another(
    flow_state_store: FirestoreFlowStateStore, other: FirestoreFlowStateStore
) -> None:
    """Large states go with their parts, in batches. A second time has no effect."""
    originals = {f"id-{place}": started(place) for place in range(450)}
    originals["large"] = with_everywhere("x" * 700_000)
    await flow_state_store.save_many(originals)
    lines = await lines_of(flow_state_store)
    await import_states(other, lines)
    await import_states(other, [line.encode() for line in reversed(lines)])

    assert exactly(originals) == exactly(await other.load_many(originals))
    assert 451 == await other.count()


async def test_exports_what_the_filters_match(store: VersionedFlowStateStore) -> None:
    """The newest start comes first, whatever limit the query names."""
    for place in range(8):
        state = started(place)
        state.name = "even" if place % 2 == 0 else "odd"
        await store.save(f"id-{place}", state)
    lines = await lines_of(store, query=FlowStateQuery(name="odd", limit=1))

    assert ["id-7", "id-5", "id-3", "id-1"] == [json.loads(line)["id"] for line in lines]


async def test_native_documents_are_exported_as_they_load(flow_state_settings: FlowStateSettings) -> None:
    """A backup knows no layouts."""
    async with FirestoreFlowStateStore(flow_state_settings.model_copy(update={"layout": "native"})) as native:
        await native.save("id", with_steps("step"))
        [line] = await lines_of(native)

    assert exactly(with_steps("step")) == exactly(from_line(line).state)


class TestExpiry:
    """The moment at which a state expires is part of its line."""

    @pytest.fixture
    async def expiring(self, flow_state_settings: FlowStateSettings) -> AsyncIterator[FirestoreFlowStateStore]:
        settings = flow_state_settings.model_copy(update={"expire_after": timedelta(hours=1)})
        async with FirestoreFlowStateStore(settings) as store:
            await store.save("finished", self.finished())
            await store.save("running", started())
            yield store

    @staticmethod
    def finished() -> FlowState:
        state = started()
        state.operation = Operation(name="flow", done=True)
        return state

    async def test_is_kept(self, expiring: FirestoreFlowStateStore, other: FirestoreFlowStateStore) -> None:
        """It is kept to the microsecond, by a store that lets nothing expire by itself."""
        await import_states(other, await lines_of(expiring))
        before, after = [await store.load_many(["finished", "running"]) for store in (expiring, other)]

        assert before["finished"].expire_at == after["finished"].expire_at is not None
        assert after["running"].expire_at is None

    @pytest.mark.parametrize("after", [None, timedelta(days=30)], ids=["never", "30 days"])
    async def test_is_kept_in_memory(self, expiring: FirestoreFlowStateStore, after: timedelta | None) -> None:
        """It is kept to the microsecond, whatever the settings say, until a write says anew when the flow expires."""
        memory = MemoryFlowStateStore(FlowStateSettings(expire_after=after, expire_when="always"))
        await import_states(memory, await lines_of(expiring))
        await memory.update("finished", cache={"step": CacheEntry(value=1)})
        before, kept = [await one.load_many(["finished", "running"]) for one in (expiring, memory)]
        [summary] = (await memory.list_summaries(FlowStateQuery(status="done"))).summaries
        await memory.update("finished", operation=Operation(name="flow", done=True))
        written = await memory.load("finished")

        assert before["finished"].expire_at == kept["finished"].expire_at == summary.expire_at is not None
        assert kept["running"].expire_at is None
        assert written is not None
        assert written.expire_at is None if after is None else expires_in(after, written)

    async def test_an_export_of_memory_passes_over_what_has_expired(self) -> None:
        """It does as that of a collection does."""
        memory = MemoryFlowStateStore(FlowStateSettings(expire_after=timedelta(microseconds=1)))
        await memory.save_many({"gone": self.finished(), "there": started()})

        assert ["there"] == [json.loads(line)["id"] for line in await lines_of(memory)]

    async def test_is_renewed_in_memory_if_asked(self, expiring: FirestoreFlowStateStore) -> None:
        """Then the settings of that store decide."""
        memory = MemoryFlowStateStore(FlowStateSettings(expire_after=timedelta(days=30)))
        await import_states(memory, await lines_of(expiring), expiry="renew")
        state = await memory.load("finished")

        assert state is not None
        assert expires_in(timedelta(days=30), state)

    async def test_another_store_sets_it(self, expiring: FirestoreFlowStateStore) -> None:
        """The methods of a store do not take the moment of an expiry, so that its own settings decide."""
        foreign: Any = Foreign(MemoryFlowStateStore(FlowStateSettings(expire_after=timedelta(days=30))))
        await import_states(foreign, await lines_of(expiring))
        state = await foreign.load("finished")

        assert state is not None
        assert expires_in(timedelta(days=30), state)

    async def test_is_renewed_if_asked(self, expiring: FirestoreFlowStateStore, other: FirestoreFlowStateStore) -> None:
        """Then the settings of the store decide, as for states that are written now."""
        lines = [re.sub(r'"expireAt":"2\d*', '"expireAt":"1999', line) for line in await lines_of(expiring)]
        report = await import_states(other, lines, expiry="renew")
        await import_states(expiring, lines, expiry="renew")
        renewed = await expiring.load("finished")

        assert ImportReport(imported=2, expired=0) == report
        assert [None, None] == [state.expire_at async for state in other.iterate()]
        assert renewed is not None
        assert renewed.expire_at is not None
        assert datetime.now(timezone.utc) < renewed.expire_at

    @pytest.mark.parametrize("layout", ["serialized", "native"])
    async def test_a_time_of_its_own_is_kept(
        self, flow_state_settings: FlowStateSettings, other: FirestoreFlowStateStore, layout: str
    ) -> None:
        """It is kept with the moment that it has led to. Renewed, it decides again, over what the settings say."""
        settings = flow_state_settings.model_copy(update={"layout": layout, "expire_after": timedelta(hours=1)})
        async with FirestoreFlowStateStore(settings) as store:
            await store.save("week", self.finished(), expire_after=timedelta(days=7))
            await store.save("never", self.finished(), expire_after=None)
            lines = await lines_of(store)
            before = await store.load_many(["week", "never"])
            await import_states(other, lines)
            kept = await other.load_many(["week", "never"])
            await store.delete_many(["week", "never"])
            await import_states(store, lines, expiry="renew")
            renewed = await store.load_many(["week", "never"])

        for found in (kept, renewed):
            assert {"expireAfter": 7 * 86_400_000} == found["week"].model_extra
            assert ({"expireAfter": -1}, None) == (found["never"].model_extra, found["never"].expire_at)
        assert before["week"].expire_at == kept["week"].expire_at is not None
        assert renewed["week"].expire_at is not None
        assert timedelta(days=6) < renewed["week"].expire_at - datetime.now(timezone.utc) <= timedelta(days=7)

    async def test_what_has_expired_is_left_out(
        self, expiring: FirestoreFlowStateStore, other: FirestoreFlowStateStore
    ) -> None:
        """Nobody could see it."""
        lines = [re.sub(r'"expireAt":"2\d*', '"expireAt":"1999', line) for line in await lines_of(expiring)]

        assert ImportReport(imported=1, expired=1) == await import_states(other, lines)
        assert 1 == await other.count()


class TestUnreadable:
    """States that cannot be read."""

    @pytest.fixture
    async def damaged(
        self, flow_state_store: FirestoreFlowStateStore, flow_state_settings: FlowStateSettings
    ) -> FirestoreFlowStateStore:
        await flow_state_store.save_many({f"id-{place}": started(1_700_000_000_000 + place) for place in range(3)})
        for id, damage in (
            ("value", put("_flowstate.operation", {"stringValue": "{"})),
            ("head", put("status", {"stringValue": "?"})),
        ):
            fields = sound()
            damage(fields)
            RawCollection(flow_state_settings).write(id, fields)
        return flow_state_store

    async def test_raises(self, damaged: FirestoreFlowStateStore) -> None:
        """A backup that lacks states is not to surprise."""
        with pytest.raises(FlowStateDecodeError) as raised:
            await lines_of(damaged)

        assert "value" == raised.value.flow_id

    async def test_tells_and_goes_on_if_asked(self, damaged: FirestoreFlowStateStore) -> None:
        """Each is named once. The others are exported, also if the head alone is damaged: such a state loads."""
        told: dict[str, FlowStateError] = {}
        lines = await lines_of(damaged, on_unreadable=told.__setitem__)

        assert {"id-0", "id-1", "id-2", "head"} == {json.loads(line)["id"] for line in lines}
        assert {"value"} == set(told)
        assert all(id in str(error) for id, error in told.items())

    async def test_an_export_does_not_see_what_lists_do_not(
        self, damaged: FirestoreFlowStateStore, flow_state_settings: FlowStateSettings
    ) -> None:
        """A state without startTime is in no export, which is not told of it. The doctor finds it."""
        fields = sound()
        drop("startTime")(fields)
        RawCollection(flow_state_settings).write("hidden", fields)
        told: dict[str, FlowStateError] = {}
        lines = await lines_of(damaged, on_unreadable=told.__setitem__)

        assert "hidden" not in {json.loads(line)["id"] for line in lines} | set(told)
        assert "hidden" in {finding.id async for finding in examine(damaged) if finding.kind == "hidden"}


GOOD = to_line("good", started())


async def test_other_members_of_a_line_are_passed_over(store: VersionedFlowStateStore) -> None:
    """A tool may note something beside a state. A state's own unknown keys are kept."""
    line = json.dumps({"note": [1], **json.loads(to_line("good", with_everywhere("x"))), "more": {"id": "other"}})

    assert ImportReport(imported=1, expired=0) == await import_states(store, [line])
    assert exactly({"good": with_everywhere("x")}) == exactly(await store.load_many(["good", "other"]))


async def test_encryption_ends_at_the_file(
    flow_state_settings: FlowStateSettings, other: FirestoreFlowStateStore
) -> None:
    """Lines of an encrypted collection are plain, and can be read without its keys. An import encrypts by its own."""
    keys = {"key": "MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA="}
    secret = started().model_copy(update={"input": "s3cret"})
    async with FirestoreFlowStateStore(flow_state_settings.model_copy(update={"keys": keys})) as encrypting:
        await encrypting.save("id", secret)
        lines = await lines_of(encrypting)
        await import_states(other, lines)
        await encrypting.delete("id")
        await import_states(encrypting, await lines_of(other))

        assert exactly(secret) == exactly(await encrypting.load("id")) == exactly(await other.load("id"))
    assert "s3cret" in lines[0]
    assert "s3cret" in json.dumps(RawCollection(other.settings).read("id"))
    assert "s3cret" not in json.dumps(RawCollection(flow_state_settings).read("id"))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "line 3: it is not JSON"),
        (GOOD[:-20], "line 3: it is not JSON"),
        (b"\xff\n", "line 3: it is not JSON"),
        ("[1]", "line 3: it is not a flow state of a backup"),
        ('{"id": "x", "state": {}}', "line 3: it is not a flow state of a backup"),
        ('{"v": 2, "id": "x", "state": {}}', "line 3: it is of version 2"),
        (GOOD.replace('"v":1', '"v":true'), "line 3: its version is True, and a version is a whole number"),
        (GOOD.replace('"v":1', '"v":1.0'), "line 3: its version is 1.0, and a version is a whole number"),
        ('{"v": 1, "id": "x", "state": 5}', "line 3: the state of 'x' is not an object"),
        ('{"v": 1, "id": "x", "state": {"flowId": "x"}}', "line 3: The flow state 'x' cannot be read: startTime"),
        (GOOD.replace('"v":1', '"v":1,"expireAt":"soon"'), "line 3: expireAt of 'good'"),
        (GOOD.replace('"v":1', '"v":1,"expireAt":5'), "line 3: expireAt of 'good'"),
        (GOOD.replace('"v":1', '"v":1,"expireAt":"2030-01-01T00:00:00"'), "line 3: expireAt of 'good'"),
        ("[" * 100_000, "line 3: it is not JSON"),
    ],
    ids=ascii,
)
async def test_a_wrong_line_is_named(line: str | bytes, says: str) -> None:
    """The error has the number of the line, and says what is wrong with it."""
    with pytest.raises(FlowStateDecodeError, match=re.escape(says)):
        await import_states(MemoryFlowStateStore(), [GOOD, "\n", line])


@pytest.mark.parametrize("id", ["a/b", "", "__x__", 5, None], ids=repr)
async def test_a_wrong_id_is_named(id: object) -> None:
    """The error names it before anything is sent."""
    line = json.dumps({**json.loads(GOOD), "id": id})
    with pytest.raises(InvalidFlowIdError, match=r"^line 1: "):
        await import_states(MemoryFlowStateStore(), [line])


async def test_lines_that_cannot_be_stored_are_named(flow_state_settings: FlowStateSettings) -> None:
    """The error has the numbers of these lines. The others are stored."""
    lines = [to_line("nested", with_everywhere([[1]])), GOOD]
    async with FirestoreFlowStateStore(flow_state_settings.model_copy(update={"layout": "native"})) as native:
        with pytest.raises(FlowStateBatchError, match=r"^1 flow state could not .* line 1: ") as raised:
            await import_states(native, lines)

        assert {"nested"} == set(raised.value.errors)
        assert await native.load("good") is not None


@pytest.mark.parametrize("kind", ["native", "memory"])
async def test_a_dry_run_tells_what_cannot_be_stored(flow_state_settings: FlowStateSettings, kind: str) -> None:
    """It raises what the import would, and stores nothing. What can be stored is counted."""
    deep = GOOD.replace('"state":{', f'"state":{{"deep":{"[" * 260}{"]" * 260},').replace(
        '"id":"good"', '"id":"nested"'
    )
    lines = [to_line("nested", with_everywhere([[1]])) if kind == "native" else deep, to_line("fine", started())]
    settings = flow_state_settings.model_copy(update={"layout": "native"})
    async with FirestoreFlowStateStore(settings) as native:
        store = native if kind == "native" else MemoryFlowStateStore()
        with pytest.raises(
            FlowStateBatchError, match=r"^1 flow state could not .* line 1: .* line 2 would be, "
        ) as dry:
            await import_states(store, lines, dry_run=True)
        assert 0 == await store.count()
        assert ImportReport(imported=1, expired=0) == await import_states(store, lines[1:], dry_run=True)
        with pytest.raises(FlowStateBatchError) as real:
            await import_states(store, lines)

    assert {"nested"} == set(dry.value.errors) == set(real.value.errors)
    assert str(dry.value.errors["nested"]) == str(real.value.errors["nested"])


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize(
    ("before", "said"),
    [
        (0, "Nothing was imported: "),
        (1, "1 flow state of the lines before it was imported, and "),
        (2, "2 flow states of the lines before it were imported, and "),
    ],
)
async def test_a_wrong_line_says_what_was_imported(before: int, said: str, dry_run: bool) -> None:
    """In words for none, one and several; a dry run says what would be."""
    lines = [to_line(f"id-{place}", started(place)) for place in range(before)]
    with pytest.raises(FlowStateDecodeError) as raised:
        await import_states(MemoryFlowStateStore(), [*lines, "{"], dry_run=dry_run)

    assert (said.replace("was", "would be").replace("were", "would be") if dry_run else said) in str(raised.value)


@pytest.mark.parametrize("before", [0, 3, 400, 500])
@pytest.mark.parametrize("wrong", ["{", GOOD.replace('"id":"good"', '"id":"a/b"')], ids=["line", "id"])
async def test_what_comes_before_a_wrong_line_is_imported(before: int, wrong: str) -> None:
    """All lines before it are imported, however many, and the error says so. One may go on from that line."""
    store = MemoryFlowStateStore()
    lines = [to_line(f"id-{place}", started(place)) for place in range(500)]
    with pytest.raises((FlowStateDecodeError, InvalidFlowIdError)) as raised:
        await import_states(store, [*lines[:before], wrong, *lines[before:]])

    assert before == await store.count()
    assert str(raised.value).startswith(f"line {before + 1}: ")
    states = f"{before} flow states of the lines before it were imported, and nothing of it or"
    assert f" {states if before else 'Nothing was imported:'} " in str(raised.value)
    assert ImportReport(imported=500, expired=0) == await import_states(store, lines)
    assert 500 == await store.count()


async def test_a_wrong_line_behind_states_that_cannot_be_stored(flow_state_settings: FlowStateSettings) -> None:
    """The error has the states that cannot be stored, and names the line too."""
    lines = [to_line("nested", with_everywhere([[1]])), GOOD, "{"]
    async with FirestoreFlowStateStore(flow_state_settings.model_copy(update={"layout": "native"})) as native:
        with pytest.raises(FlowStateBatchError, match=r"^1 flow state could .* line 1: .* line 3: it is ") as raised:
            await import_states(native, lines)

        assert {"nested"} == set(raised.value.errors)
        assert await native.load("good") is not None


@pytest.mark.parametrize("before", [0, 5, 500])
async def test_a_text_file_that_is_not_utf_8(tmp_path: Path, before: int) -> None:
    """What was read before is imported. Text is read ahead, so the error has the last line that was read."""
    store, path = MemoryFlowStateStore(), tmp_path / "backup.jsonl"
    lines = "".join(to_line(f"id-{place}", started(place)) for place in range(before))
    path.write_bytes(lines.encode() + b'{"v":1,"id":"\xff"}\n' + GOOD.encode())
    with (
        path.open(encoding="utf-8") as file,
        pytest.raises(FlowStateDecodeError, match=r"^after line (\d+): ") as raised,
    ):
        await import_states(store, file)
    imported = await store.count()
    assert f"after line {imported}: the lines cannot be read as utf-8: " in str(raised.value)
    assert imported > 300 or before < 500
    with path.open("rb") as binary, pytest.raises(FlowStateDecodeError, match=f"^line {before + 1}: "):
        await import_states(store, binary)

    assert before == await store.count()


@pytest.mark.parametrize("dry_run", [False, True])
async def test_lines_that_cannot_be_read_on(dry_run: bool) -> None:
    """An error of reading passes, and what was read before is imported."""

    def lines() -> Iterator[str]:
        yield GOOD
        raise OSError("the disk is gone")

    store = MemoryFlowStateStore()
    with pytest.raises(OSError, match="the disk is gone"):
        await import_states(store, lines(), dry_run=dry_run)

    assert (0 if dry_run else 1) == await store.count()


@pytest.mark.parametrize("line", [5, {"v": 1}, None, memoryview(b"x")], ids=lambda line: type(line).__name__)
async def test_a_line_that_is_none(line: Any) -> None:
    """A TypeError says which line it is and what is taken. The lines before are imported."""
    store = MemoryFlowStateStore()
    with pytest.raises(TypeError, match=r"^line 2 is text or bytes, as export_line makes it, not "):
        await import_states(store, [GOOD, line])

    assert 1 == await store.count()


@pytest.mark.parametrize("lines", [GOOD, GOOD.encode(), bytearray(b"x"), None, 5, json.loads(GOOD)], ids=ascii)
async def test_lines_that_are_none(lines: Any) -> None:
    """One line is not lines: its letters or bytes would be taken for such."""
    with pytest.raises(TypeError, match=r"^lines are lines of a backup, such as open"):
        await import_states(MemoryFlowStateStore(), lines)


async def test_a_store_that_is_none() -> None:
    """A TypeError says so, and not an AttributeError behind the first line."""
    for wrong in (None, object(), MemoryFlowStateStore, SyncFlowStateStore(MemoryFlowStateStore())):
        store: Any = wrong
        with pytest.raises(TypeError, match=r"^store is a "):
            await import_states(store, [GOOD])
        with pytest.raises(TypeError, match=r"^store is a "):
            await anext(export_states(store))


async def test_a_dry_run_stores_nothing() -> None:
    """It reads all lines, and reports what would be stored."""
    store = MemoryFlowStateStore()
    lines = [to_line(f"id-{place}", started(place)) for place in range(500)]

    assert ImportReport(imported=500, expired=0) == await import_states(store, lines, dry_run=True)
    with pytest.raises(FlowStateDecodeError, match=r"line 501.* 500 flow states of .* would be imported, and nothing"):
        await import_states(store, [*lines, "{"], dry_run=True)
    assert 0 == await store.count()


async def test_the_last_line_of_an_id_counts() -> None:
    """The lines count as if each had been saved by itself."""
    store = MemoryFlowStateStore()
    await import_states(store, [to_line("id", started(place)) for place in range(5)])
    state = await store.load("id")

    assert state is not None
    assert 4 == state.start_time


class Foreign:
    """A store that is neither of the package's own classes."""

    def __init__(self, store: VersionedFlowStateStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class Counting(MemoryFlowStateStore):
    """A store that counts what goes through it."""

    loaded = 0

    @override
    async def load_many(self, ids: Iterable[str], *, timeout: float | None = None) -> dict[str, FlowState]:
        found = await super().load_many(ids)
        self.loaded += len(found)
        return found


async def test_export_holds_two_batches_at_most() -> None:
    """It holds one that is being written and one that is being read, however many states there are."""
    store = Counting()
    await store.save_many({f"id-{place}": started(place) for place in range(1000)})
    walk = export_states(store)
    await anext(walk)
    await asyncio.sleep(0)

    assert 0 < store.loaded <= 200
    await walk.aclose()


async def test_large_states_make_small_batches() -> None:
    """The export goes by the sizes that summaries have."""
    store = Counting()
    await store.save_many({f"id-{place}": with_everywhere("x" * 1_000_000) for place in range(6)})
    walk = export_states(store)
    await anext(walk)
    await asyncio.sleep(0)

    assert 2 == store.loaded
    assert 6 == 1 + len([line async for line in walk])


async def test_pages_of_an_export_follow_the_sizes(flow_state_settings: FlowStateSettings, query_log: QueryLog) -> None:
    """It asks Firestore for about as many as make 4 MiB. What comes before it knows their size is one page."""
    settings = flow_state_settings.model_copy(update={"compress_over": 2**40})
    async with FirestoreFlowStateStore(settings) as store:
        for place in range(30):
            state = started(place)
            state.input = "x" * 400_000
            await store.save(f"id-{place}", state)
        lines = await lines_of(store)

    assert 30 == len(lines)
    assert max(query.limit.value for query in query_log.queries) <= 11
    assert max(query_log.documents) <= 11


async def test_import_holds_one_batch_at_most() -> None:
    """What is read of the file is saved before more is read."""
    store = MemoryFlowStateStore()
    most = 0

    async def lines() -> AsyncIterator[str]:
        nonlocal most
        for place in range(1500):
            if place % 100 == 99:
                most = max(most, place - await store.count())
            yield to_line(f"id-{place}", started(place))

    progress: list[int] = []
    await import_states(store, lines(), progress=progress.append)

    assert 400 > most
    assert [400, 800, 1200, 1500] == progress


async def test_export_tells_its_progress() -> None:
    """It tells the number of states so far, after each batch."""
    store = MemoryFlowStateStore()
    await store.save_many({f"id-{place}": started(place) for place in range(250)})
    progress: list[int] = []
    await lines_of(store, progress=progress.append)

    assert [100, 200, 250] == progress
