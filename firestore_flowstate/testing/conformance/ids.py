"""Ids of flow states, which follow Firestore's rules for the ids of documents."""

from __future__ import annotations

from typing import Any, Final

import pytest

from ...errors import InvalidFlowIdError
from ...store import FlowStateStore
from ..comparison import exactly
from .states import started
from .suite import Suite

VALID: Final = (
    "a",
    "A",
    "0",
    " ",
    "a b",
    "a.b",
    "...",
    ".a",
    "_",
    "__",
    "___",
    "__a",
    "a__",
    "naïve",
    "日本語",
    "🙂",
    "a\nb",
    "\x01",
    "%2F",
    "a\\b",
    "a?b#c&d=e",
    "[a]*~`'\"",
    "undefined",
    "x" * 1500,
    "é" * 750,
    "🙂" * 375,
)

INVALID: Final = {
    "empty": "",
    "slash": "/",
    "path": "a/b/c",
    "leading slash": "/a",
    "trailing slash": "a/",
    "dot": ".",
    "two dots": "..",
    "four underscores": "____",
    "reserved": "__a__",
    "reserved over two lines": "__a\nb__",
    "1,501 bytes": "x" * 1501,
    "1,502 bytes of 751 characters": "é" * 751,
    "lone surrogate": "a\ud800",
    "integer": 5,
    "none": None,
    "bytes": b"a",
}


class IdTests(Suite):
    """The id is the key: which texts are ids, and which are not."""

    @pytest.mark.asyncio
    @pytest.mark.parametrize("id", VALID, ids=lambda name: ascii(name)[:20])
    async def test_any_name_of_a_document_is_an_id(self, store: FlowStateStore, id: str) -> None:
        """An id may have spaces, dots and line breaks, in any script, and up to 1,500 bytes, Firestore's limit."""
        state = started(flow_id=id)
        await store.save(id, state)

        assert exactly(state) == exactly(await store.load(id))

    @pytest.mark.asyncio
    async def test_ids_that_look_alike_are_different(self, store: FlowStateStore) -> None:
        """Ids are compared as they are: case, spaces, escapes and composed characters count."""
        ids = ["a", "A", " a", "a ", "a\u0301", "\u00e1", "%61", "a\\"]
        for id in ids:
            await store.save(id, started(flow_id=id))
        loaded = [await store.load(id) for id in ids]

        assert ids == [state.flow_id for state in loaded if state is not None]

    @pytest.mark.asyncio
    @pytest.mark.parametrize("id", INVALID.values(), ids=INVALID)
    async def test_refuses_what_cannot_name_a_document(self, store: FlowStateStore, id: Any) -> None:
        """Such an id is InvalidFlowIdError for every method, and nothing is written."""
        with pytest.raises(InvalidFlowIdError):
            await store.save(id, started())
        with pytest.raises(InvalidFlowIdError):
            await store.load(id)

        assert list((await store.list()).flow_states) == []

    @pytest.mark.asyncio
    async def test_the_flow_id_of_a_state_is_data(self, store: FlowStateStore) -> None:
        """A state may be stored under another id than its own, and several under one flow id."""
        await store.save("one", started(1, flow_id="flow"))
        await store.save("two", started(2, flow_id="flow"))

        assert await store.load("flow") is None
        assert [state.flow_id for state in (await store.list()).flow_states] == ["flow", "flow"]
