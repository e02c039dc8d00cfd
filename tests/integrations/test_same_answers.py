"""One table of requests, sent to every HTTP integration on a real server: the answers are alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from tests.integrations.frameworks import FRAMEWORKS, Framework
from tests.integrations.issuing import SPENT, Issuing, issuing
from tests.integrations.requests import CASES, LET_IN, Case
from tests.integrations.servers import served_asgi, served_wsgi
from tests.support import PATIENCE


@pytest.fixture(scope="module")
def issued() -> Iterator[Issuing]:
    with issuing() as made:
        yield made


@dataclass
class Served:
    """An app of a framework on a server, and a client of it."""

    framework: Framework
    client: httpx.Client


@pytest.fixture(scope="module", params=FRAMEWORKS, ids=lambda each: each.name)
def served(request: pytest.FixtureRequest, issued: Issuing) -> Iterator[Served]:
    framework: Framework = request.param
    issued.made.clear()
    app = framework.make(issued)
    if framework.interface == "wsgi":
        serving = served_wsgi(app)
    else:
        serving = served_asgi(app, at_end=[each.aclose for each in issued.made])
    with (
        serving as address,
        httpx.Client(base_url=address, timeout=PATIENCE, trust_env=False) as client,
    ):
        for number in range(SPENT):
            token = {"Authorization": f"Bearer {issued.unknown(number)}"}
            client.get("/throttled/", headers=token)
        yield Served(framework, client)


@pytest.mark.parametrize("case", CASES, ids=lambda each: each.name.replace(" ", "-"))
def test_request_is_answered_as_everywhere(case: Case, served: Served, issued: Issuing) -> None:
    answer = served.client.request(**case.sent(issued.tokens))
    if case.name in served.framework.lets_in:
        assert (answer.status_code, answer.text.strip('"')) == (200, "anonymous")
        return
    assert answer.status_code == case.status
    assert answer.headers.get("www-authenticate") == case.challenge
    assert ("retry-after" in answer.headers) is (case.status in (429, 503))
    if case in LET_IN:
        anonymous = case.name == "no token where none is needed"
        who = "anonymous" if anonymous else "auth0|alice"
        assert answer.text.strip('"') == ("" if case.method == "HEAD" else who)
        return
    if served.framework.body is not None:
        assert answer.headers["cache-control"] == "no-store"
    if case.method == "HEAD":
        assert answer.content == b""
    elif served.framework.body is not None:
        body = served.framework.body(answer.json())
        assert body["error"] == case.error
        described = (
            {"detail", "title", "status", "type"}
            if case.path == "problem"
            else {"error_description"}
        )
        assert set(body) == {"error", *described} | ({"code"} if case.path == "debug" else set())
