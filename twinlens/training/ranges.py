"""The allowed values of settings, by name, and which settings of one run exclude each other.

What must stay true: a run with a meaningless value is refused before any data are read; the error
names the key, its value, the allowed values and what to set. A number without a range here must
only be finite; the tests check that every key of a method or of a run is listed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from twinlens.errors import InputError
from twinlens.training.config import (
    OF_HELD_OUT,
    Config,
    TrainingSettings,
    get_value,
    known_keys,
)


@dataclass(frozen=True)
class Range:
    """The numbers from `low` to `high`; with `above` or `below` the bound itself is excluded."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False

    def holds(self, value: float) -> bool:
        """Tell whether the value lies in the range; only finite values do."""
        over = value > self.low if self.above else value >= self.low
        under = value < self.high if self.below else value <= self.high
        return math.isfinite(value) and over and under

    def describe(self) -> str:
        """Return the range in words, as they follow "must be"."""
        parts = []
        if math.isfinite(self.low):
            parts.append(f"{'above' if self.above else 'at least'} {self.low:g}")
        if math.isfinite(self.high):
            parts.append(f"{'below' if self.below else 'at most'} {self.high:g}")
        return " and ".join(parts) or "a finite number"


_ANY, _POSITIVE, _NATURAL, _NOT_NEGATIVE = Range(), Range(0, above=True), Range(1), Range(0)
_SHARE, _PART = Range(0, 1), Range(0, 1, above=True)
_DECAY = Range(0, 1, below=True)

# By key, by method and key, or by the last part of a key with dots.
RANGES: dict[str, Range] = {
    # Any run.
    "image_size": _NATURAL, "stored_size": _NOT_NEGATIVE,
    "resize_to": _NOT_NEGATIVE, "mean": _SHARE, "std": _POSITIVE,
    "text_width": _NATURAL, "text_depth": _NATURAL, "text_heads": _NATURAL,
    "vocabulary": Range(4), "context": Range(2), "pad_id": Range(-1),
    "steps": _NOT_NEGATIVE, "epochs": _NOT_NEGATIVE, "batch": _NATURAL, "accumulate": _NATURAL,
    "chunk": _NOT_NEGATIVE,
    "lr": _NOT_NEGATIVE, "lr_floor": _SHARE, "warmup": _NOT_NEGATIVE, "momentum": _DECAY,
    "beta2": _DECAY, "adam_eps": _POSITIVE, "trust": _POSITIVE, "weight_decay": _NOT_NEGATIVE,
    "weight_decay_end": _ANY, "layer_decay": _PART, "patch_rate": _NOT_NEGATIVE,
    "clip": _NOT_NEGATIVE, "lora": _NOT_NEGATIVE, "lora_alpha": _POSITIVE,
    "drop_path": _DECAY, "layer_scale": _NOT_NEGATIVE, "norm_eps": _NOT_NEGATIVE,
    "splits": _NATURAL, "threads": _NOT_NEGATIVE, "memory_gb": _NOT_NEGATIVE,
    "shuffle_block": _NOT_NEGATIVE, "devices": _NATURAL,
    "seed": _NOT_NEGATIVE, "save_every": _NOT_NEGATIVE, "keep": _NATURAL, "log_every": _NATURAL,
    "monitor_share": _NOT_NEGATIVE, "eval_every": _NOT_NEGATIVE, "eval_limit": _NOT_NEGATIVE,
    "patience": _NOT_NEGATIVE,
    # Heads and towers.
    "hidden": _NATURAL, "moco.hidden": _NOT_NEGATIVE, "dim": _NATURAL, "clip.dim": _NOT_NEGATIVE,
    "siglip.dim": _NOT_NEGATIVE, "devise.dim": _NOT_NEGATIVE, "mobileclip.dim": _NOT_NEGATIVE,
    "layers": _NOT_NEGATIVE, "mocov3.layers": _NATURAL, "dropout": _DECAY, "narrow": _NATURAL,
    "bottleneck": _NATURAL, "prototypes": Range(2),
    "width": _NATURAL, "depth": _NATURAL, "attention_heads": _NATURAL,
    # Losses.
    "temperature": _POSITIVE, "base_temperature": _POSITIVE, "student_temperature": _POSITIVE,
    "teacher_temperature.start": _POSITIVE, "teacher_temperature.end": _POSITIVE,
    "patch_temperature.start": _POSITIVE, "patch_temperature.end": _POSITIVE,
    "follow.start": _SHARE, "follow.end": _SHARE, "centre_momentum": _SHARE,
    "scale_init": _POSITIVE, "bias_init": _ANY, "margin": _NOT_NEGATIVE,
    "off_diagonal": _NOT_NEGATIVE, "scale": _POSITIVE, "invariance": _NOT_NEGATIVE,
    "variance": _NOT_NEGATIVE, "covariance": _NOT_NEGATIVE, "koleo": _NOT_NEGATIVE,
    "sharpness": _POSITIVE, "iterations": _NATURAL, "frozen_epochs": _NOT_NEGATIVE,
    "queue": _NOT_NEGATIVE, "moco.queue": _NATURAL, "queue_from": _NOT_NEGATIVE,
    "hard_negatives": _NOT_NEGATIVE, "grid": Range(2), "ahead": _NATURAL,
    "gaussian_weight": _SHARE, "directions": _NATURAL, "points": Range(2), "reach": _POSITIVE,
    # Pretext tasks.
    "tile": _PART, "orders": Range(2), "cell": _NATURAL, "bin_side": Range(2, 60),
    "nearest": _NATURAL, "spread": _POSITIVE, "uniform": _PART, "memory": _DECAY,
    "amount": _NOT_NEGATIVE, "colorize.layers": _NATURAL, "autoencoder.layers": _NATURAL,
    # Labels.
    "classes": _NOT_NEGATIVE, "smoothing": _DECAY, "ema": _DECAY, "mixup": _NOT_NEGATIVE,
    "cutmix": _NOT_NEGATIVE,
    # Teachers.
    "views": _NATURAL, "dims": _NATURAL, "scales": _POSITIVE, "sizes": _NATURAL,
    "token_dims": _NOT_NEGATIVE, "token_weight": _NOT_NEGATIVE, "distill_weight": _SHARE,
    "teacher_scale": _NOT_NEGATIVE,
    # Masks.
    "ratio": Range(0, 1, above=True, below=True), "unit": _NATURAL,
    "masked.ratio_min": _SHARE, "masked.ratio_max": _SHARE, "share": _SHARE,
    "beit.size": Range(2), "tokenizer_steps": _NATURAL,
    # Views.
    "count": _NATURAL, "local.count": _NOT_NEGATIVE, "size": _NOT_NEGATIVE, "size_ratio": _POSITIVE,
    "scale_min": _PART, "scale_max": _PART, "ratio_min": _POSITIVE, "ratio_max": _POSITIVE,
    "flip": _SHARE, "jitter": _SHARE, "brightness": _NOT_NEGATIVE,
    "contrast": _NOT_NEGATIVE, "saturation": _NOT_NEGATIVE, "hue": Range(0, 0.5), "grey": _SHARE,
    "blur": _SHARE, "blur_min": _POSITIVE, "blur_max": _POSITIVE, "solarize": _SHARE,
}  # fmt: skip


def find_range(method: str, key: str) -> Range | None:
    """Return the range of a key of a method, or of the run."""
    last = key.rpartition(".")[2]
    names = (f"{method}.{key}", key, last)
    return next((RANGES[name] for name in names if name in RANGES), None)


def check_config(config: Config) -> None:
    """Refuse settings without a meaning, alone or together."""
    for instance in (config.objective, config.settings):
        for key in known_keys(instance):
            _check_value(config.method, instance, key)
        _check_pairs(instance)
    _check_together(config)


def _check_value(method: str, instance: Any, key: str) -> None:
    value = get_value(instance, key)
    numbers = value if isinstance(value, tuple) else (value,)
    allowed = find_range(method, key) or _ANY
    if value == () and not key.startswith("teachers."):  # which no recipe can know
        raise _refuse(instance, key, "empty", "one number or more")
    for number in numbers:
        is_number = isinstance(number, int | float) and not isinstance(number, bool)
        if is_number and not allowed.holds(number):
            raise _refuse(instance, key, _show(value), allowed.describe())


def _check_pairs(instance: Any) -> None:
    """Refuse a lower bound above its upper bound."""
    keys = known_keys(instance)
    for key in keys:
        upper = key.removesuffix("_min") + "_max"
        if key.endswith("_min") and upper in keys:
            low, high = get_value(instance, key), get_value(instance, upper)
            if low > high:
                raise InputError(
                    f"{key} is {_show(low)} and {upper} is {_show(high)}; the former must not be"
                    f" above the latter: --set {key}={_show(high)}, or a larger {upper}",
                    field=key,
                )


def _check_together(config: Config) -> None:
    settings, objective = config.settings, config.objective
    if settings.steps == 0 and settings.epochs == 0:
        raise InputError(
            "epochs and steps are 0; one of them must be above 0: --set epochs=10", field="epochs"
        )
    if settings.chunk and settings.accumulate > 1:
        raise InputError(
            f"chunk is {settings.chunk} and accumulate is {settings.accumulate}; each cuts the"
            " batch in its own way, so turn one off: --set accumulate=1 or --set chunk=0",
            field="accumulate",
        )
    if objective.coupled and settings.batch < 2:
        raise _refuse(settings, "batch", str(settings.batch), _COUPLED.format(config.method))
    if objective.coupled and settings.accumulate > 1:
        raise InputError(
            f"accumulate is {settings.accumulate}, but {config.method} compares the images of a"
            " batch with each other: micro-batches would see fewer negatives, another loss."
            " Set chunk for the exact gradient of the whole batch on a chunk's memory",
            field="accumulate",
        )
    if settings.batch % settings.accumulate:
        raise InputError(
            f"batch {settings.batch} does not divide into {settings.accumulate} micro-batches;"
            f" --set accumulate={math.gcd(settings.batch, settings.accumulate)}",
            field="batch",
        )
    _check_validation(settings)
    _check_memory(settings)
    _check_capture(settings)
    if "image" in objective.frozen() and settings.parallel == "fsdp":
        raise InputError(
            "locked is set, and parallel is fsdp, which would shard a tower that runs only once;"
            " --set parallel=ddp",
            field="parallel",
        )
    if "text" in objective.paths:
        _check_heads(settings, "text_width", "text_heads")
    if hasattr(objective, "attention_heads"):
        _check_heads(objective, "width", "attention_heads")


def _check_memory(settings: TrainingSettings) -> None:
    """Refuse ways to save memory that exclude each other."""
    sharded = settings.parallel == "fsdp"
    if settings.lora and sharded:
        raise _conflict("lora", settings, "parallel is fsdp", "parallel=ddp")
    if settings.precision == "fp16" and sharded:
        raise _conflict("precision", settings, "parallel is fsdp", "precision=bf16")
    if settings.gradient_checkpointing and sharded:
        raise _conflict("gradient_checkpointing", settings, "parallel is fsdp", "parallel=ddp")
    if settings.gradient_checkpointing and settings.compile:
        why = "compile is true, which itself decides what to recompute"
        raise _conflict("gradient_checkpointing", settings, why, "compile=false")


def _check_capture(settings: TrainingSettings) -> None:
    """Refuse to record steps that differ from one another."""
    if settings.capture and settings.chunk:
        raise _conflict("capture", settings, f"chunk is {settings.chunk}", "capture=false")
    if settings.capture and settings.precision == "fp16":
        why = "precision is fp16, whose scale changes"
        raise _conflict("capture", settings, why, "precision=bf16")


def _conflict(key: str, settings: TrainingSettings, other: str, off: str) -> InputError:
    value = _show(getattr(settings, key))
    return InputError(
        f"{key} is {value}, and {other}; they do not go together: --set {off}", field=key
    )


def _check_validation(settings: TrainingSettings) -> None:
    """Refuse validation settings without held-out data, and validation with sharded parameters."""
    if settings.eval and settings.parallel == "fsdp":
        raise InputError(
            "eval is set, and parallel is fsdp: the first rank validates alone, and has shards of"
            " the weights only; --set parallel=ddp",
            field="eval",
        )
    defaults = TrainingSettings()
    for key in OF_HELD_OUT:
        value = getattr(settings, key)
        if not settings.eval and value != getattr(defaults, key):
            raise InputError(
                f"{key} is {value}, and no held-out data are given; --eval DATA, or leave it out",
                field=key,
            )


_COUPLED = "at least 2, since {} compares the images of a batch with each other"


def _check_heads(instance: Any, width: str, heads: str) -> None:
    wide, count = getattr(instance, width), getattr(instance, heads)
    if wide % count:
        raise InputError(
            f"{heads} is {count}; it must divide {width}, which is {wide}"
            f"{_remedy(instance, heads)}",
            field=heads,
        )


def _refuse(instance: Any, key: str, value: str, allowed: str) -> InputError:
    return InputError(f"{key} is {value}; it must be {allowed}{_remedy(instance, key)}", field=key)


def _remedy(instance: Any, key: str) -> str:
    """Return the default as a value to set, if there is one."""
    try:
        return f"; --set {key}={_show(get_value(type(instance)(), key))}"
    except (TypeError, AttributeError):  # a method without defaults, or another nested kind
        return ""


def _show(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_show, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
