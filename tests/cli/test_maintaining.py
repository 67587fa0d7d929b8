"""`flowstate purge`, `migrate`, `rewrap` and `gc`."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import pytest

from firestore_flowstate import CacheEntry, FirestoreFlowStateStore, FlowStateSettings, SyncFlowStateStore
from firestore_flowstate.testing import exactly
from tests.cli.command import Outcome, Processes
from tests.cli.story import flow, story
from tests.rpc.tcp_proxy import TcpProxy
from tests.support.damage import sound_native
from tests.support.raw_documents import RawCollection

KEYS = {name: base64.b64encode(name.encode() * 32).decode() for name in "ab"}


def test_purge(flowstate: Processes, here: Callable[..., Outcome], store: SyncFlowStateStore) -> None:
    """A dry run counts what is deleted then: only what matches the filters and is old."""
    options = ("purge", "--older-than", "0s", "--status", "done")
    unfinished = Outcome(0, "4 flow states would be deleted, of which 2 have not ended\n", "")

    assert Outcome(0, "0 flow states deleted\n", "") == here("purge", "--older-than", "1d12h", "--yes")
    assert Outcome(0, "1 flow state would be deleted\n", "") == here(*options, "--dry-run")
    assert unfinished == here(*options[:3], "--dry-run")
    assert 4 == store.count()
    assert Outcome(0, '{"purged": 1, "unfinished": 0, "dryRun": false}\n', "") == flowstate(*options, "--yes", "--json")
    assert story().keys() - {"order-1001"} == store.load_many(story()).keys()


@pytest.mark.parametrize("age", ["999999w", "999999w" * 200, "0s"])
def test_purge_of_any_age(here: Callable[..., Outcome], store: SyncFlowStateStore, age: str) -> None:
    """No state is older than the calendar. A text that is longer still is not an age."""
    outcome = here("purge", "--older-than", age, "--dry-run")

    assert (2 if len(age) > 9 else 0) == outcome.code
    assert outcome.out.partition(" flow states would be deleted")[0] in ("", "0", "4")


def test_purge_asks(here: Callable[..., Outcome], store: SyncFlowStateStore) -> None:
    """The question names what is deleted, in which collection, and how old it is."""
    outcome = here("purge", "--older-than", "1d12h", "--status", "done")

    assert 2 == outcome.code
    assert " that match, neither started nor written for 1 day 12 hours? Standard input" in outcome.err


def test_purge_goes_on_after_it_was_killed(
    flowstate: Processes,
    here: Callable[..., Outcome],
    store: SyncFlowStateStore,
    flow_state_settings: FlowStateSettings,
) -> None:
    """What was deleted is done, and the next run does the rest."""
    store.save_many({f"id-{number:03}": flow("x", startTime=number) for number in range(396)})
    assert flow_state_settings.emulator_host is not None
    proxy = TcpProxy(flow_state_settings.emulator_host)
    named = 0

    def hold_the_third_page(chunk: bytes) -> None:
        nonlocal named
        named += chunk.count(b"/id-")
        if named > 250:  # ids: two pages of 100, the cursors behind them, and some of the third
            proxy.hold()

    proxy.on_request(hold_the_third_page)
    try:
        process = flowstate.start("purge", "--older-than", "0s", "--yes", "--emulator-host", proxy.host)
        while store.count() > 250:
            assert process.poll() is None
        process.kill()
        process.wait()
        left = store.count()
    finally:
        proxy.close()

    assert 0 < left < 400
    rest = f"{left} flow states deleted, of which {left} have not ended\n"
    assert Outcome(0, rest, "") == here("purge", "--older-than", "0s", "--yes")
    assert 0 == store.count()


def test_migrate_there_and_back(
    flowstate: Processes,
    here: Callable[..., Outcome],
    store: SyncFlowStateStore,
    flow_state_settings: FlowStateSettings,
) -> None:
    """A dry run says what a run does, and a second run does nothing."""
    raw = RawCollection(flow_state_settings)
    to_native = ("migrate", "--to-layout", "native")

    assert Outcome(0, "4 flow states would be migrated, 0 as they should be, 0 failed\n", "") == here(
        *to_native, "--dry-run"
    )
    assert "_flowstate" in raw.read("order-1001")
    assert Outcome(0, "4 flow states migrated, 0 as they should be, 0 failed\n", "") == flowstate(*to_native, "--yes")
    assert "_flowstate" not in raw.read("order-1001")
    assert Outcome(0, "0 flow states migrated, 4 as they should be, 0 failed\n", "") == here(*to_native, "--yes")
    assert story() == store.load_many(story())
    assert Outcome(0, '{"migrated": 4, "unchanged": 0, "failed": {}, "dryRun": false}\n', "") == here(
        "migrate", "--yes", "--json"
    )
    assert "_flowstate" in raw.read("order-1001")
    assert story() == store.load_many(story())


def test_migrate_to_another_collection(
    here: Callable[..., Outcome], store: SyncFlowStateStore, flow_state_settings: FlowStateSettings
) -> None:
    """The flow states are copied, without a question, since nothing is lost."""
    assert 0 == here("migrate", "--to-collection", "moved").code
    settings = flow_state_settings.model_copy(update={"collection": "moved"})
    with SyncFlowStateStore(FirestoreFlowStateStore(settings)) as moved:
        assert exactly(story()) == exactly(moved.load_many(story()))
    assert 4 == store.count()


def test_migrate_to_more_shards(here: Callable[..., Outcome], store: SyncFlowStateStore) -> None:
    """They are moved in place. Lists over the shards are complete afterwards."""
    assert 0 == here("migrate", "--shards", "8", "--yes").code
    assert 4 == len(here("list", "--shards", "8", "--json").out.splitlines())


def test_migrate_asks(here: Callable[..., Outcome], store: SyncFlowStateStore) -> None:
    """The question has the layout: other programs may read the one that is there."""
    outcome = here("migrate", "--to-layout", "native")

    assert (2, "") == (outcome.code, outcome.out)
    assert (
        " in the native layout? Standard input is not a terminal, so that nobody can be asked: give --yes."
        in outcome.err
    )


def test_migrate_reports_what_failed(here: Callable[..., Outcome], store: SyncFlowStateStore) -> None:
    """Each is reported with its reason. The others are migrated, and the exit code is 1."""
    store.update("order-1001", cache={"matrix": CacheEntry(value=[[1]])})
    told = here("migrate", "--to-layout", "native", "--yes")
    failed = json.loads(here("migrate", "--to-layout", "native", "--yes", "--json").out)

    assert (1, "3 flow states migrated, 0 as they should be, 1 failed\n") == (told.code, told.out)
    assert 'cache["matrix"].value[0]' in told.err
    assert ["order-1001"] == list(failed["failed"])
    assert (0, 3) == (failed["migrated"], failed["unchanged"])


def test_migrate_decrypts_only_if_it_is_told(
    here: Callable[..., Outcome], flow_state_settings: FlowStateSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If there are keys in the environment, the native layout needs --decrypt, in place and as copies, dry or not."""
    monkeypatch.setenv("FLOWSTATE_KEYS", json.dumps({"a": KEYS["a"]}))
    monkeypatch.setenv("FLOWSTATE_REQUIRE_ENCRYPTION", "true")
    keyed = flow_state_settings.model_copy(update={"keys": {"a": KEYS["a"]}})
    with SyncFlowStateStore(FirestoreFlowStateStore(keyed)) as encrypting:
        encrypting.save_many(story())
    for options in (("--yes",), ("--dry-run",), ("--to-collection", "copies", "--yes")):
        refused = here("migrate", "--to-layout", "native", *options)
        assert (2, "") == (refused.code, refused.out)
        assert "give --decrypt to store" in refused.err
    for copies in ([], ["--to-collection", "copies"]):
        asked = here("migrate", "--to-layout", "native", "--decrypt", *copies)
        assert (2, "") == (asked.code, asked.out)
        assert "decrypted: whoever may read the database reads them? Standard input" in asked.err
    assert Outcome(0, "4 flow states migrated, 0 as they should be, 0 failed\n", "") == here(
        "migrate", "--to-layout", "native", "--decrypt", "--yes"
    )
    monkeypatch.delenv("FLOWSTATE_KEYS")
    monkeypatch.delenv("FLOWSTATE_REQUIRE_ENCRYPTION")
    with SyncFlowStateStore(FirestoreFlowStateStore(flow_state_settings)) as plain:
        assert story() == plain.load_many(story())


@pytest.mark.parametrize(("number", "kept"), [(1, "1 as it should be"), (2, "2 as they should be")])
def test_counts_in_words(here: Callable[..., Outcome], store: SyncFlowStateStore, number: int, kept: str) -> None:
    """One is told in the singular, by each command that counts."""
    store.delete_many(list(story())[number:])
    states = f"{number} flow state{'' if number == 1 else 's'}"

    assert Outcome(0, f"0 flow states migrated, {kept}, 0 failed\n", "") == here("migrate", "--yes")
    assert Outcome(0, f"0 flow states stored anew, {kept}\n", "") == here("rewrap")
    assert f"{states} exported\n" == here("export", "-").err
    assert f"{states} deleted" in here("purge", "--older-than", "0s", "--yes").out
    assert Outcome(0, "0 flow states stored anew, 0 as they should be\n", "") == here("rewrap")


def test_rewrap_reports_native_documents(
    here: Callable[..., Outcome],
    store: SyncFlowStateStore,
    flow_state_settings: FlowStateSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It exits with 1 if there are keys, since nothing of native documents is encrypted."""
    native = FirestoreFlowStateStore(flow_state_settings.model_copy(update={"layout": "native"}))
    with SyncFlowStateStore(native) as genkit:
        genkit.save("order-1001", story()["order-1001"])

    assert Outcome(0, "0 flow states stored anew, 3 as they should be\n", "") == here("rewrap")
    monkeypatch.setenv("FLOWSTATE_KEYS", json.dumps({"a": KEYS["a"]}))
    told = here("rewrap")
    assert (1, "3 flow states stored anew, 0 as they should be\n") == (told.code, told.out)
    assert "order-1001 is native, so that nothing of it is encrypted: flowstate migrate encrypts it" in told.err
    assert ["order-1001"] == json.loads(here("rewrap", "--json").out)["native"]


def test_rewrap(
    flowstate: Processes,
    here: Callable[..., Outcome],
    store: SyncFlowStateStore,
    flow_state_settings: FlowStateSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The new key alone reads everything afterwards. Before it the old one is needed."""
    both, new = json.dumps(KEYS), json.dumps({"b": KEYS["b"]})
    monkeypatch.setenv("FLOWSTATE_KEYS", json.dumps({"a": KEYS["a"]}))

    assert Outcome(0, "4 flow states stored anew, 0 as they should be\n", "") == here("rewrap")
    monkeypatch.setenv("FLOWSTATE_KEYS", new)
    early = here("rewrap")
    assert (1, "") == (early.code, early.out)
    assert "the key 'a'" in early.err
    assert Outcome(0, '{"rewrapped": 4, "unchanged": 0, "native": []}\n', "") == flowstate(
        "rewrap", "--json", FLOWSTATE_KEYS=both, FLOWSTATE_CURRENT_KEY="b"
    )
    only = flow_state_settings.model_copy(update={"keys": {"b": KEYS["b"]}, "require_encryption": True})
    with SyncFlowStateStore(FirestoreFlowStateStore(only)) as encrypted:
        assert exactly(story()) == exactly(encrypted.load_many(story()))


def test_gc(flowstate: Processes, here: Callable[..., Outcome], flow_state_settings: FlowStateSettings) -> None:
    """Parts that a save may be about to refer to are left alone."""
    RawCollection(flow_state_settings).write("gone/flowstate-parts/part", {"data": {"bytesValue": ""}})

    assert Outcome(0, "0 parts would be deleted, 1 younger than an hour stays\n", "") == here("gc", "--dry-run")
    assert Outcome(0, "0 parts deleted, 1 younger than an hour stays\n", "") == flowstate("gc")
    assert {"orphans": 0, "deleted": 0, "young": 1, "unreadable": [], "dryRun": False} == json.loads(
        here("gc", "--json").out
    )


def test_expire(here: Callable[..., Outcome], store: SyncFlowStateStore) -> None:
    """It sets a time of their own, which counts from now for flows that have ended, or never, or the settings' time."""
    assert Outcome(0, "order-1001 expires after 30 days\norder-1002 expires after 30 days\n", "") == here(
        "expire", "order-1001", "order-1002", "--after", "P30D"
    )
    ended, waiting = store.load("order-1001"), store.load("order-1002")
    assert ended is not None
    assert waiting is not None
    assert ended.expire_at is not None
    assert timedelta(days=29) < ended.expire_at - datetime.now(timezone.utc) < timedelta(days=30)
    assert None is waiting.expire_at

    assert "order-1001 expires never\n" == here("expire", "order-1001", "--never").out
    never = store.load("order-1001")
    assert never is not None
    assert (None, -1) == (never.expire_at, (never.model_extra or {})["expireAfter"])

    assert "order-1001 expires as the settings say\n" == here("expire", "order-1001", "--default").out
    default = store.load("order-1001")
    assert default is not None
    assert "expireAfter" not in (default.model_extra or {})


@pytest.mark.parametrize(("arguments", "code"), [("--after 30d", 1), ("--default", 1), ("--never", 0)])
def test_expire_tells_what_cannot_expire(
    here: Callable[..., Outcome], flow_state_settings: FlowStateSettings, arguments: str, code: int
) -> None:
    """A native document whose `expireAt` is a key of its own has no room for a time. The others get theirs."""
    own = [("own", {"stringValue": "soon"}), ("other", {"timestampValue": "2124-01-01T00:00:00Z"}), ("none", None)]
    for id, value in own:
        fields = sound_native() if value is None else {**sound_native(), "expireAt": value}
        RawCollection(flow_state_settings).write(id, fields)
    outcome = here("expire", *(id for id, _ in own), *arguments.split())

    assert code == outcome.code
    assert ["other", "none"] == [line.split()[0] for line in outcome.out.splitlines() if not line.startswith("own")]
    assert (code == 1) == ("own never expires: it is a native document" in outcome.err)
    assert (code == 0) == ("own expires never" in outcome.out)


@pytest.mark.parametrize("arguments", ["", "--after 0s", "--after P", "--after PT", "--after 1d --never"])
def test_expire_wants_one_time(here: Callable[..., Outcome], arguments: str) -> None:
    """Exactly one option must be given, and a time of more than 0 seconds."""
    assert 2 == here("expire", "id", *arguments.split()).code


def test_a_wrong_id_among_others_sets_nothing(here: Callable[..., Outcome], store: SyncFlowStateStore) -> None:
    """It is a wrong argument, wherever it stands: nothing is done, as the exit code says."""
    outcome = here("expire", "order-1001", "a/b", "--never")

    assert (2, "") == (outcome.code, outcome.out)
    assert "'a/b'" in outcome.err
    kept = store.load("order-1001")
    assert kept is not None
    assert "expireAfter" not in (kept.model_extra or {})


def test_expire_names_what_is_not_there(here: Callable[..., Outcome], store: SyncFlowStateStore) -> None:
    """The id is named, as by any write."""
    outcome = here("expire", "missing", "--never")

    assert (1, "") == (outcome.code, outcome.out)
    assert "There is no flow state 'missing', or it has expired already." in outcome.err
    assert "save" not in outcome.err
