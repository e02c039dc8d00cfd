"""The Dockerfile, the compose file and what it mounts, by their own tools and by each other."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

from jwks_guard.base.settings_reader import PREFIX, read_settings
from tests.package.composed import (
    COMPOSE,
    HERE,
    SERVICES,
    Composed,
    command_of,
    mounts_of,
    ports_of,
)
from tests.process.programs import PROJECT, require_program, run_to_end
from tests.support import PATIENCE

pytestmark = pytest.mark.outside

DOCKERFILE = (HERE / "Dockerfile").read_text()
TOOLS = Path(sys.executable).parent
BUILT = {each["image"] for each in SERVICES.values() if "build" in each}
PYTHON = [name for name, each in SERVICES.items() if each["image"] in BUILT]


@pytest.fixture
def composed(tmp_path: Path) -> Iterator[Composed]:
    with closing(Composed(tmp_path)) as composed:
        yield composed


def texts() -> Iterator[tuple[str, str]]:
    """All that may name a service, and where it stands."""
    for name, service in SERVICES.items():
        for each in (*command_of(service), *service.get("environment", {}).values()):
            yield name, each
        for source in mounts_of(service).values():
            for path in [HERE / source, *(HERE / source).glob("*")]:
                if path.is_file() and path.suffix != ".json":
                    yield name, path.read_text()


# --- the Dockerfile ---


def test_dockerfile_passes_its_linter() -> None:
    assert run_to_end([TOOLS / "hadolint", HERE / "Dockerfile"]).returncode == 0


def test_image_is_built_from_what_the_dockerfile_copies_alone(wheel: Path, tmp_path: Path) -> None:
    """Also nothing else is sent to the builder, and the wheel in the image is the released one."""
    copied = [words.split() for words in re.findall(r"(?m)^COPY (?!--)(.*)$", DOCKERFILE)]
    sources = [source for *sources, _ in copied for source in sources]
    ignored = (HERE / "Dockerfile.dockerignore").read_text().splitlines()
    assert [line[1:] for line in ignored if line.startswith("!")] == sources
    assert ignored[1] == "*"
    context = tmp_path / "context"
    for source in sources:
        target = context / source
        target.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (PROJECT / source).is_dir() else shutil.copy
        copy(PROJECT / source, target)
    pip = [sys.executable, "-m", "pip", "wheel", "--disable-pip-version-check", "--quiet"]
    options: list[str | Path] = [
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        tmp_path,
        context,
    ]
    assert run_to_end([*pip, *options], timeout=5 * PATIENCE).returncode == 0
    made = (tmp_path / wheel.name).read_bytes()
    assert sha256(made).digest() == sha256(wheel.read_bytes()).digest()


def test_image_runs_the_api_without_root_on_a_python_that_is_tested() -> None:
    assert re.findall(r"(?m)^USER (\d+)$", DOCKERFILE) == ["10001"]
    images = re.findall(r"(?m)^FROM (\S+)", DOCKERFILE)
    assert images == ["python:3.13-slim"] * 2
    makefile = (PROJECT / "Makefile").read_text()
    assert "3.13" in re.findall(r"(?m)^PYTHONS := (.*)$", makefile)[0].split()
    (command,) = re.findall(r"(?m)^CMD (.*)$", DOCKERFILE)
    assert json.loads(command) == command_of(SERVICES["api-1"]) == command_of(SERVICES["api-2"])


def test_image_has_extras_that_the_package_has() -> None:
    (extras,) = re.findall(r"'\.\[(.*)\]'", DOCKERFILE)
    pyproject = (PROJECT / "pyproject.toml").read_text()
    for extra in extras.split(","):
        assert re.search(rf"(?m)^{extra} = \[", pyproject)


# --- the compose file ---


def test_compose_file_is_one_by_the_specification() -> None:
    check: list[str | Path] = [
        TOOLS / "check-jsonschema",
        "--builtin-schema",
        "vendor.compose-spec",
    ]
    assert run_to_end([*check, HERE / "compose.yaml"]).returncode == 0


def test_image_is_built_by_one_service_and_pulled_by_none() -> None:
    """Compose builds the services in parallel: the second to give an image its name would fail."""
    assert PYTHON == ["tenant", "api-1", "api-2", "console"]
    assert [name for name, each in SERVICES.items() if "build" in each] == ["api-1"]
    assert {SERVICES[name]["pull_policy"] for name in PYTHON} == {"never"}


def test_every_service_and_port_that_is_named_is_there() -> None:
    known = {f"{name}:{port}" for name, service in SERVICES.items() for port in ports_of(service)}
    named = {
        f"{host}:{port}"
        for _, text in texts()
        for host, port in re.findall(r"(?<![\w.:-])([a-z][\w-]*):(\d{4,5})\b", text)
    }
    assert named <= known
    assert {each.partition(":")[0] for each in named} == {
        *("api-1", "api-2", "console", "prometheus", "redis", "tenant")
    }


def test_every_file_secret_volume_and_network_that_is_named_is_there_and_no_other() -> None:
    mounted = [source for each in SERVICES.values() for source in mounts_of(each).values()]
    files = {source for source in mounted if source.startswith("./")}
    assert [source for source in files if not (HERE / source).exists()] == []
    assert {*mounted} - files == {*COMPOSE["volumes"]}
    given = {secret for each in SERVICES.values() for secret in each.get("secrets", [])}
    assert given == {*COMPOSE["secrets"]}
    for name, text in texts():
        for secret in re.findall(r"/run/secrets/([\w-]+)", text):
            assert secret in SERVICES[name]["secrets"], name
    joined = {network for each in SERVICES.values() for network in each["networks"]}
    assert joined == {*COMPOSE["networks"]}
    for each in SERVICES.values():
        assert {*each.get("depends_on", {})} <= {*SERVICES}
    ignored = (PROJECT / ".gitignore").read_text().splitlines()
    for secret in COMPOSE["secrets"].values():
        folder = (HERE / secret["file"]).parent.relative_to(PROJECT)
        assert f"/{folder}/" in ignored


@pytest.mark.parametrize("name", SERVICES)
def test_service_has_a_health_check_and_no_rights_that_it_does_not_need(name: str) -> None:
    service = SERVICES[name]
    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["cap_drop"] == ["ALL"]
    assert "privileged" not in service
    for published in service.get("ports", []):
        assert published.startswith("127.0.0.1:")
    image, _, tag = service["image"].rpartition(":")
    assert name in PYTHON or (image and re.match(r"v?\d+\.\d+", tag)), "a version, not latest"


def test_console_takes_the_address_of_a_client_from_the_network_of_nginx_alone() -> None:
    (shared,) = {*SERVICES["console"]["networks"]} & {*SERVICES["nginx"]["networks"]}
    (range_,) = COMPOSE["networks"][shared]["ipam"]["config"]
    command = command_of(SERVICES["console"])
    assert [command[at + 1] for at, each in enumerate(command) if each == "--proxy"] == [
        range_["subnet"]
    ]


@pytest.mark.parametrize("name", PYTHON)
def test_variables_of_a_service_are_settings(name: str, composed: Composed) -> None:
    environment = composed.environment(name)
    found = read_settings(environment)
    ours = [each for each in environment if each.startswith(PREFIX)]
    assert {*found.names.values()} == {*ours}
    program = (HERE / "api.py").read_text()
    for variable in set(environment) - set(ours):
        assert f'os.environ["{variable}"]' in program


# --- what is mounted ---


def test_nginx_takes_its_configuration(composed: Composed) -> None:
    words = [*command_of(SERVICES["nginx"]), "-t"]
    composed.translate_mounts("nginx")
    assert run_to_end(composed.command("nginx", words)).returncode == 0


def test_prometheus_takes_its_configuration(composed: Composed) -> None:
    require_program("promtool", "apt-get install -y prometheus")
    composed.translate_mounts("prometheus")
    (path,) = (
        composed.translated(each, "prometheus").partition("=")[2]
        for each in command_of(SERVICES["prometheus"])
        if each.startswith("--config.file=")
    )
    done = run_to_end(["promtool", "check", "config", path])
    assert done.returncode == 0
    assert "1 rule files found" in done.stdout
    targets = yaml.safe_load((HERE / "prometheus.yml").read_text())["scrape_configs"][0]
    instances = [f"{name}:8000" for name in SERVICES if name.startswith("api-")]
    assert targets["static_configs"][0]["targets"] == instances


def test_grafana_finds_the_dashboard_and_asks_prometheus() -> None:
    mounts = mounts_of(SERVICES["grafana"])
    provisioned: dict[str, Any] = {}
    for kind in ("datasources", "dashboards"):
        (file,) = (HERE / mounts[f"/etc/grafana/provisioning/{kind}"]).glob("*.yml")
        provisioned |= yaml.safe_load(file.read_text())
    (provider,) = provisioned["providers"]
    assert mounts[f"{provider['options']['path']}/dashboard.json"] == "./dashboard.json"
    (source,) = provisioned["datasources"]
    (variable,) = (
        each
        for each in json.loads((HERE / "dashboard.json").read_text())["templating"]["list"]
        if each["type"] == "datasource"
    )
    assert source["type"] == variable["query"] == "prometheus"
    assert source["url"] == f"http://prometheus:{ports_of(SERVICES['prometheus'])[0]}"


def test_upstreams_of_nginx_are_all_instances() -> None:
    upstream = re.findall(r"(?m)^\s*server (\S+);", (HERE / "nginx.conf").read_text())
    assert upstream == [f"{name}:8000" for name in SERVICES if name.startswith("api-")]
