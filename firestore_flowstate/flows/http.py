"""Durable flows behind HTTP: the ASGI application of `Flows.app`, and who may call it.

::

    app = flows.app(verify=Oidc(
        audience="https://shop-abc.run.app/flows/drive",
        service_account="flow-runner@shop.iam.gserviceaccount.com",
    ))

`Flows.app` needs the extra ``http``. `Oidc` by itself, in a host of another framework, needs none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from firestore_flowstate import FlowStateError

from .oidc import Oidc

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from .flows import Flows

__all__ = ["Oidc", "make_app"]


def make_app(flows: Flows, *, verify: Any, genkit: bool = False, budget: float = 240.0) -> Starlette:
    """Return the application; see `Flows.app`.

    Args:
        flows: The flows that it drives.
        verify: What decides who may call.
        genkit: Whether to serve Genkit JS's wire too.
        budget: How many seconds a request may take.

    Raises:
        FlowStateError: The extra ``http`` is not installed.
    """
    try:
        from .asgi import application
    except ImportError as error:
        raise FlowStateError(
            "flows.app needs the package starlette: pip install 'firestore-flowstate[http]'"
        ) from error
    return application(flows, verify=verify, genkit=genkit, budget=budget)
