"""Where hopproxy runs: the files for systemd, Compose and Kubernetes fit their schemas.

tests/data/compose-spec.json is the schema of github.com/compose-spec/compose-spec (Apache License).
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hopproxy.settings.amounts import parse_duration, parse_size
from hopproxy.settings.memory import most_memory
from hopproxy.settings.reader import read
from hopproxy.settings.schema import Settings
from tests.conftest import needs
from tests.peers.servers import needs_module

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "config"
KUBERNETES: list[dict[str, Any]] = list(
    yaml.safe_load_all((CONFIG / "kubernetes.yaml").read_text())
)
COMPOSE: dict[str, Any] = yaml.safe_load((CONFIG / "compose.yaml").read_text())
SCHEMA = ROOT / "tests" / "data" / "compose-spec.json"
SIDECAR = (CONFIG / "sidecar.yaml").read_text()


def stop_of(settings: Settings) -> float:
    """How long a stop may take."""
    return settings.drain_delay + settings.drain_timeout


def sidecar(environ: dict[str, str]) -> Settings:
    return read(SIDECAR, file="sidecar.yaml", environ=environ)


# -- Compose -----------------------------------------------------------------------------------


def test_the_compose_file_fits_its_schema() -> None:
    needs_module("jsonschema")
    import jsonschema

    jsonschema.Draft7Validator(json.loads(SCHEMA.read_text())).validate(COMPOSE)


def test_compose_waits_longer_than_a_stop_takes() -> None:
    service = COMPOSE["services"]["hopproxy"]
    assert parse_duration(service["stop_grace_period"]) > stop_of(sidecar(service["environment"]))
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]


def test_compose_gives_it_the_memory_that_it_may_use() -> None:
    service = COMPOSE["services"]["hopproxy"]
    limit = parse_size(service["deploy"]["resources"]["limits"]["memory"])
    assert limit / 2 < most_memory(sidecar(service["environment"]), workers=1) < limit


# -- Kubernetes --------------------------------------------------------------------------------


def named(kind: str, name: str) -> dict[str, Any]:
    [found] = [one for one in KUBERNETES if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


def pod(name: str) -> dict[str, Any]:
    spec: dict[str, Any] = named("Deployment", name)["spec"]["template"]["spec"]
    return spec


def containers() -> Iterator[dict[str, Any]]:
    for name in ("shop", "front"):
        yield from (*pod(name).get("initContainers", []), *pod(name)["containers"])


@pytest.mark.parametrize("manifest", KUBERNETES, ids=lambda one: f"{one['kind']}")
def test_each_manifest_fits_the_schema_of_kubernetes(manifest: dict[str, Any]) -> None:
    needs_module("kubernetes_validate")
    import kubernetes_validate

    kubernetes_validate.validate(manifest, "1.31", strict=True)


def test_the_front_has_all_that_a_front_needs() -> None:
    kinds = [one["kind"] for one in KUBERNETES if one["metadata"]["name"] == "front"]
    assert kinds == [
        "ConfigMap",
        "Deployment",
        "Service",
        "PodDisruptionBudget",
        "HorizontalPodAutoscaler",
    ]
    labels = named("Deployment", "front")["spec"]["template"]["metadata"]["labels"]
    for kind in ("Service", "PodDisruptionBudget"):
        selector = named(kind, "front")["spec"]["selector"]
        assert selector.get("matchLabels", selector).items() <= labels.items()


def test_the_front_is_given_longer_than_a_stop_takes() -> None:
    text = named("ConfigMap", "front")["data"]["hopproxy.yaml"]
    settings = read(text, file="hopproxy.yaml", environ={})
    assert pod("front")["terminationGracePeriodSeconds"] > stop_of(settings)
    probe = pod("front")["containers"][0]["readinessProbe"]
    noticed = probe["periodSeconds"] * probe["failureThreshold"]
    assert settings.drain_delay > noticed + 2, "so long it still gets requests"
    assert settings.watch
    [mount] = pod("front")["containers"][0]["volumeMounts"]
    assert "subPath" not in mount, "such a file never changes"


def test_the_sidecar_is_a_native_one_and_stops_in_time() -> None:
    [proxy] = pod("shop")["initContainers"]
    [app] = pod("shop")["containers"]
    assert proxy["restartPolicy"] == "Always"
    assert "lifecycle" not in proxy
    settings = sidecar({one["name"]: one["value"] for one in proxy["env"]})
    assert settings.drain_delay == 0
    sleep = app["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod("shop")["terminationGracePeriodSeconds"] > sleep + stop_of(settings)


def test_each_proxy_gets_the_memory_that_it_may_use() -> None:
    [beside] = pod("shop")["initContainers"]
    [front] = pod("front")["containers"]
    text = named("ConfigMap", "front")["data"]["hopproxy.yaml"]
    cpus = int(front["resources"]["limits"]["cpu"])
    settings = [
        (beside, sidecar({one["name"]: one["value"] for one in beside["env"]}), 1),
        (front, read(text, file="hopproxy.yaml", environ={}), cpus),
    ]
    for container, its, workers in settings:
        limit = parse_size(container["resources"]["limits"]["memory"] + "B")
        assert limit / 2 < most_memory(its, workers) < limit, container["name"]


def test_every_container_is_bound_in_what_it_may_do() -> None:
    for one in containers():
        security = one["securityContext"]
        assert security["readOnlyRootFilesystem"], one["name"]
        assert not security["allowPrivilegeEscalation"]
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert {"requests", "limits"} <= one["resources"].keys()
    for name in ("shop", "front"):
        assert pod(name)["securityContext"]["runAsNonRoot"]


def test_each_proxy_has_its_probes_on_the_admin_listener() -> None:
    proxies = [one for one in containers() if one["name"] == "hopproxy"]
    assert len(proxies) == 2
    for one in proxies:
        assert {port["name"] for port in one["ports"]} == {"http", "admin"}
        asked = {
            kind: one[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")
        }
        assert {probe["port"] for probe in asked.values()} == {"admin"}
        assert asked["readiness"]["path"] == "/readyz"
        assert asked["startup"]["path"] == asked["liveness"]["path"] == "/healthz"


# -- systemd -----------------------------------------------------------------------------------


@pytest.fixture
def units(tmp_path: Path) -> list[str]:
    """The units, with the hopproxy that is installed here."""
    needs("systemd-analyze", debian="systemd")
    installed = Path(sys.executable).parent / "hopproxy"
    if not installed.exists():
        pytest.skip("hopproxy is not installed beside this Python")
    for name in ("hopproxy.service", "hopproxy.socket"):
        text = (CONFIG / name).read_text().replace("/opt/hopproxy/bin/hopproxy", str(installed))
        (tmp_path / name).write_text(text)
    return [str(tmp_path / name) for name in ("hopproxy.service", "hopproxy.socket")]


def test_systemd_finds_nothing_wrong_with_the_units(units: list[str]) -> None:
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_calls_the_service_well_confined(units: list[str]) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", units[0]]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-200:]


def test_the_unit_waits_longer_than_a_stop_takes_by_default() -> None:
    unit = (CONFIG / "hopproxy.service").read_text()
    [waits] = re.findall(r"^TimeoutStopSec=(.*)$", unit, re.MULTILINE)
    defaults = read("upstreams: {a: {origins: [1]}}", file="a", environ={})
    assert parse_duration(waits) > stop_of(defaults)
    [name] = re.findall(
        r"^FileDescriptorName=(.*)$", (CONFIG / "hopproxy.socket").read_text(), re.MULTILINE
    )
    assert f"systemd:{name}" in (CONFIG / "hopproxy.socket").read_text()
