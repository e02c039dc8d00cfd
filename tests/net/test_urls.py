from __future__ import annotations

import pytest

from jwks_guard.net.urls import is_loopback, refusal


@pytest.mark.parametrize(
    "url",
    [
        "https://acme.eu.auth0.com/.well-known/jwks.json",
        "https://acme.eu.auth0.com:8443/jwks?kid=1",
        "HTTPS://ACME.test/",
        "https://[2001:db8::1]/jwks",
        "https://10.0.0.1/jwks",
    ],
)
def test_https_is_fetched_from_anywhere(url: str) -> None:
    assert refusal(url, http_on_loopback=False) is None


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost/jwks",
        "http://LOCALHOST:8080/jwks",
        "http://127.0.0.1:8080/jwks",
        "http://127.255.0.7/jwks",
        "http://[::1]:8080/jwks",
    ],
)
def test_plain_http_only_on_loopback_and_only_if_that_is_allowed(url: str) -> None:
    assert is_loopback(url)
    assert refusal(url, http_on_loopback=True) is None
    assert refusal(url, http_on_loopback=False) == "it is not https"


@pytest.mark.parametrize(
    "host",
    [
        "acme.test",
        "10.0.0.1",
        "0.0.0.0",
        "localhost.acme.test",
        "127.0.0.1.acme.test",
        "127.0.0.1;acme.test",
        "127.1",
        "0x7f000001",
        "2130706433",
        "[::2]",
        "[::ffff:10.0.0.1]",
    ],
)
def test_hosts_that_only_look_like_this_machine_are_not(host: str) -> None:
    assert not is_loopback(f"http://{host}/")
    assert refusal(f"http://{host}/", http_on_loopback=True) == "it is not https"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://user@acme.test/", "it carries a user name or password"),
        ("https://user:secret@acme.test/", "it carries a user name or password"),
        ("http://localhost:80@acme.test/", "it carries a user name or password"),
        ("http://localhost@acme.test/", "it carries a user name or password"),
        ("https://acme.test/#keys", "it has a fragment"),
        ("https://acme.test/#", "it has a fragment"),
        ("https://", "it has no host"),
        ("https:///jwks", "it has no host"),
        ("https://:443/", "it has no host"),
        ("acme.test", "it has no host"),
        ("/jwks", "it has no host"),
        ("", "it has no host"),
        ("https://acme.test:99999/", "it is not a URL"),
        ("https://acme.test:port/", "it is not a URL"),
        ("https://[::1/", "it is not a URL"),
        ("ftp://acme.test/jwks", "it is not https"),
        ("file://localhost/etc/passwd", "it is not https"),
        ("data://acme.test,{}", "it is not https"),
    ],
)
def test_reason_is_given_in_words_and_without_the_address(url: str, why: str) -> None:
    assert refusal(url, http_on_loopback=True) == why


@pytest.mark.parametrize(
    "url",
    [
        "https://acme.test/ jwks",
        " https://acme.test/",
        "https://acme.test/\tjwks",
        "https://acme.te\nst/",
        "https://acme.test/\r\nX-Header: 1",
        "https://acme.test\\@evil.test/",
        "https://acme.test\x00/",
        "https://\x7facme.test/",
        "https://exämple.test/",
        "http://localhost\t.evil.test/",
        "https://acme.test/\ud800",
    ],
)
def test_characters_on_which_parsers_of_urls_disagree_are_refused(url: str) -> None:
    assert refusal(url, http_on_loopback=True) == "it has characters that do not belong in a URL"
