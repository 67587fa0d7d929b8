"""Texts that callers hand in, and may have from anybody: versions, continuation tokens, lines of backups."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any, Final
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firestore_flowstate import (
    FirestoreFlowStateStore,
    FlowState,
    FlowStateConflictError,
    FlowStateDecodeError,
    FlowStateQuery,
    FlowStateSettings,
    InvalidContinuationTokenError,
    InvalidFlowIdError,
    MemoryFlowStateStore,
)
from firestore_flowstate._backup_line import from_line
from firestore_flowstate._commit.pending_write import if_updated_at
from firestore_flowstate._document.version import Moment, StatusInputs, Version, check_of
from firestore_flowstate._query.token import Position, _check, from_token, scope_of, to_token
from firestore_flowstate._rpc.messages import Timestamp
from firestore_flowstate.testing import flow_state_dicts, json_values
from tests.hostile.mutations import JSON_TEXTS, fuzzed

PATH: Final = "flows/a"
SCOPE: Final = scope_of(PATH, FlowStateQuery())
SOUND_VERSION: Final = Version(
    updated=Moment(1_795_336_740, 800_000_000),
    revision="r",
    layout="serialized",
    status_inputs=StatusInputs("done", blocked=True, executed=True),
    weight=1000,
    part_count=3,
    created="c",
    expires=1.5,
)
ODD: Final = [
    -1, 0, 2**31, 2**63, 10**400, 1e300, 0.5, True, float("nan"), float("inf"), float("-inf"), None, "", "n", "\ud800",
    "a/b", ".", "__a__", [], {}, [[]], [["x"]], [[[], [], []]],
]  # fmt: skip
DEEP: Final = [base64.urlsafe_b64encode(b"[" * levels).decode().rstrip("=") for levels in (999, 10_000, 1_000_000)]


@st.composite
def versions(draw: st.DrawFn) -> str:
    """Texts of versions with up to three fields changed, and some that have not as many.

    The check of most is right, as anybody can compute it.
    """
    text = SOUND_VERSION.to_text(PATH)
    fields = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    for _ in range(draw(st.integers(0, 3))):
        fields[draw(st.integers(0, len(fields) - 2))] = draw(json_values() | st.sampled_from(ODD))
    if draw(st.integers(0, 9)) > 0:
        with suppress(TypeError):  # what no writer of versions could write
            fields[-1] = check_of(PATH, fields[:-1])
    if draw(st.integers(0, 9)) == 0:
        fields = draw(st.sampled_from([fields[:5], [*fields, 1], {}, None, 5]))
    return base64.urlsafe_b64encode(json.dumps(fields).encode()).decode().rstrip("=")


@given(versions() | st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: base64.b64encode(raw).decode()))
@fuzzed(share=1.0)
def test_versions(text: str) -> None:
    """A text is a version that can be used to the last field, or none."""
    version = Version.from_text(text, PATH)
    if version is None:
        return
    assert if_updated_at(version.updated).update_time.seconds == version.updated.seconds
    assert version.updated.as_datetime().tzinfo is not None
    assert version.expire_at() is None or version.expires is not None
    for name in (version.revision, version.created or ""):
        name.encode()
    assert version.part_refs is None or () == version.part_refs
    assert version == Version.from_text(version.to_text(PATH), PATH)


@pytest.mark.parametrize("text", [*DEEP, "A" * 10**7, "", "=", "\u00e9", "\ud800", SOUND_VERSION.to_text("flows/b")])
async def test_what_is_not_a_version_conflicts(text: str) -> None:
    """Writers that hold anything else than a version of the state are told that it is not the stored one."""
    store = FirestoreFlowStateStore(FlowStateSettings(collection="flows", emulator_host="127.0.0.1:1"))
    for write in (
        store.save("a", FlowState.start(), if_version=text),
        store.update("a", if_version=text),
        store.delete("a", if_version=text),
        MemoryFlowStateStore().save("a", FlowState.start(), if_version=text),
    ):
        with pytest.raises(FlowStateConflictError) as conflict:
            await write
        assert ("a", text, None) == (conflict.value.flow_id, conflict.value.expected, conflict.value.found)


@st.composite
def tokens(draw: st.DrawFn) -> str:
    """Continuation tokens whose check is right, as anybody can compute it, with up to two fields changed."""
    fields: Any = [1, SCOPE, draw(st.sampled_from([5, 0.5])), "id"]
    for _ in range(draw(st.integers(0, 2))):
        fields[draw(st.integers(0, 3))] = draw(json_values() | st.sampled_from(ODD))
    if draw(st.integers(0, 9)) == 0:
        fields = draw(st.sampled_from([fields[:3], [*fields, 1], {}, None, 5]))
    body = json.dumps(fields).encode()
    if draw(st.integers(0, 9)) == 0:
        body = body[:-1] + draw(st.sampled_from([b"", b"[" * 10**5, b"\xff", b"1" * 5000]))
    return base64.urlsafe_b64encode(_check(body) + body).decode().rstrip("=")


@given(tokens() | st.text(st.characters(codec="utf-8"), max_size=60))
@fuzzed(share=1.0)
def test_continuation_tokens(text: str) -> None:
    """A text is a token that a query can go on from, or InvalidContinuationTokenError."""
    position, message = None, ""
    try:
        position = from_token(text, SCOPE)
    except InvalidContinuationTokenError as error:
        message = str(error)
    assert len(message) < 1000
    if position is None:
        return
    assert position == from_token(to_token(Position(*position), SCOPE), SCOPE)
    assert "/" not in position.id


@st.composite
def lines(draw: st.DrawFn) -> str | bytes:
    """Lines of backups with fields changed, and some that are not JSON any more."""
    entry = {"v": 1, "id": "a", "state": draw(flow_state_dicts()), "expireAt": "2026-01-01T00:00:00+00:00"}
    times = ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999+00:00", "2026-01-01"]
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from(["v", "id", "state", "expireAt", "more"]))
        entry[name] = draw(json_values() | st.sampled_from([*ODD, *times]))
    text = json.dumps(entry)
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.text(max_size=3) | st.sampled_from(["\ud800", *JSON_TEXTS])) + text[at + 1 :]
    return text if draw(st.booleans()) else text.encode("utf-8", "surrogatepass")


@given(lines() | st.sampled_from(JSON_TEXTS) | st.text(max_size=40) | st.binary(max_size=40))
@fuzzed(share=1.0)
def test_lines_of_backups(line: str | bytes) -> None:
    """A line is a state under an id that it can be stored under, or an error that says what is wrong with it."""
    entry, message = None, ""
    try:
        entry = from_line(line)
    except (FlowStateDecodeError, InvalidFlowIdError) as error:
        message = str(error)
    assert len(message) < 2000
    if entry is None:
        return
    assert crc32(entry.id.encode())
    if entry.expire_at is not None:
        assert isinstance(entry.expire_at <= datetime.now(timezone.utc), bool)
        Timestamp().FromDatetime(entry.expire_at)


def test_the_sound_version_is_one() -> None:
    """What the versions above are made of can be read."""
    assert SOUND_VERSION == Version.from_text(SOUND_VERSION.to_text(PATH), PATH)
