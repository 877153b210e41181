"""Warnings that pictures are far from a model's domain.

What must stay true: a warning says what the model is for, and names the command that helps.
"""

from __future__ import annotations

from pathlib import Path

from twinlens.bundle.arrays import Rows
from twinlens.bundle.domain.domain_sign import read_sign
from twinlens.bundle.manifest import Manifest
from twinlens.bundle.model_card import read_card

SUGGESTED = "hf:Xenova/clip-vit-base-patch32"


def warn_far(manifest: Manifest, rows: Rows) -> str | None:
    """Return the warning about the pictures of these embeddings; None if they fit the domain."""
    sign = read_sign(manifest) if len(rows) else None
    if sign is None or not sign.judge(rows).far:
        return None
    return describe_far(manifest, len(rows))


def describe_far(manifest: Manifest, pictures: int) -> str:
    """Return the warning that pictures are far from a model's domain."""
    card = read_card(manifest)
    known = f" ({card.domain})" if card and card.domain else ""
    these = "this picture looks" if pictures == 1 else f"these {pictures} pictures look"
    return (
        f"{these} unlike what model {manifest.name!r} knows{known}: do not rely on its answers;"
        " `twinlens models` lists models for other pictures"
    )


def suggest_build(corpus: str, folder: Path) -> str:
    """Return the command that indexes a corpus with another model."""
    return f"twinlens index build {corpus} -o {folder}-clip --bundle {SUGGESTED}"
