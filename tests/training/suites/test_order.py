"""The known order in every suite: untrained, trained, trained longer, by real small runs."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
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
from twinlens.training.suites.examinee import Examinee
from twinlens.training.suites.material import Material, read_material

SMALL = (
    "encoder=vit-nano/4", "image_size=32", "text_width=64", "dim=64", "vocabulary=400",
    "context=24", "batch=128", "threads=1", "device=cpu", "doctor=false", "monitor_share=0",
    "save_every=100000",
)  # fmt: skip
LENGTHS = {
    "untrained": ("steps=1", "lr=0", "warmup=0"),
    "trained": ("steps=100",),
    "longer": ("steps=900",),
}
OF_SCENES = ("composition", "relations", "pairs", "retrieval")


@cache
def read_data(folder: Path) -> dict[str, Material]:
    """Return what is asked about, by suite; scenes of two pictures are drawn by `pairs` itself."""
    scenes, things = (read_material(str(folder / f"{n}.zip"), 0) for n in ("scenes", "things"))
    named = replace(things, translations={"de": GERMAN})
    found = {name: scenes if name in OF_SCENES else named for name in SUITES}
    return found | {"pairs": Material("drawings")}


@pytest.fixture(scope="module")
def examinees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Examinee]:
    """The three runs."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("order")
    write_drawn_data(folder, 2500, 2200, seed=11)
    for name, sets in LENGTHS.items():
        config = apply_pairs(open_recipe("clip", "default"), [*SMALL, *sets])
        train(config, str(folder / "train.zip"), folder / name, Silent())
    return {name: examine_run(folder / name) for name in LENGTHS}


@pytest.mark.slow
@pytest.mark.parametrize("name", SUITES)
def test_scores_rise_with_training(
    name: str, examinees: dict[str, Examinee], tmp_path_factory: pytest.TempPathFactory
) -> None:
    material = read_data(tmp_path_factory.getbasetemp() / "order0")[name]
    untrained, trained, longer = (
        run_suite(SUITES[name], examinee, material).measure for examinee in examinees.values()
    )
    assert untrained.score < trained.score < longer.score
    assert longer.low > longer.chance
