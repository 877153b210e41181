"""Images as the run sees them: its views, a map of its embeddings, attention of its ViT."""

from __future__ import annotations

import base64
import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from twinlens.bundle.image.preprocessing import Preprocessor
from twinlens.errors import TwinlensError
from twinlens.training.data.pixels import PixelStore
from twinlens.training.data.sources import open_source
from twinlens.training.encoders.token_tower import side_step
from twinlens.training.encoders.vit import VisionTransformer
from twinlens.training.report.charts import draw_points
from twinlens.training.runs.run import TrainedRun, image_spec
from twinlens.training.seeds import generator
from twinlens.training.views.maker import ViewMaker
from twinlens.training.views.pictures import whole_pictures

MAPPED = 300  # images on the map
SHOWN = 6  # images whose views are shown
WIDTH = 88  # smallest side of a picture on the page, in pixels


def draw_pictures(run: TrainedRun) -> list[str]:
    """Return figures of views, map and attention; if the data are gone, a text that says so."""
    try:
        source = open_source(run.data["where"])
    except TwinlensError as error:
        return [f"<p>No pictures: {error}</p>"]
    settings = run.config.settings
    store = PixelStore(source, Preprocessor(image_spec(settings)), memory_bytes=0)
    places = np.linspace(0, len(store) - 1, min(MAPPED, len(store))).astype(int).tolist()
    pixels, records = store.fetch_good(places)
    store.close()
    images = torch.from_numpy(np.stack(pixels))
    labels = [source.records[record].label or "" for record in records]
    return [draw_views(run, images), draw_map(run, images, labels), draw_attention(run, images)]


def draw_views(run: TrainedRun, images: Tensor) -> str:
    """Return the training views of a few images."""
    settings = run.config.settings
    maker = ViewMaker(
        run.config.objective.views(),
        settings.image_size,
        settings.mean,
        settings.std,
        side_step(run.image_encoder),
    )
    some = images[:: max(1, len(images) // SHOWN)][:SHOWN]
    made = maker(whole_pictures(some), generator(0))
    rows = ""
    for image in zip(*made.values(), strict=True):
        views = [view for group in image for view in group]
        rows += f"<div>{''.join(_picture(view, run) for view in views)}</div>"
    return f'<figure class="wide"><figcaption>views</figcaption>{rows}</figure>'


@torch.no_grad()
def draw_map(run: TrainedRun, images: Tensor, labels: list[str]) -> str:
    """Return a scatter plot of the first two principal components."""
    rows = torch.cat([run.towers["image"](part) for part in _normal(run, images).split(64)])
    rows = torch.nn.functional.normalize(rows, dim=1)
    centred = rows - rows.mean(dim=0)
    axes = torch.linalg.eigh((centred.mT @ centred).double()).eigenvectors[:, -2:].float()
    points = [(float(x), float(y)) for x, y in (centred @ axes.flip(1)).tolist()]
    return draw_points("embeddings, first two principal components", points, labels)


@torch.no_grad()
def draw_attention(run: TrainedRun, images: Tensor) -> str:
    """Return the class token's attention, by head; empty for other encoders."""
    tower = run.towers["image"]
    vit = tower[0] if isinstance(tower, torch.nn.Sequential) else tower
    if not isinstance(vit, VisionTransformer):
        return ""
    some = _normal(run, images[:: max(1, len(images) // SHOWN)][:SHOWN])
    maps = vit.look(some)
    low, high = maps.amin(dim=(2, 3), keepdim=True), maps.amax(dim=(2, 3), keepdim=True)
    shares = (maps - low) / (high - low).clamp(min=1e-8)
    rows = ""
    for image, heads in zip(some, shares, strict=True):
        wide = torch.nn.functional.interpolate(heads[:, None], some.shape[-1])
        seen = _planes(image, run)
        drawn = "".join(_encode(_glow(seen, head[0])) for head in wide)
        rows += f"<div>{_encode(seen)}{drawn}</div>"
    title = "attention by head: where the class token looks, least to most of each map"
    return f'<figure class="wide"><figcaption>{title}</figcaption>{rows}</figure>'


def _normal(run: TrainedRun, images: Tensor) -> Tensor:
    mean, std = (
        torch.tensor(values)[:, None, None]
        for values in (run.config.settings.mean, run.config.settings.std)
    )
    return (images.permute(0, 3, 1, 2).float() / 255 - mean) / std


def _glow(image: Tensor, share: Tensor) -> Tensor:
    """Return an image (3, h, w) in grey with a map (h, w) of 0..1 over it, in red."""
    grey = (0.25 + 0.5 * image.mean(dim=0)) * (1 - share)
    return torch.stack([grey + share, grey + 0.25 * share, grey])


def _picture(view: Tensor, run: TrainedRun) -> str:
    return _encode(_planes(view, run))


def _planes(view: Tensor, run: TrainedRun) -> Tensor:
    """Return a view as pixels (3, h, w) of 0..1."""
    mean, std = (
        torch.tensor(values)[:, None, None]
        for values in (run.config.settings.mean, run.config.settings.std)
    )
    return view * std + mean


def _encode(planes: Tensor) -> str:
    """Return pixels (3, h, w) of 0..1 as an image embedded in the page."""
    pixels = (planes.clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    side = max(1, round(WIDTH / pixels.shape[1])) * pixels.shape[1]
    text = base64.b64encode(file.getvalue()).decode()
    return f'<img width="{side}" alt="" src="data:image/png;base64,{text}">'
