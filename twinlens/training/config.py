"""The settings of a run: a frozen dataclass, and how `--set key=value` changes it.

What must stay true: an unknown key is an error that suggests the nearest known one; a run saves its
resolved settings in its folder and resumes only with the same ones.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from twinlens.errors import InputError

Instance = TypeVar("Instance")


@dataclass(frozen=True)
class TrainingSettings:
    """All settings but those of the method."""

    init: str = ""  # weights that towers start from; `start_from` sets what must match them
    freeze: str = ""  # parts or parameter prefixes that do not train, comma-separated
    lora: int = 0  # rank of the adapters on the frozen blocks of pretrained towers; 0 = off
    lora_alpha: float = 16.0  # adapters are scaled by lora_alpha / lora
    encoder: str = "resnet18"
    pretrained: bool = False  # timm and open_clip: start from released weights
    image_size: int = 32
    stored_size: int = 0  # short side that pictures are stored at before cropping; 0 = 2 image_size
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    # How pictures are preprocessed for the served encoder: see `ImageSpec`.
    resize: Literal["shortest", "longest", "squash"] = "shortest"
    resize_to: int = 0  # side before the centre crop; 0 = image_size
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"] = (
        "bicubic"
    )
    convert: Literal["before_resize", "after_resize"] = "before_resize"
    crop_rounding: Literal["round", "floor"] = "round"
    architecture: str = ""  # form of an hf: encoder, from its config.json; set by init
    drop_path: float = 0.0  # share of images that skip the last block; rises from 0 at the first
    drop_path_even: bool = False  # the same share at each block (our own vit-*)
    layer_scale: float = 0.0  # first value of the learned scale of a block's branches; 0 = no scale
    norm_eps: float = 0.0  # epsilon of the towers' LayerNorms; 0 = the encoder's own

    text_encoder: str = "transformer"  # our own, or open_clip:ARCH
    text_width: int = 256
    text_depth: int = 2
    text_heads: int = 4
    tokenizer: str = "captions"  # captions (learn one from them), clip, or a tokenizer.json
    vocabulary: int = 8000
    context: int = 32
    pad_id: int = -1  # padding id; -1 = the tokenizer's own

    steps: int = 0  # optimizer steps; 0 = by `epochs`
    epochs: float = 100.0
    batch: int = 256  # images per optimizer step, over all ranks
    accumulate: int = 1  # micro-batches per step
    chunk: int = 0  # cached gradients: images per forward; 0 = off

    optimizer: Literal["sgd", "adamw", "lars"] = "sgd"
    lr: float = 0.06  # for a batch of 256, see lr_scaling
    lr_scaling: Literal["linear", "sqrt", "none"] = "linear"
    lr_floor: float = 0.0  # last learning rate, as a share of the first
    warmup: int = 0  # optimizer steps
    momentum: float = 0.9
    beta2: float = 0.999
    adam_eps: float = 1e-8
    trust: float = 0.001  # LARS: norm of a layer's step at lr 1, over the norm of its weights
    weight_decay: float = 5e-4
    weight_decay_end: float = -1.0  # negative = constant
    layer_decay: float = 1.0  # a layer's rate as a share of the next layer's, in both towers
    patch_rate: float = 1.0  # rate of the patch embedding, as a share of lr; 0 = frozen
    clip: float = 0.0  # largest gradient norm; 0 = off

    batchnorm: Literal["sync", "local", "split"] = "sync"
    splits: int = 8  # parts of the batch, for `split`
    parallel: Literal["ddp", "fsdp"] = "ddp"  # under torchrun: copies, or shards of parameters
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"  # fp16 scales the loss
    gradient_checkpointing: bool = False  # recompute blocks for the gradient: saves memory
    compile: bool = False
    capture: bool = False  # one GPU: record a step's passes once and replay them
    device: str = "auto"
    devices: int = 1  # ranks started on this machine, one per device
    threads: int = 0  # CPU threads; 0 = torch's choice
    memory_gb: float = 4.0  # memory limit for decoded images
    cache: str = ""  # folder for decoded pictures; empty = none
    shuffle_block: int = 0  # images of a shard that are read together; 0 = each by itself
    seed: int = 0

    save_every: int = 0  # optimizer steps; 0 = ten times per run
    keep: int = 2  # checkpoints
    log_every: int = 10
    eval: str = ""  # held-out data, to validate on while training
    eval_every: int = 0  # optimizer steps; 0 = every epoch
    eval_limit: int = 2000  # images of each set in a validation; 0 = all
    best_by: str = "auto"  # held-out metric that selects the best checkpoint
    patience: int = 0  # stop after this many validations without improvement; 0 = never
    doctor: bool = True  # measure when logging, and report faults at once
    trackers: str = "tensorboard"  # other loggers, comma-separated: tensorboard, mlflow
    monitor_share: float = 0.02  # largest share of the step time for monitors; 0 = off


OF_HELD_OUT = ("eval_every", "eval_limit", "best_by", "patience")  # settings that need `eval`


@dataclass(frozen=True)
class Config:
    """A whole run: the method with its own settings (`objective`), and all other settings."""

    method: str
    objective: Any
    settings: TrainingSettings

    def to_json(self) -> str:
        """Return the text of `config.json`."""
        content = {
            "method": self.method,
            "objective": dataclasses.asdict(self.objective),
            "settings": dataclasses.asdict(self.settings),
        }
        return json.dumps(content, indent=1) + "\n"


def apply_sets(config: Config, pairs: Sequence[str]) -> Config:
    """Return the config with `key=value` pairs applied; a key of the method takes precedence."""
    for key, text in map(_split, pairs):
        config = _set(config, key, text)
    return config


def set_keys(instance: Instance, pairs: Sequence[str], owner: str) -> Instance:
    """Return a settings dataclass with `key=value` pairs applied; `owner` names it in errors."""
    for key, text in map(_split, pairs):
        known = known_keys(instance)
        if key not in known:
            raise _unknown(key, known, f"{owner} knows {', '.join(known)}")
        instance = _replace(instance, key, text)
    return instance


def known_keys(instance: Any, prefix: str = "") -> list[str]:
    """Return the keys that may be set on a dataclass instance, nested ones with dots."""
    keys = []
    for spec in dataclasses.fields(instance):
        value = getattr(instance, spec.name)
        if dataclasses.is_dataclass(value):
            keys += known_keys(value, f"{prefix}{spec.name}.")
        else:
            keys.append(prefix + spec.name)
    return keys


def build(cls: type[Instance], content: Mapping[str, Any]) -> Instance:
    """Return the dataclass whose `dataclasses.asdict` is given."""
    hints = typing.get_type_hints(cls)
    unknown = set(content) - set(hints)
    if unknown:
        raise InputError(f"{cls.__name__}: unknown key {sorted(unknown)[0]!r}")
    values = {key: _rebuild(value, hints[key]) for key, value in content.items()}
    return cls(**values)


def differences(one: Any, other: Any) -> list[str]:
    """Return the keys in which two dataclass instances differ."""
    return [
        f"{key} ({get_value(one, key)} before, {get_value(other, key)} now)"
        for key in known_keys(one)
        if get_value(one, key) != get_value(other, key)
    ]


def _set(config: Config, key: str, text: str) -> Config:
    own, rest = known_keys(config.objective), known_keys(config.settings)
    if key in own:
        return dataclasses.replace(config, objective=_replace(config.objective, key, text))
    if key in rest:
        return dataclasses.replace(config, settings=_replace(config.settings, key, text))
    raise _unknown(key, own + rest, f"{config.method} knows {', '.join(own)}")


def _split(pair: str) -> tuple[str, str]:
    key, equals, text = pair.partition("=")
    if not equals:
        raise InputError(f"--set {pair!r}: write key=value", field="--set")
    return key.strip(), text.strip()


def _unknown(key: str, known: Sequence[str], otherwise: str) -> InputError:
    close = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else otherwise
    return InputError(f"--set {key}: unknown key; {hint}", field="--set")


def _replace(instance: Any, key: str, text: str) -> Any:
    name, _, inner = key.partition(".")
    if inner:
        value = _replace(getattr(instance, name), inner, text)
    else:
        value = _parse(text, typing.get_type_hints(type(instance))[name], key)
    return dataclasses.replace(instance, **{name: value})


def get_value(instance: Any, key: str) -> Any:
    """Return the value of a key, nested ones with dots."""
    for name in key.split("."):
        instance = getattr(instance, name)
    return instance


def _parse(text: str, hint: Any, key: str) -> Any:
    """Return `text` as the type of the field; an error says what the field accepts."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    try:
        if origin is Literal:
            if text not in args:
                raise ValueError(f"one of {', '.join(map(str, args))}")
            return text
        if origin is tuple:
            return tuple(_parse(part, args[0], key) for part in text.split(","))
        if hint is bool:
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        return hint(text)
    except KeyError:
        raise InputError(f"--set {key}={text}: expected true or false", field="--set") from None
    except ValueError as error:
        wanted = str(error) if origin is Literal else getattr(hint, "__name__", str(hint))
        raise InputError(f"--set {key}={text}: expected {wanted}", field="--set") from None


def _rebuild(value: Any, hint: Any) -> Any:
    if typing.get_origin(hint) is types.UnionType:
        hint = next(
            (
                arg
                for arg in typing.get_args(hint)
                if dataclasses.is_dataclass(arg)
                and isinstance(value, dict)
                and set(value) == {spec.name for spec in dataclasses.fields(arg)}
            ),
            type(value),
        )
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return build(typing.cast("type[Any]", hint), value)
    return tuple(value) if isinstance(value, list) else value
