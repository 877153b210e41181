"""Export: a torch encoder becomes a verified bundle, or nothing.

description = Description("mine", image=ImageTower(module, spec))
export_encoder(description, "mine")

Imported by: loop and `cli`.
"""

from twinlens.training.export.description import (
    AttentionMap,
    Description,
    ImageTower,
    Similarity,
    TextTower,
)
from twinlens.training.export.export import export_encoder
from twinlens.training.export.gate import ParityError
from twinlens.training.export.sources import SourceOptions, load_source

__all__ = [
    "AttentionMap",
    "Description",
    "ImageTower",
    "ParityError",
    "Similarity",
    "SourceOptions",
    "TextTower",
    "export_encoder",
    "load_source",
]
