"""The declared indexes serve every query that a store can send, and none is declared in vain."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from itertools import islice, product
from pathlib import Path
from typing import Any

import pytest

from firestore_flowstate import (
    BlockedOnStep,
    FirestoreFlowStateStore,
    FlowState,
    FlowStateQuery,
    FlowStateSettings,
    InvalidQueryError,
)
from firestore_flowstate._query.matching import Due
from firestore_flowstate._query.structured import due_structured_query, structured_query
from firestore_flowstate._query.token import Position
from firestore_flowstate.backup import export_states
from firestore_flowstate.doctor import examine
from firestore_flowstate.indexes import index_file
from tests.query.index_rules import is_served, needs
from tests.support.query_log import QueryLog, query_log

__all__ = ["query_log"]  # a fixture

PROJECT = Path(__file__).parents[2]
WHERE = ("owner", "a.b", "`")


def file_for(settings: FlowStateSettings, **options: Any) -> dict[str, Any]:
    return dict(json.loads(index_file(settings, **options)))


def file_of(shards: int = 1, **options: Any) -> dict[str, Any]:
    return file_for(FlowStateSettings(shards=shards), where=WHERE, **options)


def combinations() -> Iterator[FlowStateQuery]:
    """Yield a query for each combination of filters."""
    starts = [{}, {"started_after": 1}, {"started_before": 9}, {"started_after": 1, "started_before": 9}]
    wheres: list[dict[str, str | int | bool]] = [{}, {"owner": "me"}, {"owner": "me", "a.b": 1, "`": True}]
    for name, status, blocked_on, start, where in product(
        [None, "flow"], [None, "running", ("running", "blocked"), ("running", "done")], [None, "step"], starts, wheres
    ):
        yield FlowStateQuery(
            limit=2, name=name, status=status, blocked_on=blocked_on, where=where, **start  # type: ignore[arg-type]
        )  # fmt: skip


def shapes(*, sharded: bool) -> list[Any]:
    """Return a structured query for each combination of filters that a page, a summary or a count is asked with."""
    unsharded: list[dict[str, Any]] = [{}, {"native_done": [True]}, {"native_done": [False, True]}]
    kinds: list[dict[str, Any]] = [{"shard": 3}] if sharded else unsharded
    pages: list[dict[str, Any]] = [
        {"limit": None},
        {"limit": 10, "fields": ["name", "summary"]},
        {"limit": 10, "after": Position(5, "id"), "after_name": "projects/p/databases/d/documents/genkit-flows/id"},
    ]
    lists = [
        structured_query("genkit-flows", query, **page, **kind)
        for query, page, kind in product(combinations(), pages, kinds)
    ]
    shard = 3 if sharded else None
    due: dict[str, Any] = {"before": 5, "limit": 10, "fields": ["name"], "shard": shard}
    name = "projects/p/databases/d/documents/genkit-flows/id"
    return [
        *lists,
        due_structured_query("genkit-flows", after=None, after_name=None, **due),
        due_structured_query("genkit-flows", after=Due(5, "id"), after_name=name, **due),
    ]


@pytest.mark.parametrize("shards", [1, 8])
def test_every_combination_of_filters_is_served(shards: int) -> None:
    """Filters are served alone and together, for pages, summaries and counts."""
    file = file_of(shards)

    assert [] == [needs(query) for query in shapes(sharded=shards > 1) if not is_served(query, file)]


def test_both_kinds_are_served_while_shards_are_introduced() -> None:
    """Stores of one shard and of several can run side by side on such indexes."""
    file = file_of(8, unsharded_too=True)

    assert [] == [needs(query) for sharded in (True, False) for query in shapes(sharded=sharded)
                  if not is_served(query, file)]  # fmt: skip


@pytest.mark.parametrize("shards", [1, 8])
def test_no_index_is_declared_in_vain(shards: int) -> None:
    """Each costs on every write, so each must be one without which some query fails."""
    file = file_of(shards)
    asked = {needs(query): query for query in shapes(sharded=shards > 1)}.values()
    for index in file["indexes"]:
        without = {**file, "indexes": [other for other in file["indexes"] if other != index]}

        assert not all(is_served(query, without) for query in asked), index


@pytest.mark.parametrize(("shard", "is_served_by_itself"), [(None, True), (3, False)])
def test_what_is_due_needs_an_index_over_shards_alone(shard: int | None, is_served_by_itself: bool) -> None:
    """So a service with one shard drives and sweeps before any index is deployed, as docs/cloud-run.md says."""
    due = due_structured_query(
        "genkit-flows", before=5, limit=10, fields=["name"], shard=shard, after=None, after_name=None
    )

    assert is_served_by_itself is is_served(due, {"indexes": [], "fieldOverrides": []})


def test_the_default_settings_declare_as_many_as_the_page_says() -> None:
    """docs/indexes.md has their numbers, to be compared with Firestore's limits."""
    file = json.loads(index_file(FlowStateSettings()))
    told = f"these are {len(file['indexes'])} composite indexes and {len(file['fieldOverrides'])} fields"

    assert told in (PROJECT / "docs/indexes.md").read_text()


def test_over_shards_nothing_but_the_shard_begins_an_index_on_start_time() -> None:
    """Otherwise that index takes no more than 500 writes a second, and shards are of no use."""
    file = file_of(8)

    assert {"shard"} == {index["fields"][0]["fieldPath"] for index in file["indexes"]}
    assert {"shard", "startTime", "wakeAt"} <= {override["fieldPath"] for override in file["fieldOverrides"]}


@pytest.mark.parametrize("shards", [1, 8])
def test_payload_and_expiry_have_no_index(shards: int) -> None:
    """So it is in either layout and in parts: whatever is in the payload costs no index entries."""
    exempt = {(o["collectionGroup"], o["fieldPath"]) for o in file_of(shards)["fieldOverrides"] if o["indexes"] == []}
    flows = ("_flowstate", "summary", "expireAt", "input", "cache", "eventsTriggered", "executions", "traceContext")

    assert exempt >= {
        *(("genkit-flows", field) for field in flows),
        ("genkit-flows", "operation.result"),
        ("genkit-flows", "operation.metadata"),
        ("flowstate-parts", "data"),
        ("flowstate-parts", "expireAt"),
    }


def test_expiry_is_a_ttl_policy() -> None:
    """Flow states have one, and so have their parts, which Firestore does not delete with their document."""
    overrides = file_of()["fieldOverrides"]

    assert {("genkit-flows", "expireAt"), ("flowstate-parts", "expireAt")} == {
        (override["collectionGroup"], override["fieldPath"]) for override in overrides if override.get("ttl")
    }


@pytest.mark.parametrize("folder", ["emulator", "examples/firebase"])
def test_the_file_of_the_project_is_generated(folder: str) -> None:
    """A firestore.indexes.json is what the default settings give: `flowstate indexes > ...` writes it."""
    assert index_file(FlowStateSettings()) == (PROJECT / folder / "firestore.indexes.json").read_text()


def test_a_nested_collection_is_named_by_its_last_name() -> None:
    """Firestore keeps indexes by that name, below whatever document the collection is."""
    file = file_for(FlowStateSettings(collection="tenants/acme/runs"))

    assert {"runs"} == {index["collectionGroup"] for index in file["indexes"]}


@pytest.mark.parametrize("key", ["", "status", "startTime", "__x__", "_flowstate", "\ud800"], ids=ascii)
def test_refuses_keys_that_no_query_can_filter_by(key: str) -> None:
    """They are fields of the head, or names that Firestore refuses."""
    with pytest.raises(InvalidQueryError):
        index_file(FlowStateSettings(), where=[key])


@pytest.mark.parametrize("where", ["owner", b"owner", 5, None], ids=repr)
def test_refuses_one_text_in_place_of_keys(where: Any) -> None:
    """Each letter would be a key, with an index that nobody asks for."""
    with pytest.raises(TypeError, match=re.escape(f"such as ['owner'], and is not {where!r}")):
        index_file(FlowStateSettings(), where=where)


def test_refuses_what_are_no_settings() -> None:
    """The error names the argument."""
    settings: Any = 5
    with pytest.raises(TypeError, match="settings are FlowStateSettings"):
        index_file(settings)


@pytest.mark.parametrize(("shards", "options"), [(1, {"where": WHERE}), (8, {"where": WHERE, "unsharded_too": True})])
def test_firebase_tools_accepts_what_is_generated(shards: int, options: dict[str, Any]) -> None:
    """They pass the check that it makes before it deploys."""
    answer = subprocess.run(
        ["node", PROJECT / "tests/firebase_tools/validate_indexes.js"],
        input=index_file(FlowStateSettings(shards=shards), **options),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (0, "") == (answer.returncode, answer.stderr)


@pytest.mark.parametrize("shards", [1, 8])
def test_terraform_says_the_same(shards: int) -> None:
    """There is one resource for each index and each field."""
    settings = FlowStateSettings(shards=shards, project="p", database="d")
    text = index_file(settings, where=WHERE, format="terraform")
    file = file_for(settings, where=WHERE)

    assert len(file["indexes"]) == text.count('resource "google_firestore_index"')
    assert (
        len(file["fieldOverrides"]) == text.count('resource "google_firestore_field"') == text.count("index_config {}")
    )
    assert 2 == text.count("ttl_config {}")
    assert len(file["indexes"]) + len(file["fieldOverrides"]) == text.count('database   = "d"') + text.count(
        'database    = "d"'
    )


def test_terraform_resources_read_as_terraform_formats_them() -> None:
    """The text was put through `terraform fmt` by hand. Names are unique whatever the keys."""
    text = index_file(FlowStateSettings(), where=["a.b", "a b", "${x}"], format="terraform")
    resources = text.split("\n\nresource ")

    assert EXPECTED_INDEX in text
    assert EXPECTED_FIELD in text
    assert '"`$${x}`"' in text
    assert len(resources) == len({resource.split("{")[0] for resource in resources})


LATER = 4_102_444_800_000  # milliseconds: the year 2100, so that nobody is late

EXPECTED_INDEX = """\
resource "google_firestore_index" "genkit_flows_by_a_b_2" {
  database    = "(default)"
  collection  = "genkit-flows"
  query_scope = "COLLECTION"

  fields {
    field_path = "`a b`"
    order      = "ASCENDING"
  }

  fields {
    field_path = "startTime"
    order      = "DESCENDING"
  }
}
"""

EXPECTED_FIELD = """\
resource "google_firestore_field" "genkit_flows_expireAt" {
  database   = "(default)"
  collection = "genkit-flows"
  field      = "expireAt"

  index_config {}
  ttl_config {}
}
"""


@pytest.fixture(params=[1, 2])
async def store(
    request: pytest.FixtureRequest, flow_state_settings: FlowStateSettings
) -> AsyncIterator[FirestoreFlowStateStore]:
    settings = flow_state_settings.model_copy(update={"shards": request.param, "expire_after": timedelta(seconds=1)})
    store = FirestoreFlowStateStore(settings)
    yield store
    await store.close()


async def fill(store: FirestoreFlowStateStore) -> None:
    """Save states of every kind, one of them in parts."""
    for place in range(6):
        state = FlowState.start(name="flow", input="x" * 1_500_000 if place == 0 else place)
        state.start_time = place
        state.blocked_on_step = BlockedOnStep(name="step") if place % 2 else None
        state.operation.done = place % 3 == 0
        state.owner = "me"
        state.wakeAt = LATER + place
        await store.save(f"id-{place}", state)


async def test_whatever_a_store_asks_is_served(store: FirestoreFlowStateStore, query_log: QueryLog) -> None:
    """It is every query of every method, for a fifth of the combinations: these send what is walked through above."""
    await fill(store)
    query_log.clear()

    async def ask(query: FlowStateQuery) -> None:
        page = await store.list_summaries(query)
        if page.continuation_token is not None:
            await store.list(FlowStateQuery(**{**vars(query), "continuation_token": page.continuation_token}))
        await store.count(query)

    await asyncio.gather(*map(ask, islice(combinations(), None, None, 5)))
    async for _ in store.iterate(FlowStateQuery(limit=2, status="running")):
        pass
    first = await store.due(LATER + 3, limit=2)
    await store.due(LATER + 9, after=first[-1])
    await store.load_many([f"id-{place}" for place in range(6)])
    assert [] == [finding async for finding in examine(store)]
    async for _ in export_states(store):
        pass
    await store.migrate(store)
    await store.rewrap()
    await store.gc()
    await store.delete("id-0")
    await store.purge(older_than=timedelta(microseconds=1), dry_run=True)
    await store.purge(FlowStateQuery(status="blocked"), older_than=timedelta(days=1))
    await store.delete_many(["id-1", "id-2"])
    file = file_for(store.settings, where=WHERE)

    assert len(query_log.queries) > 100
    assert set() == {needs(query) for query in query_log.queries if not is_served(query, file)}
