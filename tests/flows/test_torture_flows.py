"""The torture test of flows in its short form."""

from __future__ import annotations

from tests.flows.torture_flows import torture


async def test_flows_survive_a_round_of_torture() -> None:
    """Processes are killed, stopped and cut off; every invariant holds, and every run ends."""
    counts = await torture(1, seconds=0, runs=12, round_seconds=4)

    assert counts["runs"] >= 12
    assert counts["step executions"] > counts["runs"]
