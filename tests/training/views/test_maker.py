"""Whole views against torchvision's, by distribution, and what they depend on."""

from __future__ import annotations

import colorsys
import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from torch import Tensor

from twinlens.training.seeds import generator
from twinlens.training.views.blur import blur
from twinlens.training.views.crops import Crops
from twinlens.training.views.maker import ViewMaker, make_view, parts
from twinlens.training.views.pictures import lay_out, whole_pictures
from twinlens.training.views.plans import FELT, draw_plan

N, SIDE = 1200, 32


PLAIN = Crops(
    1, flip=0.0, jitter=0.0, grey=0.0, blur=(0.0,), scale_min=1.0, ratio_min=1.0, ratio_max=1.0
)


def view_of(planes: Tensor, crops: Crops, side: int, draws: torch.Generator) -> Tensor:
    """Return a view of planes (n, 3, S, S) of 0..1."""
    images = (planes * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    recipe = draw_plan(draws, crops, whole_pictures(images).sizes, side, 0)
    made = [make_view(images[some], recipe.part(some), side) for some in parts(images, side)]
    return torch.cat(made)


def bytes_of(n: int, side: int) -> Tensor:
    """Return random planes (n, 3, side, side) of 0..1 that bytes can hold."""
    return torch.randint(0, 256, (n, 3, side, side), generator=generator(0)) / 255


@pytest.fixture(scope="module")
def planes() -> Tensor:
    """Smooth random images (N, 3, SIDE, SIDE) of 0..1, alike in statistics to photographs."""
    draws = generator(3)
    coarse = torch.rand(N, 3, 5, 5, generator=draws)
    smooth = torch.nn.functional.interpolate(coarse, size=SIDE, mode="bicubic").clamp(0, 1)
    return (smooth * 255).round() / 255


@pytest.fixture(scope="module")
def usual(planes: Tensor) -> Tensor:
    """The same images through torchvision, one at a time."""
    transforms = pytest.importorskip("torchvision.transforms")
    jitter = transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)
    steps = transforms.Compose(
        [
            transforms.RandomResizedCrop(SIDE, scale=(0.2, 1.0), antialias=True),
            transforms.RandomHorizontalFlip(),
            transforms.RandomApply([jitter], p=0.8),
            transforms.RandomGrayscale(0.2),
            transforms.RandomApply([transforms.GaussianBlur(17, (0.1, 2.0))], p=0.5),
            transforms.RandomSolarize(0.5, p=0.2),
        ]
    )
    torch.manual_seed(0)
    return torch.stack([steps(image) for image in planes])


@pytest.fixture(scope="module")
def ours(planes: Tensor) -> Tensor:
    crops = Crops(1, solarize=(0.2,), blur_max=2.0 * 224 / SIDE, blur_min=0.1 * 224 / SIDE)
    return view_of(planes, crops, SIDE, generator(4))


STATISTICS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda x: x.mean(dim=(1, 2, 3)),
    "contrast": lambda x: x.mean(dim=1).std(dim=(1, 2)),
    "colourfulness": lambda x: x.std(dim=1).mean(dim=(1, 2)),
    "red": lambda x: x[:, 0].mean(dim=(1, 2)),
    "blue": lambda x: x[:, 2].mean(dim=(1, 2)),
    "detail": lambda x: (x[..., 1:] - x[..., :-1]).abs().mean(dim=(1, 2, 3)),
}


@pytest.mark.parametrize("name", STATISTICS)
def test_views_are_distributed_as_torchvisions(name: str, ours: Tensor, usual: Tensor) -> None:
    one, other = STATISTICS[name](ours).numpy(), STATISTICS[name](usual).numpy()
    assert ks_2samp(one, other).pvalue > 0.01, (one.mean(), other.mean())


def test_the_comparison_would_notice_a_missing_jitter(planes: Tensor, usual: Tensor) -> None:
    crops = Crops(1, jitter=0.0, grey=0.0, solarize=(0.2,))
    views = view_of(planes, crops, SIDE, generator(4))
    measure = STATISTICS["colourfulness"]
    assert ks_2samp(measure(views).numpy(), measure(usual).numpy()).pvalue < 1e-4


def test_a_blur_below_the_threshold_changes_no_byte() -> None:
    board = torch.tensor([0.0, 1.0]).repeat(8)  # nothing has more detail than a chessboard
    planes = (board[:, None] != board).float().expand(1, 3, 16, 16)
    blurred = blur(planes, torch.tensor([FELT]))
    assert 0 < float((blurred - planes).abs().max()) < 0.5 / 255


def test_parts_of_a_batch_are_views_of_the_whole(planes: Tensor) -> None:
    images = (planes[:40] * 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    crops = Crops(1, solarize=(0.5,), blur_max=20)
    recipe = draw_plan(generator(2), crops, whole_pictures(images).sizes, SIDE, 0)
    whole = make_view(images, recipe, SIDE)
    apart = [make_view(images[a : a + 7], recipe.part(slice(a, a + 7)), SIDE) for a in (0, 7)]
    torch.testing.assert_close(torch.cat(apart), whole[:14], atol=2e-4, rtol=0)


def test_a_flip_mirrors() -> None:
    planes = bytes_of(2, 16)
    flipped = dataclasses.replace(PLAIN, flip=1.0)
    view = view_of(planes, flipped, 16, generator(1))
    torch.testing.assert_close(view, planes.flip(-1), atol=1e-5, rtol=0)


def test_with_all_probabilities_zero_a_view_is_the_image() -> None:
    planes = bytes_of(4, 16)
    view = view_of(planes, PLAIN, 16, generator(1))
    torch.testing.assert_close(view, planes, atol=1e-5, rtol=0)


def test_solarize_mirrors_the_bright_half() -> None:
    planes = bytes_of(4, 8)
    view = view_of(planes, dataclasses.replace(PLAIN, solarize=(1.0,)), 8, generator(1))
    expected = torch.where(planes >= 0.5, 1 - planes, planes)
    torch.testing.assert_close(view, expected, atol=1e-5, rtol=0)


def test_views_depend_on_the_generator_alone() -> None:
    pixels = torch.randint(0, 256, (4, 20, 20, 3), dtype=torch.uint8, generator=generator(0))
    images = whole_pictures(pixels)
    groups = {"global": Crops(2), "local": Crops(3, size_ratio=0.5)}
    maker = ViewMaker(groups, 16, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    one = maker(images, generator(5))
    torch.manual_seed(1)
    other = maker(images, generator(5))
    assert one["global"].shape == (4, 2, 3, 16, 16) and one["local"].shape == (4, 3, 3, 8, 8)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(one["global"], maker(images, generator(6))["global"])
    assert not torch.equal(one["global"][:, 0], one["global"][:, 1])


def test_a_picture_has_the_same_views_on_any_canvas() -> None:
    """What lies beyond a picture is never seen, by whatever other picture it stands."""
    draws = np.random.default_rng(0)
    shapes = ((20, 31), (44, 17), (24, 24))
    images = [draws.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]
    pictures = lay_out(images)
    assert pictures.canvas.shape == (3, 44, 31, 3)
    plan = draw_plan(generator(1), Crops(scale_min=0.05, blur=(1.0,)), pictures.sizes, 16, 0)
    together = make_view(pictures.canvas, plan, 16)
    for number, image in enumerate(images):
        part = plan.part(slice(number, number + 1))
        alone = make_view(torch.from_numpy(image)[None], part, 16)
        torch.testing.assert_close(together[number], alone[0], atol=1e-6, rtol=0)


def test_hues_are_distributed_as_torchvisions() -> None:
    """By circular statistics of the hue itself, which a turn in another colour space would fail."""
    transforms = pytest.importorskip("torchvision.transforms")
    colours = torch.rand(3000, 3, 1, 1, generator=generator(6)) * 0.8 + 0.1
    planes = (colours.expand(-1, -1, 4, 4) * 255).round() / 255
    jitter = transforms.ColorJitter(hue=0.1)
    torch.manual_seed(0)
    usual = torch.stack([jitter(image) for image in planes])
    crops = dataclasses.replace(
        PLAIN, jitter=1.0, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.1
    )
    ours = view_of(planes, crops, 4, generator(8))
    measures: dict[str, Callable[[Tensor], Tensor]] = {
        "turn": lambda x: (hue_of(x) - hue_of(planes) + 0.5).remainder(1) - 0.5,
        "red": lambda x: x[:, 0, 0, 0] - planes[:, 0, 0, 0],
        "green": lambda x: x[:, 1, 0, 0] - planes[:, 1, 0, 0],
        "blue": lambda x: x[:, 2, 0, 0] - planes[:, 2, 0, 0],
        "luminance": lambda x: luminance_of(x) - luminance_of(planes),
    }
    for name, measure in measures.items():
        one, other = (measure(x).numpy().round(3) for x in (ours, usual))  # what stays 0 is a tie
        assert ks_2samp(one, other).pvalue > 0.01, name
    wide = view_of(planes, dataclasses.replace(crops, hue=0.13), 4, generator(8))
    turn = measures["turn"]
    assert ks_2samp(turn(wide).numpy(), turn(usual).numpy()).pvalue < 1e-4  # 1.3 times as strong


def hue_of(planes: Tensor) -> Tensor:
    """Return the hue of the first pixel of planes (n, 3, h, w), 0 to 1, by Python's own formula."""
    pixels = planes[:, :, 0, 0].double().tolist()
    return torch.tensor([colorsys.rgb_to_hsv(*pixel)[0] for pixel in pixels])


def luminance_of(planes: Tensor) -> Tensor:
    weights = torch.tensor([0.299, 0.587, 0.114])
    return torch.einsum("c,nchw->nhw", weights, planes)[:, 0, 0]
