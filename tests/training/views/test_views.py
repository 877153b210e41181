"""Batched views against per-image torchvision transforms: same distributions, same geometry."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ks_2samp
from torch import Tensor

from twinlens.training.seeds import generator
from twinlens.training.views.blur import blur, blurring
from twinlens.training.views.colours import apply_colours, rotate, saturate
from twinlens.training.views.crops import Crops, draw_boxes
from twinlens.training.views.cutting import cut_by_matrices, cut_by_slices
from twinlens.training.views.maker import FELT, ViewMaker, draw_plan, make_view, parts

N, SIDE = 1200, 32
CPU = torch.device("cpu")
SIDE_OF_BOXES = 5000  # so large that torchvision's rounding to whole pixels cannot show
PLAIN = Crops(
    1, flip=0.0, jitter=0.0, grey=0.0, blur=(0.0,), scale_min=1.0, ratio_min=1.0, ratio_max=1.0
)


def view_of(planes: Tensor, crops: Crops, side: int, draws: torch.Generator) -> Tensor:
    """Return a view of planes (n, 3, S, S) of 0..1."""
    images = (planes * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    recipe = draw_plan(draws, len(images), crops, planes.shape[-1], side, 0)
    made = [
        make_view(images[some], recipe.part(some), side) for some in parts(len(images), side, CPU)
    ]
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


def test_boxes_are_distributed_as_torchvisions() -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    torch.manual_seed(0)
    blank = torch.zeros(3, SIDE_OF_BOXES, 1).expand(-1, -1, SIDE_OF_BOXES)
    usual = np.array(
        [
            transforms.RandomResizedCrop.get_params(blank, [0.08, 1.0], [3 / 4, 4 / 3])
            for _ in range(4000)
        ]
    )
    boxes = draw_boxes(generator(1), 4000, Crops(scale_min=0.08), SIDE_OF_BOXES).numpy()
    left, top, width, height = boxes.T
    assert (width >= 1).all() and (height >= 1).all()
    assert ks_2samp(width * height, usual[:, 2] * usual[:, 3]).pvalue > 0.01
    assert ks_2samp(width / height, usual[:, 3] / usual[:, 2]).pvalue > 0.01
    assert ks_2samp(left, usual[:, 1]).pvalue > 0.01
    assert ks_2samp(top, usual[:, 0]).pvalue > 0.01
    assert (left >= 0).all() and (left + width <= SIDE_OF_BOXES).all()


CUTS = {"slices": cut_by_slices, "matrices": cut_by_matrices}


@pytest.mark.parametrize("way", CUTS)
def test_a_box_resamples_as_pillow_crops_and_resizes(way: str) -> None:
    """Shrinking (antialiased) and growing; the borders as well."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    images = torch.from_numpy(pixels)[None]
    for left, top, width, height in ((0, 0, 40, 40), (5, 8, 30, 20), (10, 2, 7, 9)):
        box = torch.tensor([[left, top, width, height]])
        view = CUTS[way](images, box, torch.tensor([False]), 16)[0].permute(1, 2, 0).numpy() * 255
        crop = Image.fromarray(pixels).crop((left, top, left + width, top + height))
        expected = np.asarray(crop.resize((16, 16), Image.Resampling.BILINEAR), dtype=np.float32)
        gap = np.abs(view - expected)
        # Pillow rounds to integers after each pass; so do the slices, by coarser weights.
        assert gap.max() < 2.01 and gap.mean() < 0.5


@pytest.mark.parametrize(("full", "side"), [(36, 32), (40, 16), (74, 64), (147, 128)])
def test_slices_cut_what_matrices_cut(full: int, side: int) -> None:
    images = torch.randint(0, 256, (12, full, full, 3), dtype=torch.uint8, generator=generator(0))
    recipe = draw_plan(generator(1), 12, Crops(scale_min=0.05), full, side, 0)
    assert recipe.flip.any() and not recipe.flip.all()
    one = cut_by_slices(images, recipe.boxes, recipe.flip, side)
    other = cut_by_matrices(images, recipe.boxes, recipe.flip, side)
    assert float((one - other).abs().max()) < 1.3 / 255  # bytes are rounded after each pass


@pytest.mark.parametrize("side", [12, 24, 32, 112])
def test_a_banded_blur_is_the_dense_one(side: int) -> None:
    planes = torch.rand(5, 3, side, side, generator=generator(0))
    sigma = torch.tensor([0.1, 0.4, 0.9, 1.5, 2.0]) * side / 112
    dense = blurring(sigma, side)[:, None]
    torch.testing.assert_close(blur(planes, sigma), dense @ planes @ dense.mT, atol=2e-4, rtol=0)


def test_a_blur_below_the_threshold_changes_no_byte() -> None:
    board = torch.tensor([0.0, 1.0]).repeat(8)  # nothing has more detail than a chessboard
    planes = (board[:, None] != board).float().expand(1, 3, 16, 16)
    blurred = blur(planes, torch.tensor([FELT]))
    assert 0 < float((blurred - planes).abs().max()) < 0.5 / 255


def test_parts_of_a_batch_are_views_of_the_whole(planes: Tensor) -> None:
    images = (planes[:40] * 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    crops = Crops(1, solarize=(0.5,), blur_max=20)
    recipe = draw_plan(generator(2), 40, crops, SIDE, SIDE, 0)
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


def test_colour_matrices_preserve_grey_and_luminance() -> None:
    pixels = torch.rand(5, 3, 20, generator=generator(0))
    grey = saturate(torch.zeros(5)) @ pixels
    assert float(grey.std(dim=1).max()) < 1e-6
    torch.testing.assert_close(rotate(torch.ones(1)), torch.eye(3)[None], atol=1e-4, rtol=0)
    luminance = torch.tensor([0.299, 0.587, 0.114])
    turned = rotate(torch.full((5,), 0.3)) @ pixels
    kept = torch.einsum("c,ncp->np", luminance, turned)
    torch.testing.assert_close(
        kept, torch.einsum("c,ncp->np", luminance, pixels), atol=1e-3, rtol=0
    )


def test_contrast_blends_with_the_mean_luminance_as_torchvision_does() -> None:
    functional = pytest.importorskip("torchvision.transforms.functional")
    image = torch.rand(3, 12, 12, generator=generator(0)) * 0.5 + 0.2  # nothing clips
    for contrast in (0.6, 1.4):
        expected = functional.adjust_contrast(image, contrast)
        matrix = (torch.eye(3) * contrast)[None]
        ours = apply_colours(image.flatten(1)[None], matrix, torch.tensor([contrast]))
        torch.testing.assert_close(ours[0].reshape(3, 12, 12), expected, atol=2e-3, rtol=0)


def test_a_blur_of_zero_is_the_identity_and_others_average() -> None:
    matrices = blurring(torch.tensor([0.0, 1.5]), 9)
    torch.testing.assert_close(matrices[0], torch.eye(9))
    torch.testing.assert_close(matrices[1].sum(dim=1), torch.ones(9))
    assert float(matrices[1].max()) < 0.5


def test_views_depend_on_the_generator_alone() -> None:
    images = torch.randint(0, 256, (4, 20, 20, 3), dtype=torch.uint8, generator=generator(0))
    groups = {"global": Crops(2), "local": Crops(3, size_ratio=0.5)}
    maker = ViewMaker(groups, 16, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    one = maker(images, generator(5))
    torch.manual_seed(1)
    other = maker(images, generator(5))
    assert one["global"].shape == (4, 2, 3, 16, 16) and one["local"].shape == (4, 3, 3, 8, 8)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(one["global"], maker(images, generator(6))["global"])
    assert not torch.equal(one["global"][:, 0], one["global"][:, 1])
