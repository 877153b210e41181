"""The embeddings of a model's original file, computed as plainly as possible.

One item at a time, an unchanged graph, pixels by the calls of the model's own library, masks by
hand. What must stay true: apart from the rules, no code is shared with the bundle's later path, so
that a fault of one is not a fault of both.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray
from PIL import Image, ImageOps

from twinlens.bundle.arrays import Rows
from twinlens.bundle.manifest import ImageSpec
from twinlens.bundle.pull.head import TowerHead, apply_head
from twinlens.bundle.pull.text_rules import PulledTokenizer
from twinlens.bundle.text.text_cleaning import CLEANERS
from twinlens.errors import BundleError

_FILTERS = {name: getattr(Image.Resampling, name.upper()) for name in (
    "nearest", "bilinear", "bicubic", "lanczos", "box", "hamming",
)}  # fmt: skip
Feeds = dict[str, NDArray[Any]]


def make_pixels(spec: ImageSpec, data: bytes) -> NDArray[np.float32]:
    """Return normalised pixels (3, height, width) of one encoded picture."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if spec.convert == "before_resize":
        image = image.convert("RGB")
    width, height = _find_size(spec, *image.size)
    image = image.resize((width, height), _FILTERS[spec.interpolation]).convert("RGB")
    canvas = np.full((max(height, spec.height), max(width, spec.width), 3), spec.fill, np.float64)
    top, left = (canvas.shape[0] - height) // 2, (canvas.shape[1] - width) // 2
    canvas[top : top + height, left : left + width] = np.asarray(image)
    halve = np.floor if spec.crop == "floor" else np.round
    top, left = (
        int(halve((full - seen) / 2))
        for full, seen in zip(canvas.shape, (spec.height, spec.width), strict=False)
    )
    seen = canvas[top : top + spec.height, left : left + spec.width] / 255
    return ((seen - spec.mean) / spec.std).astype(np.float32).transpose(2, 0, 1)


def make_tokens(rule: PulledTokenizer, text: str, *, padded: bool) -> tuple[list[int], list[int]]:
    """Return the ids of one text and its mask; `padded` to the context, else of its own length."""
    tokenizer = tokenizers.Tokenizer.from_str(rule.content.decode())
    tokenizer.no_padding()
    tokenizer.enable_truncation(rule.context_length)
    ids = list(tokenizer.encode(CLEANERS[rule.clean](text)).ids)
    missing = rule.context_length - len(ids) if padded or rule.sees_padding else 0
    mask = [1] * len(ids) + [int(rule.sees_padding)] * missing
    return ids + [rule.pad_id] * missing, mask


def _find_size(spec: ImageSpec, width: int, height: int) -> tuple[int, int]:
    """Return width and height after the resize."""
    shorter = min(spec.width, spec.height)
    wide = round(spec.resize_to * spec.width / shorter)
    high = round(spec.resize_to * spec.height / shorter)
    if spec.resize == "squash":
        return wide, high
    if spec.resize == "shortest" and wide == high:
        if width <= height:
            return wide, int(wide * height / width)
        return int(wide * width / height), wide
    choose = max if spec.resize == "longest" else min
    ratio = choose(width / wide, height / high)
    return round(width / ratio), round(height / ratio)


class PlainTower:
    """The original graph with its inputs under their own names."""

    def __init__(
        self, session: Any, roles: Mapping[str, str], head: TowerHead, filling: Feeds
    ) -> None:
        """`roles` maps this tower's inputs to their meanings, `filling` feeds the other tower's."""
        self._session = session
        self._roles = roles
        self._head = head
        self._filling = filling
        self._types = {value.name: _numpy_type(value.type) for value in session.get_inputs()}
        self._shapes = {value.name: value.shape for value in session.get_inputs()}

    def embed_images(self, spec: ImageSpec, images: Sequence[bytes]) -> Rows:
        """Return a unit row for each picture."""
        return np.concatenate([self._embed_image(make_pixels(spec, data)) for data in images])

    def embed_texts(self, rule: PulledTokenizer, texts: Sequence[str], *, padded: bool) -> Rows:
        """Return a unit row for each text."""
        pairs = (make_tokens(rule, text, padded=padded) for text in texts)
        return np.concatenate([self._embed_text(ids, mask) for ids, mask in pairs])

    def feed_image(self, pixels: NDArray[np.float32]) -> Feeds:
        """Return the graph's input for one picture."""
        (name,) = self._roles
        last = self._shapes[name][3] == 3 and self._shapes[name][1] != 3
        value = pixels.transpose(1, 2, 0) if last else pixels
        return {name: value[None].astype(self._types[name])}

    def feed_text(self, ids: list[int], mask: list[int]) -> Feeds:
        """Return the graph's inputs for one text."""
        values = {
            "ids": ids,
            "mask": mask,
            "token_types": [0] * len(ids),
            "positions": list(range(len(ids))),
        }
        return {
            name: np.array([values[role]], self._types[name]) for name, role in self._roles.items()
        }

    def _embed_image(self, pixels: NDArray[np.float32]) -> Rows:
        return apply_head(self._head, self._run(self.feed_image(pixels)), None)

    def _embed_text(self, ids: list[int], mask: list[int]) -> Rows:
        return apply_head(self._head, self._run(self.feed_text(ids, mask)), np.array([mask]))

    def _run(self, feeds: Feeds) -> NDArray[Any]:
        try:
            output: NDArray[Any] = self._session.run([self._head.output], self._filling | feeds)[0]
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            reason = " ".join(str(error).split())[:300]
            raise BundleError(f"the original graph does not run: {reason}") from None
        return output


def _numpy_type(name: str) -> Any:
    """Return numpy's type for ONNX Runtime's `tensor(...)`."""
    kind = name.removeprefix("tensor(").removesuffix(")")
    return {"float": np.float32, "double": np.float64, "bool": np.bool_}.get(kind) or np.dtype(kind)
