"""Computes the sizes and offsets that place an image in a tower's input frame; no pixels.

The rules are those of torchvision's `Resize` and `CenterCrop`, of the keep-ratio resize of
open_clip and timm, and of the crop of transformers. What must stay true: the same integers as
theirs for every size, including where they truncate and where they round half to even.
"""

from __future__ import annotations

from dataclasses import dataclass

from twinlens.bundle.manifest import ImageSpec


@dataclass(frozen=True)
class Span:
    """One axis: the image is resized to `resized`; `length` pixels of it from `skip` are used.

    They start at `offset` of the frame; the rest of the frame is padding.
    """

    resized: int
    skip: int
    length: int
    offset: int


@dataclass(frozen=True)
class Framing:
    """Both axes of one image."""

    x: Span
    y: Span


def frame(spec: ImageSpec, width: int, height: int) -> Framing:
    """Return the placement of an upright image of this size in the frame of `spec`."""
    resized_width, resized_height = _resized_size(spec, width, height)
    floor = spec.crop == "floor"
    return Framing(
        _centre(resized_width, spec.width, floor), _centre(resized_height, spec.height, floor)
    )


def _resized_size(spec: ImageSpec, width: int, height: int) -> tuple[int, int]:
    # `resize_to` applies to the shorter side of the frame; the longer side is in proportion.
    shorter = min(spec.width, spec.height)
    target_width = round(spec.resize_to * spec.width / shorter)
    target_height = round(spec.resize_to * spec.height / shorter)
    if spec.resize == "squash":
        return target_width, target_height
    if spec.resize == "shortest" and target_width == target_height:
        return _shortest(spec.resize_to, width, height)
    ratios = width / target_width, height / target_height
    ratio = max(ratios) if spec.resize == "longest" else min(ratios)
    # At least one pixel, where the references fail.
    return max(1, round(width / ratio)), max(1, round(height / ratio))


def _shortest(side: int, width: int, height: int) -> tuple[int, int]:
    # torchvision truncates the longer side to an integer.
    if width <= height:
        return side, int(side * height / width)
    return int(side * width / height), side


def _centre(resized: int, seen: int, floor: bool) -> Span:
    if resized < seen:
        return Span(resized, 0, resized, (seen - resized) // 2)
    left_out = resized - seen
    return Span(resized, left_out // 2 if floor else round(left_out / 2), seen, 0)
