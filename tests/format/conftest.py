"""Forms of stored documents, written by the store and read raw."""

from __future__ import annotations

import pytest

from firestore_flowstate import FirestoreFlowStateStore, FlowStateSettings
from tests.format.forms import FORMS, ID, Stored, StoredForm
from tests.format.notation import Normaliser, fields
from tests.support.raw_documents import RawCollection


@pytest.fixture
def stored(flow_state_settings: FlowStateSettings) -> Stored:
    """Writes a form and returns what Firestore has then."""

    async def write_and_read(name: str) -> StoredForm:
        form = FORMS[name]
        settings = flow_state_settings.model_copy(update=dict(form.settings))
        async with FirestoreFlowStateStore(settings) as store:
            await form.write(store)
        collection = RawCollection(settings)
        root = collection.read(ID)
        if "_flowstate" not in root:
            return StoredForm(fields(root), {})
        normaliser = Normaliser(settings.collection, ID, keys=settings.keys)
        normalised = normaliser.root(root)
        return StoredForm(normalised, normaliser.parts(collection.below(ID, "flowstate-parts")))

    return write_and_read
