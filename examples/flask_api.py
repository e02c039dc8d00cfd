"""A guarded Flask API: set JWKS_GUARD_ISSUER and JWKS_GUARD_AUDIENCE, then

`flask --app examples.flask_api run`.
"""

from typing import Any

from flask import Blueprint, Flask, g

from jwks_guard import SyncTokenVerifier
from jwks_guard.integrations.flask import authenticate, init_app, require_token

verifier = SyncTokenVerifier.from_env()
app = Flask(__name__)
init_app(app, verifier)
reports = Blueprint("reports", __name__, url_prefix="/reports")


@app.get("/me")
@require_token
def me() -> dict[str, Any]:
    return {"sub": g.token.subject}


@app.get("/things")
@require_token(required_scopes=["read:things"])
def things() -> dict[str, Any]:
    return {"owner": g.token.subject, "things": []}


@reports.before_request
def guard_reports() -> None:
    authenticate(required_scopes=["read:reports"])


@reports.get("/")
def list_reports() -> dict[str, Any]:
    return {"owner": g.token.subject, "reports": []}


@app.get("/health")
def health() -> tuple[dict[str, Any], int]:
    report = verifier.health()
    return report.to_dict(), 503 if report.status == "unavailable" else 200


app.register_blueprint(reports)
