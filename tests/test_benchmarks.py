"""What decides whether a benchmark fails; the figures themselves are nobody's to assert here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import footprint, instructions, stubbed


def figures_of(counts: dict[str, int], **circumstances: str) -> dict[str, Any]:
    counted_with = {**instructions.circumstances(), **circumstances}
    return {instructions.python(): {"with": counted_with, "instructions": counts}}


def test_a_count_that_grew_by_ten_percent_passes(capsys: pytest.CaptureFixture[str]) -> None:
    instructions.check({"verify": 1100}, figures_of({"verify": 1000}))
    assert "No count" in capsys.readouterr().out


def test_a_count_that_grew_by_more_fails_and_says_how_to_accept_it() -> None:
    now = {"verify": 1101, "cached": 10}
    with pytest.raises(SystemExit, match=r"(?s)verify: from 1,000 to 1,101.*--update") as refused:
        instructions.check(now, figures_of({"verify": 1000, "cached": 10}))
    assert "cached" not in str(refused.value)
    assert "other versions" not in str(refused.value)


@pytest.mark.parametrize("package", ["cryptography", "msgspec", "pybase64"])
def test_a_count_is_compared_with_that_of_another_version_and_a_failure_names_it(
    package: str,
) -> None:
    with pytest.raises(SystemExit, match=rf"{package} 0\.0\.1 then"):
        instructions.check({"verify": 2}, figures_of({"verify": 1}, **{package: "0.0.1"}))


def test_a_case_without_a_committed_figure_fails() -> None:
    with pytest.raises(SystemExit, match="Other cases"):
        instructions.check({"verify": 1, "new": 1}, figures_of({"verify": 1}))


def test_a_python_without_committed_figures_passes_and_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    instructions.check({"verify": 1}, {})
    assert "NOT CHECKED" in capsys.readouterr().out


def test_a_python_that_was_built_otherwise_passes_whatever_it_counts_and_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    instructions.check({"verify": 900}, figures_of({"verify": 1}, compiler="GCC 1.0 --with-lto"))
    said = capsys.readouterr().out
    assert "NOT CHECKED" in said
    assert f"GCC 1.0 --with-lto, not {instructions.build()}" in said


@pytest.mark.parametrize(
    ("configured", "flags", "options"),
    [
        (None, None, ""),
        ("'--prefix=/usr' '--enable-shared' 'CFLAGS=-g -O2'", "-g -O3 -g -O2", " -O2"),
        (
            "'--with-lto=thin' '--enable-optimizations'",
            "",
            " --enable-optimizations --with-lto=thin",
        ),
    ],
)
def test_a_build_is_its_compiler_and_what_changes_the_compiled_code(
    configured: str | None, flags: str | None, options: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {"CONFIG_ARGS": configured, "PY_CFLAGS": flags}
    monkeypatch.setattr("sysconfig.get_config_var", variables.get)
    monkeypatch.setattr("platform.python_compiler", lambda: "GCC 12.2.0")
    assert instructions.build() == f"GCC 12.2.0{options}"


@pytest.mark.parametrize("ci", ["true", ""])
def test_without_valgrind_counting_fails_and_says_how_to_install_it(
    ci: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="apt-get install -y valgrind"):
        instructions.counts()


async def test_the_stub_of_a_key_fits_the_signature_check() -> None:
    async with stubbed.opened(token_cache_size=0) as verifier:
        assert (await verifier.verify(stubbed.token(7))).subject == f"auth0|{7:024}"


def test_without_proc_the_growth_of_the_process_is_said_to_be_unmeasured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(footprint, "STATM", tmp_path / "statm")
    monkeypatch.setattr(footprint, "output", lambda *_: '{"tracemalloc": 12.5}')
    footprint.print_memory(footprint.memory())
    assert "is not measured" in capsys.readouterr().out
