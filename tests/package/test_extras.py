"""Without an extra what needs it says so, and all else works."""

from __future__ import annotations

import subprocess
import sys


def _runs_without(package: str, code: str) -> str:
    """Return what the code prints in a Python that does not have the package."""
    script = f"import sys; sys.modules[{package!r}] = None\n{code}"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout


def test_oidc_needs_no_extra() -> None:
    """A host of another framework, such as Flask, has no use for starlette."""
    code = (
        "from firestore_flowstate.flows.http import Oidc\n"
        "oidc = Oidc(audience='https://shop.test/drive', service_account='flows@shop.test')\n"
        "print(oidc.allows('Bearer a.b.c'))"
    )

    assert "False\n" == _runs_without("starlette", code)


def test_an_application_names_its_extra() -> None:
    """The error says what to install."""
    code = (
        "from firestore_flowstate import FlowStateError, MemoryFlowStateStore\n"
        "from firestore_flowstate.flows import Flows\n"
        "try: Flows(MemoryFlowStateStore()).app(verify=None)\n"
        "except FlowStateError as error: print(error)"
    )
    expected = "flows.app needs the package starlette: pip install 'firestore-flowstate[http]'\n"

    assert expected == _runs_without("starlette", code)
