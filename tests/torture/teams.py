"""Who takes part: three collections, and the teams of actors that work on them, each over a connection of its own."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

from firestore_flowstate import FirestoreFlowStateStore, FlowStateSettings, SyncFlowStateStore
from tests.rpc.tcp_proxy import TcpProxy

from .actors import Actor
from .asking import Asker
from .faults import Line
from .hosts import Blocking, LoopOnThread
from .site import Site

_TIMEOUT: Final = 3.0  # seconds a call
_IDS: Final = ("flow", "a.b", "ü", "__x", "100%", "flow 2", "z", "Z")
_STANDING: Final = ("s1", "s2", "s3", "s4")


@dataclass
class Team:
    """Actors that share a store.

    Attributes:
        line: The connection of the store.
        site: The collection that they work on.
        members: Each actor with the loop that it works on.
        blocking: The names of those that call the store by its blocking form.
    """

    line: Line
    site: Site
    members: list[tuple[Actor, LoopOnThread]]
    blocking: Sequence[str] = ()

    def begun(self) -> int:
        """Return how many operations its actors have begun."""
        return sum(actor.begun for actor, _ in self.members)


def sites(project: str, host: str) -> tuple[Site, Site, Site]:
    """Return a plain collection, one that is sharded, encrypted and in small requests, and a native one."""
    settings = FlowStateSettings(project=project, emulator_host=host, timeout=_TIMEOUT)
    special = {
        "collection": "tenants/t/sharded",
        "shards": 4,
        "max_request_bytes": 2**20,
        "compress_over": 0,
        "keys": {"key": base64.b64encode(bytes(32)).decode()},
    }
    native = {"collection": "native", "layout": "native"}
    return (
        _site(settings, {"collection": "plain"}, ids=8, standing=4, sizes="mixed"),
        _site(settings, special, ids=6, standing=3, sizes="large"),
        _site(settings, native, ids=5, standing=3, sizes="small"),
    )


async def teams(plain: Site, sharded: Site, native: Site, host: str, stack: AsyncExitStack) -> list[Team]:
    """Return the teams, whose stores are closed with the stack."""
    return [
        await _team("bound", plain, host, stack, bound=True, actors=3),
        await _team("hopping", plain, host, stack, bound=False, actors=3, blocking=1),
        await _team("sharded bound", sharded, host, stack, bound=True, actors=2),
        await _team("sharded hopping", sharded, host, stack, bound=False, actors=2),
        await _team("native", native, host, stack, bound=True, actors=2),
    ]


def _site(settings: FlowStateSettings, update: dict[str, Any], *, ids: int, standing: int, sizes: Any) -> Site:
    names = (*_IDS[:ids], *_STANDING[:standing])
    return Site(settings=settings.model_copy(update=update), ids=names, standing=standing, sizes=sizes)


async def _team(
    name: str, site: Site, host: str, stack: AsyncExitStack, *, bound: bool, actors: int, blocking: int = 0
) -> Team:
    """Return actors that share a store: a bound one on one loop, another on a loop for each, or on none."""
    line = Line(name, TcpProxy(host))
    stack.callback(line.proxy.close)
    store = FirestoreFlowStateStore(site.settings.model_copy(update={"emulator_host": line.proxy.host}))
    loops = [LoopOnThread() for _ in range(1 if bound else actors + blocking)]
    for loop in loops:
        stack.callback(loop.close)
    if bound:
        await loops[0].run(store.__aenter__())
    stack.push_async_callback(lambda: loops[0].run(store.close()))
    members = []
    for index in range(actors + blocking):
        called: Any = store
        if index >= actors:
            sync = SyncFlowStateStore(store)
            stack.push_async_callback(asyncio.to_thread, sync.close)
            called = Blocking(sync)
        actor = Actor(f"{name} {index}", Asker(name, site, called))
        members.append((actor, loops[0] if bound else loops[index]))
    return Team(line, site, members, blocking=[actor.name for actor, _ in members[actors:]])
