"""One contender of `loss.py` on one size: extra memory, CPU seconds, loss and gradient norms.

A process of its own, because the peak of a process's memory never falls again.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from twinlens.kernels import loss, reference

DIM = 512


def main() -> None:
    """Measure and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("contender", choices=sorted(CONTENDERS))
    parser.add_argument("n", type=int)
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.contender, arguments.n, arguments.rounds)))


def measure(contender: str, n: int, rounds: int) -> dict[str, float]:
    """Return what one symmetric forward and backward costs, the cheapest of `rounds`."""
    torch.manual_seed(0)
    run = CONTENDERS[contender]
    warm = [torch.randn(64, DIM, requires_grad=True) for _ in range(2)]
    run(*warm, torch.tensor(100.0, requires_grad=True)).backward()
    x, y = (torch.randn(n, DIM, requires_grad=True) for _ in range(2))
    scale = torch.tensor(100.0, requires_grad=True)
    before, seconds = _peak(), []
    for _ in range(rounds):
        x.grad = y.grad = scale.grad = None
        start = time.process_time()
        value = run(x, y, scale)
        value.backward()
        seconds.append(time.process_time() - start)
    assert x.grad is not None and scale.grad is not None
    return {
        "extra_mb": (_peak() - before) / 1024,
        "cpu_s": min(seconds),
        "loss": value.item(),
        "grad_norm": x.grad.norm().item(),
        "dscale": scale.grad.item(),
    }


def _vanilla(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    """Both logit matrices by their own product, as CLIP's paper and open_clip write it."""
    u, v = F.normalize(x, dim=1), F.normalize(y, dim=1)
    labels = torch.arange(len(u))
    to_y, to_x = scale * u @ v.T, scale * v @ u.T
    return (F.cross_entropy(to_y, labels) + F.cross_entropy(to_x, labels)) / 2


def _open_clip(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    from open_clip import ClipLoss

    value: Tensor = ClipLoss()(F.normalize(x, dim=1), F.normalize(y, dim=1), scale)
    return value


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


CONTENDERS: dict[str, Callable[..., Tensor]] = {
    "twinlens": loss.clip_loss,
    "plain": reference.contrastive_loss,
    "vanilla": _vanilla,
    "open_clip": _open_clip,
}

if __name__ == "__main__":
    main()
