"""Small models of the families that the export promises, with random weights, exported once each.

They are the libraries' own classes at a fraction of the width and depth, so each proves for its
family what the full size would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import open_clip
import pytest
import timm
import torch
from open_clip.transform import PreprocessCfg
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from twinlens.bundle.manifest import Manifest
from twinlens.training.export import Description, export_encoder
from twinlens.training.export.sources import open_clip as open_clip_source
from twinlens.training.export.sources import timm as timm_source

SIDE: Final = 64
TEXT: Final = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 3}
SIGLIP_TEXT: Final = {
    "context_length": 16,
    "vocab_size": 64,
    "width": 64,
    "heads": 2,
    "layers": 2,
    "hf_tokenizer_name": "a/siglip",
    "tokenizer_kwargs": {"clean": "canonicalize"},
    "no_causal_mask": True,
    "proj_bias": True,
    "pool_type": "last",
    "norm_kwargs": {"eps": 1e-6},
}


class Recorder:
    """A progress that keeps what it is told."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.notes: list[str] = []

    def stage(self, text: str) -> None:
        self.stages.append(text)

    def note(self, text: str) -> None:
        self.notes.append(text)


@dataclass(frozen=True)
class Exported:
    """One exported model: its description, its bundle, and what the export said."""

    description: Description
    folder: Path
    manifest: Manifest
    notes: list[str]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors are quicker on one thread, and the others belong to other tests."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def build_clip(vision: dict[str, Any], text: dict[str, Any], **settings: Any) -> Any:
    """Return an open_clip model of this configuration with random weights."""
    torch.manual_seed(0)
    nested = settings.pop("custom_text", False)
    make = open_clip.model.CustomTextCLIP if nested else open_clip.model.CLIP
    ours = {key: text[key] for key in text if key not in ("hf_tokenizer_name", "tokenizer_kwargs")}
    model = make(48, vision, ours, **settings)
    size = vision["image_size"]
    cfg = PreprocessCfg(size=size)
    model.visual.preprocess_cfg = {**vars(cfg), "size": (size, size)}
    for name, parameter in model.named_parameters():
        # An untrained gain of 0 would switch a residual branch off and prove nothing about it.
        if name.endswith("bn3.weight"):
            torch.nn.init.uniform_(parameter, 0.2, 0.4)
    return model.eval()


def write_word_tokenizer(path: Path) -> Path:
    """Write a tokenizer.json of a few words that ends each text like SigLIP's."""
    words = ["</s>", "<unk>", "a", "cat", "photo", "of", "red", "two", "dogs", "street", "market"]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 0)]
    )
    tokenizer.save(str(path))
    return path


def describe_vit(folder: Path) -> Description:
    """CLIP with a vision transformer pooled at its class token and a causal text tower."""
    vision = {"image_size": SIDE, "patch_size": 16, "width": 96, "layers": 3, "head_width": 32}
    model = build_clip(vision, TEXT, quick_gelu=True)
    return open_clip_source.describe_model(model, TEXT, name="vit")


def describe_resnet50(folder: Path) -> Description:
    """CLIP with the modified ResNet and its attention pool."""
    vision = {"image_size": SIDE, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32}
    model = build_clip(vision, {**TEXT, "layers": 1})
    return open_clip_source.describe_model(model, TEXT, name="rn50")


def describe_siglip(folder: Path) -> Description:
    """SigLIP: timm image tower with a pooling head, two-way text, sigmoid."""
    vision = {
        "image_size": 224,
        "timm_model_name": "vit_base_patch16_siglip_224",
        "timm_pool": "map",
        "timm_proj": "none",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("open_clip.timm_model.timm.create_model", _create_small)
        model = build_clip(
            vision, SIGLIP_TEXT, custom_text=True, init_logit_bias=-10.0, init_logit_scale=2.3
        )
    tokenizer = write_word_tokenizer(folder / "tokenizer.json")
    return open_clip_source.describe_model(model, SIGLIP_TEXT, name="a-siglip", tokenizer=tokenizer)


_create_model = timm.create_model


def _create_small(name: str, **settings: Any) -> Any:
    """Build a timm model at a fraction of its size."""
    return _create_model(name, embed_dim=48, depth=2, num_heads=3, **settings)


def describe_timm(name: str, **settings: Any) -> Callable[[Path], Description]:
    """Any timm model, at the size that `settings` give it."""

    def describe(folder: Path) -> Description:
        torch.manual_seed(0)
        model = timm.create_model(name, pretrained=False, num_classes=0, **settings).eval()
        return timm_source.describe_model(model, name=name)

    return describe


FAMILIES: Final[dict[str, Callable[[Path], Description]]] = {
    "open_clip vit": describe_vit,
    "open_clip rn50": describe_resnet50,
    "siglip": describe_siglip,
    "timm vit with registers": describe_timm(
        "vit_small_patch14_reg4_dinov2", img_size=56, depth=3, embed_dim=96, num_heads=3
    ),
    "timm resnet": describe_timm("resnet10t"),
    "timm convnext": describe_timm("convnext_atto"),
}


@pytest.fixture(scope="session", params=FAMILIES)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Each family in turn, exported in fp32 and int8."""
    return export_family(request.param, tmp_path_factory)


@pytest.fixture(scope="session")
def exported_vit(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The vision transformer alone, for what need not be shown of each family."""
    return export_family("open_clip vit", tmp_path_factory)


_DONE: dict[str, Exported] = {}


def export_family(family: str, factory: pytest.TempPathFactory) -> Exported:
    """Export one family, once in a test run."""
    if family not in _DONE:
        folder = factory.mktemp("exports")
        description = FAMILIES[family](folder)
        progress = Recorder()
        manifest = export_encoder(
            description, folder / "bundle", precisions=("fp32", "int8"), progress=progress
        )
        _DONE[family] = Exported(description, folder / "bundle", manifest, progress.notes)
    return _DONE[family]


@pytest.fixture(scope="session")
def families() -> dict[str, Callable[[Path], Description]]:
    """What describes each family, given a folder for its files."""
    return FAMILIES
