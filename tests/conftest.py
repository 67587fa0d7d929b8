from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import settings

from tests.support.emulator_classes import use_archive
from tests.support.leftovers import MARK, Leftovers, ignore_by_handlers

# The machines that run these tests share their cores: an example's time says nothing there.
settings.register_profile("firestore-flowstate", deadline=None, max_examples=40)
settings.load_profile("firestore-flowstate")

HERE: Final = Path(__file__).parent.resolve()
LONG_FILES: Final = (
    "stores/test_firestore_conformance.py",
    "rpc/test_forks.py",
    "operations/test_sharding.py",
    "torture/test_torture.py",
    "flows/test_flows_conformance.py",
    "rpc/test_listen_checks.py",
    "hosts/test_firebase_kills.py",
    "rpc/test_frozen_clocks.py",
    "faults/test_cancellation.py",
    "queues/test_troubled_queues.py",
    "hosts/test_flows_flask.py",
    "emulator/test_lifetime.py",
    "papers/test_benchmarks.py",
    "queues/test_cloud_tasks.py",
    "operations/test_watches.py",
    "testing/test_plugin.py",
    "operations/test_one_moment.py",
)
"""The files that take longest: those that keep a processor busy, and between them those that wait for the most part."""

ignore_by_handlers()
os.environ[MARK] = str(os.getpid())
use_archive(os.environ)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let long files come first. One process has all tests of a file, and the last file would keep one alone busy."""
    places = {(HERE / name).resolve(strict=True): place for place, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


def pytest_collection_finish() -> None:
    """Keep what was collected out of the garbage collections of tests: 400,000 objects, 0.2 s each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _nothing_outlives_the_session() -> Iterator[None]:
    """It is made before, and so looks after, what the tests' own fixtures start for all of them."""
    leftovers = Leftovers()
    yield
    assert [] == leftovers.of_anybody(), "fixtures have left these"


@pytest.fixture(scope="module", autouse=True)
def _nothing_outlives_its_file() -> Iterator[None]:
    leftovers = Leftovers()
    yield
    assert [] == leftovers.of_tests(), "tests of this file have left these"
