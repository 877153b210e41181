"""Twinlens in Daft: embeddings and classes of a column as expressions, on one machine or on Ray.

    from twinlens.daft import classify, embed_image, embed_text
    frame.with_column("embedding", embed_image(frame["image"], "builtin"))

A column of images holds encoded bytes or paths. Each worker opens the bundle once; where Daft runs
on several machines, the bundle's path is one that all of them have. What must stay true: a row is
what the encoder itself answers; null stays null, and an image that cannot be read is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twinlens.errors import MissingDependencyError

try:
    import daft
except ModuleNotFoundError:
    raise MissingDependencyError("twinlens.daft needs Daft: pip install 'twinlens[daft]'") from None

BATCH = 64
EncoderWork = Callable[[Any, list[Any]], list[Any]]  # encoder, values that are not null -> answers


def embed_image(images: Any, bundle: str | Path = "builtin") -> Any:
    """Return the embeddings of a column of images."""
    return _run(images, bundle, _embed_images, _embedding_type(bundle))


def embed_text(texts: Any, bundle: str | Path = "builtin") -> Any:
    """Return the embeddings of a column of strings, as queries."""
    return _run(texts, bundle, _embed_texts, _embedding_type(bundle))


def classify(
    images: Any,
    classes: Sequence[str],
    bundle: str | Path = "builtin",
    templates: Sequence[str] | None = None,
) -> Any:
    """Return the best class of each image of a column: a struct of `label` and `score`."""
    names, chosen = list(classes), None if templates is None else list(templates)

    def work(encoder: Any, values: list[Any]) -> list[Any]:
        scores = encoder.zero_shot(_read(values), names, templates=chosen)
        best = scores.argmax(axis=1).tolist()
        return [
            {"label": names[place], "score": float(row[place])}
            for row, place in zip(scores, best, strict=True)
        ]

    types = daft.DataType
    return _run(
        images, bundle, work, types.struct({"label": types.string(), "score": types.float32()})
    )


def _run(column: Any, bundle: str | Path, work: EncoderWork, dtype: Any) -> Any:
    """Return the expression that applies `work` to the values of a column."""

    class Worker:
        def __init__(self, source: str) -> None:
            from twinlens.bundle.encoder import open_bundle

            self.encoder = open_bundle(source)

        @daft.method.batch(return_dtype=dtype, batch_size=BATCH)  # type: ignore[untyped-decorator]
        def answer(self, values: Any) -> Any:
            listed = values.to_pylist()
            there = [value for value in listed if value is not None]
            answers = iter(work(self.encoder, there) if there else [])
            return [None if value is None else next(answers) for value in listed]

    return daft.cls(Worker)(str(bundle)).answer(column)


def _embedding_type(bundle: str | Path) -> Any:
    from twinlens.bundle.encoder import find_bundle
    from twinlens.bundle.store import read_manifest

    width = read_manifest(find_bundle(str(bundle))).embedding_dim
    return daft.DataType.embedding(daft.DataType.float32(), width)


def _embed_images(encoder: Any, values: list[Any]) -> list[Any]:
    return list(encoder.embed_images(_read(values)))


def _embed_texts(encoder: Any, values: list[Any]) -> list[Any]:
    return list(encoder.embed_texts(values, input_type="query"))


def _read(values: list[Any]) -> list[Any]:
    return [Path(value) if isinstance(value, str) else value for value in values]
