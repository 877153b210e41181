"""From both pairs of towers to the bundle that ships: described, exported, kept in int8.

The image graph ships only in int8, with the photographs' tower in a branch that drawings skip; its
fp32 graph was the export's reference and is left out. What must stay true: the golden rows are
torch's in fp32, and the cosine in the manifest is the measured one.
"""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from torch import nn

from recipes.builtin.evaluation import TEMPLATES
from recipes.builtin.photographs.drawings import Drawings
from recipes.builtin.photographs.fetch import SIDE
from recipes.builtin.photographs.graphs.branch_weights import hold_weights
from recipes.builtin.photographs.graphs.skipping import skip_for_drawings
from recipes.builtin.photographs.joined import (
    DrawingTower,
    Gates,
    Head,
    JoinedImages,
    JoinedTexts,
    PhotoTower,
)
from recipes.builtin.photographs.text_trainer import CONTEXT
from recipes.builtin.photographs.vocabulary import spell_tokens
from recipes.builtin.storage import store_small
from recipes.builtin.towers import PAD_ID, TextTower
from recipes.builtin.words import LANGUAGES
from twinlens.bundle.manifest import ImageSpec, Manifest, TextSpec
from twinlens.bundle.model_card import ModelCard
from twinlens.bundle.store import write_bundle
from twinlens.training.export import Description, ImageTower, Similarity, export_encoder
from twinlens.training.export import TextTower as ExportedText

NAME = "photographs"
DRAWINGS_WEIGHT = 0.9  # of a text's half for drawings: both kinds rank fairly in one gallery
SCALE = 30.0
_TOKENIZER = "tokenizer.json"
_PLAIN = (3, 6)  # the first three have few channels: int8 is slower there and errs most
CARD = ModelCard(
    domain="photographs of things and animals; emoji, icons and clothes",
    good_for=(
        "photographs by what they show: animals, vehicles, food, tools, furniture, buildings",
        "emoji, icons and flat drawings, and single pieces of clothing",
        "searching one's own pictures offline, in eleven languages",
    ),
    not_for=(
        "people: who they are, what they do, how they feel",
        "colours, counts, positions and negation in photographs",
        "places and events",
        "decisions about people",
    ),
    languages=LANGUAGES,
    licence="Apache-2.0; NOTICE names the weights, word lists and artwork that it came from",
    training_data=(
        "an EfficientNet-Lite0 trained on ImageNet by others; 313,729 words, definitions and"
        " captions in twelve languages, without pictures; and all that builtin:drawings learned"
        " from; docs/builtin.md"
    ),
)


@dataclass(frozen=True)
class Parts:
    """All parts of the encoder."""

    drawings: Drawings
    backbone: nn.Module
    head: Head
    gates: Gates
    words: TextTower
    tokenizer: Path
    first_tokenizer: Path


def join(parts: Parts) -> tuple[JoinedImages, JoinedTexts]:
    """Return both modules in evaluation mode."""
    photos = PhotoTower(parts.backbone, parts.head)
    images = JoinedImages(DrawingTower(parts.drawings.image, SIDE), photos, parts.gates)
    spelling = spell_tokens(
        Tokenizer.from_file(str(parts.tokenizer)), Tokenizer.from_file(str(parts.first_tokenizer))
    )
    small = (store_small(parts.drawings.text), store_small(parts.words))
    texts = JoinedTexts(*small, spelling, DRAWINGS_WEIGHT)
    return images.eval(), texts.eval()


def package(
    parts: Parts, card: ModelCard, provenance: Mapping[str, Any], pictures: Path, out: Path
) -> Manifest:
    """Write the bundle; `pictures` calibrate its int8 convolutions."""
    images, texts = join(parts)
    description = Description(
        name=NAME,
        image=ImageTower(images, describe_pixels()),
        text=ExportedText(texts, _text_spec(), lambda file: _copy(parts.tokenizer, file)),
        similarity=Similarity("softmax", SCALE),
        templates=TEMPLATES[:3],
        matryoshka_dims=(128, 256, 512),
        provenance=provenance,
        card=card,
    )
    with tempfile.TemporaryDirectory(prefix="twinlens-") as folder:
        whole = Path(folder, "whole")
        manifest = export_encoder(
            description,
            whole,
            precisions=("fp32", "int8"),
            calibrate=pictures,
            plain_convolutions=_PLAIN,
        )
        return keep_int8(whole, manifest, out)


def keep_int8(whole: Path, manifest: Manifest, out: Path) -> Manifest:
    """Write the bundle without the image tower's fp32 graph."""
    assert manifest.image is not None
    (small,) = (v for v in manifest.variants if (v.tower, v.precision) == ("image", "int8"))
    kept = tuple(v for v in manifest.variants if (v.tower, v.precision) != ("image", "fp32"))
    image = dataclasses.replace(manifest.image, file=small.file)
    plain = Path(manifest.image.file)
    left_out = {str(plain), str(plain.with_suffix(".data")), "bundle.json"}

    def fill(folder: Path) -> None:
        for file in whole.iterdir():
            if file.name not in left_out:
                shutil.copyfile(file, folder / file.name)
        skip_for_drawings(folder / small.file)
        hold_weights(folder / small.file)

    changed = dataclasses.replace(manifest, image=image, variants=kept)
    return write_bundle(out, changed, fill, force=True)


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def describe_pixels() -> ImageSpec:
    """Return how a picture becomes the encoder's pixels."""
    return ImageSpec(
        file="image.onnx",
        height=SIDE,
        width=SIDE,
        resize="shortest",
        resize_to=SIDE,
        interpolation="bicubic",
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        fill=255,
    )


def _text_spec() -> TextSpec:
    return TextSpec(
        file="text.onnx",
        tokenizer=_TOKENIZER,
        tokenizer_kind="huggingface",
        context_length=CONTEXT,
        pad_id=PAD_ID,
    )
