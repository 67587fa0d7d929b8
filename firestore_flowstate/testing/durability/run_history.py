"""The history of a run: its versions in their order, reconstructed from the journal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .journal import Event


@dataclass(frozen=True)
class RunVersion:
    """What a run was from one write to the next.

    Attributes:
        version: The store's version.
        content: What was stored.
        write: The write that made the version, as the journal has it.
        at: The place of the line in the journal by which somebody knew that the write was committed.
        owner: The token of the drive that wrote it; None: somebody from outside.
        claims: Whether the write was the claim of its owner.
        is_final: Whether it was the last write of its owner.
    """

    version: str
    content: Mapping[str, Any]
    write: Event
    at: int
    owner: str | None
    claims: bool
    is_final: bool

    @property
    def record(self) -> Mapping[str, Any]:
        """``operation.metadata.run`` in this version."""
        record: Mapping[str, Any] = self.content["record"]
        return record

    @property
    def ended(self) -> str | None:
        """How the run has ended in this version, or None if it goes on."""
        return self.record.get("ended") if self.content["done"] or self.content["error"] else None


@dataclass
class RunHistory:
    """A run as the journal tells it.

    Attributes:
        run: The id of the run.
        events: All lines about the run, each with its place in the journal.
        versions: The versions, in their order.
        wrong: What in the journal contradicts itself, in words.
    """

    run: str
    events: Sequence[tuple[int, Event]]
    versions: list[RunVersion] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def of(self, what: str) -> Iterator[tuple[int, Event]]:
        """Yield the lines of one kind, each with its place."""
        return ((place, event) for place, event in self.events if event["what"] == what)


def histories(events: Sequence[Event], *, restored: bool = False) -> list[RunHistory]:
    """Return the history of each run.

    Args:
        events: The lines of the journal.
        restored: Whether the store was restored from a copy, so that what is stored has other versions since.
    """
    by_run: dict[str, list[tuple[int, Event]]] = {}
    for place, event in enumerate(events):
        by_run.setdefault(event["run"], []).append((place, event))
    return [_history(run, lines, restored=restored) for run, lines in by_run.items()]


@dataclass
class _Write:
    place: int
    event: Event
    version: str | None = None
    committed_at: int = 0
    may_be_committed: bool = True


def _history(run: str, lines: Sequence[tuple[int, Event]], *, restored: bool) -> RunHistory:
    history = RunHistory(run, lines)
    writes: dict[str, _Write] = {}
    loads: dict[str, tuple[int, Mapping[str, Any]]] = {}
    for place, event in lines:
        if event["what"] == "write":
            writes[event["number"]] = _Write(place, event)
        elif event["what"] == "committed":
            writes[event["number"]].version, writes[event["number"]].committed_at = event["version"], place
        elif event["what"] == "not committed" and event["number"] in writes:
            # A conflict may be with the write's own first try, whose reply was lost.
            writes[event["number"]].may_be_committed = event["unknown"] or event["error"] == "FlowStateConflictError"
        elif event["what"] == "load" and event["version"] not in loads:
            loads[event["version"]] = (place, event["content"])
    _chain(history, list(writes.values()), loads, restored=restored)
    return history


def _what(write: _Write) -> str:
    """Return what the write stores, in a form that can be compared."""
    return json.dumps([write.event.get("changes"), write.event.get("content")], sort_keys=True)


def _chain(
    history: RunHistory,
    writes: Sequence[_Write],
    loads: Mapping[str, tuple[int, Mapping[str, Any]]],
    *,
    restored: bool,
) -> None:
    """Put the versions into their order: each write names the version that it is on top of."""
    # A store need not make a version of a write that changes nothing.
    writes = [write for write in writes if write.version is None or write.version != write.event["on"]]
    on: dict[str | None, list[_Write]] = {}
    for write in writes:
        on.setdefault(write.event["on"], []).append(write)
    told = {write.version for write in writes if write.version is not None}
    unexplained = {version: load for version, load in loads.items() if version not in told}
    last: RunVersion | None = None
    here: str | None = None
    copies: set[str] = set()
    while True:
        candidates = on.get(here, [])
        # If a reply was lost, two equal writes on top of one version may both be told the version that is there then.
        committed = list({(write.version, _what(write)): write for write in candidates if write.version}.values())
        if len(committed) > 1:
            history.wrong.append(f"{len(committed)} writes were committed on the version {here}")
        if committed:
            write = committed[0]
            version = write.version or ""
            at = (
                min(write.committed_at, loads[version][0]) if version in loads else write.committed_at
            )  # others may see it first
            is_dead_end = version not in loads and not any(next.version for next in on.get(version, []))
            if is_dead_end and (found := _untold(last, committed, unexplained)):
                # A writer that learnt of its commit after others had written was told a version that is not stored.
                copies.add(version)
                version = found[1]
                at = min(at, unexplained.pop(version)[0])
        else:
            found = _untold(last, candidates, unexplained)
            if found is None:
                here = _copy(last, unexplained) if restored and last is not None else None
                if here is None:
                    break
                copies.add(here)
                del unexplained[here]
                continue
            write, version = found
            at = unexplained.pop(version)[0]
        last = _version(last, write.event, version, at)
        history.versions.append(last)
        here = version
    reached = copies | {each.version for each in history.versions}
    for version in sorted({*told, *loads} - reached):
        history.wrong.append(f"the version {version} is on none of the versions before")


def _copy(last: RunVersion, loads: Mapping[str, tuple[int, Mapping[str, Any]]]) -> str | None:
    """Return the version under which the same content was loaded later."""
    content = _compared(last.content)
    return next((version for version, (_, loaded) in loads.items() if _compared(loaded) == content), None)


def _untold(
    last: RunVersion | None, candidates: Sequence[_Write], loads: Mapping[str, tuple[int, Mapping[str, Any]]]
) -> tuple[_Write, str] | None:
    """Return the write that was committed though nobody was told, and the version under which it was loaded later."""
    for write in candidates:
        if write.may_be_committed:
            content = _compared(_content(last, write.event))
            for version, (_, loaded) in loads.items():
                if _compared(loaded) == content:
                    return write, version
    return None


def _compared(content: Mapping[str, Any]) -> str:
    cache = {key: entry["n"] for key, entry in content["cache"].items()}
    return json.dumps({**content, "cache": cache}, sort_keys=True)


def _content(last: RunVersion | None, write: Event) -> dict[str, Any]:
    if "content" in write:
        return dict(write["content"])
    assert last is not None, "an update is on a version"
    changes = {name: value for name, value in write["changes"].items() if name != "names"}
    content = {**last.content, **changes}
    for name in ("cache", "events"):
        content[name] = {**last.content[name], **changes.get(name, {})}
    return content


def _version(last: RunVersion | None, write: Event, version: str, at: int) -> RunVersion:
    content = _content(last, write)
    before: Mapping[str, Any] = {} if last is None else last.record
    record = content["record"]
    owner = record.get("owner")
    claims = owner is not None and owner != before.get("owner")
    is_final = owner is None and record.get("last") is not None and record.get("last") != before.get("last")
    if is_final:
        owner = record["last"]
    return RunVersion(version, content, write, at, owner, claims, is_final)


def is_from_outside(write: Event) -> bool:
    """Return whether a write is an answer, a cancellation, or what is left to do after the end."""
    if write["how"] != "update":
        return True
    names = set(write["changes"]["names"])
    return "events_triggered" in names or ("operation" in names and not names & {"blocked_on_step", "executions"})
