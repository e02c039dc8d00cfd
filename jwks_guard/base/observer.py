"""What an observer gets to see: what takes time, and what became of a token.

The code that does something hands its observer an Activity and fills in how it ended. It knows
nothing of traces or metrics.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Protocol, TypeAlias

from jwks_guard.base.events import logger

Kind: TypeAlias = Literal["fetch", "exchange", "management"]


@dataclass(slots=True)
class Activity:
    """One request for a key set, one exchange with a fleet, or one call of the Management API.

    Arguments:
        kind: which of them.
        subject: the issuer, the kind of fleet, or the base URL of the tenant.
        url: where the server is, as far as is known; empty where there are several.
        details: what else is known at its beginning, by OpenTelemetry's attribute names.
        awaited: whether its caller waits for it; otherwise the caller is only its cause.
        outcome: how it ended, as metrics count it.
        error: why it failed, in a word of which there are few; None where it did not.
        reason: why it failed, for people, without a secret.

    """

    kind: Kind
    subject: str
    url: str = ""
    details: dict[str, str | int] = field(default_factory=dict)
    awaited: bool = True
    outcome: str = "cancelled"
    error: str | None = None
    reason: str | None = None

    def ended(self, outcome: str, error: str | None = None, reason: str | None = None) -> None:
        """Note how it ended."""
        self.outcome, self.error, self.reason = outcome, error, reason


class Observer(Protocol):
    """Is told what verifiers, fleets and the Management API's client do.

    What it raises is logged, and changes nothing.
    """

    def during(self, activity: Activity) -> AbstractContextManager[object]:
        """Enter when `activity` begins, and leave when it has ended."""
        ...

    def accepted(self, issuer: str, kid: str) -> None:
        """Note that a token was accepted, in the context of its request."""
        ...

    def refused(self, issuer: str, kid: str | None, code: str) -> None:
        """Note that a token was refused; `kid` is None unless the issuer has, or had, such a key.

        In the context of its request.
        """
        ...

    def answered(self, code: str) -> None:
        """Note that a request is refused with the error of that code, in its context."""
        ...


def observed(observer: Observer | None, activity: Activity) -> AbstractContextManager[object]:
    """What to do `activity` in; an observer that raises does not keep it from being done."""
    return nullcontext() if observer is None else _Observed(observer, activity)


def tell(telling: Callable[..., None], *what: object) -> None:
    """Call a method of an observer; what that raises is logged."""
    try:
        telling(*what)
    except Exception:  # noqa: BLE001 - as a span processor of the application may
        logger.exception("the observer raised: its trace has gaps")


class _Observed(AbstractContextManager[None]):
    def __init__(self, observer: Observer, activity: Activity) -> None:
        self._observer = observer
        self._activity = activity
        self._entered: AbstractContextManager[object] | None = None

    def __enter__(self) -> None:
        tell(self._enter)

    def _enter(self) -> None:
        during = self._observer.during(self._activity)
        during.__enter__()
        self._entered = during

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._entered is None:
            return
        try:
            self._entered.__exit__(kind, error, traceback)
        except Exception as raised:  # noqa: BLE001 - as `tell`
            if raised is not error:
                logger.exception("the observer raised: its trace has gaps")
