"""`flowstate list`, `show`, `count`, `delete` and `doctor`."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from firestore_flowstate import (
    CacheEntry,
    FirestoreFlowStateStore,
    FlowState,
    FlowStateExecution,
    FlowStateQuery,
    FlowStateSettings,
    SyncFlowStateStore,
)
from firestore_flowstate.cli.output import print_table
from firestore_flowstate.testing import exactly
from tests.cli.command import Outcome, Processes
from tests.cli.story import MINUTE, NINE, flow, story
from tests.support.damage import put, sound
from tests.support.meter import Bill, Meter, meter
from tests.support.query_log import QueryLog, query_log
from tests.support.raw_documents import RawCollection

__all__ = ["meter", "query_log"]  # fixtures

TABLE = """\
id          name      status   started (UTC)        written   steps  bytes  about
draft-7     draft     running  2024-05-31 09:03:00  WRITTEN       0    304
order-1003  checkout  failed   2024-05-31 09:02:00  WRITTEN       0    378  Card declined
order-1002  checkout  blocked  2024-05-31 09:01:00  WRITTEN       1    344  waits for approve
order-1001  checkout  done     2024-05-31 09:00:00  WRITTEN       3    422
"""


def without_writes(outcome: Outcome) -> Outcome:
    """Return the outcome without the moments at which the test has written, which it shows by the time of day."""
    lines = [
        re.sub(r"(:\d\d)  \d\d:\d\d:\d\d  ", r"\1  WRITTEN   ", line, count=1) for line in outcome.out.splitlines()
    ]
    return outcome._replace(out="".join(f"{line}\n" for line in lines))


def looked_at(settings: FlowStateSettings) -> str:
    return f"looked at {settings.collection} in {settings.project} on the emulator {settings.emulator_host}\n"


def ids(outcome: Outcome) -> list[str]:
    return [json.loads(line)["id"] for line in outcome.out.splitlines()]


@pytest.fixture
def raw(flow_state_settings: FlowStateSettings) -> RawCollection:
    return RawCollection(flow_state_settings)


def test_list(flowstate: Processes, store: SyncFlowStateStore) -> None:
    """A table, newest start first."""
    assert Outcome(0, TABLE, "") == without_writes(flowstate("list"))


def test_list_shows_the_beginning_of_a_very_long_id(here: Callable[..., Outcome], store: SyncFlowStateStore) -> None:
    """The lines of other ids stay short. The long one can be shown by that beginning, and is whole in JSON."""
    long = "i" * 1490
    store.save(long, FlowState.start(name="n" * 2000))

    assert {len(line) for line in here("list").out.splitlines()} <= set(range(300))
    [line] = [line for line in here("list").out.splitlines() if line.startswith("i" * 5)]
    assert ["i" * 80 + "…", "n" * 80 + "…"] == line.split()[:2]
    assert long in ids(here("list", "--json"))
    assert 0 == here("show", "i" * 80).code


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ("--status blocked", ["order-1002"]),
        ("--status blocked --status failed", ["order-1003", "order-1002"]),
        ("--since 999999d", ["draft-7", "order-1003", "order-1002", "order-1001"]),
        ("--since 1h", []),
        ("--status done --name checkout", ["order-1001"]),
        ("--name draft", ["draft-7"]),
        ("--blocked-on approve", ["order-1002"]),
        ("--started-after 2024-05-31T09:02", ["draft-7", "order-1003"]),
        ("--started-after 2024-05-31T11:02+02:00", ["draft-7", "order-1003"]),
        ("--started-before 1717146060000", ["order-1001"]),
        ("--started-after 2024-05-31T09:01Z --started-before 2024-05-31T09:02Z", ["order-1002"]),
        ("--where owner=ana", ["order-1003", "order-1001"]),
        ("--where owner=ana --status failed", ["order-1003"]),
        ("--where priority:=2", ["draft-7"]),
        ("--where priority=2", []),
    ],
)
def test_filters(here: Callable[..., Outcome], store: SyncFlowStateStore, filters: str, expected: list[str]) -> None:
    """Filters work alone and together, for lists and counts alike."""
    assert expected == ids(here("list", "--json", *filters.split()))
    assert f"{len(expected)}\n" == here("count", *filters.split()).out


DUE = """\
id          name      status   started (UTC)        written   steps  bytes  about
order-1002  checkout  blocked  2024-05-31 09:01:00  WRITTEN       1    367  due 2024-05-31 09:30:00, waits for approve
draft-7     draft     running  2024-05-31 09:03:00  WRITTEN       0    327  due 2024-05-31 10:00:00
"""  # a table


def test_list_what_is_due(
    here: Callable[..., Outcome], store: SyncFlowStateStore, flow_state_settings: FlowStateSettings
) -> None:
    """The earliest wake time comes first. What is not due yet is not in the list."""
    assert Outcome(0, "", f"nothing is due: {looked_at(flow_state_settings)}") == here("list", "--due")
    for id, minutes in (("draft-7", 60), ("order-1002", 30), ("order-1003", 10_000_000)):
        store.update(id, extra={"wakeAt": NINE + minutes * MINUTE})

    assert Outcome(0, DUE, "") == without_writes(here("list", "--due"))
    assert ["order-1002"] == ids(here("list", "--due", "--json", "--limit", "1"))
    assert 2 == here("list", "--due", "--status", "done").code


def test_list_as_json(here: Callable[..., Outcome], store: SyncFlowStateStore) -> None:
    """Each line is an object with all that a summary has, under the names that it has in JSON."""
    found = json.loads(here("list", "--json", "--status", "failed").out)

    assert found.pop("updatedAt").endswith("Z")
    assert found == {
        "id": "order-1003",
        "flowId": "order-1003",
        "name": "checkout",
        "status": "failed",
        "startTime": 1717146120000,
        "blockedOn": None,
        "stepCount": 0,
        "sizeBytes": 378,
        "lastEndTime": None,
        "errorLine": "Card declined",
        "expireAt": None,
        "extra": {"owner": "ana"},
    }


def test_list_as_json_keeps_numbers(here: Callable[..., Outcome], store: SyncFlowStateStore) -> None:
    """Numbers that JSON does not have are texts."""
    store.save("odd", flow("odd", startTime=0.5, score=math.nan, large=2**62, ratio=-0.0))
    found = json.loads(here("list", "--json", "--started-before", "2024-01-01").out)

    assert exactly((0.5, {"score": "NaN", "large": 2**62, "ratio": -0.0})) == exactly(
        (found["startTime"], found["extra"])
    )


def test_list_tells_how_to_go_on(here: Callable[..., Outcome], store: SyncFlowStateStore) -> None:
    """The token is on standard error. If nothing follows, no token is printed."""
    first = here("list", "--json", "--limit", "3")
    token = first.err.rpartition(" ")[2].strip()
    rest = here("list", "--json", "--limit", "3", "--token", token)

    assert f"There are more: --token {token}\n" == first.err
    assert ["draft-7", "order-1003", "order-1002", "order-1001"] == ids(first) + ids(rest)
    assert (0, "") == (rest.code, rest.err)


def test_list_is_as_long_as_asked(here: Callable[..., Outcome], store: SyncFlowStateStore) -> None:
    """The list has as many as asked for, also if that takes several pages of Firestore."""
    store.save_many({f"id-{number:03}": flow("x", startTime=number) for number in range(310)})

    assert 314 == len(ids(here("list", "--json", "--limit", "1000")))
    assert 301 == len(ids(here("list", "--json", "--limit", "301")))


def test_nothing_to_list(here: Callable[..., Outcome], flow_state_settings: FlowStateSettings) -> None:
    """Standard output is empty, and standard error says which collection was asked."""
    where = looked_at(flow_state_settings)

    assert Outcome(0, "", f"no flow states: {where}") == here("list")
    assert Outcome(0, "", f"no flow state matches: {where}") == here("list", "--status", "done")
    assert Outcome(0, "0\n", "") == here("count")


def test_list_goes_past_what_cannot_be_read(
    here: Callable[..., Outcome], store: SyncFlowStateStore, flow_state_settings: FlowStateSettings
) -> None:
    """The document that cannot be read is named."""
    fields = sound()
    put("status", {"stringValue": "?"})(fields)
    RawCollection(flow_state_settings).write("damaged", fields)
    outcome = here("list", "--json")

    assert 4 == len(ids(outcome))
    assert (0, "damaged cannot be read; flowstate doctor says why\n") == (outcome.code, outcome.err)


def test_nothing_moves_the_cursor(here: Callable[..., Outcome], store: SyncFlowStateStore) -> None:
    """What a flow is called does not colour the terminal, nor spread over lines. The JSON has it as it is."""
    store.save("\x1b[2J\n", flow("x", name="\x1b[31mred", startTime=0))

    assert r"\x1b[2J\n   \x1b[31mred  running" in here("list").out
    assert "\x1b[2J\n" == ids(here("list", "--json"))[-1]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("started", ["draft-7", "order-1003", "order-1002", "order-1001"]),
        ("written", ["order-1003", "order-1001"]),
        ("steps", ["order-1001", "order-1002"]),
        ("bytes", ["order-1001", "order-1003", "order-1002", "draft-7"]),
        ("id", ["draft-7", "order-1001", "order-1002", "order-1003"]),
        ("name", ["order-1003", "order-1002", "order-1001", "draft-7"]),
        ("status", ["order-1002", "order-1001", "order-1003", "draft-7"]),
    ],
)
def test_list_in_another_order(
    here: Callable[..., Outcome], store: SyncFlowStateStore, column: str, expected: list[str]
) -> None:
    """The newest and largest come first, and words go from A to Z. What is equal stays as it was."""
    for id in ("order-1001", "order-1003"):
        store.update(id, trace_context="t")

    assert expected == ids(here("list", "--json", "--sort", column))[: len(expected)]


def test_list_sorts_all_that_match(here: Callable[..., Outcome], store: SyncFlowStateStore, meter: Meter) -> None:
    """It shows the first in that order of all that match, and says how many come behind. It is billed as two pages."""
    store.save_many({f"id-{number:03}": flow("x", startTime=1 + number, wakeAt=number) for number in range(310)})
    store.update("id-000", cache={"a": CacheEntry(value=1), "b": CacheEntry(), "c": CacheEntry(), "d": CacheEntry()})
    written = here("list", "--json", "--sort", "written", "--limit", "1")
    filtered = here("list", "--json", "--sort", "bytes", "--limit", "1", "--where", "owner=ana")

    assert (["id-000"], "There are 313 more behind these in that order: --limit 314\n") == (ids(written), written.err)
    assert ["id-000", "order-1001"] == ids(here("list", "--json", "--sort", "steps", "--limit", "2"))
    assert ["order-1001"] == ids(filtered)
    assert "There is 1 more" in filtered.err
    assert ["id-309"] == ids(here("list", "--json", "--sort", "started", "--due", "--limit", "1"))
    assert 2 == here("list", "--sort", "id", "--token", "x").code
    meter.take()
    here("list", "--sort", "id", "--emulator-host", meter.host)
    assert Bill(reads=301 + 14) == meter.take()


def test_the_last_write_has_the_time_of_today_and_else_the_date(
    here: Callable[..., Outcome], store: SyncFlowStateStore, capsys: pytest.CaptureFixture[str]
) -> None:
    """The day is that of this machine."""
    [summary] = store.list_summaries(FlowStateQuery(limit=1)).summaries
    for days in (0, 2):
        now = datetime.now(timezone.utc)
        print_table([summary.model_copy(update={"updated_at": now - timedelta(days=days)})])
    today, _, before = [line.split("09:03:00  ")[-1].split()[0] for line in capsys.readouterr().out.splitlines()[1:]]

    assert re.fullmatch(r"\d\d:\d\d:\d\d", today)
    assert f"{now - timedelta(days=2):%Y-%m-%d}" == before


def test_times_are_local(flowstate: Processes, store: SyncFlowStateStore) -> None:
    """The table names the zone. A time that lies in summer or winter time of another name has that name itself."""
    berlin = "CET-1CEST,M3.5.0,M10.5.0/3"
    outcome = flowstate("list", "--started-after", "2024-05-31T11:03", TZ=berlin)
    [heading, row] = outcome.out.splitlines()

    assert re.search(r"started \(CES?T\)", heading)
    assert re.search(r"draft-7 .* 2024-05-31 11:03:00( CEST)? ", row)
    assert ("CEST" in heading) != ("CEST" in row.partition("  20")[2][:40])


def test_show(flowstate: Processes, store: SyncFlowStateStore) -> None:
    """The state has Genkit's form and order, with unknown keys last. Version, times and sizes are printed beside it."""
    outcome = flowstate("show", "order-1002")
    state = store.load("order-1002")

    assert state is not None
    assert 0 == outcome.code
    assert re.fullmatch(
        rf"order-1002: written {datetime.now(timezone.utc).year}-.* UTC, never expires, [\d,]+ bytes, "
        rf"version {re.escape(state.version or '')}\n",
        outcome.err,
    )
    assert exactly(story()["order-1002"]) == exactly(FlowState.model_validate(json.loads(outcome.out)))
    assert [
        *("flowId", "name", "input", "startTime", "cache", "eventsTriggered", "blockedOnStep", "operation"),
        *("executions", "owner"),
    ] == list(json.loads(outcome.out))


def test_show_details(here: Callable[..., Outcome], store: SyncFlowStateStore, raw: RawCollection) -> None:
    """Scripts get the version to write on, times, the size by Firestore's rules, and what is in parts."""
    store.update("order-1002", cache={"large": CacheEntry(value=os.urandom(700_000).hex())})
    outcome = here("show", "--details", "order-1002")
    state = store.load("order-1002")
    details = json.loads(outcome.out)
    shown = details.pop("state")

    assert state is not None
    assert (0, "") == (outcome.code, outcome.err)
    assert exactly(state.model_dump()) == exactly(FlowState.model_validate(shown).model_dump())
    assert 0 < details.pop("sizeBytes") < 10_000
    assert 600_000 < details.pop("partBytes") < 1_500_000
    assert details == {
        "id": "order-1002",
        "version": state.version,
        "updatedAt": state.updated_at.isoformat() if state.updated_at is not None else None,
        "expireAt": None,
        "layout": "serialized",
        "parts": len(raw.below("order-1002", "flowstate-parts")),
    }


def test_show_raw(here: Callable[..., Outcome], store: SyncFlowStateStore, raw: RawCollection) -> None:
    """The document as it is stored, in the form of Firestore's REST interface, also if nobody reads it any more."""
    fields = sound()
    put("_flowstate.operation", {"stringValue": "{"})(fields)
    raw.write("damaged", fields)
    raw.write("expired", {**sound(), "expireAt": {"timestampValue": "2024-01-01T00:00:00Z"}})
    assert 1 == here("show", "expired").code

    for id in ("order-1001", "damaged", "expired"):
        document = json.loads(here("show", "--raw", id).out)

        assert raw.read(id) == document["fields"]
        assert {"name", "createTime", "updateTime", "fields"} == set(document)


def test_the_beginning_of_an_id_is_enough(here: Callable[..., Outcome], store: SyncFlowStateStore) -> None:
    """It is enough if no other id begins so. An id that is there is itself, whatever begins like it."""
    store.save("order-1001-again", flow("again"))
    several = here("show", "order")

    assert "draft-7" == json.loads(here("show", "dr").out)["flowId"]
    assert json.loads(here("show", "--raw", "dr").out)["name"].endswith("/draft-7")
    assert "order-1001" == json.loads(here("show", "order-1001").out)["flowId"]
    assert here("history", "draft-7").out == here("history", "dr").out
    assert here("history", "draft-7").out.startswith("at (UTC)")
    assert (1, "") == (several.code, several.out)
    assert "several ids begin so: 'order-1001', 'order-1001-again', 'order-1002', 'order-1003'." in several.err


_NO_TIMES: dict[str, tuple[Any, Any]] = {
    "NaN": (0, math.nan),
    "NaN first": (math.nan, 5),
    "infinite": (0, math.inf),
    "infinite on both sides": (-math.inf, math.inf),
    "further apart than a timedelta holds": (-(10**17), 10**17),
    "1e300": (0, 1e300),
    "of 400 digits": (0, 10**400),
    "of 400 digits beside a float": (10**400, 0.5),
    "of 4,300 digits": (-(10**4299), 10**4299),
    "text": ("yesterday", "today"),
    "list": ([1], True),
}
"""Times that nobody can mean, which others may write, and this package stores."""


@pytest.mark.parametrize(("began", "ended"), _NO_TIMES.values(), ids=_NO_TIMES)
def test_a_history_tells_whatever_the_times_are(
    here: Callable[..., Outcome], store: SyncFlowStateStore, began: Any, ended: Any
) -> None:
    """How long something took is left out if its times do not tell."""
    state = flow("odd")
    entry = {"startTime": began, "endTime": ended, "n": 1}
    state.cache["step"] = CacheEntry.model_validate({"value": 1, **entry})
    times = entry if isinstance(began, (int, float)) else {}
    waits = [{"step": "wait", "kind": "sleep", "since": began, "until": ended}]
    execution = FlowStateExecution.model_validate({"traceIds": [], **times, "waits": waits, "ended": "failed"})
    state.executions = [execution]
    state.operation.done = True
    store.save("odd", state)
    printed, lines = here("history", "odd"), here("history", "odd", "--json").out.splitlines()
    happened = {line["what"]: line for line in map(json.loads, lines)}

    assert (0, "") == (printed.code, printed.err)
    assert {"start", "drive", "step", "waits", "end"} == happened.keys()
    assert all("took" not in happened[what] for what in ("drive", "step", "waits"))
    assert max(map(len, printed.out.splitlines())) < 150


@pytest.mark.parametrize("stacktrace", [["line 1", "line 2"], {"at": "line 1"}, 5, True])
def test_a_history_tells_whatever_the_stack_is(
    here: Callable[..., Outcome], store: SyncFlowStateStore, stacktrace: object
) -> None:
    """Only a text is printed as a stack. JSON has whatever is stored there."""
    state = flow("odd")
    error = {"type": "KeyError", "message": "gone", "stacktrace": stacktrace}
    state.cache["step"] = CacheEntry.model_validate({"error": error})
    store.save("odd", state)
    printed, told = here("history", "odd"), here("history", "odd", "--json")

    assert (0, "", 0, "") == (printed.code, printed.err, told.code, told.err)
    assert printed.out.endswith("KeyError: gone\n")
    assert stacktrace == json.loads(told.out.splitlines()[-1])["stacktrace"]


def test_show_changes_nothing(here: Callable[..., Outcome], store: SyncFlowStateStore) -> None:
    """Numbers and texts are printed as they are stored, lone surrogates too."""
    state = flow("odd", input=[-0.0, 2**70, math.inf, 1e-300, "naïve 🙂", "\ud800", [[]], {"": {"__x__": None}}])
    store.save("odd", state)
    outcome = here("show", "odd", "--exact")

    assert exactly(state) == exactly(FlowState.model_validate(json.loads(outcome.out)))


def test_an_encoding_without_the_characters(here: Callable[..., Outcome], store: SyncFlowStateStore) -> None:
    """JSON stays JSON, text is readable."""
    store.save("naïve", flow("naïve"))

    assert "café" == json.loads(here("show", "draft-7", encoding="ascii").out)["topic"]
    assert r"na\xefve" in here("list", encoding="ascii").out


def test_json_is_json(here: Callable[..., Outcome], store: SyncFlowStateStore) -> None:
    """Any program reads it: numbers that JSON does not have are texts, in lists too. --exact prints them as such."""
    state = flow("odd", start=6)
    state.input = [math.nan, {"a": math.inf, "b": -math.inf}, 1e300, 2**70, "NaN"]
    state.ratio = math.nan
    store.save("odd", state)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    shown = json.loads(here("show", "odd").out, parse_constant=refuse)
    assert ["NaN", {"a": "Infinity", "b": "-Infinity"}, 1e300, 2**70, "NaN"] == shown["input"]
    [listed] = [
        found["extra"]
        for line in here("list", "--json").out.splitlines()
        if (found := json.loads(line, parse_constant=refuse))["id"] == "odd"
    ]
    assert "NaN" == listed["ratio"]
    exact = json.loads(here("show", "odd", "--exact").out)
    assert exactly(state.input) == exactly(exact["input"])


def test_show_what_is_not_there(here: Callable[..., Outcome], flow_state_settings: FlowStateSettings) -> None:
    """The error is the same if it was never there and if it is not there any more."""
    settings = flow_state_settings.model_copy(update={"expire_after": timedelta(microseconds=1)})
    with SyncFlowStateStore(FirestoreFlowStateStore(settings)) as expiring:
        expiring.save("expired", story()["order-1001"])
    for id in ("never", "expired", "exp"):
        said = f"flowstate: There is no flow state {id!r}, or it has expired, and no other id begins so.\n"

        assert Outcome(1, "", said) == here("show", id)


def test_count(flowstate: Processes, store: SyncFlowStateStore) -> None:
    """A number, for scripts."""
    assert Outcome(0, "2\n", "") == flowstate("count", "--where", "owner=ana")


def test_delete(flowstate: Processes, here: Callable[..., Outcome], store: SyncFlowStateStore) -> None:
    """It deletes by ids. An id that is not there is named and passed over. Nothing is printed of the others."""
    assert Outcome(0, "", "never was not there\n") == flowstate("delete", "--yes", "order-1001", "draft-7", "never")
    assert {"order-1002", "order-1003"} == set(store.load_many(story()))
    assert Outcome(0, "", "") == here("delete", "--yes", "order-1002")
    assert Outcome(0, "", "order-1002 was not there\n") == here("delete", "--yes", "order-1002")
    assert 1 == store.count()


def test_delete_asks(here: Callable[..., Outcome], store: SyncFlowStateStore) -> None:
    """If nobody can answer, it deletes nothing."""
    outcome = here("delete", "order-1001")

    assert 2 == outcome.code
    assert outcome.err.startswith("flowstate: Delete the flow state 'order-1001' of flows-")
    assert 4 == store.count()


def test_delete_names_wrong_ids(here: Callable[..., Outcome], store: SyncFlowStateStore) -> None:
    """The others are deleted."""
    outcome = here("delete", "--yes", "order-1001", "a/b")

    assert (1, True) == (outcome.code, outcome.err.startswith("flowstate: 1 of 2 flow states could not be deleted"))
    assert store.load("order-1001") is None


def test_doctor(
    flowstate: Processes,
    here: Callable[..., Outcome],
    store: SyncFlowStateStore,
    flow_state_settings: FlowStateSettings,
) -> None:
    """It says which collection it examines, and what it finds. Finding something is exit code 1."""
    where = (
        f"{flow_state_settings.collection} in {flow_state_settings.project} "
        f"on the emulator {flow_state_settings.emulator_host}\n"
    )
    assert Outcome(0, "", f"{where}nothing is wrong\n") == here("doctor")
    fields = sound()
    put("startTime", {"stringValue": "5"})(fields)
    RawCollection(flow_state_settings).write("a\nb", fields)
    found = flowstate("doctor")
    as_json = [json.loads(line) for line in here("doctor", "--json").out.splitlines()]

    assert (1, f"{where}2 findings\n") == (found.code, found.err)
    assert [
        r"hidden a\nb startTime is a string, so no list shows it. Correct it, or delete the document.",
        r"unreadable a\nb The flow state 'a\nb' cannot be read",
    ] == [line.partition(": ")[0] for line in found.out.splitlines()]
    assert [("hidden", "a\nb"), ("unreadable", "a\nb")] == [(one["kind"], one["id"]) for one in as_json]
    assert as_json[0]["message"].startswith("startTime is a string")


def test_doctor_asks_the_indexes_of_keys(
    here: Callable[..., Outcome], store: SyncFlowStateStore, query_log: QueryLog
) -> None:
    """It asks those of the keys that --where names. One by which no query can filter is misuse."""
    outcome = here("doctor", "--where", "owner", "--where", "tenant")
    asked = {
        member.field_filter.field.field_path
        for query in query_log.queries
        for member in query.where.composite_filter.filters
    }
    wrong = here("doctor", "--where", "status")

    assert (0, {"`owner`", "`tenant`"}) == (outcome.code, {path for path in asked if path.startswith("`")})
    assert (2, "") == (wrong.code, wrong.out)
    assert "where has the key 'status'" in wrong.err
