"""Followers: they watch flow states and the first page, whatever breaks, and come to the last of what there is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final

from firestore_flowstate import FlowStateDecodeError, FlowStateQuery, StoreUnavailableError

from .asking import Asker
from .history import now
from .wrong import WrongError

_PATIENCE: Final = 60.0  # seconds in which a stream that was broken must be there again: a store may ask after 32 s
_AGAIN: Final = 0.2  # seconds until a watch that failed is begun again
_PAGE: Final = FlowStateQuery(limit=3)


class MissedError(WrongError):
    """Somebody who watches was not told of the last state."""


@dataclass
class Follower:
    """Watches with the store of a team.

    Attributes:
        name: Its own name.
        asker: It has the store, and the history in which everything is recorded.
        ids: The flow states that it watches.
        began: Since when what it sees may have been there.
        seen: The version of each that it saw last; None: there was none.
        page: What it saw last of the first page.
        yields: How often it was told of something.
    """

    name: str
    asker: Asker
    ids: Sequence[str]
    began: float = field(default_factory=now)
    seen: dict[str, str | None] = field(default_factory=dict)
    page: list[tuple[str, Any]] | None = None
    yields: int = 0

    async def follow(self) -> None:
        """Watch until cancelled."""
        await asyncio.gather(*(self._again(id) for id in [*self.ids, None]))

    async def catch_up(self, direct: Asker, *, patience: float = _PATIENCE) -> None:
        """Wait until the last of everything was seen.

        Args:
            direct: Asks for it over a connection without faults. Nobody writes meanwhile.
            patience: How many seconds it may take.

        Raises:
            MissedError: Something was not seen in that time.
        """
        states = await direct.store.load_many(self.ids)
        versions = {id: states[id].version if id in states else None for id in self.ids}
        page = [(one.id, one.updated_at) for one in (await direct.store.list_summaries(_PAGE)).summaries]
        latest = now() + patience
        while (versions, page) != (self.seen, self.page):
            if now() > latest:
                raise MissedError(f"{self.name} saw {self.seen} and {self.page}, and is to see {versions} and {page}")
            await asyncio.sleep(0.02)  # others see it, on other threads

    async def _again(self, id: str | None) -> None:
        """Watch once more, if the first answer did not come in time or the server has lost the parts of a state."""
        while True:
            began = now()
            try:
                await (self._watch_page() if id is None else self._watch(id))
            except StoreUnavailableError:
                pass
            except FlowStateDecodeError as error:
                self.asker.history.unreadable.append((min(began, self.began), now(), f"watch: {error}"))
            except WrongError as error:
                self.asker.history.wrong.append(f"{self.name}: {error}")
            await asyncio.sleep(_AGAIN)

    async def _watch(self, id: str) -> None:
        async with aclosing(self.asker.store.watch(id)) as states:  # type: ignore[type-var]  # it can be closed
            async for state in states:
                self.asker.saw("watch", id, state, self.began)
                self.seen[id] = None if state is None else state.version
                self.yields += 1

    async def _watch_page(self) -> None:
        async with aclosing(self.asker.store.watch_list(_PAGE)) as pages:  # type: ignore[type-var]  # as above
            async for page in pages:
                self.page = [(summary.id, summary.updated_at) for summary in page]
                self.yields += 1
