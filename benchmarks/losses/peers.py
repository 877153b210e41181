"""Our losses beside lightly's and open_clip's, on the same rows."""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor

from losses.comparison import Comparison, Pair, ask, draw, leaf
from twinlens.training.objectives.barlow import BarlowTwins
from twinlens.training.objectives.byol import BYOL
from twinlens.training.objectives.clip import CLIP
from twinlens.training.objectives.dino import DINO
from twinlens.training.objectives.dinov2 import DINOv2
from twinlens.training.objectives.ibot import IBOT
from twinlens.training.objectives.moco import MoCo
from twinlens.training.objectives.siglip import SigLIP
from twinlens.training.objectives.simclr import SimCLR
from twinlens.training.objectives.simsiam import SimSiam
from twinlens.training.objectives.swav import SwAV
from twinlens.training.objectives.vicreg import VICReg

N, D, K, COLD = 12, 16, 24, 0.07
PATCHES = 9


def list_comparisons() -> list[Comparison]:
    """Return the comparisons with the peers that are installed."""
    known = {"lightly": _with_lightly, "open_clip": _with_open_clip}
    return [item for name, make in known.items() if find_spec(name) for item in make()]


def list_missing() -> list[str]:
    """Return the PyPI packages that are missing for some rows."""
    packages = {"lightly": "lightly", "open_clip": "open_clip_torch"}
    return [package for module, package in packages.items() if not find_spec(module)]


def _with_lightly() -> list[Comparison]:
    rows = {
        "simclr": ("NTXentLoss", _simclr),
        "moco": ("NTXentLoss, a memory bank", _moco),
        "byol": ("NegativeCosineSimilarity", _byol),
        "simsiam": ("NegativeCosineSimilarity", _simsiam),
        "barlow": ("BarlowTwinsLoss", _barlow),
        "vicreg": ("VICRegLoss", _vicreg),
        "swav": ("SwaVLoss, 2 + 4 crops", lambda: _swav(0)),
        "swav queue": ("SwaVLoss, 2 + 4 crops and queues", lambda: _swav(32)),
        "dino": ("DINOLoss, 2 + 4 crops", _dino),
        "ibot": ("DINOLoss + IBOTPatchLoss", lambda: _ibot(IBOT(K), koleo=False)),
        "dinov2": (
            "DINOLoss + IBOTPatchLoss + KoLeoLoss",
            lambda: _ibot(DINOv2(K), koleo=True),
        ),
    }
    return [
        Comparison(name.split()[0], what, "lightly", compute)
        for name, (what, compute) in rows.items()
    ]


def _simclr() -> Pair:
    from lightly.loss import NTXentLoss

    z = leaf(N, 2, D)
    theirs = NTXentLoss(temperature=0.2)(*z.unbind(1))
    return Pair(ask(SimCLR(temperature=0.2), {"z": z}), theirs, (z,))


def _moco() -> Pair:
    from lightly.loss import NTXentLoss

    q, k = leaf(N, 1, D), torch.nn.functional.normalize(draw(N, 1, D, seed=1), dim=-1)
    queue = torch.nn.functional.normalize(draw(K, D, seed=2), dim=1)
    criterion = NTXentLoss(temperature=0.2, memory_bank_size=(K, D))
    criterion.memory_bank.bank = queue.clone()
    criterion.memory_bank.bank_ptr = torch.zeros(1, dtype=torch.long)
    ours = ask(MoCo(0.2, K, dim=D), {"q": q}, teacher={"k": k}, state={"queue": queue})
    return Pair(ours, criterion(q[:, 0], k[:, 0]), (q,))


def _byol() -> Pair:
    from lightly.loss import NegativeCosineSimilarity

    p, z = leaf(N, 2, D), draw(N, 2, D, seed=1)
    alike = NegativeCosineSimilarity()
    theirs = 4 + 2 * (alike(p[:, 0], z[:, 1]) + alike(p[:, 1], z[:, 0]))
    return Pair(ask(BYOL(), {"p": p}, teacher={"z": z}), theirs, (p,))


def _simsiam() -> Pair:
    from lightly.loss import NegativeCosineSimilarity

    p, z = leaf(N, 2, D), leaf(N, 2, D, seed=1)
    alike, stopped = NegativeCosineSimilarity(), z.detach()
    theirs = (alike(p[:, 0], stopped[:, 1]) + alike(p[:, 1], stopped[:, 0])) / 2
    return Pair(ask(SimSiam(), {"p": p, "z": z}), theirs, (p,))


def _barlow() -> Pair:
    from lightly.loss import BarlowTwinsLoss

    z = leaf(N, 2, D)
    theirs = BarlowTwinsLoss(lambda_param=0.0051)(*z.unbind(1))
    return Pair(ask(BarlowTwins(), {"z": z}), theirs, (z,))


def _vicreg() -> Pair:
    from lightly.loss import VICRegLoss

    z = leaf(N, 2, D)
    return Pair(ask(VICReg(), {"z": z}), VICRegLoss()(*z.unbind(1)), (z,))


def _swav(queue: int) -> Pair:
    from lightly.loss import SwaVLoss

    z, small = leaf(N, 2, D), leaf(N, 4, D, seed=1)
    prototypes = torch.nn.functional.normalize(draw(K, D, seed=2), dim=1).requires_grad_()
    queues = [torch.nn.functional.normalize(draw(32, D, seed=3 + crop), dim=1) for crop in (0, 1)]
    objective = SwAV(prototypes=K, dim=D, queue=queue)
    state = {f"queue_{crop}": rows for crop, rows in enumerate(queues)}
    ours = ask(objective, {"z": z, "small": small}, shared={"prototypes": prototypes}, state=state)
    scores = torch.nn.functional.normalize(torch.cat([z, small], 1), dim=-1) @ prototypes.mT
    large, rest = list(scores[:, :2].unbind(1)), list(scores[:, 2:].unbind(1))
    earlier = [rows @ prototypes.mT for rows in queues] if queue else None
    return Pair(ours, SwaVLoss()(large, rest, earlier), (z, small, prototypes))


def _dino_of(logits: Tensor, teacher: Tensor, centre: Tensor) -> Tensor:
    from lightly.loss import DINOLoss

    criterion = DINOLoss(output_dim=K).double()
    criterion.center.data = centre.view(1, 1, K)
    found: Tensor = criterion(list(teacher.unbind(1)), list(logits.unbind(1)), teacher_temp=COLD)
    return found


def _dino() -> Pair:
    logits, teacher, centre = leaf(N, 6, K), draw(N, 2, K, seed=1), draw(K, seed=2) * 0.1
    ours = ask(DINO(K), {"logits": logits}, teacher={"logits": teacher}, state={"centre": centre})
    return Pair(ours, _dino_of(logits, teacher, centre), (logits,))


def _ibot(objective: IBOT, *, koleo: bool) -> Pair:
    from lightly.loss import IBOTPatchLoss, KoLeoLoss

    logits, patches, x = leaf(N, 6, K), leaf(N, 2, PATCHES, D, seed=1), leaf(N, 2, D, seed=2)
    prototypes, slow = (torch.nn.functional.normalize(draw(K, D, seed=s), dim=1) for s in (3, 4))
    prototypes.requires_grad_()
    teacher = {"logits": draw(N, 2, K, seed=5), "patches": draw(N, 2, PATCHES, D, seed=6)}
    state = {"centre": draw(K, seed=7) * 0.1, "patch_centre": draw(K, seed=8) * 0.1}
    mask = draw(N, 2, PATCHES, seed=9) > 0.3
    ours = ask(
        objective,
        {"logits": logits, "patches": patches, "x": x},
        teacher=teacher,
        state=state,
        extra={"mask": mask},
        shared={"patch_prototypes": prototypes},
        teacher_shared={"patch_prototypes": slow},
    )
    criterion = IBOTPatchLoss(output_dim=K, teacher_temp=COLD).double()
    criterion.center.value.copy_(state["patch_centre"][None])
    cells = teacher["patches"][mask] @ slow.mT, patches[mask] @ prototypes.mT
    theirs = _dino_of(logits, teacher["logits"], state["centre"])
    theirs = theirs + criterion(*cells, mask.view(2 * N, 3, 3))
    if koleo:
        theirs = theirs + 0.1 * sum(KoLeoLoss()(rows) for rows in x.unbind(1))
    return Pair(ours, theirs, (logits, patches, prototypes, *([x] if koleo else [])))


def _with_open_clip() -> list[Comparison]:
    return [
        Comparison("clip", "ClipLoss", "open_clip", _clip),
        Comparison("siglip", "SigLipLoss", "open_clip", _siglip),
    ]


def _clip() -> Pair:
    from open_clip.loss import ClipLoss

    x, y, scale = leaf(N, D), leaf(N, D, seed=1), torch.tensor(14.0, dtype=torch.float64)
    scale.requires_grad_()
    ours = ask(CLIP(), {"x": x, "y": y}, shared={"scale": scale})
    unit = torch.nn.functional.normalize
    return Pair(ours, ClipLoss()(unit(x, dim=1), unit(y, dim=1), scale), (x, y, scale))


def _siglip() -> Pair:
    from open_clip.loss import SigLipLoss

    x, y = leaf(N, D), leaf(N, D, seed=1)
    scale, bias = (torch.tensor(v, dtype=torch.float64).requires_grad_() for v in (10.0, -10.0))
    ours = ask(SigLIP(), {"x": x, "y": y}, shared={"scale": scale, "bias": bias})
    unit = torch.nn.functional.normalize
    theirs = SigLipLoss()(unit(x, dim=1), unit(y, dim=1), scale, bias)
    return Pair(ours, theirs, (x, y, scale, bias))
