"""The held-out metrics of an encoder that is still training.

With labels: kNN and a logistic regression; their bank is a sample of the training images if these
have the same labels, else half of the held-out ones. With two towers: zero-shot accuracy by class
names and, if there are captions, retrieval both ways.

What must stay true: each validation uses the same images, and no result reaches the training.
"""

from __future__ import annotations

from collections.abc import Callable

from twinlens.bundle.image.preprocessing import Preprocessor
from twinlens.errors import InputError
from twinlens.training.config import Config
from twinlens.training.data.records import DataSource, fingerprint
from twinlens.training.evaluation.embeddings import (
    DrawnImages,
    Embedder,
    EmbeddingSet,
    embed_drawn,
)
from twinlens.training.evaluation.report import halve, judge_labels, judge_texts
from twinlens.training.runs.run import image_spec

AUTO = "auto"
RECALLS = tuple(f"{way}_r{k}" for way in ("image_to_text", "text_to_image") for k in (1, 5, 10))
ORDER = (
    "mean_recall",
    "zero_shot",
    "knn",
    "linear",
    *RECALLS,
)  # metrics that may select the best checkpoint, first choice first
ROOM = 0.25  # share of the memory for decoded images that goes to held-out ones


class HeldOutData:
    """Held-out images, the metrics they allow, and the bank of kNN and the regression."""

    def __init__(self, config: Config, source: DataSource, training: DataSource) -> None:
        settings = config.settings
        self.asked = ask(config, source, training)
        self.by = choose(settings.best_by, self.asked)
        decode = Preprocessor(image_spec(settings))
        room = settings.memory_gb * 1e9 * ROOM
        self._queries = DrawnImages(source, decode, settings.eval_limit, room / 2)
        self._bank = None
        if "knn" in self.asked and len(_labels(source) & _labels(training)) > 1:
            self._bank = DrawnImages(training, decode, settings.eval_limit, room / 2)
        self._found: dict[bool, EmbeddingSet] = {}

    @property
    def bank_words(self) -> str:
        """The bank of kNN and the regression, in words."""
        if "knn" not in self.asked:
            return ""
        if self._bank is None:
            return "half of them are the bank of kNN and of the linear probe"
        return f"{len(self._bank)} training images are the bank of kNN and of the linear probe"

    def __len__(self) -> int:
        return len(self._queries)

    def measure(
        self, embedder: Embedder, tick: Callable[[int, int], None], *, still: bool
    ) -> dict[str, float]:
        """Return all metrics in per cent; a tower that does not train is evaluated once."""
        found = self._embed(embedder, tick, still, queries=True)
        numbers: dict[str, float] = {}
        if "knn" in self.asked:
            pair = halve(found)
            if self._bank is not None:
                pair = self._embed(embedder, tick, still, queries=False), found
            numbers |= judge_labels(*pair, shots=())
        if embedder.has_text:
            numbers |= judge_texts(embedder, found)
        if RECALLS[0] in numbers:
            total = sum(numbers[name] for name in RECALLS)
            numbers["mean_recall"] = round(total / len(RECALLS), 2)
        return {name: numbers[name] for name in ORDER if name in numbers}

    def close(self) -> None:
        """End the decoding threads."""
        self._queries.close()
        if self._bank is not None:
            self._bank.close()

    def _embed(
        self, embedder: Embedder, tick: Callable[[int, int], None], still: bool, *, queries: bool
    ) -> EmbeddingSet:
        if still and queries in self._found:
            return self._found[queries]
        images = self._queries if queries or self._bank is None else self._bank
        self._found[queries] = embed_drawn(embedder, images, tick)
        return self._found[queries]


def check_held_out(config: Config, source: DataSource, training: DataSource) -> None:
    """Refuse held-out data that allow no metric, or not the chosen one."""
    choose(config.settings.best_by, ask(config, source, training))


def ask(config: Config, source: DataSource, training: DataSource) -> tuple[str, ...]:
    """Return the metrics that held-out data allow for this method's encoder, the best first."""
    if fingerprint(source.records) == fingerprint(training.records):
        raise InputError(
            "eval names the training data, which are not held out; split them, or give others",
            field="eval",
        )
    has_text = "text" in config.objective.paths
    has_labels = len(_labels(source)) > 1
    has_captions = has_text and any(record.captions for record in source.records)
    allowed = {
        "mean_recall": has_captions,
        "zero_shot": has_text and has_labels,
        "knn": has_labels,
        "linear": has_labels,
        **dict.fromkeys(RECALLS, has_captions),
    }
    found = tuple(name for name in ORDER if allowed[name])
    if not found:
        wanted = "labels of two classes or captions" if has_text else "labels of two classes"
        raise InputError(
            f"eval: {config.method} is validated by {wanted}, and the held-out data have none;"
            " name folders by class, or give an index with `label` or `caption`",
            field="eval",
        )
    return found


def choose(name: str, asked: tuple[str, ...]) -> str:
    """Return the metric that selects the best checkpoint."""
    if name == AUTO:
        return asked[0]
    if name not in asked:
        raise InputError(
            f"best_by is {name!r}; the held-out data allow {', '.join(asked)}", field="best_by"
        )
    return name


def _labels(source: DataSource) -> set[str]:
    return {record.label for record in source.records if record.label}
