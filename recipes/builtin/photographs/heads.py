"""What stands on the published tower's features: the row of a photograph, and the gate.

Both are closed forms. The linear part maps a class's weights onto its row (ridge regression). The
gate is least squares: 1 for drawings, 0 for photographs, between the two for photographs of single
clothes, which both sides know.
"""

from __future__ import annotations

import numpy as np
from torch import nn

from recipes.builtin.photographs.joined import Gate, Head
from recipes.builtin.photographs.space import Rows

LINEAR_SHARE = 1.5  # the best of six on CIFAR-10 and clothes, training halves
CLOTHES = 0.8  # how much a photograph of one piece of clothing is a drawing
_RIDGE = 3.0
_GATE_RIDGE = 30.0
_STEEPNESS = 4.0  # so that what is plainly one kind is wholly that kind, and ranks as such


def make_head(tower: nn.Module, space: Rows, middle: Rows, share: float = LINEAR_SHARE) -> Head:
    """Return the head of the published tower; `middle` is the mean feature of photographs."""
    state = {name: value.numpy() for name, value in tower.state_dict().items()}
    weight, bias = state["classifier.weight"], state["classifier.bias"]
    centred = weight - weight.mean(0)
    gram = centred.T @ centred
    width = len(gram)
    ridge = _RIDGE * np.trace(gram) / width * np.eye(width, dtype=np.float32)
    linear = np.linalg.solve(gram + ridge, centred.T @ space).T
    return Head(weight, bias, space, linear.astype(np.float32), -(linear @ middle), share)


def fit_gate(features: dict[float, Rows]) -> Gate:
    """Return the gate fitted to features by how much they are drawings; each kind weighs alike."""
    rows = np.concatenate(list(features.values())).astype(np.float64)
    wanted = np.concatenate([np.full(len(part), kind) for kind, part in features.items()])
    weights = np.concatenate([np.full(len(part), 1 / len(part)) for part in features.values()])
    weights *= len(rows) / weights.sum()
    middle, spread = rows.mean(0), rows.std(0) + 1e-3
    x = np.hstack([(rows - middle) / spread, np.ones((len(rows), 1))])
    ridge = _GATE_RIDGE * np.eye(x.shape[1])
    ridge[-1, -1] = 0.0
    found = np.linalg.solve((x * weights[:, None]).T @ x + ridge, (x * weights[:, None]).T @ wanted)
    weight = _STEEPNESS * found[:-1] / spread
    bias = _STEEPNESS * (found[-1] - 0.5) + 0.5 - float(middle @ weight)
    return Gate(weight.astype(np.float32), float(bias))
