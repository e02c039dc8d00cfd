"""The incidents of this console: one runs at a time, whoever looks on, and leaves a record."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route

from jwks_guard import __version__
from jwks_guard.admin import AdminEvent, Incident, IncidentReport, KeyRotation
from jwks_guard.admin.incident_record import document, markdown
from jwks_guard.base.clock import Clock
from jwks_guard.base.events import logger
from jwks_guard.console.forms import RefusedError
from jwks_guard.console.gathering import Fleet
from jwks_guard.console.picture import IncidentRow

if TYPE_CHECKING:
    from starlette.requests import Request

_KEPT = 10
_RUNS = (
    "An incident is running, for the key {kid}. Nothing was done. The Incident page shows it; "
    "begin another one once it has ended."
)
_UNFORESEEN = "It was ended by an error that was not expected; see the log of the console."
_NO_RECORD = (
    "There is no such record. The console keeps those of its last 10 incidents until it is "
    "restarted. The journal has the steps of all."
)


@dataclass(slots=True)
class _Run:
    incident: Incident
    running: bool = True
    fault: str | None = None


class Incidents:
    """Begins incidents in the name of operators, and remembers the last ones.

    Arguments:
        rotation: the tenant's keys; None without a Management API: then keys are only refused.
        fleet: refuses them.
        clock: where time comes from.
        record: called with each step where there is no rotation, which has a journal of its own.

    """

    def __init__(
        self,
        rotation: KeyRotation | None,
        fleet: Fleet,
        clock: Clock,
        record: Callable[[AdminEvent], object],
    ) -> None:
        self._rotation = rotation
        self._fleet = fleet
        self._clock = clock
        self._record = record
        self._runs: deque[_Run] = deque(maxlen=_KEPT)  # the newest first

    def shown(self) -> tuple[IncidentRow, ...]:
        """The incidents as they are now, the newest first."""
        return tuple(
            IncidentRow(report=run.incident.report, running=run.running, fault=run.fault)
            for run in self._runs
        )

    def require_none(self) -> None:
        """Raise RefusedError while one is running."""
        if self._runs and self._runs[0].running:
            raise RefusedError(409, _RUNS.format(kid=self._runs[0].incident.kid))

    def begin(self, kid: str, reason: str, *, refuse_first: bool, actor: str) -> None:
        """Make one, which `follow` carries out; raises RefusedError while another is running."""
        self.require_none()
        if self._rotation is not None:
            acting = self._rotation.acting_as(actor)
            incident = Incident(kid, acting, reason=reason, refuse_first=refuse_first)
        else:
            incident = Incident(
                kid,
                self._fleet,
                reason=reason,
                actor=actor,
                on_event=self._record,
                clock=self._clock,
            )
        self._runs.appendleft(_Run(incident))

    async def follow(self, changed: Callable[[], object]) -> IncidentReport:
        """Carry out the one that was begun; `changed` is called after each of its steps."""
        run = self._runs[0]
        try:
            async for _ in run.incident.run():
                _told(changed)
        except Exception:  # noqa: BLE001 - the page must not show it running for ever
            logger.exception("the incident of %r has ended", run.incident.kid)
            run.fault = _UNFORESEEN
        finally:
            run.running = False
        _told(changed)
        return run.incident.report

    def routes(self) -> list[Route]:
        """The records, to be downloaded."""
        path = "/incident/{operation}/record"
        return [
            Route(f"{path}.md", self._answering("md", "text/markdown", _markdown)),
            Route(f"{path}.json", self._answering("json", "application/json", _json)),
        ]

    def _answering(
        self, ending: str, media_type: str, text: Callable[[IncidentReport], str]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            report = self._report(request.path_params)
            name = f"incident-{report.began_at:%Y%m%dT%H%M%SZ}-{report.operation}.{ending}"
            headers = {"Content-Disposition": f'attachment; filename="{name}"'}
            return Response(text(report), media_type=media_type, headers=headers)

        return answer

    def _report(self, parameters: Mapping[str, str]) -> IncidentReport:
        for run in self._runs:
            report = run.incident.report
            if report.operation == parameters["operation"]:
                return report
        raise RefusedError(404, _NO_RECORD)


def _told(changed: Callable[[], object]) -> None:
    """Call it: a page that can't be drawn keeps no leaked key accepted."""
    try:
        changed()
    except Exception:  # noqa: BLE001 - whatever is wrong with it
        logger.exception("a step of the incident could not be shown")


def _json(report: IncidentReport) -> str:
    return json.dumps(document(report, __version__), indent=2) + "\n"


def _markdown(report: IncidentReport) -> str:
    return markdown(report, __version__)
