"""The actions: each is a dialog at a URL of its own, and a form that does it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from jwks_guard.admin import KeyRotation
from jwks_guard.asgi.operations_auth import StaticSecrets
from jwks_guard.base.clock import Clock
from jwks_guard.base.events import logger
from jwks_guard.console import outcomes
from jwks_guard.console.access import NOT_AN_OPERATOR, root_of
from jwks_guard.console.audit import Result, audit
from jwks_guard.console.dialogs import Dialog, dismissal, key_dialog
from jwks_guard.console.forms import RefusedError
from jwks_guard.console.gathering import LONGEST_LOOK_SECONDS, Gatherer
from jwks_guard.console.incident_dialog import incident_dialog, refuses_first
from jwks_guard.console.incidents import Incidents
from jwks_guard.console.login import Attempts, is_one_of
from jwks_guard.console.operations import Deciding
from jwks_guard.console.outcomes import Outcome
from jwks_guard.console.picture import Action, Entry, KeyRow, Picture
from jwks_guard.console.rendering import page
from jwks_guard.console.sessions import Identity
from jwks_guard.errors import JWKSGuardError
from jwks_guard.fleet.soundness import MAX_REASON_CHARS
from jwks_guard.jose.header import is_kid

if TYPE_CHECKING:
    from starlette.requests import Request

_OF_KEYS: tuple[Action, ...] = get_args(Action)
_AT_THE_TENANT = frozenset({"rotate", "rotate-and-revoke", "revoke"})
T = TypeVar("T")
Acting = Callable[[Mapping[str, str]], Awaitable[Outcome]]


class Actions:
    """The routes of all actions.

    Arguments:
        gatherer: shows what is known, and looks anew after each action.
        rotation: the tenant's; None without a Management API.
        deciding: distrusts, reinstates and dismisses.
        incidents: refuses leaked keys, and has them rotated and revoked.
        second_secret: what an action takes beside the log-in; None: nothing. Raises RefusedError.
        attempts: limits wrong secrets.
        clock: where time comes from.
        longest: for how many seconds a page waits for an action, which then goes on without it.

    """

    def __init__(
        self,
        gatherer: Gatherer,
        rotation: KeyRotation | None,
        deciding: Deciding,
        incidents: Incidents,
        second_secret: Callable[[Identity], StaticSecrets | None],
        attempts: Attempts,
        clock: Clock,
        longest: float,
    ) -> None:
        self._gatherer = gatherer
        self._rotation = rotation
        self._deciding = deciding
        self._incidents = incidents
        self._second_secret = second_secret
        self._attempts = attempts
        self._clock = clock
        self._longest = longest
        self._running: set[asyncio.Task[Any]] = set()

    def routes(self) -> list[Route]:
        """A dialog by GET and the action by POST, at one URL for each."""
        paths = {f"/keys/{{kid:path}}/{action}": self._of_key(action) for action in _OF_KEYS}
        paths["/keys/{kid:path}/incident"] = self._incident
        paths["/instances/{instance}/dismiss"] = self._dismissal
        return [Route(path, end, methods=["GET", "POST"]) for path, end in paths.items()]

    async def aclose(self) -> None:
        """Wait for the actions that were begun, as a page does; the journal has what is left."""
        if self._running:
            await asyncio.wait(self._running, timeout=self._longest)

    def _of_key(self, action: Action) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            kid = request.path_params["kid"]
            rotation = self._rotation
            if action in _AT_THE_TENANT and rotation is None:
                raise RefusedError(
                    404, "This console has no access to a Management API, so it can't do that."
                )
            picture = await self._seen(request, kid, anew=action == "reinstate")
            row = picture.key(kid)
            if row is None and (action in _AT_THE_TENANT or not is_kid(kid)):
                raise RefusedError(404, "There is no such key. Nothing was done.")
            row = row or KeyRow(kid=kid, state="not listed")
            lifetime = None if rotation is None else rotation.token_lifetime
            dialog = key_dialog(action, row, picture, lifetime)
            return await self._answer(request, dialog, self._acting(action, kid, request))

        return answer

    async def _incident(self, request: Request) -> Response:
        """Begin an incident, which needs no page that waits for it: everybody sees how it goes."""
        kid = request.path_params["kid"]
        if request.method != "POST":
            self._incidents.require_none()
        picture = await self._seen(request, kid)
        row = picture.key(kid) or KeyRow(kid=kid, state="not listed")
        if not is_kid(kid):
            raise RefusedError(404, "There is no such key. Nothing was done.")
        lifetime = None if self._rotation is None else self._rotation.token_lifetime
        dialog = incident_dialog(row, picture, lifetime)
        if (asked := self._asks(request, dialog)) is not None:
            return asked
        form: Mapping[str, str] = {**request.state.form}
        self._incidents.begin(
            kid,
            form["reason"],
            refuse_first=refuses_first(row, picture, form.get("how", "")),
            actor=_identity(request).actor,
        )

        async def follow(_: Mapping[str, str]) -> Outcome:
            return outcomes.ended(await self._incidents.follow(self._gatherer.publish))

        self._in_background(self._done(request, dialog, form, follow))
        self._gatherer.publish()  # it is on the page to which this leads
        return RedirectResponse(f"{root_of(request)}/incident", 303)

    async def _dismissal(self, request: Request) -> Response:
        picture = await self._seen(request)
        row = picture.instance(request.path_params["instance"])
        if row is None:
            raise RefusedError(404, "There is no such instance. It may be forgotten already.")
        instance = row.state.instance

        async def dismiss(form: Mapping[str, str]) -> Outcome:
            deciding = self._deciding.acting_as(_identity(request).actor)
            return outcomes.dismissed(await deciding.dismiss(instance, reason=form["reason"]))

        return await self._answer(request, dismissal(row), dismiss)

    def _acting(self, action: Action, kid: str, request: Request) -> Acting:
        """What the form of that action does."""
        actor, rotation = _identity(request).actor, self._rotation
        deciding = self._deciding.acting_as(actor)

        async def act(form: Mapping[str, str]) -> Outcome:
            reason, how = form["reason"], form.get("how", "")
            if action == "distrust":
                refusals = await deciding.distrust(kid, reason=reason, force=how == "forced")
                return outcomes.distrusted(kid, refusals)
            if action == "reinstate" or rotation is None:
                await deciding.reinstate(kid, reason=reason)
                return outcomes.reinstated(kid)
            acting = rotation.acting_as(actor)
            if action == "rotate":
                return outcomes.rotated(await acting.rotate(reason=reason, current=kid))
            if action == "rotate-and-revoke":
                return outcomes.revoked(await acting.rotate_and_revoke(kid, reason=reason))
            emergency, force = how == "emergency", how == "forced"
            receipt = await acting.revoke(kid, reason=reason, emergency=emergency, force=force)
            return outcomes.revoked(receipt)

        return act

    async def _seen(
        self, request: Request, kid: str | None = None, *, anew: bool = False
    ) -> Picture:
        """What is shown: looked at `anew` for a dialog, but for its form nothing is waited for.

        Raises RefusedError for a viewer, who shall not spend what the tenant answers a minute.
        """
        if not request.state.visitor.acts:
            raise RefusedError(403, NOT_AN_OPERATOR)
        self._gatherer.ensure_running()
        if anew or request.method != "POST":
            with suppress(TimeoutError):
                async with asyncio.timeout(LONGEST_LOOK_SECONDS):
                    await self._gatherer.look(kid)
        return self._gatherer.picture

    async def _answer(self, request: Request, dialog: Dialog, act: Acting) -> Response:
        if (asked := self._asks(request, dialog)) is not None:
            return asked
        form: Mapping[str, str] = {**request.state.form}
        task = self._in_background(self._done(request, dialog, form, act))
        await asyncio.wait({task}, timeout=self._longest)
        outcome = task.result() if task.done() else outcomes.UNFINISHED
        visitor, status = request.state.visitor, outcome.status
        return page(request, "done.html", visitor, status=status, dialog=dialog, outcome=outcome)

    def _asks(self, request: Request, dialog: Dialog) -> Response | None:
        """The dialog, or its form once more with what is wrong; None where it may be done."""
        secret = self._second_secret(_identity(request))
        if request.method != "POST":
            return _asked(request, dialog, secret)
        form = request.state.form
        fault = _fault(dialog, form)
        if fault is None and secret is not None:
            fault = self._wrong(secret, request, dialog, form)
        return None if fault is None else _asked(request, dialog, secret, fault)

    def _wrong(
        self, secret: StaticSecrets, request: Request, dialog: Dialog, form: Mapping[str, str]
    ) -> str | None:
        """What is wrong with the secret in the form; raises RefusedError where guesses come fast.

        Each guess is in the log: somebody may have forged the log-in.
        """
        fault: str | None = None
        try:
            self._attempts.spend(request)
            if not is_one_of(secret, form.get("secret", "").encode()):
                fault = "The operator secret is wrong."
        except RefusedError as error:
            _audited(request, dialog, form, "refused", str(error))
            raise
        if fault is not None:
            _audited(request, dialog, form, "refused", fault)
        return fault

    async def _done(
        self, request: Request, dialog: Dialog, form: Mapping[str, str], act: Acting
    ) -> Outcome:
        """Do it, whatever becomes of the page that waits for it; and note who did it, and why."""
        try:
            outcome = await act(form)
        except asyncio.CancelledError:
            why = "The console ended before the action did: look what was done."
            _audited(request, dialog, form, "incomplete", why)
            raise
        except Exception as error:  # noqa: BLE001 - whatever became of it, it is told and audited
            if isinstance(error, JWKSGuardError):
                outcome = outcomes.refused(error)
            else:
                logger.exception("an action of the console failed: %s", dialog.action)
                outcome = outcomes.failed(error)
            at = self._clock.time()
            self._gatherer.record(_not_done(dialog, form, _identity(request), outcome, at))
        result: Result = "done" if outcome.complete else "incomplete" if outcome.done else "refused"
        _audited(request, dialog, form, result, outcome.summary)
        self._gatherer.outdate()
        self._in_background(self._gatherer.look())
        return outcome

    def _in_background(self, doing: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(doing)
        self._running.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._running.discard)
        return task


def _identity(request: Request) -> Identity:
    identity: Identity = request.state.session.identity
    return identity


def _asked(
    request: Request, dialog: Dialog, secret: StaticSecrets | None, fault: str | None = None
) -> Response:
    form = request.state.form if fault is not None else {}
    return page(
        request,
        "action.html",
        request.state.visitor,
        status=200 if fault is None else 400,
        dialog=dialog,
        takes_secret=secret is not None,
        fault=fault,
        reason=form.get("reason", ""),
        how=form.get("how", ""),
        most=MAX_REASON_CHARS,
    )


def _fault(dialog: Dialog, form: Mapping[str, str]) -> str | None:
    """What is wrong with the form; None where it may be done."""
    if form.get("subject") != dialog.subject:  # a browser or a proxy has shortened the path
        return "The form is about another key or instance than its address."
    if dialog.action == "reinstate" and form.get("decision") != dialog.decision:
        return (
            "The decision about this key has changed since this page was opened: look who made it."
        )
    reason = form.get("reason", "").strip()
    if not 0 < len(reason) <= MAX_REASON_CHARS:
        return f"Write the reason, of {MAX_REASON_CHARS} characters at most."
    if dialog.choices and form.get("how") not in {choice.value for choice in dialog.choices}:
        return "Choose how it shall be done."
    if form.get("ending", "").strip() != dialog.ending.strip():
        return "That is not how the kid ends. Look whether this is the key that you mean."
    return None


def _audited(
    request: Request, dialog: Dialog, form: Mapping[str, str], result: Result, detail: str
) -> None:
    audit(
        "console_action",
        request,
        result=result,
        actor=_identity(request).actor,
        action=dialog.action,
        subject=dialog.subject,
        reason=form["reason"],
        detail=detail,
    )


def _not_done(
    dialog: Dialog, form: Mapping[str, str], identity: Identity, outcome: Outcome, at: float
) -> Entry:
    return Entry(
        at=at,
        origin="console",
        what=f"{dialog.title}: not done",
        kid=None if dialog.action == "dismiss" else dialog.subject,
        actor=identity.actor,
        reason=form["reason"],
        detail=outcome.summary,
        result="failed",
    )
