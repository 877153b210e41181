"""The layers on the towers' features: the row of a photograph, and two gates.

All have closed forms. The linear part maps a class's weights to its row (ridge regression). In a
picture's row each dimension is divided by its spread over the classes: the first dimensions hold
what a hundred kinds of dogs share, and a blurred picture of anything would be most like those.

The gates are least-squares fits: 1 for drawings, 0 for photographs, between the two for photographs
of single clothes, which both sides know. What must stay true: no photograph of the fit passes the
first gate, since the photographs' tower does not see pictures that pass.
"""

from __future__ import annotations

import numpy as np
from torch import nn

from recipes.builtin.photographs.joined import Gate, Head
from recipes.builtin.photographs.space import Rows

LINEAR_SHARE = 1.0  # within a point of the best on training halves; a larger share rejects more
CLOTHES = 0.8  # how much a photograph of one piece of clothing is a drawing
FIRST_CLOTHES = 0.3  # the same, for skipping the photographs' tower
_RIDGE = 3.0
_FIRST_RIDGE, _LAST_RIDGE = 30.0, 300.0  # the last must tolerate the noise of int8
_STEEPNESS = 4.0  # so that clear cases are wholly of one kind
_MARGIN, _RISE = 0.13, 0.12  # of the first gate: above every photograph, and from 0 to 1


def make_head(tower: nn.Module, space: Rows, middle: Rows, share: float = LINEAR_SHARE) -> Head:
    """Return the head of the published tower; `middle` is the mean feature of photographs."""
    state = {name: value.numpy() for name, value in tower.state_dict().items()}
    weight, bias = state["classifier.weight"], state["classifier.bias"]
    centred = weight - weight.mean(0)
    gram = centred.T @ centred
    width = len(gram)
    ridge = _RIDGE * np.trace(gram) / width * np.eye(width, dtype=np.float32)
    linear = np.linalg.solve(gram + ridge, centred.T @ space).T
    linear = linear.astype(np.float32)
    return Head(
        weight, bias, space, linear, -(linear @ middle), share, space.std(0)[0] / space.std(0)
    )


def fit_last_gate(features: dict[float, Rows]) -> Gate:
    """Return the gate fitted to features with their share of drawing; each kind weighs alike."""
    weight, bias = _fit_line(features, _LAST_RIDGE)
    return _steepen(weight, bias, _STEEPNESS, 0.5 - 0.5 / _STEEPNESS)


def fit_first_gate(features: dict[float, Rows]) -> Gate:
    """Return the gate that is 1 only for clear drawings; all kinds but 1.0 stay below."""
    weight, bias = _fit_line(features, _FIRST_RIDGE)
    highest = max(float((f @ weight).max()) + bias for kind, f in features.items() if kind < 1)
    return _steepen(weight, bias, 1 / _RISE, highest + _MARGIN - _RISE)


def _fit_line(features: dict[float, Rows], strength: float) -> tuple[Rows, float]:
    """Return weights and bias of ridge regression on standardised features."""
    rows = np.concatenate(list(features.values())).astype(np.float64)
    wanted = np.concatenate([np.full(len(part), kind) for kind, part in features.items()])
    weights = np.concatenate([np.full(len(part), 1 / len(part)) for part in features.values()])
    weights *= len(rows) / weights.sum()
    middle, spread = rows.mean(0), rows.std(0) + 1e-3
    x = np.hstack([(rows - middle) / spread, np.ones((len(rows), 1))])
    ridge = strength * np.eye(x.shape[1])
    ridge[-1, -1] = 0.0
    found = np.linalg.solve((x * weights[:, None]).T @ x + ridge, (x * weights[:, None]).T @ wanted)
    weight = found[:-1] / spread
    return weight.astype(np.float32), float(found[-1] - middle @ weight)


def _steepen(weight: Rows, bias: float, slope: float, zero: float) -> Gate:
    """Return the gate that is 0 at the line's value `zero` and rises by `slope`."""
    return Gate((slope * weight).astype(np.float32), slope * (bias - zero))
