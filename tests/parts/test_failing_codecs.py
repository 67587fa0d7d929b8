"""What the application's own codecs and key functions raise comes as an error of the package, and keeps its cause."""

from __future__ import annotations

import base64
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from firestore_flowstate import (
    CacheEntry,
    FirestoreFlowStateStore,
    FlowState,
    FlowStateBatchError,
    FlowStateDecodeError,
    FlowStateEncodeError,
    FlowStateError,
    FlowStateSettings,
)

KEY = b"k" * 32


class OutOfOrderError(Exception):
    """What only the application knows."""


class Codec:
    """A codec that works until it is told not to."""

    name = "mine"

    def __init__(self) -> None:
        self.encodes: Callable[[bytes], Any] = bytes
        self.decodes: Callable[[bytes], Any] = bytes

    def encode(self, data: bytes) -> bytes:
        return self.encodes(data)  # type: ignore[no-any-return]  # wrong types are what is tested

    def decode(self, data: bytes) -> bytes:
        return self.decodes(data)  # type: ignore[no-any-return]  # as above


class Kms:
    """A key management service that answers until it is told not to."""

    def __init__(self) -> None:
        self.answer: Any = KEY

    def __call__(self) -> bytes:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer  # type: ignore[no-any-return]  # as above


def _raise(data: bytes) -> bytes:
    raise OutOfOrderError("out of order")


Call = Callable[[FirestoreFlowStateStore, str], Awaitable[object]]


async def _edit(store: FirestoreFlowStateStore, id: str) -> None:
    async with store.edit(id) as state:
        state.input = "changed"


WRITES: dict[str, Call] = {
    "save": lambda store, flow: store.save(flow, FlowState.start()),
    "create": lambda store, flow: store.create("fresh", FlowState.start()),
    "update": lambda store, flow: store.update(flow, cache={"a": CacheEntry(value=1)}),
    "remove": lambda store, flow: store.update(flow, remove=["a"]),
    "event": lambda store, flow: store.update(flow, events_triggered={"a": 1}),
    "edit": _edit,
    "save_many": lambda store, flow: store.save_many({flow: FlowState.start()}),
}
READS: dict[str, Call] = {
    "load": lambda store, flow: store.load(flow),
    "load_many": lambda store, flow: store.load_many([flow]),
    "list": lambda store, flow: store.list(),
    "rewrap": lambda store, flow: store.rewrap(),
}


def one(error: FlowStateError) -> FlowStateError:
    """Return the error itself, or the only one of a batch or page."""
    if isinstance(error, FlowStateBatchError):
        [error] = error.errors.values()
    return error


@pytest.mark.parametrize("bad", [_raise, lambda data: None, lambda data: 5, lambda data: "text"])
@pytest.mark.parametrize("name", WRITES)
async def test_a_codec_that_cannot_encode(flow_state_settings: FlowStateSettings, name: str, bad: Any) -> None:
    """Nothing is written. The error names the flow, the path and the codec."""
    codec = Codec()
    async with FirestoreFlowStateStore(flow_state_settings.model_copy(update={"codecs": [codec]})) as store:
        state = FlowState.start()
        await store.save("id", state)
        codec.encodes = bad
        with pytest.raises(FlowStateError) as refusal:
            await WRITES[name](store, "id")
        error = one(refusal.value)

        assert isinstance(error, FlowStateEncodeError)
        assert error.flow_id in ("id", "fresh")
        assert "codec 'mine'" in str(error)
        assert error.path is not None
        assert not error.path.startswith("log.")
        assert isinstance(error.__cause__, OutOfOrderError if bad is _raise else TypeError)
        assert state == await store.load("id")
        assert await store.load("fresh") is None


@pytest.mark.parametrize("bad", [_raise, lambda data: None, lambda data: 5])
@pytest.mark.parametrize("name", sorted(READS.keys() - {"rewrap"}))
async def test_a_codec_that_cannot_decode(flow_state_settings: FlowStateSettings, name: str, bad: Any) -> None:
    """The value counts as unreadable, by name. The cause is what the codec has raised, and nothing stands between."""
    codec = Codec()
    async with FirestoreFlowStateStore(flow_state_settings.model_copy(update={"codecs": [codec]})) as store:
        await store.save("id", FlowState.start())
        codec.decodes = bad
        with pytest.raises(FlowStateError, match="codec 'mine' failed on operation") as refusal:
            await READS[name](store, "id")
    error = one(refusal.value)

    assert isinstance(error, FlowStateDecodeError)
    assert "id" == error.flow_id
    assert isinstance(error.__cause__, OutOfOrderError if bad is _raise else TypeError)


@pytest.mark.parametrize("answer", [OutOfOrderError("no access"), None, b"short"])
@pytest.mark.parametrize("name", [*WRITES, *READS])
async def test_a_key_that_cannot_be_had(flow_state_settings: FlowStateSettings, name: str, answer: Any) -> None:
    """Writes are refused and reads fail, each by the names of flow and value. With the key everything works again."""
    keys = {"one": base64.b64encode(KEY).decode()}
    async with FirestoreFlowStateStore(flow_state_settings.model_copy(update={"keys": keys})) as store:
        state = FlowState.start()
        await store.save("id", state)
    kms = Kms()
    kms.answer = answer
    # For rewrap another key is the current one, so that it has to encrypt again.
    keyed: dict[str, Any] = {"keys": {"one": kms}}
    if name == "rewrap":
        keyed = {"keys": {**keys, "two": kms}, "current_key": "two"}
    async with FirestoreFlowStateStore(flow_state_settings.model_copy(update=keyed)) as store:
        with pytest.raises(FlowStateError, match="cannot be had") as refusal:
            await {**WRITES, **READS}[name](store, "id")
        error = one(refusal.value)
        kms.answer = KEY
        await {**WRITES, **READS}[name](store, "id")

    encodes = name == "rewrap" or (name in WRITES and name != "edit" and name not in ("update", "remove", "event"))
    assert isinstance(error, (FlowStateEncodeError, FlowStateDecodeError))
    assert isinstance(error, FlowStateEncodeError) or not encodes
    assert error.flow_id in ("id", "fresh")
    if isinstance(error, FlowStateDecodeError):
        assert re.search(r"'id' cannot be read: (operation|executions) cannot be decrypted: the key 'one'", str(error))
    else:
        assert f"Cannot encrypt {error.path}: " in str(error)
    if isinstance(answer, OutOfOrderError):
        assert answer is error.__cause__
    else:
        assert isinstance(error.__cause__, (TypeError, ValueError))
