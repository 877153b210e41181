"""The known order in every suite: untrained, trained, trained longer, by real small runs.

Two suites do not follow it, and are held to what they do: `calibration` is no better than chance
after a short run, which is sure of the nearest name that is offered, and `robustness` falls, since
an encoder that has learned what things are forgets which picture it saw.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.training.suites.drawn_data import GERMAN, write_drawn_data
from twinlens.training.evaluation.run_examinee import examine_run
from twinlens.training.loop.loop import train
from twinlens.training.progress import Silent
from twinlens.training.recipes import open_recipe
from twinlens.training.runs.starting import apply_pairs
from twinlens.training.suites.catalogue import SUITES, run_suite
from twinlens.training.suites.material import Material, read_material
from twinlens.training.suites.result import Measure

SMALL = (
    "encoder=vit-nano/4", "image_size=32", "text_width=64", "dim=64", "vocabulary=400",
    "context=24", "batch=128", "threads=1", "device=cpu", "doctor=false", "monitor_share=0",
    "save_every=100000",
)  # fmt: skip
LENGTHS = {
    "untrained": ("steps=1", "lr=0", "warmup=0"),
    "trained": ("steps=150",),
    "longer": ("steps=1000",),
}
SCENES, THINGS = 2500, 2200
OF_SCENES = ("composition", "relations", "retrieval")
LATE, FALLING = "calibration", "robustness"
RISING = [name for name in SUITES if name not in (LATE, FALLING)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data, and the three runs."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("order")
    write_drawn_data(folder, SCENES, THINGS, seed=11)
    for name, sets in LENGTHS.items():
        config = apply_pairs(open_recipe("clip", "default"), [*SMALL, *sets])
        train(config, str(folder / "train.zip"), folder / name, Silent())
    return folder


def ask(suite: str, folder: Path) -> tuple[Measure, Measure, Measure]:
    """Return what a suite finds of the three runs; `pairs` draws its own scenes."""
    material = Material("drawings")
    if suite != "pairs":
        read = read_material(str(folder / f"{'scenes' if suite in OF_SCENES else 'things'}.zip"), 0)
        material = replace(read, translations={"de": GERMAN})
    untrained, trained, longer = (
        run_suite(SUITES[suite], examine_run(folder / name), material).measure for name in LENGTHS
    )
    return untrained, trained, longer


@pytest.mark.slow
@pytest.mark.parametrize("suite", RISING)
def test_scores_rise_with_training(suite: str, folder: Path) -> None:
    untrained, trained, longer = ask(suite, folder)
    assert untrained.score < trained.score < longer.score
    assert untrained.high < longer.low


@pytest.mark.slow
def test_doubt_rises_late(folder: Path) -> None:
    untrained, trained, longer = ask(LATE, folder)
    assert untrained.high < longer.low and trained.high < longer.low


@pytest.mark.slow
def test_robustness_falls(folder: Path) -> None:
    untrained, trained, longer = ask(FALLING, folder)
    assert untrained.low > trained.high and untrained.low > longer.high
    assert longer.low > longer.chance
