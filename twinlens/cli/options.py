"""Options shared by several commands, each with one name, one help text and one default."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinlens.cli.terminal import print_note

if TYPE_CHECKING:
    from twinlens.bundle.encoder import Encoder

BUNDLE_HELP = "A bundle's path, `builtin`, or a ready model: hf:OWNER/NAME or a folder."

Bundle = Annotated[str, typer.Option("--bundle", "-b", help=BUNDLE_HELP, metavar="BUNDLE")]
PrecisionOption = Annotated[
    str, typer.Option(help="fp32, int8 or fp16, if the bundle has it; bf16 with OpenVINO.")
]
DeviceOption = Annotated[
    str, typer.Option(help="auto, cpu, cuda, or GPUs by number: cuda:0,cuda:1.")
]
Engines = Annotated[
    str, typer.Option(help="onnxruntime, openvino, or auto: the faster one on this machine.")
]
Threads = Annotated[
    int | None, typer.Option(help="Threads of the encoder; default: one per physical core.", min=1)
]
Exif = Annotated[
    bool | None,
    typer.Option(
        "--exif/--no-exif",
        help="Store EXIF time, camera and place as metadata; default: yes, except for tables.",
    ),
]
Place = Annotated[
    bool, typer.Option("--place/--no-place", help="With EXIF, also store where images were taken.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def open_encoder(
    bundle: str,
    precision: str = "fp32",
    device: str = "auto",
    threads: int | None = None,
    engine: str = "auto",
) -> Encoder:
    """Open the bundle that the options name; a ready model is pulled at first."""
    from twinlens.bundle.encoder import open_bundle

    folder = locate_bundle(bundle, (precision,))
    return open_bundle(folder, precision=precision, device=device, threads=threads, engine=engine)


def locate_bundle(bundle: str, precisions: Sequence[str] = ("fp32",)) -> Path:
    """Return the folder of a bundle; lines on standard error tell what is pulled."""
    from twinlens.bundle.encoder import find_bundle

    return find_bundle(bundle, precisions, tell=print_note)
