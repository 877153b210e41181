"""Training the photographs' text tower."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from recipes.builtin.photographs.batches import Drawer, draw_batches
from recipes.builtin.photographs.meanings import Saying
from recipes.builtin.photographs.phrasing import Phraser
from recipes.builtin.photographs.space import DIM, Rows, unit
from recipes.builtin.photographs.text_trainer import CONTEXT, TextRecipe, TextTrainer, read_tower
from recipes.builtin.tokens import embed_tokens
from twinlens.bundle.location import DRAWINGS, find_bundle
from twinlens.training.progress import Silent

TOKENIZER = find_bundle(DRAWINGS) / "tokenizer.json"
NAMES = ["otter", "guitar", "mushroom", "volcano", "bicycle"]
SAYINGS = [Saying(name, "en", "class", {}, 1.0) for name in NAMES]
PHRASER = Phraser(SAYINGS, np.arange(len(SAYINGS)))
RECIPE = TextRecipe(steps=40, batch=16, warmup=5)


@pytest.fixture
def space() -> Rows:
    return unit(np.random.default_rng(0).normal(size=(5, DIM)).astype(np.float32))


def test_strings_come_to_lie_where_their_meaning_is(tmp_path: Path, space: Rows) -> None:
    trainer = TextTrainer(TOKENIZER, space, tmp_path, RECIPE)
    trainer.run(PHRASER, space, RECIPE.steps, Silent())
    trainer.finish()
    tower = read_tower(TOKENIZER, tmp_path, RECIPE)
    ids = read(NAMES)
    with torch.no_grad():
        rows = unit(embed_tokens(tower, ids).numpy())
    assert ((rows @ space.T).argmax(1) == np.arange(5)).all()


def test_a_run_that_was_stopped_goes_on_from_its_checkpoint(tmp_path: Path, space: Rows) -> None:
    first = TextTrainer(TOKENIZER, space, tmp_path, RECIPE)
    first.run(PHRASER, space, 3, Silent())
    again = TextTrainer(TOKENIZER, space, tmp_path, RECIPE)
    assert again.step == 3
    for name, value in first.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], value)
        assert torch.equal(again.average[name], first.average[name])


def test_a_run_can_go_on_from_a_finished_one_once(tmp_path: Path, space: Rows) -> None:
    first = TextTrainer(TOKENIZER, space, tmp_path / "first", RECIPE)
    first.run(PHRASER, space, 3, Silent())
    first.finish()
    then = TextTrainer(TOKENIZER, space, tmp_path / "then", RECIPE)
    then.start_from(tmp_path / "first")
    for name, value in first.averaged().state_dict().items():
        assert torch.equal(then.averaged().state_dict()[name], value.half().float())
    then.run(PHRASER, space, 2, Silent())
    again = TextTrainer(TOKENIZER, space, tmp_path / "then", RECIPE)
    again.start_from(tmp_path / "first")
    assert again.step == 2
    told = json.loads((tmp_path / "then" / "text.json").read_text())
    assert told["recipe"]["start"]["step"] == 3
    assert all(torch.equal(again.average[n], t) for n, t in then.average.items())


def test_the_rate_warms_up_and_falls() -> None:
    rates = [TextRecipe().rate(step) for step in (0, 299, 1000, 1899)]
    assert rates[0] < 0.01 * rates[1]
    assert rates[1] > rates[2] > rates[3] > 0


def test_no_text_is_longer_than_the_context() -> None:
    (ids,) = read(["word " * 50])
    assert len(ids) == CONTEXT


def test_processes_draw_the_batches_that_one_draws(tmp_path: Path, space: Rows) -> None:
    """Steps without dropped merges are equal to the token; the others are drawn at random."""
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    drawer = Drawer(PHRASER, tokenizer, 16, 0.1, seed=3)
    alone, beside = (list(draw_batches(drawer, range(1, 6), n, pinned=False)) for n in (0, 2))
    assert len(alone) == len(beside) == 5
    for step, (one, other) in enumerate(zip(alone, beside, strict=True), 1):
        if step % 3:
            assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert (drawer[1].aim(torch.from_numpy(space)).norm(dim=1) - 1).abs().max() < 1e-5


def read(texts: list[str]) -> list[list[int]]:
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    tokenizer.enable_truncation(CONTEXT)
    return Drawer(PHRASER, tokenizer, 1, 0.1, seed=0).read(texts)
