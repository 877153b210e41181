"""How a picture becomes a tower's pixels, read from the repository's configuration.

Known are the processors of transformers (CLIP, SigLIP, ViT, DeiT, DINOv2's Bit, DINOv3, ConvNeXt)
and open_clip's `preprocess_cfg.json`. What must stay true: a step that the bundle cannot reproduce
is refused, never left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from twinlens.bundle.manifest import ImageSpec
from twinlens.bundle.pull.json_files import JsonObject
from twinlens.errors import BundleError

Triple = tuple[float, float, float]

IMAGE_FILE: Final = "image.onnx"
_FILTERS: Final = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # Pillow's order
_CLIP: Final = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
_IMAGENET: Final = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
_HALF: Final = ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5])
_NO_CROP_FROM: Final = 384  # ConvNeXt's processor squashes from this size on
_CROP_SHARE: Final = 224 / 256  # ConvNeXt's, if the file names none


@dataclass(frozen=True)
class _Family:
    """A processor's defaults."""

    mean: list[float]
    std: list[float]
    resample: int
    square: bool  # a size given as one number means a square, not the shorter side


_FAMILIES: Final = {
    "clip": _Family(*_CLIP, 3, False),
    "siglip": _Family(*_HALF, 3, True),
    "vit": _Family(*_HALF, 2, True),
    "deit": _Family(*_IMAGENET, 3, True),
    "bit": _Family(*_CLIP, 3, False),
    "dinov3": _Family(*_IMAGENET, 2, True),
    "convnext": _Family(*_IMAGENET, 3, False),
}


def read_processor(config: JsonObject, file: str) -> ImageSpec:
    """Return the rule in a `preprocessor_config.json`."""
    name = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "")
    family = _find_family(name, file)
    _refuse_unknown_steps(config, file)
    size, crop = config.get("size"), config.get("crop_size")
    if size is None:
        raise BundleError(f"{file}: `size` is missing; it says how large pictures become")
    resample = int(config.get("resample", family.resample))
    mean, std = _read_levels(config, family)
    if name.lower().startswith("convnext"):
        frame = _frame_convnext(size, config)
    else:
        crop = crop if config.get("do_center_crop", crop is not None) else None
        frame = _frame(size, crop, family.square, file)
    return ImageSpec(
        IMAGE_FILE, *frame, cast(Any, _FILTERS[resample]), mean, std, crop="floor"
    )  # fmt: skip


def read_open_clip(config: JsonObject, file: str) -> ImageSpec:
    """Return the rule in open_clip's `preprocess_cfg.json`."""
    size = config.get("size", 224)
    height, width = (size, size) if isinstance(size, int) else size
    if config.get("mode", "RGB") != "RGB":
        raise BundleError(f"{file}: mode is {config['mode']!r}; only RGB is read")
    resize = config.get("resize_mode", "shortest")
    if resize not in ("shortest", "longest", "squash"):
        raise BundleError(f"{file}: resize_mode is {resize!r}; known: shortest, longest, squash")
    return ImageSpec(
        IMAGE_FILE,
        int(height),
        int(width),
        resize,
        int(min(height, width)),
        config.get("interpolation", "bicubic"),
        _triple(config.get("mean", _CLIP[0])),
        _triple(config.get("std", _CLIP[1])),
        fill=int(config.get("fill_color", 0)),
        convert="after_resize",
    )


def _find_family(name: str, file: str) -> _Family:
    if name.lower().startswith("siglip2imageprocessor"):
        raise BundleError(
            f"{file}: {name} cuts pictures into a varying number of patches (NaFlex); pull a "
            "model of a fixed resolution, such as siglip2-base-patch16-224"
        )
    for prefix, family in _FAMILIES.items():
        if name.lower().startswith(prefix):
            return family
    known = "CLIP, SigLIP, ViT, DeiT, Bit, DINOv3ViT, ConvNext"
    raise BundleError(f"{file}: the processor {name!r} is unknown here; known: {known}")


def _refuse_unknown_steps(config: JsonObject, file: str) -> None:
    for step, usual in (("do_resize", True), ("do_pad", False), ("do_flip_channel_order", False)):
        value = config.get(step)
        if value is not None and bool(value) is not usual:
            raise BundleError(f"{file}: {step} is {value!r}; only {usual} can be repeated")
    if config.get("rescale_offset"):
        raise BundleError(f"{file}: rescale_offset is set; it cannot be repeated")


def _read_levels(config: JsonObject, family: _Family) -> tuple[Triple, Triple]:
    """Return mean and std for levels between 0 and 1, whatever the file's scale."""
    mean, std = config.get("image_mean") or family.mean, config.get("image_std") or family.std
    if not config.get("do_normalize", True):
        mean, std = [0.0] * 3, [1.0] * 3
    factor = config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1.0
    top = 255 * float(factor)  # the value of white
    if abs(top - 1) < 1e-6:
        return _triple(mean), _triple(std)
    return _triple([m / top for m in mean]), _triple([s / top for s in std])


def _frame_convnext(
    size: Any, config: JsonObject
) -> tuple[int, int, Literal["shortest", "squash"], int]:
    side = int(size if isinstance(size, int) else size["shortest_edge"])
    if side >= _NO_CROP_FROM:
        return side, side, "squash", side
    share = config.get("crop_pct") or _CROP_SHARE
    return side, side, "shortest", int(side / share)


def _frame(
    size: Any, crop: Any, square: bool, file: str
) -> tuple[int, int, Literal["shortest", "squash"], int]:
    """Return height, width, the rule of the resize and its target side."""
    if isinstance(size, int):
        size = {"height": size, "width": size} if square else {"shortest_edge": size}
    if "shortest_edge" in size and "longest_edge" not in size:
        side = int(size["shortest_edge"])
        if crop is None:
            raise BundleError(
                f"{file}: pictures are resized to a shorter side of {side} and not cropped, so "
                "their sizes differ; a bundle's tower takes one size"
            )
        return *_pair(crop), "shortest", side
    if "height" not in size or "width" not in size:
        raise BundleError(f"{file}: size is {size!r}; known: shortest_edge, or height and width")
    height, width = _pair(size)
    frame = (height, width) if crop is None else _pair(crop)
    if height * frame[1] != width * frame[0]:
        raise BundleError(f"{file}: size {size!r} and crop {crop!r} differ in shape")
    return *frame, "squash", min(height, width)


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (int(size["height"]), int(size["width"]))


def _triple(values: Any) -> Triple:
    numbers = [float(value) for value in values]
    if len(numbers) != 3:
        raise BundleError(f"mean or std is {numbers}; expected three numbers, for RGB")
    return numbers[0], numbers[1], numbers[2]
