"""Documents that are anything: FlowStateDecodeError or a state that is valid, never another exception."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import event, given, settings

from firestore_flowstate import FlowStateDecodeError
from tests.hostile.mutations import fuzzed, mutated_states
from tests.hostile.readers import load, look_at, use, within
from tests.hostile.sound_documents import GOLDEN, ID, Stored, stored_of, stored_states
from tests.support.damage import put, sound, text


@given(stored_states())
@fuzzed(share=0.2)
def test_sound_documents_are_read(stored: Stored) -> None:
    """What mutations start from is sound: a test of refusals alone would pass with a reader that refuses all."""
    look_at(stored)
    use(stored, load(stored))


@given(mutated_states())
@fuzzed()
def test_mutated_documents(stored: Stored) -> None:
    """Whatever is changed in a document of any form, it is read or refused, and what is read can be used."""
    look_at(stored)
    state, message = None, ""
    try:
        state = within(lambda: load(stored))
    except FlowStateDecodeError as error:
        message = str(error)
    event("refused" if state is None else "read")
    assert len(message) < 2000
    if state is not None:
        use(stored, state)


@pytest.mark.parametrize("levels", [301, 1_000, 10_000, 100_000, 1_000_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
@pytest.mark.parametrize("field", ["input", "operation", "executions", "extra", "log.0.set", "log.0.del"])
def test_deep_json(field: str, opening: str, closing: str, levels: int) -> None:
    """JSON of any depth is refused at the same one on every Python, and no interpreter ends by it."""
    fields = sound()
    put(f"_flowstate.{field}", text(opening * levels + "1" + closing * levels))(fields)
    with pytest.raises(FlowStateDecodeError, match="nested too deeply"):
        within(lambda: load(stored_of({ID: fields})))


def test_the_deepest_json_that_is_read() -> None:
    """It is deeper than can be written, so that all that is stored can be read. It can be copied and compared."""
    fields = sound()
    put("_flowstate.input", text("[" * 300 + "]" * 300))(fields)
    stored = stored_of({ID: fields})

    use(stored, load(stored))


def test_documents_follow_from_what_was_drawn() -> None:
    """Equal draws make equal documents, ids and nonces too. Otherwise Hypothesis calls a long search inconsistent."""
    found: list[list[bytes]] = []

    @given(mutated_states())
    @settings(fuzzed(), max_examples=100, derandomize=True, database=None)
    def note(stored: Stored) -> None:
        found[-1] += [document.SerializeToString(deterministic=True) for document in stored.documents()]

    for _ in range(2):
        found.append([])
        note()

    assert found[0]
    assert found[0] == found[1]


def test_there_are_mutations_of_every_form() -> None:
    """They begin with each golden document but those that are too large to be changed 300 times."""
    folders = [Path(__file__).parents[1] / "data" / name for name in ("format-v1", "genkit-js")]
    names = {path.name.partition(".")[0] for folder in folders for path in folder.glob("*.json*")}

    assert {"parts"} == names - GOLDEN.keys()
