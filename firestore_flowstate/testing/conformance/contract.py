"""The contracts as one class each: what a store must pass."""

from __future__ import annotations

from .batches import BatchTests
from .editing import EditingTests
from .expire_after import ExpireAfterTests
from .expiry import ExpiryTests
from .filtering import FilterTests
from .ids import IdTests
from .keeping import KeepingTests
from .listing import ListingTests
from .partial_writes import PartialWriteTests
from .summaries import SummaryTests
from .typed_fields import TypedFieldTests
from .unknown_keys import UnknownKeyTests
from .values import ValueTests
from .versions import VersionTests
from .waking import DueTests
from .watching import WatchTests
from .wrong_arguments import ArgumentTests


class FlowStateStoreTests(KeepingTests, IdTests, ListingTests):
    """The contract of `FlowStateStore`: save, load, list. Override the fixture `store`."""


class VersionedFlowStateStoreTests(
    FlowStateStoreTests,
    ArgumentTests,
    VersionTests,
    PartialWriteTests,
    UnknownKeyTests,
    EditingTests,
    BatchTests,
    FilterTests,
    SummaryTests,
    TypedFieldTests,
    ValueTests,
    DueTests,
    WatchTests,
):
    """The contract of `VersionedFlowStateStore`, with that of `FlowStateStore` in it. Override the fixture `store`."""


class ExpiringFlowStateStoreTests(ExpiryTests, ExpireAfterTests):
    """What must hold for a VersionedFlowStateStore whose states expire. Override the fixture `store_expiring_after`."""
