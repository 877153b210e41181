"""Measures how a joint graph scores pairs of pictures and texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from twinlens.bundle.pull.fitting.inputs import read_inputs
from twinlens.bundle.pull.fitting.scores import (
    Scores,
    measure_scores,
    names_logits,
    run_joint,
)
from twinlens.bundle.pull.fitting.source_graph import fetch_graph, list_outputs
from twinlens.bundle.pull.head import TowerHead
from twinlens.bundle.pull.layouts.found import Found, list_graphs
from twinlens.bundle.pull.model_files import TowerConfig
from twinlens.bundle.pull.plain_path import PlainTower, make_pixels, make_tokens
from twinlens.bundle.samples import golden_images, golden_texts

_PAIRS: Final = 12  # pairs of a picture and a text, enough for a line
_LARGEST_SHARE: Final = 1 / 3  # of the towers' files: how much the graph may add to them


def find_joint_graph(found: Found, precisions: Mapping[str, Sequence[str]]) -> str:
    """Return the graph that scores pairs: the model itself, or a small one beside its towers."""
    image, text = found.image, found.text
    if image is None or text is None or image.repository is not text.repository:
        return ""
    if found.is_fused:
        return image.graphs[precisions["image"][0]]
    files = image.repository.files
    graphs = list_graphs(image.repository, "model")
    smallest = min(graphs.values(), key=lambda path: files[path], default="")
    taken = sum(
        files[tower.graphs[precision]]
        for name, tower in (("image", image), ("text", text))
        for precision in precisions[name]
    )
    return smallest if smallest and files[smallest] <= taken * _LARGEST_SHARE else ""


def measure_from_graph(
    found: Found,
    configs: Mapping[str, TowerConfig],
    precisions: Mapping[str, Sequence[str]],
    folder: Path,
) -> Scores | None:
    """Return the scores measured from a joint graph's logits, or None without such a graph."""
    path = find_joint_graph(found, precisions)
    if not path or found.image is None:
        return None
    graph = fetch_graph(found.image.repository, path, folder)
    model = graph.read()
    if not names_logits(list(list_outputs(model))):
        return None
    spec = configs["image"].read_image_spec()
    inputs = read_inputs(model.graph, path)
    fixed = max((item.shape[1] for item in inputs if item.role == "ids"), default=0)
    rule = configs["text"].read_tokenizer(fixed)
    session = graph.open()
    roles = [
        {i.name: i.role for i in inputs if (i.role == "pixels") == own} for own in (True, False)
    ]
    towers = [PlainTower(session, part, TowerHead(""), {}) for part in roles]
    pairs = []
    images, texts = golden_images(), golden_texts()
    for i in range(_PAIRS):
        pixels = make_pixels(spec, images[i % len(images)])
        tokens = make_tokens(rule, texts[(i * 3 + i // 7) % len(texts)], padded=bool(fixed))
        feeds = towers[0].feed_image(pixels) | towers[1].feed_text(*tokens)
        pairs.append(run_joint(session, feeds))
    logits, rows, columns = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    return measure_scores(logits, rows, columns)
