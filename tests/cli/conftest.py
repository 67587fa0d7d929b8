from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from firestore_flowstate import FirestoreFlowStateStore, FlowStateSettings, SyncFlowStateStore
from tests.cli.command import Outcome, Processes, run_here
from tests.cli.story import story


@pytest.fixture
def environment(flow_state_settings: FlowStateSettings) -> dict[str, str]:
    """The environment of someone who works on the collection of the test."""
    assert flow_state_settings.project is not None
    assert flow_state_settings.emulator_host is not None
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("FLOWSTATE_", "GOOGLE_", "GCLOUD_", "FIREBASE_", "PYTHON", "COLUMNS", "FORCE_COLOR"))
    }
    return {
        **inherited,
        "FIRESTORE_EMULATOR_HOST": flow_state_settings.emulator_host,
        "GOOGLE_CLOUD_PROJECT": flow_state_settings.project,
        "FLOWSTATE_COLLECTION": flow_state_settings.collection,
        "TZ": "UTC0",
    }


@pytest.fixture
def flowstate(environment: dict[str, str]) -> Iterator[Processes]:
    """What runs the command as a process."""
    processes = Processes(environment)
    yield processes
    processes.end()


@pytest.fixture
def here(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """What runs the command in this process."""
    for name in os.environ.keys() - environment.keys():
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if sys.platform != "win32":
        time.tzset()
    return run_here


@pytest.fixture
def store(flow_state_store: FirestoreFlowStateStore) -> Iterator[SyncFlowStateStore]:
    """The collection that the command works on, with the flow states of the story."""
    blocking = SyncFlowStateStore(flow_state_store)
    blocking.save_many(story())
    yield blocking
    blocking.close()
