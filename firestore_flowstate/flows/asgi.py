"""The ASGI application of `Flows.app`, of starlette."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import PydanticSerializationError, to_json
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from firestore_flowstate import BackendError, InvalidFlowIdError

from .engine import LOG
from .errors import DispatchError, UnknownFlowError
from .genkit_wire import MOST_BYTES, answer, check_names
from .verifying import allows

if TYPE_CHECKING:
    from .flows import Flows

__all__ = ["application"]

Handler = Callable[[Request], Awaitable[Response]]
_MOST_BYTES: Final = 100 * 1024
"""How many bytes of a body of ``/drive`` are read: Cloud Tasks allows a task as many."""


def application(flows: Flows, *, verify: Any, genkit: bool, budget: float) -> Starlette:
    """Return the application; see `Flows.app`.

    Args:
        flows: The flows that it drives.
        verify: What decides who may call.
        genkit: Whether to serve Genkit JS's wire too.
        budget: How many seconds a request may take.
    """

    async def drive(request: Request) -> Response:
        id = _id_in(await body_of(request, _MOST_BYTES))
        if id is None:
            return JSONResponse({"error": 'the body must be {"id": ID}'}, 400)
        try:
            return JSONResponse({"outcome": await flows.drive(id, budget=budget)})
        except InvalidFlowIdError as error:
            return JSONResponse({"error": str(error)}, 400)
        except UnknownFlowError as error:
            LOG.warning("%s A sweep of a process that knows it takes it.", error)
            return JSONResponse({"outcome": "unknown flow"})

    async def sweep(request: Request) -> Response:
        return JSONResponse({"dispatched": await flows.sweep()})

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def envelope(request: Request) -> Response:
        if request.query_params.get("stream") == "true":
            message = "Output from durable flows cannot be streamed"
            return JSONResponse({"error": {"status": "INVALID_ARGUMENT", "message": message}}, 400)
        body = await body_of(request, MOST_BYTES)
        status, answered = await answer(flows, request.path_params["flow"], body, budget=budget)
        return Response(_json(answered), status, media_type="application/json")

    routes = [
        Route("/drive", _guarded(drive, verify), methods=["POST"]),
        Route("/sweep", _guarded(sweep, verify), methods=["POST"]),
        Route("/health", health, methods=["GET"]),
    ]

    if genkit:
        check_names(flows._engine.flows)
        routes.append(Route("/{flow}", _guarded(envelope, verify), methods=["POST"]))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with flows:
            yield

    app = Starlette(routes=routes, lifespan=lifespan)
    app.router.redirect_slashes = False  # a redirect is sent before `verify`, to whatever Host the caller names
    return app


def _json(answered: dict[str, Any]) -> bytes:
    """Return the answer as JSON, in which NaN and infinities are null.

    UTF-8 cannot hold half of a surrogate pair, which a text of JavaScript may have: JSON has an escape for it.
    """
    try:
        return to_json(answered, inf_nan_mode="null")
    except PydanticSerializationError:
        plain = json.loads(json.dumps(answered), parse_constant=lambda _: None)
        return json.dumps(plain, separators=(",", ":")).encode()


def _guarded(handler: Handler, verify: Any) -> Handler:
    """Return the handler for those who may call it, with a status for whatever goes wrong.

    A queue slows down as a whole on errors, and delivers the task again. So it gets the status 500 only if another
    delivery may do better: if the store or the queue cannot be reached, or the caller cannot be verified now.
    """

    async def guarded(request: Request) -> Response:
        try:
            allowed = await allows(verify, request)
        except Exception:  # noqa: BLE001  # whatever `verify` raises: nobody is let in
            LOG.exception("The caller of %s cannot be verified now.", request.url.path)
            return Response(status_code=500)
        if not allowed:
            return Response(status_code=401)
        try:
            return await handler(request)
        except _TooLargeError:
            return JSONResponse({"error": "the body is too large"}, 413)
        except ClientDisconnect:
            return Response(status_code=400)  # the client is gone, and nobody receives it
        except (BackendError, DispatchError):
            LOG.exception("%s %s failed, and the queue is asked to try again.", request.method, request.url.path)
            return JSONResponse({"error": "the store or the queue cannot be reached"}, 500)
        except Exception:  # noqa: BLE001  # what is stored may be broken, and another delivery would do no better
            LOG.exception("%s %s failed.", request.method, request.url.path)
            return JSONResponse({"outcome": "error"})

    return guarded


class _TooLargeError(Exception):
    """The body has more bytes than the route reads."""


async def body_of(request: Request, most: int) -> Any:
    """Return the value of the JSON in the body; None: it is not JSON.

    Raises:
        _TooLargeError: The body has more than `most` bytes. The rest is not read.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise _TooLargeError
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _id_in(body: Any) -> str | None:
    """Return the id in ``{"id": ID}``, also inside of ``{"data": ...}``, as tasks of Firebase have it."""
    data = body.get("data", body) if isinstance(body, dict) else None
    id = data.get("id") if isinstance(data, dict) else None
    return id if isinstance(id, str) else None
