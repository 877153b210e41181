"""Numbers of the doctor: pairs that a method compares, and the largest directions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training.family import small_config, write_images
from twinlens.training.doctor.measurements import LossProbe, measure_representation
from twinlens.training.loop.loop import train
from twinlens.training.objective import LossInputs
from twinlens.training.objectives.clip import CLIP
from twinlens.training.objectives.moco import MoCo
from twinlens.training.objectives.simclr import SimCLR
from twinlens.training.runs.logs import read_log
from twinlens.training.schedules import TrainingProgress
from twinlens.training.seeds import generator


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed))


def mean_cosine(one: Tensor, other: Tensor) -> float:
    a, b = one.numpy(), other.numpy()
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return float(((a * b).sum(-1) / lengths).mean())


def measured(objective: SimCLR | CLIP | MoCo, **parts: dict[str, Tensor]) -> dict[str, float]:
    empty: dict[str, dict[str, Tensor]] = {
        name: {} for name in ("student", "teacher", "shared", "state", "extra")
    }
    probe = LossProbe(objective)
    probe.due = True
    probe(LossInputs(**empty | parts, progress=TrainingProgress(0, 1)))
    return {name: float(value) for name, value in probe.take().values.items()}


def test_positive_pairs_are_two_views_of_an_image() -> None:
    z = draw(6, 2, 8)
    found = measured(SimCLR(), student={"z": z})
    assert found["positive_cosine"] == pytest.approx(mean_cosine(z[:, 0], z[:, 1]), abs=1e-6)


def test_positive_pairs_are_an_image_and_its_caption() -> None:
    x, y = draw(6, 8), draw(6, 8, seed=1)
    student = {"x": x, "y": y}
    found = measured(CLIP(), student=student, shared={"scale": torch.tensor(10.0)})
    assert found["positive_cosine"] == pytest.approx(mean_cosine(x, y), abs=1e-6)


def test_positive_pairs_are_a_view_and_the_teachers_answer() -> None:
    q, k = draw(6, 1, 8), draw(6, 1, 8, seed=1)
    inputs = {"student": {"q": q}, "teacher": {"k": k}, "state": {"queue": draw(4, 8, seed=2)}}
    found = measured(MoCo(queue=4, dim=8, symmetric=False), **inputs)
    assert found["positive_cosine"] == pytest.approx(mean_cosine(q, k), abs=1e-6)


def test_five_directions_hold_the_share_of_the_variance_that_numpy_finds() -> None:
    rows = draw(200, 1, 12) * torch.arange(1, 13)
    found = measure_representation(rows).finish()
    unit = rows[:, 0].numpy() / np.linalg.norm(rows[:, 0].numpy(), axis=1, keepdims=True)
    largest = np.linalg.eigvalsh(np.cov(unit.T))[::-1]
    assert found["top5_eigenvalues"] == pytest.approx(largest[:5].sum() / largest.sum(), rel=1e-3)
    assert found["top_eigenvalue"] == pytest.approx(largest[0] / largest.sum(), rel=1e-3)


def test_the_log_of_a_run_holds_them(tmp_path: Path) -> None:
    data = write_images(tmp_path / "data", 16)
    config = small_config("simclr", steps=2, log_every=1)
    train(config, str(data), tmp_path / "run")
    for row in read_log(tmp_path / "run"):
        assert -1 <= row["positive_cosine"] <= 1
        assert 0 < row["top_eigenvalue"] <= row["top5_eigenvalues"] <= 1
