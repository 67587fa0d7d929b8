"""Golden documents of format version 1, fixed: every later version of the package must still read them."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from firestore_flowstate import CacheEntry, FirestoreFlowStateStore, FlowState, FlowStateQuery, FlowStateSettings
from firestore_flowstate._document.compaction import COMPACT_WEIGHT
from firestore_flowstate.testing import exactly
from tests.format.forms import FORMS, Backwards
from tests.support.damage import drop, integer, put, text
from tests.support.raw_documents import Fields, RawCollection

FOLDER = Path(__file__).parents[1] / "data" / "format-v1"
GOLDEN = sorted(path.name.partition(".")[0] for path in FOLDER.glob("*.json*"))


def test_there_is_a_golden_document_of_each_form() -> None:
    """generate.py writes the one of a form that is new."""
    assert sorted(FORMS) == GOLDEN


def test_the_vectors_are_described() -> None:
    """Whoever reads them in another language knows what each file and each member of it is."""
    text = (FOLDER / "README.md").read_text()
    members, forms = (re.findall(r"`([\w-]+)`", first) for first in first_columns(text))

    assert list(read("saved")) == members
    assert sorted(forms) == GOLDEN


def first_columns(text: str) -> list[str]:
    """Return the first cells of each table, without its head."""
    tables = re.findall(r"^\|---.*\n((?:\|.*\n)+)", text, re.MULTILINE)
    return ["\n".join(line.split("|")[1] for line in rows.splitlines()) for rows in tables]


@pytest.mark.parametrize("name", GOLDEN)
async def test_a_document_of_format_1_reads_as_the_state_it_was(
    name: str, flow_state_settings: FlowStateSettings
) -> None:
    """Loaded and listed, every value is exactly what was saved, in its order."""
    golden = read(name)
    settings = written(golden, flow_state_settings)
    async with FirestoreFlowStateStore(settings) as store:
        loaded = await store.load(golden["id"])
        listed = await store.list()
        summaries = await store.list_summaries()

    expected = FlowState.model_validate(golden["state"])
    form = exactly if "_flowstate" in golden["documents"][golden["id"]] else unordered
    assert loaded is not None
    assert form(expected) == form(loaded)
    assert [form(expected)] == [form(state) for state in listed.flow_states]
    assert [(golden["id"], expected.status)] == [(shown.id, shown.status) for shown in summaries.summaries]


@pytest.mark.parametrize("name", GOLDEN)
async def test_a_document_of_format_1_can_be_written_on(name: str, flow_state_settings: FlowStateSettings) -> None:
    """A step can be added to it, by an update as by an edit, and it is deleted whole."""
    golden = read(name)
    settings = written(golden, flow_state_settings)
    async with FirestoreFlowStateStore(settings) as store:
        await store.update(golden["id"], cache={"added": CacheEntry(value=1)})
        async with store.edit(golden["id"]) as state:
            state.cache["edited"] = CacheEntry(value=2)
        loaded = await store.load(golden["id"])
        await store.delete(golden["id"])
        gone = await store.load(golden["id"])

    expected = FlowState.model_validate(golden["state"])
    expected.cache["added"] = CacheEntry(value=1)
    expected.cache["edited"] = CacheEntry(value=2)
    assert loaded is not None
    assert unordered(expected) == unordered(loaded)
    assert gone is None
    assert {} == RawCollection(settings).below(golden["id"], "flowstate-parts")


async def test_filters_find_documents_of_format_1(flow_state_settings: FlowStateSettings) -> None:
    """The head has what queries ask for."""
    golden = read("unknown-keys")
    async with FirestoreFlowStateStore(written(golden, flow_state_settings)) as store:
        query = FlowStateQuery(name="cats", status="running", where={"owner": "uid-1", "attempt": 3, "vip": True})
        found = await store.list(query)

    assert [golden["id"]] == [state.flow_id for state in found.flow_states]


async def test_counts_below_0_are_shown_as_0(flow_state_settings: FlowStateSettings) -> None:
    """Partial writes subtract, so that other writers may leave such numbers."""
    golden = read("saved")
    settings = written(golden, flow_state_settings)
    raw, id = RawCollection(settings), golden["id"]
    fields = raw.read(id)
    for name in ("steps", "bytes"):
        put(f"summary.{name}", integer(-2743))(fields)
    raw.write(id, fields)
    async with FirestoreFlowStateStore(settings) as store:
        [summary] = (await store.list_summaries()).summaries

    assert (0, 0) == (summary.step_count, summary.size_bytes)


LATER: tuple[tuple[str, ...], ...] = (
    ("_flowstate", "later"),
    ("_flowstate", "log", "0", "later"),
    ("_flowstate", "input", "later"),
    ("summary", "later"),
)
"""Fields that a later writer may put beside those of version 1: of the payload, a segment, a reference, a summary."""


async def test_unknown_fields_are_passed_over(flow_state_settings: FlowStateSettings) -> None:
    """A state that has them is read, listed and shown as without. Writes on top work."""
    golden = read("parts")
    settings = written(golden, flow_state_settings)
    raw = RawCollection(settings)
    async with FirestoreFlowStateStore(settings) as store:
        expected, shown = await store.load(golden["id"]), (await store.list_summaries()).summaries
        raw.write(golden["id"], with_later(raw.read(golden["id"])))
        loaded, listed = await store.load(golden["id"]), await store.list()
        [summary] = (await store.list_summaries()).summaries
        version = await store.update(golden["id"], cache={"added": CacheEntry(value=1)})
        updated = await store.load(golden["id"])

    assert expected is not None
    assert exactly(expected) == exactly(loaded)
    assert [exactly(expected)] == [exactly(state) for state in listed.flow_states]
    assert [one.model_copy(update={"updated_at": summary.updated_at}) for one in shown] == [summary]
    assert updated is not None
    assert (version, {*expected.cache, "added"}) == (updated.version, updated.cache.keys())


async def test_maintenance_and_saves_drop_unknown_fields(flow_state_settings: FlowStateSettings) -> None:
    """An update keeps them all. Compaction and packing again keep none in what they write, and a save keeps none."""
    golden = read("parts")
    settings = written(golden, flow_state_settings)
    raw, id = RawCollection(settings), golden["id"]
    async with FirestoreFlowStateStore(settings) as store:
        fields = with_later(raw.read(id))
        raw.write(id, fields)
        await store.update(id, cache={"added": CacheEntry(value=1)})
        kept = [later_in(raw.read(id))]
        put("_flowstate.weight", integer(COMPACT_WEIGHT - 1))(fields)
        raw.write(id, fields)
        await store.update(id, cache={"added": CacheEntry(value=1)})
        kept.append(later_in(raw.read(id)))
        raw.write(id, fields)
        async with FirestoreFlowStateStore(settings.model_copy(update={"codecs": (Backwards(),)})) as packing:
            assert 1 == (await packing.rewrap()).rewrapped
            kept.append(later_in(raw.read(id)))
            state = await packing.load(id)
            assert state is not None
            await packing.save(id, state)
            kept.append(later_in(raw.read(id)))

    payload, _, reference, summary = LATER
    assert [{*LATER}, {payload, reference, summary}, {payload, summary}, set()] == kept


def with_later(fields: Fields) -> Fields:
    """Return the fields with one more of an unknown name in each place."""
    for path in LATER:
        put(".".join(path), text("x"))(fields)
    return fields


def later_in(fields: Fields) -> set[tuple[str, ...]]:
    """Return in which places there is one of the unknown name."""
    found = set()
    for path in LATER:
        try:
            drop(".".join(path))(fields)
        except KeyError:
            continue
        found.add(path)
    return found


def read(name: str) -> dict[str, Any]:
    """Return a golden file by the name of its form."""
    path = FOLDER / f"{name}.json"
    text = path.read_bytes() if path.exists() else gzip.decompress((FOLDER / f"{name}.json.gz").read_bytes())
    return dict(json.loads(text))


def written(golden: dict[str, Any], settings: FlowStateSettings) -> FlowStateSettings:
    """Write the documents of a golden file. Return the settings that read them."""
    codecs = {Backwards.name: Backwards()}
    reading = {
        "collection": golden["collection"],
        "keys": golden["keys"] or None,
        "codecs": tuple(codecs[name] for name in golden["codecs"]),
    }
    ours = settings.model_copy(update=reading)
    collection = RawCollection(ours)
    for id, fields in golden["documents"].items():
        collection.write(id, fields)
    return ours


def unordered(state: FlowState) -> Any:
    """Return a form that is equal for exactly equal states. Native documents give their steps no order."""
    return exactly(state.model_dump(by_alias=True))
