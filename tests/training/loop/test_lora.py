"""LoRA: a run begins as its source, moves adapters alone, and is served merged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.training.family import small_config, with_settings, write_images
from tests.training.loop.test_resume import Died, DiesAt, assert_same_bytes
from twinlens.bundle.encoder import open_bundle
from twinlens.errors import InputError
from twinlens.training.config import Config
from twinlens.training.evaluation.embeddings import RunEmbedder
from twinlens.training.export import SourceOptions, export_encoder, load_source
from twinlens.training.loop.loop import train
from twinlens.training.loop.run_model import prepare_towers
from twinlens.training.nn.lora import merge_adapters
from twinlens.training.runs.assembly import build_network
from twinlens.training.runs.run import find_served, open_run
from twinlens.training.runs.starting import start_from

timm = pytest.importorskip("timm")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a source: a small timm model with its weights in a file."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("timm") / "weights.safetensors"
    save_file(timm.create_model("test_vit", num_classes=0).state_dict(), path)
    return f"timm:test_vit/{path}"


def adapted(weights: str, method: str = "simclr", **settings: Any) -> Config:
    usual: dict[str, Any] = {"image_size": 32, "lora": 2, "optimizer": "adamw", "lr": 0.01}
    config = start_from(small_config(method), weights)
    return with_settings(config, **(usual | {"steps": 3} | settings))


def checkpoint(run: Path, kind: str) -> dict[str, torch.Tensor]:
    return load_file(find_served(run, best=False) / f"{kind}.safetensors")


@pytest.mark.parametrize("method", ["simclr", pytest.param("dino", marks=pytest.mark.slow)])
def test_adapters_train_alone_and_the_served_tower_has_them_merged(
    method: str, weights: str, tmp_path: Path
) -> None:
    config = adapted(weights, method)
    train(config, str(write_images(tmp_path / "data", 20)), tmp_path / "run")
    stored, start = checkpoint(tmp_path / "run", "weights"), load_file(weights.partition("/")[2])
    base = {name: value for name, value in stored.items() if name.endswith("weight.original")}
    assert len(base) % 4 == 0 and base  # qkv, proj and two layers a block
    for name, value in base.items():
        plain = name.removeprefix("image.model.").replace(
            "parametrizations.weight.original", "weight"
        )
        assert torch.equal(value, start[plain])
    image = [n for n in checkpoint(tmp_path / "run", "optimizer") if n.startswith("image.")]
    assert image and all(".0.up/" in name or ".0.down/" in name for name in image)
    served = open_run(tmp_path / "run").image_encoder
    assert not any("parametrizations" in name for name in served.state_dict())
    live = build_network(config)
    prepare_towers(config, live)
    live.parts.load_state_dict(stored)
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        unmerged, merged = live.eval()["image"](images), served(images)
        fresh = build_network(config).eval()["image"](images)
    if method == "simclr":
        torch.testing.assert_close(merged, unmerged, rtol=1e-5, atol=1e-5)
    assert (merged - fresh).abs().max() > 1e-3


def test_a_run_begins_exactly_as_its_source(weights: str) -> None:
    config = adapted(weights)
    plain, net = build_network(config), build_network(config)
    prepare_towers(config, net)
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(plain.eval()["image"](images), net.eval()["image"](images))
    trains = {name for name, own in net["image"].named_parameters() if own.requires_grad}
    assert trains and all(name.endswith((".0.up", ".0.down")) for name in trains)
    assert all(own.requires_grad for own in net["projector"].parameters())


def test_merging_adds_the_scaled_product() -> None:
    draws = torch.Generator().manual_seed(0)
    weight, up, down = (torch.randn(*shape, generator=draws) for shape in ((5, 4), (5, 2), (2, 4)))
    stored = {
        "a.parametrizations.weight.original": weight,
        "a.parametrizations.weight.0.up": up,
        "a.parametrizations.weight.0.down": down,
        "a.bias": torch.ones(5),
    }
    merged = merge_adapters(stored, rank=2, alpha=16)
    assert merged.keys() == {"a.weight", "a.bias"}
    torch.testing.assert_close(merged["a.weight"], weight + 8 * up @ down)


@pytest.mark.slow
def test_a_bundle_answers_as_the_adapted_run_and_another_run_starts_from_it(
    weights: str, tmp_path: Path
) -> None:
    data = str(write_images(tmp_path / "data", 20))
    train(adapted(weights, eval="", lr=0.05), data, tmp_path / "run")
    export_encoder(
        load_source(str(tmp_path / "run"), SourceOptions()), tmp_path / "b", precisions=("fp32",)
    )
    bundle, run = open_bundle(tmp_path / "b"), open_run(tmp_path / "run")
    pixels = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8).numpy()
    ours = torch.nn.functional.normalize(RunEmbedder(run).images(pixels), dim=1)
    theirs = torch.from_numpy(bundle.encode_pixels(pixels))
    assert (ours * torch.nn.functional.normalize(theirs, dim=1)).sum(1).min() > 0.99999
    again = start_from(small_config("byol"), str(tmp_path / "run"))
    train(with_settings(again, lr=0.0, steps=1), data, tmp_path / "second")
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        second = open_run(tmp_path / "second").image_encoder(images)
        torch.testing.assert_close(run.image_encoder(images), second)


@pytest.mark.slow
def test_a_killed_run_of_adapters_ends_with_the_same_bytes(weights: str, tmp_path: Path) -> None:
    data = str(write_images(tmp_path / "data", 20))
    config = adapted(weights, steps=4, save_every=2, log_every=1)
    train(config, data, tmp_path / "straight")
    with pytest.raises(Died):
        train(config, data, tmp_path / "killed", DiesAt(3))
    train(config, data, tmp_path / "killed")
    assert_same_bytes(tmp_path / "straight", tmp_path / "killed")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"init": "", "encoder": "vit-nano/4"}, "--set init=SOURCE"),
        ({"init": "", "encoder": "timm:test_resnet/x.safetensors"}, "no blocks with linear layers"),
        ({"freeze": "image"}, "nothing to adapt"),
        ({"parallel": "fsdp"}, "--set parallel=ddp"),
    ],
)
def test_lora_is_refused_where_it_cannot_apply(
    settings: dict[str, Any], told: str, weights: str, tmp_path: Path
) -> None:
    if "x.safetensors" in str(settings):
        path = tmp_path / "x.safetensors"
        save_file(timm.create_model("test_resnet", num_classes=0).state_dict(), path)
        settings = settings | {"encoder": f"timm:test_resnet/{path}"}
    with pytest.raises(InputError, match=told):
        train(adapted(weights, **settings), str(tmp_path / "none"), tmp_path / "run")
