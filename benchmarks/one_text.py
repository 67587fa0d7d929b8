"""Client CPU of loading 400 steps of 2 KB, beside py-key-value's Firestore store: one JSON text in one map.

    python benchmarks/one_text.py --install   # it, without its dependencies, into build/key-value
    python benchmarks/one_text.py

It gives the dict that was put in, ours a FlowState whose every field is validated. It cannot compress.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any, Final

from emulators import fresh_emulator
from plain import Plain
from report import machine, shown, title
from rounds import QUICK, cpu_ratio, several, take_turns
from states import Size, wire_form

from firestore_flowstate import FirestoreFlowStateStore, FlowState, FlowStateSettings

FOLDER: Final = Path(__file__).parents[1] / "build" / "key-value"
PACKAGES: Final = ("py-key-value-aio", "beartype", "cachetools")
SIZE: Final = Size("400", 400, 2_000)
PROJECT: Final = "demo-benchmarks"
ROUNDS: Final = several(21)


async def measure() -> None:
    """Measure, and print."""
    from key_value.aio.stores.firestore import FirestoreStore  # type: ignore[import-not-found]  # in a folder of its own

    wire = wire_form(SIZE, 0)
    state = FlowState.model_validate(wire)
    emulator = await fresh_emulator()
    with emulator:
        settings = FlowStateSettings(project=PROJECT, collection="flows", emulator_host=emulator.host)
        large = settings.model_copy(update={"collection": "large", "compress_over": 2**40})
        plain = Plain(emulator.host, project=PROJECT, collection="plain", states=[])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it calls itself unstable
            theirs: Any = FirestoreStore(plain.client, default_collection="theirs")
        async with FirestoreFlowStateStore(settings) as ours, FirestoreFlowStateStore(large) as uncompressed:
            await theirs.put("one", wire)
            await ours.save("one", state)
            await uncompressed.save("one", state)
            costs = await take_turns(
                {
                    "theirs": lambda _: theirs.get("one"),
                    "ours": lambda _: ours.load("one"),
                    "uncompressed": lambda _: uncompressed.load("one"),
                },
                rounds=ROUNDS,
                in_flight=4,
            )
        await plain.close()
    for name in ("ours", "uncompressed"):
        shown(f"load of 400 steps, {name}, times py-key-value", cpu_ratio(costs[name], costs["theirs"]))


def main() -> None:
    """Install it, or measure."""
    title("Client CPU of a load of 400 steps of 2 KB, 4 in flight: median (quartiles) of paired rounds")
    if "--install" in sys.argv[1:]:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(FOLDER)]
        subprocess.run([*pip, *PACKAGES], check=True)
    elif QUICK or not FOLDER.exists():
        print("py-key-value is not in build/key-value, and is not measured: python benchmarks/one_text.py --install")
    else:
        sys.path.append(str(FOLDER))
        asyncio.run(measure())
        print(machine())


if __name__ == "__main__":
    main()
