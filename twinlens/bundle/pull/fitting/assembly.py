"""From a found model to a finished bundle: towers, scores, golden vectors, manifest.

What must stay true: a bundle appears only after each of its towers reproduced the original file's
rows.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx

from twinlens.bundle.golden import write_golden
from twinlens.bundle.manifest import Manifest, SimilaritySpec, Variant
from twinlens.bundle.pull.fitting.pulled_tower import (
    ImagePuller,
    PulledTower,
    TextPuller,
    TowerPuller,
)
from twinlens.bundle.pull.fitting.scores import Scores, find_default, read_stated
from twinlens.bundle.pull.fitting.shared_space import measure_from_graph
from twinlens.bundle.pull.fitting.workshop import Workshop
from twinlens.bundle.pull.head import Dense, TowerHead
from twinlens.bundle.pull.heads import choose_head, find_missing_projection
from twinlens.bundle.pull.json_files import understanding
from twinlens.bundle.pull.layouts.found import Found, TowerFiles
from twinlens.bundle.pull.model_files import TowerConfig, read_tower_config
from twinlens.bundle.pull.options import PullOptions
from twinlens.bundle.pull.sentence import read_layers, read_pooling, read_prompts
from twinlens.bundle.pull.tensors import read_tensors
from twinlens.bundle.pull.verification import check_libraries, verify_tower
from twinlens.bundle.samples import golden_images, golden_texts
from twinlens.bundle.store import write_bundle
from twinlens.errors import BundleError, InputError
from twinlens.kernels.onnx.attach import build_similarity
from twinlens.version import __version__

SIMILARITY_FILE: Final = "similarity.onnx"
# A short set of prompts for zero-shot; a text tower alone classifies bare names.
TEMPLATES: Final = ("a photo of a {}", "a picture of a {}", "{}")
_PACKAGES: Final = ("onnxruntime", "onnxruntime-gpu", "onnx", "tokenizers", "pillow")


class Assembly:
    """One pull: the found model, the options, and the working folder."""

    def __init__(self, found: Found, options: PullOptions, folder: Path) -> None:
        bundle, sources = folder / "bundle", folder / "sources"
        bundle.mkdir()
        self.found = found
        self.options = options
        self.workshop = Workshop(bundle, sources)
        self.configs: dict[str, TowerConfig] = {}
        self.towers: dict[str, PulledTower] = {}
        self.precisions: dict[str, list[str]] = {}
        self.verified: dict[str, float] = {}

    def build(self) -> Manifest:
        """Write all files of the bundle; return the manifest without the fields set by sealing."""
        if self.options.verify:
            check_libraries()
        for name, files in (("image", self.found.image), ("text", self.found.text)):
            if files is not None:
                self.configs[name] = read_tower_config(files)
                self.precisions[name] = choose_precisions(
                    files, self.options.precisions, name, self.workshop.notes
                )
        prompts = self._read_prompts()
        for name in self.configs:
            puller = self._open_puller(name, prompts.get("default", ""))
            self.towers[name] = puller.pull(self.precisions[name])
        dimension = self._find_dimension()
        scores = self._find_scores()
        if self.options.verify:
            self.verified = {
                name: verify_tower(name, files, self.configs[name], tower.head, tower.rows)
                for name, tower in self.towers.items()
                if (files := getattr(self.found, name)) is not None
            }
        self._write_rest(scores, dimension)
        return self._describe(scores, dimension, prompts)

    def _open_puller(self, name: str, prompt: str) -> TowerPuller:
        files = self.found.image if name == "image" else self.found.text
        assert files is not None
        config = self.configs[name]

        def choose(outputs: Mapping[str, int]) -> TowerHead:
            return self._choose_head(name, config, files, outputs)

        if name == "image":
            return ImagePuller(files, choose, self.workshop, config.read_image_spec())
        return TextPuller(files, choose, self.workshop, config.read_tokenizer, prompt)

    def _choose_head(
        self, name: str, config: TowerConfig, files: TowerFiles, outputs: Mapping[str, int]
    ) -> TowerHead:
        """Return the head, with the projection that the graph lacks."""
        sentence, layers = "", tuple[Dense, ...]()
        with understanding("1_Pooling or modules.json"):
            if "pooling" in config.content:
                sentence = read_pooling(config.get("pooling"))
            if "modules" in config.content:
                layers = read_layers(config.repository, config.get("modules"))
        pooling = self.options.pooling
        head = choose_head(
            name, outputs, model_type=config.model_type, pooling=pooling, sentence=sentence,
            layers=layers,
        )  # fmt: skip
        missing = find_missing_projection(head, config.get("config"), name)
        if missing and len(self.configs) == 2:
            return TowerHead(head.output, head.pooling, (_read_projection(files, missing),))
        return head

    def _read_prompts(self) -> dict[str, Any]:
        config = self.configs.get("text")
        with understanding("config_sentence_transformers.json"):
            return read_prompts(config.get("prompts")) if config is not None else {}

    def _find_dimension(self) -> int:
        widths = {name: tower.rows.shape[1] for name, tower in self.towers.items()}
        if len(set(widths.values())) != 1:
            raise BundleError(
                f"the towers' embeddings differ in dimension: {widths}; they are not of one model, "
                "or a projection is missing"
            )
        return int(next(iter(widths.values())))

    def _find_scores(self) -> Scores:
        config = next(iter(self.configs.values()))
        joint = len(self.configs) == 2
        if joint:
            stated = read_stated(config.get("config"))
            measured = stated or measure_from_graph(
                self.found, self.configs, self.precisions, self.workshop.sources
            )
            if measured is not None:
                return measured
        return find_default(config.get("config"), joint=joint)

    def _write_rest(self, scores: Scores, dimension: int) -> None:
        folder = self.workshop.bundle
        model = build_similarity(scores.kind, scale=scores.scale, bias=scores.bias)
        onnx.save(model, str(folder / SIMILARITY_FILE))
        none = np.zeros((0, dimension), np.float32)
        image, text = self.towers.get("image"), self.towers.get("text")
        write_golden(
            folder,
            golden_images() if image else [],
            image.rows if image else none,
            golden_texts() if text else [],
            text.rows if text else none,
        )

    def _describe(self, scores: Scores, dimension: int, prompts: dict[str, Any]) -> Manifest:
        specs: dict[str, Any] = {name: tower.spec for name, tower in self.towers.items()}
        variants: list[Variant] = [v for tower in self.towers.values() for v in tower.variants]
        repositories = {config.repository.source: config for config in self.configs.values()}
        extensions: dict[str, Any] = {"source": self._describe_source(repositories)}
        if prompts:
            extensions["prompts"] = prompts
        return Manifest(
            name=self.options.name or _suggest_name(list(repositories)),
            embedding_dim=dimension,
            similarity=SimilaritySpec(scores.kind, scores.scale, scores.bias, SIMILARITY_FILE),
            image=specs.get("image"),
            text=specs.get("text"),
            variants=tuple(variants),
            templates=TEMPLATES if len(specs) == 2 else ("{}",),
            provenance=self._describe_origin(scores, repositories),
            extensions=extensions,
        )

    def _describe_source(self, repositories: Mapping[str, TowerConfig]) -> dict[str, Any]:
        return {
            "layout": self.found.layout,
            "repositories": [
                {
                    "source": source,
                    "revision": config.repository.revision,
                    "licence": config.repository.licence or "not stated",
                    "card": config.repository.card,
                }
                for source, config in repositories.items()
            ],
        }

    def _describe_origin(
        self, scores: Scores, repositories: Mapping[str, TowerConfig]
    ) -> dict[str, Any]:
        cards = [config.get("card") for config in repositories.values() if config.get("card")]
        graphs = {
            name: dict.fromkeys(self.precisions[name])
            | {p: files.graphs[p] for p in self.precisions[name]}
            for name, files in (("image", self.found.image), ("text", self.found.text))
            if files is not None
        }
        found: dict[str, Any] = {
            "method": "pull",
            "source": " + ".join(repositories),
            "revision": " + ".join(c.repository.revision for c in repositories.values()).strip(
                " +"
            ),
            "layout": self.found.layout,
            "graphs": graphs,
            "judged_against": "the original files, run by ONNX Runtime on the plain path",
            "similarity": scores.origin,
            "notes": list(self.workshop.notes),
            "versions": describe_versions(),
        }
        if self.verified:
            found["cosine_to_transformers"] = self.verified
        if cards:
            found["card"] = cards[0]
        licences = [c.repository.licence or "not stated" for c in repositories.values()]
        found["licence"] = " + ".join(dict.fromkeys(licences))
        return found


def choose_precisions(
    files: TowerFiles, wanted: Sequence[str], tower: str, notes: list[str]
) -> list[str]:
    """Return the precisions to pull, the reference first."""
    there = [p for p in ("fp32", "fp16", "int8") if p in files.graphs]
    missing = [p for p in wanted if p not in there and p != "fp32"]
    if missing:
        raise InputError(
            f"precision {missing[0]!r} is not in {files.repository.source} for the {tower} tower; "
            f"it has {', '.join(there)}",
            field="precision",
        )
    chosen = [p for p in there if p in wanted] or there[:1]
    if chosen[0] != "fp32":
        why = "the repository has no fp32" if "fp32" not in there else "fp32 was not asked for"
        notes.append(f"{tower}: the reference is the {chosen[0]} file: {why}")
    return chosen


def describe_versions() -> dict[str, str]:
    """Return the versions of the code that made the bundle."""
    found = {"twinlens": __version__}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def assemble(found: Found, out: Path, options: PullOptions, *, force: bool) -> Manifest:
    """Write the found model as the bundle `out`; a failure leaves nothing behind."""
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.pull-", dir=out.parent))
    try:
        assembly = Assembly(found, options, folder)
        manifest = assembly.build()

        def fill(target: Path) -> None:
            for path in assembly.workshop.bundle.iterdir():
                path.rename(target / path.name)

        return write_bundle(out, manifest, fill, force=force)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _read_projection(files: TowerFiles, name: str) -> Dense:
    path = files.described_by.get("weights")
    if path is None:
        raise BundleError(
            f"{files.repository.source}: the graph ends before its projection and no "
            f"model.safetensors holds {name!r}; take a graph with image_embeds and text_embeds"
        )
    found = read_tensors(files.repository.fetch([path]) / path, [name])
    if name not in found:
        raise BundleError(f"{files.repository.source}: {path} holds no {name!r}")
    return Dense(found[name])


def _suggest_name(sources: list[str]) -> str:
    """Return the repository's own name, in lower case."""
    return Path(sources[0].removeprefix("hf:").partition("@")[0]).name.lower() or "pulled"
