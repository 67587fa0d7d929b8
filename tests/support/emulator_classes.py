"""An archive of the emulator's classes: with it an emulator starts in half of the processor time.

Tests start some 70 emulators, and most of a start is Java's reading of classes. Java writes such an archive at its end
(class data sharing, Java 13 or newer), and compares it with the jar when it starts: without one, or after an update of
either, emulators start as they do for everybody.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import Final

from firestore_flowstate import FirestoreFlowStateStore, FlowState, FlowStateError, FlowStateQuery, FlowStateSettings
from firestore_flowstate.emulator.finding import Installation, find_emulator
from firestore_flowstate.emulator.process import MAIN_CLASS
from tests.support.ports import Port

ARCHIVE: Final = Path(__file__).resolve().parents[2] / "build" / "emulator-classes" / "archive.jsa"
_OPTIONS: Final = "JDK_JAVA_OPTIONS"  # which each Java from version 9 on reads
_SECONDS: Final = 60


def use_archive(environment: MutableMapping[str, str]) -> None:
    """Let each emulator that is started with this environment use the archive, if there is one."""
    if ARCHIVE.exists() and _OPTIONS not in environment:
        # An archive that does not fit is left alone, without a line about it in the log of the emulator.
        environment[_OPTIONS] = f'"-XX:SharedArchiveFile={ARCHIVE}" -Xlog:cds*=off'


async def _use(host: str, java: subprocess.Popen[bytes]) -> None:
    """Call what tests call most, so that the classes of it are in the archive too."""
    for layout in ("serialized", "native"):
        settings = FlowStateSettings(emulator_host=host, project="demo-classes", layout=layout)
        async with FirestoreFlowStateStore(settings) as store:
            while not await _answers(store):
                if java.poll() is not None:  # its version is 11 or 12
                    return
            await store.save("a", FlowState.start(flow_id="a", name="flow"))
            async for _ in store.watch("a"):
                break
            async with store.edit("a") as state:
                state.name = "changed"
            await store.list(FlowStateQuery(status="running"))
            await store.count()
            await store.delete("a")


async def _answers(store: FirestoreFlowStateStore) -> bool:
    try:
        await store.ping(timeout=1.0)
    except FlowStateError:
        return False
    return True


def main() -> None:
    """Run the emulator once, and have Java write the archive at its end."""
    new = ARCHIVE.with_suffix(".new")
    new.parent.mkdir(parents=True, exist_ok=True)
    new.unlink(missing_ok=True)
    found = find_emulator()
    with Port() as port:
        options = (f"-XX:ArchiveClassesAtExit={new}", "-XX:TieredStopAtLevel=1")
        java = subprocess.Popen(
            [found.java, *options, "-cp", found.jar, MAIN_CLASS, "--host=127.0.0.1", f"--port={port.number}"],
            env={key: value for key, value in os.environ.items() if key != _OPTIONS},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            asyncio.run(asyncio.wait_for(_use(f"127.0.0.1:{port.number}", java), _SECONDS))
        finally:
            java.terminate()
            java.wait(_SECONDS)
    if new.exists() and _is_whole(new, found):
        new.replace(ARCHIVE)
    else:
        print("this Java has made no archive of classes, so emulators take longer to start", file=sys.stderr)


def _is_whole(archive: Path, found: Installation) -> bool:
    """Return whether Java starts with it: an archive that was cut off, as by a full disk, ends every Java by SIGBUS."""
    command = [found.java, f"-XX:SharedArchiveFile={archive}", "-cp", found.jar, "-version"]
    return subprocess.run(command, cwd=archive.parent, capture_output=True, check=False).returncode == 0


if __name__ == "__main__":
    main()
