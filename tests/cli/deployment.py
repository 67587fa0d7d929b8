"""An application on Firebase, of which `flowstate doctor` looks at the queue and at the names of flows."""

from __future__ import annotations

import os

import firebase_admin

from firestore_flowstate import FirestoreFlowStateStore
from firestore_flowstate.flows import Flows, Run
from firestore_flowstate.flows.firebase import FirebaseTasks

app = firebase_admin.initialize_app(options={"projectId": os.environ["GOOGLE_CLOUD_PROJECT"]})
flows = Flows(FirestoreFlowStateStore(), dispatcher=FirebaseTasks("drive", app=app))


@flows.flow
async def known(run: Run) -> None:
    await run.sleep("for long", 3600)
