"""What to take from a repository, and the parts that it does not name itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PullOptions:
    """The options of one pull; the defaults take the fp32 files of a known layout."""

    precisions: tuple[str, ...] = ("fp32",)
    name: str = ""
    image_file: str = ""  # the image tower's ONNX file, as a path inside the repository
    text_file: str = ""
    pooling: str = ""  # cls, mean, max, last or pooler_output
    verify: bool = False  # compare with transformers, if it is installed
