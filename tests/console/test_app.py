"""What the console needs to be installed, and where its log lines may go."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

import jwks_guard.console
from tests.cli.test_without_extra import run_without
from tests.console.visiting import staged


@pytest.mark.parametrize("missing", ["jinja2", "itsdangerous"])
def test_console_without_its_extra_says_what_to_install(missing: str) -> None:
    run = run_without((missing,), "from jwks_guard.console import console")
    assert run.returncode == 1
    last = run.stderr.splitlines()[-1]
    assert last.endswith(f"The console needs {missing}: pip install 'jwks-guard[console]'")


def test_another_module_that_is_missing_is_named_as_it_is() -> None:
    run = run_without(("msgspec",), "from jwks_guard.console import console")
    assert "No module named 'msgspec'" in run.stderr


def test_console_has_no_other_names() -> None:
    with pytest.raises(AttributeError, match="no attribute 'consoles'"):
        _ = jwks_guard.console.consoles


@pytest.fixture
def crowded_records() -> Iterator[None]:
    """An application whose records have a field of the same name."""
    before = logging.getLogRecordFactory()

    def factory(*args: object, **kwargs: object) -> logging.LogRecord:
        record: logging.LogRecord = before(*args, **kwargs)
        record.peer = "somebody else's"
        return record

    logging.setLogRecordFactory(factory)
    yield
    logging.setLogRecordFactory(before)


@pytest.mark.usefixtures("crowded_records")
async def test_log_in_is_logged_beside_fields_of_the_application(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "jwks_guard")
    async with staged() as stage, stage.operator():
        assert "console_login done peer=127.0.0.1 actor='Ada, by operator secret'" in caplog.text
