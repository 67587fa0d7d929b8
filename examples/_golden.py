"""Documents that Genkit JS has written, put into a collection exactly as it left them.

Each file of tests/data/genkit-js has the raw ``document``, in the form of Firestore's REST interface with its exact
value types, and ``loadedByGenkit``: what Genkit JS itself loaded from it.
"""

from __future__ import annotations

import json
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parents[1] / "tests" / "data" / "genkit-js"


def read(name: str) -> dict[str, Any]:
    """Return one file by its name without suffix."""
    golden: dict[str, Any] = json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return golden


def names() -> list[str]:
    """Return the names of all files but one: what `blocked` becomes when Genkit JS resumes it, under the same id."""
    return sorted(path.stem for path in _FOLDER.glob("*.json") if path.stem != "resumed-done")


def id_of(name: str) -> str:
    """Return the id of the document in a file, which is the flow's id."""
    return str(read(name)["document"]["name"]).rpartition("/")[2]


def put(host: str, project: str, collection: str) -> None:
    """Write the documents into a collection on the emulator, without any client library that could change them."""
    parent = f"/v1/projects/{project}/databases/(default)/documents/{collection}"
    # The emulator's token for an owner of the project, whom security rules do not bind.
    headers = {"Authorization": "Bearer owner", "Content-Type": "application/json"}
    with closing(HTTPConnection(host, timeout=30)) as connection:
        for name in names():
            body = json.dumps({"fields": read(name)["document"]["fields"]})
            connection.request("PATCH", f"{parent}/{id_of(name)}", body=body, headers=headers)
            response = connection.getresponse()
            answer = response.read().decode()
            if response.status != HTTPStatus.OK:
                raise RuntimeError(f"The emulator did not take {name}: {answer}")
