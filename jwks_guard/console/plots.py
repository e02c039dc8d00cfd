"""Plots as SVG, with a text that says the same (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from markupsafe import Markup

_STEP = 4
_BAR = 3
_HEIGHT = 36
_LEAST = 2.5
"""Few tokens in a minute beside many in another are still seen: a key in use must look so."""
_SVG = Markup(
    '<svg class="plot" viewBox="0 0 {width} {height}" preserveAspectRatio="none" role="img">'
    "<title>{title}</title>"
    '<path class="unseen" d="{unseen}"/><path class="bars" d="{bars}"/>'
    '<path class="base" d="M0 {height}H{width}"/></svg>'
)


def bars(counts: Sequence[int | None]) -> Markup:
    """A bar for each minute, the oldest first; None is a minute in which nobody looked.

    The scale is the plot's own: the highest bar has its height.
    """
    most = max(1, busiest(counts))
    return _SVG.format(
        width=len(counts) * _STEP,
        height=_HEIGHT,
        title=in_words(counts),
        unseen=_path(_HEIGHT if count is None else 0.0 for count in counts),
        bars=_path(max(_LEAST, _HEIGHT * count / most) if count else 0.0 for count in counts),
    )


def busiest(counts: Sequence[int | None]) -> int:
    """The most in one minute."""
    return max((count or 0 for count in counts), default=0)


def in_words(counts: Sequence[int | None]) -> str:
    """What the plot shows."""
    seen = [count for count in counts if count is not None]
    if not seen:
        return "Accepted tokens per minute: not observed yet."
    text = f"Accepted tokens per minute, in the last {len(counts)} minutes: {sum(seen)} in all"
    if any(seen):
        last = next(back for back, count in enumerate(reversed(counts)) if count)
        when = "now" if last == 0 else f"{last} min ago"
        text += f", {busiest(seen)} in the busiest minute, the last ones {when}"
    if unseen := len(counts) - len(seen):
        text += f"; {unseen} {'minute was' if unseen == 1 else 'minutes were'} not observed"
    return f"{text}."


def _path(heights: Iterable[float]) -> str:
    """A rectangle of each height above 0, side by side."""
    return "".join(
        f"M{number * _STEP} {_HEIGHT}v-{height:.4g}h{_BAR}v{height:.4g}z"
        for number, height in enumerate(heights)
        if height
    )
