"""Our losses beside their papers' formulas, where no release installs: one image at a time.

Each formula is written from the paper, or from the computation of the authors' release, in loops
over images and views. What must stay true: only the tensors are shared with the objectives.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss, normalize

from losses import pretext, taught
from losses.comparison import Comparison, Pair, ask, draw, leaf
from twinlens.training.loop.optimizers import Lars
from twinlens.training.nn.reconstruction import standardise_patches
from twinlens.training.objectives.beit import BEiT
from twinlens.training.objectives.clip import CLIP
from twinlens.training.objectives.cpc import CPC
from twinlens.training.objectives.devise import DeViSE
from twinlens.training.objectives.dinov2 import DINOv2
from twinlens.training.objectives.mae import MAE
from twinlens.training.objectives.margin import Margin
from twinlens.training.objectives.mocov3 import MoCoV3
from twinlens.training.objectives.simmim import SimMIM
from twinlens.training.objectives.supcon import SupCon
from twinlens.training.objectives.swav import SwAV

N, D, K, PATCHES, COLD = 8, 12, 16, 9, 0.07


def list_comparisons() -> list[Comparison]:
    """Return the comparisons; each runs on torch alone."""
    rows = (
        {
            "mocov3": ("its release's loss, factor 2 T", _mocov3),
            "supcon": ("equation 2, the release's scale T / 0.07", _supcon),
            "swav": ("the release's loop, a queue for each crop", _swav),
            "dinov2": ("Sinkhorn on crops and hidden patches, KoLeo", _dinov2),
            "mae": ("the release's loss, normalised pixels", _mae),
            "simmim": ("the release's L1 over hidden pixels", _simmim),
            "beit": ("equation 2 over hidden patches", _beit),
            "margin": ("equation 4 of Hadsell et al., all pairs", _margin),
            "cpc": ("InfoNCE along columns, Hénaff et al.", _cpc),
            "devise": ("equation 1, summed over texts", _devise),
            "clip": ("figure 3, hard negatives as more texts", _clip_with_negatives),
        }
        | taught.list_formulas()
        | pretext.list_formulas()
    )
    found = [
        Comparison(method, what, "formula", compute) for method, (what, compute) in rows.items()
    ]
    return [*found, Comparison("LARS", "5 steps of the release of Barlow Twins", "formula", _lars)]


def _sum(terms: list[Tensor]) -> Tensor:
    return torch.stack(terms).sum()


def _mocov3() -> Pair:
    q, k, t = leaf(N, 2, D), draw(N, 2, D, seed=1), 0.2
    labels, total = torch.arange(N), []
    for asks, answers in ((0, 1), (1, 0)):
        logits = normalize(q[:, asks], dim=1) @ normalize(k[:, answers], dim=1).mT / t
        total.append(cross_entropy(logits, labels) * 2 * t)
    return Pair(ask(MoCoV3(temperature=t), {"q": q}, teacher={"k": k}), _sum(total), (q,))


def _supcon() -> Pair:
    z, labels, t, base = leaf(N, 2, D), torch.arange(N) % 3, 0.1, 0.07
    rows, classes = normalize(z, dim=-1).flatten(0, 1), labels.repeat_interleave(2)
    terms = []
    for i in range(len(rows)):
        others = [j for j in range(len(rows)) if j != i]
        below = torch.logsumexp(torch.stack([rows[i] @ rows[j] / t for j in others]), 0)
        logs = [rows[i] @ rows[j] / t - below for j in others if classes[j] == classes[i]]
        terms.append(-torch.stack(logs).mean() * t / base)
    ours = ask(SupCon(temperature=t, base_temperature=base), {"z": z}, extra={"labels": labels})
    return Pair(ours, torch.stack(terms).mean(), (z,))


def _balance(scores: Tensor) -> Tensor:
    """Return the assignments (n, k) of scores already divided by their temperature."""
    q = torch.exp(scores - scores.max()).mT
    q = q / q.sum()
    for _ in range(3):
        q = q / q.sum(dim=1, keepdim=True) / len(q)
        q = q / q.sum(dim=0, keepdim=True) / q.shape[1]
    return (q * q.shape[1]).mT


def _swav() -> Pair:
    z, small, prototypes = leaf(N, 2, D), leaf(N, 4, D, seed=1), draw(K, D, seed=2)
    prototypes = normalize(prototypes, dim=1).requires_grad_()
    queues = [normalize(draw(3 * N, D, seed=3 + crop), dim=1) for crop in range(2)]
    crops, terms = normalize(torch.cat([z, small], 1), dim=-1), []
    for crop in range(2):
        with torch.no_grad():
            together = torch.cat([queues[crop], crops[:, crop]]) @ prototypes.mT
            target = _balance(together / 0.05)[-N:]
        for v in range(6):
            if v != crop:
                logs = (crops[:, v] @ prototypes.mT / 0.1).log_softmax(dim=1)
                terms.append(-(target * logs).sum(dim=1).mean() / 5)
    objective = SwAV(prototypes=K, dim=D, queue=3 * N)
    state = {f"queue_{crop}": rows for crop, rows in enumerate(queues)}
    rows = {"z": z, "small": small}
    ours = ask(objective, rows, shared={"prototypes": prototypes}, state=state)
    return Pair(ours, _sum(terms) / 2, (z, small, prototypes))


def _dinov2() -> Pair:
    logits, patches, x = leaf(N, 4, K), leaf(N, 2, PATCHES, D, seed=1), leaf(N, 2, D, seed=2)
    prototypes = normalize(draw(K, D, seed=3), dim=1).requires_grad_()
    slow, mask = normalize(draw(K, D, seed=4), dim=1), draw(N, 2, PATCHES, seed=9) > 0.3
    teacher = {"logits": draw(N, 2, K, seed=5), "patches": draw(N, 2, PATCHES, D, seed=6)}
    crops = _balance(teacher["logits"].flatten(0, 1) / COLD).view(N, 2, K)
    terms = [
        -(crops[:, t] * (logits[:, v] / 0.1).log_softmax(dim=1)).sum(dim=1).mean() / 6
        for t in range(2)
        for v in range(4)
        if v != t
    ]
    places = mask.nonzero().tolist()
    hidden = _balance(torch.stack([slow @ teacher["patches"][tuple(at)] for at in places]) / COLD)
    for target, at in zip(hidden, places, strict=True):
        share = mask[at[0], at[1]].sum() * 2 * N
        logs = (prototypes @ patches[tuple(at)] / 0.1).log_softmax(dim=0)
        terms.append(-(target * logs).sum() / share)
    for view in range(2):
        rows = normalize(x[:, view], dim=1)
        for i in range(N):
            away = torch.stack([(rows[i] - rows[j]).norm() for j in range(N) if j != i])
            terms.append(-0.1 * (away.min() + 1e-8).log() / N)
    ours = ask(
        DINOv2(K, centring="sinkhorn"),
        {"logits": logits, "patches": patches, "x": x},
        teacher=teacher,
        extra={"mask": mask},
        shared={"patch_prototypes": prototypes},
        teacher_shared={"patch_prototypes": slow},
    )
    return Pair(ours, _sum(terms), (logits, patches, prototypes, x))


def _hidden() -> Tensor:
    """Return masks (n, 1, patches) that hide equally many patches of each image."""
    order = torch.stack([draw(PATCHES, seed=20 + i).argsort() for i in range(N)])
    return (order < 6)[:, None]


def _mae() -> Pair:
    pixels, images, mask = leaf(N, PATCHES, 27), draw(N, PATCHES, 27, seed=1), _hidden()
    rows = {"pixels": pixels, "target": standardise_patches(images)}
    errors = []
    for i, _, place in mask.nonzero().tolist():
        patch = images[i, place]
        target = (patch - patch.mean()) / (patch.var(unbiased=True) + 1e-6) ** 0.5
        errors.append(mse_loss(pixels[i, place], target))
    return Pair(ask(MAE(), rows, extra={"mask": mask}), torch.stack(errors).mean(), (pixels,))


def _simmim() -> Pair:
    pixels, images, mask = leaf(N, PATCHES, 27), draw(N, PATCHES, 27, seed=1), _hidden()
    shown = mask[:, 0, :, None].expand(-1, -1, 27).double()
    theirs = ((pixels - images).abs() * shown).sum() / (shown.sum() + 1e-5)
    ours = ask(SimMIM(), {"pixels": pixels, "target": images}, extra={"mask": mask})
    return Pair(ours, theirs, (pixels,))


def _beit() -> Pair:
    logits, mask = leaf(N, PATCHES, K), _hidden()
    codes = (draw(N, PATCHES, seed=1).abs() * 5).long() % K
    theirs = cross_entropy(logits[mask[:, 0]], codes[mask[:, 0]])
    return Pair(
        ask(BEiT(K), {"logits": logits}, extra={"mask": mask, "codes": codes}), theirs, (logits,)
    )


def _margin() -> Pair:
    z, labels, objective = leaf(N, 2, D), torch.arange(N) % 3, Margin()
    rows, classes = normalize(z, dim=-1).flatten(0, 1), labels.repeat_interleave(2)
    terms = []
    for i in range(len(rows)):
        for j in range(i + 1, len(rows)):
            away = (rows[i] - rows[j]).norm()
            same = classes[i] == classes[j]
            terms.append(away**2 if same else (objective.margin - away).clamp(min=0) ** 2)
    ours = ask(objective, {"z": z}, extra={"labels": labels})
    return Pair(ours, torch.stack(terms).mean(), (z,))


def _cpc() -> Pair:
    objective = CPC()
    grid, ahead, t = objective.grid, objective.ahead, objective.temperature
    questions = sum((grid - k) * grid for k in range(1, ahead + 1))
    p, z, losses, start = leaf(N, questions, D), leaf(N, questions, D, seed=1), [], 0
    for k in range(1, ahead + 1):
        some = slice(start, start + (grid - k) * grid)
        start = some.stop
        asked, answers = (normalize(x[:, some], dim=-1).flatten(0, 1) for x in (p, z))
        losses.append(cross_entropy(asked @ answers.mT / t, torch.arange(len(asked))))
    return Pair(ask(objective, {"p": p, "z": z}), torch.stack(losses).mean(), (p, z))


def _devise() -> Pair:
    x, y, objective = leaf(N, D), leaf(N, D, seed=1), DeViSE()
    images, texts, terms = normalize(x, dim=1), normalize(y, dim=1), []
    for i in range(N):
        for j in range(N):
            if j != i:
                short = objective.margin - images[i] @ texts[i] + images[i] @ texts[j]
                terms.append(short.clamp(min=0) / N)
    return Pair(ask(objective, {"x": x, "y": y}), _sum(terms), (x, y))


def _clip_with_negatives() -> Pair:
    x, y, wrong = leaf(N, D), leaf(N, D, seed=1), leaf(N, 2, D, seed=2)
    scale = torch.tensor(14.0, dtype=torch.float64).requires_grad_()
    images, texts = normalize(x, dim=1), normalize(y, dim=1)
    lures, labels = normalize(wrong, dim=-1).flatten(0, 1), torch.arange(N)
    to_texts = cross_entropy(scale * images @ torch.cat([texts, lures]).mT, labels)
    to_images = cross_entropy(scale * texts @ images.mT, labels)
    rows = {"x": x, "y": y, "wrong": wrong}
    ours = ask(CLIP(hard_negatives=2), rows, shared={"scale": scale})
    return Pair(ours, (to_texts + to_images) / 2, (x, y, wrong, scale))


def _lars() -> Pair:
    """The weights after five steps with momentum and decay."""
    start, slopes = draw(4, 3), [draw(4, 3, seed=1 + step) for step in range(5)]
    weight = torch.nn.Parameter(start.clone())
    groups = [{"params": [weight], "adapts": True, "weight_decay": 0.1}]
    ours = Lars(groups, lr=0.5, momentum=0.9)
    theirs, speed = start.clone(), torch.zeros_like(start)
    for slope in slopes:
        weight.grad = slope.clone()
        ours.step()
        step = slope + 0.1 * theirs
        speed = 0.9 * speed + step * (0.001 * theirs.norm() / step.norm())
        theirs = theirs - 0.5 * speed
    return Pair(weight.detach() - start, theirs - start, ())
