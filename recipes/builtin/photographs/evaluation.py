"""The evaluation of an encoder on photographs: each metric with its 95 % interval.

Intervals of shares are Wilson's, those of mean average precisions are bootstraps over the classes.
`imagenet1k_1perclass` is very likely part of the image tower's training data, so its metrics are
too high; COCO and CIFAR are clean. What must stay true: ties count against the encoder.
"""

from __future__ import annotations

import json
import lzma
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from recipes.builtin.photographs.phrasing import TEMPLATES as SAID
from recipes.builtin.photographs.space import Rows, unit
from recipes.builtin.photographs.wordnet import list_names

TEMPLATES = ("{}", "a photo of a {}", "a picture of {}")
LISTED = {"jp": "ja", "cn": "zh", "it": "it"}
OWN = ("de", "fr", "es", "ja", "zh")
CIFAR = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
KINDS = Path(__file__).with_name("kinds.json")
_BATCH = 64
_FEWEST = 3  # photographs of an object, for its average precision
_Z = 1.96


class TextEncoder(Protocol):
    """Unit rows of texts."""

    def embed_texts(self, texts: Sequence[str]) -> Rows:
        """Return unit rows (n, d)."""


class Encoder(TextEncoder, Protocol):
    """The encoder to evaluate: unit rows of encoded pictures and of texts."""

    def embed_images(self, images: Sequence[bytes]) -> Rows:
        """Return unit rows (n, d)."""


@dataclass(frozen=True)
class Measured:
    """A value in percent with its interval and the number of cases."""

    value: float
    low: float
    high: float
    count: int


Measures = dict[str, Measured]


def evaluate_photographs(encoder: Encoder, data: Path, *, cifar_every: int = 1) -> Measures:
    """Return every measure by name."""
    found = measure_captions(encoder, data)
    found |= measure_classes(encoder, data)
    return found | measure_cifar(encoder, data, cifar_every)


def measure_captions(encoder: Encoder, data: Path) -> Measures:
    """Captions to their photographs, and names of objects to all photographs of them."""
    rows = read_rows(data / "coco_mini" / "test.zip")
    images = embed(encoder, (content for content, _ in rows))
    captions = [(i, text) for i, (_, row) in enumerate(rows) for text in row["captions"]]
    texts = encoder.embed_texts([text for _, text in captions])
    right = np.array([i for i, _ in captions])
    scores = texts @ images.T
    ranks = (scores >= scores[np.arange(len(right)), right][:, None]).sum(1) - 1
    found = {f"coco_caption_r{k}": share(ranks < k) for k in (1, 5, 10)}
    return found | {"coco_objects_map": _measure_objects(encoder, images, [r for _, r in rows])}


def measure_classes(encoder: Encoder, data: Path) -> Measures:
    """A thousand classes by English and other names, and kinds of things above them."""
    rows = read_rows(data / "imagenet1k_1perclass" / "all.zip")
    images = embed(encoder, (content for content, _ in rows))
    labels = np.array([row["label"] for _, row in rows])
    words = data / "words"
    ours, theirs = dict(enumerate(list_names())), _read_listed(words, "en")
    found = _measure_names(encoder, images, labels, ours, TEMPLATES, "imagenet_ours")
    found |= _measure_names(encoder, images, labels, theirs, TEMPLATES, "imagenet_openai")
    for name, language in LISTED.items():
        said = ("{}", *SAID[language][:1])
        names = _read_listed(words, name)
        found |= _measure_names(encoder, images, labels, names, said, f"imagenet_names_{name}")
    for language in OWN:
        said, names = ("{}", *SAID[language][:1]), read_own_names(words)[language]
        found |= _measure_names(encoder, images, labels, names, said, f"own_names_{language}")
    kinds = json.loads(KINDS.read_text(encoding="utf-8"))["everyday"]
    bank = average(encoder, list(kinds), TEMPLATES)
    return found | {"everyday_kinds_map": measure_kinds(images, labels, bank, list(kinds.values()))}


def measure_cifar(encoder: Encoder, data: Path, every: int) -> Measures:
    """The ten classes of CIFAR-10, as JPEG."""
    rows = read_rows(data / "cifar10_jpeg" / "test.zip")[::every]
    images = embed(encoder, (content for content, _ in rows))
    bank = average(encoder, CIFAR, TEMPLATES)
    right = np.array([CIFAR.index(row["cls"]) for _, row in rows])
    return {"cifar10_jpeg_top1": share((images @ bank.T).argmax(1) == right)}


def measure_kinds(
    images: Rows, labels: NDArray[np.int64], bank: Rows, kinds: Sequence[Sequence[int]]
) -> Measured:
    """Return the mean average precision of kinds of things, each a list of classes."""
    scores = images @ bank.T
    return average_precision(
        [precise(scores[:, i], np.isin(labels, kind)) for i, kind in enumerate(kinds)]
    )


def read_own_names(words: Path) -> dict[str, dict[int, str]]:
    """Return by language the best name of each class that has one in the lexicon."""
    best: dict[str, dict[int, tuple[float, str]]] = {}
    with lzma.open(words / "lexicon.jsonl.xz", "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            number, weight = max(row["q"].items(), key=lambda item: item[1])
            known = best.setdefault(row["l"], {})
            if weight > 0.5 and weight > known.get(int(number), (0.0, ""))[0]:
                known[int(number)] = (weight, row["t"])
    return {
        language: {number: text for number, (_, text) in sorted(names.items())}
        for language, names in best.items()
    }


def read_rows(archive: Path) -> list[tuple[bytes, Mapping[str, Any]]]:
    """Return every picture of an archive with its facts."""
    with zipfile.ZipFile(archive) as stored:
        rows = [json.loads(line) for line in stored.read("index.jsonl").decode().splitlines()]
        return [(stored.read(row["file"]), row) for row in rows]


def embed(encoder: Encoder, pictures: Iterable[bytes]) -> Rows:
    """Return unit rows of encoded pictures."""
    return np.concatenate([encoder.embed_images(part) for part in _in_batches(pictures)])


def average(encoder: TextEncoder, names: Sequence[str], templates: Sequence[str]) -> Rows:
    """Return one unit row per name: the mean over templates."""
    total = sum(encoder.embed_texts([t.format(name) for name in names]) for t in templates)
    return unit(np.asarray(total, np.float32))


def precise(scores: Rows, relevant: NDArray[np.bool_]) -> float:
    """Return the average precision; among equal scores the relevant come last."""
    hits = relevant[np.lexsort((relevant, -scores))]
    return float((np.cumsum(hits)[hits] / (np.flatnonzero(hits) + 1)).mean())


def share(right: NDArray[np.bool_]) -> Measured:
    """Return a share with Wilson's interval."""
    count, value = len(right), float(right.mean())
    spread = 1 + _Z**2 / count
    middle = (value + _Z**2 / (2 * count)) / spread
    half = _Z / spread * np.sqrt(value * (1 - value) / count + _Z**2 / (4 * count**2))
    return _percent(value, middle - half, middle + half, count)


def average_precision(values: Sequence[float]) -> Measured:
    """Return a mean with the interval of a bootstrap."""
    drawn = np.random.default_rng(0).choice(np.asarray(values), (2000, len(values))).mean(1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return _percent(float(np.mean(values)), float(low), float(high), len(values))


def _measure_objects(encoder: Encoder, images: Rows, rows: Sequence[Mapping[str, Any]]) -> Measured:
    shown = [set(row["objects"] or []) for row in rows]
    names = sorted(set().union(*shown))
    names = [name for name in names if sum(name in one for one in shown) >= _FEWEST]
    scores = images @ average(encoder, names, TEMPLATES).T
    relevant = [np.array([name in one for one in shown]) for name in names]
    return average_precision([precise(scores[:, i], truth) for i, truth in enumerate(relevant)])


def _measure_names(
    encoder: Encoder,
    images: Rows,
    labels: NDArray[np.int64],
    names: Mapping[int, str],
    templates: Sequence[str],
    name: str,
) -> Measures:
    """Return top-1 and top-5 accuracy among the classes that have a name."""
    numbers = np.array(sorted(names))
    asked = np.isin(labels, numbers)
    bank = average(encoder, [names[int(i)] for i in numbers], templates)
    best = numbers[np.argsort(-(images[asked] @ bank.T), axis=1)[:, :5]]
    hits = best == labels[asked][:, None]
    return {f"{name}_top1": share(hits[:, 0]), f"{name}_top5": share(hits.any(1))}


def _read_listed(words: Path, name: str) -> dict[int, str]:
    file = words / "imagenet_names" / f"{name}.json"
    return dict(enumerate(json.loads(file.read_text(encoding="utf-8"))["imagenet1k"]))


def _in_batches(pictures: Iterable[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    for picture in pictures:
        batch.append(picture)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _percent(value: float, low: float, high: float, count: int) -> Measured:
    value, low, high = (round(100 * float(number), 1) for number in (value, low, high))
    return Measured(value, low, high, count)
