"""The row of a photograph, and the gate."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from recipes.builtin.photographs.heads import fit_first_gate, fit_last_gate, make_head
from recipes.builtin.photographs.joined import PhotoTower
from recipes.builtin.photographs.space import unit

rng = np.random.default_rng(0)


def test_features_of_a_class_become_its_row() -> None:
    space = unit(rng.normal(size=(6, 16)).astype(np.float32))
    tower = nn.Module()
    tower.classifier = nn.Linear(32, 6)
    head = make_head(tower, space, np.zeros(32, np.float32), share=0.5)
    features = 30 * (head.weight - head.weight.mean(0)) / head.weight.std()
    rows = PhotoTower(nn.Identity(), head).read(torch.from_numpy(features)).numpy()
    assert ((rows @ space.T).argmax(1) == np.arange(6)).all()
    assert np.diag(rows @ space.T).min() > 0.9


def test_a_dimension_that_varies_less_over_the_classes_counts_more() -> None:
    space = unit((rng.normal(size=(50, 16)) * np.linspace(2, 0.5, 16)).astype(np.float32))
    tower = nn.Module()
    tower.classifier = nn.Linear(32, 50)
    stress = make_head(tower, space, np.zeros(32, np.float32)).stress
    assert np.allclose(stress * space.std(0), space.std(0)[0], atol=1e-5)


def draw(shift: float) -> np.ndarray:
    return (rng.normal(size=(200, 10)) + shift).astype(np.float32)


def test_the_last_gate_tells_two_kinds_apart_and_puts_the_third_between() -> None:
    gate = fit_last_gate({1.0: draw(2.0), 0.0: draw(-2.0), 0.5: draw(0.0)})
    shares = [np.clip(draw(s) @ gate.weight + gate.bias, 0, 1).mean() for s in (2.0, 0.0, -2.0)]
    assert shares[0] > 0.9
    assert 0.3 < shares[1] < 0.7
    assert shares[2] < 0.1


def test_no_photograph_passes_the_first_gate_and_most_drawings_do() -> None:
    kinds = {1.0: draw(1.0), 0.0: draw(-1.0), 0.3: draw(-0.5)}
    gate = fit_first_gate(kinds)
    passed = {kind: (rows @ gate.weight + gate.bias >= 1).mean() for kind, rows in kinds.items()}
    assert passed[0.0] == passed[0.3] == 0
    assert passed[1.0] > 0.8
