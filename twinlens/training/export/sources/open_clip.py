"""open_clip:ARCH[/TAG or /path/to/weights], or open_clip:local-dir:FOLDER."""

from __future__ import annotations

import copy
import difflib
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import open_clip
import torch
from torch import Tensor, nn

from twinlens.bundle.manifest import ImageSpec
from twinlens.errors import InputError
from twinlens.training.export.description import (
    IMAGE_FILE,
    Description,
    ImageTower,
    Similarity,
    TextTower,
)
from twinlens.training.export.hub import fetch
from twinlens.training.export.lean_image import lean_image, read_attention
from twinlens.training.export.lean_text import read_text
from twinlens.training.export.log_filter import drop_log_message
from twinlens.training.export.provenance import describe_checkpoint
from twinlens.training.export.sources import SourceOptions
from twinlens.training.export.text_specs import choose_tokenizer

_SCHEMAS: Final = ("hf-hub:", "local-dir:")
_RANDOM: Final = "No pretrained weights loaded"  # logged even where random weights were requested


@dataclass(frozen=True)
class _Weights:
    """Where the weights come from: one of open_clip's tags, a file, or nowhere."""

    tag: str | None = None
    path: Path | None = None

    @property
    def argument(self) -> str | None:
        """The value of open_clip's `pretrained`."""
        return str(self.path) if self.path else self.tag


def load(rest: str, options: SourceOptions) -> Description:
    """Return the open_clip model that `rest` names."""
    schema = next((prefix for prefix in _SCHEMAS if rest.startswith(prefix)), None)
    arch, weights = (rest, _Weights()) if schema else parse_name(rest)
    if not (schema or weights.argument or options.random_weights):
        tags = open_clip.list_pretrained_tags_by_model(arch)
        example = f"/{tags[0]}" if tags else ""
        raise InputError(
            f"open_clip:{arch} names no weights; add a tag (open_clip:{arch}{example}), the path "
            f"of a file (open_clip:{arch}/path/to/weights.safetensors), or --random-weights",
            field="source",
        )
    config = _read_config(arch)
    model, checkpoint = _build(arch, weights, config, options)
    label = f"{schema}{arch.rsplit('/', 1)[-1]}" if schema == "local-dir:" else arch
    provenance: dict[str, Any] = {
        "method": "open_clip",
        "source": f"open_clip:{label}" + (f"/{weights.tag}" if weights.tag else ""),
        "checkpoint": checkpoint,
        "random_weights": options.random_weights,
        "licence": None,
    }
    if options.random_weights:
        provenance["seed"] = options.seed
    return describe_model(
        model,
        config["text_cfg"],
        name=options.name or arch.rsplit("/", 1)[-1],
        tokenizer=options.tokenizer,
        templates=options.templates,
        provenance=provenance,
    )


def describe_model(
    model: Any,
    text_config: Mapping[str, Any],
    *,
    name: str,
    tokenizer: Path | None = None,
    templates: tuple[str, ...] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Description:
    """Return the description of an open_clip `model` built from this `text_config`."""
    visual = model.visual
    spec, write = choose_tokenizer(text_config, int(model.context_length), tokenizer, name)
    image = ImageTower(
        OpenClipImageTower(model),
        _image_spec(visual.preprocess_cfg),
        lean=lean_image(visual),
        attention=read_attention(visual),
    )
    text = TextTower(
        OpenClipTextTower(model),
        spec,
        write,
        lean=read_text(model),
        padding_reason=_find_padding_reason(model),
    )
    return Description(
        name=name,
        image=image,
        text=text,
        similarity=_read_similarity(model),
        templates=templates or default_templates(),
        provenance=provenance or {"method": "open_clip"},
    )


def default_templates() -> tuple[str, ...]:
    """Return open_clip's short set of evaluation prompts."""
    return tuple(template("{}") for template in open_clip.SIMPLE_IMAGENET_TEMPLATES)


def parse_name(rest: str) -> tuple[str, _Weights]:
    """Split ARCH[/TAG or /path]; ARCH itself may contain slashes (ViT-B/32)."""
    known = open_clip.list_models()
    parts = rest.split("/")
    for count in range(len(parts), 0, -1):
        arch, tail = "-".join(parts[:count]), "/".join(parts[count:])
        if arch in known:
            return arch, _parse_weights(arch, tail)
    guesses = difflib.get_close_matches(parts[0], known, 3)
    hint = f"did you mean {' or '.join(guesses)}?" if guesses else f"{len(known)} are known"
    raise InputError(f"open_clip has no architecture {parts[0]!r}; {hint}", field="source")


def _parse_weights(arch: str, tail: str) -> _Weights:
    tags = open_clip.list_pretrained_tags_by_model(arch)
    if not tail:
        return _Weights()
    if tail in tags:
        return _Weights(tag=tail)
    # open_clip:ARCH/weights.pt is relative, open_clip:ARCH//data/weights.pt absolute.
    for path in (Path(tail), Path("/") / tail):
        if path.is_file():
            return _Weights(path=path)
    raise InputError(
        f"open_clip:{arch}: {tail!r} is neither a file nor a tag; "
        f"tags: {', '.join(tags) or 'none'}",
        field="source",
    )


def _read_config(arch: str) -> dict[str, Any]:
    """Return the model's configuration, from the hub if the name says so."""
    config = fetch(
        f"the configuration of {arch}",
        "download its files and give open_clip:local-dir:PATH",
        lambda: open_clip.get_model_config(arch),
    )
    return copy.deepcopy(cast("dict[str, Any]", config))


def _build(
    arch: str, weights: _Weights, config: Mapping[str, Any], options: SourceOptions
) -> tuple[nn.Module, dict[str, Any] | None]:
    """Return the model with its weights, and what its checkpoint was."""
    if "hf_model_name" in config["text_cfg"]:
        raise InputError(
            f"open_clip:{arch} takes its text tower from the transformers library, which this "
            "export does not read; choose an architecture with open_clip's own text tower",
            field="source",
        )
    path = weights.path or _find_local_weights(arch)
    quick = False
    if weights.tag and not options.random_weights:
        tag = open_clip.pretrained.get_pretrained_cfg(arch, weights.tag)
        # The weights were trained with another GELU than the architecture's default.
        quick = bool(tag.get("quick_gelu", False)) and not config.get("quick_gelu", False)
        remedy = f"download it and give open_clip:{arch}/path/to/file, or use --random-weights"
        path = Path(
            fetch(
                f"the weights {weights.tag!r} of {arch}",
                remedy,
                lambda: open_clip.download_pretrained(tag),
            )
        )
    model = _create(arch, weights, quick, options)
    return model.eval(), describe_checkpoint(path) if path and not options.random_weights else None


def _find_local_weights(arch: str) -> Path | None:
    """Return the weights in the folder of a `local-dir:` name, if it holds exactly one file."""
    if not arch.startswith("local-dir:"):
        return None
    folder = Path(arch.removeprefix("local-dir:"))
    found = [path for path in folder.glob("*") if path.suffix in (".safetensors", ".bin", ".pth")]
    return found[0] if len(found) == 1 else None


def _create(arch: str, weights: _Weights, quick: bool, options: SourceOptions) -> Any:
    """Build the model and load its weights; a file that does not fit is an input error."""
    load_weights = not options.random_weights
    with torch.random.fork_rng(devices=[]), drop_log_message(_RANDOM):
        torch.manual_seed(options.seed)
        try:
            return open_clip.create_model(
                arch,
                pretrained=weights.argument if load_weights else None,
                load_weights=load_weights,
                # Otherwise a folder or repository without weights would stay random.
                require_pretrained=load_weights,
                force_quick_gelu=quick,
                pretrained_text=False,
                weights_only=True,
            )
        except (RuntimeError, KeyError, ValueError, pickle.UnpicklingError) as error:
            reason = " ".join(str(error).split())[:300]
            given = weights.argument or arch
            raise InputError(
                f"the weights {given!r} do not fit {arch}: {reason}", field="source"
            ) from error


def _image_spec(config: Mapping[str, Any]) -> ImageSpec:
    """Return open_clip's preprocessing as a spec."""
    size = config["size"]
    height, width = (size, size) if isinstance(size, int) else size
    return ImageSpec(
        file=IMAGE_FILE,
        height=height,
        width=width,
        resize=config["resize_mode"],
        resize_to=min(height, width),
        interpolation=config["interpolation"],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        fill=config.get("fill_color", 0),
        convert="after_resize",
    )


def _read_similarity(model: Any) -> Similarity:
    """Return the trained scale and bias; a bias means that the model was trained with a sigmoid."""
    scale = float(model.logit_scale.detach().exp())
    if model.logit_bias is None:
        return Similarity("softmax", scale)
    return Similarity("sigmoid", scale, float(model.logit_bias.detach()))


def _find_padding_reason(model: Any) -> str:
    """Return why this architecture's texts cannot be cut, or "" if the export must test it."""
    tower = getattr(model, "text", model)
    if getattr(tower, "attn_mask", None) is None:
        return "attention is bidirectional, so padding takes part in every embedding"
    pool = getattr(tower, "pool_type", None) or getattr(tower, "text_pool_type", "")
    if pool not in ("argmax", "eos", "first"):
        return f"the embedding is read from the token at {pool!r}, which is padding for most texts"
    return ""


class OpenClipImageTower(nn.Module):
    """The image half of an open_clip model as one module."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        """Return what `encode_image` returns."""
        return cast("Tensor", self.model.encode_image(pixels))


class OpenClipTextTower(nn.Module):
    """The text half of an open_clip model as one module."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        """Return what `encode_text` returns."""
        return cast("Tensor", self.model.encode_text(tokens))
