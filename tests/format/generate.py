"""Writes golden documents: `python -m tests.format.generate FOLDER [FORM...]`, by default of all stored forms.

The folder tests/data/format-v1 was written by it once and is fixed: every later version must read what is there.
A form that is new gets its file. A file that is there already is left as it is.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
import uuid
from pathlib import Path
from typing import Any

from firestore_flowstate import FirestoreFlowStateStore, FlowStateSettings
from firestore_flowstate.emulator import start_emulator
from tests.format.forms import FORMS, ID, Form
from tests.support.raw_documents import RawCollection

COLLECTION = "flows"  # encrypted values are bound to it
_COMPRESSED_OVER = 100_000  # characters: a longer golden file is compressed


async def golden(form: Form, emulator_host: str) -> dict[str, Any]:
    """Return a form as it is stored, with the state that it must be read as."""
    settings = FlowStateSettings(
        project=f"demo-{uuid.uuid4().hex[:12]}", collection=COLLECTION, emulator_host=emulator_host, **form.settings
    )
    async with FirestoreFlowStateStore(settings) as store:
        await form.write(store)
        state = await store.load(ID)
    assert state is not None
    collection = RawCollection(settings)
    parts = collection.below(ID, "flowstate-parts")
    return {
        "collection": COLLECTION,
        "id": ID,
        "keys": settings.keys or {},
        "codecs": [codec.name for codec in settings.codecs],
        "documents": {
            ID: collection.read(ID),
            **{f"{ID}/flowstate-parts/{name}": part for name, part in parts.items()},
        },
        "state": state.model_dump(by_alias=True),
    }


def main(folder: Path, *names: str) -> None:
    """Write the files that are missing."""
    with start_emulator() as emulator:
        for name in names or FORMS:
            if list(folder.glob(f"{name}.json*")):
                print(f"{name}: there already")
                continue
            text = json.dumps(asyncio.run(golden(FORMS[name], emulator.host)), indent=1)
            if len(text) <= _COMPRESSED_OVER:
                (folder / f"{name}.json").write_text(text + "\n")
            else:
                (folder / f"{name}.json.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
            print(f"{name}: written")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
