"""Ten thousand damaged files of the formats with rich containers: only clean errors, little memory.

They are decoded in a process of their own, whose memory is measured and which may print nothing;
a crash of a C library would end it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

DECODE = """
import json, random, resource, sys, time, warnings
warnings.simplefilter("always")  # to stderr: as errors they would count as refusals
from tests.bundle.image.test_damage import make_files
from tests.bundle.image.made_images import spec
from twinlens.bundle.image.exif import read_photo
from twinlens.bundle.image.image_source import ImageLimits
from twinlens.bundle.image.preprocessing import Preprocessor
from twinlens.errors import ImageError, TooLargeError
from twinlens.bundle.image.thumbnail import make_thumbnail

count, seed = int(sys.argv[1]), sys.argv[2]
preprocess = Preprocessor(spec(), limits=ImageLimits(max_pixels=1 << 20))
files = make_files()
for data in files.values():
    preprocess(data), read_photo(data)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rng = random.Random(seed)
told = {"decoded": 0, "refused": 0, "slowest": 0.0}
for number in range(count):
    name = list(files)[number % len(files)]
    data = bytearray(files[name])
    if rng.random() < 0.2:
        del data[rng.randrange(len(data)):]
    for _ in range(rng.randint(1, 6)):
        # Mostly where the structure is: the head, and TIFF's directory at the end.
        near = min(len(data), 600)
        if not near:
            break
        place = rng.randrange(near) if rng.random() < 0.7 else -1 - rng.randrange(near)
        match rng.randrange(3):
            case 0:
                data[place] = rng.randrange(256)
            case 1:
                data[place] ^= 1 << rng.randrange(8)
            case _:
                data[place] = rng.choice((0, 1, 127, 128, 255))
    start = time.process_time()
    try:
        preprocess(bytes(data))
        told["decoded"] += 1
    except (ImageError, TooLargeError) as error:
        assert "\\n" not in error.message, (name, error.message)
        told["refused"] += 1
    read_photo(bytes(data))
    told["slowest"] = max(told["slowest"], time.process_time() - start)
told["grown"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
print(json.dumps(told))
"""


def make_files() -> dict[str, bytes]:
    """Return small sound files of every kind of container."""
    import io

    import numpy as np
    import piexif
    import pillow_heif
    import tifffile

    from tests.bundle.image.made_images import encode, picture
    from tests.bundle.image.test_exif import block

    image, exif = picture(60, 50), piexif.dump(block())
    grey = np.asarray(image.convert("L")).astype(np.uint16) * 257
    files = {
        f"TIFF {name}": encode(image, "TIFF", compression=name)
        for name in (None, "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")
    }
    files["TIFF of 1 bit"] = encode(image.convert("1"), "TIFF", compression="group4")
    files["TIFF palette"] = encode(image.convert("P"), "TIFF")
    for name, options in {
        "tiles": {"tile": (16, 32), "compression": "deflate"},
        "BigTIFF": {"bigtiff": True, "byteorder": ">"},
    }.items():
        out = io.BytesIO()
        tifffile.imwrite(out, grey, **options)  # type: ignore[arg-type]
        files[f"TIFF {name}"] = out.getvalue()
    files["AVIF"] = encode(image, "AVIF", exif=exif, speed=10)
    files["AVIF with alpha"] = encode(picture(60, 50, "RGBA"), "AVIF", speed=10)
    files["AVIF sequence"] = encode(image, "AVIF", save_all=True, append_images=[image], speed=10)
    made = pillow_heif.from_pillow(image)
    made[0].info["exif"] = exif
    for name, options in {"HEIC": {}, "HEIC grid": {"tile_size": 32}}.items():
        out = io.BytesIO()
        made.save(out, quality=50, **options)
        files[name] = out.getvalue()
    files["JPEG with EXIF"] = encode(image, "JPEG", exif=exif)
    files["MPO"] = encode(image, "MPO", save_all=True, append_images=[image], exif=exif)
    files["PNG of 16 bits"] = encode(picture(60, 50, "I;16"), "PNG", exif=exif)
    files["animated WebP"] = encode(image, "WEBP", save_all=True, append_images=[image], exif=exif)
    return files


def decode_damaged(count: int, seed: str) -> dict[str, float]:
    """Return what became of so many damaged files."""
    pytest.importorskip("pillow_heif")
    root = Path(__file__).parents[3]
    ran = subprocess.run(
        [sys.executable, "-c", DECODE, str(count), seed],
        cwd=root, env=None, capture_output=True, text=True, timeout=1800,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert ran.stderr[-2000:] == ""  # libraries print nothing either
    found: dict[str, float] = json.loads(ran.stdout)
    return found


def _check(found: dict[str, float], count: int) -> None:
    assert found["decoded"] + found["refused"] == count
    assert min(found["decoded"], found["refused"]) > count / 20
    assert found["grown"] < 300  # MB; one image of the limit takes 40
    assert found["slowest"] < 5  # CPU seconds


def test_damaged_files_are_decoded_or_refused_with_one_line() -> None:
    _check(decode_damaged(400, "quick"), 400)


@pytest.mark.slow
def test_ten_thousand_damaged_files_are_decoded_or_refused_with_one_line() -> None:
    _check(decode_damaged(10_000, "whole"), 10_000)
