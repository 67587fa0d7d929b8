"""Genkit JS and a store in Python on the collection of a test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from firestore_flowstate import FirestoreFlowStateStore, FlowStateSettings
from tests.genkit_js.genkit_peer import Genkit


@pytest.fixture
def native_settings(flow_state_settings: FlowStateSettings) -> FlowStateSettings:
    return flow_state_settings.model_copy(update={"layout": "native"})


@pytest.fixture
def genkit(native_settings: FlowStateSettings) -> Iterator[Genkit]:
    peer = Genkit(native_settings)
    yield peer
    peer.close()


@pytest.fixture
async def native(native_settings: FlowStateSettings) -> AsyncIterator[FirestoreFlowStateStore]:
    """A store that shares the collection with Genkit JS."""
    async with FirestoreFlowStateStore(native_settings) as store:
        yield store
