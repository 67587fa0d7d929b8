"""Durable flows keep their invariants over every store and layout.

In memory a process dies at every write of every sample. The stores on the emulator share the writes between them.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest

from firestore_flowstate import FirestoreFlowStateStore, FlowStateSettings, MemoryFlowStateStore
from firestore_flowstate.testing import FlowsTests


class TestFlowsInMemory(FlowsTests):
    @pytest.fixture
    def store(self) -> MemoryFlowStateStore:
        return MemoryFlowStateStore()


class OnTheEmulator(FlowsTests):
    """The invariants over Firestore, with settings of its own."""

    settings: ClassVar[dict[str, Any]]
    every = 5

    @pytest.fixture
    async def store(self, flow_state_settings: FlowStateSettings) -> AsyncIterator[FirestoreFlowStateStore]:
        async with FirestoreFlowStateStore(flow_state_settings.model_copy(update=self.settings)) as store:
            yield store


class TestSerializedFlows(OnTheEmulator):
    settings: ClassVar[dict[str, Any]] = {}
    first = 1


class TestEncryptedFlows(OnTheEmulator):
    settings: ClassVar[dict[str, Any]] = {"keys": {"key": base64.b64encode(bytes(32)).decode()}}
    first = 2


class TestShardedFlows(OnTheEmulator):
    settings: ClassVar[dict[str, Any]] = {"shards": 8}
    first = 3


class TestNativeFlows(OnTheEmulator):
    settings: ClassVar[dict[str, Any]] = {"layout": "native"}
    first = 4
