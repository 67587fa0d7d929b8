"""Commands that keep a collection in order."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import click

from ..errors import FlowStateNotFoundError
from ..firestore import FirestoreFlowStateStore
from ..inspection import inspect_document
from ..reports import GcReport, MigrateReport, PurgeReport, RewrapReport
from ..settings import FlowStateSettings
from ..unset import UNSET
from .connecting import opened
from .interruptible import run
from .options import (
    MisusedError,
    as_json_option,
    confirm,
    confirmation_option,
    dry_run_option,
    filter_options,
    given_query,
    given_settings,
    store_options,
)
from .output import about, collection_of, counted, progress_bar, report, say, shown, tell
from .parameters import duration, spelled


@click.command()
@dry_run_option
@as_json_option
@store_options
def gc(dry_run: bool, as_json: bool) -> None:
    """Delete parts that no flow state refers to.

    Large values are kept in parts, and writers that were killed leave some behind. Parts younger than an hour stay,
    since a save may be about to refer to them.
    """

    async def collect(settings: FlowStateSettings) -> GcReport:
        async with opened(settings) as store:
            return await store.gc(dry_run=dry_run)

    found = run(collect(given_settings()))
    done = (
        f"{counted(found.orphans, 'part')} would be deleted" if dry_run else f"{counted(found.deleted, 'part')} deleted"
    )
    fields = {"orphans": found.orphans, "deleted": found.deleted, "young": found.young}
    report(
        f"{done}, {found.young:,} younger than an hour {'stays' if found.young == 1 else 'stay'}",
        {**fields, "unreadable": list(found.unreadable), "dryRun": dry_run},
        as_json=as_json,
    )
    for id in found.unreadable:
        say(f"{shown(id)} cannot be read: its parts were left alone")


@click.command()
@click.option(
    "--older-than",
    type=duration,
    metavar="DURATION",
    required=True,
    help="How long they must be neither started nor written, such as 90d, 12h or 1d12h.",
)
@dry_run_option
@confirmation_option
@as_json_option
@filter_options
@store_options
def purge(older_than: timedelta, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Delete old flow states with their parts.

    Flow states that have expired are deleted too, and so are those of flows that have not ended, unless --status is
    given: the result says how many these are. A flow state that is written meanwhile stays. After an interruption,
    run the command again.
    """
    settings, query = given_settings(), given_query()
    if not dry_run:
        only = "" if query == type(query)() else " that match"
        age = f"neither started nor written for {spelled(older_than)}"
        confirm(f"Delete the flow states of {collection_of(settings)}{only}, {age}?", yes=yes)

    async def purge_them() -> PurgeReport:
        async with opened(settings) as store:
            with progress_bar("flow states") as progress:
                return await store.purge(query, older_than=older_than, dry_run=dry_run, progress=progress)

    found = run(purge_them())
    done = "would be deleted" if dry_run else "deleted"
    had = "has" if found.unfinished == 1 else "have"
    unfinished = f", of which {found.unfinished:,} {had} not ended" if found.unfinished else ""
    fields = {"purged": int(found), "unfinished": found.unfinished, "dryRun": dry_run}
    report(f"{counted(found)} {done}{unfinished}", fields, as_json=as_json)


@click.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option(
    "--after", type=duration, metavar="DURATION", help="Let them expire after this time, such as 30d, 12h or P30D."
)
@click.option("--never", is_flag=True, help="Let them never expire.")
@click.option("--default", "default", is_flag=True, help="Let them expire as FLOWSTATE_EXPIRE_AFTER says.")
@store_options
def expire(ids: Sequence[str], after: timedelta | None, never: bool, default: bool) -> int:
    """Set when flow states expire, whatever the settings say.

    The time is kept with each flow state until a write sets another one. For a flow that has ended it counts from now,
    and for any other from its end. Readers do not see a flow state that has expired, and Firestore deletes it if there
    is a TTL policy. Exits with 1 if one cannot expire, since it is a native document with an expireAt of its own.
    """
    if (after is not None) + never + default != 1:
        raise MisusedError("give one of --after DURATION, --never and --default")
    if after == timedelta():
        raise MisusedError("--after must be longer than 0s; flowstate delete deletes at once")
    settings = given_settings()

    async def expire_them() -> int:
        code = 0
        async with opened(settings) as store:
            for id in ids:
                store.edit(id)  # only refuses a wrong id: that is a wrong argument, before which nothing may be written
            for id in ids:
                try:
                    if default:
                        await store.update(id, extra={"expireAfter": UNSET})
                    else:
                        await store.update(id, expire_after=after)
                except FlowStateNotFoundError:  # the store's message advises code to save the state first
                    raise FlowStateNotFoundError(
                        f"There is no flow state {id!r}, or it has expired already.", flow_id=id
                    ) from None
                if not never and await _has_own_expiry(store, id):
                    say(
                        f"{shown(id)} never expires: it is a native document, and expireAt is a key of its own there. "
                        "Migrate it to the serialized layout, which has room for both, and set the time again."
                    )
                    code = 1
                    continue
                how = "as the settings say" if default else "never" if after is None else f"after {spelled(after)}"
                tell(f"{shown(id)} expires {how}")
        return code

    return run(expire_them())


async def _has_own_expiry(store: FirestoreFlowStateStore, id: str) -> bool:
    """Return whether a state is stored natively with a key in the place of the time at which it expires."""
    found = await inspect_document(store, id)
    if found is None or found.layout != "native":
        return False
    return "timestampValue" not in found.document["fields"].get("expireAt", {"timestampValue": None})


@click.command()
@click.option(
    "--to-collection", metavar="PATH", help="The collection to copy to; otherwise they are rewritten in place."
)
@click.option(
    "--to-layout",
    type=click.Choice(["serialized", "native"]),
    default="serialized",
    metavar="LAYOUT",
    show_default=True,
    help="serialized or native.",
)
@click.option("--decrypt", is_flag=True, help="Store what is encrypted in the clear, as native documents are.")
@dry_run_option
@confirmation_option
@as_json_option
@store_options
def migrate(to_collection: str | None, to_layout: str, decrypt: bool, dry_run: bool, yes: bool, as_json: bool) -> int:
    """Bring flow states to another layout, collection or number of shards.

    They are rewritten in place, or copied to another collection. Flows may run meanwhile. If the command is run again,
    it does what is left. Exits with 1 if some flow states could not be migrated; these are as they were.
    """
    source = given_settings()
    changes: dict[str, Any] = {"layout": to_layout}
    if to_collection is not None:
        changes["collection"] = to_collection
    if decrypt:
        changes |= {"keys": None, "current_key": None, "require_encryption": False}
    elif source.keys and to_layout == "native":
        raise MisusedError(
            "FLOWSTATE_KEYS is set, and native documents are not encrypted: give --decrypt to store what is encrypted "
            "in the clear"
        )
    destination = given_settings(changes, named={"collection": "--to-collection", "layout": "--to-layout"})
    if (to_collection is None or decrypt) and not dry_run:
        what = (
            f"Rewrite the flow states of {collection_of(source)}"
            if to_collection is None
            else f"Copy to {collection_of(destination)}"
        )
        clear = ", decrypted: whoever may read the database reads them" if decrypt else ""
        confirm(f"{what} in the {to_layout} layout{clear}?", yes=yes)

    async def migrate_them() -> MigrateReport:
        async with opened(source) as old, opened(destination) as new:
            with progress_bar("flow states", await about(old)) as progress:
                return await old.migrate(new, dry_run=dry_run, decrypt=decrypt, progress=progress)

    found = run(migrate_them())
    failed = {id: str(error) for id, error in found.failed.items()}
    done = "would be migrated" if dry_run else "migrated"
    report(
        f"{counted(found.migrated)} {done}, {_unchanged(found.unchanged)}, {len(failed):,} failed",
        {"migrated": found.migrated, "unchanged": found.unchanged, "failed": failed, "dryRun": dry_run},
        as_json=as_json,
    )
    for message in () if as_json else failed.values():
        say(shown(message))
    return 1 if failed else 0


@click.command()
@as_json_option
@store_options
def rewrap(as_json: bool) -> int:
    """Store flow states anew that are not stored as the settings say now.

    Above all these are flow states that are not encrypted with the current key: after a rotation, run this before the
    old key is taken out of FLOWSTATE_KEYS. Flows may run meanwhile. If the command is run again, it does what is left.
    Native documents are not encrypted: if there are keys and native documents, it exits with 1, and
    `flowstate migrate` encrypts them. Parts that no flow state refers to stay as they are, in the clear or under the
    old key: `flowstate gc` deletes them, and `flowstate doctor` finds them.
    """

    async def rewrap_them(settings: FlowStateSettings) -> RewrapReport:
        async with opened(settings) as store:
            with progress_bar("flow states", await about(store)) as progress:
                return await store.rewrap(progress=progress)

    settings = given_settings()
    done = run(rewrap_them(settings))
    fields = {"rewrapped": done.rewrapped, "unchanged": done.unchanged, "native": list(done.native)}
    report(f"{counted(done.rewrapped)} stored anew, {_unchanged(done.unchanged)}", fields, as_json=as_json)
    if not settings.keys or not done.native:
        return 0
    for id in () if as_json else done.native:
        say(f"{shown(id)} is native, so that nothing of it is encrypted: flowstate migrate encrypts it")
    return 1


def _unchanged(number: int) -> str:
    return f"{number:,} as {'it' if number == 1 else 'they'} should be"
