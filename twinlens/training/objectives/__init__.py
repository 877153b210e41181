"""The methods, one file each, and the table of their names.

A new method is a file here, a line below, and a recipe; the parametrised tests (oracle, two ranks,
cached gradients, resume) find it through this table. What must stay true: a method holds no tensor.
Imported by: recipes and runs.
"""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import TYPE_CHECKING

from twinlens.errors import NotFoundError

if TYPE_CHECKING:
    from twinlens.training.objective import Objective

METHODS = {
    "simclr": "simclr:SimCLR",
    "moco": "moco:MoCo",
    "mocov3": "mocov3:MoCoV3",
    "byol": "byol:BYOL",
    "simsiam": "simsiam:SimSiam",
    "swav": "swav:SwAV",
    "dino": "dino:DINO",
    "barlow": "barlow:BarlowTwins",
    "vicreg": "vicreg:VICReg",
    "lejepa": "lejepa:LeJEPA",
    "supcon": "supcon:SupCon",
    "margin": "margin:Margin",
    "triplet": "triplet:Triplet",
    "cpc": "cpc:CPC",
    "rotation": "rotation:Rotation",
    "jigsaw": "jigsaw:Jigsaw",
    "context": "context:Context",
    "colorize": "colorize:Colorize",
    "autoencoder": "autoencoder:Autoencoder",
    "mae": "mae:MAE",
    "simmim": "simmim:SimMIM",
    "beit": "beit:BEiT",
    "ibot": "ibot:IBOT",
    "dinov2": "dinov2:DINOv2",
    "clip": "clip:CLIP",
    "siglip": "siglip:SigLIP",
    "devise": "devise:DeViSE",
    "distill": "distill:Distill",
    "mobileclip": "mobileclip:MobileCLIP",
    "finetune": "finetune:FineTune",
}


def find_method(name: str) -> type[Objective]:
    """Return the objective class called `name`; an unknown name lists the known ones."""
    if name not in METHODS:
        close = difflib.get_close_matches(name, METHODS, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise NotFoundError(f"method {name!r} is unknown; {hint}Known: {', '.join(METHODS)}")
    module, _, attribute = METHODS[name].partition(":")
    found: type[Objective] = getattr(
        import_module(f"twinlens.training.objectives.{module}"), attribute
    )
    return found
