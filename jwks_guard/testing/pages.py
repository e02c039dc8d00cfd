"""The two pages of the tenant: the login and its refusal. Every value on them is escaped."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from starlette.responses import HTMLResponse

# No script, no frame around it, nothing from elsewhere. No `form-action`: browsers apply it to the
# redirect that answers the form, too, and that leads to the application.
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_FRAME = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 sans-serif; max-width: 26rem; margin: 4rem auto; padding: 0 1rem }}
label {{ display: block; margin: 1rem 0 }}
input {{ display: block; box-sizing: border-box; width: 100%; font: inherit; padding: .4rem }}
button {{ font: inherit; padding: .5rem 1.5rem }}
small {{ color: #555 }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""
_LOGIN = """<form method="post">
{hidden}
<p>For <strong>{audience}</strong>, back to <strong>{redirect_uri}</strong></p>
<label>User (<code>sub</code>) <input name="sub" value="{sub}" maxlength="255" required></label>
<label>Scopes <input name="scope" value="{scope}"></label>
<button autofocus>Log in</button>
</form>
<p><small>A local tenant for tests: it asks for no password.</small></p>"""


def login_page(
    hidden: Mapping[str, str], *, sub: str, scope: str, audience: str, redirect_uri: str
) -> HTMLResponse:
    """A form with one button; `hidden` goes back with it as it came."""
    fields = "\n".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
        for name, value in hidden.items()
    )
    shown = {"sub": sub, "scope": scope, "audience": audience, "redirect_uri": redirect_uri}
    body = _LOGIN.format(hidden=fields, **{name: escape(text) for name, text in shown.items()})
    return _page("Log in", body, 200)


def refusal_page(message: str, status: int = 400) -> HTMLResponse:
    """A page in place of a redirect, where there is nowhere safe to redirect to."""
    return _page("The login can't begin", f"<p>{escape(message)}</p>", status)


def _page(title: str, body: str, status: int) -> HTMLResponse:
    return HTMLResponse(_FRAME.format(title=title, body=body), status, _HEADERS)
