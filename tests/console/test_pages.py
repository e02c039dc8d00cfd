"""The pages: what stands on them, for whom, and how they are made of untrusted text."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from html.parser import HTMLParser
from typing import Literal

import httpx
import pytest

from jwks_guard.console.gathering import Gatherer
from jwks_guard.console.picture import Entry
from jwks_guard.console.rendering import templates
from jwks_guard.readiness.verdict import Blocker, RevocationReadiness
from tests.admin.rotating import Scene, opened
from tests.console.support import FakeFleet, Pages, decision, instance
from tests.support import HandClock

NASTY = """<script>alert(1)</script>"' onload=x&amp;"""


class Parsed(HTMLParser):
    """The links, forms, times and text of a page."""

    VOID = frozenset({"meta", "link", "input", "br", "wbr", "img", "path", "circle"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def links(self) -> list[str]:
        return [each.get("href") or "" for tag, each in self.tags if tag == "a"]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


async def get(of: Pages, path: str) -> Parsed:
    await of.gatherer.look()
    async with client_of(of) as client:
        answer = await client.get(f"{of.root}{path}")
    assert answer.status_code == 200
    return Parsed(answer.text)


def client_of(of: Pages) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(of.app)
    return httpx.AsyncClient(transport=transport, base_url="http://console.test")


@pytest.fixture
def fleet(clock: HandClock) -> FakeFleet:
    return FakeFleet(
        instance("a", clock, kids=("k1", "k2"), refused={"k3": clock.time() - 60.0}),
        instance("b", clock, kids=("k1",)),
        instance("c", clock, reported_at=clock.time() - 900.0),
    )


@pytest.fixture
async def pages(fleet: FakeFleet, clock: HandClock) -> AsyncIterator[Pages]:
    gatherer = Gatherer(None, fleet, clock=clock)
    yield Pages(gatherer)
    await gatherer.aclose()


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with opened() as scene:
        yield scene


async def test_the_first_page_is_that_of_the_keys(pages: Pages) -> None:
    async with client_of(pages) as client:
        answer = await client.get("/")
    assert (answer.status_code, answer.headers["location"]) == (303, "/keys")


@pytest.mark.parametrize("path", ["/keys", "/instances", "/timeline"])
async def test_every_link_and_file_lies_below_the_place_where_the_console_is_mounted(
    path: str, pages: Pages
) -> None:
    pages.root = "/ops/console"
    page = await get(pages, path)
    own = [each for tag, each in page.tags if tag in ("script", "link", "form", "a", "body")]
    places = [
        place
        for each in own
        for name in ("href", "src", "action", "data-live-url")
        if (place := each.get(name)) and not place.startswith(("#", "?"))
    ]
    assert len(places) > 6
    assert all(place.startswith("/ops/console/") for place in places)


@pytest.mark.parametrize("path", ["/keys", "/instances", "/timeline"])
async def test_no_page_needs_what_its_policy_forbids(path: str, pages: Pages) -> None:
    page = await get(pages, path)
    assert not [name for _, each in page.tags for name in each if name.startswith("on")]
    assert not [tag for tag, each in page.tags if tag == "style" or "style" in each]
    assert {each.get("nonce") for tag, each in page.tags if tag == "script"} == {"the-nonce"}


async def test_keys_show_who_trusts_and_who_refuses_them(pages: Pages) -> None:
    text = (await get(pages, "/keys")).text
    assert "k1 Copy" in text
    assert "2 of 2 trust it" in text
    assert "1 of 2 trusts it" in text
    assert "1 of 2 refuses it" in text
    assert "host-a (aaaaaaaa)" in text


async def test_a_tenants_keys_are_listed_as_its_dashboard_lists_them(scene: Scene) -> None:
    old, _ = scene.used_key()
    fleet = FakeFleet(instance("a", scene.clock))
    rotation = scene.rotation(fleet, token_lifetime=timedelta(hours=1))
    async with Gatherer(rotation, fleet, clock=scene.clock) as gatherer:
        await gatherer.look()
        text = (await get(Pages(gatherer), "/keys")).text
    assert text.index("List of Valid Keys") < text.index(old) < text.index("List of Revoked Keys")
    assert "Ready to revoke? No It is the current key. Rotate first." in text
    assert f"Tokens of {old}, also those never used here, may be valid until" in text
    row = gatherer.picture.key(old)
    assert row is not None
    assert row.fingerprint is not None
    assert row.fingerprint.replace(":", "") in text.replace(" ", "").replace(":", "")


async def test_a_decision_is_shown_with_who_why_and_who_does_not_obey_yet(
    pages: Pages, fleet: FakeFleet, clock: HandClock
) -> None:
    fleet.decisions = {"k3": decision("k3", clock, reason="found on a laptop", by="maria@ops")}
    text = (await get(pages, "/keys")).text
    assert "Distrusted since 2027-01-15 08:00:00 UTC by maria@ops found on a laptop" in text
    assert "1 instance not yet refusing it." in text


async def test_actions_are_offered_to_operators_and_not_to_viewers(
    pages: Pages, fleet: FakeFleet
) -> None:
    actions = {"/keys/k1/distrust", "/keys/k2/distrust", "/keys/k3/distrust"}
    assert actions < {*(await get(pages, "/keys")).links()}
    assert f"/instances/{'c' * 32}/dismiss" in (await get(pages, "/instances")).links()
    pages.role = "viewer"
    for path in ("/keys", "/instances"):
        assert not [link for link in (await get(pages, path)).links() if link.count("/") > 1]


async def test_a_kid_with_slashes_has_links_of_one_segment(
    pages: Pages, fleet: FakeFleet, clock: HandClock
) -> None:
    fleet.states = (instance("a", clock, kids=("a/b?c#d",)),)
    assert "/keys/a%2Fb%3Fc%23d/distrust" in (await get(pages, "/keys")).links()


async def test_instances_show_what_they_know_and_silent_ones_are_marked(
    pages: Pages, fleet: FakeFleet, clock: HandClock
) -> None:
    fleet.states = (
        *fleet.states[1:],
        instance("d", clock, status="degraded", last_error="HTTP 503", version="9.9"),
    )
    page = await get(pages, "/instances")
    assert "2 instances report, 1 silent ." in page.text
    assert "silent It may be cut off and still accept tokens." in page.text
    assert "degraded HTTP 503" in page.text
    assert "9.9" in page.text


async def test_a_fleet_that_does_not_answer_is_said_above_what_it_said_last(
    pages: Pages, fleet: FakeFleet, clock: HandClock
) -> None:
    await pages.gatherer.look()
    clock.advance(60.0)
    fleet.cut_off()
    page = await get(pages, "/keys")
    assert (
        "The fleet does not answer since 2027-01-15 08:01:00 UTC . What you see of it is old: as "
        "of 2027-01-15 08:00:00 UTC . The fleet's Redis can't be reached." in page.text
    )
    assert "2 of 2 trust it" in page.text


async def test_pages_stand_before_anything_has_answered(pages: Pages, fleet: FakeFleet) -> None:
    fleet.cut_off()
    assert "Nothing of it can be shown until it does." in (await get(pages, "/keys")).text
    assert "The fleet has not answered yet." in (await get(pages, "/instances")).text
    assert "Nothing yet." in (await get(pages, "/timeline")).text


async def test_the_timeline_can_be_read_of_one_key(pages: Pages) -> None:
    for kid in ("k1", "k2"):
        pages.gatherer.record(Entry(at=5.0, origin="console", what=f"Did {kid}", kid=kid))
    everything = (await get(pages, "/timeline")).text
    assert "Did k1" in everything
    assert "Did k2" in everything
    of_one = (await get(pages, "/timeline?kid=k1")).text
    assert "Did k1" in of_one
    assert "Did k2" not in of_one


@pytest.mark.parametrize("path", ["/keys", "/instances", "/timeline", f"/timeline?kid={NASTY}"])
async def test_untrusted_text_stays_text(
    path: str, pages: Pages, fleet: FakeFleet, clock: HandClock
) -> None:
    fleet.states = (
        instance("a", clock, kids=(NASTY,), host=NASTY, status="degraded", last_error=NASTY),
        instance("b", clock, refused={f"{NASTY}2": 5.0}, reported_at=0.0, version=NASTY),
    )
    fleet.decisions = {f"{NASTY}3": decision(f"{NASTY}3", clock, reason=NASTY, by=NASTY)}
    pages.gatherer.record(Entry(at=5.0, origin="seen", what="x", kid=NASTY, detail=NASTY))
    page = await get(pages, path)
    assert sum(tag == "script" for tag, _ in page.tags) == 1  # our own
    assert not [name for _, each in page.tags for name in each if name == "onload"]
    assert "alert(1)" in page.text


async def test_instants_beyond_every_calendar_are_no_error(
    pages: Pages, fleet: FakeFleet, clock: HandClock
) -> None:
    never = 253_402_300_800.0
    fleet.states = (
        instance("a", clock, confirmed_at=None, trusted_until=never, started_at=0.0),
        instance("b", clock, kids=(), refused={"k9": never}),
    )
    fleet.reach = {"k9": (never, never)}
    await pages.gatherer.look()
    assert "never" in (await get(pages, "/instances")).text
    assert "The last accepted token expires never" in (await get(pages, "/keys")).text


def test_reason_repeats_no_verdict_but_another_one_and_says_what_ends_it(clock: HandClock) -> None:
    def blocker(code: str, verdict: Literal["no", "unknown"], until: float | None) -> Blocker:
        return Blocker(code=code, verdict=verdict, message=f"{code}!", until=until)

    blockers = (
        blocker("key_in_use", "no", clock.time() + 19.0),
        blocker("tokens_unexpired", "no", clock.time() + 60.0),
        blocker("instance_watched_too_short", "unknown", clock.time() + 60.0),
    )
    readiness = RevocationReadiness(
        kid="k1",
        verdict="no",
        assessed_at=clock.time(),
        earliest_safe_time=clock.time() + 60.0,
        blockers=blockers,
        instances=(),
    )
    page = templates.get_template("parts/reasons.html").render(readiness=readiness)
    first, second, third = re.findall("<li>(.*)</li>", page)
    assert first.startswith("key_in_use! If no more tokens come, this ends <time ")
    assert second == "tokens_unexpired!"
    assert third.startswith(
        '<span class="mark">Unknown:</span> instance_watched_too_short! This ends <time '
    )
