"""timm:NAME[/path/to/weights]: any timm model as an image encoder, its classifier removed."""

from __future__ import annotations

import difflib
import math
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import timm
import torch
from timm.data.config import resolve_model_data_config
from timm.models import load_checkpoint

from twinlens.bundle.manifest import ImageSpec
from twinlens.errors import InputError
from twinlens.training.export.description import IMAGE_FILE, Description, ImageTower
from twinlens.training.export.hub import fetch
from twinlens.training.export.lean_image import lean_image, read_attention
from twinlens.training.export.provenance import describe_checkpoint
from twinlens.training.export.sources import SourceOptions

_RESIZE: Final[dict[str, Literal["shortest", "longest", "squash"]]] = {
    "center": "shortest",
    "squash": "squash",
    "border": "longest",
}


def load(rest: str, options: SourceOptions) -> Description:
    """Return the timm model that `rest` names."""
    name, path = parse_name(rest)
    model = _build(name, path, options)
    config = dict(model.pretrained_cfg)
    provenance: dict[str, Any] = {
        "method": "timm",
        "source": f"timm:{name}",
        "checkpoint": describe_checkpoint(path) if path else None,
        "random_weights": options.random_weights,
        "licence": None if options.random_weights or path else config.get("license"),
    }
    if options.random_weights:
        provenance["seed"] = options.seed
    return describe_model(model, name=options.name or name, provenance=provenance)


def describe_model(
    model: Any, *, name: str, provenance: Mapping[str, Any] | None = None
) -> Description:
    """Return the description of a timm `model` without classifier."""
    image = ImageTower(
        model, read_image_spec(model), lean=lean_image(model), attention=read_attention(model)
    )
    return Description(name=name, image=image, provenance=provenance or {"method": "timm"})


def parse_name(rest: str) -> tuple[str, Path | None]:
    """Split NAME[/path]; NAME may include timm's tag (resnet50.a1_in1k)."""
    name, _, tail = rest.partition("/")
    if not timm.is_model(name):
        architecture = name.partition(".")[0]
        guesses = difflib.get_close_matches(architecture, timm.list_models(), 3)
        hint = f"did you mean {' or '.join(guesses)}?" if guesses else "see timm.list_models()"
        raise InputError(f"timm has no model {name!r}; {hint}", field="source")
    if not tail:
        return name, None
    # timm:NAME/weights.pt is relative, timm:NAME//data/weights.pt absolute.
    for path in (Path(tail), Path("/") / tail):
        if path.is_file():
            return name, path
    raise InputError(f"timm:{name}: {tail!r} is not a file", field="source")


def read_image_spec(model: Any) -> ImageSpec:
    """Return timm's evaluation transform of `model` as a spec."""
    config = resolve_model_data_config(model)  # type: ignore[no-untyped-call]
    # A model built for another size stores that size; its configuration keeps the original.
    built_for = getattr(getattr(model, "patch_embed", None), "img_size", None)
    height, width = built_for or config["input_size"][1:]
    resize = _RESIZE[config["crop_mode"]]
    side = min(height, width)
    mean = config["mean"]
    return ImageSpec(
        file=IMAGE_FILE,
        height=height,
        width=width,
        resize=resize,
        resize_to=math.floor(side / config["crop_pct"]),
        interpolation=config["interpolation"],
        mean=tuple(mean),
        std=tuple(config["std"]),
        # timm pads with the mean colour; a bundle pads with one grey level.
        fill=round(255 * sum(mean) / 3) if resize == "longest" else 0,
        convert="before_resize",
    )


def _build(name: str, path: Path | None, options: SourceOptions) -> Any:
    """Return the model in evaluation mode with its weights."""
    if options.random_weights:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            return timm.create_model(name, pretrained=False, num_classes=0).eval()
    if path is not None:
        return _load_file(name, path)
    remedy = f"download the file and give timm:{name}/path/to/file, or use --random-weights"
    return fetch(
        f"the weights of timm:{name}",
        remedy,
        lambda: timm.create_model(name, pretrained=True, num_classes=0).eval(),
    )


def _load_file(name: str, path: Path) -> Any:
    """Return the model with the weights in `path`, converted where timm knows their format.

    Every weight of the model must come from the file; other weights of the file (a classifier, a
    decoder) are ignored. timm itself would skip missing weights and keep them random.
    """
    model = timm.create_model(name, pretrained=False, num_classes=0)
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    try:
        found = load_checkpoint(model, str(path), strict=False, filter_fn=convert)
    except (RuntimeError, KeyError, ValueError, TypeError, pickle.UnpicklingError) as error:
        raise _misfit(name, path, " ".join(str(error).split())[:300]) from error
    missing = list(found.missing_keys) if found is not None else []
    if missing:
        raise _misfit(name, path, f"it lacks {len(missing)} weights, {missing[0]!r} first")
    return model.eval()


def _misfit(name: str, path: Path, reason: str) -> InputError:
    return InputError(f"the weights {path.name!r} do not fit {name}: {reason}", field="source")
