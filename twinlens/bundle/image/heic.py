"""HEIC, read by pillow-heif, which the extra `heic` installs.

What must stay true: the library is loaded by the first HEIC file and registered nowhere, so that it
never sees other files; it decodes the main image on one thread, already upright (libheif applies
`irot` and `imir`, and this format ignores EXIF's orientation).
"""

from __future__ import annotations

import functools
from io import BytesIO

from PIL import Image, ImageFile

from twinlens.errors import MissingDependencyError


def open_heic(data: bytes, name: str) -> Image.Image:
    """Return the main image, its pixels not yet decoded."""
    return _load_reader(name)(BytesIO(data))


@functools.cache
def _load_class() -> type[ImageFile.ImageFile]:
    from pillow_heif import HeifImageFile, options

    options.DECODE_THREADS = 1  # images are decoded in parallel
    options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = False

    class _Heic(HeifImageFile):  # type: ignore[misc,unused-ignore]
        """The name of the format that users know."""

        format = "HEIC"

    return _Heic


def _load_reader(name: str) -> type[ImageFile.ImageFile]:
    try:
        return _load_class()
    except ImportError:
        raise MissingDependencyError(
            f"{name} is HEIC, which needs pillow-heif; install it with"
            " `pip install 'twinlens[heic]'`, or convert the image",
            field="image",
        ) from None
