"""Telemetry whose failures end nothing: a run is worth more than its spans."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from typing_extensions import override

from .engine import LOG
from .telemetry import Telemetry


class HarmlessTelemetry(Telemetry):
    """Tells another one what happens. What that raises, such as an error of a span processor, is logged and dropped.

    Args:
        telemetry: The other one.
    """

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    @override
    def drive(
        self, *, flow_id: str, name: str, trace_context: str | None, number: int, before: str | None = None
    ) -> AbstractContextManager[None]:
        return _Harmless(
            lambda: self._telemetry.drive(
                flow_id=flow_id, name=name, trace_context=trace_context, number=number, before=before
            )
        )

    @override
    def executing(self, *, flow_id: str, name: str, key: str) -> AbstractContextManager[None]:
        return _Harmless(lambda: self._telemetry.executing(flow_id=flow_id, name=name, key=key))

    @override
    def step(self, *, flow_id: str, key: str, attempt: int) -> AbstractContextManager[None]:
        return _Harmless(lambda: self._telemetry.step(flow_id=flow_id, key=key, attempt=attempt))

    @override
    def trace_ids(self) -> Sequence[str]:
        try:
            return self._telemetry.trace_ids()
        except Exception as error:  # noqa: BLE001  # of a library, or of the application's part in it
            _tell(error)
            return ()

    @override
    def trace_context(self) -> str | None:
        try:
            return self._telemetry.trace_context()
        except Exception as error:  # noqa: BLE001  # as above
            _tell(error)
            return None

    @override
    def event(self, name: str, /, **about: Any) -> None:
        try:
            self._telemetry.event(name, **about)
        except Exception as error:  # noqa: BLE001  # as above
            _tell(error)


class _Harmless(AbstractContextManager[None]):
    """A context of the other telemetry, which is neither kept from being entered nor from being left."""

    def __init__(self, make: Callable[[], AbstractContextManager[None]]) -> None:
        self._make = make
        self._entered: AbstractContextManager[None] | None = None

    @override
    def __enter__(self) -> None:
        try:
            context = self._make()
            context.__enter__()
        except Exception as error:  # noqa: BLE001  # as above
            _tell(error)
        else:
            self._entered = context

    @override
    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        if self._entered is None:
            return
        try:
            self._entered.__exit__(kind, raised, traceback)
        except Exception as error:  # noqa: BLE001  # as above
            if error is not raised:
                _tell(error)


def _tell(error: Exception) -> None:
    LOG.warning("Telemetry failed (%s). Runs go on.", type(error).__name__, exc_info=error)
