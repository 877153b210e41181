"""Where an encoder to export can come from: one module here for each KIND in `KIND:rest`.

A source module has `load(rest, options) -> Description`, and the first line of its docstring is its
help. A new source is a new module; there is no list to extend. A folder given without a kind is a
training run: kind `run`.
Imported by: export.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from twinlens.errors import InputError
from twinlens.training.export.description import Description

_FOLDER_KIND: Final = "run"


@dataclass(frozen=True)
class SourceOptions:
    """Options of any source; None means the source's default."""

    random_weights: bool = False
    seed: int = 0
    tokenizer: Path | None = None
    name: str | None = None
    templates: tuple[str, ...] | None = None
    best: bool = False  # of a run: the best checkpoint by held-out data, not the last


def list_kinds() -> list[str]:
    """Return the kinds of source that exist, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load_source(source: str, options: SourceOptions) -> Description:
    """Return the encoder that `source` names: `KIND:rest`, or the folder of a training run."""
    kind, colon, rest = source.partition(":")
    if not colon and Path(source).is_dir():
        kind, rest = _FOLDER_KIND, source
    kinds = list_kinds()
    if kind not in kinds or not rest:
        known = ", ".join(f"{name}:..." for name in kinds)
        raise InputError(
            f"source {source!r} is not of a known kind; give one of {known} "
            "(for example open_clip:ViT-B-32 or timm:resnet50), or the folder of a training run",
            field="source",
        )
    module = importlib.import_module(f"{__name__}.{kind}")
    return cast("Description", module.load(rest, options))
