"""Documents made to take time and memory: a megabyte at most, and what it costs to read or refuse it is known."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from typing import Any, Final, NamedTuple

from firestore_flowstate import FlowStateDecodeError
from tests.hostile.readers import load, look_at
from tests.hostile.sound_documents import ID, stored_of
from tests.support.damage import BOMB, envelope, log_of, put, ref, sound, sound_native, text, zstd
from tests.support.raw_documents import Fields

MIB: Final = 1024 * 1024
SECONDS: Final = 5.0  # of processor time that a document may take
FRAME: Final = zstd.compress(b"1")
SPACES: Final = zstd.compress(b"{" + b" " * (64 * MIB - 2) + b"}")


def _input(value: dict[str, Any]) -> Fields:
    return _at("_flowstate.input", value)


def _at(path: str, value: dict[str, Any], fields: Fields | None = None) -> Fields:
    fields = sound() if fields is None else fields
    put(path, value)(fields)
    return fields


def _log(count: int, **values: Any) -> Fields:
    return _at("_flowstate.log", log_of(count, **values))


REFUSED: Final = {
    "64 MiB that say 10 bytes": lambda: _input(envelope("zstd=10", BOMB)),
    "64 MiB behind each of 100 values": lambda: _log(100, events=envelope(f"zstd={64 * MIB}", BOMB)),
    "more than any value may have": lambda: _input(envelope("zstd=536870913", BOMB)),
    "512 MiB said, a byte held": lambda: _input(envelope("zstd=536870912", FRAME)),
    "50,000 frames": lambda: _input(envelope("zstd=50000", FRAME * 50_000)),
    "a frame that is skipped": lambda: _input(
        envelope("zstd=1", b"\x50\x2a\x4d\x18" + (900_000).to_bytes(4, "little") + bytes(900_000) + FRAME)
    ),
    "a window of 2 GiB": lambda: _input(envelope("zstd=9", b"\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00")),
    "50,000 layers of one codec": lambda: _input(envelope(";".join(["backwards"] * 50_000), b"1" * 400_000)),
    "90,000 unknown layers": lambda: _input(envelope(";".join(f"x{i}" for i in range(90_000)), b"1")),
    "references to 10 million parts": lambda: _log(10_000, set=ref(count=1000, size=10**9)),
    "a million brackets": lambda: _input(text("[" * 10**6)),
    "a million digits": lambda: _input(text("9" * 10**6)),
    "60,000 steps that are none": lambda: _at("_flowstate.log.0.set", text(json.dumps(dict.fromkeys(_names(), 5)))),
    "400,000 executions that are none": lambda: _at("_flowstate.executions", text("[" + "1," * 400_000 + "1]")),
    "400,000 trace ids that are none": lambda: _at(
        "_flowstate.executions", text('[{"traceIds":[' + "1," * 400_000 + "1]}]")
    ),
    "40,000 native steps that are none": lambda: _at(
        "cache", {"mapValue": {"fields": {name: {"integerValue": "1"} for name in _names(40_000)}}}, sound_native()
    ),
}
READ: Final = {
    "64 MiB in 2 KB": lambda: _input(envelope(f"zstd={64 * MIB}", BOMB)),
    "330,000 lists": lambda: _input(text("[" + "[]," * 330_000 + "[]]")),
    "230 integers of 4,300 digits": lambda: _input(text("[" + ",".join(["9" * 4300] * 230) + "]")),
    "60,000 steps": lambda: _at("_flowstate.log.0.set", text(json.dumps({name: {} for name in _names()}))),
    "one step 120,000 times": lambda: _at("_flowstate.log.0.set", text("{" + '"a":{},' * 120_000 + '"a":{}}')),
    "8 segments of 64 MiB of spaces": lambda: _log(8, set=envelope(f"zstd={64 * MIB}", SPACES)),
    "8,000 segments that set and remove one step": lambda: _log(8_000, set=text('{"a":{}}'), **{"del": text('["a"]')}),
    "80,000 covered ids": lambda: _at(
        "_flowstate.log.0.ids", {"arrayValue": {"values": [text(name) for name in _names(80_000)]}}
    ),
    "40,000 unknown keys": lambda: {**sound(), **{name: {"integerValue": "1"} for name in _names(40_000)}},
    "20,000 references to documents": lambda: _at(
        "input",
        {"arrayValue": {"values": [{"referenceValue": "projects/p/databases/d/documents/c/d"}] * 20_000}},
        sound_native(),
    ),
}


MEBIBYTES: Final = {"refused": 100, "read": 300}


def _names(count: int = 60_000) -> list[str]:
    return [f"k{index}" for index in range(count)]


def test_bombs() -> None:
    """A process that reads them all takes at most some seconds for each, and some memory for all of them."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(
        [sys.executable, __file__], capture_output=True, text=True, timeout=100, check=False, env=environment
    )
    assert 0 == run.returncode, run.stderr
    measured = [Measured(*json.loads(line)) for line in run.stdout.splitlines()]

    outcomes = {**dict.fromkeys(REFUSED, "refused"), **dict.fromkeys(READ, "read")}
    assert list(outcomes.items()) == [(one.name, one.outcome) for one in measured]
    assert [] == [one for one in measured if one.seconds > SECONDS]
    assert [] == [one for one in measured if one.mebibytes > MEBIBYTES[one.outcome]]


class Measured(NamedTuple):
    """What became of a bomb.

    Attributes:
        name: Its name.
        outcome: Whether it was read or refused.
        seconds: How many seconds of the process's own time it took.
        mebibytes: By how many MiB the process had grown at its largest by then.
    """

    name: str
    outcome: str
    seconds: float
    mebibytes: float


def _measure() -> None:
    load(stored_of({ID: sound()}))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, bomb in (REFUSED | READ).items():
        stored = stored_of({ID: bomb()})
        began = time.process_time()
        try:
            load(stored)
            outcome = "read"
        except FlowStateDecodeError:
            outcome = "refused"
            look_at(stored)
        seconds = time.process_time() - began
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        print(json.dumps([name, outcome, seconds, grown / (MIB if sys.platform == "darwin" else 1024)]))


if __name__ == "__main__":
    _measure()
