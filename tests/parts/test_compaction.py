from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firestore_flowstate import CacheEntry, FirestoreFlowStateStore, FlowState, FlowStateSettings
from firestore_flowstate._document import compaction
from firestore_flowstate._document.compaction import compact_log, joinable
from firestore_flowstate._document.json_text import encode
from firestore_flowstate._document.log import merge
from firestore_flowstate._document.payload import DocumentContext, Payloads
from firestore_flowstate._document.root import Root
from firestore_flowstate._document.stored_values import MAX_IDS, PartRef, Segment
from firestore_flowstate._limits import Moment, new_id
from firestore_flowstate._operations.repacking import compact

from .interleaving import before_commits

PLACE = DocumentContext(path="flows/id", payloads=Payloads(compress_over=200))
RAW = DocumentContext(path="flows/id", payloads=Payloads(compress_over=2**40))
STEPS = st.sampled_from(["a", "b", "c", "d", ""])
WRITES = st.tuples(
    st.dictionaries(STEPS, st.integers(0, 9)), st.lists(STEPS, unique=True), st.dictionaries(STEPS, st.none())
)


def segment_of(write: tuple[dict[str, int], list[str], dict[str, None]]) -> Segment:
    set, delete, events = write
    id = new_id()
    return Segment(
        id=id,
        set=PLACE.pack(encode({s: {"value": v} for s, v in set.items()}, ""), f"log.{id}.set") if set else None,
        delete=PLACE.pack(encode(delete, ""), f"log.{id}.del") if delete else None,
        events=PLACE.pack(encode(events, ""), f"log.{id}.events") if events else None,
    )


def segment_of_value(step: str, value: Any) -> Segment:
    id = new_id()
    return Segment(id=id, set=RAW.pack(encode({step: {"value": value}}, "", around=2), f"log.{id}.set"))


def nested(levels: int, value: Any) -> Any:
    for _ in range(levels):
        value = [value]
    return value


def root_of(log: Sequence[Segment]) -> Root:
    return Root(head={}, values={}, log=log, weight=0, part_count=0, created=None, updated=Moment(0, 0))


def merged(log: Sequence[Segment], resolved: dict[str, bytes]) -> tuple[list[Any], list[Any]]:
    entries = merge(log, resolved, PLACE)
    return list(entries.set.items()), list(entries.events.items())


@given(
    writes=st.lists(WRITES, min_size=1, max_size=12),
    cuts=st.lists(st.integers(1, 12), max_size=5),
    move=st.booleans(),
    join=st.sampled_from([0, 1100, 10**6]),
)
def test_compaction_changes_nothing_that_is_seen(
    writes: list[tuple[dict[str, int], list[str], dict[str, None]]], cuts: list[int], move: bool, join: int
) -> None:
    """However often a log is compacted as it grows, into parts or not, what it comes to stays, order included."""
    with pytest.MonkeyPatch.context() as patch:
        if move:
            patch.setattr(compaction, "_MOVE_BYTES", 0)
        patch.setattr(compaction, "_JOIN_BYTES", join)
        plain = [segment_of(write) for write in writes]
        log: list[Segment] = []
        resolved: dict[str, bytes] = {}
        for count, segment in enumerate(plain, 1):
            log.append(segment)
            if count in cuts:
                root = root_of(log)
                names = [ref.name for ref in joinable(root)]
                compacted = compact_log(root, {name: resolved[name] for name in names}, PLACE)
                log = list(compacted.log)
                resolved.update((ref.name, data) for ref, data in compacted.spill.moved)
                assert root.revision == root_of(log).revision

    assert merged(plain, {}) == merged(log, resolved)
    assert [segment.id for segment in plain][-MAX_IDS:] == list(root_of(log).ids)[-MAX_IDS:]


@pytest.mark.parametrize(
    ("set_bytes", "events_bytes", "moved"),
    [(64_625, 9_375, []), (64_626, 9_375, ["set"]), (64_625, 9_376, ["set", "events"]), (76_000, 9_375, ["set"])],
)
def test_a_merged_segment_over_75000_moves_its_values_over_9375_bytes(
    set_bytes: int, events_bytes: int, moved: list[str]
) -> None:
    """Both limits are of docs/format.md. A segment weighs 1,000 and its bytes."""
    steps, events = text_of({"a": {"value": ""}}, set_bytes), text_of({"a": ""}, events_bytes)
    compacted = compact_log(root_of([Segment(id=new_id(), set=steps), Segment(id=new_id(), events=events)]), {}, RAW)
    [segment] = compacted.log
    sizes = {"set": set_bytes, "events": events_bytes}

    assert moved == [name for name, stored in segment.values().items() if isinstance(stored, PartRef)]
    assert [sizes[name] for name in moved] == [len(data) for _, data in compacted.spill.moved]


def text_of(value: dict[str, Any], size: int) -> bytes:
    """Return the JSON of a value with its empty text filled up to so many bytes."""
    text = encode(value, "")
    return text.replace(b'""', b'"' + b"x" * (size - len(text)) + b'"')


@given(writes=st.lists(WRITES, min_size=1, max_size=8))
def test_merging_is_what_a_dict_does(writes: list[tuple[dict[str, int], list[str], dict[str, None]]]) -> None:
    """A segment removes first, then sets. A step that is set again keeps its place. A removed one comes back last."""
    steps: dict[str, Any] = {}
    events: dict[str, Any] = {}
    for set, delete, event in writes:
        for step in delete:
            steps.pop(step, None)
        steps.update((step, {"value": value}) for step, value in set.items())
        events.update(event)

    assert (list(steps.items()), list(events.items())) == merged([segment_of(write) for write in writes], {})


def test_late_duplicates_count_once() -> None:
    """A segment that arrives again does not put an old value back."""
    first, second = segment_of(({"a": 1}, [], {})), segment_of(({"a": 2}, [], {}))
    root = root_of([first, second, first])

    assert ([("a", {"value": 2})], []) == merged(root.unique_log, {})
    assert second.id == root.revision


def test_a_long_flow_writes_each_byte_a_few_times() -> None:
    """A compaction moves what came since the last one. The parts of some are joined to one, once, when they fill it."""
    log: list[Segment] = []
    stored: dict[str, bytes] = {}
    written = compactions = 0
    for step in range(1500):
        log.append(segment_of_value(f"step {step}", "x" * 3_000))
        if sum(segment.weight() for segment in log) >= compaction.COMPACT_WEIGHT:
            root = root_of(log)
            joined = {ref.name: stored[ref.name] for ref in joinable(root)}
            compacted = compact_log(root, joined, RAW)
            log, compactions = list(compacted.log), compactions + 1
            stored.update((ref.name, data) for ref, data in compacted.spill.moved)
            for ref in compacted.gone:
                del stored[ref.name]
            written += sum(len(data) for _, data in compacted.spill.moved)

    assert 4_500_000 <= sum(map(len, stored.values())) + 300_000
    assert 2.1 >= written / sum(map(len, stored.values()))
    assert (20, 8) >= (compactions, len(stored))
    assert [f"step {step}" for step in range(1500)] == list(merge(log, stored, RAW).set)


def test_whatever_could_be_written_can_be_compacted() -> None:
    """A value may be deeper than the limit beside one that takes the slow way, and takes both of them there."""
    log = [segment_of_value("a", nested(240, 1)), segment_of_value("b", nested(200, 2**70))]
    compacted = compact_log(root_of(log), {}, RAW)

    assert 1 == len(compacted.log)
    assert merged(log, {}) == merged(compacted.log, {})


def test_a_log_in_parts_is_not_compacted_again() -> None:
    """Segments in parts weigh little, so that a state of hundreds of megabytes is not compacted at every write."""
    refs = [Segment(id=new_id(), set=PartRef("log", new_id(), 1, 900_000)) for _ in range(500)]

    assert sum(segment.weight() for segment in refs) < compaction.COMPACT_WEIGHT


async def _update(store: FirestoreFlowStateStore) -> None:
    await store.update("flow", cache={"theirs": CacheEntry(value=1)})


async def _delete(store: FirestoreFlowStateStore) -> None:
    await store.delete("flow")


@pytest.mark.parametrize(("others", "tries"), [(_update, 2), (_delete, 1)])
async def test_a_compaction_leaves_what_others_do_meanwhile(
    flow_state_settings: FlowStateSettings, others: Callable[[FirestoreFlowStateStore], Awaitable[None]], tries: int
) -> None:
    """It is left to the next writer after the second try. If the state is gone, nothing is left to do."""
    async with (
        FirestoreFlowStateStore(flow_state_settings) as store,
        FirestoreFlowStateStore(flow_state_settings) as writer,
    ):
        await writer.save("flow", FlowState.start(flow_id="flow"))
        await writer.update("flow", cache={"step": CacheEntry(value=1)})
        left: list[FlowState | None] = []

        async def meanwhile() -> None:
            await others(writer)
            left.append(await writer.load("flow"))

        sent = await before_commits(store, "flow", meanwhile, times=9)
        collection, deadline = await store._begin()
        assert await compact(collection, "flow", deadline) is None
        assert (tries, left[-1]) == (len(sent), await writer.load("flow"))
