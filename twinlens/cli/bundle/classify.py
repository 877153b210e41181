"""`twinlens classify`: zero-shot probabilities of class names for image files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinlens.cli.bundle.picture_files import embed_files, print_file
from twinlens.cli.options import (
    Bundle,
    DeviceOption,
    Engines,
    Json,
    PrecisionOption,
    Threads,
    open_encoder,
)
from twinlens.cli.terminal import print_json, print_note
from twinlens.errors import InputError

if TYPE_CHECKING:
    from twinlens.bundle.arrays import Rows
    from twinlens.bundle.calibration.calibration import CosineVerdict
    from twinlens.bundle.manifest import Manifest


def classify(
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    classes: Annotated[
        list[str], typer.Option("--classes", "-c", help="Class names, comma-separated or repeated.")
    ],
    template: Annotated[
        list[str] | None,
        typer.Option(help="A prompt with {} for the name; default: the bundle's."),
    ] = None,
    top_k: Annotated[int, typer.Option("--top-k", "-k", help="Labels to show.", min=1)] = 5,
    bundle: Bundle = "builtin",
    precision: PrecisionOption = "fp32",
    device: DeviceOption = "auto",
    engine: Engines = "auto",
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Classify images by class names, best class first; a file that cannot be read fails alone.

    [bold]Example:[/] twinlens classify photo.jpg --classes "a cat,a dog"
    """
    names = [name.strip() for entry in classes for name in entry.split(",") if name.strip()]
    if not names:
        raise InputError("--classes is empty; give names such as --classes 'a cat,a dog'")
    from twinlens.bundle.calibration.calibration import read_calibration

    encoder = open_encoder(bundle, precision, device, threads, engine)
    calibration = read_calibration(encoder.manifest)
    scale = encoder.manifest.similarity.scale
    bank = encoder.class_bank(names, template)
    results: list[dict[str, object]] = []
    found = embed_files(encoder, images, "classifying")
    scores, similarities = encoder.classify(found.rows, bank)
    levels = calibration.find_levels(found.rows) if calibration else [0.0] * len(found.rows)
    asked = zip(found.paths, scores, similarities, levels, strict=True)
    for path, score, similarity, level in asked:
        verdict = calibration.judge_classes(similarity, scale, level=level) if calibration else None
        labels = _rank(names, score, similarity, verdict, top_k)
        told = {} if verdict is None else {"none_of_these": verdict.none_of_these}
        results.append({"image": str(path), "labels": labels, **told})
    warn_about(encoder.manifest, found.rows)
    if json:
        data = results + found.describe_faults()
        print_json({"model": encoder.name, "revision": encoder.revision, "data": data})
    else:
        _print_bars(results)
    found.report()


def warn_about(manifest: Manifest, rows: Rows) -> None:
    """Print a warning if the pictures of these embeddings are not of the model's domain."""
    from twinlens.bundle.domain.domain_warning import warn_far

    warning = warn_far(manifest, rows)
    if warning is not None:
        print_note(f"warning: {warning}")


def _rank(
    names: list[str], scores: Rows, similarities: Rows, verdict: CosineVerdict | None, top_k: int
) -> list[dict[str, object]]:
    """Return the best labels of one image, best first."""
    order = (-scores).argsort(kind="stable")[:top_k]
    return [
        {
            "label": names[i],
            "index": int(i),
            "score": float(scores[i]),
            "similarity": float(similarities[i]),
        }
        | ({} if verdict is None else {"calibrated": float(verdict.probabilities[i])})
        for i in order
    ]


def _print_bars(results: Sequence[Mapping[str, object]]) -> None:
    """Print one line per label, with a bar proportional to its calibrated probability or score."""
    for result in results:
        labels = result["labels"]
        assert isinstance(labels, list)
        none = "  none of these" if result.get("none_of_these") else ""
        print_file(Path(str(result["image"])), none)
        width = max(len(label["label"]) for label in labels)
        for label in labels:
            share = label.get("calibrated", label["score"])
            typer.echo(f"  {label['label']:{width}}  {share:6.1%}  {'█' * round(30 * share)}")
