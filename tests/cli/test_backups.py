"""`flowstate export` and `import`."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from firestore_flowstate import FirestoreFlowStateStore, FlowStateSettings, SyncFlowStateStore
from firestore_flowstate.testing import exactly
from tests.cli.command import Outcome, Processes
from tests.cli.story import flow, story
from tests.support.damage import put, sound
from tests.support.raw_documents import RawCollection


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "flows.jsonl"


@pytest.fixture
def damaged(store: SyncFlowStateStore, flow_state_settings: FlowStateSettings) -> SyncFlowStateStore:
    """The story, and a flow state that cannot be read."""
    fields = sound()
    put("_flowstate.operation", {"stringValue": "{"})(fields)
    RawCollection(flow_state_settings).write("damaged", fields)
    return store


def test_there_and_back(flowstate: Processes, store: SyncFlowStateStore, file: Path) -> None:
    """A flow state that was deleted or changed since is as it was."""
    store.save("odd", flow("odd", input=["\ud800", -0.0, 2**70, float("nan"), "\u2028"]))
    originals = store.load_many([*story(), "odd"])

    assert Outcome(0, "", "5 flow states exported\n") == flowstate("export", str(file))
    store.delete_many(["odd", "order-1001"])
    store.save("draft-7", flow("changed"))
    assert Outcome(0, "5 flow states imported\n", "") == flowstate("import", str(file))
    assert exactly(originals) == exactly(store.load_many(originals))


def test_an_empty_file(here: Callable[..., Outcome], store: SyncFlowStateStore, file: Path) -> None:
    """It is not an error, as an empty collection is not, but it is not passed over in silence."""
    file.write_text("\n")

    assert Outcome(0, "0 flow states imported: there is no line in it\n", "") == here("import", str(file))


def test_from_pipe_to_pipe(
    flowstate: Processes, here: Callable[..., Outcome], store: SyncFlowStateStore, file: Path
) -> None:
    """The lines are those of a file, in UTF-8 whatever encoding the terminal has."""
    exported = flowstate("export", "-", PYTHONIOENCODING="ascii")
    imported = flowstate("import", "-", "--collection", "copies", input=exported.out, PYTHONIOENCODING="ascii")
    here("export", str(file), "--collection", "copies")

    assert Outcome(0, "4 flow states imported\n", "") == imported
    assert "café" in exported.out
    assert exported.out == file.read_text("utf-8")


def test_lines_of_any_length(here: Callable[..., Outcome], store: SyncFlowStateStore, file: Path) -> None:
    """Lines that are read in several goes come whole."""
    large = flow("large", input=["x" * 1_500_000, "y" * 1_500_000])
    store.save("large", large)
    here("export", str(file))
    store.delete("large")

    assert 0 == here("import", str(file)).code
    assert exactly(large) == exactly(store.load("large"))


def test_only_what_matches(here: Callable[..., Outcome], store: SyncFlowStateStore) -> None:
    """The filters are those of lists."""
    outcome = here("export", "-", "--where", "owner=ana")

    assert (0, "2 flow states exported\n") == (outcome.code, outcome.err)
    assert ["order-1003", "order-1001"] == [json.loads(line)["id"] for line in outcome.out.splitlines()]


def test_a_file_is_complete_or_not_there(here: Callable[..., Outcome], damaged: SyncFlowStateStore, file: Path) -> None:
    """The one that was there stays until the new one is complete. Nothing else is left."""
    file.write_text("before")
    failed = here("export", str(file))

    assert (1, "") == (failed.code, failed.out)
    assert "'damaged'" in failed.err
    assert ("before", [file]) == (file.read_text(), list(file.parent.iterdir()))
    skipped = here("export", str(file), "--skip-unreadable")
    assert (1, True) == (skipped.code, skipped.err.endswith("4 flow states exported, 1 left out\n"))
    assert skipped.err.startswith("left out: ")
    assert (4, [file]) == (len(file.read_text().splitlines()), list(file.parent.iterdir()))
    assert 0o600 == file.stat().st_mode & 0o777


def test_a_link_stays_one(here: Callable[..., Outcome], store: SyncFlowStateStore, file: Path) -> None:
    """The file that the link leads to is replaced."""
    link = file.with_name("latest.jsonl")
    link.symlink_to(file.name)

    assert 0 == here("export", str(link)).code
    assert (True, 4) == (link.is_symlink(), len(file.read_text().splitlines()))


def test_a_device_stays_one(here: Callable[..., Outcome], store: SyncFlowStateStore) -> None:
    """A user who may do everything could replace the device by a file."""
    assert Outcome(0, "", "4 flow states exported\n") == here("export", "/dev/null")
    assert Path("/dev/null").is_char_device()


def test_files_that_cannot_be(here: Callable[..., Outcome], tmp_path: Path) -> None:
    """The path is named."""
    cases = [
        ("export", tmp_path / "nowhere" / "file", 1, "No such file or directory"),
        ("export", tmp_path, 2, "is a directory"),
        ("import", tmp_path / "nothing", 2, "does not exist"),
        ("import", tmp_path, 2, "is a directory"),
    ]
    for command, path, code, reason in cases:
        outcome = here(command, str(path))

        assert (code, "") == (outcome.code, outcome.out)
        assert str(path) in outcome.err
        assert reason in outcome.err


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "line 2: it is not JSON"),
        ('{"v": 1, "id": "a/b", "state": {}}', "line 2: The flow id 'a/b' contains a slash"),
        ('{"v": 2, "id": "a", "state": {}}', "line 2: it is of version 2"),
    ],
)
@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_a_wrong_line_is_named(
    here: Callable[..., Outcome], store: SyncFlowStateStore, file: Path, line: str, says: str, options: list[str]
) -> None:
    """The error has the number of the line. A dry run finds it before anything is stored."""
    file.write_text(here("export", "-", "--name", "draft").out + line)
    outcome = here("import", str(file), *options)

    assert (1, "") == (outcome.code, outcome.out)
    assert outcome.err.startswith(f"flowstate: {says}")


def test_a_dry_run_stores_nothing(here: Callable[..., Outcome], store: SyncFlowStateStore, file: Path) -> None:
    """It reads the whole file."""
    here("export", str(file))
    store.delete_many(story())

    assert Outcome(0, '{"imported": 4, "expired": 0, "dryRun": true}\n', "") == here(
        "import", str(file), "--dry-run", "--json"
    )
    assert 0 == store.count()


def test_expiry(
    here: Callable[..., Outcome], flow_state_settings: FlowStateSettings, monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    """States expire when they did, or as if they were written now. Those that have expired since are left out."""
    settings = flow_state_settings.model_copy(update={"expire_after": timedelta(days=1)})
    with SyncFlowStateStore(FirestoreFlowStateStore(settings)) as expiring:
        expiring.save("order-1001", story()["order-1001"])
        here("export", str(file))
        was = expiring.load("order-1001").expire_at  # type: ignore[union-attr]  # it is there
        assert was is not None
        here("import", str(file))
        assert was == expiring.load("order-1001").expire_at  # type: ignore[union-attr]
        monkeypatch.setenv("FLOWSTATE_EXPIRE_AFTER", "P9D")
        here("import", str(file), "--renew-expiry")
        renewed = expiring.load("order-1001").expire_at  # type: ignore[union-attr]
    assert renewed is not None
    assert timedelta(days=8) < renewed - datetime.now(timezone.utc) < timedelta(days=9)

    file.write_text(file.read_text().replace(str(was.year), "1999"))
    assert Outcome(0, "0 flow states imported, 1 left out: expired\n", "") == here("import", str(file))
