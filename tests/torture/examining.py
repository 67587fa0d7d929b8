"""Looking at a collection in which nobody works: everything in it is whole, listed, and accounted for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from firestore_flowstate import FlowState, FlowStateQuery, GcReport
from firestore_flowstate._collection.collection import Collection
from firestore_flowstate._operations.orphans import collect
from firestore_flowstate._operations.reading import scan, scan_parts
from firestore_flowstate.doctor import examine as find_problems

from .asking import Asker
from .history import now
from .listing import Page, Walk, tell
from .marks import Glance, Look, Mark
from .model import Summarized
from .wrong import WrongError


class FoundError(WrongError):
    """A collection is not as it should be."""


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """What there is in a collection.

    Attributes:
        looks: How each flow state looks.
        parts: How many parts the flow states have.
        in_parts: How many flow states have parts.
        compacted: How many flow states have a log that was compacted, or saved on top of a version.
    """

    looks: Mapping[str, Look]
    parts: int
    in_parts: int
    compacted: int


async def examine(asker: Asker) -> Inventory:
    """Look at everything, with a store that no fault happens to.

    Raises:
        WrongError: Something is not whole, not listed, listed twice, or lost.
    """
    store = asker.store
    collection, _ = await store._begin()
    looks = await _load_all(asker)
    await _list_all(asker, looks)
    problems = [f"{finding.kind} {finding.id}: {finding.message}" async for finding in find_problems(store)]
    _agree("problems that doctor finds", [], problems)

    named, stored, compacted = await _parts(collection)
    report = await collect(collection, dry_run=True)
    _agree("parts that gc knows of", len(stored - named), report.orphans + report.young)
    _agree("states that gc cannot read", (), report.unreadable)
    _agree("missing parts", set(), named - stored)
    await sweep(asker, "final gc")
    _agree("parts left after gc", (named, named), (await _parts(collection))[:2])
    _agree("states after gc", looks, await _load_all(asker))
    return Inventory(
        looks=looks,
        parts=len(named),
        in_parts=len({name.split("/", 1)[0] for name in named}),
        compacted=compacted,
    )


async def sweep(asker: Asker, what: str) -> None:
    """Collect garbage without the hour that gc leaves to saves in flight: even then none may be hurt."""
    store = asker.store

    async def collect_now() -> GcReport:
        return await collect((await store._begin())[0], dry_run=False, min_age=timedelta(0))

    report = await asker.read(what, collect_now())
    asker.history.count("parts", "collected", report.deleted)


async def _load_all(asker: Asker) -> dict[str, Look]:
    looks = {}
    for id in asker.site.ids:
        began = now()
        look = asker.saw("final load", id, await asker.store.load(id), began)
        if look is not None:
            looks[id] = look
    return looks


async def _list_all(asker: Asker, looks: Mapping[str, Look]) -> None:
    """Compare every way of listing with what was loaded."""
    site, store = asker.site, asker.store
    for query in [
        FlowStateQuery(limit=3),
        FlowStateQuery(limit=2, status="blocked"),
        FlowStateQuery(limit=2, name="flow 1"),
    ]:
        walk = Walk(query=query, complete=True)
        states: list[FlowState] = []
        began, token = now(), None
        while True:
            page = await store.list(
                FlowStateQuery(limit=query.limit, name=query.name, status=query.status, continuation_token=token)
            )
            walk.pages.append(Page(began=began, ended=now(), ids=[state.flow_id for state in page.flow_states]))
            states.extend(page.flow_states)
            if (token := page.continuation_token) is None:
                break
        for state in states:
            asker.saw("final list", state.flow_id, state, began)
        tell(asker, walk)
        expected = [id for id in site.in_order() if id in looks and _matches(asker, id, looks[id], query)]
        _agree(f"{query}", expected, walk.ids)
        _agree(f"iterate {query}", expected, [state.flow_id async for state in store.iterate(query)])
        _agree(f"count {query}", len(expected), await store.count(query))
    summaries = (await store.list_summaries(FlowStateQuery(limit=300))).summaries
    _agree("summaries", [id for id in site.in_order() if id in looks], [summary.id for summary in summaries])
    for summary in summaries:
        asker.noted("final summary", summary.id, Summarized(Glance.at(summary), site.native), now(), now())


def _matches(asker: Asker, id: str, look: Look, query: FlowStateQuery) -> bool:
    status = Mark(look.last).status
    return query.name in (None, asker.site.flow_name(id)) and query.status in (None, status)


async def _parts(collection: Collection) -> tuple[set[str], set[str], int]:
    """Return the parts that roots refer to and those that are stored, and how many logs were compacted."""
    named: set[str] = set()
    compacted = 0
    async for page in scan(collection):
        for document in page:
            root = document.root
            if root is not None:
                id = document.id
                named.update(f"{id}/{name}" for ref in root.refs for name in ref.part_names())
                compacted += any(segment.ids for segment in root.log)
    prefix = len(collection.name(""))
    stored = {
        "/".join(document.name[prefix:].split("/")[::2]) async for page in scan_parts(collection) for document in page
    }
    return named, stored, compacted


def _agree(what: str, expected: object, found: object) -> None:
    if expected != found:
        raise FoundError(f"{what}: {found!r:.1000}, and is to be {expected!r:.1000}")
