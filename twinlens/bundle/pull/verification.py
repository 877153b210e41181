"""Compares a pulled tower with transformers, if that library is installed.

The weights come from the repository's own safetensors, or from the model that its card names as its
base; pickles are not opened. What must stay true: nothing here runs unless the user asked for it.
"""

from __future__ import annotations

import importlib.util
import io
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from twinlens.bundle.arrays import Rows
from twinlens.bundle.pull.head import TowerHead, apply_head
from twinlens.bundle.pull.layouts.found import TowerFiles
from twinlens.bundle.pull.model_files import TowerConfig
from twinlens.bundle.samples import golden_images, golden_texts
from twinlens.errors import BundleError, MissingDependencyError

LEAST_COSINE: Final = 0.999
_NAMES: Final = ("config", "processor", "tokenizer", "tokenizer_config", "weights")


def check_libraries() -> None:
    """Raise unless transformers and torch are installed."""
    missing = [name for name in ("transformers", "torch") if not importlib.util.find_spec(name)]
    if missing:
        raise MissingDependencyError(
            f"--verify compares with transformers, and {' and '.join(missing)} is not installed; "
            "run: pip install transformers torch"
        )


def verify_tower(
    name: str, files: TowerFiles, config: TowerConfig, head: TowerHead, rows: Rows
) -> float:
    """Return the smallest cosine of `rows` to those of transformers; raise if it is too low."""
    source = _find_source(files, config)
    found = _embed_images(source, head) if name == "image" else _embed_texts(source, config, head)
    if found.shape != rows.shape:
        raise BundleError(
            f"transformers returns {found.shape} for the {name} tower, the pulled one {rows.shape}"
        )
    cosine = float((found.astype(np.float64) * rows).sum(axis=1).min())
    if not cosine >= LEAST_COSINE:
        raise BundleError(
            f"the {name} tower differs from transformers: cosine {cosine:.6f}, at least "
            f"{LEAST_COSINE} is needed; no bundle was written"
        )
    return round(cosine, 7)


def _find_source(files: TowerFiles, config: TowerConfig) -> str:
    """Return the folder or the name from which transformers loads the model."""
    if "weights" in files.described_by:
        paths = [files.described_by[name] for name in _NAMES if name in files.described_by]
        root = files.repository.fetch(paths)
        return str((root / files.described_by["weights"]).parent)
    base = config.get("card").get("base_model")
    if not base:
        raise BundleError(
            f"{files.repository.source} holds no model.safetensors and its card names no base "
            "model, so there is nothing to verify with; leave --verify out"
        )
    return str(base)


def _embed_images(source: str, head: TowerHead) -> Rows:
    import transformers

    model = transformers.AutoModel.from_pretrained(source, use_safetensors=True).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(source)
    opened = (ImageOps.exif_transpose(Image.open(io.BytesIO(data))) for data in golden_images())
    inputs = processor([image.convert("RGB") for image in opened], return_tensors="pt")
    if hasattr(model, "get_image_features"):
        return _to_unit(model.get_image_features(**inputs))
    return _apply(head, model(**inputs), None)


def _embed_texts(source: str, config: TowerConfig, head: TowerHead) -> Rows:
    import transformers

    model = transformers.AutoModel.from_pretrained(source, use_safetensors=True).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    length = config.read_tokenizer(0).context_length
    siglip = config.model_type.startswith("siglip")
    rows = []
    for text in golden_texts():
        inputs = tokenizer(
            [text],
            truncation=True,
            max_length=length,
            padding="max_length" if siglip else False,
            return_tensors="pt",
        )
        if hasattr(model, "get_text_features"):
            given = {"input_ids": inputs["input_ids"]} if siglip else dict(inputs)
            rows.append(_to_unit(model.get_text_features(**given)))
        else:
            rows.append(_apply(head, model(**inputs), inputs["attention_mask"].numpy()))
    return np.concatenate(rows)


def _to_unit(answer: Any) -> Rows:
    """Return unit rows of an output, which later versions of transformers wrap."""
    rows = answer if hasattr(answer, "detach") else answer.pooler_output
    return apply_head(TowerHead(""), rows.detach().numpy(), None)


def _apply(head: TowerHead, answer: Any, mask: NDArray[Any] | None) -> Rows:
    name = head.output if head.output in answer else "last_hidden_state"
    return apply_head(head, answer[name].detach().numpy(), mask)
