"""Two repositories with a tower each, as fastembed's `clip-ViT-B-32-vision` and `-text`.

Any two repositories whose embeddings share a space may be paired; the dimensions are checked later.
"""

from __future__ import annotations

from twinlens.bundle.pull.layouts.found import Found
from twinlens.errors import InputError

NAME = "pair"


def join(first: Found, second: Found) -> Found:
    """Return the image tower of one and the text tower of the other.

    If both have both, pictures are the first's and texts the second's.
    """
    if first.image is not None and second.text is not None:
        return Found(NAME, first.image, second.text)
    if first.text is not None and second.image is not None:
        return Found(NAME, second.image, first.text)
    kind = "image" if first.image is not None else "text"
    raise InputError(f"both repositories hold only an {kind} tower; give one of each")
