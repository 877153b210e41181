"""Runs that start from somebody's towers: they see and answer as their source does."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from tests.training.family import small_config, with_settings, write_images
from tests.training.test_served import some_images
from twinlens.bundle.encoder import Encoder, open_bundle
from twinlens.errors import InputError, NotFoundError
from twinlens.training.config import Config
from twinlens.training.export import SourceOptions, export_encoder, load_source
from twinlens.training.loop.loop import train
from twinlens.training.runs.run import open_run
from twinlens.training.runs.starting import apply_pairs, start_from

timm = pytest.importorskip("timm")
TEXT = {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
VISION = {"image_size": 48, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16}
RESNET = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None}
KINDS: dict[str, dict[str, Any]] = {
    "vit": {"embed_dim": 24, "vision_cfg": VISION, "text_cfg": TEXT},
    "resnet": {"embed_dim": 24, "vision_cfg": RESNET, "text_cfg": TEXT, "quick_gelu": True},
    "both-ways": {
        "embed_dim": 24,
        "init_logit_bias": -10,
        "vision_cfg": VISION,
        "text_cfg": TEXT | {"no_causal_mask": True, "pool_type": "last"},
        "custom_text": True,
    },
}
TEXTS = ["a red square", "something that nobody ever wrote", "x", "many words " * 30]
COSINE = 0.9999


@pytest.fixture
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Return the name of a small open_clip model, with its weights in a file."""
    kind = getattr(request, "param", "vit")
    path = tmp_path / f"small-{kind}.json"
    path.write_text(json.dumps(KINDS[kind]))
    open_clip.add_model_config(path)
    torch.manual_seed(5)
    model = open_clip.create_model(path.stem)
    with torch.no_grad():
        model.logit_scale.fill_(3.0)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                assert module.running_mean is not None and module.running_var is not None
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    save_file(model.state_dict(), tmp_path / "clip.safetensors")
    yield f"open_clip:{path.stem}/{tmp_path / 'clip.safetensors'}"
    open_clip.factory._MODEL_CONFIG_PATHS.remove(path)
    open_clip.factory._MODEL_CONFIGS.pop(path.stem)


def still(config: Config, source: str, **settings: Any) -> Config:
    """Return the config of a run from `source` that moves nothing."""
    return with_settings(start_from(config, source), lr=0.0, steps=2, **settings)


def bundle(source: str, folder: Path) -> Encoder:
    """Export a source, and open what came of it."""
    export_encoder(load_source(source, SourceOptions()), folder, precisions=("fp32",))
    return open_bundle(folder)


def assert_close(ours: Any, theirs: Any) -> None:
    assert np.sum(np.asarray(ours) * np.asarray(theirs), axis=1).min() >= COSINE


@pytest.mark.parametrize(
    ("source", "method"),
    [("vit", "clip"), ("resnet", "clip"), ("both-ways", "siglip"), ("vit", "devise")],
    indirect=["source"],
)
def test_a_run_that_does_not_move_answers_as_its_source_does(
    source: str, method: str, tmp_path: Path
) -> None:
    config = still(small_config(method, seed=7), source, freeze="image,text" * (method != "devise"))
    train(config, str(write_images(tmp_path / "data", 8)), tmp_path / "run")
    ours, theirs = bundle(str(tmp_path / "run"), tmp_path / "a"), bundle(source, tmp_path / "b")
    images = some_images()
    assert_close(ours.embed_images(images), theirs.embed_images(images))
    assert_close(ours.embed_texts(TEXTS), theirs.embed_texts(TEXTS))
    if method == "clip":
        assert ours.manifest.similarity.scale == pytest.approx(theirs.manifest.similarity.scale)
    one, other = ours.manifest.text, theirs.manifest.text
    assert one is not None and other is not None
    assert one.context_length == other.context_length == 20
    assert one.cut_to_longest == other.cut_to_longest


def test_a_run_that_moves_no_longer_answers_as_its_source_does(source: str, tmp_path: Path) -> None:
    config = with_settings(start_from(small_config("clip"), source), lr=0.05, steps=2)
    train(config, str(write_images(tmp_path / "data", 8)), tmp_path / "run")
    towers = open_run(tmp_path / "run").towers
    train(with_settings(config, lr=0.0), str(tmp_path / "data"), tmp_path / "still")
    images = torch.randn(4, 3, 48, 48)
    with torch.no_grad():
        moved = towers["image"](images)
        stayed = open_run(tmp_path / "still").towers["image"](images)
    assert torch.nn.functional.cosine_similarity(moved, stayed).min() < COSINE


def test_a_run_goes_on_from_another_run(tmp_path: Path) -> None:
    data = str(write_images(tmp_path / "data", 8))
    train(small_config("clip", steps=2), data, tmp_path / "first")
    config = still(small_config("siglip", seed=9), str(tmp_path / "first"))
    assert config.objective.dim == 8 and config.settings.text_width == 16
    train(config, data, tmp_path / "second")
    one, other = open_run(tmp_path / "first"), open_run(tmp_path / "second")
    tokens, images = torch.tensor([[2, 5, 6], [2, 7, 0]]), torch.randn(2, 3, 16, 16)
    for side, rows in (("image", images), ("text", tokens)):
        torch.testing.assert_close(one.towers[side](rows), other.towers[side](rows))
    assert other.learned["scale"] == pytest.approx(one.learned["scale"])
    assert (tmp_path / "second" / "tokenizer.json").read_bytes() == (
        tmp_path / "first" / "tokenizer.json"
    ).read_bytes()


def test_an_image_method_takes_the_teacher_of_a_run(tmp_path: Path) -> None:
    data = str(write_images(tmp_path / "data", 8))
    train(small_config("dino", steps=2), data, tmp_path / "first")
    train(still(small_config("simclr"), str(tmp_path / "first")), data, tmp_path / "second")
    images = torch.randn(2, 3, 16, 16)
    served = [open_run(tmp_path / name).towers["image"](images) for name in ("first", "second")]
    torch.testing.assert_close(*served)


def test_an_image_method_answers_as_the_timm_model_it_started_from(tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = timm.create_model("test_vit", num_classes=0)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    source = f"timm:test_vit/{tmp_path / 'weights.safetensors'}"
    train(
        still(small_config("simclr", seed=7), source),
        str(write_images(tmp_path / "data", 8)),
        tmp_path / "run",
    )
    ours, theirs = bundle(str(tmp_path / "run"), tmp_path / "a"), bundle(source, tmp_path / "b")
    assert_close(ours.embed_images(some_images()), theirs.embed_images(some_images()))
    one, other = ours.manifest.image, theirs.manifest.image
    assert one is not None and other is not None
    assert dataclasses.replace(one, mean=other.mean, std=other.std) == other


def test_what_is_set_wins_over_what_init_brings(source: str) -> None:
    config = apply_pairs(small_config("clip"), ["context=10", f"init={source}", "dim=12"])
    assert config.settings.context == 10 and config.objective.dim == 12
    assert config.settings.image_size == 48 and config.settings.convert == "after_resize"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("opne_clip:ViT-B-32", "did you mean open_clip:ViT-B-32"),
        ("nowhere", "neither the folder of a training run"),
        ("open_clip:ViT-B-33", "did you mean 'ViT-B-32'"),
        ("open_clip:ViT-B-32//no/file.pt", "neither a file nor a tag"),
        ("open_clip:ViT-B-16-SigLIP", "tokenizer of the hub"),
        ("timm:resnet5O", "did you mean resnet50"),
        ("timm:resnet50//no/file.safetensors", "is no file"),
    ],
)
def test_a_wrong_source_is_refused_in_one_line(wrong: str, told: str) -> None:
    with pytest.raises((InputError, NotFoundError), match=told) as caught:
        start_from(small_config("clip"), wrong)
    assert "\n" not in str(caught.value)


def test_an_encoder_beside_init_is_refused(source: str, tmp_path: Path) -> None:
    config = with_settings(start_from(small_config("clip"), source), encoder="resnet-tiny")
    with pytest.raises(InputError, match="leave encoder out"):
        train(config, str(tmp_path / "no-data"), tmp_path / "run")


def test_texts_longer_than_the_tower_takes_are_refused(source: str, tmp_path: Path) -> None:
    config = with_settings(start_from(small_config("clip"), source), context=40)
    with pytest.raises(InputError, match="at most 20 tokens; --set context=20"):
        train(config, str(tmp_path / "no-data"), tmp_path / "run")
