"""The flow states that the tests and the pages of the documentation look at: four flows of a shop, of May 2024."""

from __future__ import annotations

from typing import Any

from firestore_flowstate import FlowState

NINE = 1_717_146_000_000  # 2024-05-31 09:00 UTC, in milliseconds
MINUTE = 60_000  # milliseconds
TRACE = {"startTime": NINE, "traceIds": ["4bf92f3577b34da6a3ce929d0e0e4736"]}


def story() -> dict[str, FlowState]:
    """Return the flow states by their ids."""
    return {
        "order-1001": flow(
            "order-1001",
            startTime=NINE,
            cache={step: {"value": {"ok": True}} for step in ("reserve", "charge", "ship")},
            operation={"name": "order-1001", "done": True, "result": {"response": "shipped"}},
            owner="ana",
        ),
        "order-1002": flow(
            "order-1002",
            startTime=NINE + MINUTE,
            cache={"reserve": {"value": {"ok": True}}},
            blockedOnStep={"name": "approve"},
            owner="bo",
        ),
        "order-1003": flow(
            "order-1003",
            startTime=NINE + 2 * MINUTE,
            operation={
                "name": "order-1003",
                "done": True,
                "result": {"response": None, "error": "Card declined\n    at charge (shop.ts:12)"},
            },
            owner="ana",
        ),
        "draft-7": flow(
            "draft-7", name="draft", startTime=NINE + 3 * MINUTE, input={"topic": "café"}, priority=2, topic="café"
        ),
    }


def flow(id: str, **fields: Any) -> FlowState:
    """Return a flow state, running if nothing else is said."""
    return FlowState.model_validate(
        {
            "flowId": id,
            "name": "checkout",
            "input": {"id": id},
            "cache": {},
            "startTime": NINE,
            "eventsTriggered": {},
            "blockedOnStep": None,
            "operation": {"name": id, "done": False},
            "executions": [TRACE],
            **fields,
        }
    )
