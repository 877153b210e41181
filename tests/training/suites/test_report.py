"""The report of suites, and the worst cases in it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.training.suites.exhibits import TEMPLATES, draw_rows, make_material
from twinlens.training.suites.catalogue import SUITES
from twinlens.training.suites.report import write_report
from twinlens.training.suites.result import Result


def judge(name: str) -> Result:
    sheet = SUITES[name].write(make_material(40), TEMPLATES, 0)
    return SUITES[name].judge(name, sheet, draw_rows(sheet, 0), 0)


def test_the_report_shows_scores_and_pictures_and_loads_nothing(tmp_path: Path) -> None:
    results = [judge(name) for name in ("classes", "retrieval", "calibration")]
    path = write_report(tmp_path / "new" / "report.html", "a <b> & c", results)
    text = path.read_text(encoding="utf-8")
    assert "a &lt;b&gt; &amp; c" in text and "<b>" not in text.partition("</h1>")[0]
    assert text.count("<figure>") == sum(len(result.worst) for result in results) == 30
    sources = re.findall(r'src="([^"]{22})', text)
    assert len(sources) >= 30 and set(sources) == {"data:image/png;base64,"}
    assert "http" not in text and f"{results[0].measure.score:.1%}" in text


def test_the_worst_cases_are_wrong_and_the_worst_comes_first() -> None:
    for name in ("classes", "composition", "retrieval"):
        result = judge(name)
        margins = [case.margin for case in result.worst]
        assert len(margins) == 10 and margins == sorted(margins) and margins[-1] <= 0
        assert all(case.right != case.said for case in result.worst)


def test_the_json_holds_what_the_table_shows_and_no_pictures() -> None:
    found = json.loads(json.dumps(judge("classes").to_json()))
    assert {"suite", "score", "chance", "low", "high", "n", "groups", "numbers", "worst"} == set(
        found
    )
    assert found["low"] <= found["score"] <= found["high"] and found["n"] == 40
    assert sum(group["n"] for group in found["groups"].values()) == 40
