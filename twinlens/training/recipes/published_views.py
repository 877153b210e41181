"""Augmentations that several papers share, with their numbers; recipes use them.

What must stay true: each is what its source lists, except that images are resized bilinearly here,
where most releases use bicubic.
"""

from __future__ import annotations

from twinlens.training.views.crops import Crops

LOCAL_RATIO = 96 / 224  # side of a small crop
# SimCLR, appendix A: colours at strength 1, crops of 8 % and more.
STRONG = Crops(scale_min=0.08, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2)
# MoCo v2, section 3; SimSiam, section 3.
MOCO_V2 = Crops(scale_min=0.2)
# BYOL, table 6: T on the first view, T' on the second. Barlow Twins, VICReg and MoCo v3 follow it.
BYOL_PAIR = Crops(scale_min=0.08, saturation=0.2, blur=(1.0, 0.1), solarize=(0.0, 0.2))
# DINO's small crops, from its release; iBOT and DINOv2 use variants.
SMALL_CROPS = Crops(8, size_ratio=LOCAL_RATIO, scale_min=0.05, scale_max=0.4, saturation=0.2)
# Rotation: the preprocessing of Inception in TensorFlow's slim, which Kolesnikov et al. 2019 call.
INCEPTION = Crops(
    1,
    scale_min=0.05,
    jitter=1.0,
    brightness=32 / 255,
    contrast=0.5,
    saturation=0.5,
    hue=0.2,
    grey=0.0,
    blur=(0.0,),
)
# Colorize: 176 of 256 pixels, mirrored, in the release of Zhang et al. 2016.
COLOURED = Crops(
    1,
    scale_min=(176 / 256) ** 2,
    scale_max=(176 / 256) ** 2,
    ratio_min=1.0,
    ratio_max=1.0,
    jitter=0.0,
    grey=0.0,
    blur=(0.0,),
)
# Tiles of jigsaw and context in Kolesnikov et al. 2019: 255 of 292 pixels, two thirds grey.
TILED = Crops(
    1,
    size=255,
    scale_min=(255 / 292) ** 2,
    scale_max=(255 / 292) ** 2,
    ratio_min=1.0,
    ratio_max=1.0,
    flip=0.0,
    jitter=0.0,
    grey=0.66,
    blur=(0.0,),
)
