"""docs/families.md has every method, and what draws its pictures lays them out as it says."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.training.family import small_config
from twinlens.training.config import Config
from twinlens.training.nn.network import Network
from twinlens.training.nn.reconstruction import cut_patches
from twinlens.training.objectives import METHODS
from twinlens.training.runs.assembly import build_network

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "families.md"
LARGEST = 60_000  # bytes of a picture


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from galleries import answers as module

    yield module
    for name in [name for name in sys.modules if name.startswith("galleries")]:
        del sys.modules[name]


def test_every_method_has_its_row_or_is_said_to_wait_and_every_picture_is_small() -> None:
    page = PAGE.read_text(encoding="utf-8")
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| ")]
    named = {row[2].strip() for row in rows}
    waiting = re.search(r"^Not measured yet: ([^.]*)\.", page, re.M)
    named |= set(re.findall(r"`(\w+)`", waiting[1])) if waiting else set()
    assert named >= set(METHODS)
    pictures = re.findall(r"\(img/([\w-]+\.(?:webp|svg))\)", page)
    assert len(pictures) >= 6
    for name in pictures:
        assert (ROOT / "docs" / "img" / name).stat().st_size < LARGEST, name


def test_pictures_of_patches_and_of_cells_are_the_pictures(answers: Any) -> None:
    images = torch.rand(2, 3, 12, 12)
    assert torch.equal(answers.lay_patches(cut_patches(images, 4), 4, 3), images)
    laid = answers.lay_cells(answers.cut_cells(images, 3), 3)
    kept = [row for row in range(15) if row % 5 != 4]
    assert torch.equal(laid[..., kept, :][..., kept], images)
    assert (laid[..., 4, :] == 1).all() and (laid[..., 4] == 1).all()


@pytest.mark.parametrize("name", ["jigsaw", "rotation", "context"])
def test_a_right_answer_puts_the_picture_together_again(
    name: str, answers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(name)

    def know(config: Config, net: Network, pictures: torch.Tensor, **extra: torch.Tensor) -> Any:
        turns = torch.eye(4).expand(len(pictures), 4, 4)
        if name == "rotation":
            return {"logits": turns}
        options = torch.eye(config.objective.answers())
        return {"logits": options[extra["answer"]][:, None]}

    monkeypatch.setattr(answers, "ask", know)
    shown, found, *rest = answers.DRAWN[name](config, SimpleNamespace(), torch.rand(5, 3, 12, 12))
    if name == "context":  # where it was told to be, and where it was
        assert torch.equal(shown, found)
        return
    assert torch.equal(found, rest[0]) and not torch.equal(shown, found)


@pytest.mark.parametrize("name", ["colorize", "autoencoder", "autoencoder-denoising", "mae"])
def test_a_strip_of_an_untrained_network_is_drawn(name: str, answers: Any, tmp_path: Path) -> None:
    config = small_config(name, encoder="resnet-tiny")
    drawn = name if name in answers.DRAWN else "denoising"
    strip = answers.DRAWN[drawn](config, build_network(config).eval(), torch.rand(3, 3, 16, 16))
    assert all(row.shape == (3, 3, 16, 16) and row.isfinite().all() for row in strip)
    answers.save_strip(strip, tmp_path / "strip.webp")
    assert (tmp_path / "strip.webp").stat().st_size > 100
