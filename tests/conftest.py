from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.support.leftovers import MARK, Leftovers, ignore_by_handlers

# The machines that run these tests share their cores: an example's time says nothing there.
settings.register_profile("firestore-flowstate", deadline=None, max_examples=40)
settings.load_profile("firestore-flowstate")

ignore_by_handlers()
os.environ[MARK] = str(os.getpid())


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
