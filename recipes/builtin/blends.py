"""Blends of two images, classified as both by their shares.

With few photographs, and few drawings of a group, an encoder memorises its images; blends force it
to represent what lies between them. What must stay true: blends are compared only with classes
(groups, subgroups, clothes), never with captions, which do not describe mixtures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Blends:
    """Which of a batch's views were blended, and how."""

    views: Tensor  # (m, 3, s, s)
    first: Tensor  # (m,) position in the batch
    second: Tensor
    share: Tensor  # (m,) share of the first, from a half to all


def blend_views(views: Tensor, classes: Mapping[str, Tensor], count: int) -> Blends:
    """Blend `count` pairs of views, half of them photographs of clothes, half of known groups."""
    first, second = [], []
    for name, wanted in (("clothes", count // 2), ("groups", count - count // 2)):
        known = torch.nonzero(classes[name] >= 0)[:, 0]
        chosen = torch.randperm(len(known))[:wanted]
        first.append(known[chosen])
        second.append(known[torch.randint(max(1, len(known)), (len(chosen),))])
    one, two = torch.cat(first), torch.cat(second)
    share = torch.empty(len(one)).uniform_(0.5, 1.0)
    return Blends(views[two].lerp(views[one], share[:, None, None, None]), one, two, share)


def measure_blends(
    images: Tensor,
    banks: Mapping[str, Tensor],
    classes: Mapping[str, Tensor],
    blends: Blends,
    scale: Tensor,
) -> dict[str, Tensor]:
    """Return by bank the cross-entropy of unit rows (m, d) with both classes, by their shares."""
    found = {}
    for name, bank in banks.items():
        one, two = classes[name][blends.first], classes[name][blends.second]
        known = (one >= 0) & (two >= 0)
        if known.any():
            logits, share = images[known] @ bank.T * scale, blends.share[known]
            both = [F.cross_entropy(logits, c[known], reduction="none") for c in (one, two)]
            found[name] = (share * both[0] + (1 - share) * both[1]).mean()
    return found
