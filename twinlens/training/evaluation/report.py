"""Every measurement of an encoder on some data, as one flat table of numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from twinlens.errors import InputError
from twinlens.training.data.records import Record
from twinlens.training.evaluation.embeddings import (
    Embedder,
    EmbeddingSet,
    embed_source,
    embed_texts,
    open_embedder,
)
from twinlens.training.evaluation.few_shot import few_shot_accuracy
from twinlens.training.evaluation.knn import knn_accuracy
from twinlens.training.evaluation.linear import probe_accuracy
from twinlens.training.evaluation.retrieval import retrieval_recalls, zero_shot_accuracy
from twinlens.training.evaluation.spectrum import measure_spectrum
from twinlens.training.progress import Display
from twinlens.training.runs.run import CONFIG, EVALUATION

SHOTS = (1, 5, 10)
SPECTRUM_ROWS = 5000
TEMPLATE = "a photo of a {}"

Numbers = dict[str, float | int]


def evaluate_encoder(
    encoder: str, where: str, *, bank: str, limit: int, display: Display, best: bool = False
) -> Numbers:
    """Return the metrics of an encoder on `where`; kNN and probes learn from `bank`.

    For a run, the `best` checkpoint by held-out data is evaluated, or the last.

    Without a bank, half of each class of `where` is drawn with a fixed seed. Taking every second
    file would be biased, since file names often alternate (by colour, by pose).
    """
    embedder = open_embedder(encoder, best=best)
    found = embed_source(embedder, where, limit, display)
    numbers: Numbers = {"images": len(found.records)}
    if found.bad:
        numbers["unreadable"] = found.bad
    spectrum = measure_spectrum(found.rows[:SPECTRUM_ROWS])
    numbers |= {
        "dim": found.rows.shape[1],
        "effective_rank": round(spectrum.effective_rank, 2),
        "spread": round(spectrum.spread, 4),
    }
    if bank:
        learned = embed_source(embedder, bank, limit, display)
        numbers |= judge_labels(learned, found)
    else:
        numbers |= judge_labels(*halve(found))
    if embedder.has_text:
        numbers |= judge_texts(embedder, found)
    _keep(encoder, where, numbers)
    return numbers


def judge_labels(
    bank: EmbeddingSet, queries: EmbeddingSet, shots: Sequence[int] = SHOTS
) -> Numbers:
    """Return kNN, probe and few-shot accuracies in per cent; empty without labels."""
    classes = sorted({record.label for record in bank.records if record.label})
    known, labels = _labelled(bank, classes)
    rows, truth = _labelled(queries, classes)
    if len(classes) < 2 or not len(truth):
        return {}
    accuracies = {
        "knn": knn_accuracy(known, labels, rows, truth),
        "linear": probe_accuracy(known, labels, rows, truth),
    }
    for count in shots:
        accuracy = few_shot_accuracy(known, labels, rows, truth, shots=count)
        if accuracy is not None:
            accuracies[f"few_shot_{count}"] = accuracy
    counts = {"classes": len(classes), "bank": len(labels), "queries": len(truth)}
    return counts | _per_cent(accuracies)


def judge_texts(embedder: Embedder, found: EmbeddingSet) -> Numbers:
    """Return zero-shot accuracy by class names, and retrieval recalls by captions, in per cent."""
    numbers: dict[str, float] = {}
    classes = sorted({record.label for record in found.records if record.label})
    if len(classes) > 1:
        rows, truth = _labelled(found, classes)
        bank = embed_texts(embedder, [TEMPLATE.format(name) for name in classes])
        numbers["zero_shot"] = zero_shot_accuracy(rows, bank, truth)
    captioned = [place for place, record in enumerate(found.records) if record.captions]
    if captioned:
        captions = [found.records[place].captions for place in captioned]
        texts = sorted({text for own in captions for text in own})
        rows = embed_texts(embedder, texts)
        numbers |= retrieval_recalls(found.rows[captioned], captions, texts, rows)
    return dict(_per_cent(numbers))


def halve(found: EmbeddingSet) -> tuple[EmbeddingSet, EmbeddingSet]:
    """Return two halves, each with half of every class."""
    if len(found.records) < 2:
        raise InputError("evaluation compares images; give at least two")
    drawn = torch.randperm(len(found.records), generator=torch.Generator().manual_seed(0)).tolist()
    drawn.sort(key=lambda place: found.records[place].label or "")
    return _take(found, sorted(drawn[::2])), _take(found, sorted(drawn[1::2]))


def _keep(encoder: str, where: str, numbers: Numbers) -> None:
    """Write the numbers to the run's folder; the export adds them to the bundle's provenance."""
    if (Path(encoder) / CONFIG).is_file():
        content = {"data": Path(where).name, **numbers}
        (Path(encoder) / EVALUATION).write_text(json.dumps(content) + "\n", encoding="utf-8")


def _labelled(found: EmbeddingSet, classes: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Return the rows whose label is among the classes, and the numbers of these classes."""
    number = {name: place for place, name in enumerate(classes)}
    places = [place for place, record in enumerate(found.records) if record.label in number]
    labels = [number[_label(found.records[place])] for place in places]
    return found.rows[places], torch.tensor(labels, dtype=torch.int64)


def _label(record: Record) -> str:
    assert record.label is not None
    return record.label


def _take(found: EmbeddingSet, places: list[int]) -> EmbeddingSet:
    return EmbeddingSet(found.rows[places], [found.records[place] for place in places], 0)


def _per_cent(shares: dict[str, float]) -> Numbers:
    return {name: round(100 * value, 2) for name, value in shares.items()}
