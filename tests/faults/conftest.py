"""The store through a proxy that loses, holds and cuts, and beside it one that nothing happens to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from firestore_flowstate import FirestoreFlowStateStore, FlowStateSettings
from tests.faults.relay import Relay
from tests.faults.writes import Troubled
from tests.rpc.tcp_proxy import TcpProxy


@pytest.fixture
def proxy(flow_state_settings: FlowStateSettings) -> Iterator[TcpProxy]:
    """A proxy in front of the emulator."""
    assert flow_state_settings.emulator_host is not None
    proxy = TcpProxy(flow_state_settings.emulator_host)
    yield proxy
    proxy.close()


@pytest.fixture
async def direct(flow_state_settings: FlowStateSettings) -> AsyncIterator[FirestoreFlowStateStore]:
    """A store that calls the emulator itself."""
    async with FirestoreFlowStateStore(flow_state_settings) as store:
        yield store


@pytest.fixture
async def troubled(flow_state_settings: FlowStateSettings, proxy: TcpProxy) -> AsyncIterator[FirestoreFlowStateStore]:
    """A store on the same collection, through the proxy."""
    async with FirestoreFlowStateStore(flow_state_settings.model_copy(update={"emulator_host": proxy.host})) as store:
        yield store


@pytest.fixture
def relay(flow_state_settings: FlowStateSettings) -> Iterator[Relay]:
    """A server in front of the emulator that knows calls, while the proxy knows bytes."""
    assert flow_state_settings.emulator_host is not None
    with Relay(flow_state_settings.emulator_host) as relay:
        yield relay


@pytest.fixture
async def relayed(flow_state_settings: FlowStateSettings, relay: Relay) -> AsyncIterator[FirestoreFlowStateStore]:
    """A store on the same collection, through the relay."""
    async with FirestoreFlowStateStore(flow_state_settings.model_copy(update={"emulator_host": relay.host})) as store:
        yield store


@pytest.fixture
def through_a_proxy(flow_state_settings: FlowStateSettings) -> Troubled:
    """Makes a proxy and a store of its own that goes through it, for tests that need many."""

    @asynccontextmanager
    async def make(**settings: object) -> AsyncIterator[tuple[TcpProxy, FirestoreFlowStateStore]]:
        assert flow_state_settings.emulator_host is not None
        proxy = TcpProxy(flow_state_settings.emulator_host)
        update = {**settings, "emulator_host": proxy.host}
        try:
            async with FirestoreFlowStateStore(flow_state_settings.model_copy(update=update)) as store:
                yield proxy, store
        finally:
            proxy.close()

    return make
