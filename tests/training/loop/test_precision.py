"""bf16 and `torch.compile` change the speed of a run and not what it learns."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.family import ALL, small_config, write_images
from tests.training.loop.test_resume import Died, DiesAt, assert_same_bytes
from twinlens.training.config import Config
from twinlens.training.encoders.catalogue import open_image_tower
from twinlens.training.encoders.single_pixels import guard_single_pixels
from twinlens.training.loop.loop import train
from twinlens.training.runs.logs import read_log

# A plain one, crops of two sizes with an EMA teacher and a centre, two towers with a learned scale.
METHODS = ("simclr", "dino", "clip")


def short(method: str, **settings: Any) -> Config:
    """Return a run whose steps are small, so that differences are not blown up on the way."""
    return small_config(method, steps=3, save_every=1, log_every=1, lr=1e-3, **settings)


def losses(method: str, data: str, out: Path, **settings: Any) -> list[float]:
    """Return the loss of each step of a short run."""
    config = short(method, **settings)
    train(config, data, out)
    return [float(row["loss"]) for row in read_log(out)]


@pytest.mark.parametrize("method", METHODS)
def test_bf16_learns_what_fp32_learns_and_resumes_to_the_byte(method: str, tmp_path: Path) -> None:
    data = str(write_images(tmp_path / "data", 20))
    encoder = "vit-nano/4" if method == "clip" else "resnet-tiny"
    wide = losses(method, data, tmp_path / "fp32", encoder=encoder)
    config = {"precision": "bf16", "encoder": encoder}
    narrow = losses(method, data, tmp_path / "bf16", **config)
    assert narrow[0] == pytest.approx(wide[0], rel=0.02)
    assert narrow == pytest.approx(wide, rel=0.1)
    assert narrow != wide  # it was bf16 indeed
    resumed = short(method, **config)
    with pytest.raises(Died):
        train(resumed, data, tmp_path / "killed", DiesAt(2))
    train(resumed, data, tmp_path / "killed")
    assert_same_bytes(tmp_path / "bf16", tmp_path / "killed")


@pytest.mark.parametrize(("encoder", "side"), [("resnet-tiny", 8), ("timm:test_resnet", 16)])
def test_the_bf16_gradient_of_single_pixels_reads_no_stale_memory(encoder: str, side: int) -> None:
    """On so few pixels the last stage sees one; oneDNN read what lay around."""
    torch.manual_seed(0)
    tower, images = open_image_tower(encoder, side), torch.randn(16, 3, side, side)
    found = []
    for _ in range(6):
        tower.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            rows = tower(images)
        del_soon = [torch.full((2**power,), float("nan")) for power in range(8, 20)]
        del del_soon
        rows.float().square().sum().backward()
        slopes = [parameter.grad for parameter in tower.parameters()]
        found.append(torch.cat([slope.flatten() for slope in slopes if slope is not None]))
    assert all(torch.equal(gradient, found[0]) for gradient in found)
    assert found[0].isfinite().all()


def test_the_guard_of_single_pixels_changes_no_output() -> None:
    plain = torch.nn.Conv2d(4, 5, 3, 2, 1)
    guarded = copy.deepcopy(plain)
    guard_single_pixels(guarded)
    for side in (1, 2, 5):
        images = torch.randn(2, 4, side, side)
        assert torch.equal(guarded(images), plain(images))


def compare_compiled(method: str, folder: Path, encoder: str) -> None:
    data = str(write_images(folder / "data", 20))
    plain = losses(method, data, folder / "plain", encoder=encoder)
    torch.compiler.reset()
    compiled = losses(method, data, folder / "compiled", encoder=encoder, compile=True)
    assert compiled == pytest.approx(plain, rel=1e-5)


def test_a_compiled_run_has_the_losses_of_a_plain_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced whole, backward as well; the code generator is left to the slow test."""
    graphs = []

    def count(module: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
        graphs.append(module)
        return module.forward

    whole = functools.partial(torch.compile, backend=count, fullgraph=True)
    monkeypatch.setattr(torch, "compile", whole)
    compare_compiled("simclr", tmp_path, "vit-nano/4")
    assert graphs


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # GRU
@pytest.mark.parametrize("method", ALL)
def test_every_method_compiles(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced = functools.partial(torch.compile, backend="aot_eager")
    monkeypatch.setattr(torch, "compile", traced)
    compare_compiled(method, tmp_path, "vit-nano/4")


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["vit-nano/4", "resnet-tiny"])
def test_generated_code_has_the_losses_of_a_plain_run(encoder: str, tmp_path: Path) -> None:
    compare_compiled("simclr", tmp_path, encoder)
