"""The flow states that are measured: sizes S, M and L, with steps shaped like calls of a language model.

Half of a step's bytes are structure and half are text: a generated message with a tool request, usage and timing,
and the rows that a tool has returned, each a small map of seven scalars. The text is made of common English words,
drawn by a fixed seed with the frequencies of Zipf's law, so that it compresses like prose that does not repeat
itself. The same size and number give the same state on every machine.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

from firestore_flowstate import FlowState

_WORD_LIST: Final = """
the of and to a in is that it for was on are as with they be at one have this from by had not but what all were when
we there can an your which their said if do will each about how up out them then she many some so these would other
into has more her two like him see time could no make than first been its who now people my made over did down only
way find use may water long little very after words called just where most know get through back much before go good
new write our used me man too any day same right look think also around another came come work three word must
because does part even place well such here take why things help put years different away again off went old number
great tell men say small every found still between name should home big give air line set own under read last never
us left end along while might next sound below saw something thought both few those always looked show large often
together asked house world going want school important until form food keep children feet land side without boy once
animals life enough took sometimes four head above kind began almost live page got earth need far hand high year
mother light parts country father let night following picture being study second eyes soon times story boys since
white days ever paper hard near sentence better best across during today others however sure means knew try told
young miles sun ways thing whole hear example heard several change answer room sea against top turned learn point
city play toward five using himself usually money seen car morning given order red table customer invoice payment
refund account contract delivery shipment warehouse request response policy agent approval review summary document
analysis report quarter revenue margin forecast region supplier discount agreement signature deadline compliance
reference question context evidence result estimate priority schedule attachment conversation assistant
"""
_WORDS: Final = tuple(_WORD_LIST.split())
_WEIGHTS: Final = list(accumulate(1 / (rank + 3) for rank in range(len(_WORDS))))
_START: Final = 1_726_500_000_000  # the first state's start, in milliseconds


@dataclass(frozen=True)
class Size:
    """How large a state is.

    Attributes:
        name: S, M or L.
        steps: How many steps it has.
        step_bytes: About how many bytes of JSON each has.
    """

    name: str
    steps: int
    step_bytes: int


S: Final = Size("S", 3, 100)
M: Final = Size("M", 20, 2_000)
L: Final = Size("L", 100, 5_000)
SIZES: Final = (S, M, L)


def flow_state(size: Size, number: int = 0) -> FlowState:
    """Return a state of the size. Another number gives other text, and a later start."""
    return FlowState.model_validate(wire_form(size, number))


def wire_form(size: Size, number: int = 0) -> dict[str, Any]:
    """Return a state of the size as Genkit has it, in dicts and lists."""
    flow_id = f"{size.name}-{number:06d}"
    start = _START + number
    return {
        "flowId": flow_id,
        "name": "answerQuestion",
        "input": {"question": text(random.Random(number), 80), "customer": f"customer-{number}"},
        "startTime": start,
        "cache": {
            f"step-{index}": {"value": step_value(size.step_bytes, number, index)} for index in range(size.steps)
        },
        "eventsTriggered": {},
        "blockedOnStep": None,
        "operation": {"name": flow_id, "done": False},
        "traceContext": '{"traceId":"4bf92f3577b34da6a3ce929d0e0e4736","spanId":"00f067aa0ba902b7","traceFlags":1}',
        "executions": [{"startTime": start, "traceIds": ["4bf92f3577b34da6a3ce929d0e0e4736"]}],
    }


def step_value(step_bytes: int, number: int, index: int) -> dict[str, Any]:
    """Return what a step returned, of about so many bytes of JSON."""
    source = random.Random(number * 1_000_003 + index)
    if step_bytes < 500:
        return {"text": text(source, step_bytes // 3), "usage": {"inputTokens": 417, "outputTokens": 83}, "done": True}
    value = {
        "message": {
            "role": "model",
            "content": [
                {"text": text(source, step_bytes // 2)},
                {"toolRequest": {"name": "search", "ref": f"call-{index}", "input": {"query": text(source, 40)}}},
            ],
        },
        "finishReason": "stop",
        "usage": {"inputTokens": source.randrange(4_000), "outputTokens": source.randrange(1_000)},
        "latencyMs": round(source.uniform(300, 9_000), 2),
        "rows": [],
    }
    rows: list[Any] = value["rows"]  # type: ignore[assignment]  # it was just made a list
    room = step_bytes - _bytes_of({f"step-{index}": {"value": value}})
    while room > 0:
        rows.append(_row(source))
        room -= _bytes_of(rows[-1]) + 1
    return value


def text(source: random.Random, length: int) -> str:
    """Return words of about so many characters in all."""
    words = source.choices(_WORDS, cum_weights=_WEIGHTS, k=length // 3 + 8)
    return " ".join(words)[: max(length, 8)].strip().capitalize()


def _row(source: random.Random) -> dict[str, Any]:
    return {
        "id": f"doc-{source.randrange(10**6):06d}",
        "score": round(source.random(), 4),
        "title": text(source, 24),
        "price": source.randrange(100_000) / 100,
        "inStock": source.random() < 0.8,
        "tags": source.sample(_WORDS, 2),
    }


def _bytes_of(value: object) -> int:
    return len(json.dumps(value, separators=(",", ":")))
