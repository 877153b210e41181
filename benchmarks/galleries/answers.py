"""The answers of trained pretext tasks as pictures: colours, orders, turns, places, pixels.

Each strip has one column per picture and one row per stage: the input, the method's answer, the
truth. The answers are those of the run's own heads; nothing is selected by its looks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from twinlens.training.config import Config
from twinlens.training.data.decoding import WholePicture
from twinlens.training.data.pixels import PixelStore
from twinlens.training.data.sources import open_source
from twinlens.training.encoders.token_tower import TokenTower
from twinlens.training.nn.network import Network
from twinlens.training.nn.reconstruction import cut_patches, standardise_patches
from twinlens.training.objective import Batch
from twinlens.training.runs.assembly import build_network
from twinlens.training.runs.checkpoints import WEIGHTS, find_checkpoint, load_checkpoint
from twinlens.training.runs.run import CHECKPOINTS, read_config
from twinlens.training.seeds import generator
from twinlens.training.views.crops import Crops
from twinlens.training.views.lab import convert_from_lab, convert_to_lab, find_bins, take_colours
from twinlens.training.views.maker import ViewMaker
from twinlens.training.views.masks import draw_masks
from twinlens.training.views.noise import Noise, add_noise
from twinlens.training.views.pictures import lay_out
from twinlens.training.views.tiles import Puzzle, draw_puzzles

COUNT, ENLARGED, GAP = 10, 2, 2  # pictures in a strip, and pixels
ANNEALED = 0.38  # temperature of the mean colour, from the paper of colorize
STILL = Crops(
    1, scale_min=1.0, ratio_min=1.0, ratio_max=1.0, flip=0.0, jitter=0.0, grey=0.0, blur=(0.0,)
)
Strip = list[Tensor]  # rows of pictures (n, 3, s, s) of 0..1


def draw_strip(name: str, run: Path, data: Path, out: Path) -> None:
    """Write the strip of a run as a WebP picture."""
    config, net = open_whole(run)
    strip = DRAWN[name](config, net, read_pictures(data, config.settings.image_size))
    save_strip(strip, out)


def open_whole(run: Path) -> tuple[Config, Network]:
    """Return a run's settings, and its network with the heads."""
    config = read_config(run)
    net = build_network(config, released=False)
    found = find_checkpoint(run / CHECKPOINTS)
    assert found is not None, run
    net.parts.load_state_dict(dict(load_checkpoint(found).tensors[WEIGHTS]))
    return config, net.eval()


def read_pictures(data: Path, side: int) -> Tensor:
    """Return pictures (n, 3, side, side) of 0..1: the centre squares of always the same ones."""
    source = open_source(str(data))
    store = PixelStore(source, WholePicture(side), memory_bytes=0)
    places = np.random.default_rng(5).permutation(len(store))[:COUNT]
    images, _ = store.fetch_good([int(place) for place in places])
    store.close()
    maker = ViewMaker({"global": STILL}, side, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    views: Tensor = maker(lay_out(images), generator(0))["global"][:, 0]
    return views.contiguous()


def save_strip(strip: Strip, out: Path) -> None:
    """Write rows of pictures, enlarged, with gaps."""
    rows = []
    for pictures in strip:
        big = pictures.clamp(0, 1).repeat_interleave(ENLARGED, 2).repeat_interleave(ENLARGED, 3)
        padded = torch.nn.functional.pad(big, (0, GAP, 0, GAP), value=1.0)
        rows.append(torch.cat(list(padded), dim=2))
    pixels = (torch.cat(rows, dim=1).permute(1, 2, 0) * 255).round().byte().numpy()
    out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(out, quality=80, method=6)


def scale(config: Config) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of the views' normalisation."""
    mean, std = (
        torch.tensor(row)[:, None, None] for row in (config.settings.mean, config.settings.std)
    )
    return mean, std


def ask(config: Config, net: Network, pictures: Tensor, **extra: Tensor) -> dict[str, Tensor]:
    """Return the student's rows for pictures of 0..1."""
    mean, std = scale(config)
    views = ((pictures - mean) / std)[:, None]
    with torch.no_grad():
        found: dict[str, Tensor] = config.objective.student(net, Batch({"global": views}, extra))
    return found


def colour(config: Config, net: Network, pictures: Tensor) -> Strip:
    """Grey, coloured, the original."""
    objective = config.objective
    grey, colours = take_colours(pictures, objective.cell)
    logits = ask(config, net, grey, colours=colours)["logits"]
    bins = torch.from_numpy(find_bins(objective.bin_side)).float()
    mean = (logits / ANNEALED).softmax(dim=-1) @ bins
    side = round(mean.shape[1] ** 0.5)
    painted = torch.nn.functional.interpolate(
        mean.mT.unflatten(2, (side, side)), pictures.shape[-2:], mode="bilinear"
    )
    light = convert_to_lab(pictures)[:, :1]
    return [grey, convert_from_lab(torch.cat([light, painted], dim=1)), pictures]


def reassemble(config: Config, net: Network, pictures: Tensor) -> Strip:
    """Shuffled, reassembled in the predicted order, the original."""
    objective = config.objective
    drawn = draw_puzzles(
        generator(1), Puzzle(objective.answers(), objective.shown()), len(pictures)
    )
    told = ask(config, net, pictures, **drawn)["logits"][:, 0].argmax(dim=1)
    cells = cut_cells(pictures, objective.grid)
    true, guessed = (objective.places(answer) for answer in (drawn["answer"], told))
    shuffled = pick_cells(cells, true)
    together = torch.zeros_like(shuffled)
    index = guessed[..., None, None, None].expand_as(shuffled)
    together.scatter_(1, index, shuffled)
    grid = objective.grid
    return [lay_cells(some, grid) for some in (shuffled, together, cells)]


def turn_back(config: Config, net: Network, pictures: Tensor) -> Strip:
    """Turned, turned back by the prediction, the original."""
    logits = ask(config, net, pictures)["logits"]
    turns = torch.arange(len(pictures)) % logits.shape[1]
    told = logits.argmax(dim=-1)[torch.arange(len(pictures)), turns]
    shown = [image.rot90(int(turn), (1, 2)) for image, turn in zip(pictures, turns, strict=True)]
    back = [image.rot90(-int(turn), (1, 2)) for image, turn in zip(shown, told, strict=True)]
    return [torch.stack(shown), torch.stack(back), pictures]


def place(config: Config, net: Network, pictures: Tensor) -> Strip:
    """The middle tile and another at its predicted place, and at its true place."""
    objective, grid = config.objective, config.objective.grid
    drawn = draw_puzzles(
        generator(1), Puzzle(objective.answers(), objective.shown()), len(pictures)
    )
    told = ask(config, net, pictures, **drawn)["logits"][:, 0].argmax(dim=1)
    cells = cut_cells(pictures, grid)
    true, guessed = (objective.places(answer) for answer in (drawn["answer"], told))
    rows = []
    for places in (guessed, true):
        laid = torch.ones_like(cells)
        index = places[..., None, None, None].expand(-1, -1, *cells.shape[2:])
        laid.scatter_(1, index, pick_cells(cells, true))
        rows.append(lay_cells(laid, grid))
    return [*rows, lay_cells(cells, grid)]


def rebuild(config: Config, net: Network, pictures: Tensor) -> Strip:
    """The input (with its noise, if any), reconstructed, the original."""
    objective, (mean, std) = config.objective, scale(config)
    shown = pictures
    if objective.noise != "none":
        noise = Noise(objective.noise, objective.amount)
        shown = add_noise((pictures - mean) / std, noise, generator(1)) * std + mean
    pixels = ask(config, net, shown)["pixels"].view_as(pictures) * std + mean
    return [shown, pixels, pictures] if shown is not pictures else [pixels, pictures]


def unhide(config: Config, net: Network, pictures: Tensor) -> Strip:
    """Visible patches, hidden ones filled in, the original.

    The method predicts standardised patches; brightness and contrast are those of the true ones.
    """
    tower, (mean, std) = net["image"], scale(config)
    assert isinstance(tower, TokenTower)
    patch, cells = tower.patch, pictures.shape[-1] // tower.patch
    (masks,) = config.objective.extras()
    mask = draw_masks(generator(1), masks, (len(pictures), 1, cells, cells))
    pixels = ask(config, net, pictures, mask=mask)["pixels"]
    true = cut_patches((pictures - mean) / std, patch)
    flat = standardise_patches(true)
    centre = true.mean(dim=-1, keepdim=True)
    width = ((true - centre).norm(dim=-1) / flat.norm(dim=-1).clamp(min=1e-6))[..., None]
    hidden = mask[:, 0, :, None]
    filled = torch.where(hidden, pixels * width + centre, true)
    left = torch.where(hidden, 0.0, true)
    return [lay_patches(some, patch, cells) * std + mean for some in (left, filled, true)]


def cut_cells(pictures: Tensor, grid: int) -> Tensor:
    """Return the cells (n, grid * grid, 3, c, c) of pictures."""
    cell = pictures.shape[-1] // grid
    some = pictures[..., : grid * cell, : grid * cell].unfold(2, cell, cell).unfold(3, cell, cell)
    cells: Tensor = some.permute(0, 2, 3, 1, 4, 5).flatten(1, 2)
    return cells


def pick_cells(cells: Tensor, places: Tensor) -> Tensor:
    """Return cells (n, k, ...) from places (n, k)."""
    return cells.gather(1, places[..., None, None, None].expand(-1, -1, *cells.shape[2:]))


def lay_cells(cells: Tensor, grid: int) -> Tensor:
    """Return pictures of their cells, with a white line between them."""
    framed = torch.nn.functional.pad(cells, (0, 1, 0, 1), value=1.0)
    n, _, channels, tall, wide = framed.shape
    rows = framed.view(n, grid, grid, channels, tall, wide).permute(0, 3, 1, 4, 2, 5)
    return rows.flatten(4).flatten(2, 3)


def lay_patches(patches: Tensor, patch: int, cells: int) -> Tensor:
    """Return pictures of patches (n, cells * cells, 3 * patch * patch)."""
    some = patches.view(len(patches), cells, cells, 3, patch, patch).permute(0, 3, 1, 4, 2, 5)
    return some.reshape(len(patches), 3, cells * patch, cells * patch)


DRAWN: Mapping[str, Callable[[Config, Network, Tensor], Strip]] = {
    "rotation": turn_back,
    "context": place,
    "jigsaw": reassemble,
    "colorize": colour,
    "autoencoder": rebuild,
    "denoising": rebuild,
    "mae": unhide,
}
