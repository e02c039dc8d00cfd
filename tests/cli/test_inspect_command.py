from __future__ import annotations

import json
import re
import sys
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from jwks_guard.cli.app import app
from jwks_guard.cli.words import date, printable, shown
from jwks_guard.testing import LocalTenant
from tests.process.programs import run_to_end

NOW = 1_800_000_000.0  # 2027-01-15 08:00:00 UTC
RUNNER = CliRunner(env={"NO_PROXY": "127.0.0.1"})
Shape = Callable[[LocalTenant], str]


@pytest.fixture(scope="module")
def tenant() -> Iterator[LocalTenant]:
    with LocalTenant() as tenant:
        yield tenant


@pytest.fixture(autouse=True)
def healthy(tenant: LocalTenant) -> Iterator[None]:
    yield
    tenant.faults.clear()


def run(*arguments: str, stdin: str | bytes | None = None) -> Result:
    result = RUNNER.invoke(app, ["inspect", *arguments], input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def inspect(tenant: LocalTenant, token: str | bytes, *options: str) -> Result:
    return run("-", "--issuer", tenant.issuer, "--audience", tenant.audience, *options, stdin=token)


def marks(result: Result) -> dict[str, str]:
    """The mark of each statement, by its name."""
    lines = re.findall(r"^  (ok|NO|\?\?|  )  (\S+)", result.stdout, re.MULTILINE)
    return {name: mark for mark, name in lines}


def faults(result: Result) -> set[str]:
    return {name for name, mark in marks(result).items() if mark == "NO"}


def in_one_line(panel: str) -> str:
    """The words of what typer has put into a box."""
    return " ".join(re.sub(r"\x1b\[[\d;]*m|[^ -~]", " ", panel).split())


def nested(levels: int) -> object:
    return [nested(levels - 1)] if levels else "deep"


def segments(*parts: object) -> str:
    texts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in parts]
    return ".".join(urlsafe_b64encode(text).rstrip(b"=").decode() for text in texts)


def test_valid_token_is_explained_part_by_part(tenant: LocalTenant) -> None:
    result = inspect(tenant, tenant.token(lifetime=3600, claims={"nbf": 1_700_000_000}))
    assert result.exit_code == 0
    assert marks(result) == {
        "alg": "ok",
        "typ": "ok",
        "kid": "ok",
        "key": "ok",
        "thumbprint": "  ",
        "signature": "ok",
        "iss": "ok",
        "sub": "ok",
        "aud": "ok",
        "exp": "ok",
        "nbf": "ok",
        "iat": "ok",
        "scope": "  ",
        "azp": "  ",
    }
    assert "RSA, 2048 bits, for RS256" in result.stdout
    assert re.search(r"exp +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC, in 59 min \d+ s", result.stdout)
    assert "nbf         2023-11-14 22:13:20 UTC, " in result.stdout
    assert result.stdout.endswith(
        "Valid. A route may ask for scopes or permissions too: the token has read:things.\n"
    )


def test_verdict_on_a_valid_token_says_what_a_route_may_ask_for(tenant: LocalTenant) -> None:
    def verdict(**claims: object) -> str:
        return inspect(tenant, tenant.token(claims=claims)).stdout.splitlines()[-1]

    asked = "Valid. A route may ask for scopes or permissions too: the token has "
    assert verdict(scope="b a", permissions=["c", "a"]) == f"{asked}a, b, c."
    assert verdict(scope=None) == f"{asked}none."
    many = [f"p{number:02}" for number in range(25)]
    assert verdict(scope=None, permissions=many).endswith("p18, p19, 5 more.")
    assert verdict(scope=None, permissions=["\x1b[2J"]) == rf"{asked}\x1b[2J."


def test_expired_token_of_an_unknown_key_for_another_api_is_told_all_of_it(
    tenant: LocalTenant,
) -> None:
    token = tenant.forged_token(kid="unheard-of", lifetime=-185, audience=["https://other.test"])
    result = inspect(tenant, token)
    assert result.exit_code == 1
    assert faults(result) == {"key", "aud", "exp"}
    assert marks(result)["signature"] == "??"
    assert re.search(r"exp .* UTC, 3 min \d+ s ago\n +The token has expired\.", result.stdout)
    assert f'does not name this API. Expected: ["{tenant.audience}"]' in result.stdout
    assert tenant.key().kid in result.stdout  # the keys that there are
    assert result.stdout.endswith(
        "Not valid (unknown_key): The issuer does not publish the key that this token names.\n"
    )


@pytest.mark.parametrize(
    ("shape", "name"),
    [
        ({"claims": {"iss": "https://other.test/"}}, "iss"),
        ({"claims": {"iss": None}}, "iss"),
        ({"claims": {"sub": 7}}, "sub"),
        ({"audience": ["https://other.test"]}, "aud"),
        ({"claims": {"aud": {"a": "b"}}}, "aud"),
        ({"claims": {"aud": None}}, "aud"),
        ({"lifetime": -60}, "exp"),
        ({"claims": {"exp": None}}, "exp"),
        ({"claims": {"exp": "tomorrow"}}, "exp"),
        ({"claims": {"exp": True}}, "exp"),
        ({"claims": {"exp": 10**40}}, "exp"),
        ({"claims": {"nbf": 9_000_000_000}}, "nbf"),
        ({"claims": {"iat": [1]}}, "iat"),
        ({"header": {"typ": "dpop+jwt"}}, "typ"),
        ({"header": {"typ": ["JWT"]}}, "typ"),
        ({"header": {"crit": ["b64"]}}, "crit"),
        ({"claims": {"deep": nested(100)}}, "payload"),
        ({"header": {"deep": nested(100)}}, "header"),
    ],
)
def test_one_fault_is_named_and_nothing_else_blamed(
    tenant: LocalTenant, shape: dict[str, Any], name: str
) -> None:
    result = inspect(tenant, tenant.token(**shape))
    assert result.exit_code == 1
    assert faults(result) == {name}
    assert result.stdout.splitlines()[-1].startswith("Not valid (")


@pytest.mark.parametrize(
    ("header", "blamed"),
    [
        ({"alg": "none"}, {"alg", "key"}),
        ({"alg": "PS256"}, {"key"}),
        ({"alg": None}, {"alg"}),
        ({"alg": {}}, {"alg"}),
        ({"kid": "x" * 600}, {"kid"}),
        ({"kid": [1]}, {"kid"}),
    ],
)
def test_header_that_names_no_usable_key_is_told_apart(
    tenant: LocalTenant, header: dict[str, Any], blamed: set[str]
) -> None:
    result = inspect(tenant, tenant.token(header=header))
    assert result.exit_code == 1
    assert faults(result) == blamed
    assert marks(result)["key"] == ("NO" if "key" in blamed else "??")
    assert marks(result)["signature"] == "??"


def test_every_asymmetric_algorithm_is_allowed_by_default() -> None:
    with LocalTenant(algorithm="ES256") as tenant:
        assert inspect(tenant, tenant.token()).exit_code == 0


def test_token_without_kid_is_verified_with_the_only_key() -> None:
    with LocalTenant(algorithm="ES256") as tenant:
        lost = tenant.key("next").kid
        tenant.remove(lost)
        result = inspect(tenant, tenant.token(header={"kid": None}))
    assert result.exit_code == 0
    assert marks(result)["key"] == "ok"


def test_missing_member_is_called_missing(tenant: LocalTenant) -> None:
    result = inspect(tenant, tenant.token(claims={"exp": None}))
    assert re.search(r"NO  exp +missing\n +The `exp` claim is missing\.", result.stdout)


def test_forged_signature_is_told(tenant: LocalTenant) -> None:
    result = inspect(tenant, tenant.forged_token())
    assert result.exit_code == 1
    assert faults(result) == {"signature"}


def test_header_that_brings_a_key_of_its_own_is_told_to_be_ignored(tenant: LocalTenant) -> None:
    result = inspect(tenant, tenant.token(header={"jku": "https://evil.test/", "cty": "x"}))
    assert result.exit_code == 0
    assert re.search(r'jku +"https://evil.test/"\n +Ignored: ', result.stdout)
    assert re.search(r'cty +"x"\nKey', result.stdout)


SHAPES: dict[str, Shape] = {
    "valid": lambda tenant: tenant.token(),
    "altered": lambda tenant: tenant.token().replace(".", ".e30", 1),
    "forged": lambda tenant: tenant.forged_token(),
    "expired": lambda tenant: tenant.token(lifetime=-60),
    "unknown key": lambda tenant: tenant.forged_token(kid="unheard-of"),
    "signature in the standard alphabet": lambda tenant: tenant.token()[:-4] + "++/=",
    "payload that is no JSON": lambda tenant: segments({"alg": "RS256"}, b"\xff\x00", b"x"),
    "header that is no object": lambda tenant: segments([1], {}, b"x"),
    "JWE": lambda _: segments({"alg": "dir"}, b"key", b"iv", b"text", b"tag"),
    "opaque": lambda _: "v1.opaque-token".replace(".", "-"),
    "two segments": lambda _: segments({"alg": "none"}, {}),
    "unsigned": lambda _: segments({"alg": "none"}, {}) + ".",
    "too long": lambda tenant: tenant.token(claims={"pad": "x" * 20_000}),
    "outside ASCII": lambda tenant: "\N{LATIN SMALL LETTER E WITH ACUTE}" + tenant.token(),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_verdict_agrees_with_the_parts_and_neither_token_nor_signature_is_shown(
    tenant: LocalTenant, shape: Shape
) -> None:
    token = shape(tenant)
    from_stdin = inspect(tenant, token)
    from_argument = run(token, "--issuer", tenant.issuer, "--audience", tenant.audience)
    content_only = run(token)
    for result in (from_stdin, from_argument, content_only):
        for segment in token.split("."):
            assert len(segment) < 6 or segment not in result.output
    for result in (from_stdin, from_argument):
        judged = set(marks(result).values())
        assert result.exit_code == (0 if judged and judged.isdisjoint({"NO", "??"}) else 1)
    assert content_only.exit_code == 1


@settings(max_examples=60, deadline=None)
@given(parts=st.lists(st.binary(max_size=40), min_size=1, max_size=6), encoded=st.booleans())
def test_garbage_never_ends_in_anything_but_a_verdict(parts: list[bytes], encoded: bool) -> None:
    token = segments(*parts).encode() if encoded else b".".join(parts)
    result = run("-", stdin=token)
    assert result.exit_code in (1, 2)
    assert re.search(r"^Not (valid \(\w+\)|verified): |give one token", result.output, re.MULTILINE)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@settings(max_examples=40, deadline=None)
@given(
    header=st.dictionaries(st.text(), VALUES),
    claims=st.dictionaries(
        st.sampled_from(["iss", "sub", "aud", "exp", "nbf", "iat", "scope", "\x1b[2J"]), VALUES
    ),
)
def test_whatever_the_claims_are_only_printable_ascii_reaches_the_terminal(
    header: dict[str, Any], claims: dict[str, Any]
) -> None:
    result = run(segments({"alg": "RS256", "kid": "k"} | header, claims, b"signature"))
    assert result.exit_code == 1
    assert re.fullmatch(r"[ -~\n]*", result.stdout)
    assert "Not verified: " in result.stdout


def test_terminal_sequences_and_markup_in_claims_are_shown_and_not_obeyed(
    tenant: LocalTenant,
) -> None:
    claims = {"name": "\x1b[31m[red]red[/red]\x9b2J\u202e :smile: \x7f", "\x1b]0;title\x07": 1}
    result = inspect(tenant, tenant.token(claims=claims))
    assert result.exit_code == 0
    assert r'"\u001b[31m[red]red[/red]\u009b2J\u202e :smile: \u007f"' in result.stdout
    assert r"\x1b]0;title\x07" in result.stdout


def test_long_values_are_cut(tenant: LocalTenant) -> None:
    result = inspect(tenant, tenant.token(claims={"long": "x" * 5000, "n" * 100: 1}))
    assert result.exit_code == 0
    assert re.search(r'long +"x{199}\.\.\. \(5002 characters\)\n', result.stdout)
    assert "n" * 30 in result.stdout
    assert "n" * 31 not in result.stdout


def test_without_an_issuer_only_the_content_is_shown_and_how_to_verify_it(
    tenant: LocalTenant,
) -> None:
    tenant.requests.clear()
    result = run(tenant.token(lifetime=-60, claims={"exp": None, "nbf": "x"}))
    assert result.exit_code == 1
    assert not list(tenant.requests)
    assert faults(result) == {"exp", "nbf"}
    assert marks(result)["iss"] == marks(result)["aud"] == "  "
    assert "Signature" not in result.stdout
    assert result.stdout.splitlines()[-1].startswith(
        "Not verified: add --issuer (or JWKS_GUARD_ISSUER)"
    )


def test_without_an_issuer_an_algorithm_that_is_never_verified_is_told(
    tenant: LocalTenant,
) -> None:
    assert faults(run(tenant.token(header={"alg": "HS256"}))) == {"alg"}
    assert faults(run(tenant.token(header={"alg": "ES512"}))) == set()


def test_token_pasted_with_its_scheme_is_taken(tenant: LocalTenant) -> None:
    pasted = inspect(tenant, f"Bearer {tenant.token()}\n")
    assert pasted.exit_code == 0
    *_, note, verdict = pasted.stdout.splitlines()
    assert note == "`Bearer ` in front was left out: sent twice it is refused (400)."
    assert verdict.startswith("Valid. ")
    assert "left out" not in inspect(tenant, tenant.token()).stdout
    assert run("bearer", tenant.token()).exit_code == 1
    assert run(f"Bearer {tenant.token()}").exit_code == 1


@pytest.mark.parametrize("words", [["two", "words"], [""], ["Bearer"], ["Bearer two words"]])
def test_what_is_not_one_token_is_a_usage_error_that_repeats_none_of_it(words: list[str]) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert "give one token" in result.stderr
    assert "words" not in result.output


def test_issuer_that_can_not_be_reached_is_told_and_the_rest_explained(
    tenant: LocalTenant,
) -> None:
    tenant.faults.reset()
    result = inspect(tenant, tenant.token(lifetime=-60))
    assert result.exit_code == 3
    assert faults(result) == {"exp"}
    assert marks(result)["key"] == marks(result)["signature"] == "??"
    assert marks(result)["iss"] == "ok"
    assert "The issuer's keys can't be had: " in result.stdout
    assert result.stdout.splitlines()[-1].startswith("Unknown (keys_unavailable): ")


def test_token_that_is_none_costs_the_issuer_no_request(tenant: LocalTenant) -> None:
    tenant.requests.clear()
    result = inspect(tenant, "opaque")
    assert result.exit_code == 1
    assert "The token is opaque" in result.stdout
    assert not list(tenant.requests)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--issuer", "http://plain.test/", "--audience", "a"], "not https"),
        (["--issuer", "", "--audience", "a"], "issuer"),
        (["--issuer", "https://acme.test/"], "--audience"),
        (["--issuer", "https://acme.test/", "--audience", ""], "audience"),
        (["--audience", "a"], "--issuer"),
        (["--jwks-uri", "https://acme.test/"], "--issuer"),
        (["--algorithm", "RS256"], "--issuer"),
        (["--issuer", "https://acme.test/", "--audience", "a", "--algorithm", "HS256"], "HS256"),
        (["--issuer", "https://acme.test/", "--audience", "a", "--jwks-uri", "ftp://x"], "jwks"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_bad_option_is_a_usage_error(tenant: LocalTenant, options: list[str], word: str) -> None:
    result = run(tenant.token(), *options)
    assert result.exit_code == 2
    assert word in in_one_line(result.stderr)


def test_help_warns_of_arguments_in_ps() -> None:
    assert "arguments show in `ps`" in in_one_line(run("--help").stdout)


def test_algorithms_audiences_and_jwks_uri_can_be_given() -> None:
    with LocalTenant(algorithm="ES256") as tenant:
        options = ["--audience", "https://second.test", "--jwks-uri", tenant.jwks_uri]
        refused = inspect(tenant, tenant.token(), *options, "--algorithm", "RS256")
        tenant.requests.clear()
        allowed = inspect(tenant, tenant.token(), *options, "--algorithm", "ES256")
        assert [path for _, path in tenant.requests] == ["/.well-known/jwks.json"]
    assert (refused.exit_code, faults(refused)) == (1, {"alg"})
    assert marks(refused)["signature"] == "ok"
    assert allowed.exit_code == 0
    assert "P-256, for ES256" in allowed.stdout


def test_published_key_that_can_not_be_used_is_told_with_its_reason() -> None:
    with LocalTenant(algorithm="ES256") as tenant:
        key = tenant.new_key()
        tenant.publish({"kty": "oct", "kid": "another"})
        tenant.publish({**key.jwk, "use": "enc"})
        result = inspect(tenant, tenant.token(key=key), "--algorithm", "ES256")
    assert result.exit_code == 1
    assert "can't be used\n" in result.stdout
    assert "it can't be used: `use` is not sig." in result.stdout


def test_kid_with_two_keys_is_not_chosen_from() -> None:
    with LocalTenant(algorithm="ES256") as tenant:
        tenant.publish(tenant.new_key(kid=tenant.key().kid))
        result = inspect(tenant, tenant.token(), "--algorithm", "ES256")
    assert result.exit_code == 1
    assert marks(result)["key"] == "NO"
    last = result.stdout.splitlines()[-1]
    assert last.startswith(
        "Not valid (unusable_key): The issuer publishes different keys for this kid"
    )


def test_console_script_reads_standard_input(tenant: LocalTenant) -> None:
    command = [sys.executable, "-m", "jwks_guard", "inspect", "-"]
    process = run_to_end(command, stdin=tenant.token())
    assert (process.returncode, process.stderr) == (1, "")
    assert process.stdout.startswith('Header\n  ok  alg    "RS256"\n')


@pytest.mark.parametrize(
    ("timestamp", "words"),
    [
        (NOW, "2027-01-15 08:00:00 UTC, 0 s ago"),
        (NOW + 0.5, "2027-01-15 08:00:00 UTC, in 0 s"),
        (NOW - 200, "2027-01-15 07:56:40 UTC, 3 min 20 s ago"),
        (NOW + 7200, "2027-01-15 10:00:00 UTC, in 2 h"),
        (NOW + 90_061, "2027-01-16 09:01:01 UTC, in 1 d 1 h"),
        (253_402_300_799, "9999-12-31 23:59:59 UTC, in "),
        (-62_135_596_800, "1-01-01 00:00:00 UTC, "),
    ],
)
def test_date_is_given_in_utc_and_by_its_distance(timestamp: float, words: str) -> None:
    assert words in date(timestamp, NOW)


def test_printable_leaves_ascii_alone_and_escapes_the_rest() -> None:
    everything = "".join(map(chr, range(0x20, 0x7F)))
    assert printable(everything) == everything
    assert printable("\t\udc80\x00") == r"\t\udc80\x00"
    assert shown({"a": [1, None]}) == '{"a": [1, null]}'


def test_key_without_alg_is_explained_by_the_algorithms_that_are_allowed() -> None:
    with LocalTenant(algorithm="PS256") as tenant:
        key = tenant.new_key()
        tenant.publish({name: value for name, value in key.jwk.items() if name != "alg"})
        token = tenant.token(key=key)
        unnamed = inspect(tenant, token)
        named = inspect(tenant, token, "--algorithm", "PS256")
    assert (unnamed.exit_code, faults(unnamed)) == (1, {"key"})
    assert named.exit_code == 0
    assert "RSA, 2048 bits, for PS256\n" in named.stdout
