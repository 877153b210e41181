"""Views per core-second: batched matrices against per-image torchvision transforms.

    python benchmarks/views.py [--quick] --json views.json

Both make SimCLR's view (crop, flip, jitter, grey, blur) of the same stored images, in one thread,
alternately. The images are decoded beforehand: only the augmentation is compared.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from report import Report, parse_arguments, time_interleaved

from twinlens.training.seeds import generator
from twinlens.training.views.crops import Crops
from twinlens.training.views.maker import ViewMaker
from twinlens.training.views.pictures import whole_pictures

SIDES = ((36, 32), (74, 64), (147, 128), (257, 224))  # stored side, side of the view
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TARGET = 5.0


def main() -> None:
    """Print views per core-second at several sizes."""
    arguments = parse_arguments(__doc__)
    torch.set_num_threads(1)
    report = Report("views")
    sides = SIDES[:2] if arguments.quick else SIDES
    ratios = []
    for stored, side in sides:
        n = 4096 // side
        ours, theirs, tensors = contenders(stored, side, n)
        found = {"batched": ours, "torchvision": theirs, "torchvision on tensors": tensors}
        seconds = time_interleaved(found, 3 if arguments.quick else 7)
        ratio = seconds["torchvision"] / seconds["batched"]
        ratios.append(ratio)
        for name, value in seconds.items():
            report.row(
                side=side,
                contender=name,
                views_per_core_second=round(n / value),
                ratio=round(seconds["torchvision"] / value, 2),
            )
    report.bar("ratio_at_32", round(ratios[0], 2), TARGET, ratios[0] >= TARGET)
    report.bar("smallest_ratio", round(min(ratios), 2), TARGET, min(ratios) >= TARGET)
    report.finish(arguments.json)


def contenders(
    stored: int, side: int, n: int
) -> tuple[Callable[[], object], Callable[[], object], Callable[[], object]]:
    """Return three ways to make one normalised view of each of n images."""
    from torchvision import transforms as T

    coarse = torch.rand(n, 3, 7, 7, generator=generator(0))
    smooth = torch.nn.functional.interpolate(coarse, size=stored, mode="bicubic").clamp(0, 1)
    images = (smooth * 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    maker = ViewMaker({"global": Crops(1)}, side, MEAN, STD)
    kernel = max(3, side // 10 // 2 * 2 + 1)
    usual = [
        T.RandomResizedCrop(side, scale=(0.2, 1.0), antialias=True),
        T.RandomHorizontalFlip(),
        T.RandomApply([T.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
        T.RandomGrayscale(0.2),
        T.RandomApply([T.GaussianBlur(kernel, (0.1, 2.0))], p=0.5),
    ]
    on_pillow = T.Compose([*usual, T.ToTensor(), T.Normalize(MEAN, STD)])
    on_tensors = T.Compose([*usual, T.ConvertImageDtype(torch.float32), T.Normalize(MEAN, STD)])
    pictures = [Image.fromarray(np.asarray(image)) for image in images]
    planes = images.permute(0, 3, 1, 2).contiguous()
    return (
        lambda: maker(whole_pictures(images), generator(1)),
        lambda: torch.stack([on_pillow(picture) for picture in pictures]),
        lambda: torch.stack([on_tensors(plane) for plane in planes]),
    )


if __name__ == "__main__":
    main()
