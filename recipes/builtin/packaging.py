"""From a training run to the encoder that ships, and its description for the export."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch.nn import functional as F

from recipes.builtin import towers
from recipes.builtin.align_languages import POLISHED, load_averaged
from recipes.builtin.evaluation import TEMPLATES
from recipes.builtin.storage import fold_norms, store_half
from recipes.builtin.tokens import TRAINED_LENGTH, TextReader, embed_tokens
from recipes.builtin.trainer import PROGRESS, TOKENIZER
from twinlens.bundle.manifest import ImageSpec, TextSpec
from twinlens.training.export import Description, ImageTower, Similarity, TextTower

NAME = "builtin"
_SOURCES = Path(__file__).with_name("sources.json")


class PackagedEncoder:
    """The trained encoder as it ships, in torch; embeds, and describes itself for the export."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._reader = TextReader(run / TOKENIZER)
        model = load_averaged(run, self._reader)
        if (run / POLISHED).exists():
            model.load_state_dict(load_file(run / POLISHED))
        self.image = store_half(fold_norms(model.image))
        self.text = store_half(copy.deepcopy(model.text).eval())
        self.scale = model.scales()["image_text"].detach().item()

    @torch.no_grad()
    def encode_pixels(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return unit rows of pixels (n, side, side, 3)."""
        batches = torch.from_numpy(pixels).split(256)
        rows = torch.cat([self.image(towers.normalise_pixels(batch)) for batch in batches])
        return F.normalize(rows, dim=-1).numpy()

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit rows of texts."""
        assert isinstance(self.text, towers.TextTower)
        rows = embed_tokens(self.text, self._reader.tokenize(texts))
        return F.normalize(rows, dim=-1).numpy()

    def describe(self, metrics: Mapping[str, Mapping[str, float]]) -> Description:
        """Return what the export needs."""
        return Description(
            name=NAME,
            image=ImageTower(self.image, _image_spec()),
            text=TextTower(self.text, _text_spec(), self._write_tokenizer),
            similarity=Similarity("softmax", self.scale),
            templates=TEMPLATES,
            matryoshka_dims=(64, 128, 256),
            provenance=self._provenance(metrics),
        )

    def _write_tokenizer(self, path: Path) -> None:
        shutil.copyfile(self._run / TOKENIZER, path)

    def _provenance(self, metrics: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
        run = json.loads((self._run / PROGRESS).read_text())
        sources = json.loads(_SOURCES.read_text(encoding="utf-8"))
        return {
            "method": "two towers, contrastive, trained from scratch; see docs/builtin.md",
            "licence": "Apache-2.0; trained on the artwork named under `data`, see NOTICE",
            "data": sources,
            "recipe": run,
            "metrics": {name: dict(values) for name, values in metrics.items()},
        }


def _image_spec() -> ImageSpec:
    return ImageSpec(
        file="image.onnx",
        height=towers.IMAGE_SIZE,
        width=towers.IMAGE_SIZE,
        resize="shortest",
        resize_to=towers.IMAGE_SIZE,
        interpolation="bicubic",
        mean=(towers.PIXEL_MEAN,) * 3,
        std=(towers.PIXEL_STD,) * 3,
        fill=255,
    )


def _text_spec() -> TextSpec:
    return TextSpec(
        file="text.onnx",
        tokenizer=TOKENIZER,
        tokenizer_kind="huggingface",
        context_length=TRAINED_LENGTH,
        pad_id=towers.PAD_ID,
    )
