"""The document of a flow state that was saved once: what the documents of other forms are told from."""

from __future__ import annotations

from typing import Any

from tests.format.forms import ID, START, TRACE

EXECUTIONS = f'[{{"startTime":{START},"traceIds":["7185323decb5ba6642ce57bf598483ef"]}}]'
PREPARE = '{"prepare":{"value":["outline",0.5]}}'
TRACE_TEXT = '"' + TRACE.replace('"', '\\"') + '"'


def saved(payload: dict[str, Any], **head: Any) -> dict[str, Any]:
    """Return the document of `forms.state()`, with fields of its head and payload changed. ``...`` leaves one out."""
    document = {
        "flowId": ID,
        "name": "cats",
        "startTime": START,
        "status": "running",
        "blockedOnStep": None,
        "shard": 0,
        "summary": {"steps": 1, "bytes": 423},
        **head,
        "_flowstate": _present(
            {
                "v": 1,
                "input": '{"topic":"cats"}',
                "operation": '{"name":"flow-1","done":false}',
                "executions": EXECUTIONS,
                "blockedOnStep": "null",
                "traceContext": TRACE_TEXT,
                "log": [{"id": "id-1", "set": PREPARE}],
                "weight": 1037,
                "parts": 0,
                **payload,
            }
        ),
    }
    return _present(document)


def _present(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not ...}
