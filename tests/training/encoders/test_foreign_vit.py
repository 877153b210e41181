"""Vision transformers of timm and open_clip: what they answer, at which sizes, and how they train.

Weights are random: what a tower answers must be what its own library answers, whatever they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.training.family import small_config, with_settings, write_images
from twinlens.errors import InputError
from twinlens.training.config import Config
from twinlens.training.encoders.catalogue import load_timm_weights, open_image_tower
from twinlens.training.encoders.foreign_vit import resize_positions
from twinlens.training.encoders.token_tower import TokenTower, pick
from twinlens.training.evaluation.report import evaluate_encoder
from twinlens.training.loop.loop import take_step, train
from twinlens.training.loop.opening import open_session
from twinlens.training.progress import Silent
from twinlens.training.runs.assembly import build_network
from twinlens.training.runs.run import open_run
from twinlens.training.seeds import generator

timm = pytest.importorskip("timm")
# Registers, distillation, mean and attention pooling, positions without the class token, rotary
# ones (fixed, mixed over depth, with learned ones beside them).
NATIVE = {
    "vit_tiny_patch16_224": 64,
    "vit_small_patch14_reg4_dinov2": 56,
    "deit_tiny_distilled_patch16_224": 64,
    "test_vit2": 64,
    "test_vit3": 64,
    "vit_tiny_patch16_dinov3_qkvb": 64,
    "eva02_tiny_patch14_224": 56,
    "vit_small_patch16_rope_mixed_224": 64,
}
PROVEN = {
    "timm:vit_tiny_patch16_224": 32,
    "timm:vit_small_patch14_reg4_dinov2": 28,
    "timm:deit_tiny_patch16_224": 32,
}
METHODS = ("dino", "dinov2", "ibot", "mae", "simmim", "beit", "swav")


def photos(side: int, n: int = 2) -> Tensor:
    return torch.randn(n, 3, side, side, generator=generator(0))


def token_tower(name: str, side: int) -> TokenTower:
    torch.manual_seed(0)
    tower = open_image_tower(name, side).eval()
    assert isinstance(tower, TokenTower)
    for parameter in tower.parameters():  # timm starts some at zero, which would hide a mistake
        nn.init.normal_(parameter, std=0.05)
    return tower


@torch.no_grad()
@pytest.mark.parametrize("name", NATIVE)
def test_a_tower_answers_what_timm_answers_at_its_own_size(name: str) -> None:
    side = NATIVE[name]
    tower = token_tower(f"timm:{name}", side)
    model: Any = tower.model
    images = photos(side)
    features = model.forward_features(images)
    expected = model.forward_head(features)
    tokens = tower.tokens(images)
    torch.testing.assert_close(tower(images), expected, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(tokens[:, 0], expected, atol=1e-6, rtol=1e-6)
    patches = features[:, model.num_prefix_tokens :]
    torch.testing.assert_close(tokens[:, 1:], patches, atol=1e-6, rtol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("name", ["vit_small_patch14_reg4_dinov2", "eva02_tiny_patch14_224"])
def test_at_another_size_it_answers_what_timm_answers_with_dynamic_sizes(name: str) -> None:
    tower = token_tower(f"timm:{name}", 56)
    model = timm.create_model(name, img_size=56, num_classes=0, dynamic_img_size=True).eval()
    model.load_state_dict(tower.model.state_dict())  # type: ignore[union-attr]
    images = photos(28)
    torch.testing.assert_close(tower(images), model(images), atol=1e-6, rtol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("name", NATIVE)
def test_hidden_patches_are_not_seen_and_kept_ones_are_all_that_is(name: str) -> None:
    side = NATIVE[name]
    tower = token_tower(f"timm:{name}", side)
    cells = side // tower.patch
    images, other = photos(side), photos(side)
    other[:, :, : tower.patch, : tower.patch] = 9.0
    hidden = torch.zeros(2, cells**2, dtype=torch.bool)
    hidden[:, 0] = True
    mask_token = torch.randn(tower.inner, generator=generator(1))
    one, two = (tower.tokens(x, hidden=hidden, mask_token=mask_token) for x in (images, other))
    assert torch.equal(one, two) and not torch.equal(one, tower.tokens(images))
    keep = torch.arange(1, cells**2).expand(2, -1)
    assert torch.equal(tower.tokens(images, keep=keep), tower.tokens(other, keep=keep))
    order = torch.randperm(cells**2, generator=generator(2)).expand(2, -1)
    kept, whole = tower.tokens(images, keep=order), tower.tokens(images)
    torch.testing.assert_close(kept[:, 1:], pick(whole[:, 1:], order), atol=2e-5, rtol=1e-4)


def test_positions_come_back_as_they_are_at_their_own_grid() -> None:
    positions = photos(12)[:1, 0, :10]  # a class token and 3 x 3 patches
    assert resize_positions(positions, (3, 3), 3, 3, 1) is positions
    resized = resize_positions(positions, (3, 3), 5, 4, 1)
    assert resized.shape == (1, 21, 12) and torch.equal(resized[:, 0], positions[:, 0])


TINY_CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16},
    "text_cfg": {"vocab_size": 64, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture
def clip(tmp_path: Path) -> Iterator[str]:
    path = tmp_path / "seen-clip.json"
    path.write_text(json.dumps(TINY_CLIP))
    open_clip.add_model_config(path)
    yield "open_clip:seen-clip"
    open_clip.factory._MODEL_CONFIG_PATHS.remove(path)
    open_clip.factory._MODEL_CONFIGS.pop("seen-clip")


@torch.no_grad()
def test_a_tower_of_open_clip_answers_what_it_answers_and_shows_its_patches(clip: str) -> None:
    tower = token_tower(clip, 32)
    model: Any = tower.model
    images = photos(32)
    torch.testing.assert_close(tower(images), model(images), atol=1e-6, rtol=1e-6)
    model.output_tokens = True
    patches = model(images)[1] @ model.proj
    tokens = tower.tokens(images)
    assert (tower.inner, tower.width) == (32, 16)
    torch.testing.assert_close(tokens[:, 1:], patches, atol=1e-6, rtol=1e-6)
    assert tower(photos(16)).shape == (2, 16)


@torch.no_grad()
def test_a_timm_trunk_of_open_clip_answers_through_its_projection(tmp_path: Path) -> None:
    """Also at a size that the trunk itself refuses."""
    path = tmp_path / "timm-clip.json"
    vision = {"timm_model_name": "test_vit", "timm_pool": "", "timm_proj": "linear"}
    towers = {"vision_cfg": vision | {"image_size": 160}, "text_cfg": TINY_CLIP["text_cfg"]}
    path.write_text(json.dumps({"embed_dim": 16} | towers))
    open_clip.add_model_config(path)
    try:
        tower = token_tower("open_clip:timm-clip", 160)
    finally:
        open_clip.factory._MODEL_CONFIG_PATHS.remove(path)
        open_clip.factory._MODEL_CONFIGS.pop("timm-clip")
    model: Any = tower.model
    images = photos(160)
    torch.testing.assert_close(tower(images), model(images), atol=1e-6, rtol=1e-6)
    patches = model.head(model.trunk.forward_features(images)[:, 1:])
    torch.testing.assert_close(tower.tokens(images)[:, 1:], patches, atol=1e-6, rtol=1e-6)
    assert (tower.inner, tower.width, tower.patch) == (64, 16, 16)
    assert tower(photos(64)).shape == (2, 16)


def masked_config(method: str, encoder: str, side: int) -> Config:
    """Return a method with narrow heads on a released architecture; nothing is saved."""
    config = small_config(method, encoder=encoder, image_size=side, batch=2, steps=3)
    return with_settings(config, save_every=100, optimizer="adamw", lr=1e-4)


def take_steps(config: Config, data: Path, run: Path, steps: int = 2) -> list[float]:
    session = open_session(config, str(data), run, Silent())
    losses = [take_step(session, step, Silent()) for step in range(steps)]
    session.close()
    return losses


@pytest.mark.parametrize("encoder", PROVEN)
@pytest.mark.parametrize("method", METHODS)
def test_crops_and_masks_train_on_released_architectures(
    method: str, encoder: str, tmp_path: Path
) -> None:
    data = write_images(tmp_path / "data", 8)
    losses = take_steps(masked_config(method, encoder, PROVEN[encoder]), data, tmp_path / "run")
    assert torch.tensor(losses).isfinite().all() and losses[0] != losses[1]


@pytest.mark.parametrize("method", ["dino", "ibot", "mae"])
def test_crops_and_masks_train_on_a_tower_of_open_clip(
    method: str, clip: str, tmp_path: Path
) -> None:
    data = write_images(tmp_path / "data", 8)
    losses = take_steps(masked_config(method, clip, 32), data, tmp_path / "run")
    assert torch.tensor(losses).isfinite().all()


@pytest.mark.parametrize("method", ["dino", "mae", "ibot"])
def test_continued_training_begins_at_what_the_weights_know(method: str, tmp_path: Path) -> None:
    """A net is trained and saved; another method starts from the file, and has learned nothing."""
    data = str(write_images(tmp_path / "data", 60, side=32))
    first = small_config("supcon", encoder="timm:test_vit", image_size=32, steps=8, lr=0.02)
    train(first, data, tmp_path / "first")
    trained = open_run(tmp_path / "first").image_encoder
    save_file(trained.model.state_dict(), tmp_path / "weights.safetensors")  # type: ignore[union-attr]
    encoder = f"timm:test_vit/{tmp_path / 'weights.safetensors'}"
    config = with_settings(masked_config(method, encoder, 32), lr=0.0, steps=1, save_every=0)
    train(config, data, tmp_path / "second")
    numbers = [
        evaluate_encoder(str(tmp_path / name), data, bank="", limit=0, display=Silent())
        for name in ("first", "second")
    ]
    assert numbers[0] == numbers[1] and numbers[0]["knn"] > 50
    with torch.no_grad():
        images = photos(32)
        again = open_run(tmp_path / "second").image_encoder
        torch.testing.assert_close(again(images), trained(images))


@torch.no_grad()
def test_weights_of_another_size_are_taken_with_their_positions_interpolated(
    tmp_path: Path,
) -> None:
    saved = timm.create_model("test_vit", img_size=64)
    save_file(saved.state_dict(), tmp_path / "weights.safetensors")
    ours = timm.create_model("test_vit", img_size=96, num_classes=0).eval()
    load_timm_weights(ours, tmp_path / "weights.safetensors")
    theirs = timm.create_model("test_vit", img_size=96, num_classes=0).eval()
    kept = {k: v for k, v in saved.state_dict().items() if not k.startswith("head")}
    theirs.load_state_dict(timm.models.vision_transformer.checkpoint_filter_fn(kept, theirs))
    torch.testing.assert_close(ours(photos(96)), theirs(photos(96)))


def test_sides_that_patches_do_not_divide_are_refused_with_sides_that_they_do() -> None:
    config = small_config("dino", encoder="timm:vit_small_patch14_reg4_dinov2", image_size=64)
    with pytest.raises(InputError, match=r"use a multiple of 14, e\.g\. 56 or 70"):
        build_network(config)


def test_an_encoder_of_one_size_refuses_small_crops_with_the_remedy() -> None:
    config = small_config("dino", encoder="timm:swin_tiny_patch4_window7_224", image_size=56)
    with pytest.raises(
        InputError, match=r"and the local views have 32 .*--set local\.size_ratio=1"
    ):
        build_network(config)
