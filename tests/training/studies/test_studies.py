"""Studies: every variant is a run that exists; the table and plot hold what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.training.doctor.faulty_methods import draw_shapes
from twinlens.errors import NotFoundError
from twinlens.training.config import apply_sets
from twinlens.training.progress import Silent
from twinlens.training.recipes import open_recipe
from twinlens.training.studies.studies import (
    STUDIES,
    Study,
    StudyVariant,
    find_study,
    format_table,
    run_study,
)

TINY = ("image_size=16", "batch=16", "steps=3", "hidden=8", "dim=8", "device=cpu", "threads=1")


@pytest.mark.parametrize("name", STUDIES)
def test_every_variant_differs_from_the_others_and_its_settings_exist(name: str) -> None:
    variants = STUDIES[name].variants
    configs = [apply_sets(open_recipe(v.method, v.recipe), v.sets).to_json() for v in variants]
    assert len(set(configs)) == len(variants) == len({v.label for v in variants})


def test_a_study_trains_evaluates_tabulates_and_plots(tmp_path: Path) -> None:
    data = str(draw_shapes(tmp_path / "data", 32))
    study = Study(
        "?", tuple(StudyVariant(f"T {t}", "simclr", (f"temperature={t}",)) for t in (0.1, 1))
    )
    rows = run_study(study, data, tmp_path / "out", TINY, Silent())
    assert [row["run"] for row in rows] == ["T 0.1", "T 1"]
    assert all(0 < float(row["top_eigenvalue"]) <= 1 for row in rows)
    assert all(0 <= float(row["linear"]) <= 100 for row in rows)
    assert json.loads((tmp_path / "out" / "study.json").read_text()) == rows
    assert (tmp_path / "out" / "study.html").read_text().count("<circle") == 2
    table = format_table(rows)
    eigenvalues = ["top_eigenvalue", "top5_eigenvalues"]
    columns = ["run", "knn", "linear", "effective_rank", *eigenvalues, "doctor"]
    assert table[0].split() == columns and len(table) == 3


@pytest.mark.parametrize(
    ("name", "label", "ails"),
    [
        ("head", "no head", "too early to tell"),
        ("stop-gradient", "without stop", "missing stop-gradient"),
        ("predictor", "without predictor", "missing predictor"),
    ],
)
def test_what_a_method_lacks_in_a_study_is_named_by_the_doctor(
    name: str, label: str, ails: str, tmp_path: Path
) -> None:
    data = str(draw_shapes(tmp_path / "data", 32))
    (variant,) = (v for v in STUDIES[name].variants if v.label == label)
    tiny = [*TINY, "log_every=1"]
    (row,) = run_study(Study("?", (variant,)), data, tmp_path / "out", tiny, Silent())
    assert row["doctor"] == ails and float(row["knn"]) >= 0


def test_a_variant_that_fails_loses_only_its_own_row(tmp_path: Path) -> None:
    data = str(draw_shapes(tmp_path / "data", 32))
    study = Study(
        "?", (StudyVariant("broken", "simclr", ("lr=1e30",)), StudyVariant("sound", "simclr"))
    )
    tiny = [*TINY, "clip=0", "warmup=0", "save_every=100", "log_every=1"]
    rows = run_study(study, data, tmp_path / "out", tiny, Silent())
    assert rows[0] == {"run": "broken", "doctor": "learning rate too high"}
    assert "linear" in rows[1] and len(format_table(rows)) == 3


def test_an_unknown_study_guesses_the_typo() -> None:
    with pytest.raises(NotFoundError, match="did you mean 'temperature'"):
        find_study("temprature")
