"""Preprocessing beside open_clip's transform: milliseconds per image, difference in grey levels.

640 x 480 and 3000 x 2000 pixels as JPEG, PNG and WebP, generated: slopes, edges and a little noise,
with the spectrum of a photograph. From encoded bytes to 224 x 224 pixels; open_clip's time ends
with the same grey levels plus its float tensor. Alternating, in CPU seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from io import BytesIO

import numpy as np
import numpy.typing as npt
import open_clip
import torch
from PIL import Image, ImageDraw
from report import Report, parse_arguments, time_interleaved

from twinlens.bundle.image.preprocessing import Preprocessor
from twinlens.bundle.manifest import ImageSpec

SIZES = ((640, 480), (3000, 2000))
FORMATS = {"JPEG": {"quality": 88}, "PNG": {"compress_level": 3}, "WEBP": {"quality": 85}}
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SPEC = ImageSpec(
    "image.onnx", 224, 224, "shortest", 224, "bicubic", MEAN, STD, 0, "rgb", "after_resize"
)


def main() -> None:
    """Measure every size and format."""
    arguments = parse_arguments(__doc__)
    torch.set_num_threads(1)
    report = Report("preprocess")
    worst, ratios = 0, {}
    for width, height in SIZES:
        for format, options in FORMATS.items():
            file = BytesIO()
            draw_picture(width, height).save(file, format, **options)
            apart, ratio = measure(
                report, f"{width}x{height} {format}", file.getvalue(), 5 if arguments.quick else 15
            )
            worst = max(worst, apart)
            ratios[width, format] = ratio
    report.bar("preprocess_max_difference", worst, 1, worst <= 1)
    large = ratios[3000, "JPEG"]
    report.bar("preprocess_large_jpeg_exact", large["exact"], 3.0, large["exact"] >= 3.0)
    report.bar("preprocess_large_jpeg_fast", large["fast"], 3.0, large["fast"] >= 3.0)
    report.finish(arguments.json)


def measure(report: Report, name: str, data: bytes, rounds: int) -> tuple[int, dict[str, float]]:
    """Add a row for each contender; return the exact path's distance and the speed ratios."""
    transform = open_clip.image_transform(224, is_train=False, mean=MEAN, std=STD)
    exact, fast = Preprocessor(SPEC), Preprocessor(SPEC, fast=True)
    contenders: dict[str, Callable[[], object]] = {
        "open_clip": lambda: transform(Image.open(BytesIO(data))),
        "exact": partial(exact, data),
        "fast": partial(fast, data),
    }
    times = time_interleaved(contenders, rounds)
    tensor = transform(Image.open(BytesIO(data))).numpy().transpose(1, 2, 0)
    expected = np.rint((tensor * STD + MEAN) * 255)
    apart = {"exact": distance(exact(data), expected), "fast": distance(fast(data), expected)}
    ratios = {contender: times["open_clip"] / seconds for contender, seconds in times.items()}
    for contender, seconds in times.items():
        mean, largest = apart.get(contender, (0.0, 0))
        report.row(image=name, contender=contender, ms=seconds * 1e3, ratio=ratios[contender],
                   mean_levels=mean, max_levels=largest)  # fmt: skip
    return apart["exact"][1], ratios


def distance(given: npt.NDArray[np.uint8], expected: npt.NDArray[np.float64]) -> tuple[float, int]:
    """Return the mean and the largest difference in grey levels."""
    apart = np.abs(given - expected)
    return float(apart.mean()), int(apart.max())


def draw_picture(width: int, height: int) -> Image.Image:
    """Return a picture of smooth hills at four scales, some discs with sharp edges, and noise."""
    rng = np.random.default_rng((width, height))
    levels = np.zeros((height, width, 3), np.float32)
    for scale in (4, 16, 64, 256):
        coarse = rng.standard_normal((height // scale + 2, width // scale + 2, 3)) * scale**0.5
        for channel in range(3):
            hills = Image.fromarray(coarse[..., channel].astype(np.float32))
            levels[..., channel] += np.asarray(
                hills.resize((width, height), Image.Resampling.BICUBIC)
            )
    levels += rng.standard_normal(levels.shape, np.float32)
    levels = (levels - levels.min()) / np.ptp(levels) * 255
    image = Image.fromarray(levels.astype(np.uint8))
    pen = ImageDraw.Draw(image)
    for _ in range(40):
        x, y, radius = (int(rng.integers(high)) for high in (width, height, height // 6))
        colour = tuple(int(level) for level in rng.integers(0, 256, 3))
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    return image


if __name__ == "__main__":
    main()
