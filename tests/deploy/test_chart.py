"""The Helm chart renders for every way to run it, and Kubernetes' own schemas accept the result."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from twinlens.cli.configuration import Configuration, build_defaults
from twinlens.cli.main import SERVE_TABLES, build_command

from .conftest import ROOT, run

pytestmark = pytest.mark.deploy

CHART = ROOT / "deploy" / "helm" / "twinlens"
SETS: dict[str, tuple[str, ...]] = {
    "as it comes": (),
    "kept data": ("persistence.enabled=true", "persistence.storageClassName=fast"),
    "scaled by queue": ("autoscaling.enabled=true", "autoscaling.queueItems=16"),
    "on a GPU": ("gpu.enabled=true", "nodeSelector.pool=gpu"),
    "with keys, HTTPS and a closed network": (
        "keys.existingSecret=twinlens-keys",
        "ingress.enabled=true",
        "ingress.tlsSecret=twinlens-tls",
        "networkPolicy.enabled=true",
    ),
}
Render = Callable[..., dict[str, dict[str, Any]]]


@pytest.fixture
def render(helm: Path) -> Render:
    """Return a function that renders the chart: kind -> document."""

    def call(*sets: str) -> dict[str, dict[str, Any]]:
        options = [part for one in sets for part in ("--set", one)]
        text = run(helm, "template", "demo", CHART, *options)
        return {document["kind"]: document for document in yaml.safe_load_all(text) if document}

    return call


def find_pod(documents: dict[str, dict[str, Any]]) -> dict[str, Any]:
    server = documents.get("Deployment") or documents["StatefulSet"]
    found: dict[str, Any] = server["spec"]["template"]["spec"]
    return found


def test_the_chart_passes_helms_own_checks(helm: Path) -> None:
    assert "0 chart(s) failed" in run(helm, "lint", CHART, "--strict")


@pytest.mark.parametrize("sets", SETS.values(), ids=SETS)
@pytest.mark.parametrize("version", ["1.29", "1.33"])
def test_kubernetes_accepts_what_it_renders(
    render: Render, sets: tuple[str, ...], version: str
) -> None:
    import kubernetes_validate

    documents = render(*sets)
    assert len(documents) >= 4
    for document in documents.values():
        kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("sets", SETS.values(), ids=SETS)
def test_no_server_is_root_or_writes_to_its_image(render: Render, sets: tuple[str, ...]) -> None:
    pod = find_pod(render(*sets))
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False


def test_the_configuration_is_one_that_the_server_reads(render: Render) -> None:
    documents = render("config.serve.limits.items=64", "config.serve.bundles={a=/m/a,b=/m/b}")
    tables = tomllib.loads(documents["ConfigMap"]["data"]["twinlens.toml"])
    configuration = Configuration(Path("twinlens.toml"), tables)
    defaults = build_defaults(configuration, build_command(), SERVE_TABLES)
    assert defaults["serve"]["bundles"] == ["a=/m/a", "b=/m/b"]
    settings = {n: v for n, v, _ in configuration.list_settings("serve", SERVE_TABLES["serve"])}
    assert settings["limits.items"] == 64


def test_a_server_has_time_to_drain(render: Render) -> None:
    pod = find_pod(
        render("config.serve.watch.drain_seconds=60", "config.serve.watch.drain_notice=7.5")
    )
    assert pod["terminationGracePeriodSeconds"] >= 68


def test_a_changed_configuration_starts_new_servers(render: Render) -> None:
    marks = set()
    for items in (1, 2):
        template = render(f"config.serve.limits.items={items}")["Deployment"]["spec"]["template"]
        marks.add(template["metadata"]["annotations"]["checksum/config"])
    assert len(marks) == 2


def test_autoscaling_decides_how_many_servers_there_are(render: Render) -> None:
    documents = render("autoscaling.enabled=true", "autoscaling.queueItems=16")
    assert "replicas" not in documents["Deployment"]["spec"]
    metrics = documents["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert metrics[1]["pods"]["metric"]["name"] == "twinlens_queue_items"
    with pytest.raises(AssertionError, match=r"autoscaling\.cpuPercent or autoscaling\.queueItems"):
        render("autoscaling.enabled=true", "autoscaling.cpuPercent=0")
