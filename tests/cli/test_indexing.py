"""`flowstate indexes`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from firestore_flowstate import FlowStateSettings
from firestore_flowstate.indexes import index_file
from tests.cli.command import Outcome, Processes

PROJECT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _nobody_is_there(environment: dict[str, str]) -> None:
    """It makes no call: these run without an emulator, and without credentials."""
    del environment["FIRESTORE_EMULATOR_HOST"], environment["FLOWSTATE_COLLECTION"]


def test_indexes(flowstate: Processes) -> None:
    """The default settings give the file that lies ready for Firebase's tools."""
    assert Outcome(0, (PROJECT / "emulator/firestore.indexes.json").read_text(), "") == flowstate("indexes")


def test_indexes_of_the_collection_and_the_keys_that_are_asked_for(here: Callable[..., Outcome]) -> None:
    """The options name them. A key is quoted if it must be."""
    arguments = ("--collection", "tenants/acme/runs", "--where", "owner", "--where", "a.b", "--shards", "8")
    found = json.loads(here("indexes", *arguments, "--unsharded-too").out)
    settings = FlowStateSettings(collection="tenants/acme/runs", shards=8)

    assert {"runs"} == {index["collectionGroup"] for index in found["indexes"]}
    assert found == json.loads(index_file(settings, where=["owner", "a.b"], unsharded_too=True))


def test_indexes_for_terraform(here: Callable[..., Outcome]) -> None:
    """The resources are of the project and database of the settings."""
    outcome = here("indexes", "--format", "terraform", "--project", "shop", "--database", "flows")

    assert outcome.out == index_file(FlowStateSettings(project="shop", database="flows"), format="terraform")
    assert 'project     = "shop"\n  database    = "flows"\n  collection  = "genkit-flows"' in outcome.out


@pytest.mark.parametrize("key", ["", "status", "__x__"])
def test_keys_that_no_query_can_filter_by(here: Callable[..., Outcome], key: str) -> None:
    """No index would help such a query."""
    outcome = here("indexes", "--where", key)

    assert (2, "") == (outcome.code, outcome.out)
    assert f"where has the key {key!r}" in outcome.err
