"""Documents that Genkit JS wrote, read by our store as Genkit JS read them."""

from __future__ import annotations

import json
import math
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from firestore_flowstate import CacheEntry, FirestoreFlowStateStore, FlowState, FlowStateSettings
from firestore_flowstate.testing import exactly
from tests.support.raw_documents import RawCollection

FOLDER = Path(__file__).parents[1] / "data" / "genkit-js"
GOLDEN = sorted(path.stem for path in FOLDER.glob("*.json"))
BROKEN = ["cache-missing"]
NOT_JSON = {"done-rich": ("bytes", "date", "nan")}
"""Steps whose results JSON has no form for, so that what Genkit JS loaded cannot be compared."""


@pytest.mark.parametrize("name", [name for name in GOLDEN if name not in BROKEN])
async def test_a_document_of_genkit_reads_as_genkit_reads_it(name: str, flow_state_settings: FlowStateSettings) -> None:
    """The state is what Genkit JS itself loaded. Not one value differs."""
    golden = read(name)
    loaded = await load(flow_state_settings, golden["document"]["fields"])

    expected = FlowState.model_validate(golden["loadedByGenkit"])
    for step in NOT_JSON.get(name, ()):
        del expected.cache[step]
        del loaded.cache[step]
    assert unordered(expected) == unordered(loaded)


async def test_values_that_json_has_not_keep_their_types(flow_state_settings: FlowStateSettings) -> None:
    """Bytes are bytes, timestamps datetimes in UTC, and doubles stay doubles, NaN and infinity included."""
    loaded = await load(flow_state_settings, read("done-rich")["document"]["fields"])

    assert b"hi" == loaded.cache["bytes"].value
    date = loaded.cache["date"].value
    assert isinstance(date, datetime)
    assert datetime(2023, 11, 14, 22, 13, 20, 123000, tzinfo=timezone.utc) == date
    doubles = {
        "v": math.nan,
        "inf": math.inf,
        "negz": 0.0,
        "big53": 2.0**53,
        "big60": 2.0**60,
        "big64": 2.0**64,
    }
    assert exactly(doubles) == exactly(loaded.cache["nan"].value)


@pytest.mark.parametrize("name", BROKEN)
async def test_a_document_that_genkit_broke_reads_without_steps(
    name: str, flow_state_settings: FlowStateSettings
) -> None:
    """Genkit JS drops a cache whose results are all undefined, and then fails on it. Ours reads an empty one."""
    golden = read(name)
    loaded = await load(flow_state_settings, golden["document"]["fields"])

    assert "loadError" in golden["loadedByGenkit"]
    assert {} == loaded.cache
    assert "done" == loaded.status


async def test_missing_events_read_as_none(flow_state_settings: FlowStateSettings) -> None:
    """The client library drops eventsTriggered by the same fault."""
    document = read("resumed-done")["document"]["fields"]
    del document["eventsTriggered"]
    loaded = await load(flow_state_settings, document)

    assert {} == loaded.events_triggered
    assert CacheEntry(value={"approved": True}) == loaded.cache["approval"]


async def load(settings: FlowStateSettings, fields: dict[str, Any]) -> FlowState:
    RawCollection(settings).write("by-genkit", fields)
    async with FirestoreFlowStateStore(settings) as store:
        state = await store.load("by-genkit")
    assert state is not None
    return state


def read(name: str) -> dict[str, Any]:
    return dict(json.loads((FOLDER / f"{name}.json").read_text()))


def unordered(state: FlowState) -> Any:
    """Return a form that is equal for exactly equal states. The order of steps is the map's own in native documents."""
    return exactly(state.model_dump(by_alias=True))
