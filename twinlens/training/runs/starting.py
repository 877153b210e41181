"""`init=SOURCE`: the settings and weights that a run starts from.

A SOURCE is `open_clip:ARCH[/TAG or FILE]`, `timm:NAME[/FILE]`, `hf:OWNER/NAME or FOLDER`, or the
folder of another run. What must stay true: the encoder sees pictures and texts as its source did
(size, mean, std, resizing, tokenizer, context, padding), and an invalid SOURCE is refused before
any data are read.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor

from twinlens.errors import InputError, MissingDependencyError, NotFoundError
from twinlens.training.config import Config, apply_sets
from twinlens.training.data.tokens import CLIP, LEARNED, OWN_TEXT
from twinlens.training.encoders.open_clip_pair import check_open_clip
from twinlens.training.nn.network import Network
from twinlens.training.runs.checkpoints import find_checkpoint, load_checkpoint
from twinlens.training.runs.hub_source import read_hub_settings
from twinlens.training.runs.run import CHECKPOINTS, CONFIG, read_config, served_weights
from twinlens.training.runs.towers import starts_from_run

# The settings of a run that belong to its towers.
IMAGE = ("encoder", "architecture", "image_size", "mean", "std", "resize", "resize_to",
         "interpolation", "convert", "crop_rounding")  # fmt: skip
SHAPE = ("norm_eps", "layer_scale")
TEXT = ("text_encoder", "text_width", "text_depth", "text_heads", "vocabulary", "context", "pad_id")
PARTS = ("image", "text", "image_projection", "text_projection", "scale", "bias")
EXAMPLES = (
    "open_clip:ARCH[/TAG or /FILE], timm:NAME[/FILE], hf:OWNER/NAME or hf:FOLDER,"
    " or the folder of a training run"
)
SOURCES = {"init": "starting:start_from", "teachers": "teachers:learn_from"}  # by setting
RESIZE = {"center": "shortest", "squash": "squash", "border": "longest"}  # timm's crop_mode


def apply_pairs(config: Config, pairs: Sequence[str]) -> Config:
    """Return the config with `key=value` pairs applied: settings from sources first."""
    named = [pair for pair in pairs if pair.partition("=")[0].strip() in SOURCES]
    for pair in named:
        key, _, source = pair.partition("=")
        module, _, name = SOURCES[key.strip()].partition(":")
        bring = getattr(import_module(f"twinlens.training.runs.{module}"), name)
        config = bring(config, source.strip())
    return apply_sets(config, [pair for pair in pairs if pair not in named])


def start_from(config: Config, source: str) -> Config:
    """Return the config with `init` and the settings that `source` requires."""
    if not source:
        return config
    kind, colon, rest = source.partition(":")
    if colon and kind in _READERS and rest:
        return _READERS[kind](config, source, rest)
    if not (Path(source) / CONFIG).is_file():
        near = difflib.get_close_matches(kind, _READERS, 1) if colon else []
        hint = f"; did you mean {near[0]}:{rest}?" if near else "."
        raise NotFoundError(
            f"init {source!r} is neither the folder of a training run nor of a known kind{hint}"
            f" Give {EXAMPLES}",
            field="init",
        )
    return _start_from_run(config, source)


def _start_from_open_clip(config: Config, source: str, rest: str) -> Config:
    arch, weights = check_open_clip(rest)
    import open_clip
    from open_clip.transform import PreprocessCfg

    model: dict[str, Any] = open_clip.get_model_config(arch)
    text = model["text_cfg"]
    has_text = "text" in config.objective.paths
    if has_text and (text.get("hf_model_name") or text.get("hf_tokenizer_name")):
        raise InputError(
            f"init {source!r}: its texts are read by a tokenizer of the hub, which training does"
            " not fetch; name an architecture with CLIP's own tokenizer, such as ViT-B-32",
            field="init",
        )
    tag = open_clip.pretrained.get_pretrained_cfg(arch, weights) if weights else {}
    seen = dataclasses.asdict(PreprocessCfg()) | {k: v for k, v in tag.items() if v is not None}
    fields: dict[str, Any] = {
        "init": source,
        "encoder": source,
        "pretrained": False,
        "image_size": _side(source, model["vision_cfg"].get("image_size", 224)),
        "mean": tuple(seen["mean"]),
        "std": tuple(seen["std"]),
        "resize": seen["resize_mode"],
        "resize_to": 0,
        "interpolation": seen["interpolation"],
        "convert": "after_resize",
    }
    if has_text:
        context = int(text.get("context_length", 77))
        fields |= {"text_encoder": source, "tokenizer": "clip", "context": context}
        config = _set_space(config, 0)
    return _with(config, fields)


def _start_from_timm(config: Config, source: str, rest: str) -> Config:
    try:
        import timm
        from timm.data.config import resolve_data_config
    except ImportError:
        raise MissingDependencyError("timm is not installed; run: pip install timm") from None
    name, _, path = rest.partition("/")
    if not timm.is_model(name):
        near = difflib.get_close_matches(name.partition(".")[0], timm.list_models(), 2)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise NotFoundError(f"init {source!r}: timm has no model {name!r}{hint}", field="init")
    if path and not Path(path).is_file():
        raise NotFoundError(
            f"init {source!r}: {path} is no file; give weights of timm:{name} as .safetensors"
            f" (timm:{name}//folder/weights.safetensors), or timm:{name} for its released ones",
            field="init",
        )
    known = timm.models.get_pretrained_cfg(name)
    seen = resolve_data_config({}, pretrained_cfg=known.to_dict() if known else {})  # type: ignore[no-untyped-call]
    side = _side(source, seen["input_size"][1:])
    fields = {
        "init": source,
        "encoder": source,
        "pretrained": not path,
        "image_size": side,
        "mean": tuple(seen["mean"]),
        "std": tuple(seen["std"]),
        "resize": RESIZE[seen["crop_mode"]],
        "resize_to": math.floor(side / seen["crop_pct"]),
        "interpolation": seen["interpolation"],
        "convert": "before_resize",
    }
    return _with(config, fields)


def _start_from_hub(config: Config, source: str, rest: str) -> Config:
    has_text = "text" in config.objective.paths
    fields = read_hub_settings(source, texts=has_text)
    return _with(_set_space(config, 0) if "text_encoder" in fields else config, fields)


def _start_from_run(config: Config, source: str) -> Config:
    other = read_config(Path(source))
    if find_checkpoint(Path(source) / CHECKPOINTS) is None:
        raise NotFoundError(f"init {source!r} has no checkpoint yet; train it further first")
    both = all("text" in one.objective.paths for one in (config, other))
    names = (*IMAGE, *SHAPE, *(TEXT if both else ()))
    fields: dict[str, Any] = {name: getattr(other.settings, name) for name in names}
    fields |= {"init": source, "pretrained": False}
    if both:
        own = Path(source) / (CLIP if other.settings.tokenizer == "clip" else LEARNED)
        fields["tokenizer"] = "clip" if own.name == CLIP else str(own)
        config = _set_space(config, other.objective.dim)
    return _with(config, fields)


_READERS = {"open_clip": _start_from_open_clip, "timm": _start_from_timm, "hf": _start_from_hub}


def load_run_weights(config: Config, net: Network) -> None:
    """Load what the run `init` serves into the parts that it shares with `net`, if it is a run."""
    if not starts_from_run(config.settings):
        return
    source = Path(config.settings.init)
    found = find_checkpoint(source / CHECKPOINTS)
    if found is None:
        raise NotFoundError(
            f"init {source} no longer exists; a new run needs its weights", field="init"
        )
    weights = served_weights(read_config(source), load_checkpoint(found))
    for part in PARTS:
        own = _of_part(weights, part)
        if part in net and own:
            _load(net, part, own, config.settings.init)


def towers_with_weights(config: Config) -> tuple[str, ...]:
    """Return the towers that start from `init`, random ones of a named architecture too."""
    settings = config.settings
    named = "/" in settings.encoder.partition(":")[2]
    found = ["image"] if settings.init or settings.pretrained or named else []
    if "text" in config.objective.paths:
        is_run = starts_from_run(settings)
        taken = is_run and "text" in read_config(Path(settings.init)).objective.paths
        found += ["text"] if settings.text_encoder != OWN_TEXT or taken else []
    return tuple(found)


def _of_part(weights: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    prefix = f"{part}."
    return {
        name.removeprefix(prefix): value
        for name, value in weights.items()
        if name.startswith(prefix)
    }


def _load(net: Network, part: str, weights: Mapping[str, Tensor], source: str) -> None:
    try:
        net[part].load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"init {source!r}: {part} does not fit the settings: {reason}; leave the settings that"
            " come with init as they are",
            field="init",
        ) from None


def _side(source: str, size: Any) -> int:
    """Return the side of the square input of an encoder."""
    sides = {size} if isinstance(size, int) else set(size)
    if len(sides) > 1:
        raise InputError(
            f"init {source!r} does not take square images, which training uses", field="init"
        )
    return int(sides.pop())


def _set_space(config: Config, dim: int) -> Config:
    return dataclasses.replace(config, objective=dataclasses.replace(config.objective, dim=dim))


def _with(config: Config, fields: Mapping[str, Any]) -> Config:
    return dataclasses.replace(config, settings=dataclasses.replace(config.settings, **fields))
