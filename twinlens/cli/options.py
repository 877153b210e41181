"""Options shared by several commands, each with one name, one help text and one default."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from twinlens.bundle.encoder import Encoder

Bundle = Annotated[
    str, typer.Option("--bundle", "-b", help="Path of a bundle, or `builtin`.", metavar="PATH")
]
PrecisionOption = Annotated[
    str, typer.Option(help="A precision of the bundle: fp32, int8, fp16; bf16 by OpenVINO.")
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Engines = Annotated[
    str, typer.Option(help="onnxruntime, openvino, or auto: what was measured to be faster here.")
]
Threads = Annotated[
    int | None, typer.Option(help="Threads of the encoder; default: one per physical core.", min=1)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]


def open_encoder(
    bundle: str,
    precision: str = "fp32",
    device: str = "auto",
    threads: int | None = None,
    engine: str = "auto",
) -> Encoder:
    """Open the bundle that the options name."""
    from twinlens.bundle.encoder import open_bundle

    return open_bundle(bundle, precision=precision, device=device, threads=threads, engine=engine)
