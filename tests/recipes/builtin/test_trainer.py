"""The run: batches as declared, one step learns, and a stopped run goes on where it was."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from recipes.builtin.captions import Captioner
from recipes.builtin.corpus import Corpus
from recipes.builtin.evaluation import rank, recall
from recipes.builtin.optimizer import Optimizer, orthogonalise
from recipes.builtin.recipe import Recipe
from recipes.builtin.sampling import Mix, Sampler
from recipes.builtin.trainer import LOG, Trainer, find_partners, gather_facts
from recipes.builtin.words import read_words
from twinlens.training.progress import Silent

MIX = Mix(concepts=6, styles=2, icons=6, clothes=4, crowds=1, crowd=3)
RECIPE = Recipe(steps=20, finish=4, mix=MIX, late=MIX, size=32, warmup=1, held_out=())


def _trainer(corpus: Corpus, out: Path) -> Trainer:
    return Trainer(corpus, out, RECIPE, Silent())


def test_a_batch_holds_two_styles_of_each_concept_then_icons_then_clothes(corpus: Corpus) -> None:
    batch = Sampler(corpus, MIX, random.Random(0)).batch()
    emoji = [corpus.emoji.rows[i]["hexcode"] for i in batch[:12]]
    assert len(set(emoji)) == 6
    assert all(emoji.count(hexcode) == 2 for hexcode in emoji)
    icons = len(corpus.emoji)
    assert all(icons <= i < icons + 20 for i in batch[12:18])
    assert all(i >= icons + 20 for i in batch[18:])


def test_the_styles_of_a_concept_are_by_different_designers(corpus: Corpus) -> None:
    names = {"noto": "fluent_3d", "flat": "fluent_flat", "line": "emojitwo_bw"}
    rows = [{**row, "style": names[row["style"]]} for row in corpus.emoji.rows]
    emoji = dataclasses.replace(corpus.emoji, rows=rows)
    sampler = Sampler(dataclasses.replace(corpus, emoji=emoji), MIX, random.Random(0))
    for _ in range(10):
        styles = [rows[i]["style"] for i in sampler.batch()[:12]]
        assert styles.count("emojitwo_bw") == 6


def test_every_image_is_drawn_eventually(corpus: Corpus) -> None:
    sampler = Sampler(corpus, MIX, random.Random(0))
    seen = {i for _ in range(60) for i in sampler.batch()}
    assert len(seen) == len(corpus.emoji) + len(corpus.icons) + len(corpus.clothes)


def test_facts_are_in_the_order_of_the_images(corpus: Corpus) -> None:
    facts = gather_facts(corpus, Captioner(corpus, read_words(), random.Random(0)))
    emoji, icons = len(corpus.emoji), len(corpus.icons)
    assert facts.labels[0] == facts.labels[1] != facts.labels[3]  # styles of one concept
    assert facts.kinds.monochrome[:3].tolist() == [False, False, True]
    assert facts.kinds.monochrome[emoji : emoji + icons].all()
    assert facts.kinds.photos.tolist() == [False] * (emoji + icons) + [True] * len(corpus.clothes)
    assert (facts.classes["groups"][emoji:] == -1).all()
    assert (facts.classes["clothes"][: emoji + icons] == -1).all()


def test_orthogonalised_matrices_have_singular_values_near_one() -> None:
    for shape in ((32, 64), (64, 32)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)))
        assert values.min() > 0.5
        assert values.max() < 1.4


def test_a_few_steps_lower_the_loss(corpus: Corpus, tmp_path: Path) -> None:
    trainer = _trainer(corpus, tmp_path)
    first = sum(trainer.take_step().values())
    for _ in range(12):
        last = sum(trainer.take_step().values())
    assert last < 0.95 * first


def test_a_saved_run_goes_on_with_equal_weights_moments_and_time(
    corpus: Corpus, tmp_path: Path
) -> None:
    trainer = _trainer(corpus, tmp_path)
    for _ in range(2):
        trainer.take_step()
    trainer.seconds = 7.5
    trainer.save()
    again = _trainer(corpus, tmp_path)
    assert (again.step, again.views, again.seconds) == (2, trainer.views, 7.5)
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name
        assert torch.equal(trainer.average[name], again.average[name]), name
    kept = again._optimizer.state()
    for name, value in trainer._optimizer.state().items():
        assert torch.equal(value, kept[name]), name
    again.take_step()
    assert again.step == 3


def test_a_parameter_without_gradient_stays(corpus: Corpus, tmp_path: Path) -> None:
    layer = torch.nn.Linear(4, 4)
    before = layer.weight.detach().clone()
    Optimizer(layer).step(0.1)
    assert torch.equal(layer.weight, before)


def test_ties_count_against_the_encoder() -> None:
    same = np.full((3, 4), 0.5, np.float32)
    assert recall(rank(same, same, np.arange(3)), 1) == 0.0
    apart = np.eye(3, 4, dtype=np.float32)
    assert recall(rank(apart, apart, np.arange(3)), 1) == 1.0


def test_a_partner_is_another_drawing_of_the_same_concept(corpus: Corpus) -> None:
    labels = torch.tensor([5, 5, 5, 8, 9, 9, 3, 3])
    photos = torch.tensor([False] * 6 + [True] * 2)
    assert find_partners(labels, photos).tolist() == [1, 2, 1, 3, 5, 4, 6, 7]


def test_a_run_ends_at_its_last_step_and_writes_its_terms_down(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recipes.builtin.trainer._LOG_EVERY", 2)
    recipe = dataclasses.replace(
        RECIPE, steps=4, finish=1, mix=Mix(2, 2, 2, 2, 1, 1), late=Mix(2, 2, 2, 3, 1, 1, 5)
    )
    trainer = Trainer(corpus, tmp_path, recipe, Silent())
    trainer.run(until=3)
    assert trainer.step == 3
    again = Trainer(corpus, tmp_path, recipe, Silent())
    again.run()
    assert again.step == 5
    late = Trainer(corpus, tmp_path, recipe, Silent())
    late.take_step()
    assert late.views == again.views + 2 * 2 + 2 + 3  # the mix of the second part
    lines = (tmp_path / LOG).read_text().splitlines()
    assert json.loads(lines[-1])["step"] == 4
    progress = json.loads((tmp_path / "progress.json").read_text())
    assert progress["step"] == 5
    assert progress["recipe"]["mix"]["concepts"] == 2
