"""Export and import of many flow states: time, and the memory of this process along the way.

    python benchmarks/backup_at_scale.py [STATES]

It saves that many states (100,000) of three steps of 100 bytes in a fresh emulator, from another process. It exports
them to a file, imports the file into another collection, and compares what is there with each line. The peak of
resident memory since the start is shown at every tenth: if it stands still, memory does not grow with the number of
states. The emulator walks over the whole collection for each page of a list, and takes most of the time of an export.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from emulators import fresh_emulator
from report import table, title
from rounds import QUICK
from states import S, wire_form

from firestore_flowstate import FirestoreFlowStateStore, FlowState, FlowStateSettings
from firestore_flowstate.backup import export_line, export_states, import_states

PROJECT = "demo-benchmarks"
BATCH = 400  # flow states of a save_many


def peak() -> float:
    """Return the most memory that this process has had so far, in MiB."""
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes / 1024 / (1024 if sys.platform == "darwin" else 1)


class Course:
    """What was measured on the way."""

    def __init__(self, total: int) -> None:
        self._tenth = max(total // 10, 1)
        self._start, self._cpu = time.perf_counter(), time.process_time()
        self.peaks: list[tuple[int, float]] = []

    def note(self, done: int) -> None:
        """Take note that so many are done."""
        if done >= self._tenth * (len(self.peaks) + 1):
            self.peaks.append((done, peak()))

    def cost(self) -> str:
        """Return how long it took so far, and how much of that this process was busy."""
        seconds, busy = time.perf_counter() - self._start, time.process_time() - self._cpu
        return f"{seconds:,.0f} s, {busy:,.0f} s of which are CPU of this process"


def seed(host: str, total: int) -> None:
    """Save so many states."""

    async def save() -> None:
        async with FirestoreFlowStateStore(settings_for(host)) as store:
            for start in range(0, total, BATCH):
                states = {}
                for number in range(start, min(start + BATCH, total)):
                    state = FlowState.model_validate({**wire_form(S, number), "startTime": number})
                    states[f"flow-{number:06}"] = state
                await store.save_many(states)

    asyncio.run(save())


def settings_for(host: str) -> FlowStateSettings:
    """Return the settings of the collection that is exported."""
    return FlowStateSettings(project=PROJECT, collection="flows", emulator_host=host)


async def export(store: FirestoreFlowStateStore, path: Path, progress: Callable[[int], None]) -> None:
    """Write all states to a file."""
    with path.open("w", encoding="utf-8") as file:  # a line at a time, as the command does
        async for line in export_states(store, progress=progress):
            file.write(line)


async def equal_lines(path: Path, store: FirestoreFlowStateStore) -> int:
    """Return how many lines of a file are those of the states in a store."""
    equal = 0
    with path.open(encoding="utf-8") as file:
        while lines := list(islice(file, 100)):
            ids = [json.loads(line)["id"] for line in lines]
            states = await store.load_many(ids)
            equal += sum(line == export_line(id, states[id]) for id, line in zip(ids, lines, strict=True))
    return equal


def megabytes(path: Path) -> float:
    """Return the size of a file in MiB."""
    return path.stat().st_size / 2**20


async def main(total: int) -> None:
    """Do all of it and print what was measured."""
    with await fresh_emulator() as emulator, tempfile.TemporaryDirectory() as folder:
        settings = settings_for(emulator.host)
        seeding = multiprocessing.get_context("spawn").Process(target=seed, args=(emulator.host, total))
        seeding.start()
        await asyncio.to_thread(seeding.join)
        assert seeding.exitcode == 0
        path = Path(folder, "flows.jsonl")
        async with (
            FirestoreFlowStateStore(settings) as store,
            FirestoreFlowStateStore(settings.model_copy(update={"collection": "copies"})) as copies,
        ):
            await store.count()
            before = peak()
            exported = Course(total)
            await export(store, path, exported.note)
            export_cost = exported.cost()
            imported = Course(total)
            with path.open(encoding="utf-8") as lines:  # noqa: ASYNC230  # a line at a time, as the command does
                report = await import_states(copies, lines, progress=imported.note)
            import_cost = imported.cost()
            equal = await equal_lines(path, copies)
        title(f"{report.imported:,} states, {megabytes(path):.0f} MiB of JSON Lines")
        print(f"export: {export_cost}")
        print(f"import: {import_cost}")
        print(f"what was imported, line by line as exported: {equal:,}")
        print(f"peak of memory before: {before:.0f} MiB (the emulator's is its own)")
        rows = [
            [f"{done:,}", f"{export_peak:.0f}", f"{import_peak:.0f}"]
            for (done, export_peak), (_, import_peak) in zip(exported.peaks, imported.peaks, strict=False)
        ]
        table(rows, head=["states", "peak in export, MiB", "peak in import, MiB"])


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 2_000 if QUICK else 100_000))
