"""What must hold for every run, whatever happened to its processes. It is judged from the journal alone.

1. In every version a run has ended, or waits for something that somebody can answer, or has a ``wakeAt``.
2. A step with a stored result never begins again, except after a retry of the run.
3. The writes of each owner follow each other without another owner's in between, and a run ends once.
4. A step begins twice only if another owner has claimed in between, or a failed attempt is recorded.
5. A step with ``at_most_once`` begins at most once.
6. If `resume` has succeeded, its answer is what the interrupt returns. A timeout is stored before the function sees it.
7. In every drive the function sees recorded results in the order and with the values in which they were recorded.
8. No step begins while a result that the function has seen is not stored.
9. A drive writes nothing after its final write.
10. A run that has ended has no owner and no waits, and a ``wakeAt`` only if something is left to do.
12. For each wake time there is one name of a task, one more for each power of two minutes that the run is late, one for
    a delivery that comes shortly before it, and one for each 10 s in which it is delivered to a process that is to end.

Number 11, that a value which the store refuses changes nothing else, needs a store that refuses: it is a test of its
own, in `endings`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from .journal import Event
from .run_history import RunHistory, RunVersion, histories


def violations(events: Sequence[Event], *, restored: bool = False) -> list[str]:
    """Return in words what does not hold. The list should be empty.

    Args:
        events: The lines of the journal.
        restored: Whether the store was restored from a copy, so that what is stored has other versions since.
    """
    return [
        f"run {history.run}: {wrong}"
        for history in histories(events, restored=restored)
        if history.versions
        for wrong in (*history.wrong, *_Run(history).violations())
    ]


class _Run:
    """A run, and what its drives did.

    A retry begins a new life of the run. What may happen only once may happen once in each life.
    """

    def __init__(self, history: RunHistory) -> None:
        self.history = history
        self.versions = history.versions
        self.begins = list(history.of("begin"))
        self.claims = {each.owner: each for each in self.versions if each.claims}
        self.finals = {each.owner: each for each in self.versions if each.is_final}
        self.retries = [each.at for each in self.versions if each.write["how"] == "edit"]

    def violations(self) -> Iterator[str]:
        yield from self._goes_on()
        yield from self._begins_once()
        yield from self._owners_take_turns()
        yield from self._attempts_are_recorded()
        yield from self._at_most_once()
        yield from self._answers_are_kept()
        yield from self._sees_what_is_recorded()
        yield from self._durable_before_the_next()
        yield from self._silent_after_the_final_write()
        yield from self._ended_is_ended()
        yield from self._tasks_are_few()

    def life(self, place: int) -> int:
        """Return how often the run was retried before this place in the journal."""
        return sum(at <= place for at in self.retries)

    def _goes_on(self) -> Iterator[str]:
        for each in self.versions:
            for key, wait in each.record.get("waits", {}).items():
                if each.is_final and key in each.content["events"] and not wait.get("knocked"):
                    yield f"1: a drive leaves the run to wait for {key}, whose answer is stored"
            if each.ended is not None or each.content["wake"] is not None:
                continue
            taken = {*each.content["events"], *each.content["cache"]}
            waits = each.record.get("waits", {})
            if not any(wait["kind"] == "interrupt" and key not in taken for key, wait in waits.items()):
                yield f"1: nothing will have the version {each.version} go on: it waits for {sorted(waits)}"
            if each.record.get("owner") is not None:
                yield f"1: the version {each.version} has an owner, and no wakeAt"

    def _begins_once(self) -> Iterator[str]:
        for place, begin in self.begins:
            claim = self.claims.get(begin["owner"])
            if claim is not None and begin["key"] in claim.content["cache"]:
                yield f"2: {begin['key']} begins again, though its result was stored when its owner claimed"
            for each in self._written_by(begin["owner"], before=place):
                if begin["key"] in each.write.get("changes", {}).get("cache", {}):
                    yield f"2: {begin['key']} begins again, though its owner has stored its result"

    def _owners_take_turns(self) -> Iterator[str]:
        owners = [each.owner for each in self.versions if each.owner is not None]
        stretches = [owner for place, owner in enumerate(owners) if place == 0 or owners[place - 1] != owner]
        for owner, count in Counter(stretches).items():
            if count > 1:
                yield f"3: {owner} writes again after another owner has: {stretches}"
        for one, next in pairwise(self.versions):
            if one.ended is not None and next.ended is None and next.write["how"] != "edit":
                yield f"3: the end of the run ({one.ended}) is taken back"
        ends = Counter(self.life(each.at) for each in self._changes_of("ended"))
        if any(count > 1 for count in ends.values()):
            yield f"3: the run ends {max(ends.values())} times"

    def _changes_of(self, what: str) -> Iterator[RunVersion]:
        before: RunVersion | None = None
        for each in self.versions:
            if getattr(each, what) is not None and (
                before is None or getattr(before, what) is None or each.is_final or each.claims
            ):
                yield each
            before = each

    def _attempts_are_recorded(self) -> Iterator[str]:
        begun: dict[tuple[str, str], tuple[int, Event]] = {}
        for place, begin in self.begins:
            key, attempt = begin["key"], begin["attempt"]
            before = begun.get((begin["owner"], key))
            if before is not None and attempt <= before[1]["attempt"]:
                yield f"4: {key} begins twice as attempt {attempt} by one owner"
            if attempt > 1 and not self._was_recorded(key, attempt - 1, before=place):
                yield f"4: {key} begins as attempt {attempt}, and the one before is not recorded"
            begun[begin["owner"], key] = (place, begin)

    def _was_recorded(self, key: str, attempts: int, *, before: int) -> bool:
        return any(
            each.at < before and each.record.get("retries", {}).get(key, {}).get("attempts") == attempts
            for each in self.versions
        )

    def _at_most_once(self) -> Iterator[str]:
        begins = Counter((begin["key"], self.life(place)) for place, begin in self.begins if begin.get("once"))
        for (key, _), count in begins.items():
            if count > 1:
                yield f"5: {key} begins {count} times"

    def _answers_are_kept(self) -> Iterator[str]:
        last = self.versions[-1].content
        for place, told in self.history.of("told"):
            if self.life(place) != self.life(self.versions[-1].at):
                continue  # a retry may have dropped it
            key, answer = told["key"], told["value"]
            entry, event = last["cache"].get(key), last["events"].get(key)
            if entry is not None and entry["kind"] == "interrupt" and entry["value"] != answer:
                yield f"6: {key} was answered {answer!r}, and recorded is {entry}"
            if event != answer:
                yield f"6: {key} was answered {answer!r}, and stored is {event!r}"
            for at, saw in self.history.of("saw"):
                if saw["key"] == key and saw["value"] != answer and self.life(at) == self.life(place):
                    yield f"6: {key} was answered {answer!r}, and the function saw {saw['value']!r}"
        for at, saw in self.history.of("saw"):
            if saw.get("timeout") and not self._is_durable(saw["key"], saw["owner"], before=at):
                yield f"6: the function sees the timeout of {saw['key']} before it is stored"

    def _sees_what_is_recorded(self) -> Iterator[str]:
        highest: dict[str, tuple[int, str]] = {}
        for _, saw in self.history.of("saw"):
            entry = self._recorded(saw["key"], saw["owner"])
            if entry is None:
                continue
            if not saw.get("timeout") and not entry["failed"] and entry["value"] != saw["value"]:
                yield f"7: the function sees {saw['value']!r} of {saw['key']}, and recorded is {entry['value']!r}"
            if saw.get("ordered"):
                n, key = highest.get(saw["owner"], (0, ""))
                if entry["n"] < n:
                    yield f"7: the function sees {saw['key']} ({entry['n']}) after {key} ({n})"
                highest[saw["owner"]] = (entry["n"], saw["key"])

    def _durable_before_the_next(self) -> Iterator[str]:
        for place, begin in self.begins:
            for at, saw in self.history.of("saw"):
                if at > place:
                    break
                if saw["owner"] == begin["owner"] and not self._is_durable(saw["key"], saw["owner"], before=place):
                    yield f"8: {begin['key']} begins, though {saw['key']}, which the function has seen, is not stored"

    def _silent_after_the_final_write(self) -> Iterator[str]:
        contents = {each.version: each.content for each in self.versions}
        for place, write in self.history.of("write"):
            if write["how"] != "update":
                continue
            names = set(write["changes"]["names"])
            before: Mapping[str, Any] = contents.get(write["on"], {"record": {"owner": "unknown"}})
            owner = write["changes"].get("record", {}).get("owner")
            final = self.finals.get(owner)
            # Whoever cancels a run writes the record as it was loaded, and may be too late: that write is refused.
            asks = (
                names == {"operation"} and "cancel" in write["changes"]["inbox"].keys() - before.get("inbox", {}).keys()
            )
            if owner is not None and final is not None and final.at < place and not asks:
                yield f"9: {owner} tries to write {sorted(names)} after its final write"
            if not names & {"operation", "events_triggered"} and before["record"].get("owner") is None:
                yield f"9: somebody tries to write {sorted(names)} on a version without an owner"

    def _ended_is_ended(self) -> Iterator[str]:
        for each in self.versions:
            if each.ended is None:
                continue
            if each.record.get("owner") is not None or each.record.get("waits"):
                yield f"10: the run has ended, and has an owner or waits: {each.record}"
            if each.content["wake"] is not None and not each.record.get("todo"):
                yield "10: the run has ended, with nothing left to do, and has a wakeAt"

    def _tasks_are_few(self) -> Iterator[str]:
        names: dict[str, set[str]] = {}
        for _, task in self.history.of("task"):
            wake, _, kind = task["wake"].partition("-")
            names.setdefault(wake, set()).add(kind)
        for wake, kinds in names.items():
            hops = {int(kind) for kind in kinds if not kind.startswith(("s", "e", "c"))}
            if len(hops) > 1 and hops != set(range(min(hops), max(hops) + 1)):
                yield f"12: the wake time {wake} has tasks of the names {sorted(kinds)}"

    # What several of the rules ask

    def _written_by(self, owner: str, *, before: int) -> Iterator[RunVersion]:
        return (each for each in self.versions if each.owner == owner and each.at < before)

    def _recorded(self, key: str, owner: str) -> Mapping[str, Any] | None:
        """Return the entry that the drive has found stored, or has stored."""
        found: Mapping[str, Any] | None = None
        for each in self.versions:
            if each.owner == owner:
                found = each.content["cache"].get(key) or found
        return found

    def _is_durable(self, key: str, owner: str, *, before: int) -> bool:
        """Return whether the entry was stored when the drive claimed, or by the drive since."""
        return any(key in each.content["cache"] for each in self._written_by(owner, before=before))
