"""A durable flow that outlives its process, and then what Genkit JS left in Firestore, read and resumed.

Run it with `make demo`, or `python examples/demo.py`. It uses the emulator that FIRESTORE_EMULATOR_HOST names, else
starts one and stops it again. Without an emulator on the machine it runs in memory, and simulates the crash.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
import uuid
from asyncio.subprocess import Process
from collections.abc import Callable
from pathlib import Path

import article
import quickstart

from firestore_flowstate import EmulatorError, FirestoreFlowStateStore, FlowState, FlowStateSettings
from firestore_flowstate.emulator import start_emulator
from firestore_flowstate.testing import simulate

ID = "article-1"
FOLDER = Path(__file__).parent
COMMAND = (sys.executable, "-m", "firestore_flowstate.cli")
SECONDS_TO_WAIT = 60  # for a process to start and to work, on a busy machine


async def show_a_crash(emulator_host: str) -> None:
    """Run the flow by the commands that a person would type, and kill the first process in the middle."""
    settings = FlowStateSettings(
        project="demo-flowstate", collection=f"demo-{uuid.uuid4().hex[:8]}", emulator_host=emulator_host
    )
    os.environ.update(  # of the commands
        FIRESTORE_EMULATOR_HOST=emulator_host,
        GOOGLE_CLOUD_PROJECT=settings.project or "",
        FLOWSTATE_COLLECTION=settings.collection,
    )
    async with FirestoreFlowStateStore(settings) as store:
        say("A flow is started: an outline, then three drafts in parallel.")
        first = await begin("start", "article:article", "--json", '"cats"', "--id", ID)
        await until(store, lambda state: any(key.startswith("draft") for key in state.cache))
        first.kill()
        await first.wait()
        say("The process was killed, with one draft stored. Another one goes on when the lease of 2 s is over.")
        worker = await begin("worker", "article:flows")
        try:
            await until(store, lambda state: state.status == "blocked")
            say("The stored draft was not written again. Now no process has anything to do: an editor is asked.")
            await answer("resume", ID, "--step", "approve", "--json", '{"ok": true}')
            await until(store, lambda state: "approve" in state.cache)
            say("Approved. The flow would sleep for a day, and an answer to a sleep ends it.")
            await answer("resume", ID, "--step", "embargo")
            ended = await until(store, lambda state: state.operation.done)
        finally:
            worker.terminate()
            await worker.wait()
        result = ended.operation.result
        quickstart.must_equal("https://example.com/cats", result and result.response)
        say("Published. What happened, from the one document that the flow is:")
        await answer("history", ID)


async def simulate_a_crash() -> None:
    """Run the flow in memory, with a process that dies after the first draft."""
    say("A flow is started: an outline, then three drafts in parallel. Its process dies when one draft is stored.")
    simulation = await simulate(
        article.article, "cats", answers={"approve": article.Approval(ok=True)}, crash_after_write=3
    )
    if simulation.error is not None:
        raise simulation.error
    quickstart.must_equal("https://example.com/cats", simulation.result)
    quickstart.must_equal((), tuple(simulation.repeated))
    say("Another one went on. The editor's answer was there when it asked, and the clock skipped the day of embargo.")
    say(f"Steps, in the order in which they began: {', '.join(simulation.steps)}.")


async def begin(*arguments: str) -> Process:
    """Start `flowstate` with arguments, as in a terminal of its own."""
    print(f"$ flowstate {shlex.join(arguments)}", flush=True)
    return await asyncio.create_subprocess_exec(*COMMAND, *arguments, cwd=FOLDER)


async def answer(*arguments: str) -> None:
    """Run `flowstate` with arguments, which must succeed."""
    process = await begin(*arguments)
    if await process.wait():
        sys.exit(f"flowstate {shlex.join(arguments)} failed")


async def until(store: FirestoreFlowStateStore, is_so: Callable[[FlowState], bool]) -> FlowState:
    """Return the state of the flow when something is so, watching it over Listen."""

    async def watch() -> FlowState:
        async for state in store.watch(ID):
            if state is not None and is_so(state):
                return state
        raise AssertionError("a watch ends with the state of the ended flow")

    return await asyncio.wait_for(watch(), SECONDS_TO_WAIT)


def say(text: str) -> None:
    """Print what happens."""
    print(f"\n{text}", flush=True)


def main() -> None:
    """Run all of it, or what runs without an emulator."""
    try:
        with start_emulator() as emulator:
            asyncio.run(show_a_crash(emulator.host))
            say("And here are flow states that Genkit JS left.\n")
            asyncio.run(quickstart.main(emulator.host))
    except EmulatorError as error:
        why = str(error).partition("\n")[0]
        command = f"{sys.executable} -m firestore_flowstate.emulator where"
        print(f"{why} So this runs in memory; `{command}` says how to get it.")
        asyncio.run(simulate_a_crash())


if __name__ == "__main__":
    main()
