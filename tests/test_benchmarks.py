"""What decides whether a benchmark fails; the figures themselves are nobody's to assert here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import footprint, instructions, stubbed
from benchmarks.http_apps import cores, throughput
from benchmarks.http_apps.catalogue import APPS, UNGUARDED
from benchmarks.http_apps.server import Served
from benchmarks.http_apps.throughput import Case, Measured
from benchmarks.http_apps.wrk import Figures
from benchmarks.rounds import Ratio, Rounds, Took, at_most, mirrored, row_of
from benchmarks.tenants import free_port
from jwks_guard.testing import LocalTenant


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


# --- rounds ---


def test_two_rounds_that_follow_each_other_run_in_opposite_order() -> None:
    assert [mirrored("abc", number) for number in range(4)] == [
        ["a", "b", "c"],
        ["c", "b", "a"],
        ["b", "c", "a"],
        ["a", "c", "b"],
    ]


def test_fewer_rounds_can_be_asked_for_and_never_more(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"": 8, "1": 1, "0": 1, "8": 8, "100": 8}
    for rounds, expected in asked.items():
        monkeypatch.setenv("ROUNDS", rounds)
        assert at_most(8) == expected
    monkeypatch.delenv("ROUNDS")
    assert at_most(8) == 8


def test_a_row_has_the_median_of_the_runs_and_the_lowest_and_highest_of_them() -> None:
    runs = []
    for ours in (3.0, 2.0, 7.0):
        rounds = Rounds()
        rounds.add_slices("bare", [Took(10e-6, 5e-6)], calls=10)
        rounds.add_slices("ours", [Took(ours * 10e-6, 5e-6)], calls=10)
        runs.append(rounds)
    row = row_of(runs, "ours", "bare")
    assert str(row.ratio) == "3.00 (2.00-7.00)"
    assert str(row.cpu_ratio) == "1.00 (1.00-1.00)"
    assert (row.time.microseconds, row.time.least) == pytest.approx((3.0, 2.0))
    assert row.time.cpu == pytest.approx(0.5)


def test_a_ratio_is_shown_with_three_digits() -> None:
    shown = {
        0.0987: "0.099 (0.049-0.197)",
        1.5: "1.50 (0.75-3.00)",
        42.0: "42.0 (21.0-84.0)",
        262.18: "262 (131-524)",
    }
    for median, text in shown.items():
        assert str(Ratio(median, median / 2, median * 2)) == text


# --- over HTTP ---


def test_every_framework_has_an_unguarded_app_and_every_floor_that_an_app_names() -> None:
    there = {(app.framework, app.name) for app in APPS}
    assert {(app.framework, UNGUARDED) for app in APPS} <= there
    assert {(app.framework, app.floor) for app in APPS if app.floor} <= there


def test_every_guard_of_a_python_framework_is_compared_with_a_floor() -> None:
    guards = [app for app in APPS if app.guarded and app.framework in ("Starlette", "FastAPI")]
    assert guards
    assert all(app.floor for app in guards)


def test_ratios_are_those_of_the_same_round(tmp_path: Path) -> None:
    def case(name: str, rates: tuple[float, ...]) -> Case:
        app = next(app for app in APPS if (app.framework, app.name) == ("Starlette", name))
        served = Served(app, 0, LocalTenant(), "", tmp_path, tmp_path)
        seen = [Figures(int(rate), rate, 1.0, 2.0, 3.0, 0) for rate in rates]
        return Case(name, served, tmp_path, [Measured(each, 1e6 / each.rate) for each in seen])

    floor = next(app.floor for app in APPS if app.name == "jwks_guard")
    assert floor
    cases = [
        case(UNGUARDED, (1000.0, 2000.0, 4000.0)),
        case(floor, (900.0, 1600.0, 4000.0)),
        case("jwks_guard", (500.0, 1600.0, 2400.0)),
    ]
    ours = throughput.table(list(throughput.rows_of(cases))).splitlines()[-1]
    assert "0.60 (0.50-0.80)" in ours
    assert "0.60 (0.56-1.00)" in ours


def test_an_app_that_no_longer_answers_is_named_and_has_no_row(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a.b.c\n")
    dead = Served(APPS[0], 0, LocalTenant(), f"http://127.0.0.1:{free_port()}/", token, token)
    rows, failed = throughput.measured([dead])
    assert rows == []
    assert failed.keys() == {"Starlette: unguarded"}
    assert "refused" in failed["Starlette: unguarded"]


def test_what_is_printed_says_whether_server_and_load_had_a_core_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cores, "CORES", (3, 5))
    assert cores.pinned().startswith("The server was kept on processor 3, the load on processor 5")
    assert cores.on_server_core(["app"]) == ["taskset", "--cpu-list", "3", "app"]
    assert cores.on_load_core(["wrk"]) == ["taskset", "--cpu-list", "5", "wrk"]
    monkeypatch.setattr(cores, "CORES", None)
    assert cores.pinned().startswith("Server and load were not kept on cores of their own: ")
    assert cores.on_server_core(["app"]) == ["app"]
