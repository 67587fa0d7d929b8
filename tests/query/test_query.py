"""A query with a wrong value is refused when it is made, with the rule."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any

import pytest

from firestore_flowstate import FlowStateQuery, InvalidQueryError
from firestore_flowstate._document.head import expiry, has_expired
from firestore_flowstate.query import milliseconds

NOW = datetime(2024, 5, 1, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("limit", 0, "from 1 to 300"),
        ("limit", -1, "from 1 to 300"),
        ("limit", 301, "from 1 to 300.*iterate"),
        ("limit", 10**30, "from 1 to 300"),
        pytest.param("limit", 10**5_000, "from 1 to 300.*not <int>", id="limit that has no text"),
        pytest.param("started_after", 10**5_000, "is not a moment", id="moment that has no text"),
        pytest.param("where", {"owner": 10**5_000}, "a whole number of 64 bits", id="number that has no text"),
        ("limit", True, "not True"),
        ("limit", False, "not False"),
        ("limit", "5", "not '5'"),
        ("limit", 5.0, "not 5.0"),
        ("limit", float("nan"), "not nan"),
        ("continuation_token", 5, "continuation_token is a string, not int"),
        ("continuation_token", b"token", "continuation_token is a string, not bytes"),
        ("name", 5, "name is a string, not int"),
        ("name", "\ud800", "name contains a lone surrogate"),
        ("blocked_on", ["step"], "blocked_on is a string, not list"),
        ("status", "Done", "scheduled, running, blocked, done, failed"),
        ("status", "", "scheduled, running, blocked, done, failed"),
        ("status", 5, "scheduled, running, blocked, done, failed"),
        ("status", ["done", "Done"], "scheduled, running, blocked, done, failed, not 'Done'"),
        ("status", b"done", "scheduled, running, blocked, done, failed"),
        ("status", [], "status is empty"),
        ("on_error", "ignore", "'raise' or 'skip'"),
        ("on_error", None, "'raise' or 'skip'"),
        ("started_after", datetime(2024, 5, 1), "started_after needs a time zone"),  # noqa: DTZ001  # the mistake
        ("started_before", "2024-05-01", "started_before is a datetime or milliseconds, not str"),
        ("started_after", True, "not bool"),
        ("started_after", float("nan"), "is not a moment"),
        ("started_before", float("inf"), "is not a moment"),
        ("started_after", 2**63, "is not a moment"),
        ("where", [("owner", "me")], "where maps keys to scalars, not list"),
        ("where", {5: "me"}, "a key of where is a string, not int"),
        ("name", "é" * 750, "name has 1,500 bytes of UTF-8.*no more than 1,499"),
        ("blocked_on", "s" * 1500, "blocked_on has 1,500 bytes"),
        ("where", {"owner": "x" * 1500}, r"where\['owner'\] has 1,500 bytes"),
        *(("where", {key: "me"}, "no unknown key of a state is kept") for key in ("", "__x__", "k" * 1487)),
        *(
            ("where", {key: "me"}, "a field of the schema")
            for key in ("name", "flowId", "status", "shard", "_flowstate")
        ),
        ("where", {"owner": None}, "a string, a whole number of 64 bits or a bool"),
        ("where", {"owner": 1.5}, "a string, a whole number of 64 bits or a bool"),
        ("where", {"owner": ["me"]}, "a string, a whole number of 64 bits or a bool"),
        ("where", {"owner": 2**63}, "a string, a whole number of 64 bits or a bool"),
        ("where", {"owner": "\ud800"}, "lone surrogate"),
        ("where", {"\ud800": "me"}, "lone surrogate"),
    ],
)
def test_a_wrong_value_is_refused(field: str, value: Any, rule: str) -> None:
    """The message names the field and the rule it breaks."""
    with pytest.raises(InvalidQueryError, match=rule) as refusal:
        FlowStateQuery(**{field: value})

    assert field in str(refusal.value)


class _BadZone(tzinfo):
    def utcoffset(self, moment: datetime | None) -> timedelta:
        raise LookupError("no zone")


class _BadTime(datetime):
    def __sub__(self, other: Any) -> Any:
        raise LookupError("no difference")


class _BadMapping(dict[str, str]):
    def items(self) -> Any:
        raise LookupError("no items")


class _BadList(list[str]):
    def __iter__(self) -> Any:
        raise LookupError("no members")


class _Unlike:
    __hash__ = None  # type: ignore[assignment]  # as of whatever has an __eq__

    def __eq__(self, other: object) -> bool:
        raise LookupError("no comparison")


_FAILING: dict[str, tuple[str, Any]] = {
    "zone": ("started_after", datetime(2024, 5, 1, tzinfo=_BadZone())),
    "time": ("started_before", _BadTime(2024, 5, 1, tzinfo=timezone.utc)),
    "mapping": ("where", _BadMapping(owner="me")),
    "list": ("status", _BadList(["done"])),
    "member": ("status", [_Unlike()]),
}


@pytest.mark.parametrize(("field", "value"), _FAILING.values(), ids=_FAILING)
def test_a_value_whose_own_method_fails_is_refused(field: str, value: Any) -> None:
    """The error names the field, and what the method raised is its cause."""
    with pytest.raises(InvalidQueryError, match=f"{field} is of type .*of which a method fails") as refusal:
        FlowStateQuery(**{field: value})

    assert isinstance(refusal.value.__cause__, LookupError)


def test_a_value_that_is_compared_with_nothing_is_refused() -> None:
    """What is not a text is not asked whether it equals one."""
    with pytest.raises(InvalidQueryError, match="on_error is"):
        FlowStateQuery(on_error=_Unlike())  # type: ignore[arg-type]  # to be refused


@pytest.mark.parametrize("status", [["done", "running", "done"], ("running", "done"), {"done", "running"}])
def test_several_statuses_are_kept_in_one_order(status: Any) -> None:
    """Queries that ask for the same states are equal, however they say it."""
    assert FlowStateQuery(status=status).status == ("running", "done")
    assert FlowStateQuery(status="running") == FlowStateQuery(status=["running"])


@pytest.mark.parametrize("limit", [None, 1, 10, 300])
def test_limits(limit: int | None) -> None:
    """A limit is 1 to 300 states, or as many as the store's page size says."""
    assert limit == FlowStateQuery(limit=limit).limit


def test_a_wrong_query_is_a_value_error() -> None:
    """Code that knows nothing of this package can tell that an argument was wrong."""
    with pytest.raises(ValueError):
        FlowStateQuery(limit=0)


def test_queries_do_not_change() -> None:
    """A page is asked for with another query, made by dataclasses.replace, which checks again."""
    query = FlowStateQuery(limit=5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        query.limit = 0  # type: ignore[misc]
    with pytest.raises(InvalidQueryError):
        dataclasses.replace(query, limit=0)


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (datetime(1970, 1, 1, tzinfo=timezone.utc), 0),
        (datetime(1970, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))), 0),
        (datetime(2024, 5, 1, 12, 0, 0, 123_000, tzinfo=timezone.utc), 1_714_564_800_123),
        (datetime(2024, 5, 1, 12, 0, 0, 123_456, tzinfo=timezone.utc), 1_714_564_800_123.456),
        (datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=timezone.utc), -1),
        (datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=timezone.utc), 253_402_300_799_999),
        (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))), -62_135_647_200_000),
        (5, 5),
        (5.5, 5.5),
    ],
    ids=str,
)
def test_moments_are_milliseconds(moment: datetime | float, expected: float) -> None:
    """Whole milliseconds are whole numbers, so that they compare and print exactly."""
    assert expected == milliseconds(moment)
    assert type(expected) is type(milliseconds(moment))


@pytest.mark.parametrize("status", ["scheduled", "running", "blocked", "done", "failed"])
def test_what_expires(status: Any) -> None:
    """Finished states expire, or all states, or none."""
    hour = timedelta(hours=1)
    finished = NOW + hour if status in ("done", "failed") else None

    assert finished == expiry(status, NOW, own=None, after=hour, when="finished")
    assert NOW + hour == expiry(status, NOW, own=None, after=hour, when="always")
    assert expiry(status, NOW, own=None, after=None, when="always") is None


def test_an_expiry_beyond_all_calendars_is_none() -> None:
    """A very long time is as good as for ever."""
    assert expiry("done", NOW, own=None, after=timedelta.max, when="finished") is None


def test_a_state_has_expired_from_its_moment_on() -> None:
    """It has expired at the very moment."""
    assert has_expired(NOW, NOW)
    assert not has_expired(NOW + timedelta(microseconds=1), NOW)
    assert not has_expired(None, NOW)
