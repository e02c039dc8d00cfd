from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from io import BytesIO
from threading import Event
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Blueprint, Flask, g, request
from flask.testing import FlaskClient
from werkzeug.exceptions import HTTPException, Unauthorized

from jwks_guard import ConfigurationError, Refusal, SyncTokenVerifier, TokenVerifier
from jwks_guard.integrations.flask import authenticate, init_app, require_token
from jwks_guard.testing import LocalTenant
from tests.integrations.servers import served_wsgi
from tests.support import PATIENCE


@pytest.fixture(scope="module")
def issuer() -> Iterator[LocalTenant]:
    with LocalTenant(algorithm="ES256") as local:
        yield local


@pytest.fixture
def verifier(issuer: LocalTenant) -> Iterator[SyncTokenVerifier]:
    made = SyncTokenVerifier(issuer.issuer, issuer.audience)
    yield made
    made.close()
    issuer.faults.clear()


def app_of(verifier: SyncTokenVerifier, **options: Any) -> Flask:
    app = Flask(__name__)
    init_app(app, verifier, **options)

    @app.get("/me")
    @require_token
    def me() -> str:
        return str(g.token.subject)

    @app.get("/things")
    @require_token(required_scopes=["read:things"])
    def things(**_: Any) -> str:
        return "things"

    @app.get("/async/<int:number>")
    @require_token(required_scopes=["read:things"])
    async def number(number: int) -> str:
        return f"{number} of {g.token.subject}"

    reports = Blueprint("reports", __name__, url_prefix="/reports")

    @reports.before_request
    def guard() -> None:
        authenticate(any_scopes=["read:reports", "admin"])

    @reports.get("/")
    def index() -> str:
        return "anonymous" if g.token is None else str(g.token.subject)

    @reports.get("/own")
    @require_token
    def own() -> str:
        return str(g.token.subject)

    @app.get("/open")
    def open_() -> str:
        return "open"

    app.register_blueprint(reports)
    return app


@pytest.fixture
def client(verifier: SyncTokenVerifier) -> FlaskClient:
    return app_of(verifier).test_client()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_view_gets_the_token_of_a_request_that_is_let_in(
    client: FlaskClient, issuer: LocalTenant
) -> None:
    answer = client.get("/me", headers=bearer(issuer.token(sub="auth0|bob")))
    assert answer.text == "auth0|bob"
    assert client.get("/open").text == "open"


@pytest.mark.parametrize("path", ["/me", "/things", "/async/7", "/reports/", "/reports/own"])
def test_guarded_views_need_a_good_token(
    path: str, client: FlaskClient, issuer: LocalTenant
) -> None:
    refused = client.get(path)
    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"] == "Bearer"
    assert refused.get_json()["error"] == "unauthorized"
    assert client.get(path, headers=bearer(issuer.forged_token())).status_code == 401


def test_required_scopes_are_needed_also_in_async_views_and_blueprints(
    client: FlaskClient, issuer: LocalTenant
) -> None:
    granted = bearer(issuer.token(scope="read:things admin"))
    lacking = bearer(issuer.token(scope="openid"))
    for path, scope in (
        ("/things", "read:things"),
        ("/async/7", "read:things"),
        ("/reports/", "read:reports"),
    ):
        assert client.get(path, headers=granted).status_code == 200
        answer = client.get(path, headers=lacking)
        assert answer.status_code == 403
        assert f'scope="{scope}"' in answer.headers["WWW-Authenticate"]
    assert client.get("/async/7", headers=granted).text == "7 of auth0|alice"


def test_token_of_a_key_that_is_distrusted_is_refused_at_once(
    client: FlaskClient, issuer: LocalTenant, verifier: SyncTokenVerifier
) -> None:
    token = bearer(issuer.token())
    assert client.get("/me", headers=token).status_code == 200
    verifier.distrust(issuer.key().kid, reason="leaked", force=True)
    assert client.get("/me", headers=token).status_code == 401


@pytest.mark.parametrize("before", ["untouched", "touched", "partly read"])
@pytest.mark.parametrize(
    "read",
    ["data", "form", "stream", "lines", "rest", "as_json", "heedlessly", "async", "blueprint"],
)
def test_body_that_comes_after_its_key_was_distrusted_reaches_no_view(
    read: str, before: str, verifier: SyncTokenVerifier, issuer: LocalTenant
) -> None:
    """With a leaked key, any number of requests can be held ready before it is distrusted."""
    app, bodies, begun = app_of(verifier), [], Event()
    readings: dict[str, Callable[[], object]] = {
        "data": lambda: request.get_data(),
        "form": lambda: request.form.to_dict(),
        "stream": lambda: request.stream.read(3),
        "lines": lambda: list(request.stream),
        "rest": lambda: request.environ["wsgi.input"].readline(),
        "as_json": lambda: request.get_json(force=True, silent=True),
        "heedlessly": heedless,
        "async": heedless,
        "blueprint": lambda: request.get_data(),
    }
    path = {"async": "/body-async", "blueprint": "/uploads/"}.get(read, "/body")

    @app.before_request
    def look() -> None:  # as code does that logs or measures bodies
        if before == "touched":
            assert request.stream.readable()
        elif before == "partly read":
            assert request.stream.read(1) == b"a"

    def read_body() -> str:
        begun.set()
        bodies.append(readings[read]())
        return "read"

    async def read_in_async_view() -> str:
        return read_body()

    uploads = Blueprint("uploads", __name__, url_prefix="/uploads")

    @uploads.before_request
    def guard() -> None:
        authenticate()

    app.post("/body")(require_token(read_body))
    app.post("/body-async")(require_token(read_in_async_view))
    uploads.post("/")(read_body)
    app.register_blueprint(uploads)

    with served_wsgi(app) as address:
        url = urlsplit(address)
        head = (
            f"POST {path} HTTP/1.1",
            f"Host: {url.netloc}",
            f"Authorization: Bearer {issuer.token()}",
            "Content-Type: application/x-www-form-urlencoded",
            "Content-Length: 3",
        )
        with socket.create_connection((url.hostname, url.port), PATIENCE) as raw:
            raw.sendall("\r\n".join((*head, "", "a=")).encode())
            assert begun.wait(PATIENCE)
            verifier.distrust(issuer.key().kid, reason="leaked", force=True)
            raw.sendall(b"1")
            raw.shutdown(socket.SHUT_WR)
            answer = raw.makefile("rb").read()
    assert answer.split()[1] == b"401"
    assert b'error="invalid_token"' in answer
    assert bodies == []


def heedless() -> bytes:
    try:
        return request.get_data()
    except Exception:  # noqa: BLE001 - as careless code does
        return b"nothing"


@pytest.mark.parametrize("size", [0, 2])
def test_good_request_is_read_to_its_end_after_others_have_begun_to_read(
    size: int, verifier: SyncTokenVerifier, issuer: LocalTenant
) -> None:
    app = app_of(verifier)

    @app.before_request
    def look() -> None:
        assert request.stream.readable()  # which werkzeug keeps
        if size:
            assert request.stream.read(size) == b"{}\n"[:size]

    @app.post("/body")
    @require_token
    def body() -> bytes:
        return request.get_data()

    with served_wsgi(app) as address:
        url = urlsplit(address)
        head = (
            "POST /body HTTP/1.1",
            f"Host: {url.netloc}",
            f"Authorization: Bearer {issuer.token()}",
            "Content-Length: 3",
        )
        with socket.create_connection((url.hostname, url.port), PATIENCE) as raw:
            raw.sendall("\r\n".join((*head, "", "{}\n")).encode())  # and stays open
            answer = raw.makefile("rb").read()
    assert answer.split()[1] == b"200"
    assert answer.endswith(b"\r\n\r\n" + b"{}\n"[size:])


def test_body_of_a_good_request_is_read_in_any_way(
    verifier: SyncTokenVerifier, issuer: LocalTenant
) -> None:
    app = app_of(verifier)

    @app.post("/body")
    @require_token
    def body() -> dict[str, Any]:
        lines = [request.stream.readline(), *request.stream.readlines()]
        return {"lines": [line.decode() for line in lines]}

    @app.post("/form")
    @require_token
    def form() -> dict[str, Any]:
        return {"a": request.form["a"], "file": request.files["f"].read().decode()}

    headers, client = bearer(issuer.token()), app.test_client()
    answer = client.post("/body", headers=headers, data=b"one\ntwo\nthree")
    assert answer.get_json() == {"lines": ["one\n", "two\n", "three"]}
    sent = {"a": "1", "f": (BytesIO(b"content"), "name.txt")}
    assert client.post("/form", headers=headers, data=sent).get_json() == {
        "a": "1",
        "file": "content",
    }


def test_outage_is_answered_with_503_and_when_to_ask_again(
    client: FlaskClient, issuer: LocalTenant
) -> None:
    issuer.faults.status(500)
    answer = client.get("/me", headers=bearer(issuer.token()))
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) >= 1


def test_token_is_verified_once_for_blueprint_and_view(
    client: FlaskClient, issuer: LocalTenant, verifier: SyncTokenVerifier
) -> None:
    assert (
        client.get("/reports/own", headers=bearer(issuer.token(scope="admin"))).status_code == 200
    )
    (used,) = verifier.usage().values()
    assert used.accepted == 1


def test_next_request_in_the_same_application_context_is_not_let_in_by_the_token_of_the_first(
    verifier: SyncTokenVerifier, issuer: LocalTenant
) -> None:
    app = app_of(verifier)
    with app.app_context():  # they share `g`
        client = app.test_client()
        assert client.get("/me", headers=bearer(issuer.token())).status_code == 200
        assert client.get("/me").status_code == 401


def test_optional_lets_anonymous_requests_in_where_no_token_is_required(
    verifier: SyncTokenVerifier, issuer: LocalTenant
) -> None:
    client = app_of(verifier, optional=True).test_client()
    assert client.get("/reports/").text == "anonymous"
    assert client.get("/reports/", headers=bearer("junk")).status_code == 401
    for path in ("/reports/own", "/me"):
        assert client.get(path).status_code == 401


def test_error_handlers_of_the_application_apply(
    verifier: SyncTokenVerifier, issuer: LocalTenant
) -> None:
    app = app_of(verifier)

    @app.errorhandler(401)
    def unauthorized(error: Unauthorized) -> Any:
        response = error.get_response()
        response.set_data("sign in")
        return response

    @app.errorhandler(HTTPException)
    def other(error: HTTPException) -> tuple[str, int]:
        return f"other {error.code}", error.code or 500

    client = app.test_client()
    refused = client.get("/me")
    assert (refused.status_code, refused.text) == (401, "sign in")
    assert refused.headers["WWW-Authenticate"] == "Bearer"
    answer = client.get("/things", headers=bearer(issuer.token(scope="openid")))
    assert (answer.status_code, answer.text) == (403, "other 403")


def test_refusal_may_have_a_status_that_is_no_error_of_werkzeug(
    verifier: SyncTokenVerifier,
) -> None:
    client = app_of(verifier, on_refusal=lambda *_: Refusal(499, (), b"no")).test_client()
    answer = client.get("/me")
    assert (answer.status_code, answer.text) == (499, "no")


def test_preflight_of_a_guarded_view_is_answered_by_flask(client: FlaskClient) -> None:
    preflight = {"Origin": "https://web.test", "Access-Control-Request-Method": "GET"}
    assert client.options("/me", headers=preflight).status_code == 200


def test_verifier_that_can_only_be_awaited_is_refused() -> None:
    wrong: Any = TokenVerifier("https://issuer.test/", "a")
    with pytest.raises(ConfigurationError, match="SyncTokenVerifier"):
        init_app(Flask(__name__), wrong)


def test_application_without_a_verifier_is_an_error_that_names_init_app() -> None:
    app = Flask(__name__)
    view: Callable[[], str] = require_token(lambda: "secret")
    with app.test_request_context("/"), pytest.raises(ConfigurationError, match="init_app"):
        view()


def test_requirement_stays_as_it_was_written(
    verifier: SyncTokenVerifier, issuer: LocalTenant
) -> None:
    app, scopes = Flask(__name__), ["write:things"]
    init_app(app, verifier)
    app.add_url_rule("/", view_func=require_token(required_scopes=scopes)(lambda: "written"))
    scopes.clear()
    assert app.test_client().get("/", headers=bearer(issuer.token())).status_code == 403


def test_defect_of_a_claim_check_is_logged_once_for_all_requests(
    verifier: SyncTokenVerifier, issuer: LocalTenant, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(claims: Any) -> None:
        raise KeyError(claims["sub"])

    app = Flask(__name__)
    init_app(app, verifier)
    app.add_url_rule("/", view_func=require_token(claim_checks=[broken])(lambda: "let in"))

    @app.before_request
    def guard() -> None:
        authenticate(claim_checks=[broken])

    for _ in range(3):
        assert app.test_client().get("/", headers=bearer(issuer.token())).status_code == 401
    assert caplog.text.count("raised KeyError") == 1


def test_decorator_refuses_what_cannot_be_meant_where_it_is_written() -> None:
    with pytest.raises(ConfigurationError, match="required_scopes"):
        require_token(required_scopes="read:things")
