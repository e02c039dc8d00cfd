"""The page, the alert rules and the dashboard name the metrics that a scrape shows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from jwks_guard.fleet import HTTPFleet
from jwks_guard.observability.reading import ACCEPTED, OTHER, REFUSALS
from jwks_guard.testing import LocalTenant
from tests.observability.samples import Registry, registry_of
from tests.process.programs import require_program, run_to_end
from tests.support import HandClock, verifier_of

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "metrics.md").read_text()
ALERTS = ROOT / "examples" / "operations" / "alerts.yml"
DASHBOARD = ROOT / "examples" / "operations" / "dashboard.json"
ROWS = {
    cells[0].strip("`"): (cells[1], set(re.findall(r"`(\w+)`", cells[2])))
    for line in re.findall(r"(?m)^\|( `jwks_guard_.+ )\|$", DOCUMENT)
    for cells in [[cell.strip() for cell in line.split("|")]]
}
"""Type and labels by the name of the samples, or of the histogram."""
SAMPLES = {
    name + suffix: labels | ({"le"} if suffix == "_bucket" else set())
    for name, (kind, labels) in ROWS.items()
    for suffix in (("_bucket", "_count", "_sum") if kind == "histogram" else ("",))
}
"""Labels by the name of the samples."""


@pytest.fixture
async def shown(tenant: LocalTenant, clock: HandClock) -> dict[str, tuple[str, set[str]]]:
    """Type and labels of what a verifier shows that has accepted a token and has a fleet."""
    fleet = HTTPFleet(["http://127.0.0.1:9/ops"], secret="s" * 16, poll_interval=5.0)
    async with verifier_of(tenant, clock, fleet=fleet) as verifier:
        await verifier.verify(tenant.token())
        text = generate_latest(registry_of(verifier)).decode()
        return {
            _without_suffix(sample.name, metric.type): (metric.type, set(sample.labels) - {"le"})
            for metric in text_string_to_metric_families(text)
            for sample in metric.samples
        }


def _without_suffix(sample: str, kind: str) -> str:
    """A histogram has one row for its samples."""
    return re.sub(r"_(bucket|count|sum)$", "", sample) if kind == "histogram" else sample


def test_table_has_every_metric_with_its_type_and_labels(
    shown: dict[str, tuple[str, set[str]]],
) -> None:
    assert shown == ROWS


def test_page_names_every_outcome() -> None:
    (paragraph,) = re.findall(r"(?s)\*\*Outcomes\*\*.*?\n\n", DOCUMENT)
    assert set(re.findall(r"`(\w+)`", paragraph)) == {ACCEPTED, OTHER, *REFUSALS}


def queries() -> Iterator[tuple[str, str]]:
    for query in re.findall(r"`((?:1|time\(\)) - [^`]+)`", DOCUMENT):
        yield "the page", query
    rules = yaml.safe_load(ALERTS.read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    board = json.loads(DASHBOARD.read_text())
    for panel in board["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]


@pytest.mark.parametrize(("name", "query"), [*queries()])
def test_query_uses_metrics_labels_and_outcomes_that_exist(name: str, query: str) -> None:
    names = re.findall(r"\bjwks_guard_\w+", query)
    assert names, name
    assert set(names) <= SAMPLES.keys()
    for metric, selector in re.findall(r"\b(jwks_guard_\w+)\{(.*?)\}", query):
        matched = dict(re.findall(r'(\w+)[!=~]+"(.*?)"', selector))
        assert set(matched) <= SAMPLES[metric] | {"job"}, name
        outcomes = set(matched.get("outcome", ACCEPTED).split("|"))
        if metric == "jwks_guard_verifications_total":
            assert outcomes <= {ACCEPTED, *REFUSALS}, name
        assert outcomes - {ACCEPTED} <= set(re.findall(r"`(\w+)`", DOCUMENT)), name


def test_every_alert_says_how_bad_it_is_and_what_happens() -> None:
    for rule in yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]


@pytest.mark.outside
@pytest.mark.parametrize(
    "command",
    [["check", "rules", ALERTS], ["test", "rules", Path(__file__).with_name("alerts_test.yml")]],
)
def test_alerts_fire_for_their_causes_by_promtool(command: list[str | Path]) -> None:
    require_program("promtool", "apt-get install -y prometheus")
    assert run_to_end(["promtool", *command]).returncode == 0


@pytest.mark.outside
def test_queries_are_well_formed_by_promtool(tmp_path: Path) -> None:
    require_program("promtool", "apt-get install -y prometheus")
    rules = [
        {"record": f"query_{number}", "expr": query.replace("$__rate_interval", "5m")}
        for number, (_, query) in enumerate(queries())
        if not query.startswith("label_values(")
    ]
    written = tmp_path / "queries.yml"
    written.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    assert run_to_end(["promtool", "check", "rules", written]).returncode == 0


async def test_code_on_the_page_registers_a_verifier(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    registry = Registry(auto_describe=True)
    monkeypatch.setattr(prometheus_client, "REGISTRY", registry)
    monkeypatch.setattr(prometheus_client, "CollectorRegistry", Registry)
    code, for_workers = re.findall(r"(?s)```python\n(.*?)```", DOCUMENT)
    names: dict[str, Any] = {}
    exec(compile(re.sub(r"(?m)^  ", "", code), "docs/metrics.md", "exec"), names)
    assert registry.value("jwks_guard_status", status="unavailable") == 1
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    exec(compile(for_workers, "docs/metrics.md", "exec"), names)
    assert names["registry"].value("jwks_guard_status", status="unavailable", process="all") == 1
