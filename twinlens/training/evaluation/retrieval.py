"""Retrieval and zero-shot classification with two towers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

BLOCK = 512


@torch.no_grad()
def recall_at(
    queries: Tensor, candidates: Tensor, wanted: Sequence[set[int]], ks: Sequence[int]
) -> dict[int, float]:
    """Return by k the share of queries (q, d) with a correct candidate (m, d) in the top k."""
    queries, candidates = normalize(queries, dim=1), normalize(candidates, dim=1)
    top = min(max(ks), len(candidates))
    found: list[list[int]] = []
    for block in torch.split(queries, BLOCK):
        found += (block @ candidates.mT).topk(top, dim=1).indices.tolist()
    hits = dict.fromkeys(ks, 0)
    for row, right in zip(found, wanted, strict=True):
        for k in ks:
            hits[k] += any(place in right for place in row[:k])
    return {k: hits[k] / len(wanted) for k in ks}


def retrieval_recalls(
    images: Tensor, captions: Sequence[Sequence[str]], texts: Sequence[str], rows: Tensor
) -> dict[str, float]:
    """Return R@1, 5, 10 both ways; `rows` (m, d) embeds the distinct `texts`.

    Equal captions are one text: every image that has the caption is correct.
    """
    number = {text: place for place, text in enumerate(texts)}
    by_image = [{number[text] for text in own} for own in captions]
    by_text: list[set[int]] = [set() for _ in texts]
    for image, own in enumerate(by_image):
        for text in own:
            by_text[text].add(image)
    forth = recall_at(images, rows, by_image, (1, 5, 10))
    back = recall_at(rows, images, by_text, (1, 5, 10))
    return {f"image_to_text_r{k}": value for k, value in forth.items()} | {
        f"text_to_image_r{k}": value for k, value in back.items()
    }


@torch.no_grad()
def zero_shot_accuracy(images: Tensor, bank: Tensor, truth: Tensor) -> float:
    """Return the share of images (n, d) nearest to their class's row of the bank (classes, d)."""
    cosine = normalize(images, dim=1) @ normalize(bank, dim=1).mT
    return float((cosine.argmax(dim=1) == truth).float().mean())
