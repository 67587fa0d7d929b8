"""Golden documents of format version 1, fixed: every later version of the package must still read them."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from firestore_flowstate import CacheEntry, FirestoreFlowStateStore, FlowState, FlowStateQuery, FlowStateSettings
from firestore_flowstate.testing import exactly
from tests.format.forms import FORMS, Backwards
from tests.support.raw_documents import RawCollection

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
