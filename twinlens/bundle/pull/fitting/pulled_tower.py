"""One tower from its original files to the bundle: recorded, fitted, compared, with its variants.

What must stay true: the original file's rows are recorded first, and every fitted graph is compared
with them before it is kept.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, cast

from twinlens.bundle.arrays import Rows
from twinlens.bundle.golden import FP32_TOLERANCE
from twinlens.bundle.manifest import ImageSpec, TextSpec, Variant
from twinlens.bundle.pull.fitting.batches import has_batch_of_one
from twinlens.bundle.pull.fitting.faces import PixelRule, TokenRule
from twinlens.bundle.pull.fitting.inputs import read_inputs
from twinlens.bundle.pull.fitting.measuring import (
    embed,
    feed_images,
    feed_texts,
    find_cosine,
    find_speed,
    open_fitted,
)
from twinlens.bundle.pull.fitting.source_graph import (
    SourceGraph,
    fetch_graph,
    fill_inputs,
    list_outputs,
)
from twinlens.bundle.pull.fitting.towers import fit_tower, save_model
from twinlens.bundle.pull.fitting.workshop import Workshop
from twinlens.bundle.pull.head import TowerHead
from twinlens.bundle.pull.layouts.found import TowerFiles
from twinlens.bundle.pull.plain_path import Feeds, PlainTower
from twinlens.bundle.pull.text_rules import PulledTokenizer
from twinlens.bundle.samples import golden_images, golden_texts
from twinlens.errors import BundleError

TowerName = Literal["image", "text"]
ChooseHead = Callable[[Mapping[str, int]], TowerHead]

# The smallest cosine to the original file, by its precision: half precision and quantised
# products are rounded differently once the runtime fuses them.
GATES: Final = {"fp32": 1 - FP32_TOLERANCE, "fp16": 0.999, "int8": 0.99}
LEAST_COSINE: Final = 0.9  # a variant below it is dropped
_GOOD_COSINE: Final = 0.99  # a variant below it is kept with a note
_EXACT: Final = 1e-5  # 1 - cosine of texts cut to the longest, for fp32


@dataclass(frozen=True)
class PulledTower:
    """The tower's part of the manifest and of the golden vectors."""

    spec: ImageSpec | TextSpec
    variants: list[Variant]
    rows: Rows  # of the original file, on the golden inputs
    head: TowerHead


class TowerPuller:
    """The steps for one tower; subclasses handle pictures or texts."""

    name: TowerName
    file: str

    def __init__(self, files: TowerFiles, choose_head: ChooseHead, workshop: Workshop) -> None:
        self.files = files
        self.workshop = workshop
        self._choose_head = choose_head

    def pull(self, precisions: list[str]) -> PulledTower:
        """Pull the tower at these precisions; the first is the reference."""
        reference, *others = precisions
        source = self._fetch(reference)
        model = source.read()
        head = self._choose_head(list_outputs(model))
        inputs = read_inputs(model.graph, source.file)
        has_batch_of_one(inputs, source.file)
        self.prepare([item.shape[1] for item in inputs if item.role == "ids"])
        rows = self.record(self._open_plain(source, inputs, head))
        path = self._fit(source, head, rows, reference)
        feeds, spec = self.settle(path, rows, reference)
        cosine = self._gate(path, feeds, rows, reference)
        first = self._describe(reference, path, cosine if reference != "fp32" else 1.0, 1.0)
        variants = [first]
        for precision in others:
            variants += self._add_variant(precision, head, rows, path, feeds)
        return PulledTower(spec, variants, rows, head)

    def prepare(self, lengths: list[int]) -> None:
        """Read the rule for the inputs; `lengths` has the graph's numbers of tokens, 0 if free."""
        raise NotImplementedError

    def record(self, plain: PlainTower) -> Rows:
        """Return the original file's rows on the golden inputs."""
        raise NotImplementedError

    def settle(self, path: Path, rows: Rows, precision: str) -> tuple[Feeds, ImageSpec | TextSpec]:
        """Return the golden inputs as the encoder will feed them, and the manifest's part."""
        raise NotImplementedError

    @property
    def rule(self) -> PixelRule | TokenRule:
        """The rule of the fitted graph's inputs."""
        raise NotImplementedError

    @property
    def frame(self) -> tuple[int, int]:
        """The size of a picture in the graph."""
        return (224, 224)

    def _fetch(self, precision: str) -> SourceGraph:
        path = self.files.graphs[precision]
        return fetch_graph(self.files.repository, path, self.workshop.sources)

    def _open_plain(self, source: SourceGraph, inputs: list[Any], head: TowerHead) -> PlainTower:
        session = source.open()
        own = {item.name: item.role for item in inputs if (item.role == "pixels") == self.is_image}
        other = [item.name for item in inputs if item.name not in own]
        return PlainTower(session, own, head, fill_inputs(session, other, self.frame))

    @property
    def is_image(self) -> bool:
        """Whether this is the image tower."""
        return self.name == "image"

    def _fit(self, source: SourceGraph, head: TowerHead, rows: Rows, precision: str) -> Path:
        """Write the fitted graph and its weights into the bundle."""
        stem = Path(self.file).stem
        is_reference = self._choose_path(precision)
        path = self.workshop.bundle / (self.file if is_reference else f"{stem}.{precision}.onnx")
        model = source.read()
        fit_tower(model, head, self.rule, rows.shape[1], source.file)
        save_model(model, path, self.workshop.place_weights(source, path))
        return path

    def _choose_path(self, precision: str) -> bool:
        """Whether this precision is written first and becomes the tower's main file."""
        return not (self.workshop.bundle / self.file).exists()

    def _gate(self, path: Path, feeds: Feeds, rows: Rows, precision: str) -> float:
        cosine = find_cosine(embed(open_fitted(path), feeds), rows)
        if not cosine >= GATES[precision]:  # NaN fails too
            raise BundleError(
                f"the fitted {self.name} tower differs from {self.files.graphs[precision]}: cosine "
                f"{cosine:.6f}, at least {GATES[precision]} is needed; no bundle was written"
            )
        return cosine

    def _add_variant(
        self, precision: str, head: TowerHead, rows: Rows, plain: Path, feeds: Feeds
    ) -> list[Variant]:
        """Fit and measure another precision; drop it with a note if it differs too much."""
        path = self._fit(self._fetch(precision), head, rows, precision)
        cosine = find_cosine(embed(open_fitted(path), feeds), rows)
        if not cosine >= LEAST_COSINE:
            path.unlink()
            self.workshop.notes.append(
                f"{self.name}: {precision} was dropped: its cosine to the reference is {cosine:.4f}"
            )
            return []
        if cosine < _GOOD_COSINE:
            self.workshop.notes.append(
                f"{self.name}: {precision} changes embeddings: cosine {cosine:.4f} to the reference"
            )
        return [self._describe(precision, path, cosine, find_speed(plain, path, feeds))]

    def _describe(self, precision: str, path: Path, cosine: float, speed: float) -> Variant:
        return Variant(
            self.name, cast(Any, precision), path.name, round(cosine, 6), round(speed, 3)
        )  # fmt: skip


class ImagePuller(TowerPuller):
    """The image tower."""

    name = "image"

    def __init__(
        self, files: TowerFiles, choose_head: ChooseHead, workshop: Workshop, spec: ImageSpec
    ) -> None:
        super().__init__(files, choose_head, workshop)
        self.spec = spec
        self.file = spec.file

    @property
    def rule(self) -> PixelRule:
        """The size and levels of the graph's pixels."""
        return PixelRule(self.spec.height, self.spec.width, self.spec.mean, self.spec.std)

    @property
    def frame(self) -> tuple[int, int]:
        """The size of a picture in the graph."""
        return self.spec.height, self.spec.width

    def prepare(self, lengths: list[int]) -> None:
        """Nothing to read."""

    def record(self, plain: PlainTower) -> Rows:
        """Return the original file's rows of the golden pictures."""
        return plain.embed_images(self.spec, golden_images())

    def settle(self, path: Path, rows: Rows, precision: str) -> tuple[Feeds, ImageSpec]:
        """Return the golden pictures' pixels."""
        return feed_images(self.spec, golden_images()), self.spec


class TextPuller(TowerPuller):
    """The text tower."""

    name = "text"
    file = "text.onnx"

    def __init__(
        self,
        files: TowerFiles,
        choose_head: ChooseHead,
        workshop: Workshop,
        read_rule: Callable[[int], PulledTokenizer],
        prompt: str = "",
    ) -> None:
        """`prompt` precedes every text without a purpose."""
        super().__init__(files, choose_head, workshop)
        self._read_rule = read_rule
        self._texts = [prompt + text for text in golden_texts()]

    @property
    def rule(self) -> TokenRule:
        """How padding is recognised."""
        found = self._tokenizer
        return TokenRule(found.pad_id, found.ends_with_pad, found.sees_padding)

    def prepare(self, lengths: list[int]) -> None:
        """Read the tokenizer and put it into the bundle."""
        self._fixed = max(lengths, default=0)
        self._tokenizer = self._read_rule(self._fixed)
        spec = self._tokenizer.build_spec()
        (self.workshop.bundle / spec.tokenizer).write_bytes(self._tokenizer.content)

    def record(self, plain: PlainTower) -> Rows:
        """Return the original file's rows of the golden texts, each of its own length.

        Some graphs (MobileCLIP's) declare any length but run at one: they get padded texts.
        """
        if not self._fixed:
            try:
                return plain.embed_texts(self._tokenizer, self._texts, padded=False)
            except BundleError:
                self._fixed = self._tokenizer.context_length
        return plain.embed_texts(self._tokenizer, self._texts, padded=True)

    def settle(self, path: Path, rows: Rows, precision: str) -> tuple[Feeds, TextSpec]:
        """Decide whether texts may be cut to the longest of a batch: only if a test passed."""
        spec = self._tokenizer.build_spec()
        reason = self._find_padding_reason(path, spec, rows, precision)
        spec = dataclasses.replace(spec, cut_to_longest=not reason, padding_reason=reason)
        return self._feed(spec, self._texts, cut=spec.cut_to_longest), spec

    def _find_padding_reason(self, path: Path, spec: TextSpec, rows: Rows, precision: str) -> str:
        if self._fixed:
            return f"the graph takes texts of exactly {self._fixed} tokens"
        if self._tokenizer.sees_padding:
            return "the model was trained on padded texts without a mask"
        session = open_fitted(path)
        allowed = _EXACT if precision == "fp32" else 1 - GATES[precision]
        shortest = sorted(range(len(rows)), key=lambda i: len(self._texts[i]))
        for group in [*([i] for i in shortest), shortest[:-1], shortest]:
            feeds = self._feed(spec, [self._texts[i] for i in group], cut=True)
            gap = 1 - find_cosine(embed(session, feeds), rows[group])
            if not gap <= allowed:
                return (
                    f"cut to {feeds['tokens'].shape[1]} tokens the embeddings change by {gap:.1e}"
                )
        return ""

    def _feed(self, spec: TextSpec, texts: list[str], *, cut: bool) -> Feeds:
        return feed_texts(spec, self.workshop.bundle, texts, cut=cut)
