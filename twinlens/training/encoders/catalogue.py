"""Image towers by name: `resnet18`, `vit-tiny/4`, `timm:NAME[/path]`, `open_clip:ARCH[/TAG]`.

For timm and open_clip the part after the slash names the weights to start from: a file, or for
open_clip also one of its tags.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from twinlens.errors import InputError, MissingDependencyError, NotFoundError
from twinlens.training.encoders import resnet, vit
from twinlens.training.encoders.blocks import NO_BRANCHES, BranchOptions, branch_open_clip
from twinlens.training.encoders.foreign_vit import find_token_tower, resize_positions
from twinlens.training.encoders.open_clip_pair import open_clip_model
from twinlens.training.encoders.single_pixels import guard_single_pixels

SMALL_IMAGE = 64  # pixels; up to this side the stem must keep the resolution


def open_image_tower(
    name: str,
    image_size: int,
    *,
    pretrained: bool = False,
    tagged: bool = True,
    branches: BranchOptions = NO_BRANCHES,
) -> nn.Module:
    """Return the tower called `name`, with its `width`; for an unknown name, list the known ones.

    `pretrained` asks timm for released weights; with `tagged` False, TAG and path are ignored.
    """
    if name.startswith("timm:"):
        arch, _, path = name.removeprefix("timm:").partition("/")
        model = open_timm_model(arch, image_size, pretrained and not path, branches)
        if path and tagged:
            load_timm_weights(model, Path(path))
        return as_tower(model, image_size)
    if name.startswith("open_clip:"):
        return open_clip_tower(name.removeprefix("open_clip:"), image_size, tagged, branches)
    if pretrained:
        raise InputError(
            f"pretrained is set, but {name} has no weights to load; name a timm: or open_clip: one"
        )
    stem_name, _, option = name.partition("/")
    if stem_name in resnet.SHAPES:
        _refuse_branches(name, branches)
        return resnet.ResNet(resnet.SHAPES[stem_name], _stem(stem_name, option, image_size))
    if stem_name in vit.SHAPES:
        return _open_vit(name, image_size, branches)
    known = [*resnet.SHAPES, *vit.SHAPES]
    close = difflib.get_close_matches(stem_name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise NotFoundError(
        f"encoder {name!r} is unknown{hint} Known: {', '.join(known)}, timm:NAME, open_clip:ARCH"
    )


def _open_vit(name: str, image_size: int, branches: BranchOptions) -> vit.VisionTransformer:
    stem_name, _, option = name.partition("/")
    shape = vit.SHAPES[stem_name]
    return vit.VisionTransformer(
        shape,
        _patch(name, option, image_size),
        image_size,
        drop_paths=branches.rates(shape.depth),
        layer_scale=branches.layer_scale,
    )


def _refuse_branches(name: str, branches: BranchOptions) -> None:
    if branches != NO_BRANCHES:
        raise InputError(
            f"encoder {name!r} has no branches to drop or scale; drop_path and layer_scale go with"
            " our own vit-*, with timm:NAME and with the vision transformers of open_clip",
            field="drop_path" if branches.drop_path else "layer_scale",
        )


def open_timm_model(
    name: str, image_size: int, pretrained: bool, branches: BranchOptions
) -> nn.Module:
    """Return a timm model without its classifier, for images of this size."""
    try:
        import timm
    except ImportError:
        raise MissingDependencyError("timm is not installed; run: pip install timm") from None
    options: dict[str, Any] = {"num_classes": 0, "pretrained": pretrained}
    if any(word in name for word in ("vit", "deit", "swin", "eva", "beit", "mixer")):
        options["img_size"] = image_size
    if branches.drop_path_even:
        _refuse_branches(f"timm:{name}", branches)
    if branches.drop_path:
        options["drop_path_rate"] = branches.drop_path
    if branches.layer_scale:
        options["init_values"] = branches.layer_scale
    try:
        model: nn.Module = timm.create_model(name, **options)
    except RuntimeError as error:
        raise NotFoundError(f"encoder 'timm:{name}': {error}") from None
    except TypeError:
        _refuse_branches(f"timm:{name}", branches)
        raise
    return model


class ForeignTower(nn.Module):
    """Any image model of timm or open_clip that returns one row per image."""

    def __init__(self, model: nn.Module, image_size: int) -> None:
        super().__init__()
        self.model = model
        guard_single_pixels(model)
        self.width = measure_width(model, image_size)

    def forward(self, images: Tensor) -> Tensor:
        """Return representations (n, width)."""
        return self.model(images)  # type: ignore[no-any-return]


def load_timm_weights(model: nn.Module, path: Path) -> None:
    """Load weights with timm's names (safetensors); they may include a classifier's."""
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"encoder: {path} cannot be read as safetensors: {error}; give weights of timm's model"
            " as a .safetensors file",
            field="encoder",
        ) from None
    weights = _fit_positions(model, weights)
    wanted = model.state_dict()
    missing = [name for name in wanted if name not in weights and "num_batches" not in name]
    wrong = [
        name for name in wanted.keys() & weights.keys() if wanted[name].shape != weights[name].shape
    ]
    if missing or wrong:
        first = (missing + sorted(wrong))[0]
        raise InputError(
            f"encoder: {path} does not fit: {len(missing)} tensors are absent and {len(wrong)} have"
            f" another shape (the first is {first}); name the architecture that it was saved from",
            field="encoder",
        )
    model.load_state_dict(weights, strict=False)


def _fit_positions(model: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights with positions interpolated to the model's grid of patches."""
    own, known = getattr(model, "pos_embed", None), weights.get("pos_embed")
    layer: Any = getattr(model, "patch_embed", None)
    if known is None or own is None or own.shape == known.shape or layer is None:
        return weights
    prefix = own.shape[1] - layer.grid_size[0] * layer.grid_size[1]
    side = round((known.shape[1] - prefix) ** 0.5)
    if side * side + prefix != known.shape[1] or known.shape[2] != own.shape[2]:
        return weights
    rows, columns = layer.grid_size
    return weights | {"pos_embed": resize_positions(known, (side, side), rows, columns, prefix)}


def open_clip_tower(
    name: str, image_size: int, tagged: bool, branches: BranchOptions = NO_BRANCHES
) -> nn.Module:
    """Return the image tower of `ARCH` or `ARCH/TAG or path to weights`, for this image size."""
    visual = open_clip_model(name, image_size, tagged).visual
    branch_open_clip(f"open_clip:{name}", visual, branches)
    return as_tower(visual, image_size)


def as_tower(model: nn.Module, image_size: int) -> nn.Module:
    """Return an image model of timm or open_clip as a tower with its `width`."""
    return find_token_tower(model) or ForeignTower(model, image_size)


def measure_width(model: nn.Module, image_size: int) -> int:
    """Return the width of the model's output, measured with a forward pass."""
    was_training = model.training
    model.eval()
    with torch.no_grad():
        out = model(torch.zeros(1, 3, image_size, image_size))
    model.train(was_training)
    if out.ndim != 2:
        raise InputError(f"the encoder returns {tuple(out.shape)}; a pooled (n, width) is needed")
    return int(out.shape[1])


def _stem(name: str, option: str, image_size: int) -> resnet.Stem:
    if option in ("cifar", "stride2", "imagenet"):
        return option  # type: ignore[return-value]
    if option:
        raise NotFoundError(f"{name}/{option}: the stem is one of cifar, stride2, imagenet")
    if name == "resnet-tiny":
        return "stride2"
    return "cifar" if image_size <= SMALL_IMAGE else "imagenet"


def _patch(name: str, option: str, image_size: int) -> int:
    patch = int(option) if option.isdigit() else (4 if image_size <= SMALL_IMAGE else 16)
    if option and not option.isdigit():
        raise NotFoundError(
            f"encoder {name!r}: the part after the slash is the patch side, e.g. /4"
        )
    if image_size % patch:
        raise InputError(f"encoder {name!r}: image_size {image_size} is not a multiple of {patch}")
    return patch
