"""Signal rank: how many directions of the representation vary between images, not just views.

The plain effective rank counts every direction with variance, so a random network, whose many small
directions are all alike, scores highest. Here several views of each image are embedded, and the
variance between images is measured in units of the variance between views of one image, as in LiDAR
(Thilak et al. 2023, https://arxiv.org/abs/2312.04000). A direction in which views of an image
differ as much as images do counts as zero.
"""

from __future__ import annotations

import torch
from torch import Tensor

from twinlens.training.data.decoding import WholePicture, stored_side
from twinlens.training.data.pixels import PixelStore
from twinlens.training.data.sources import open_source
from twinlens.training.encoders.token_tower import side_step
from twinlens.training.runs.run import TrainedRun
from twinlens.training.seeds import generator
from twinlens.training.views.maker import ViewMaker
from twinlens.training.views.pictures import lay_out

RIDGE = 1e-4  # of the mean variance between views: avoids division by zero in dead directions
BLOCK = 128  # images at a time


@torch.no_grad()
def signal_rank(rows: Tensor) -> float:
    """Return the effective rank of what the views (n, views, d) of an image have in common.

    The exponential of the entropy of the ratios of variance between images to variance between
    views, minus the largest ratio expected by chance from unrelated views.
    """
    n, views, d = rows.shape
    rows = rows.double()
    centres = rows.mean(dim=1)
    within = (rows - centres[:, None]).flatten(0, 1)
    noise = within.mT @ within / (n * (views - 1))
    centred = centres - centres.mean(dim=0)
    signal = centred.mT @ centred / (n - 1)
    ridge = RIDGE * noise.diagonal().mean().clamp(min=1e-30)
    lower = torch.linalg.cholesky(noise + ridge * torch.eye(d, dtype=rows.dtype))
    half = torch.linalg.solve_triangular(lower, signal, upper=False)
    ratios = torch.linalg.solve_triangular(lower, half.mT, upper=False)
    chance = (1 + (d / n) ** 0.5) ** 2 / views  # the edge of Marchenko and Pastur
    strength = (torch.linalg.eigvalsh((ratios + ratios.mT) / 2) - chance).clamp(min=0)
    if strength.sum() <= 0:
        return 0.0
    return float(torch.special.entr(strength / strength.sum()).sum().exp())


@torch.no_grad()
def embed_views(run: TrainedRun, where: str, *, images: int, views: int, seed: int = 0) -> Tensor:
    """Return representations (n, views, d) of training views of the first images of `where`."""
    settings, objective = run.config.settings, run.config.objective
    decode = WholePicture(stored_side(settings.stored_size, settings.image_size))
    store = PixelStore(open_source(where), decode, memory_bytes=0)
    group = {"global": objective.views()["global"]}
    step = side_step(run.image_encoder)
    maker = ViewMaker(group, settings.image_size, settings.mean, settings.std, step)
    turns = -(-views // group["global"].count)
    found = []
    for start in range(0, min(images, len(store)), BLOCK):
        found_images, _ = store.fetch_good(range(start, min(start + BLOCK, images, len(store))))
        pictures = lay_out(found_images)
        parts = [
            maker(pictures, generator(seed, start, turn, 61))["global"] for turn in range(turns)
        ]
        made = torch.cat(parts, dim=1)[:, :views]
        found.append(run.image_encoder(made.flatten(0, 1)).unflatten(0, made.shape[:2]))
    store.close()
    return torch.cat(found)
