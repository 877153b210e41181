"""The visual tokenizer learns pictures: it uses its codes, and its codes hold what a patch is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.training.family import small_config, write_images
from twinlens.errors import InputError, NotFoundError
from twinlens.training.loop.loop import train
from twinlens.training.nn.visual_tokenizer import (
    FILE,
    VisualTokenizer,
    fit_tokenizer,
    read_visual_tokenizer,
)
from twinlens.training.seeds import generator


def pictures(steps: int, n: int = 16) -> list[Tensor]:
    """Return batches of images (n, 3, 16, 16) of 4 x 4 patches, each of one of six colours."""
    colours = torch.tensor(
        [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1], [1, 0, 1]], dtype=torch.float32
    )
    batches = []
    for step in range(steps):
        draws = generator(3, step)
        cells = colours[torch.randint(6, (n, 4, 4), generator=draws)].permute(0, 3, 1, 2)
        cells = cells.repeat_interleave(4, 2).repeat_interleave(4, 3)
        batches.append(cells * 2 - 1 + 0.1 * torch.randn(cells.shape, generator=draws))
    return batches


@pytest.fixture(scope="module")
def trained() -> VisualTokenizer:
    torch.manual_seed(0)
    tokenizer = VisualTokenizer(4, 16)
    losses = fit_tokenizer(tokenizer, pictures(80), seed=0)
    assert losses[-1] < 0.5 * losses[0]
    return tokenizer


def test_reconstructions_are_far_nearer_than_the_mean_colour(trained: VisualTokenizer) -> None:
    images = pictures(200)[-1]
    error = (trained.reconstruct(images) - images).square().mean()
    assert float(error) < 0.25 * float(images.var())


def test_equal_patches_get_equal_codes_and_others_other_ones(trained: VisualTokenizer) -> None:
    images = pictures(200)[-1]
    codes = trained.codes(images)
    assert codes.shape == (16, 16) and codes.dtype == torch.int64
    colours = (images[:, :, 2::4, 2::4] > 0).long()  # (n, 3, 4, 4)
    kinds = (colours * torch.tensor([1, 2, 4])[:, None, None]).sum(dim=1).flatten(1)
    # Each code stands for one colour nearly always.
    table = torch.zeros(16, 8).index_put_((codes.flatten(), kinds.flatten()), torch.ones(256), True)
    assert float(table.max(dim=1).values.sum()) / 256 > 0.9
    assert len(codes.unique()) >= 6


def test_training_is_a_function_of_its_seed() -> None:
    def train_once() -> dict[str, Tensor]:
        torch.manual_seed(0)
        tokenizer = VisualTokenizer(4, 8)
        fit_tokenizer(tokenizer, pictures(5), seed=0)
        return tokenizer.state_dict()

    one, other = train_once(), train_once()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_trains_its_tokenizer_once_and_another_run_may_use_it(tmp_path: Path) -> None:
    data = str(write_images(tmp_path / "data", 20))
    train(small_config("beit", steps=1), data, tmp_path / "first")
    file = tmp_path / "first" / FILE
    before = file.read_bytes()
    config = small_config("beit", steps=2)
    objective = type(config.objective)(**{**vars(config.objective), "tokenizer": str(file)})
    train(type(config)("beit", objective, config.settings), data, tmp_path / "second")
    one, other = load_file(file), load_file(tmp_path / "second" / FILE)
    assert file.read_bytes() == before
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_tokenizer_of_another_size_is_refused(tmp_path: Path) -> None:
    train(small_config("beit", steps=1), str(write_images(tmp_path / "d", 9)), tmp_path / "run")
    with pytest.raises(InputError, match="not for patches of 4 pixels and 13 codes"):
        read_visual_tokenizer(tmp_path / "run" / FILE, 4, 13)
    with pytest.raises(NotFoundError, match="no such file"):
        read_visual_tokenizer(tmp_path / "absent", 4, 12)
