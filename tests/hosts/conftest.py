from __future__ import annotations

import uuid

import pytest

from firestore_flowstate.emulator import Emulator
from tests.hosts.serving import environment


@pytest.fixture
def host_environment(firestore_emulator: Emulator) -> dict[str, str]:
    """The environment of a host: the emulator, and a project of its own."""
    return environment(firestore_emulator.host, f"demo-{uuid.uuid4().hex[:12]}")
