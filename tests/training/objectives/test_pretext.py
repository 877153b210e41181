"""What a pretext task asks is what was drawn, and what it cannot ask is refused before data."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.training.family import small_batch, small_config, small_network, write_images
from twinlens.errors import InputError
from twinlens.training.config import apply_sets
from twinlens.training.loop.loop import train
from twinlens.training.nn.network import Network
from twinlens.training.objective import Batch, BatchRows, Objective
from twinlens.training.objectives.context import Context
from twinlens.training.objectives.jigsaw import Jigsaw
from twinlens.training.objectives.rotation import Rotation
from twinlens.training.recipes import open_recipe
from twinlens.training.views.tiles import choose_orders


class Corner(nn.Module):
    """A tower that answers the first pixel, so that one sees what it was shown."""

    width = 3

    def forward(self, images: Tensor) -> Tensor:
        return images[:, :, 0, 0]


def ramp() -> Tensor:
    """Return an image whose pixels tell their place."""
    return torch.arange(144.0).view(1, 1, 1, 12, 12).expand(1, 1, 3, 12, 12)


def test_rotations_are_quarter_turns_against_the_clock() -> None:
    net = Network({"image": Corner(), "turns": nn.Identity()})
    logits = Rotation().student(net, Batch({"global": ramp()}))["logits"]
    assert logits[0, :, 0].tolist() == [0, 11, 143, 132]


def test_a_puzzle_shows_tiles_in_the_drawn_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "twinlens.training.objectives.pretext.standardise_tiles", lambda tiles: tiles
    )
    objective = Jigsaw(tile=1.0, orders=5)
    extra = {"answer": torch.tensor([3]), "shifts": torch.zeros(1, 9, 2)}
    seen = objective.see_tiles(Network({"image": Corner()}), Batch({"global": ramp()}, extra))
    corners = [row * 48 + column * 4 for row in range(3) for column in range(3)]
    assert seen[0, :, 0].tolist() == [corners[cell] for cell in choose_orders(9, 5)[3]]


def test_context_shows_the_middle_and_the_neighbour_that_was_drawn() -> None:
    answers = torch.arange(8)
    places = Context().places(answers)
    assert places[:, 0].tolist() == [4] * 8
    assert places[:, 1].tolist() == [0, 1, 2, 3, 5, 6, 7, 8]


def test_colorize_weighs_rare_colours_more_and_all_alike_without_rebalancing() -> None:
    config = small_config("colorize")
    objective = config.objective
    shares = torch.rand(objective.state()[0].dim)
    shares[0] = 10.0
    weights = objective.weigh_colours(shares)
    assert int(weights.argmin()) == 0
    assert float((shares / shares.sum() * weights).sum()) == pytest.approx(1.0, rel=1e-5)
    even = apply_sets(config, ["uniform=1"]).objective.weigh_colours(shares)
    assert torch.allclose(even, torch.ones_like(even), atol=1e-5)
    nothing = objective.weigh_colours(torch.zeros_like(shares))
    assert torch.allclose(nothing, torch.ones_like(nothing), atol=1e-5)


def test_the_shares_of_colours_are_those_of_the_batch() -> None:
    config = small_config("colorize")
    batch = small_batch(config, 4, torch.float32)
    rows = config.objective.student(small_network(config), batch)
    assert torch.allclose(rows["shares"].sum(dim=1), torch.ones(4), atol=1e-5)
    places, _ = config.objective.spread_colours(batch.extra["colours"])
    assert (rows["shares"][0] > 0).sum() == len(places[0].unique())


@pytest.mark.parametrize("name", ["autoencoder-denoising", "colorize"])
def test_the_encoder_sees_spoilt_views_and_the_target_is_what_they_were(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Batch] = []
    config = small_config(name, encoder="resnet-tiny", steps=1)
    real = type(config.objective).student

    def record(self: Objective, net: Network, batch: Batch) -> BatchRows:
        seen.append(batch)
        found: BatchRows = real(self, net, batch)
        return found

    monkeypatch.setattr(type(config.objective), "student", record)
    train(config, str(write_images(tmp_path / "data", 8)), tmp_path / "run")
    views = seen[0].views["global"][:, 0]
    if name == "colorize":
        mean, std = (
            torch.tensor(row)[:, None, None] for row in (config.settings.mean, config.settings.std)
        )
        pixels = views * std + mean
        assert torch.allclose(pixels[:, 0], pixels[:, 2], atol=1e-3)
        assert float(seen[0].extra["colours"].abs().mean()) > 5
        return
    clean = seen[0].extra["clean"]
    out = (views == 0) & (clean != 0)
    assert 0.2 < float(out.float().mean()) < 0.4
    assert torch.equal(views[~out], clean[~out])


@pytest.mark.parametrize(
    ("method", "pairs", "message"),
    [
        ("jigsaw", ["grid=2"], "orders is 100, and 4 tiles have 24 .*--set orders=24"),
        ("jigsaw", ["encoder=vit-tiny/16"], "grid is 3, .* cells of 10, which hold no patch of 16"),
        ("context", ["grid=4"], "grid is 4, which has no middle tile; --set grid=3"),
        ("autoencoder", ["noise=masking", "amount=1"], "amount is 1, .*must be below 1"),
        ("colorize", ["uniform=0"], "uniform is 0; it must be above 0"),
        ("triplet", ["margin=-1"], "margin is -1; it must be at least 0"),
        ("jigsaw", ["tile=0"], "tile is 0; it must be above 0"),
    ],
)
def test_what_means_nothing_is_refused_before_the_data_are_looked_for(
    method: str, pairs: list[str], message: str, tmp_path: Path
) -> None:
    config = apply_sets(open_recipe(method, "default"), ["device=cpu", *pairs])
    with pytest.raises(InputError, match=message):
        train(config, "nowhere", tmp_path / "run")
    assert not (tmp_path / "run").exists()
