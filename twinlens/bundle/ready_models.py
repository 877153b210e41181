"""The catalogue: popular ready models on a hub, one row each.

What must stay true: a row states what its publisher states, and `tried` is true only if this
project has opened the model itself. A short name is given only if the repository's layout was
verified on a small replica; none is yet, so only shipped bundles have one.
"""

from __future__ import annotations

from dataclasses import dataclass

ENGLISH = "English"
MANY = "about 100 languages"


@dataclass(frozen=True)
class ReadyModel:
    """One model: where it is, what it is good for, and its size in fp32 as published."""

    source: str  # for `twinlens pull`, `serve` and `--bundle`
    good_for: str
    languages: str  # empty for a model without texts
    dimensions: int
    megabytes: int  # of the ONNX files of all its towers in fp32
    licence: str
    modalities: tuple[str, ...] = ("image", "text")
    gated: bool = False  # the hub requires an accepted licence and a token
    tried: bool = False


BUILTIN_MODEL = ReadyModel(
    "builtin",
    "emoji, icons, clothes; not photographs",
    "11 languages",
    256,
    11,
    "Apache-2.0",
    tried=True,
)
PHOTOGRAPHS_MODEL = ReadyModel(
    "builtin:photographs",
    "photographs of things and animals, emoji, icons, clothes",
    "11 languages",
    512,
    24,
    "Apache-2.0",
    tried=True,
)
_IMAGE = ("image",)
_TEXT = ("text",)

READY_MODELS: tuple[ReadyModel, ...] = (
    BUILTIN_MODEL,
    PHOTOGRAPHS_MODEL,
    # CLIP: photographs by English words
    ReadyModel(
        "hf:Xenova/clip-vit-base-patch32",
        "photographs; the small CLIP",
        ENGLISH,
        512,
        606,
        "MIT",
    ),
    ReadyModel(
        "hf:Xenova/clip-vit-base-patch16", "photographs, finer detail", ENGLISH, 512, 599, "MIT"
    ),
    ReadyModel(
        "hf:Xenova/clip-vit-large-patch14", "photographs; the large CLIP", ENGLISH, 768, 1710, "MIT"
    ),
    ReadyModel(
        "hf:immich-app/ViT-B-32__openai", "photographs, as in Immich", ENGLISH, 512, 606, "MIT"
    ),
    ReadyModel(
        "hf:Qdrant/clip-ViT-B-32-vision+hf:Qdrant/clip-ViT-B-32-text",
        "photographs, as in fastembed",
        ENGLISH,
        512,
        606,
        "MIT",
    ),
    # SigLIP: better zero-shot than CLIP of the same size
    ReadyModel(
        "hf:Xenova/siglip-base-patch16-224",
        "photographs; independent scores",
        ENGLISH,
        768,
        813,
        "Apache-2.0",
    ),
    ReadyModel(
        "hf:onnx-community/siglip2-base-patch16-224-ONNX",
        "photographs in many languages; a good first choice",
        MANY,
        768,
        1500,
        "Apache-2.0",
    ),
    ReadyModel(
        "hf:onnx-community/siglip2-base-patch16-256-ONNX",
        "the same at 256 pixels",
        MANY,
        768,
        1500,
        "Apache-2.0",
    ),
    ReadyModel(
        "hf:immich-app/ViT-B-16-SigLIP2__webli",
        "photographs in many languages, as in Immich",
        MANY,
        768,
        1500,
        "Apache-2.0",
    ),
    # Other multilingual towers
    ReadyModel(
        "hf:immich-app/nllb-clip-base-siglip__v1",
        "photographs in rarer languages",
        "201 languages",
        768,
        1950,
        "CC-BY-NC-4.0",
    ),
    ReadyModel(
        "hf:immich-app/XLM-Roberta-Base-ViT-B-32__laion5b_s13b_b90k",
        "photographs in many languages",
        MANY,
        512,
        1460,
        "MIT",
    ),
    # MobileCLIP: small and quick
    ReadyModel(
        "hf:Xenova/mobileclip_s0",
        "photographs on small machines",
        ENGLISH,
        512,
        216,
        "Apple AMLR (research)",
    ),
    ReadyModel(
        "hf:Xenova/mobileclip_s1",
        "photographs; small, better",
        ENGLISH,
        512,
        340,
        "Apple AMLR (research)",
    ),
    ReadyModel(
        "hf:Xenova/mobileclip_s2",
        "photographs; B/16's quality, smaller",
        ENGLISH,
        512,
        397,
        "Apple AMLR (research)",
    ),
    # Images alone
    ReadyModel(
        "hf:Xenova/dinov2-small", "similar images, few examples", "", 384, 89, "Apache-2.0", _IMAGE
    ),
    ReadyModel(
        "hf:Xenova/dinov2-base", "similar images, few examples", "", 768, 347, "Apache-2.0", _IMAGE
    ),
    ReadyModel(
        "hf:onnx-community/dinov3-vits16-pretrain-lvd1689m-ONNX",
        "similar images, finer than DINOv2",
        "",
        384,
        87,
        "DINOv3 licence",
        _IMAGE,
        gated=True,
    ),
    # Texts alone
    ReadyModel(
        "hf:Xenova/multilingual-e5-small", "texts in many languages", MANY, 384, 470, "MIT", _TEXT
    ),
    ReadyModel("hf:Xenova/bge-small-en-v1.5", "English texts", ENGLISH, 384, 133, "MIT", _TEXT),
    ReadyModel(
        "hf:Xenova/all-MiniLM-L6-v2",
        "English sentences; the smallest",
        ENGLISH,
        384,
        90,
        "Apache-2.0",
        _TEXT,
    ),
)
