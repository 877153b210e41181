"""The alert rules are valid, go off when they should, and name metrics that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .conftest import ROOT, run

RULES = ROOT / "deploy" / "prometheus"


@pytest.mark.deploy
def test_prometheus_accepts_the_rules_and_they_go_off(promtool: Path) -> None:
    assert "SUCCESS" in run(promtool, "check", "rules", "alerts.yaml", folder=RULES)
    assert "SUCCESS" in run(promtool, "test", "rules", "alerts_test.yaml", folder=RULES)


def test_the_rules_name_metrics_that_are_served() -> None:
    from twinlens.serving.service import Service
    from twinlens.serving.settings import ServerSettings

    service = Service(ServerSettings(), lambda source, precision: pytest.fail("nothing is opened"))
    served = service.metrics.render().decode()
    service.close()
    named = set(re.findall(r"twinlens_[a-z_]+", (RULES / "alerts.yaml").read_text()))
    assert len(named) >= 5
    for name in named:
        base = re.sub(r"_(total|bucket)$", "", name)
        assert f"# TYPE {base}" in served or f"# TYPE {base}_total" in served, name
