"""The dashboard and the docs name only metrics that the server has."""

from __future__ import annotations

import json
import re
from pathlib import Path

from starlette.testclient import TestClient

ROOT = Path(__file__).parents[3]


def names_in(text: str) -> set[str]:
    return set(re.findall(r"twinlens_[a-z_]+", text))


def test_every_metric_of_the_dashboard_and_the_docs_is_served(client: TestClient) -> None:
    client.post("/embed", json={"texts": ["red", ""]})
    client.post("/embed", json={"inputs": [{"text": "red"}, {"image": "AAAA"}]})
    client.get("/healthz")
    served = names_in(client.get("/metrics").text)
    dashboard = json.loads((ROOT / "deploy" / "grafana" / "twinlens.json").read_text())
    asked = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in names_in(target["expr"])
    }
    assert len(asked) >= 10
    assert asked <= served
    documented = names_in((ROOT / "docs" / "operations.md").read_text())
    assert documented <= served
